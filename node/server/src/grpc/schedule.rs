//! Calls that name a schedule: create, describe, update, patch, delete, matching times.
//!
//! Specs are brought into their stored form, and time zones looked up, on the node that the call came in at; the rest is decided by the
//! leader of the schedule's group.

use std::sync::Arc;

use prost::Message;
use stanchion_engine::schedule::canonical::canonical;
use stanchion_engine::schedule::describe;
use stanchion_engine::schedule::zone::Zone;
use stanchion_engine::schedule::{self, FIRST_CONFLICT_TOKEN, ID_PREFIX, due};
use stanchion_engine::time::{instant, timestamp};
use stanchion_engine::validate::absent;
use stanchion_engine::validate::search_attributes::check_sizes;
use stanchion_engine::{GroupId, Rejection, ShardTime, StateReader};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{CreateSchedule, DeleteSchedule, PatchSchedule, UpdateSchedule};
use stanchion_proto::row::ScheduleRow;
use stanchion_proto::temporal::enums::v1::TaskQueueKind;
use stanchion_proto::temporal::schedule::v1::Schedule;
use stanchion_proto::temporal::schedule::v1::schedule_action::Action;
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::*;
use stanchion_replica::off_thread;

use super::search_attributes;
use super::workflow::{self, done, new_request_id};
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::{CallError, wall};
use crate::validate;

/// Notes of a pause, in bytes.
const NOTES_BYTES_MAX: usize = 1000;

/// The group of a schedule: its slot is that of the workflow that it is on the real server.
async fn group(node: &Arc<Node>, namespace: &str, schedule_id: &str) -> Result<GroupId, CallError> {
    workflow::group(node, namespace, &format!("{ID_PREFIX}{schedule_id}")).await
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::Rejected(Rejection::invalid(message))
}

/// In the words of the real server, whose schedules are workflows.
fn named(schedule_id: &str) -> Result<(), CallError> {
    if schedule_id.is_empty() { Err(invalid("Can't load workflow execution.  WorkflowId not set.")) } else { Ok(()) }
}

/// What a schedule starts, against the rules of starts and those of schedules.
async fn check_action(
    node: &Arc<Node>,
    namespace: &Namespace,
    action: &mut NewWorkflowExecutionInfo,
) -> Result<(), CallError> {
    validate::scheduled_action(action, &node.limits)?;
    // As it is shown by descriptions.
    if let Some(queue) = &mut action.task_queue {
        queue.set_kind(TaskQueueKind::Normal);
    }
    search_attributes::check(node, namespace, action.search_attributes.as_mut()).await?;
    check_sizes(action.search_attributes.as_ref()).map_err(invalid)
}

fn action_of(schedule: &mut Schedule) -> Option<&mut NewWorkflowExecutionInfo> {
    match schedule.action.as_mut()?.action.as_mut()? {
        Action::StartWorkflow(action) => Some(action),
    }
}

/// Puts the spec into its stored form.
fn store_spec(schedule: &mut Schedule) -> Result<(), CallError> {
    let refuse = |why| invalid(format!("Invalid schedule spec: {why}"));
    let spec = canonical(schedule.spec.take().unwrap_or_default()).map_err(refuse)?;
    Zone::of(&spec).map_err(refuse)?;
    schedule.spec = Some(spec);
    Ok(())
}

/// The schedule as the leader has it now.
async fn read(at: &Here, namespace: &Namespace, schedule_id: &str) -> Result<(ScheduleRow, ShardTime), CallError> {
    let found = at
        .term
        .read(|reader| Ok((schedule::read(reader, &namespace.id, schedule_id)?, reader.clock().max(wall()))))
        .await?;
    match found {
        (Some(row), now) if !row.deleted => Ok((row, now)),
        (Some(_), _) => Err(CallError::Rejected(Rejection::not_found("schedule not found"))),
        (None, _) => Err(CallError::Rejected(schedule::not_found(schedule_id))),
    }
}

/// Looking for times is arithmetic, but may be a lot of it: not on a thread that serves others.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CallError> {
    off_thread(work).await.map_err(|error| CallError::Fatal(error.to_string()))
}

impl GroupCall for CreateScheduleRequest {
    const METHOD: &'static str = "CreateSchedule";
    type Answer = CreateScheduleResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace(node, &self.namespace).await?;
        named(&self.schedule_id)?;
        validate::workflow_id(&format!("{ID_PREFIX}{}", self.schedule_id), &node.limits)?;
        if self.request_id.is_empty() {
            return Err(invalid("RequestId is not set on request."));
        }
        validate::short(&self.request_id, &node.limits, "RequestId length exceeds limit.")?;
        let schedule = self.schedule.get_or_insert_default();
        store_spec(schedule)?;
        if let Some(action) = action_of(schedule) {
            check_action(node, &namespace, action).await?;
        }
        search_attributes::check_start(node, &namespace, &mut self.search_attributes, &mut self.memo).await?;
        validate::memo(self.memo.as_ref(), &node.limits)?;
        validate::blob_bytes(self.encoded_len(), &node.limits)?;
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let create = CreateSchedule { request: Some(self) };
        done(&at, &namespace, Self::METHOD, Kind::CreateSchedule(create)).await?;
        Ok(CreateScheduleResponse { conflict_token: FIRST_CONFLICT_TOKEN.to_be_bytes().to_vec() })
    }
}

impl GroupCall for DescribeScheduleRequest {
    const METHOD: &'static str = "DescribeSchedule";
    type Answer = DescribeScheduleResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        named(&self.schedule_id)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        at.term.await_schedule_starts(&namespace.id, &self.schedule_id).await?;
        let (row, now) = read(&at, &namespace, &self.schedule_id).await?;
        let namespace_id = namespace.id.clone();
        let mut described = apart(move || describe::describe(&row, &namespace_id, &self.schedule_id, now)).await?;
        search_attributes::retain_known(&at.node, &namespace, described.search_attributes.as_mut()).await?;
        Ok(described)
    }
}

impl GroupCall for UpdateScheduleRequest {
    const METHOD: &'static str = "UpdateSchedule";
    type Answer = UpdateScheduleResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace(node, &self.namespace).await?;
        validate::short(&self.request_id, &node.limits, "RequestId length exceeds limit.")?;
        let schedule = self.schedule.get_or_insert_default();
        if let Some(action) = action_of(schedule) {
            check_action(node, &namespace, action).await?;
        }
        store_spec(schedule)?;
        let has_action = action_of(schedule).is_some();
        search_attributes::check(node, &namespace, self.search_attributes.as_mut()).await?;
        check_sizes(self.search_attributes.as_ref()).map_err(invalid)?;
        if let Some(attributes) = &mut self.search_attributes {
            // All that is given takes the place of all that there was: an empty set has its meaning.
            attributes.indexed_fields.retain(|_, value| !absent::is_absent(value));
        }
        if !has_action {
            return Err(invalid("Only StartWorkflow action is supported for schedules"));
        }
        validate::blob_bytes(self.encoded_len(), &node.limits)?;
        named(&self.schedule_id)?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        at.term.settle_schedule(&namespace.id, &self.schedule_id).await?;
        let update = UpdateSchedule { request: Some(self) };
        done(&at, &namespace, Self::METHOD, Kind::UpdateSchedule(update)).await?;
        Ok(UpdateScheduleResponse {})
    }
}

impl GroupCall for PatchScheduleRequest {
    const METHOD: &'static str = "PatchSchedule";
    type Answer = PatchScheduleResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        let Some(patch) = &mut self.patch else { return Err(invalid("Patch is not set on request.")) };
        validate::short(&self.request_id, &node.limits, "RequestId length exceeds limit.")?;
        if patch.pause.len() > NOTES_BYTES_MAX || patch.unpause.len() > NOTES_BYTES_MAX {
            return Err(invalid("Schedule notes exceeds limit."));
        }
        // Stamped once, so that a call that is repeated asks for the same action.
        if let Some(trigger) = &mut patch.trigger_immediately {
            trigger.scheduled_time.get_or_insert_with(|| timestamp(wall()));
        }
        validate::blob_bytes(self.encoded_len(), &node.limits)?;
        named(&self.schedule_id)?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        at.term.settle_schedule(&namespace.id, &self.schedule_id).await?;
        let patch = PatchSchedule { request: Some(self) };
        done(&at, &namespace, Self::METHOD, Kind::PatchSchedule(patch)).await?;
        Ok(PatchScheduleResponse {})
    }
}

impl GroupCall for DeleteScheduleRequest {
    const METHOD: &'static str = "DeleteSchedule";
    type Answer = DeleteScheduleResponse;

    /// A second one is refused because of the first, and the caller would take its own success for a failure.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        named(&self.schedule_id)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let delete = DeleteSchedule { request: Some(self) };
        done(&at, &namespace, Self::METHOD, Kind::DeleteSchedule(delete)).await?;
        Ok(DeleteScheduleResponse {})
    }
}

impl GroupCall for ListScheduleMatchingTimesRequest {
    const METHOD: &'static str = "ListScheduleMatchingTimes";
    type Answer = ListScheduleMatchingTimesResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        named(&self.schedule_id)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.schedule_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let (row, _) = read(&at, &namespace, &self.schedule_id).await?;
        let (Some(start), Some(end)) = (self.start_time.as_ref().map(instant), self.end_time.as_ref().map(instant))
        else {
            return Err(CallError::Status(crate::status::query_failed("missing or invalid query".to_owned(), None)));
        };
        let times = apart(move || {
            let spec = due::compile(&row, &namespace.id, &self.schedule_id)
                .map_err(|why| invalid(format!("invalid schedule: {why}")))?;
            describe::matching_times(&spec, start, end).map_err(|_| {
                invalid("the schedule calendar specification has too many exclusions. Please modify the specification.")
            })
        });
        Ok(ListScheduleMatchingTimesResponse { start_time: times.await?? })
    }
}
