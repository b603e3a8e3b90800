//! An activity's time has come: one of its four time-outs, or the end of a back-off.
//!
//! Never: a time-out early, or of an attempt other than the one that its row guards.

use stanchion_proto::row::{ActivityRow, TimerQueueRow};
use stanchion_proto::temporal::enums::v1::{RetryState, TimeoutType};
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::history::v1::ActivityTaskTimedOutEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::answers::{next_attempt, retry_after};
use super::{offer, receive_started, take};
use crate::activity::{deadlines, failures};
use crate::retry::Next;
use crate::run::{Run, workflow_task};
use crate::state::StateResult;
use crate::transaction::Transaction;
use crate::types::ShardTime;

/// A time-out's row is due. The run is open. Returns false if it changed nothing.
pub fn fire_timeout(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerQueueRow) -> StateResult<bool> {
    let id = row.event_id;
    let Some(activity) = run.activities.get(&id) else { return Ok(false) };
    let kind = TimeoutType::try_from(row.timeout_type).unwrap_or_default();
    if kind != TimeoutType::ScheduleToClose && activity.stamp != row.guard {
        return Ok(false);
    }
    if kind == TimeoutType::Heartbeat && deadlines::heartbeat(activity).is_some_and(|at| at > tx.now) {
        // A heartbeat has come since the row was set.
        if let Some(activity) = run.activities.remove(&id) {
            let mut activity = activity;
            deadlines::beating(tx, &run.place(id), &mut activity);
            run.activities.insert(id, activity);
        }
        return Ok(true);
    }
    if !deadlines::is_due(activity, kind, tx.now) {
        return Ok(false);
    }
    let kind = deadlines::named(activity, kind);
    let failure = failures::timeout(kind);
    let next = match kind {
        TimeoutType::StartToClose | TimeoutType::Heartbeat => next_attempt(tx, run, id, Some(&failure)),
        TimeoutType::ScheduleToClose if activity.cancel_requested_event_id != 0 => {
            Next::Stop(RetryState::CancelRequested)
        }
        _ => Next::Stop(RetryState::Timeout),
    };
    match next {
        Next::After(delay) => retry_after(tx, run, id, delay, Some(failure)),
        Next::Stop(state) => {
            let out_of_time = state == RetryState::Timeout && kind != TimeoutType::ScheduleToStart;
            close_timed_out(tx, run, id, if out_of_time { failures::no_time_left() } else { failure }, state);
            workflow_task::schedule_if_none(tx, run);
        }
    }
    Ok(true)
}

/// A retry's back-off has passed. The run is open. Returns false if it changed nothing.
pub fn fire_retry(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerQueueRow) -> StateResult<bool> {
    let id = row.event_id;
    let is_meant = |activity: &ActivityRow| {
        activity.backing_off && activity.stamp == row.guard && ShardTime(activity.attempt_scheduled_at) <= tx.now
    };
    if !run.activities.get(&id).is_some_and(is_meant) {
        return Ok(false);
    }
    if let Some(activity) = run.activities.get_mut(&id) {
        activity.backing_off = false;
    }
    if let Some(activity) = run.activities.get(&id) {
        deadlines::offered(tx, &run.place(id), activity);
    }
    offer(tx, run, id);
    Ok(true)
}

fn close_timed_out(tx: &mut Transaction<'_>, run: &mut Run, id: i64, mut failure: Failure, state: RetryState) {
    let Some(mut row) = take(tx, run, id, true) else { return };
    failure.cause = row.last_failure.clone().map(Box::new);
    if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info {
        info.last_heartbeat_details = row.heartbeat_details.take();
    }
    if row.started_at != 0 {
        receive_started(run, id, &mut row);
    }
    let event = ActivityTaskTimedOutEventAttributes {
        failure: Some(failure),
        scheduled_event_id: id,
        retry_state: state as i32,
        ..Default::default()
    };
    run.receive(tx.now, Attributes::ActivityTaskTimedOutEventAttributes(event));
}
