//! What every activity is, whether a workflow scheduled it or somebody started it by itself: attempts, their time-outs, retries, pauses.
//!
//! Here is all that follows from an activity's row alone. What it means for the world (events of a run, the outcome of a standalone
//! activity) is decided by the callers, `run::activities` and `standalone`.
//!
//! Never: a history event; a look at a run.

pub(crate) mod deadlines;
pub(crate) mod failures;
pub(crate) mod options;

use prost::Message;
use stanchion_proto::command::ActivityTaskToken;
use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::common::v1::ActivityType;
use stanchion_proto::temporal::enums::v1::RetryState;
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use crate::effects::{Offer, TaskKind, TaskRef};
use crate::pending;
use crate::retry::{self, Next};
use crate::time::timestamp;
use crate::transaction::Transaction;
use crate::types::{EventId, RunKey, ShardTime, Slot};

/// The scheduled event of an activity that has none: it stands alone, and its run's workflow id is the activity's own.
pub const STANDALONE: i64 = 0;

/// Where an activity lives, as its offers, tokens and timers name it.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub slot: Slot,
    pub key: &'a RunKey,
    /// Its scheduled event, or [`STANDALONE`].
    pub id: i64,
}

/// Who gets an attempt.
pub(crate) struct Worker<'a> {
    pub identity: &'a str,
    pub request_id: &'a str,
}

impl Place<'_> {
    pub fn task(&self, row: &ActivityRow) -> TaskRef {
        TaskRef { run: self.key.clone(), scheduled_event_id: EventId(self.id), attempt: row.attempt, stamp: row.stamp }
    }

    /// Puts the attempt on offer.
    pub fn offer(&self, tx: &mut Transaction<'_>, row: &ActivityRow) {
        let offer = Offer {
            slot: self.slot,
            kind: TaskKind::Activity,
            task_queue: row.task_queue.clone(),
            sticky: false,
            normal_task_queue: String::new(),
            task: self.task(row),
            scheduled_at: ShardTime(row.attempt_scheduled_at),
            priority: row.priority.as_ref().map_or(0, |p| p.priority_key),
        };
        pending::offer(tx, offer, None);
    }

    /// Takes the attempt off offer.
    pub fn withdraw(&self, tx: &mut Transaction<'_>, row: &ActivityRow) {
        pending::remove(tx, self.slot, TaskKind::Activity, &self.task(row), true);
    }
}

/// On offer: neither with a worker, nor waiting for its back-off, nor paused.
pub(crate) fn is_waiting(row: &ActivityRow) -> bool {
    row.started_at == 0 && !row.backing_off && row.pause.is_none()
}

/// The attempt that waits goes to the worker. Its pending row, where it has one, is the caller's to remove.
pub(crate) fn begin(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow, worker: &Worker<'_>) {
    deadlines::clear_attempt(tx, place, row);
    row.started_at = tx.now.0;
    worker.identity.clone_into(&mut row.worker_identity);
    worker.request_id.clone_into(&mut row.started_request_id);
    deadlines::started(tx, place, row);
}

/// The attempt as its worker gets it, but for what is not in the row: the input, the header, and what run it belongs to.
pub(crate) fn task(tx: &Transaction<'_>, place: &Place<'_>, row: &ActivityRow) -> PollActivityTaskQueueResponse {
    let token = ActivityTaskToken {
        namespace_id: place.key.namespace_id.clone(),
        workflow_id: place.key.workflow_id.clone(),
        run_id: place.key.run_id.clone(),
        scheduled_event_id: place.id,
        attempt: row.attempt,
        stamp: row.stamp,
        activity_id: row.activity_id.clone(),
    };
    PollActivityTaskQueueResponse {
        task_token: token.encode_to_vec(),
        workflow_namespace: tx.namespace.to_owned(),
        activity_type: Some(ActivityType { name: row.activity_type.clone() }),
        activity_id: row.activity_id.clone(),
        heartbeat_details: row.heartbeat_details.clone(),
        scheduled_time: Some(timestamp(ShardTime(row.scheduled_at))),
        current_attempt_scheduled_time: Some(timestamp(ShardTime(row.attempt_scheduled_at))),
        started_time: Some(timestamp(ShardTime(row.started_at))),
        attempt: row.attempt,
        retry_policy: row.retry_policy.clone(),
        priority: row.priority.clone(),
        ..Default::default()
    }
}

/// What comes after an attempt that failed now. A paused activity does not count its attempts.
pub(crate) fn next_attempt(row: &ActivityRow, failure: Option<&Failure>, now: ShardTime) -> Next {
    let Some(policy) = &row.retry_policy else { return Next::Stop(RetryState::RetryPolicyNotSet) };
    let policy = retry::with_defaults(Some(policy));
    if row.pause.is_some() && retry::is_retryable(failure, &policy.non_retryable_error_types) {
        return Next::After(retry::backoff(&policy, row.attempt));
    }
    retry::next(&policy, row.attempt, failure, now, deadlines::schedule_to_close(row))
}

/// The attempt is over; the next one, which has this stamp, waits for its back-off, then for a worker. A paused one waits for somebody to
/// let it go on.
pub(crate) fn retry_after(
    tx: &mut Transaction<'_>,
    place: &Place<'_>,
    row: &mut ActivityRow,
    stamp: u64,
    delay: i64,
    failure: Option<Failure>,
) {
    deadlines::clear_attempt(tx, place, row);
    row.last_failure = failure.map(failures::kept);
    row.last_attempt_completed_at = tx.now.0;
    let attempt = row.attempt + 1;
    let at = tx.now.plus(delay);
    wait(tx, place, row, stamp, attempt, at);
}

/// The activity, which no worker has (any more) and of whose attempt nothing is due, waits as this attempt from that time on.
pub(crate) fn wait(
    tx: &mut Transaction<'_>,
    place: &Place<'_>,
    row: &mut ActivityRow,
    stamp: u64,
    attempt: i32,
    at: ShardTime,
) {
    if std::mem::take(&mut row.reset_heartbeats) {
        row.heartbeat_details = None;
        row.last_heartbeat_at = 0;
    }
    row.reset_requested = false;
    row.attempt = attempt;
    row.stamp = stamp;
    row.attempt_scheduled_at = at.0;
    row.started_at = 0;
    row.started_request_id.clear();
    row.heartbeat_timer_at = 0;
    let paused = row.pause.is_some();
    row.backing_off = at > tx.now && !paused;
    if row.backing_off {
        deadlines::backing_off(tx, place, row);
    } else if !paused {
        deadlines::offered(tx, place, row);
        place.offer(tx, row);
    }
}

/// Takes a waiting attempt off offer or out of its back-off, so that it can wait differently.
pub(crate) fn stop_waiting(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow) {
    if is_waiting(row) {
        place.withdraw(tx, row);
    }
    deadlines::clear_attempt(tx, place, row);
    row.backing_off = false;
    row.heartbeat_timer_at = 0;
}
