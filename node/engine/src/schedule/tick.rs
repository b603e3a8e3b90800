//! TickSchedule: the leader's matching times become actions, once each.
//!
//! The command names how the schedule stood when the leader looked (incarnation, conflict token, `processed_at`); if anything of it has
//! changed since, nothing happens, and the leader looks again.

use stanchion_proto::command::{MatchingTime, TickSchedule};
use stanchion_proto::row::BufferedStartRow;

use super::schedule::Schedule;
use super::{BUFFER_MAX, actions};
use crate::reply::Reply;
use crate::time::SECOND;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;

/// Between two steps of a backfill.
const BACKFILL_PAUSE: i64 = SECOND;

/// TickSchedule.
pub fn tick(tx: &mut Transaction<'_>, command: &TickSchedule) -> Outcome<Reply> {
    let Some(mut schedule) = Schedule::load(tx, &command.schedule_id)? else { return Ok(Reply::Stale) };
    let row = &schedule.row;
    let as_seen = (&row.incarnation, row.conflict_token, row.processed_at)
        == (&command.incarnation, command.conflict_token, command.processed_at);
    if row.deleted || !as_seen || command.until > tx.now.0 {
        return Ok(Reply::Stale);
    }
    let more = if schedule.may_act(false) {
        take_times(&mut schedule, &command.times, ShardTime(command.until), tx.now);
        command.more
    } else {
        schedule.pass_over_idle_time(ShardTime(command.until));
        false
    };
    take_backfill(&mut schedule, command);
    actions::act(tx, &mut schedule);
    let next = if more { tx.now.0 } else { command.next_at };
    // Out of actions or paused: nothing until somebody changes that.
    schedule.row.wake_at = if schedule.may_act(false) { next } else { 0 };
    go_on_with_backfill(&mut schedule, tx.now);
    schedule.finish(tx);
    Ok(Reply::Done)
}

/// Has the leader look again soon if a backfill is under way. Half of the buffer is left to matching times.
pub fn go_on_with_backfill(schedule: &mut Schedule, now: ShardTime) {
    let soon = now.plus(BACKFILL_PAUSE);
    let has_room = !schedule.row.backfills.is_empty() && schedule.row.buffered.len() < BUFFER_MAX / 2;
    if has_room && (schedule.row.wake_at == 0 || schedule.row.wake_at > soon.0) {
        schedule.wake(soon);
    }
}

fn take_times(schedule: &mut Schedule, times: &[MatchingTime], until: ShardTime, now: ShardTime) {
    for time in times {
        if time.actual_at > until.0 || time.actual_at <= schedule.row.processed_at {
            continue;
        }
        schedule.row.processed_at = time.actual_at;
        // A change makes no new past.
        if time.actual_at < schedule.row.updated_at {
            continue;
        }
        if now.0 - time.actual_at > schedule.catchup_window() {
            schedule.row.missed_catchup_window += 1;
            continue;
        }
        schedule.buffer(BufferedStartRow {
            nominal_at: time.nominal_at,
            actual_at: time.actual_at,
            ..Default::default()
        });
    }
}

fn take_backfill(schedule: &mut Schedule, command: &TickSchedule) {
    let Some(found) = &command.backfill else { return };
    let Some(backfill) = schedule.row.backfills.first().cloned() else { return };
    if (backfill.after, backfill.until) != (found.after, found.until) {
        return;
    }
    for time in &found.times {
        schedule.buffer(BufferedStartRow {
            nominal_at: time.nominal_at,
            actual_at: time.actual_at,
            overlap_policy: backfill.overlap_policy,
            manual: true,
        });
    }
    match found.times.last() {
        Some(last) if found.more => {
            if let Some(first) = schedule.row.backfills.first_mut() {
                first.after = last.actual_at;
            }
        }
        _ => {
            schedule.row.backfills.remove(0);
        }
    }
}
