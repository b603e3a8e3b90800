//! A standalone activity's time has come: a time-out, the end of a back-off or of its delayed start, the end of its retention.
//!
//! Never: a time-out early, or of an attempt other than the one that its row guards.

use stanchion_proto::row::{TimerQueueRow, timer_queue_row::Kind};
use stanchion_proto::temporal::enums::v1::{RetryState, TimeoutType};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;

use super::{Alone, Status, Value, answers};
use crate::activity::{deadlines, failures};
use crate::transaction::{Outcome, Transaction};
use crate::types::{RunKey, ShardTime};

/// Whether a row of the timer queue is about a standalone activity.
pub fn is_timer(kind: Kind) -> bool {
    matches!(kind, Kind::StandaloneTimeout | Kind::StandaloneRetry | Kind::StandaloneRetention)
}

/// A row of the timer queue is due.
pub fn fire(tx: &mut Transaction<'_>, row: &TimerQueueRow) -> Outcome<()> {
    let key = RunKey {
        namespace_id: row.namespace_id.clone(),
        workflow_id: row.workflow_id.clone(),
        run_id: row.run_id.clone(),
    };
    // The command is about many runs, and names no namespace.
    let Some(alone) = Alone::load(tx, key)? else { return Ok(()) };
    match row.kind() {
        Kind::StandaloneRetention if !alone.is_open() && alone.kept_until() <= tx.now => alone.erase(tx)?,
        Kind::StandaloneTimeout if alone.is_open() => time_out(tx, alone, row)?,
        Kind::StandaloneRetry if alone.is_open() => offer(tx, alone, row),
        _ => {}
    }
    Ok(())
}

fn time_out(tx: &mut Transaction<'_>, mut alone: Alone, row: &TimerQueueRow) -> Outcome<()> {
    let kind = TimeoutType::try_from(row.timeout_type).unwrap_or_default();
    if kind != TimeoutType::ScheduleToClose && alone.activity.stamp != row.guard {
        return Ok(());
    }
    if kind == TimeoutType::Heartbeat && deadlines::heartbeat(&alone.activity).is_some_and(|at| at > tx.now) {
        // A heartbeat has come since the row was set.
        let (place, activity) = alone.parts();
        deadlines::beating(tx, &place, activity);
        alone.keep(tx);
        return Ok(());
    }
    if !deadlines::is_due(&alone.activity, kind, tx.now) {
        return Ok(());
    }
    let kind = deadlines::named(&alone.activity, kind);
    let mut failure = answers::unsourced(failures::timeout(kind));
    match kind {
        TimeoutType::StartToClose | TimeoutType::Heartbeat => {
            if kind == TimeoutType::Heartbeat
                && let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info
            {
                info.last_heartbeat_details.clone_from(&alone.activity.heartbeat_details);
            }
            failure.cause = alone.activity.last_failure.clone().map(Box::new);
            answers::attempt_failed(tx, &mut alone, failure, Status::TimedOut)?;
        }
        TimeoutType::Unspecified | TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose => {
            failure.cause = alone.activity.last_failure.clone().map(Box::new);
            alone.close(tx, Status::TimedOut, Value::Failure(failure), RetryState::Timeout)?;
        }
    }
    alone.save(tx)?;
    Ok(())
}

fn offer(tx: &mut Transaction<'_>, mut alone: Alone, row: &TimerQueueRow) {
    let activity = &alone.activity;
    let is_meant =
        activity.backing_off && activity.stamp == row.guard && ShardTime(activity.attempt_scheduled_at) <= tx.now;
    if !is_meant {
        return;
    }
    let (place, activity) = alone.parts();
    activity.backing_off = false;
    deadlines::offered(tx, &place, activity);
    place.offer(tx, activity);
    alone.keep(tx);
}
