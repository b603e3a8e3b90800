//! Batch operations as clients see them: start, describe, list, stop. `crate::batch` does the work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_engine::reply::{Code, Detail};
use stanchion_engine::time::timestamp_if_set;
use stanchion_engine::visibility::Entity;
use stanchion_engine::{GroupId, Rejection, batch};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{StartBatch, StopBatch};
use stanchion_proto::row::{BatchRow, VisibilityRow};
use stanchion_proto::temporal::batch::v1::{
    BatchOperationInfo, BatchOperationReset, BatchOperationUpdateActivityOptions,
    batch_operation_reset_activities as reset_activities, batch_operation_unpause_activities as unpause_activities,
    batch_operation_update_activity_options as activity_options,
};
use stanchion_proto::temporal::common::v1::Execution;
use stanchion_proto::temporal::enums::v1::{ExecutionType, ResetType, ResourceExhaustedCause, ResourceExhaustedScope};
use stanchion_proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use super::workflow::{done, group, new_request_id};
use crate::batch::{entity_of, running};
use crate::context::Context;
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate::{self, Checked};
use crate::visibility::{self, parse::Parsed};

/// The count of running jobs that comes before another one.
const COUNT_WITHIN: Duration = Duration::from_secs(10);

fn refuse(message: &str) -> Checked {
    Err(Rejection::invalid(message))
}

fn job_named(job_id: &str) -> Checked {
    if job_id.is_empty() { refuse("JobId is not set on request.") } else { Ok(()) }
}

#[allow(deprecated, reason = "older clients name executions so")]
fn check(request: &StartBatchOperationRequest) -> Checked {
    let given =
        [!request.visibility_query.is_empty(), !request.executions.is_empty(), !request.target_executions.is_empty()];
    let given = given.into_iter().filter(|given| *given).count();
    let Some(operation) = request.operation.as_ref().filter(|_| !request.reason.is_empty() && given > 0) else {
        return refuse(
            "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR Executions OR \
             TargetExecutions)",
        );
    };
    job_named(&request.job_id)?;
    if given > 1 {
        return refuse("visibility query, executions, and target executions are mutually exclusive");
    }
    check_operation(operation)
}

fn check_operation(operation: &Operation) -> Checked {
    match operation {
        Operation::SignalOperation(asked) if asked.signal.is_empty() => refuse("must provide signal name"),
        Operation::ResetOperation(asked) => check_reset(asked),
        Operation::UpdateWorkflowOptionsOperation(asked) => {
            if asked.workflow_execution_options.is_none() {
                return refuse("must provide UpdateOptions");
            }
            if asked.update_mask.is_none() { refuse("must provide UpdateMask") } else { Ok(()) }
        }
        Operation::UnpauseActivitiesOperation(asked) => match &asked.activity {
            None => refuse("activity filter must be set"),
            Some(unpause_activities::Activity::Type(name)) => some_activities(!name.is_empty()),
            Some(unpause_activities::Activity::MatchAll(all)) => some_activities(*all),
        },
        Operation::ResetActivitiesOperation(asked) => match &asked.activity {
            None => refuse("must provide ActivityType or MatchAll"),
            Some(reset_activities::Activity::Type(name)) => some_activities(!name.is_empty()),
            Some(reset_activities::Activity::MatchAll(all)) => some_activities(*all),
        },
        Operation::UpdateActivityOptionsOperation(asked) => check_activity_options(asked),
        _ => Ok(()),
    }
}

fn some_activities(named: bool) -> Checked {
    match named {
        true => Ok(()),
        false => refuse("Either activity type must be set, or match all should be set to true"),
    }
}

#[allow(deprecated, reason = "older clients say so what to reset to")]
fn check_reset(asked: &BatchOperationReset) -> Checked {
    match &asked.options {
        Some(options) if options.target.is_none() => refuse("batch reset missing target"),
        Some(_) => Ok(()),
        None => match ResetType::try_from(asked.reset_type) {
            Ok(ResetType::FirstWorkflowTask | ResetType::LastWorkflowTask) => Ok(()),
            Ok(ResetType::Unspecified) => refuse("unknown batch reset type Unspecified"),
            Err(_) => refuse(&format!("unknown batch reset type {}", asked.reset_type)),
        },
    }
}

fn check_activity_options(asked: &BatchOperationUpdateActivityOptions) -> Checked {
    match (&asked.activity_options, asked.restore_original) {
        (Some(_), true) => return refuse("cannot set both activity options and restore original"),
        // The real server's words; it is the options that are missing.
        (None, false) => {
            return refuse("Either activity type must be set, or restore original should be set to true");
        }
        _ => {}
    }
    match &asked.activity {
        // Fails on each run then.
        None => Ok(()),
        Some(activity_options::Activity::Type(name)) => some_activities(!name.is_empty()),
        Some(activity_options::Activity::MatchAll(all)) => some_activities(*all),
    }
}

/// By the lists, as on the real server: two that come in the same moment may both begin.
async fn check_room(node: &Arc<Node>, namespace: &Namespace) -> Result<(), CallError> {
    let parsed = Parsed { filter: running(), divisions: false, by_status: false };
    let deadline = Instant::now() + COUNT_WITHIN;
    let counts = visibility::count_parsed(node, namespace, Entity::Batch, &parsed, deadline).await?;
    if counts.total < node.limits.batch_operations_running_max {
        return Ok(());
    }
    let detail = Detail::ResourceExhausted {
        cause: ResourceExhaustedCause::ConcurrentLimit.into(),
        scope: ResourceExhaustedScope::Namespace.into(),
    };
    Err(Rejection::new(Code::ResourceExhausted, "Max concurrent batch operations is reached").with(detail).into())
}

impl GroupCall for StartBatchOperationRequest {
    const METHOD: &'static str = "StartBatchOperation";
    type Answer = StartBatchOperationResponse;

    /// It carries no request id: a second one could not tell its own first from another's job.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace_for_start(node, &self.namespace).await?;
        check(self)?;
        validate::short(&self.job_id, &node.limits, "WorkflowId exceeds length limit.")?;
        // A filter that is not one fails the job later, as on the real server.
        check_room(node, &namespace).await
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.job_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let start = StartBatch { request: Some(self), request_id: new_request_id() };
        done(&at, &namespace, Self::METHOD, Kind::StartBatch(start)).await?;
        Ok(StartBatchOperationResponse {})
    }
}

impl GroupCall for StopBatchOperationRequest {
    const METHOD: &'static str = "StopBatchOperation";
    type Answer = StopBatchOperationResponse;

    /// A second one is refused because of the first.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        job_named(&self.job_id)?;
        let reason = if self.reason.is_empty() { refuse("Reason is not set on request.") } else { Ok(()) };
        Ok(reason?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.job_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let stop = StopBatch { job_id: self.job_id, reason: self.reason, identity: self.identity };
        done(&at, &namespace, Self::METHOD, Kind::StopBatch(stop)).await?;
        Ok(StopBatchOperationResponse {})
    }
}

impl GroupCall for DescribeBatchOperationRequest {
    const METHOD: &'static str = "DescribeBatchOperation";
    type Answer = DescribeBatchOperationResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(job_named(&self.job_id)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.job_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let found = at.term.read(|reader| batch::read(reader, &namespace.id, &self.job_id)).await?;
        let (row, request) = found.ok_or_else(|| batch::not_found(&self.job_id))?;
        Ok(described(row, request))
    }
}

fn described(row: BatchRow, request: StartBatchOperationRequest) -> DescribeBatchOperationResponse {
    DescribeBatchOperationResponse {
        operation_type: row.operation_type,
        state: row.state,
        start_time: timestamp_if_set(row.started_at),
        close_time: timestamp_if_set(row.closed_at),
        total_operation_count: row.total,
        complete_operation_count: row.completed,
        failure_operation_count: row.failed,
        identity: row.identity,
        executions: executions(&request),
        job_id: request.job_id,
        reason: request.reason,
        query: request.visibility_query,
    }
}

/// Those that the request names, in the newer form.
#[allow(deprecated, reason = "older clients name executions so")]
fn executions(request: &StartBatchOperationRequest) -> Vec<Execution> {
    let kind = match entity_of(request.operation.as_ref()) {
        Entity::Activity => ExecutionType::Activity,
        _ => ExecutionType::Workflow,
    };
    let older = request.executions.iter().map(|named| Execution {
        r#type: kind.into(),
        business_id: named.workflow_id.clone(),
        run_id: named.run_id.clone(),
    });
    older.chain(request.target_executions.iter().cloned()).collect()
}

pub async fn list_batch_operations(
    node: Arc<Node>,
    request: ListBatchOperationsRequest,
    context: Context,
) -> Result<ListBatchOperationsResponse, Status> {
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let (size, token, deadline) = (request.page_size, &request.next_page_token, context.deadline());
    let page = visibility::list(&node, &namespace, Entity::Batch, "", size, token, deadline).await?;
    let info = |row: VisibilityRow| BatchOperationInfo {
        job_id: row.workflow_id,
        state: row.status,
        start_time: timestamp_if_set(row.started_at),
        close_time: timestamp_if_set(row.closed_at),
        // Kept as the number's text.
        operation_type: row.workflow_type.parse().unwrap_or_default(),
    };
    let next_page_token = page.next_page_token;
    Ok(ListBatchOperationsResponse { operation_info: page.rows.into_iter().map(info).collect(), next_page_token })
}
