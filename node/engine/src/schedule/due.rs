//! The leader's part: looks for a schedule's matching times and makes the command that has them acted on.
//!
//! Called by the leader shell, off its own clock. What the command says is checked by `apply` against the schedule as it then is.

use stanchion_proto::command::{BackfillTimes, MatchingTime, TickSchedule};
use stanchion_proto::row::{BackfillRow, ScheduleRow};
use stanchion_proto::temporal::schedule::v1::ScheduleSpec;

use super::spec::{CompiledSpec, Match};
use crate::types::ShardTime;

/// Matching times in one command.
const TIMES_MAX: usize = 1000;
/// Of a backfill in one command, as on the real server.
const BACKFILL_TIMES_MAX: usize = 10;

/// The spec of a stored schedule, ready to be asked. The error says what is wrong with its time zone.
pub fn compile(row: &ScheduleRow, namespace_id: &str, schedule_id: &str) -> Result<CompiledSpec, String> {
    let none = ScheduleSpec::default();
    let spec = row.schedule.as_ref().and_then(|schedule| schedule.spec.as_ref()).unwrap_or(&none);
    CompiledSpec::new(spec, namespace_id, schedule_id)
}

/// What the schedule has to do at `now`.
pub fn look(row: &ScheduleRow, namespace_id: &str, schedule_id: &str, now: ShardTime) -> Result<TickSchedule, String> {
    let spec = compile(row, namespace_id, schedule_id)?;
    let after = ShardTime(row.processed_at);
    let until = now.max(after);
    let state = row.schedule.as_ref().and_then(|schedule| schedule.state.as_ref());
    let may_act = state.is_none_or(|state| !state.paused && (!state.limited_actions || state.remaining_actions > 0));
    // Whoever may not act passes over the time at once.
    let found =
        if may_act { matches(&spec, after, until, TIMES_MAX) } else { Found { next: None, ..Found::default() } };
    Ok(TickSchedule {
        schedule_id: schedule_id.to_owned(),
        incarnation: row.incarnation.clone(),
        conflict_token: row.conflict_token,
        processed_at: row.processed_at,
        times: found.times,
        until: until.0,
        more: found.more,
        next_at: found.next.map_or(0, |next| next.actual.0),
        backfill: row.backfills.first().map(|backfill| look_back(&spec, backfill)),
    })
}

fn look_back(spec: &CompiledSpec, backfill: &BackfillRow) -> BackfillTimes {
    let found = matches(spec, ShardTime(backfill.after), ShardTime(backfill.until), BACKFILL_TIMES_MAX);
    BackfillTimes { after: backfill.after, until: backfill.until, times: found.times, more: found.more }
}

#[derive(Default)]
struct Found {
    times: Vec<MatchingTime>,
    /// There are more up to the end of the range.
    more: bool,
    /// The first behind the range.
    next: Option<Match>,
}

/// Matching times behind `after`, up to `until`. A spec that excludes too much has none.
fn matches(spec: &CompiledSpec, mut after: ShardTime, until: ShardTime, limit: usize) -> Found {
    let mut found = Found::default();
    while let Ok(Some(time)) = spec.next(after) {
        if time.actual > until {
            found.next = Some(time);
            break;
        }
        if found.times.len() >= limit {
            found.more = true;
            break;
        }
        after = time.actual;
        found.times.push(MatchingTime { nominal_at: time.nominal.0, actual_at: time.actual.0 });
    }
    found
}
