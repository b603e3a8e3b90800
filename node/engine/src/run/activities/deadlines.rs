//! Which rows of the timer queue belong to an activity. They follow from its row alone, so that whoever clears them finds exactly those
//! that were set.
//!
//! An attempt's time-out that cannot come before schedule-to-close has no row: the latter ends the activity first.
//! Heartbeats set no timers: the row that stands is looked at when it is due, and set anew if a heartbeat has come since.

use stanchion_proto::row::{ActivityRow, TimerQueueRow, timer_queue_row::Kind};
use stanchion_proto::temporal::enums::v1::TimeoutType;

use crate::run::Run;
use crate::timer_queue;
use crate::transaction::Transaction;
use crate::types::ShardTime;

/// The whole activity must be closed by then.
pub(super) fn schedule_to_close(row: &ActivityRow) -> Option<ShardTime> {
    deadline(row.scheduled_at, row.schedule_to_close_timeout)
}

/// The waiting attempt must be started by then.
pub(super) fn schedule_to_start(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at != 0 || row.backing_off {
        return None;
    }
    deadline(row.attempt_scheduled_at, row.schedule_to_start_timeout)
}

/// The started attempt must be closed by then.
pub(super) fn start_to_close(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at == 0 {
        return None;
    }
    deadline(row.started_at, row.start_to_close_timeout)
}

/// The started attempt must heartbeat by then.
pub(super) fn heartbeat(row: &ActivityRow) -> Option<ShardTime> {
    if row.started_at == 0 {
        return None;
    }
    deadline(row.started_at.max(row.last_heartbeat_at), row.heartbeat_timeout)
}

fn deadline(from: i64, timeout: i64) -> Option<ShardTime> {
    (timeout > 0).then(|| ShardTime(from).plus(timeout))
}

/// Sets what a new activity needs.
pub(super) fn scheduled(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &ActivityRow) {
    if let Some(at) = schedule_to_close(row) {
        timer_queue::set(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::ScheduleToClose));
    }
    offered(tx, run, id, row);
}

/// Sets what an attempt that is put on offer needs.
pub(super) fn offered(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &ActivityRow) {
    if let Some(at) = sooner(schedule_to_start(row), row) {
        timer_queue::set(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::ScheduleToStart));
    }
}

/// Sets what a started attempt needs.
pub(super) fn started(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &mut ActivityRow) {
    if let Some(at) = sooner(start_to_close(row), row) {
        timer_queue::set(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::StartToClose));
    }
    beating(tx, run, id, row);
}

/// Sets the heartbeat's row for the next time that it can be missed, unless the attempt is over by then.
pub(super) fn beating(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &mut ActivityRow) {
    row.heartbeat_timer_at = 0;
    let at = sooner(heartbeat(row), row).filter(|at| start_to_close(row).is_none_or(|end| *at < end));
    if let Some(at) = at {
        timer_queue::set(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::Heartbeat));
        row.heartbeat_timer_at = at.0;
    }
}

/// Sets the end of the back-off.
pub(super) fn backing_off(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &ActivityRow) {
    timer_queue::set(tx, run.slot, ShardTime(row.attempt_scheduled_at), &retry_row(run, id, row));
}

/// Clears what belongs to the attempt, not what belongs to the activity.
pub(super) fn clear_attempt(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &ActivityRow) {
    if row.backing_off {
        timer_queue::clear(tx, run.slot, ShardTime(row.attempt_scheduled_at), &retry_row(run, id, row));
    }
    if let Some(at) = sooner(schedule_to_start(row), row) {
        timer_queue::clear(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::ScheduleToStart));
    }
    if let Some(at) = sooner(start_to_close(row), row) {
        timer_queue::clear(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::StartToClose));
    }
    if row.heartbeat_timer_at != 0 {
        let at = ShardTime(row.heartbeat_timer_at);
        timer_queue::clear(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::Heartbeat));
    }
}

/// Clears all.
pub(super) fn clear(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &ActivityRow) {
    clear_attempt(tx, run, id, row);
    if let Some(at) = schedule_to_close(row) {
        timer_queue::clear(tx, run.slot, at, &timeout_row(run, id, row, TimeoutType::ScheduleToClose));
    }
}

/// The time, if it comes before schedule-to-close.
fn sooner(at: Option<ShardTime>, row: &ActivityRow) -> Option<ShardTime> {
    at.filter(|at| schedule_to_close(row).is_none_or(|end| *at < end))
}

fn timeout_row(run: &Run, id: i64, row: &ActivityRow, kind: TimeoutType) -> TimerQueueRow {
    TimerQueueRow {
        kind: Kind::ActivityTimeout as i32,
        // Schedule-to-close holds over all attempts.
        guard: if kind == TimeoutType::ScheduleToClose { 0 } else { row.stamp },
        timeout_type: kind as i32,
        ..timer_row(run, id)
    }
}

fn retry_row(run: &Run, id: i64, row: &ActivityRow) -> TimerQueueRow {
    TimerQueueRow { kind: Kind::ActivityRetry as i32, guard: row.stamp, ..timer_row(run, id) }
}

fn timer_row(run: &Run, id: i64) -> TimerQueueRow {
    TimerQueueRow {
        namespace_id: run.key.namespace_id.clone(),
        workflow_id: run.key.workflow_id.clone(),
        run_id: run.key.run_id.clone(),
        event_id: id,
        ..Default::default()
    }
}
