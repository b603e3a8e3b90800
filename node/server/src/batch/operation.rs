//! A batch operation on one execution: the call that a client would make for it, with a request id that is the same for every try.
//!
//! Never: a second way of doing anything (rules are behind the calls); an outcome for what may still be done (it is tried again).

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use stanchion_engine::Rejection;
use stanchion_proto::row::BatchTargetRow;
use stanchion_proto::temporal::batch::v1::{
    BatchOperationReset, batch_operation_reset_activities, batch_operation_unpause_activities,
    batch_operation_update_activity_options,
};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::common::v1::reset_options::Target;
use stanchion_proto::temporal::enums::v1::{EventType, ResetType};
use stanchion_proto::temporal::history::v1::History;
use stanchion_proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Code;

use super::Job;
use crate::node::Node;
use crate::routing::{self, GroupCall};
use crate::shell::CallError;
use crate::status;

/// One try, and tries of one execution: over four minutes of a group without a leader.
const TRY_WITHIN: Duration = Duration::from_secs(10);
const TRIES: usize = 50;
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Does the operation on one execution; whether that went well. One that is not there any more, or is closed, needs nothing.
pub async fn perform(job: &Job<'_>, request: &StartBatchOperationRequest, target: &BatchTargetRow) -> bool {
    let mut pause = AGAIN_MIN;
    for _ in 0..TRIES {
        let call = Call {
            node: job.node,
            namespace: &job.namespace.name,
            request_id: request_id(job, target),
            reason: &request.reason,
            target,
            deadline: Instant::now() + TRY_WITHIN,
        };
        let Err(error) = call.make(request.operation.as_ref()).await else { return true };
        let status = status::of(error);
        match status.code() {
            Code::NotFound => return true,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
            _ => {
                let (job_id, workflow_id) = (job.job_id, &target.workflow_id);
                tracing::info!(job_id, workflow_id, %status, "a batch operation failed on one execution");
                return false;
            }
        }
    }
    tracing::warn!(job_id = job.job_id, workflow_id = target.workflow_id, "a batch operation gave up on one execution");
    false
}

/// Of a job on an execution: whoever leads, and however often it is tried.
fn request_id(job: &Job<'_>, target: &BatchTargetRow) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [&job.namespace.id, job.job_id, &target.workflow_id, &target.run_id] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// One try on one execution.
struct Call<'a> {
    node: &'a Arc<Node>,
    namespace: &'a str,
    request_id: String,
    reason: &'a str,
    target: &'a BatchTargetRow,
    deadline: Instant,
}

impl Call<'_> {
    async fn make(&self, operation: Option<&Operation>) -> Result<(), CallError> {
        let (namespace, workflow_execution) = (self.namespace.to_owned(), Some(self.execution()));
        let (execution, request_id) = (Some(self.execution()), self.request_id.clone());
        match operation.cloned() {
            Some(Operation::TerminationOperation(asked)) => {
                // The real server leaves the details out.
                let reason = self.reason.to_owned();
                let identity = asked.identity;
                let call = TerminateWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    reason,
                    identity,
                    ..Default::default()
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::SignalOperation(asked)) => {
                let call = SignalWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    signal_name: asked.signal,
                    input: asked.input,
                    header: asked.header,
                    identity: asked.identity,
                    request_id,
                    ..Default::default()
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::CancellationOperation(asked)) => {
                let call = RequestCancelWorkflowExecutionRequest {
                    namespace,
                    workflow_execution,
                    identity: asked.identity,
                    request_id,
                    ..Default::default()
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::DeletionOperation(_)) => {
                self.send(DeleteWorkflowExecutionRequest { namespace, workflow_execution }).await.map(drop)
            }
            Some(Operation::ResetOperation(asked)) => self.reset(asked).await,
            Some(Operation::UpdateWorkflowOptionsOperation(asked)) => {
                let call = UpdateWorkflowExecutionOptionsRequest {
                    namespace,
                    workflow_execution,
                    workflow_execution_options: asked.workflow_execution_options,
                    update_mask: asked.update_mask,
                    identity: asked.identity,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::UnpauseActivitiesOperation(asked)) => {
                use batch_operation_unpause_activities::Activity as Asked;
                use unpause_activity_request::Activity;
                let activity = asked.activity.map(|which| match which {
                    Asked::Type(name) => Activity::Type(name),
                    Asked::MatchAll(all) => Activity::UnpauseAll(all),
                });
                let call = UnpauseActivityRequest {
                    namespace,
                    execution,
                    identity: asked.identity,
                    activity,
                    reset_attempts: asked.reset_attempts,
                    reset_heartbeat: asked.reset_heartbeat,
                    jitter: asked.jitter,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::ResetActivitiesOperation(asked)) => {
                use batch_operation_reset_activities::Activity as Asked;
                use reset_activity_request::Activity;
                let activity = asked.activity.map(|which| match which {
                    Asked::Type(name) => Activity::Type(name),
                    Asked::MatchAll(all) => Activity::MatchAll(all),
                });
                let call = ResetActivityRequest {
                    namespace,
                    execution,
                    identity: asked.identity,
                    activity,
                    reset_heartbeat: asked.reset_heartbeat,
                    keep_paused: asked.keep_paused,
                    jitter: asked.jitter,
                    restore_original_options: asked.restore_original_options,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::UpdateActivityOptionsOperation(asked)) => {
                use batch_operation_update_activity_options::Activity as Asked;
                use update_activity_options_request::Activity;
                let activity = asked.activity.map(|which| match which {
                    Asked::Type(name) => Activity::Type(name),
                    Asked::MatchAll(all) => Activity::MatchAll(all),
                });
                let call = UpdateActivityOptionsRequest {
                    namespace,
                    execution,
                    identity: asked.identity,
                    activity_options: asked.activity_options,
                    update_mask: asked.update_mask,
                    activity,
                    restore_original: asked.restore_original,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::CancelActivitiesOperation(asked)) => {
                let call = RequestCancelActivityExecutionRequest {
                    namespace,
                    activity_id: self.target.workflow_id.clone(),
                    run_id: self.target.run_id.clone(),
                    identity: asked.identity,
                    request_id,
                    reason: asked.reason,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::TerminateActivitiesOperation(asked)) => {
                let call = TerminateActivityExecutionRequest {
                    namespace,
                    activity_id: self.target.workflow_id.clone(),
                    run_id: self.target.run_id.clone(),
                    identity: asked.identity,
                    request_id,
                    reason: asked.reason,
                };
                self.send(call).await.map(drop)
            }
            Some(Operation::DeleteActivitiesOperation(_)) => {
                let call = DeleteActivityExecutionRequest {
                    namespace,
                    activity_id: self.target.workflow_id.clone(),
                    run_id: self.target.run_id.clone(),
                };
                self.send(call).await.map(drop)
            }
            None => Err(Rejection::invalid("the batch operation names no operation").into()),
        }
    }

    fn execution(&self) -> WorkflowExecution {
        WorkflowExecution { workflow_id: self.target.workflow_id.clone(), run_id: self.target.run_id.clone() }
    }

    async fn send<R: GroupCall>(&self, mut call: R) -> Result<R::Answer, CallError> {
        call.check(self.node).await?;
        routing::call(self.node, call, self.deadline).await
    }

    #[allow(deprecated, reason = "older clients say so what to reset to")]
    async fn reset(&self, asked: BatchOperationReset) -> Result<(), CallError> {
        let options = asked.options.clone().unwrap_or_default();
        let target = options.target.clone().or_else(|| match asked.reset_type() {
            ResetType::FirstWorkflowTask => Some(Target::FirstWorkflowTask(())),
            ResetType::LastWorkflowTask => Some(Target::LastWorkflowTask(())),
            ResetType::Unspecified => None,
        });
        let mut workflow_execution = self.execution();
        let point = match target {
            Some(Target::FirstWorkflowTask(())) => self.first_task().await?,
            Some(Target::LastWorkflowTask(())) => self.last_task().await?,
            Some(Target::WorkflowTaskId(id)) => id,
            Some(Target::BuildId(build_id)) => {
                let (run_id, point) = self.first_task_of_build(&build_id, options.current_run_only).await?;
                workflow_execution.run_id = run_id;
                point
            }
            None => return Err(Rejection::invalid("batch reset missing target").into()),
        };
        let reapply = if asked.options.is_some() { options.reset_reapply_type } else { asked.reset_reapply_type };
        let call = ResetWorkflowExecutionRequest {
            namespace: self.namespace.to_owned(),
            workflow_execution: Some(workflow_execution),
            reason: self.reason.to_owned(),
            workflow_task_finish_event_id: point,
            request_id: self.request_id.clone(),
            reset_reapply_type: reapply,
            reset_reapply_exclude_types: options.reset_reapply_exclude_types,
            post_reset_operations: asked.post_reset_operations,
            identity: asked.identity,
        };
        self.send(call).await.map(drop)
    }

    /// The completion of the first workflow task; where none was completed, the event behind the first one's scheduling.
    async fn first_task(&self) -> Result<i64, CallError> {
        let (mut scheduled, mut next_page_token) = (None, Vec::new());
        loop {
            let call = GetWorkflowExecutionHistoryRequest {
                namespace: self.namespace.to_owned(),
                execution: Some(self.execution()),
                next_page_token,
                ..Default::default()
            };
            let page = self.send(call).await?;
            for event in decoded(page.history)?.events {
                match event.event_type() {
                    EventType::WorkflowTaskCompleted => return Ok(event.event_id),
                    EventType::WorkflowTaskScheduled => scheduled = scheduled.or(Some(event.event_id)),
                    _ => {}
                }
            }
            next_page_token = page.next_page_token;
            if next_page_token.is_empty() {
                return behind(scheduled);
            }
        }
    }

    /// The completion of the last one.
    async fn last_task(&self) -> Result<i64, CallError> {
        let (mut scheduled, mut next_page_token) = (None, Vec::new());
        loop {
            let call = GetWorkflowExecutionHistoryReverseRequest {
                namespace: self.namespace.to_owned(),
                execution: Some(self.execution()),
                next_page_token,
                ..Default::default()
            };
            let page = self.send(call).await?;
            for event in decoded(page.history)?.events {
                match event.event_type() {
                    EventType::WorkflowTaskCompleted => return Ok(event.event_id),
                    EventType::WorkflowTaskScheduled => scheduled = Some(event.event_id),
                    _ => {}
                }
            }
            next_page_token = page.next_page_token;
            if next_page_token.is_empty() {
                return behind(scheduled);
            }
        }
    }

    /// The run and the first workflow task that a build has completed, as its description has them.
    async fn first_task_of_build(&self, build_id: &str, current_run_only: bool) -> Result<(String, i64), CallError> {
        let call = DescribeWorkflowExecutionRequest {
            namespace: self.namespace.to_owned(),
            execution: Some(self.execution()),
        };
        let info = self.send(call).await?.workflow_execution_info.unwrap_or_default();
        let this_run = info.execution.unwrap_or_default().run_id;
        let points = info.auto_reset_points.unwrap_or_default().points;
        let usable = |run_id: &str| !current_run_only || run_id == this_run;
        let point = points.into_iter().find(|point| {
            point.build_id == build_id && !build_id.is_empty() && point.resettable && usable(&point.run_id)
        });
        let point = point.ok_or_else(|| Rejection::invalid(format!("no reset point of the build {build_id:?}")))?;
        Ok((point.run_id, point.first_workflow_task_completed_id))
    }
}

fn decoded(history: Option<bytes::Bytes>) -> Result<History, CallError> {
    History::decode(history.unwrap_or_default())
        .map_err(|error| CallError::Fatal(format!("a page of history does not decode: {error}")))
}

fn behind(scheduled: Option<i64>) -> Result<i64, CallError> {
    let scheduled = scheduled.ok_or_else(|| Rejection::invalid("the run has had no workflow task"))?;
    Ok(scheduled + 1)
}
