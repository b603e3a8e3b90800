//! What workers say of an activity that they have: completed, failed, canceled, still at it. By token, or by the activity's id.
//!
//! Never: an answer taken from an attempt that is not the current one; a change before all of the answer is checked.

use prost::Message;
use stanchion_proto::command::{
    ActivityRef, CancelActivityTask, CompleteActivityTask, FailActivityTask, HeartbeatActivityTask,
};
use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::enums::v1::RetryState;
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    ActivityTaskCanceledEventAttributes, ActivityTaskCompletedEventAttributes, ActivityTaskFailedEventAttributes,
};

use super::{by_activity_id, receive_started, take};
use crate::activity::{self, failures};
use crate::lookup;
use crate::mutant;
use crate::reply::{Rejection, Reply};
use crate::retry::Next;
use crate::run::{Run, workflow_task};
use crate::transaction::{Outcome, Transaction};
use crate::validate::fields::payloads_bytes;

/// CompleteActivityTask.
pub fn complete(tx: &mut Transaction<'_>, command: &CompleteActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("CompleteActivityTask carries no request.").into());
    };
    // By id an activity may be completed that no worker has: somebody else did the work.
    let (mut run, id) = find(tx, command.activity.as_ref(), true)?;
    if payloads_bytes(request.result.as_ref()) > tx.bounds.payload_bytes_max {
        close_failed(
            tx,
            &mut run,
            id,
            Some(failures::oversized("Complete result exceeds size limit.")),
            &request.identity,
            RetryState::NonRetryableFailure,
        );
    } else if let Some(mut row) = take_completed(tx, &mut run, id) {
        if row.started_at == 0 {
            row.started_at = tx.now.0;
            row.worker_identity.clone_from(&request.identity);
            row.started_request_id.clear();
        }
        receive_started(&mut run, id, &mut row);
        let event = ActivityTaskCompletedEventAttributes {
            result: request.result.clone(),
            scheduled_event_id: id,
            identity: request.identity.clone(),
            ..Default::default()
        };
        run.receive(tx.now, Attributes::ActivityTaskCompletedEventAttributes(event));
    }
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Done)
}

/// FailActivityTask: another attempt if the policy has one left.
pub fn fail(tx: &mut Transaction<'_>, command: &FailActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("FailActivityTask carries no request.").into());
    };
    let (mut run, id) = find(tx, command.activity.as_ref(), false)?;
    let limit = tx.bounds.payload_bytes_max;
    let mut failure = request.failure.clone();
    if payloads_bytes(request.last_heartbeat_details.as_ref()) > limit {
        failure = Some(failures::oversized("Heartbeat details exceed size limit."));
    } else {
        if let Some(details) = &request.last_heartbeat_details
            && let Some(row) = run.activities.get_mut(&id)
        {
            row.heartbeat_details = Some(details.clone());
        }
        if let Some(own) = failure.as_ref().filter(|own| own.encoded_len() > limit) {
            failure = Some(failures::oversized_failure(own));
        }
    }
    match next_attempt(tx, &run, id, failure.as_ref()) {
        Next::After(delay) => retry_after(tx, &mut run, id, delay, failure),
        Next::Stop(state) => {
            close_failed(tx, &mut run, id, failure, &request.identity, state);
            workflow_task::schedule_if_none(tx, &mut run);
        }
    }
    tx.finish(run)?;
    Ok(Reply::Done)
}

/// CancelActivityTask: the worker has ended the activity because the workflow asked for it.
pub fn cancel(tx: &mut Transaction<'_>, command: &CancelActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("CancelActivityTask carries no request.").into());
    };
    let (mut run, id) = find(tx, command.activity.as_ref(), false)?;
    let requested = run.activities.get(&id).map_or(0, |row| row.cancel_requested_event_id);
    if payloads_bytes(request.details.as_ref()) > tx.bounds.payload_bytes_max {
        close_failed(
            tx,
            &mut run,
            id,
            Some(failures::oversized("Cancel details exceed size limit.")),
            &request.identity,
            RetryState::NonRetryableFailure,
        );
    } else if requested == 0 {
        tx.release(run);
        return Err(Rejection::invalid(
            "unable to mark activity as canceled without activity being request canceled first",
        )
        .into());
    } else if let Some(mut row) = take(tx, &mut run, id, true) {
        receive_started(&mut run, id, &mut row);
        let event = ActivityTaskCanceledEventAttributes {
            details: request.details.clone(),
            latest_cancel_requested_event_id: requested,
            scheduled_event_id: id,
            identity: request.identity.clone(),
            ..Default::default()
        };
        run.receive(tx.now, Attributes::ActivityTaskCanceledEventAttributes(event));
    }
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Done)
}

/// HeartbeatActivityTask: keeps the attempt alive and its details for the next one, and tells the worker of a cancellation.
pub fn heartbeat(tx: &mut Transaction<'_>, command: &HeartbeatActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("HeartbeatActivityTask carries no request.").into());
    };
    let (mut run, id) = find(tx, command.activity.as_ref(), false)?;
    if payloads_bytes(request.details.as_ref()) > tx.bounds.payload_bytes_max {
        close_failed(
            tx,
            &mut run,
            id,
            Some(failures::oversized("Heartbeat details exceed size limit.")),
            &request.identity,
            RetryState::NonRetryableFailure,
        );
        workflow_task::schedule_if_none(tx, &mut run);
        tx.finish(run)?;
        // The attempt is over; this is how its worker hears of it.
        return Ok(Reply::Heartbeat { cancel_requested: true, paused: false, reset: false });
    }
    let now = tx.now.0;
    let told = run.activities.get_mut(&id).map_or(Reply::Stale, |row| {
        row.last_heartbeat_at = now;
        row.heartbeat_details.clone_from(&request.details);
        Reply::Heartbeat {
            cancel_requested: row.cancel_requested_event_id != 0,
            paused: row.pause.is_some(),
            reset: row.reset_requested,
        }
    });
    tx.finish(run)?;
    Ok(told)
}

/// Takes the activity out of the run for its result.
fn take_completed(tx: &mut Transaction<'_>, run: &mut Run, id: i64) -> Option<ActivityRow> {
    if mutant!(RedeliverCompletedActivity) && run.workflow_task_started() {
        return run.activities.get(&id).cloned();
    }
    take(tx, run, id, true)
}

/// The open run and the activity that the worker means. `unstarted`: by id, an activity that no worker has is meant too.
fn find(tx: &mut Transaction<'_>, name: Option<&ActivityRef>, unstarted: bool) -> Outcome<(Box<Run>, i64)> {
    let none = ActivityRef::default();
    let name = name.unwrap_or(&none);
    let by_token = name.scheduled_event_id != 0;
    let run_name = name.run.clone().unwrap_or_default();
    if run_name.workflow_id.is_empty() && !by_token {
        return Err(Rejection::not_found(format!("activity not found for ID: {}", name.activity_id)).into());
    }
    let run = lookup::open_run(tx, &run_name.workflow_id, &run_name.run_id)?;
    let id = if by_token { Some(name.scheduled_event_id) } else { by_activity_id(&run, &name.activity_id) };
    let row = id.and_then(|id| run.activities.get(&id).map(|row| (id, row)));
    match row {
        Some((id, row)) if is_meant(row, name, by_token, unstarted) => Ok((run, id)),
        None if !by_token => {
            tx.release(run);
            Err(Rejection::not_found(format!(
                "cannot find pending activity with ActivityID {}, check workflow execution history for more details",
                name.activity_id
            ))
            .into())
        }
        _ => {
            tx.release(run);
            Err(Rejection::not_found(
                "invalid activityID or activity already timed out or invoking workflow is completed",
            )
            .into())
        }
    }
}

fn is_meant(row: &ActivityRow, name: &ActivityRef, by_token: bool, unstarted: bool) -> bool {
    if by_token {
        let current = row.attempt == name.attempt && row.stamp == name.stamp;
        return row.started_at != 0 && (current || mutant!(SkipFence));
    }
    row.started_at != 0 || unstarted
}

/// What comes after an attempt that failed now.
pub(super) fn next_attempt(tx: &Transaction<'_>, run: &Run, id: i64, failure: Option<&Failure>) -> Next {
    let Some(row) = run.activities.get(&id) else { return Next::Stop(RetryState::InternalServerError) };
    if row.cancel_requested_event_id != 0 {
        return Next::Stop(RetryState::CancelRequested);
    }
    activity::next_attempt(row, failure, tx.now)
}

/// The attempt is over; the next one waits for its back-off, then for a worker.
pub(super) fn retry_after(tx: &mut Transaction<'_>, run: &mut Run, id: i64, delay: i64, failure: Option<Failure>) {
    let stamp = run.next_stamp();
    let Some(mut row) = run.activities.remove(&id) else { return };
    activity::retry_after(tx, &run.place(id), &mut row, stamp, delay, failure);
    run.activities.insert(id, row);
}

/// The activity has failed for good.
fn close_failed(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    id: i64,
    failure: Option<Failure>,
    identity: &str,
    state: RetryState,
) {
    let Some(mut row) = take(tx, run, id, true) else { return };
    receive_started(run, id, &mut row);
    let event = ActivityTaskFailedEventAttributes {
        failure,
        scheduled_event_id: id,
        identity: identity.to_owned(),
        retry_state: state as i32,
        ..Default::default()
    };
    run.receive(tx.now, Attributes::ActivityTaskFailedEventAttributes(event));
}
