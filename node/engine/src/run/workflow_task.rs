//! The workflow task of a run: at most one, scheduled, then with a worker, then completed, failed or timed out.
//!
//! ```text
//!   none --schedule--> scheduled --begin--> started --completed--> none
//!                          ^                   |
//!                          +--- failed, timed out (attempt + 1; off a sticky queue: attempt 1 on the normal queue)
//! ```
//!
//! An attempt above 1 leaves no events while it lasts: its scheduled and started events are shown to the worker only, under the ids that
//! they would have, and stored when the attempt completes. If other events took those ids meanwhile, it becomes an ordinary first attempt.
//!
//! Never: two outstanding tasks; a change by a token or an offer whose stamp is not the task's.

mod ended;
mod shown;

use stanchion_proto::command::{Poller, ResetStickyTaskQueue, StartWorkflowTask, WorkflowTaskToken};
use stanchion_proto::row::{WorkflowTaskScheduledRow, WorkflowTaskStartedRow, run_row::WorkflowTask};
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::enums::v1::SuggestContinueAsNewReason;

pub(super) use ended::{End, TaskFailure, end_attempt, fail_overtaken, force_close};
pub use ended::{fail, timeout};
pub use shown::transient_events_of;
pub(super) use shown::{scheduled_attributes, started_attributes, store_transient};

use super::speculative::is_stored;
use super::{Run, updates};
use crate::effects::{Offer, TaskKind, TaskRef, TaskStart};
use crate::reply::{Rejection, Reply, WorkflowTaskStart};
use crate::time::SECOND;
use crate::transaction::{Outcome, Transaction};
use crate::types::{EventId, RunKey, ShardTime};
use crate::{lookup, pending};
use shown::transient_events;

/// Attempts up to this one get the run's own time-out; later ones get longer, so that a broken worker is not asked all the time.
const PLAIN_ATTEMPTS: i32 = 3;
/// A speculative task that nobody takes up for this long becomes an ordinary one, by way of a time-out.
const SPECULATIVE_WAIT: i64 = 5 * SECOND;
const RETRY_INITIAL: i64 = 5 * SECOND;
const RETRY_MAX: i64 = 600 * SECOND;

/// Identity of events that the engine writes on its own behalf.
pub const ENGINE_IDENTITY: &str = "history-service";

/// The real server's words for an answer to a workflow task that is not (or no longer) with this worker.
pub fn not_found() -> Rejection {
    Rejection::not_found("Workflow task not found.")
}

/// Schedules a workflow task unless there is one, or the run still backs off before its first.
pub fn schedule_if_none(tx: &mut Transaction<'_>, run: &mut Run) {
    if run.is_open() && !run.has_workflow_task() && !run.row.backing_off {
        schedule(tx, run);
    }
}

/// Schedules a workflow task. If the leader holds a poller of its queue, the task starts at once.
pub fn schedule(tx: &mut Transaction<'_>, run: &mut Run) {
    write_scheduled(tx, run, None, Make::Ordinary);
    let queue = scheduled(run).map(|s| offered_queue(run, s).0.to_owned()).unwrap_or_default();
    let Some(reservation) = tx.take_reservation(&queue, false) else { return offer(tx, run) };
    let poller = reservation.poller.clone().unwrap_or_default();
    if let Some(start) = begin(tx, run, &poller.request_id, &poller.identity, &queue, Begin::Unoffered) {
        tx.hand_over(reservation, TaskStart::Workflow(Box::new(start)));
    }
}

/// An update has been admitted: a run without a workflow task gets a speculative one. It does not wait for a delayed start.
pub(super) fn schedule_for_updates(tx: &mut Transaction<'_>, run: &mut Run) {
    if !run.has_workflow_task() {
        write_scheduled(tx, run, None, Make::Speculative);
        offer(tx, run);
    }
    run.keep_speculative();
}

/// The attempt of the run's workflow task, or of its next one.
pub(super) fn attempt(run: &Run) -> i32 {
    match &run.row.workflow_task {
        Some(WorkflowTask::Scheduled(task)) => task.attempt,
        Some(WorkflowTask::Started(started)) => started.scheduled.as_ref().map_or(1, |task| task.attempt),
        None => run.row.workflow_task_attempt,
    }
}

/// What kind of workflow task is to be scheduled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Make {
    Ordinary,
    /// For updates alone (see [`speculative`]).
    Speculative,
}

/// Schedules a task that continues a chain of forced ones, and offers it or, for the worker that asked for it, starts it.
pub(super) fn schedule_next(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    original_scheduled_at: Option<i64>,
    returned_to: Option<&str>,
    make: Make,
) -> Option<WorkflowTaskStart> {
    const REQUEST_ID: &str = "request-from-RespondWorkflowTaskCompleted";
    let Some(identity) = returned_to else {
        if original_scheduled_at.is_none() {
            schedule(tx, run);
        } else {
            write_scheduled(tx, run, original_scheduled_at, Make::Ordinary);
            offer(tx, run);
        }
        return None;
    };
    write_scheduled(tx, run, original_scheduled_at, make);
    if make == Make::Speculative {
        run.keep_speculative();
    }
    let queue = scheduled(run).map(|s| offered_queue(run, s).0.to_owned()).unwrap_or_default();
    let mut start = begin(tx, run, REQUEST_ID, identity, &queue, Begin::Unoffered)?;
    // The worker that completed the task before has everything up to it, sticky queue or not.
    start.sticky = true;
    Some(start)
}

/// Schedules and starts the first task in the start itself, for a starter that is also the worker.
pub fn schedule_eager(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    identity: &str,
    request_id: &str,
) -> Option<WorkflowTaskStart> {
    write_scheduled(tx, run, None, Make::Ordinary);
    let queue = run.row.task_queue.clone();
    begin(tx, run, request_id, identity, &queue, Begin::Eager)
}

/// Schedules a task without offering it.
pub(super) fn write_scheduled(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    original_scheduled_at: Option<i64>,
    mut make: Make,
) {
    debug_assert!(!run.has_workflow_task(), "one outstanding workflow task");
    if run.has_buffered() {
        // Something new to tell the worker: this is not a repetition.
        run.row.workflow_task_attempt = 1;
        run.flush_buffered();
        make = Make::Ordinary;
    }
    let attempt = run.row.workflow_task_attempt.max(1);
    let task = WorkflowTaskScheduledRow {
        scheduled_event_id: run.row.next_event_id,
        attempt,
        stamp: run.next_stamp(),
        scheduled_at: tx.now.0,
        original_scheduled_at: original_scheduled_at.unwrap_or(tx.now.0),
        start_to_close_timeout: start_to_close_timeout(run.row.task_timeout, attempt),
        sticky_task_queue: run.row.sticky.as_ref().map(|s| s.task_queue.clone()).unwrap_or_default(),
        speculative: make == Make::Speculative,
    };
    if is_stored(&task) {
        run.record(tx.now, scheduled_attributes(run, &task));
    }
    run.row.workflow_task = Some(WorkflowTask::Scheduled(task));
}

/// Puts the scheduled task on offer.
fn offer(tx: &mut Transaction<'_>, run: &Run) {
    let Some(task) = scheduled(run) else { return };
    let start_before = start_within(run, task).map(|limit| ShardTime(task.scheduled_at).plus(limit));
    let offer = offer_of(run, task);
    pending::offer(tx, offer, start_before);
}

/// How long the task may wait for a worker, if there is a limit to it.
fn start_within(run: &Run, task: &WorkflowTaskScheduledRow) -> Option<i64> {
    match &run.row.sticky {
        Some(sticky) if !task.sticky_task_queue.is_empty() => Some(sticky.schedule_to_start_timeout),
        _ => task.speculative.then_some(SPECULATIVE_WAIT),
    }
}

fn scheduled(run: &Run) -> Option<&WorkflowTaskScheduledRow> {
    match &run.row.workflow_task {
        Some(WorkflowTask::Scheduled(task)) => Some(task),
        _ => None,
    }
}

fn offered_queue<'r>(run: &'r Run, task: &'r WorkflowTaskScheduledRow) -> (&'r str, bool) {
    match task.sticky_task_queue.as_str() {
        "" => (&run.row.task_queue, false),
        sticky => (sticky, true),
    }
}

fn offer_of(run: &Run, task: &WorkflowTaskScheduledRow) -> Offer {
    let (queue, sticky) = offered_queue(run, task);
    Offer {
        slot: run.slot,
        kind: TaskKind::Workflow,
        task_queue: queue.to_owned(),
        sticky,
        normal_task_queue: if sticky { run.row.task_queue.clone() } else { String::new() },
        task: task_ref(&run.key, task),
        scheduled_at: ShardTime(task.scheduled_at),
        priority: run.row.priority.as_ref().map_or(0, |p| p.priority_key),
    }
}

fn task_ref(run: &RunKey, task: &WorkflowTaskScheduledRow) -> TaskRef {
    TaskRef {
        run: run.clone(),
        scheduled_event_id: EventId(task.scheduled_event_id),
        attempt: task.attempt,
        stamp: task.stamp,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// The task is on offer; its row exists.
    Offered,
    /// Scheduled by this command.
    Unoffered,
    /// Scheduled by this command, which is the run's start: the history has no size yet.
    Eager,
}

/// The scheduled task goes to a worker.
fn begin(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    request_id: &str,
    identity: &str,
    polled_queue: &str,
    how: Begin,
) -> Option<WorkflowTaskStart> {
    let Some(WorkflowTask::Scheduled(mut task)) = run.row.workflow_task.take() else { return None };
    let offered_as = task_ref(&run.key, &task);
    if !is_stored(&task) && task.scheduled_event_id != run.row.next_event_id {
        task.attempt = 1;
        task.speculative = false;
        run.row.workflow_task_attempt = 1;
        let EventId(id) = run.record(tx.now, scheduled_attributes(run, &task));
        task.scheduled_event_id = id;
    }
    let advice = if how == Begin::Eager { Advice::default() } else { advice(tx, run) };
    let request_id = if request_id.is_empty() { tx.ids.uuid() } else { request_id.to_owned() };
    let mut started = WorkflowTaskStartedRow {
        started_event_id: task.scheduled_event_id + 1,
        scheduled: Some(task),
        started_at: tx.now.0,
        request_id,
        identity: identity.to_owned(),
        suggest_continue_as_new: !advice.reasons.is_empty(),
        suggest_reasons: advice.reasons,
        history_size_bytes: advice.history_bytes,
    };
    let task = started.scheduled.clone().unwrap_or_default();
    if is_stored(&task) {
        let EventId(id) = run.record(tx.now, started_attributes(&started, identity));
        started.started_event_id = id;
    }
    let offer = offer_of(run, &task);
    let moved = offer.task != offered_as;
    if moved && how == Begin::Offered {
        pending::remove(tx, run.slot, TaskKind::Workflow, &offered_as, true);
    }
    updates::sent(run);
    let deadline = tx.now.plus(task.start_to_close_timeout);
    pending::started(tx, &offer, deadline, how == Begin::Offered && !moved);
    let start = describe_start(run, &started, polled_queue);
    run.row.workflow_task = Some(WorkflowTask::Started(started));
    Some(start)
}

/// What a started event tells a worker about the size of the history.
#[derive(Default)]
struct Advice {
    history_bytes: u64,
    reasons: Vec<i32>,
}

fn advice(tx: &Transaction<'_>, run: &Run) -> Advice {
    let mut reasons = Vec::new();
    if run.row.history_bytes >= tx.bounds.suggest_continue_as_new_bytes {
        reasons.push(SuggestContinueAsNewReason::HistorySizeTooLarge as i32);
    }
    if u64::try_from(run.row.next_event_id).unwrap_or(0) >= tx.bounds.suggest_continue_as_new_events {
        reasons.push(SuggestContinueAsNewReason::TooManyHistoryEvents as i32);
    }
    if updates::many(tx, run) {
        reasons.push(SuggestContinueAsNewReason::TooManyUpdates as i32);
    }
    Advice { history_bytes: run.row.history_bytes, reasons }
}

/// What the worker gets, except the stored history.
fn describe_start(run: &Run, started: &WorkflowTaskStartedRow, polled_queue: &str) -> WorkflowTaskStart {
    let task = started.scheduled.clone().unwrap_or_default();
    WorkflowTaskStart {
        run: run.key.clone(),
        token: WorkflowTaskToken {
            namespace_id: run.key.namespace_id.clone(),
            workflow_id: run.key.workflow_id.clone(),
            run_id: run.key.run_id.clone(),
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: started.started_event_id,
            attempt: task.attempt,
            stamp: task.stamp,
            ..Default::default()
        },
        workflow_type: Some(WorkflowType { name: run.row.workflow_type.clone() }),
        previous_started_event_id: EventId(run.row.previous_started_event_id),
        started_event_id: EventId(started.started_event_id),
        attempt: task.attempt,
        task_queue: run.row.task_queue.clone(),
        sticky: !task.sticky_task_queue.is_empty() && polled_queue == task.sticky_task_queue,
        next_event_id: run.next_event_id(),
        transient_events: transient_events(&run.row, &WorkflowTask::Started(started.clone()), &started.identity),
        scheduled_at: ShardTime(task.scheduled_at),
        started_at: ShardTime(started.started_at),
        messages: updates::outgoing(run, started.started_event_id - 1),
    }
}

/// The started task that the token names, or none. The task is taken out of the run.
pub(super) fn take_started(run: &mut Run, token: &WorkflowTaskToken) -> Option<WorkflowTaskStartedRow> {
    if !run.is_open() || !is_started(run, token) {
        return None;
    }
    match run.row.workflow_task.take() {
        Some(WorkflowTask::Started(started)) => Some(started),
        _ => None,
    }
}

fn is_started(run: &Run, token: &WorkflowTaskToken) -> bool {
    let Some(WorkflowTask::Started(started)) = &run.row.workflow_task else { return false };
    let Some(task) = &started.scheduled else { return false };
    (task.stamp, task.attempt, task.scheduled_event_id, started.started_event_id)
        == (token.stamp, token.attempt, token.scheduled_event_id, token.started_event_id)
}

/// Deletes the row of a task that was with a worker.
pub(super) fn remove_row(tx: &mut Transaction<'_>, run: &Run, task: &WorkflowTaskScheduledRow) {
    pending::remove(tx, run.slot, TaskKind::Workflow, &task_ref(&run.key, task), false);
}

/// The run has closed: its task is no longer on offer. It stays in the run's row, because describing the run shows it.
pub(super) fn run_closed(tx: &mut Transaction<'_>, run: &Run) {
    if let Some(task) = scheduled(run) {
        pending::remove(tx, run.slot, TaskKind::Workflow, &task_ref(&run.key, task), true);
    }
}

fn start_to_close_timeout(timeout: i64, attempt: i32) -> i64 {
    if attempt <= PLAIN_ATTEMPTS {
        return timeout;
    }
    let doublings = u32::try_from(attempt - PLAIN_ATTEMPTS - 1).unwrap_or(0).min(20);
    timeout.saturating_add((RETRY_INITIAL << doublings).min(RETRY_MAX))
}

/// A matcher has paired the task with a poller.
pub fn start(tx: &mut Transaction<'_>, command: &StartWorkflowTask) -> Outcome<Reply> {
    let Some(name) = &command.run else { return Ok(Reply::Stale) };
    let Some(mut run) = lookup::named(tx, &name.workflow_id, &name.run_id)? else { return Ok(Reply::Stale) };
    let unknown = Poller::default();
    let poller = command.poller.as_ref().unwrap_or(&unknown);
    let outcome = match &run.row.workflow_task {
        Some(WorkflowTask::Scheduled(task)) if run.is_open() && task.stamp == command.stamp => {
            let queue = &command.polled_task_queue;
            begin(tx, &mut run, &poller.request_id, &poller.identity, queue, Begin::Offered)
        }
        // The same poller again: the answer to its first request was lost on the way.
        Some(WorkflowTask::Started(started))
            if run.is_open()
                && started.scheduled.as_ref().is_some_and(|task| task.stamp == command.stamp)
                && !poller.request_id.is_empty()
                && started.request_id == poller.request_id =>
        {
            let start = describe_start(&run, started, &command.polled_task_queue);
            tx.release(run);
            return Ok(Reply::WorkflowTaskStarted(Box::new(start)));
        }
        _ => None,
    };
    let Some(start) = outcome else {
        tx.release(run);
        return Ok(Reply::Stale);
    };
    run.keep_speculative();
    tx.finish(run)?;
    Ok(Reply::WorkflowTaskStarted(Box::new(start)))
}

/// Back to the normal queue, from the next task on.
pub fn reset_sticky(tx: &mut Transaction<'_>, command: &ResetStickyTaskQueue) -> Outcome<Reply> {
    let name = command.run.clone().unwrap_or_default();
    let mut run = lookup::open_run(tx, &name.workflow_id, &name.run_id)?;
    if run.row.sticky.take().is_some() {
        tx.finish(run)?;
    } else {
        tx.release(run);
    }
    Ok(Reply::Done)
}
