//! Rows of the timer queue for the leader that fires them.

use crate::effects::TimerKey;
use crate::state::{StateFault, StateReader, StateResult, Table};
use crate::types::{ShardTime, Slot};

/// Timers of a slot that are due at or before `until`, the soonest first, at most `limit`.
pub fn timers<R: StateReader + ?Sized>(
    reader: &R,
    slot: Slot,
    until: ShardTime,
    limit: usize,
) -> StateResult<Vec<TimerKey>> {
    let end = until.0.saturating_add(1).to_be_bytes();
    let rows = reader.range(slot, Table::TimerQueue, &[], &end, limit)?;
    rows.into_iter().map(|(key, _)| Ok(TimerKey { at: due_at(&key)?, slot, key: key.to_vec() })).collect()
}

/// The time at the head of a row's key.
pub(crate) fn due_at(key: &[u8]) -> StateResult<ShardTime> {
    let at = key
        .first_chunk::<8>()
        .ok_or_else(|| StateFault::Corrupt { table: Table::TimerQueue, reason: "a timer's key is too short".into() })?;
    Ok(ShardTime(i64::from_be_bytes(*at)))
}
