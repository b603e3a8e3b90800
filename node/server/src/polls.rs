//! One poll, from the node that the worker is connected to, to the matcher that owns the queue, to the leader of the task's run.
//!
//! ```text
//! worker --poll--> any node --Peer.Call--> owner of the queue: Dispatch --pairing--> StartTask at the run's leader
//!                     |                          |                                          |
//!                     +<-------------------------+<------------ encoded poll response <-----+
//! ```
//!
//! The queue's owner changes when nodes come and go: the poll then moves, and its worker does not notice. A worker that disconnects
//! cancels its poll, all the way, because every step is a future that is dropped.
//!
//! A task that was started for a poll which then goes without it waits for its time-out. So a poll moves only while it waits: once it is
//! paired, the start is followed to its end, through a change of leader too, under the pairing's one request id.
//!
//! Never: a second start for one pairing under another request id; an answer after the caller's deadline.
//!
//! Called by the gRPC poll handlers and, for polls that were carried here, by `calls`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use stanchion_dispatch::{Pairing, PollOutcome, PollerSpec, QueueKey, Refused};
use stanchion_engine::effects::{TaskKind, TaskRef};
use stanchion_engine::reply::Detail;
use stanchion_engine::{EventId, GroupId, Rejection, RunKey};
use stanchion_proto::command::Poller;
use stanchion_proto::node::{StartTaskReply, StartTaskRequest, TaskName, start_task_reply::Outcome};
use stanchion_proto::temporal::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope};

use crate::node::Node;
use crate::routing::{self, GroupCall, Here};
use crate::shell::{CallError, StartedTask, task_name};

/// A start is replicated in milliseconds; a leader that takes longer than this is not one.
const START_WITHIN: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// A queue's former owner may be starting a task for a poll that was carried to it. If it lives, it gives the poll back itself.
const MOVED_GRACE: Duration = Duration::from_secs(1);

/// A poll as any node understands it.
pub struct Poll {
    pub queue: QueueKey,
    pub spec: PollerSpec,
    /// The method and message to carry to the queue's owner.
    pub method: &'static str,
    pub message: Bytes,
}

/// Waits for a task. The encoded poll response; empty when there was none in time.
pub async fn poll(node: &Arc<Node>, poll: Poll) -> Result<Bytes, CallError> {
    let deadline = poll.spec.deadline;
    loop {
        let mut view = node.neighbours.liveness.version();
        view.borrow_and_update();
        let owner = node.neighbours.liveness.owner_of(&poll.queue);
        let outcome = if owner == node.id() {
            poll_here(node, poll.queue.clone(), poll.spec.clone()).await
        } else {
            let carried = node.neighbours.carry(owner, poll.method, poll.message.clone(), deadline);
            tokio::select! {
                outcome = carried => outcome,
                () = async {
                    moved(node, &poll.queue, owner, &mut view).await;
                    tokio::time::sleep(MOVED_GRACE).await;
                } => Err(CallError::NotHere { leader: None }),
            }
        };
        match outcome {
            Err(CallError::NotHere { .. } | CallError::Unknown(_)) => {
                // The owner has gone or has changed: the poll goes on elsewhere.
                if Instant::now() + AGAIN_AFTER >= deadline {
                    return Ok(Bytes::new());
                }
                let _ = tokio::time::timeout(AGAIN_AFTER, view.changed()).await;
            }
            outcome => return outcome,
        }
    }
}

/// Waits for a task in this node's matcher. `NotHere` when the queue has moved to another node.
pub async fn poll_here(node: &Arc<Node>, queue: QueueKey, spec: PollerSpec) -> Result<Bytes, CallError> {
    let deadline = spec.deadline;
    let polled = async { node.dispatch.poll(queue.clone(), spec).await.map_err(too_many) };
    let mut outcome = unless_moved(node, &queue, polled).await?;
    loop {
        outcome = match outcome {
            PollOutcome::HandedOver(response) => return Ok(response),
            PollOutcome::Query(query) => return Ok(query.response),
            PollOutcome::Empty | PollOutcome::Shutdown => return Ok(Bytes::new()),
            PollOutcome::Matched(pairing) => match start(node, &pairing, deadline).await {
                Ok(StartedTask::Response(response)) => {
                    pairing.started();
                    return Ok(response);
                }
                Ok(StartedTask::Gone) => unless_moved(node, &queue, async { Ok(pairing.gone().await) }).await?,
                Err(error) => {
                    tracing::debug!(%error, task = ?pairing.offer().task, "a task was not started; its leader offers it again");
                    unless_moved(node, &queue, async { Ok(pairing.retry_later().await) }).await?
                }
            },
        };
    }
}

/// Waits in the matcher for as long as this node owns the queue. Whatever a poll was given that leaves here goes back to its place.
async fn unless_moved(
    node: &Node,
    queue: &QueueKey,
    wait: impl Future<Output = Result<PollOutcome, CallError>>,
) -> Result<PollOutcome, CallError> {
    let mut view = node.neighbours.liveness.version();
    tokio::select! {
        biased;
        outcome = wait => outcome,
        () = moved(node, queue, node.id(), &mut view) => {
            Err(CallError::NotHere { leader: Some(node.neighbours.liveness.owner_of(queue)) })
        }
    }
}

fn too_many(refused: Refused) -> CallError {
    let code = stanchion_engine::reply::Code::ResourceExhausted;
    CallError::Rejected(Rejection::new(code, refused.to_string()).with(Detail::ResourceExhausted {
        cause: ResourceExhaustedCause::ConcurrentLimit.into(),
        scope: ResourceExhaustedScope::Namespace.into(),
    }))
}

/// Done when the queue belongs to another node than `owner`.
async fn moved(node: &Node, queue: &QueueKey, owner: u64, view: &mut tokio::sync::watch::Receiver<u64>) {
    while node.neighbours.liveness.owner_of(queue) == owner {
        if view.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Asks the leader that made the offer to start the task, and whoever leads after it. Starting twice under one request id is once.
async fn start(node: &Arc<Node>, pairing: &Pairing, deadline: Instant) -> Result<StartedTask, CallError> {
    let (offer, source) = (pairing.offer(), pairing.source());
    if source.node == node.id()
        && let Ok(term) = node.shells.term(source.group)
    {
        let (queue, poller) = (pairing.queue().name.clone(), pairing.poller().clone());
        match term.start_task(offer.kind, offer.task.clone(), poller, queue).await {
            Err(CallError::NotHere { .. } | CallError::Unknown(_)) => {}
            outcome => return outcome,
        }
    }
    let request = StartTaskRequest {
        group: source.group.0,
        is_activity: offer.kind == TaskKind::Activity,
        task: Some(task_name(&offer.task)),
        poller: pairing.poller().encode_to_vec().into(),
        polled_task_queue: pairing.queue().name.clone(),
    };
    let reply = routing::call(node, request, deadline.min(Instant::now() + START_WITHIN)).await?;
    match reply.outcome {
        Some(Outcome::Response(response)) => Ok(StartedTask::Response(response)),
        Some(Outcome::Gone(_)) => Ok(StartedTask::Gone),
        None => Err(CallError::Unknown("StartTask was answered with an outcome that is not known here".to_owned())),
    }
}

/// Repeatable: the poller's request id is the pairing's.
impl GroupCall for StartTaskRequest {
    const METHOD: &'static str = "StartTask";
    type Answer = StartTaskReply;

    /// Made by a matcher, not by a client. Repeating it is harmless: the poller's request id is the pairing's.
    async fn check(&mut self, _node: &Arc<Node>) -> Result<(), CallError> {
        Ok(())
    }

    async fn group(&self, _node: &Arc<Node>) -> Result<GroupId, CallError> {
        Ok(GroupId(self.group))
    }

    async fn on_leader(self, at: Here) -> Result<StartTaskReply, CallError> {
        let poller =
            Poller::decode(self.poller).map_err(|error| CallError::Fatal(format!("StartTask's poller: {error}")))?;
        let kind = if self.is_activity { TaskKind::Activity } else { TaskKind::Workflow };
        let task = task_of(self.task.unwrap_or_default());
        let outcome = match at.term.start_task(kind, task, poller, self.polled_task_queue).await? {
            StartedTask::Response(response) => Outcome::Response(response),
            StartedTask::Gone => Outcome::Gone(true),
        };
        Ok(StartTaskReply { outcome: Some(outcome) })
    }
}

/// The inverse of `task_name`.
pub fn task_of(name: TaskName) -> TaskRef {
    TaskRef {
        run: RunKey { namespace_id: name.namespace_id, workflow_id: name.workflow_id, run_id: name.run_id },
        scheduled_event_id: EventId(name.scheduled_event_id),
        attempt: name.attempt,
        stamp: name.stamp,
    }
}
