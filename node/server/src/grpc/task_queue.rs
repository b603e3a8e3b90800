//! Task queues: the two polls, what a queue looks like, and the end and the signs of life of workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use stanchion_dispatch::{PollerSpec, QueueKey};
use stanchion_engine::effects::TaskKind;
use stanchion_engine::reply::Code;
use stanchion_engine::{Rejection, ShardTime};
use stanchion_proto::command::Poller;
use stanchion_proto::node::CancelPollsRequest;
use stanchion_proto::temporal::common::v1::WorkerVersionCapabilities;
use stanchion_proto::temporal::deployment::v1::WorkerDeploymentOptions;
use stanchion_proto::temporal::enums::v1::{RateLimitSource, TaskQueueType};
use stanchion_proto::temporal::taskqueue::v1::{PollerInfo, TaskQueueStats, TaskQueueStatus, TaskQueueVersioningInfo};
use stanchion_proto::temporal::workflowservice::v1::describe_task_queue_response::EffectiveRateLimit;
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use crate::calls::malformed;
use crate::context::Context;
use crate::node::Node;
use crate::polls::{self, Poll};
use crate::shell::CallError;
use crate::validate;

/// A poll with less time than this is refused, as on the real server.
const POLL_WITHIN_MIN: Duration = Duration::from_secs(1);
/// For telling the other nodes of a worker's end.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
const WORKFLOW_POLL: &str = "PollWorkflowTaskQueue";
const ACTIVITY_POLL: &str = "PollActivityTaskQueue";
/// What the real server states for a queue without limits of its own.
const RATE_LIMIT_STATED: f32 = 4000.0;

pub async fn poll_workflow_task_queue(
    node: Arc<Node>,
    request: PollWorkflowTaskQueueRequest,
    context: Context,
) -> Result<PollWorkflowTaskQueueResponse, Status> {
    let poll = workflow_poll(&node, request, checked_deadline(&node, context)?).await?;
    let body = polls::poll(&node, poll).await?;
    PollWorkflowTaskQueueResponse::decode(body).map_err(|error| own_response(WORKFLOW_POLL, error).into())
}

pub async fn poll_activity_task_queue(
    node: Arc<Node>,
    request: PollActivityTaskQueueRequest,
    context: Context,
) -> Result<PollActivityTaskQueueResponse, Status> {
    let namespace = request.namespace.clone();
    let poll = activity_poll(&node, request, checked_deadline(&node, context)?).await?;
    let body = polls::poll(&node, poll).await?;
    let mut response =
        PollActivityTaskQueueResponse::decode(body).map_err(|error| own_response(ACTIVITY_POLL, error))?;
    if !response.task_token.is_empty() && response.workflow_namespace.is_empty() {
        // A queue holds the tasks of its own namespace only; the leader knows that by id.
        response.workflow_namespace = namespace;
    }
    Ok(response)
}

fn own_response(method: &str, error: prost::DecodeError) -> CallError {
    CallError::Fatal(format!("a response to {method} that this cluster made does not decode: {error}"))
}

/// A poll that another node carried here, because this one owns the queue.
pub async fn serve_workflow_poll(node: &Arc<Node>, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
    let request = PollWorkflowTaskQueueRequest::decode(body).map_err(|error| malformed(WORKFLOW_POLL, error))?;
    let poll = workflow_poll(node, request, deadline).await?;
    polls::poll_here(node, poll.queue, poll.spec).await
}

pub async fn serve_activity_poll(node: &Arc<Node>, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
    let request = PollActivityTaskQueueRequest::decode(body).map_err(|error| malformed(ACTIVITY_POLL, error))?;
    let poll = activity_poll(node, request, deadline).await?;
    polls::poll_here(node, poll.queue, poll.spec).await
}

fn checked_deadline(node: &Node, context: Context) -> Result<Instant, CallError> {
    let Some(deadline) = context.caller_deadline else {
        return Err(Rejection::invalid("Context timeout is not set.").into());
    };
    if deadline.saturating_duration_since(context.arrived) < POLL_WITHIN_MIN {
        return Err(Rejection::new(Code::FailedPrecondition, "Context timeout is too short.").into());
    }
    Ok(context.poll_deadline(&node.limits))
}

#[allow(deprecated)]
async fn workflow_poll(
    node: &Arc<Node>,
    request: PollWorkflowTaskQueueRequest,
    deadline: Instant,
) -> Result<Poll, CallError> {
    let namespace = node.meta.namespace(node, &request.namespace).await?;
    validate::task_queue(request.task_queue.as_ref(), &node.limits)?;
    validate::identity(&request.identity, &node.limits)?;
    let message = request.encode_to_vec().into();
    let name = request.task_queue.unwrap_or_default().name;
    let poller = poller(
        request.identity,
        request.worker_instance_key,
        request.worker_version_capabilities,
        request.deployment_options,
    );
    Ok(Poll {
        queue: QueueKey { namespace_id: namespace.id, name, kind: TaskKind::Workflow },
        spec: PollerSpec { poller, deadline, tasks_per_second_max: None },
        method: WORKFLOW_POLL,
        message,
    })
}

#[allow(deprecated)]
async fn activity_poll(
    node: &Arc<Node>,
    request: PollActivityTaskQueueRequest,
    deadline: Instant,
) -> Result<Poll, CallError> {
    let namespace = node.meta.namespace(node, &request.namespace).await?;
    validate::task_queue(request.task_queue.as_ref(), &node.limits)?;
    validate::identity(&request.identity, &node.limits)?;
    let message = request.encode_to_vec().into();
    let name = request.task_queue.unwrap_or_default().name;
    let poller = poller(
        request.identity,
        request.worker_instance_key,
        request.worker_version_capabilities,
        request.deployment_options,
    );
    let tasks_per_second_max = request.task_queue_metadata.and_then(|metadata| metadata.max_tasks_per_second);
    Ok(Poll {
        queue: QueueKey { namespace_id: namespace.id, name, kind: TaskKind::Activity },
        spec: PollerSpec { poller, deadline, tasks_per_second_max },
        method: ACTIVITY_POLL,
        message,
    })
}

fn poller(
    identity: String,
    worker_instance_key: String,
    worker_version: Option<WorkerVersionCapabilities>,
    deployment: Option<WorkerDeploymentOptions>,
) -> Poller {
    let deployment = deployment.unwrap_or_default();
    Poller {
        identity,
        worker_version,
        worker_instance_key,
        deployment_name: deployment.deployment_name,
        build_id: deployment.build_id,
        // The matcher makes one for each start.
        request_id: String::new(),
    }
}

// ------------------------------------------------------------------------------------------------------------ describe

pub async fn describe_task_queue(
    node: Arc<Node>,
    request: DescribeTaskQueueRequest,
    context: Context,
) -> Result<DescribeTaskQueueResponse, Status> {
    let queue = described_queue(&node, &request).await?;
    let owner = node.neighbours.liveness.owner_of(&queue);
    if owner == node.id() {
        return Ok(described(&node, &queue, &request));
    }
    let body = request.encode_to_vec().into();
    let body = node.neighbours.carry(owner, "DescribeTaskQueue", body, context.deadline()).await?;
    DescribeTaskQueueResponse::decode(body).map_err(|error| own_response("DescribeTaskQueue", error).into())
}

pub async fn serve_describe(node: &Arc<Node>, body: Bytes) -> Result<Bytes, CallError> {
    let request = DescribeTaskQueueRequest::decode(body).map_err(|error| malformed("DescribeTaskQueue", error))?;
    let queue = described_queue(node, &request).await?;
    Ok(described(node, &queue, &request).encode_to_vec().into())
}

async fn described_queue(node: &Arc<Node>, request: &DescribeTaskQueueRequest) -> Result<QueueKey, CallError> {
    let namespace = node.meta.namespace(node, &request.namespace).await?;
    validate::task_queue(request.task_queue.as_ref(), &node.limits)?;
    let kind = match request.task_queue_type() {
        TaskQueueType::Activity => TaskKind::Activity,
        TaskQueueType::Unspecified | TaskQueueType::Workflow | TaskQueueType::Nexus => TaskKind::Workflow,
    };
    let name = request.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
    Ok(QueueKey { namespace_id: namespace.id, name, kind })
}

#[allow(deprecated)]
fn described(node: &Node, queue: &QueueKey, request: &DescribeTaskQueueRequest) -> DescribeTaskQueueResponse {
    let found = node.dispatch.describe(queue);
    let backlog = i64::try_from(found.backlog_count_hint).unwrap_or(i64::MAX);
    let pollers = found.pollers.into_iter().map(|poller| PollerInfo {
        last_access_time: Some(prost_types::Timestamp::from(poller.last_access)),
        identity: poller.identity,
        rate_per_second: poller.tasks_per_second_max.unwrap_or(100_000.0),
        worker_version_capabilities: poller.worker_version,
        deployment_options: (!poller.deployment_name.is_empty() || !poller.build_id.is_empty()).then(|| {
            WorkerDeploymentOptions {
                deployment_name: poller.deployment_name,
                build_id: poller.build_id,
                ..Default::default()
            }
        }),
    });
    DescribeTaskQueueResponse {
        pollers: pollers.collect(),
        stats: request.report_stats.then(|| TaskQueueStats {
            approximate_backlog_count: backlog,
            approximate_backlog_age: prost_types::Duration::try_from(found.backlog_age).ok(),
            tasks_add_rate: found.tasks_add_rate as f32,
            tasks_dispatch_rate: found.tasks_dispatch_rate as f32,
            ..Default::default()
        }),
        versioning_info: Some(TaskQueueVersioningInfo {
            current_version: "__unversioned__".to_owned(),
            update_time: Some(prost_types::Timestamp { seconds: ShardTime::default().0, nanos: 0 }),
            ..Default::default()
        }),
        effective_rate_limit: Some(EffectiveRateLimit {
            requests_per_second: RATE_LIMIT_STATED,
            rate_limit_source: RateLimitSource::System.into(),
        }),
        task_queue_status: request.include_task_queue_status.then(|| TaskQueueStatus {
            backlog_count_hint: backlog,
            rate_per_second: f64::from(RATE_LIMIT_STATED),
            ..Default::default()
        }),
        ..Default::default()
    }
}

// ------------------------------------------------------------------------------------------------------------- workers

/// Answers the worker's open polls empty, wherever they wait.
pub async fn shutdown_worker(
    node: Arc<Node>,
    request: ShutdownWorkerRequest,
    context: Context,
) -> Result<ShutdownWorkerResponse, Status> {
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let gone = CancelPollsRequest {
        namespace_id: namespace.id,
        worker_instance_key: request.worker_instance_key,
        sticky_task_queue: request.sticky_task_queue,
    };
    let body: Bytes = gone.encode_to_vec().into();
    // A node that does not answer must not hold the worker up.
    let until = context.deadline().min(Instant::now() + TOLD_WITHIN);
    let others = node.neighbours.liveness.live_others().into_iter().map(|other| {
        let (node, body) = (node.clone(), body.clone());
        async move { (other, node.neighbours.carry(other, "CancelPolls", body, until).await) }
    });
    let told = futures::future::join_all(others);
    serve_cancel_polls(&node, body)?;
    for (other, outcome) in told.await {
        if let Err(error) = outcome {
            // Its polls there end by themselves, at their deadline.
            tracing::debug!(node = other, %error, "a node could not be told of a worker's end");
        }
    }
    Ok(ShutdownWorkerResponse {})
}

/// "CancelPolls".
pub fn serve_cancel_polls(node: &Arc<Node>, body: Bytes) -> Result<Bytes, CallError> {
    let gone = CancelPollsRequest::decode(body).map_err(|error| malformed("CancelPolls", error))?;
    node.dispatch.cancel_polls(&gone.worker_instance_key);
    if !gone.sticky_task_queue.is_empty() {
        let (namespace_id, name) = (gone.namespace_id, gone.sticky_task_queue);
        node.dispatch.cancel_queue(&QueueKey { namespace_id, name, kind: TaskKind::Workflow });
    }
    Ok(Bytes::new())
}

/// A worker's sign of life. It is counted; what it says of the worker is not kept in this release.
pub async fn record_worker_heartbeat(
    node: Arc<Node>,
    request: RecordWorkerHeartbeatRequest,
    _context: Context,
) -> Result<RecordWorkerHeartbeatResponse, Status> {
    node.meta.namespace(&node, &request.namespace).await?;
    metrics::counter!("stanchion_worker_heartbeats_total").increment(request.worker_heartbeat.len() as u64);
    Ok(RecordWorkerHeartbeatResponse {})
}
