//! The matcher's behaviour, a file each. What they share (tasks, polls, a matcher with tight bounds) is here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bounds;
mod cancellation;
mod concurrent_polls_and_offers;
mod describe;
mod drain_and_shutdown;
mod offers_are_idempotent;
mod order_of_pollers;
mod order_of_tasks;
mod pairing_outcomes;
mod queries_go_first;
mod reservations;
mod sources;
mod sticky_queues_without_a_worker;
mod unused_queues_are_forgotten;

use std::sync::Arc;
use std::time::{Duration, Instant};

use stanchion_dispatch::{Dispatch, Pairing, PollOutcome, PollerSpec, QueryTask, QueueKey, Refused, Source};
use stanchion_engine::effects::{Offer, TaskKind, TaskRef};
use stanchion_engine::limits::Limits;
use stanchion_engine::{EventId, GroupId, RunKey, ShardTime};
use stanchion_proto::command::Poller;
use tokio::task::JoinHandle;

const HERE: Source = Source { node: 1, group: GroupId(1) };

fn matcher() -> Arc<Dispatch> {
    Dispatch::new(Arc::new(Limits::default()))
}

fn queue() -> QueueKey {
    QueueKey { namespace_id: "ns".into(), name: "q".into(), kind: TaskKind::Activity }
}

/// Task `n`, scheduled at time `n`.
fn task(n: i64) -> Offer {
    let run = RunKey { namespace_id: "ns".into(), workflow_id: format!("wf-{n}"), run_id: "run".into() };
    Offer {
        slot: run.slot(),
        kind: TaskKind::Activity,
        task_queue: "q".into(),
        sticky: false,
        normal_task_queue: String::new(),
        task: TaskRef { run, scheduled_event_id: EventId(5), attempt: 1, stamp: 1 },
        scheduled_at: ShardTime(n),
        priority: 0,
    }
}

fn query(id: &str) -> QueryTask {
    QueryTask {
        id: id.into(),
        node: 1,
        response: id.as_bytes().to_vec().into(),
        deadline: tokio::time::Instant::now().into_std() + Duration::from_secs(10),
    }
}

/// Now, by tokio's clock, which tests may have stopped.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn poller(identity: &str, within: Duration) -> PollerSpec {
    PollerSpec {
        poller: Poller {
            identity: identity.into(),
            worker_instance_key: format!("{identity}-key"),
            ..Default::default()
        },
        deadline: now() + within,
        tasks_per_second_max: None,
    }
}

type Poll = JoinHandle<Result<PollOutcome, Refused>>;

/// A poll that is seated when this returns.
async fn waiting_poll_for(matcher: &Arc<Dispatch>, identity: &str, within: Duration) -> Poll {
    let seated = matcher.describe(&queue()).waiting_polls;
    let spec = poller(identity, within);
    let theirs = matcher.clone();
    let poll = tokio::spawn(async move { theirs.poll(queue(), spec).await });
    while matcher.describe(&queue()).waiting_polls == seated {
        tokio::task::yield_now().await;
    }
    poll
}

async fn waiting_poll(matcher: &Arc<Dispatch>, identity: &str) -> Poll {
    waiting_poll_for(matcher, identity, Duration::from_secs(60)).await
}

/// Polls once; the work must be there already or come within the poll's time.
async fn poll_now(matcher: &Arc<Dispatch>) -> PollOutcome {
    matcher.poll(queue(), poller("w", Duration::from_secs(5))).await.unwrap()
}

async fn outcome(poll: Poll) -> PollOutcome {
    poll.await.unwrap().unwrap()
}

fn matched(outcome: PollOutcome) -> Pairing {
    match outcome {
        PollOutcome::Matched(pairing) => pairing,
        other => panic!("expected a pairing, got {other:?}"),
    }
}

/// The number that [`task`] was given.
fn number(pairing: &Pairing) -> i64 {
    pairing.offer().scheduled_at.0
}

/// Takes and starts everything that waits, in order.
async fn take_all(matcher: &Arc<Dispatch>) -> Vec<i64> {
    let mut taken = Vec::new();
    while matcher.describe(&queue()).backlog_count_hint > 0 {
        let pairing = matched(poll_now(matcher).await);
        taken.push(number(&pairing));
        pairing.started();
    }
    taken
}
