//! Which rows of the timer queue belong to an activity. They follow from its row alone, so that whoever clears them finds exactly those
//! that were set.
//!
//! An attempt's time-out that cannot come before schedule-to-close has no row: the latter ends the activity first.
//! Heartbeats set no timers: the row that stands is looked at when it is due, and set anew if a heartbeat has come since.

use stanchion_proto::row::{ActivityRow, TimerQueueRow, timer_queue_row::Kind};
use stanchion_proto::temporal::enums::v1::TimeoutType;

use super::{Place, STANDALONE};
use crate::timer_queue;
use crate::transaction::Transaction;
use crate::types::ShardTime;

/// The whole activity must be closed by then.
pub(crate) fn schedule_to_close(row: &ActivityRow) -> Option<ShardTime> {
    if stands_still(row) {
        return None;
    }
    // A delayed start is not held against it.
    deadline(row.scheduled_at.saturating_add(row.start_delay), row.schedule_to_close_timeout)
}

/// The waiting attempt must be started by then.
pub(crate) fn schedule_to_start(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at != 0 || row.backing_off || row.pause.is_some() {
        return None;
    }
    deadline(row.attempt_scheduled_at, row.schedule_to_start_timeout)
}

/// The started attempt must be closed by then.
pub(crate) fn start_to_close(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at == 0 || stands_still(row) {
        return None;
    }
    deadline(row.started_at, row.start_to_close_timeout)
}

/// The started attempt must heartbeat by then.
pub(crate) fn heartbeat(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at == 0 || stands_still(row) {
        return None;
    }
    deadline(row.started_at.max(row.last_heartbeat_at), row.heartbeat_timeout)
}

/// While a workflow's activity is paused none of its time-outs passes, not even those of an attempt that a worker still has.
fn stands_still(row: &ActivityRow) -> bool {
    row.pause.as_ref().is_some_and(|pause| pause.stops_timeouts)
}

/// Whether the time-out has passed, by the shard's clock, whatever the leader's said.
pub(crate) fn is_due(row: &ActivityRow, kind: TimeoutType, now: ShardTime) -> bool {
    let at = match kind {
        TimeoutType::Unspecified => None,
        TimeoutType::StartToClose => start_to_close(row),
        TimeoutType::ScheduleToStart => schedule_to_start(row),
        TimeoutType::ScheduleToClose => schedule_to_close(row),
        TimeoutType::Heartbeat => heartbeat(row),
    };
    at.is_some_and(|at| at <= now)
}

/// Where schedule-to-start falls together with schedule-to-close, only the latter has a row, and the former is what is recorded.
pub(crate) fn named(row: &ActivityRow, kind: TimeoutType) -> TimeoutType {
    let together = kind == TimeoutType::ScheduleToClose
        && schedule_to_start(row).is_some_and(|start| schedule_to_close(row).is_some_and(|close| start <= close));
    if together { TimeoutType::ScheduleToStart } else { kind }
}

fn deadline(from: i64, timeout: i64) -> Option<ShardTime> {
    (timeout > 0).then(|| ShardTime(from).plus(timeout))
}

/// Sets what a new activity needs.
pub(crate) fn scheduled(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    whole(tx, place, row);
    offered(tx, place, row);
}

/// Sets what belongs to the activity, not to an attempt.
pub(crate) fn whole(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    if let Some(at) = schedule_to_close(row) {
        timer_queue::set(tx, place.slot, at, &timeout_row(place, row, TimeoutType::ScheduleToClose));
    }
}

/// Sets all anew of an activity that a worker has, after it stood still or its time-outs changed. Nothing of it is set.
pub(crate) fn resume(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow) {
    whole(tx, place, row);
    started(tx, place, row);
}

/// Sets what an attempt that is put on offer needs.
pub(crate) fn offered(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    if let Some(at) = sooner(schedule_to_start(row), row) {
        timer_queue::set(tx, place.slot, at, &timeout_row(place, row, TimeoutType::ScheduleToStart));
    }
}

/// Sets what a started attempt needs.
pub(crate) fn started(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow) {
    if let Some(at) = sooner(start_to_close(row), row) {
        timer_queue::set(tx, place.slot, at, &timeout_row(place, row, TimeoutType::StartToClose));
    }
    beating(tx, place, row);
}

/// Sets the heartbeat's row for the next time that it can be missed, unless the attempt is over by then.
pub(crate) fn beating(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow) {
    row.heartbeat_timer_at = 0;
    let at = sooner(heartbeat(row), row).filter(|at| start_to_close(row).is_none_or(|end| *at < end));
    if let Some(at) = at {
        timer_queue::set(tx, place.slot, at, &timeout_row(place, row, TimeoutType::Heartbeat));
        row.heartbeat_timer_at = at.0;
    }
}

/// Sets the end of the back-off.
pub(crate) fn backing_off(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    timer_queue::set(tx, place.slot, ShardTime(row.attempt_scheduled_at), &retry_row(place, row));
}

/// Clears what belongs to the attempt, not what belongs to the activity.
pub(crate) fn clear_attempt(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    if row.backing_off {
        timer_queue::clear(tx, place.slot, ShardTime(row.attempt_scheduled_at), &retry_row(place, row));
    }
    if let Some(at) = sooner(schedule_to_start(row), row) {
        timer_queue::clear(tx, place.slot, at, &timeout_row(place, row, TimeoutType::ScheduleToStart));
    }
    if let Some(at) = sooner(start_to_close(row), row) {
        timer_queue::clear(tx, place.slot, at, &timeout_row(place, row, TimeoutType::StartToClose));
    }
    if row.heartbeat_timer_at != 0 {
        let at = ShardTime(row.heartbeat_timer_at);
        timer_queue::clear(tx, place.slot, at, &timeout_row(place, row, TimeoutType::Heartbeat));
    }
}

/// Clears all.
pub(crate) fn clear(tx: &mut Transaction<'_>, place: &Place<'_>, row: &ActivityRow) {
    clear_attempt(tx, place, row);
    if let Some(at) = schedule_to_close(row) {
        timer_queue::clear(tx, place.slot, at, &timeout_row(place, row, TimeoutType::ScheduleToClose));
    }
}

/// The time, if it comes before schedule-to-close.
fn sooner(at: Option<ShardTime>, row: &ActivityRow) -> Option<ShardTime> {
    at.filter(|at| schedule_to_close(row).is_none_or(|end| *at < end))
}

fn timeout_row(place: &Place<'_>, row: &ActivityRow, kind: TimeoutType) -> TimerQueueRow {
    TimerQueueRow {
        kind: of(place, Kind::ActivityTimeout, Kind::StandaloneTimeout),
        // Schedule-to-close holds over all attempts.
        guard: if kind == TimeoutType::ScheduleToClose { 0 } else { row.stamp },
        timeout_type: kind as i32,
        ..timer_row(place)
    }
}

fn retry_row(place: &Place<'_>, row: &ActivityRow) -> TimerQueueRow {
    TimerQueueRow { kind: of(place, Kind::ActivityRetry, Kind::StandaloneRetry), guard: row.stamp, ..timer_row(place) }
}

fn of(place: &Place<'_>, of_run: Kind, alone: Kind) -> i32 {
    if place.id == STANDALONE { alone as i32 } else { of_run as i32 }
}

fn timer_row(place: &Place<'_>) -> TimerQueueRow {
    TimerQueueRow {
        namespace_id: place.key.namespace_id.clone(),
        workflow_id: place.key.workflow_id.clone(),
        run_id: place.key.run_id.clone(),
        event_id: place.id,
        ..Default::default()
    }
}
