//! What workers say of a standalone activity that they have: completed, failed, canceled, still at it.
//!
//! Never: an answer taken from an attempt that is not the current one.

use prost::Message;
use stanchion_proto::command::{
    ActivityRef, CancelActivityTask, CompleteActivityTask, FailActivityTask, HeartbeatActivityTask,
};
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::enums::v1::RetryState;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{CanceledFailureInfo, Failure};

use super::{Alone, Status, Value, not_found, precondition};
use crate::activity::{self, deadlines, failures, options};
use crate::reply::{Rejection, Reply};
use crate::retry::Next;
use crate::state::StateResult;
use crate::transaction::{Outcome, Transaction};
use crate::validate::fields::payloads_bytes;

/// CompleteActivityTask.
pub fn complete(tx: &mut Transaction<'_>, command: &CompleteActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("CompleteActivityTask carries no request.").into());
    };
    // By id an activity may be completed that no worker has: somebody else did the work.
    let mut alone = find(tx, command.activity.as_ref(), true)?;
    if payloads_bytes(request.result.as_ref()) > tx.bounds.payload_bytes_max {
        return end_oversized(tx, alone, "Complete result exceeds size limit.");
    }
    if alone.activity.started_at == 0 {
        alone.row.last_started_at = tx.now.0;
        alone.activity.worker_identity.clone_from(&request.identity);
    }
    alone.activity.last_attempt_completed_at = tx.now.0;
    alone.close(
        tx,
        Status::Completed,
        Value::Result(request.result.clone().unwrap_or_default()),
        RetryState::Unspecified,
    )?;
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// FailActivityTask: another attempt if the policy has one left.
pub fn fail(tx: &mut Transaction<'_>, command: &FailActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("FailActivityTask carries no request.").into());
    };
    let mut alone = find(tx, command.activity.as_ref(), false)?;
    let limit = tx.bounds.payload_bytes_max;
    let mut failure = request.failure.clone().unwrap_or_default();
    if payloads_bytes(request.last_heartbeat_details.as_ref()) > limit {
        failure = failures::oversized("Heartbeat details exceed size limit.");
    } else {
        if let Some(details) = &request.last_heartbeat_details {
            beat(tx, &mut alone, Some(details));
        }
        if failure.encoded_len() > limit {
            failure = failures::oversized_failure(&failure);
        }
    }
    attempt_failed(tx, &mut alone, failure, Status::Failed)?;
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// The attempt is over without success: another one, or the end under this status.
pub(super) fn attempt_failed(
    tx: &mut Transaction<'_>,
    alone: &mut Alone,
    failure: Failure,
    status: Status,
) -> StateResult<()> {
    if alone.activity.reset_requested {
        return begin_anew(tx, alone, failure);
    }
    let next = if alone.row.cancel_requested {
        Next::Stop(RetryState::CancelRequested)
    } else {
        activity::next_attempt(&alone.activity, Some(&failure), tx.now)
    };
    match next {
        Next::After(delay) => {
            let failure = without_details(failure);
            let stamp = alone.next_stamp();
            let (place, row) = alone.parts();
            activity::retry_after(tx, &place, row, stamp, delay, Some(failure));
            Ok(())
        }
        Next::Stop(state) => {
            alone.activity.last_attempt_completed_at = tx.now.0;
            if status == Status::TimedOut && state == RetryState::Timeout {
                alone.activity.last_failure = Some(failures::kept(failure));
                return alone.close(tx, status, Value::Failure(unsourced(failures::no_time_left())), state);
            }
            alone.row.failed_for_good = true;
            alone.close(tx, status, Value::Failure(failure), state)
        }
    }
}

/// What a time-out says of heartbeats stands in the outcome alone: the next attempt has the details themselves.
fn without_details(mut failure: Failure) -> Failure {
    if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info {
        info.last_heartbeat_details = None;
    }
    failure
}

/// It was reset while the worker had it: whatever became of that attempt, the first one comes again.
fn begin_anew(tx: &mut Transaction<'_>, alone: &mut Alone, failure: Failure) -> StateResult<()> {
    let original = if std::mem::take(&mut alone.row.reset_restores) { alone.detail(tx)?.original } else { None };
    let stamp = alone.next_stamp();
    let (place, row) = alone.parts();
    if let Some(original) = &original {
        deadlines::clear(tx, &place, row);
        row.heartbeat_timer_at = 0;
        options::put(row, original);
        deadlines::resume(tx, &place, row);
    }
    row.attempt = 0;
    activity::retry_after(tx, &place, row, stamp, 0, Some(failure));
    Ok(())
}

/// Failures of standalone activities do not say that the server made them.
pub(super) fn unsourced(mut failure: Failure) -> Failure {
    failure.source.clear();
    failure
}

/// CancelActivityTask: the worker has ended the activity because its cancellation was asked for.
pub fn cancel(tx: &mut Transaction<'_>, command: &CancelActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("CancelActivityTask carries no request.").into());
    };
    let mut alone = find(tx, command.activity.as_ref(), false)?;
    if payloads_bytes(request.details.as_ref()) > tx.bounds.payload_bytes_max {
        return end_oversized(tx, alone, "Cancel details exceed size limit.");
    }
    if !alone.row.cancel_requested {
        return Err(Rejection::invalid(
            "unable to mark activity as canceled without activity being request canceled first",
        )
        .into());
    }
    let failure = canceled(request.details.clone(), &alone.row.cancel_identity);
    alone.close(tx, Status::Canceled, Value::Failure(failure), RetryState::Unspecified)?;
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// HeartbeatActivityTask: keeps the attempt alive and its details for the next one, and tells the worker what was asked of it.
pub fn heartbeat(tx: &mut Transaction<'_>, command: &HeartbeatActivityTask) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("HeartbeatActivityTask carries no request.").into());
    };
    let mut alone = find(tx, command.activity.as_ref(), false)?;
    if payloads_bytes(request.details.as_ref()) > tx.bounds.payload_bytes_max {
        end_oversized(tx, alone, "Heartbeat details exceed size limit.")?;
        // The attempt is over; this is how its worker hears of it.
        return Ok(Reply::Heartbeat { cancel_requested: true, paused: false, reset: false });
    }
    beat(tx, &mut alone, request.details.as_ref());
    let cancel_requested = alone.row.cancel_requested;
    let told = Reply::Heartbeat {
        cancel_requested,
        paused: !cancel_requested && alone.activity.pause.is_some(),
        reset: alone.activity.reset_requested,
    };
    alone.save(tx)?;
    Ok(told)
}

fn beat(tx: &Transaction<'_>, alone: &mut Alone, details: Option<&Payloads>) {
    alone.activity.last_heartbeat_at = tx.now.0;
    alone.activity.heartbeat_details = details.cloned();
    alone.row.heartbeats += 1;
}

/// The worker sent too much: it would only send it again.
fn end_oversized(tx: &mut Transaction<'_>, mut alone: Alone, message: &str) -> Outcome<Reply> {
    alone.activity.last_attempt_completed_at = tx.now.0;
    alone.row.failed_for_good = true;
    alone.close(tx, Status::Failed, Value::Failure(failures::oversized(message)), RetryState::NonRetryableFailure)?;
    alone.save(tx)?;
    Ok(Reply::Done)
}

/// The outcome of a canceled activity. `identity`: whoever asked for it.
pub(super) fn canceled(details: Option<Payloads>, identity: &str) -> Failure {
    Failure {
        message: "Activity canceled".into(),
        failure_info: Some(FailureInfo::CanceledFailureInfo(CanceledFailureInfo {
            details,
            identity: identity.to_owned(),
        })),
        ..Default::default()
    }
}

/// The activity that the worker means. `unstarted`: by id, one that no worker has is meant too.
fn find(tx: &Transaction<'_>, name: Option<&ActivityRef>, unstarted: bool) -> Outcome<Alone> {
    let none = ActivityRef::default();
    let name = name.unwrap_or(&none);
    let run = name.run.clone().unwrap_or_default();
    let alone = Alone::find(tx, &run.workflow_id, &run.run_id)?;
    let row = &alone.activity;
    let by_token = name.stamp != 0;
    if !alone.is_open() && !by_token && unstarted {
        return Err(precondition(format!("invalid transition from {}", alone.state_name())).into());
    }
    let is_meant = alone.is_open()
        && if by_token {
            row.started_at != 0 && row.stamp == name.stamp && row.attempt == name.attempt
        } else {
            row.started_at != 0 || unstarted
        };
    if is_meant { Ok(alone) } else { Err(not_found(&run.workflow_id).into()) }
}
