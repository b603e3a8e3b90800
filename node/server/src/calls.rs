//! What another node may ask of this one with `Peer.Call`: the table of methods.
//!
//! Calls of the API arrive as their own request messages, checked already by the node that they came in at; calls of the leader shell
//! and the matcher have messages of their own (node.proto). Nothing that arrives here is carried further.
//!
//! Called by `peer`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use stanchion_dispatch::{QueryTask, QueueKey, Source};
use stanchion_engine::effects::{Offer, TaskKind};
use stanchion_engine::{GroupId, ShardTime, Slot};
use stanchion_proto::command::MetaCommand;
use stanchion_proto::node::{
    CallRequest, DeliverOutboxRequest, OfferQueryRequest, OfferTasksRequest, OfferTasksResponse,
    QueryVisibilityRequest, StartTaskRequest,
};
use stanchion_proto::temporal::workflowservice::v1 as api;

use crate::grpc::{query, task_queue};
use crate::meta;
use crate::node::Node;
use crate::polls;
use crate::routing::serve_local;
use crate::shell::{CallError, task_name};

/// For calls that come without a deadline.
const DEFAULT_WITHIN: Duration = Duration::from_secs(30);

/// Answers one carried call.
pub async fn serve(node: &Arc<Node>, call: CallRequest) -> Result<Bytes, CallError> {
    let within = if call.deadline_ms == 0 { DEFAULT_WITHIN } else { Duration::from_millis(call.deadline_ms) };
    let deadline = Instant::now() + within;
    let body = call.body;
    match call.method.as_str() {
        "OfferTasks" => offer_tasks(node, body),
        "OfferQuery" => offer_query(node, body),
        "DeliverOutbox" => serve_local::<DeliverOutboxRequest>(node, body, deadline).await,
        "StartTask" => serve_local::<StartTaskRequest>(node, body, deadline).await,
        "PollWorkflowTaskQueue" => task_queue::serve_workflow_poll(node, body, deadline).await,
        "PollActivityTaskQueue" => task_queue::serve_activity_poll(node, body, deadline).await,
        "CancelPolls" => task_queue::serve_cancel_polls(node, body),
        "DescribeTaskQueue" => task_queue::serve_describe(node, body).await,
        "RespondQueryTaskCompleted" => query::serve_answer(node, body),
        meta::POSITION => meta::serve_position(node).await,
        "Meta" => serve_local::<MetaCommand>(node, body, deadline).await,
        "StartWorkflowExecution" => serve_local::<api::StartWorkflowExecutionRequest>(node, body, deadline).await,
        "SignalWorkflowExecution" => serve_local::<api::SignalWorkflowExecutionRequest>(node, body, deadline).await,
        "SignalWithStartWorkflowExecution" => {
            serve_local::<api::SignalWithStartWorkflowExecutionRequest>(node, body, deadline).await
        }
        "RequestCancelWorkflowExecution" => {
            serve_local::<api::RequestCancelWorkflowExecutionRequest>(node, body, deadline).await
        }
        "TerminateWorkflowExecution" => {
            serve_local::<api::TerminateWorkflowExecutionRequest>(node, body, deadline).await
        }
        "ResetWorkflowExecution" => serve_local::<api::ResetWorkflowExecutionRequest>(node, body, deadline).await,
        "UpdateWorkflowExecutionOptions" => {
            serve_local::<api::UpdateWorkflowExecutionOptionsRequest>(node, body, deadline).await
        }
        "DeleteWorkflowExecution" => serve_local::<api::DeleteWorkflowExecutionRequest>(node, body, deadline).await,
        "DescribeWorkflowExecution" => serve_local::<api::DescribeWorkflowExecutionRequest>(node, body, deadline).await,
        "GetWorkflowExecutionHistory" => {
            serve_local::<api::GetWorkflowExecutionHistoryRequest>(node, body, deadline).await
        }
        "GetWorkflowExecutionHistoryReverse" => {
            serve_local::<api::GetWorkflowExecutionHistoryReverseRequest>(node, body, deadline).await
        }
        "QueryWorkflow" => serve_local::<api::QueryWorkflowRequest>(node, body, deadline).await,
        "UpdateWorkflowExecution" => serve_local::<api::UpdateWorkflowExecutionRequest>(node, body, deadline).await,
        "PollWorkflowExecutionUpdate" => {
            serve_local::<api::PollWorkflowExecutionUpdateRequest>(node, body, deadline).await
        }
        "ExecuteMultiOperation" => serve_local::<api::ExecuteMultiOperationRequest>(node, body, deadline).await,
        "ResetStickyTaskQueue" => serve_local::<api::ResetStickyTaskQueueRequest>(node, body, deadline).await,
        "RespondWorkflowTaskCompleted" => {
            serve_local::<api::RespondWorkflowTaskCompletedRequest>(node, body, deadline).await
        }
        "RespondWorkflowTaskFailed" => serve_local::<api::RespondWorkflowTaskFailedRequest>(node, body, deadline).await,
        "RespondActivityTaskCompleted" => {
            serve_local::<api::RespondActivityTaskCompletedRequest>(node, body, deadline).await
        }
        "RespondActivityTaskCompletedById" => {
            serve_local::<api::RespondActivityTaskCompletedByIdRequest>(node, body, deadline).await
        }
        "RespondActivityTaskFailed" => serve_local::<api::RespondActivityTaskFailedRequest>(node, body, deadline).await,
        "RespondActivityTaskFailedById" => {
            serve_local::<api::RespondActivityTaskFailedByIdRequest>(node, body, deadline).await
        }
        "RespondActivityTaskCanceled" => {
            serve_local::<api::RespondActivityTaskCanceledRequest>(node, body, deadline).await
        }
        "RespondActivityTaskCanceledById" => {
            serve_local::<api::RespondActivityTaskCanceledByIdRequest>(node, body, deadline).await
        }
        "RecordActivityTaskHeartbeat" => {
            serve_local::<api::RecordActivityTaskHeartbeatRequest>(node, body, deadline).await
        }
        "RecordActivityTaskHeartbeatById" => {
            serve_local::<api::RecordActivityTaskHeartbeatByIdRequest>(node, body, deadline).await
        }
        "PauseActivity" => serve_local::<api::PauseActivityRequest>(node, body, deadline).await,
        "UnpauseActivity" => serve_local::<api::UnpauseActivityRequest>(node, body, deadline).await,
        "ResetActivity" => serve_local::<api::ResetActivityRequest>(node, body, deadline).await,
        "UpdateActivityOptions" => serve_local::<api::UpdateActivityOptionsRequest>(node, body, deadline).await,
        "PauseActivityExecution" => serve_local::<api::PauseActivityExecutionRequest>(node, body, deadline).await,
        "UnpauseActivityExecution" => serve_local::<api::UnpauseActivityExecutionRequest>(node, body, deadline).await,
        "ResetActivityExecution" => serve_local::<api::ResetActivityExecutionRequest>(node, body, deadline).await,
        "UpdateActivityExecutionOptions" => {
            serve_local::<api::UpdateActivityExecutionOptionsRequest>(node, body, deadline).await
        }
        "StartActivityExecution" => serve_local::<api::StartActivityExecutionRequest>(node, body, deadline).await,
        "DescribeActivityExecution" => serve_local::<api::DescribeActivityExecutionRequest>(node, body, deadline).await,
        "PollActivityExecution" => serve_local::<api::PollActivityExecutionRequest>(node, body, deadline).await,
        "RequestCancelActivityExecution" => {
            serve_local::<api::RequestCancelActivityExecutionRequest>(node, body, deadline).await
        }
        "TerminateActivityExecution" => {
            serve_local::<api::TerminateActivityExecutionRequest>(node, body, deadline).await
        }
        "DeleteActivityExecution" => serve_local::<api::DeleteActivityExecutionRequest>(node, body, deadline).await,
        "StartBatchOperation" => serve_local::<api::StartBatchOperationRequest>(node, body, deadline).await,
        "StopBatchOperation" => serve_local::<api::StopBatchOperationRequest>(node, body, deadline).await,
        "DescribeBatchOperation" => serve_local::<api::DescribeBatchOperationRequest>(node, body, deadline).await,
        "QueryVisibility" => serve_local::<QueryVisibilityRequest>(node, body, deadline).await,
        "CreateSchedule" => serve_local::<api::CreateScheduleRequest>(node, body, deadline).await,
        "DescribeSchedule" => serve_local::<api::DescribeScheduleRequest>(node, body, deadline).await,
        "UpdateSchedule" => serve_local::<api::UpdateScheduleRequest>(node, body, deadline).await,
        "PatchSchedule" => serve_local::<api::PatchScheduleRequest>(node, body, deadline).await,
        "DeleteSchedule" => serve_local::<api::DeleteScheduleRequest>(node, body, deadline).await,
        "ListScheduleMatchingTimes" => serve_local::<api::ListScheduleMatchingTimesRequest>(node, body, deadline).await,
        other => Err(CallError::Status(crate::status::unserved(other))),
    }
}

/// Tasks that a leader elsewhere offers to this node's matcher.
fn offer_tasks(node: &Arc<Node>, body: Bytes) -> Result<Bytes, CallError> {
    let request = OfferTasksRequest::decode(body).map_err(|error| malformed("OfferTasks", error))?;
    let source = Source { node: request.node, group: GroupId(request.group) };
    let mut without_worker = Vec::new();
    for offered in request.offers {
        let offer = Offer {
            slot: Slot(u16::try_from(offered.slot).unwrap_or(u16::MAX)),
            kind: if offered.is_activity { TaskKind::Activity } else { TaskKind::Workflow },
            task_queue: offered.task_queue,
            sticky: offered.sticky,
            normal_task_queue: offered.normal_task_queue,
            task: polls::task_of(offered.task.unwrap_or_default()),
            scheduled_at: ShardTime(offered.scheduled_unix_nanos),
            priority: offered.priority,
        };
        let name = task_name(&offer.task);
        if !node.dispatch.offer(QueueKey::of(&offer), offer, source) {
            without_worker.push(name);
        }
    }
    for gone in request.withdrawn {
        node.dispatch.withdraw(&polls::task_of(gone));
    }
    Ok(OfferTasksResponse { without_worker }.encode_to_vec().into())
}

fn offer_query(node: &Arc<Node>, body: Bytes) -> Result<Bytes, CallError> {
    let request = OfferQueryRequest::decode(body).map_err(|error| malformed("OfferQuery", error))?;
    let queue = QueueKey { namespace_id: request.namespace_id, name: request.task_queue, kind: TaskKind::Workflow };
    let query = QueryTask {
        id: request.query_id,
        node: request.node,
        response: request.response,
        deadline: Instant::now() + Duration::from_millis(request.deadline_ms),
    };
    let offered = node.dispatch.offer_query(queue, query);
    offered.map(|()| Bytes::new()).map_err(|_| CallError::Overloaded)
}

pub fn malformed(method: &str, error: prost::DecodeError) -> CallError {
    CallError::Fatal(format!("a carried {method} does not decode: {error}"))
}
