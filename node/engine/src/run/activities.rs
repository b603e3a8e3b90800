//! Activities of a run: scheduled by a command, offered, with a worker, closed; retried in between without a trace in the history.
//!
//! ```text
//!  schedule --> waits --start--> with a worker --completed, failed for good, timed out, canceled--> closed (row gone)
//!                 ^                  |
//!                 |                  | failed or timed out, and the policy allows another attempt
//!                 +--- backs off <---+      (attempt + 1, new stamp)
//! ```
//!
//! The started event is written when the activity closes, under the time at which the last attempt began, as the real server does.
//! Every attempt has a stamp; an offer, a token or a timer with another one does nothing.
//!
//! Never: two attempts with a worker at once; a second result; a retry earlier than the policy says; a row on offer while a worker has
//! the activity.

pub mod answers;
pub mod attempt;
mod control;
mod give_back;
mod timeouts;

pub use answers::{cancel, complete, fail, heartbeat};
pub use attempt::start;
pub use control::control;
pub use give_back::give_back;
pub use timeouts::{fire_retry, fire_timeout};

use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::command::v1::{
    RequestCancelActivityTaskCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{Payload, Payloads, Priority};
use stanchion_proto::temporal::enums::v1::{TaskQueueKind, WorkflowTaskFailedCause};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    ActivityTaskCancelRequestedEventAttributes, ActivityTaskCanceledEventAttributes,
    ActivityTaskScheduledEventAttributes, ActivityTaskStartedEventAttributes,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use super::completion::{CommandFailure, Completion};
use super::{Extra, Run};
use crate::activity::{Place, Worker, deadlines, is_waiting};
use crate::effects::TaskStart;
use crate::state::StateResult;
use crate::time::duration;
use crate::transaction::Transaction;
use crate::types::{EventId, ShardTime};
use crate::validate;

/// ScheduleActivityTask. Where it goes is decided by [`dispatch`], when all commands are applied.
pub fn schedule(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&ScheduleActivityTaskCommandAttributes>,
) -> Result<(), CommandFailure> {
    let plan = validate::activity::schedule(attributes, run.row.run_timeout, tx.bounds.payload_bytes_max)?;
    let pending = run.activities.len();
    if pending >= tx.bounds.pending_activities_max {
        let limit = tx.bounds.pending_activities_max;
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::PendingActivitiesLimitExceeded,
            format!("the number of pending activities, {pending}, has reached the per-workflow limit of {limit}"),
        ));
    }
    if by_activity_id(run, plan.activity_id).is_some() {
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::ScheduleActivityDuplicateId,
            format!(
                "invalid history builder state for action: add-activitytask-scheduled-event, ActivityID: {}",
                plan.activity_id
            ),
        ));
    }
    // The plan exists, so the attributes do.
    let Some(attributes) = attributes else { return Ok(()) };
    #[allow(deprecated)]
    let event = ActivityTaskScheduledEventAttributes {
        activity_id: plan.activity_id.to_owned(),
        activity_type: attributes.activity_type.clone(),
        task_queue: Some(TaskQueue {
            name: plan.task_queue.to_owned(),
            kind: TaskQueueKind::Normal as i32,
            ..Default::default()
        }),
        header: attributes.header.clone(),
        input: attributes.input.clone(),
        schedule_to_close_timeout: Some(duration(plan.schedule_to_close_timeout)),
        schedule_to_start_timeout: Some(duration(plan.schedule_to_start_timeout)),
        start_to_close_timeout: Some(duration(plan.start_to_close_timeout)),
        heartbeat_timeout: Some(duration(plan.heartbeat_timeout)),
        workflow_task_completed_event_id: completion.completed_event_id.0,
        retry_policy: Some(plan.retry_policy.clone()),
        use_workflow_build_id: attributes.use_workflow_build_id,
        priority: attributes.priority.clone(),
    };
    let user_metadata = extra.user_metadata.clone();
    let EventId(id) = run.record_with(tx.now, Attributes::ActivityTaskScheduledEventAttributes(event), extra);
    let row = ActivityRow {
        activity_id: plan.activity_id.to_owned(),
        activity_type: attributes.activity_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        task_queue: plan.task_queue.to_owned(),
        scheduled_batch_event_id: run.batch_first,
        scheduled_at: tx.now.0,
        schedule_to_close_timeout: plan.schedule_to_close_timeout,
        schedule_to_start_timeout: plan.schedule_to_start_timeout,
        start_to_close_timeout: plan.start_to_close_timeout,
        heartbeat_timeout: plan.heartbeat_timeout,
        retry_policy: Some(plan.retry_policy),
        priority: merged(run.row.priority.as_ref(), attributes.priority.as_ref()),
        attempt: 1,
        stamp: run.next_stamp(),
        attempt_scheduled_at: tx.now.0,
        user_metadata,
        ..Default::default()
    };
    deadlines::scheduled(tx, &run.place(id), &row);
    run.activities.insert(id, row);
    completion.scheduled_activities.push((id, attributes.request_eager_execution));
    Ok(())
}

/// RequestCancelActivityTask. A worker that has the activity hears of it with its next heartbeat; an activity that no worker has is
/// canceled at once.
pub fn request_cancel(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&RequestCancelActivityTaskCommandAttributes>,
) -> Result<(), CommandFailure> {
    let id = validate::activity::request_cancel(attributes)?;
    let row = run.activities.get(&id);
    // A result that waits for its id was not seen by the workflow, which may well ask for a cancellation still.
    let possible = match row {
        Some(row) => row.cancel_requested_event_id == 0,
        None => has_buffered_result(run, id),
    };
    if !possible {
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::BadRequestCancelActivityAttributes,
            format!(
                "invalid history builder state for action: add-activitytask-cancel-requested-event, ScheduledEventID: {id}"
            ),
        ));
    }
    let is_started = row.is_some_and(|row| row.started_at != 0);
    let exists = row.is_some();
    let event = ActivityTaskCancelRequestedEventAttributes {
        scheduled_event_id: id,
        workflow_task_completed_event_id: completion.completed_event_id.0,
    };
    let EventId(requested) =
        run.record_with(tx.now, Attributes::ActivityTaskCancelRequestedEventAttributes(event), extra);
    if is_started {
        if let Some(row) = run.activities.get_mut(&id) {
            row.cancel_requested_event_id = requested;
        }
        return Ok(());
    }
    if !exists {
        return Ok(());
    }
    let undispatched = completion.scheduled_activities.iter().any(|(scheduled, _)| *scheduled == id);
    take(tx, run, id, !undispatched);
    let event = ActivityTaskCanceledEventAttributes {
        details: Some(not_started_details()),
        latest_cancel_requested_event_id: requested,
        scheduled_event_id: id,
        identity: completion.identity.to_owned(),
        ..Default::default()
    };
    run.receive(tx.now, Attributes::ActivityTaskCanceledEventAttributes(event));
    completion.needs_workflow_task = true;
    Ok(())
}

/// All commands of the completion are applied and the run is still open: what they scheduled is started for the worker that completes
/// (where it asked for that), handed to pollers that are held for it, or offered to matchers.
pub fn dispatch(tx: &mut Transaction<'_>, run: &mut Run, completion: &mut Completion<'_>) -> StateResult<()> {
    for (id, eager) in std::mem::take(&mut completion.scheduled_activities) {
        // A later command has canceled it.
        let Some(row) = run.activities.get(&id) else { continue };
        if eager {
            let request_id = tx.ids.uuid();
            let worker = Worker { identity: completion.identity, request_id: &request_id };
            let event = attempt::scheduled_event(tx, run, id)?;
            completion.eager_activities.extend(attempt::begin(tx, run, id, &worker, event));
            continue;
        }
        let Some(reservation) = tx.take_reservation(&row.task_queue, true) else {
            offer(tx, run, id);
            continue;
        };
        let made;
        let poller = reservation.poller.as_ref();
        let request_id = match poller.map(|p| p.request_id.as_str()) {
            Some(given) if !given.is_empty() => given,
            _ => {
                made = tx.ids.uuid();
                &made
            }
        };
        let worker = Worker { identity: poller.map_or("", |p| &p.identity), request_id };
        let event = attempt::scheduled_event(tx, run, id)?;
        if let Some(task) = attempt::begin(tx, run, id, &worker, event) {
            tx.hand_over(reservation, TaskStart::Activity(Box::new(task)));
        }
    }
    Ok(())
}

/// The run has closed: nothing of it is on offer or due any more. The rows stay, because describing the run shows them.
pub fn run_closed(tx: &mut Transaction<'_>, run: &mut Run) {
    let ids: Vec<i64> = run.activities.keys().copied().collect();
    for id in ids {
        let Some(row) = run.activities.get(&id) else { continue };
        let place = run.place(id);
        deadlines::clear(tx, &place, row);
        if is_waiting(row) {
            place.withdraw(tx, row);
        }
    }
}

/// All pending activities of a run that a reset has made are scheduled as of now: they get their timers and are offered.
pub fn arm(tx: &mut Transaction<'_>, run: &mut Run) {
    let ids: Vec<i64> = run.activities.keys().copied().collect();
    for id in ids {
        if let Some(row) = run.activities.get_mut(&id) {
            row.scheduled_at = tx.now.0;
            row.attempt_scheduled_at = tx.now.0;
        }
        if let Some(row) = run.activities.get(&id) {
            deadlines::scheduled(tx, &run.place(id), row);
            offer(tx, run, id);
        }
    }
}

/// The pending activity with this id, by its scheduled event.
fn by_activity_id(run: &Run, activity_id: &str) -> Option<i64> {
    run.activities.iter().find(|(_, row)| row.activity_id == activity_id).map(|(id, _)| *id)
}

/// Puts the attempt on offer.
fn offer(tx: &mut Transaction<'_>, run: &Run, id: i64) {
    if let Some(row) = run.activities.get(&id) {
        run.place(id).offer(tx, row);
    }
}

impl Run {
    /// Where its activity with this scheduled event lives.
    pub(super) fn place(&self, id: i64) -> Place<'_> {
        Place { slot: self.slot, key: &self.key, id }
    }
}

/// Takes the activity out of the run with all that is on offer or due of it. `dispatched`: it may be on offer.
fn take(tx: &mut Transaction<'_>, run: &mut Run, id: i64, dispatched: bool) -> Option<ActivityRow> {
    let row = run.activities.remove(&id)?;
    let place = run.place(id);
    deadlines::clear(tx, &place, &row);
    if dispatched && is_waiting(&row) {
        place.withdraw(tx, &row);
    }
    Some(row)
}

/// The started event of the last attempt, which goes in front of the result.
fn receive_started(run: &mut Run, id: i64, row: &mut ActivityRow) {
    let event = ActivityTaskStartedEventAttributes {
        scheduled_event_id: id,
        identity: std::mem::take(&mut row.worker_identity),
        request_id: std::mem::take(&mut row.started_request_id),
        attempt: row.attempt,
        last_failure: row.last_failure.take(),
        ..Default::default()
    };
    run.receive(ShardTime(row.started_at), Attributes::ActivityTaskStartedEventAttributes(event));
}

fn has_buffered_result(run: &Run, id: i64) -> bool {
    run.buffered().iter().any(|event| match &event.attributes {
        Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => a.scheduled_event_id == id,
        Some(Attributes::ActivityTaskFailedEventAttributes(a)) => a.scheduled_event_id == id,
        Some(Attributes::ActivityTaskTimedOutEventAttributes(a)) => a.scheduled_event_id == id,
        Some(Attributes::ActivityTaskCanceledEventAttributes(a)) => a.scheduled_event_id == id,
        _ => false,
    })
}

/// What the canceled event of an activity that nobody had started says.
fn not_started_details() -> Payloads {
    let metadata = [("encoding".to_owned(), "json/plain".into())].into();
    let data = bytes::Bytes::from_static(b"\"ACTIVITY_ID_NOT_STARTED\"");
    Payloads { payloads: vec![Payload { metadata, data, ..Default::default() }] }
}

/// The run's priority with what the activity sets of its own.
pub(super) fn merged(run: Option<&Priority>, own: Option<&Priority>) -> Option<Priority> {
    let Some(own) = own else { return run.cloned() };
    let mut merged = run.cloned().unwrap_or_default();
    if own.priority_key != 0 {
        merged.priority_key = own.priority_key;
    }
    if !own.fairness_key.is_empty() {
        merged.fairness_key.clone_from(&own.fairness_key);
    }
    if own.fairness_weight != 0.0 {
        merged.fairness_weight = own.fairness_weight;
    }
    Some(merged)
}
