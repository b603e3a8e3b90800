//! The timer queue: rows in order of the time at which something is to happen. A row names what it is about and carries a guard;
//! a row that outlived its cause does nothing.

use stanchion_proto::row::{TimerQueueRow, timer_queue_row};

use crate::effects::TimerKey;
use crate::keys;
use crate::state::{ShardState, StateResult, Table};
use crate::transaction::Transaction;
use crate::types::{RunKey, ShardTime, Slot};

/// Writes a row due at `at`. Equal arguments name the same row, which is how [`clear`] finds it.
pub fn set(tx: &mut Transaction<'_>, slot: Slot, at: ShardTime, row: &TimerQueueRow) {
    let key = key(at, row);
    tx.put_row(slot, Table::TimerQueue, key.clone(), row);
    tx.effects.set_timer(TimerKey { at, slot, key });
}

/// Deletes the row that [`set`] wrote with the same arguments.
pub fn clear(tx: &mut Transaction<'_>, slot: Slot, at: ShardTime, row: &TimerQueueRow) {
    let key = key(at, row);
    tx.delete(slot, Table::TimerQueue, key.clone());
    tx.effects.clear_timer(TimerKey { at, slot, key });
}

/// Whether the row that [`set`] writes with the same arguments is there.
pub fn is_set(state: &dyn ShardState, slot: Slot, at: ShardTime, row: &TimerQueueRow) -> StateResult<bool> {
    Ok(state.get(slot, Table::TimerQueue, &key(at, row))?.is_some())
}

/// The schedule (namespace id, id) whose leader a row calls, if it is such a row.
pub fn schedule_to_wake(key: &[u8]) -> Option<(String, String)> {
    let rest = key.get(8..)?;
    let (namespace_id, rest) = keys::take_name(rest)?;
    let (schedule_id, rest) = keys::take_name(rest)?;
    let (_, rest) = keys::take_name(rest)?;
    let wakes = *rest.first()? == timer_queue_row::Kind::ScheduleWake as u8;
    wakes.then_some((namespace_id, schedule_id))
}

/// Due time, run, kind, event, guard, time-out type.
fn key(at: ShardTime, row: &TimerQueueRow) -> Vec<u8> {
    let mut key = at.0.to_be_bytes().to_vec();
    key.extend_from_slice(&keys::run(&RunKey {
        namespace_id: row.namespace_id.clone(),
        workflow_id: row.workflow_id.clone(),
        run_id: row.run_id.clone(),
    }));
    key.push(row.kind as u8);
    key.extend_from_slice(&row.event_id.to_be_bytes());
    key.extend_from_slice(&row.guard.to_be_bytes());
    key.push(row.timeout_type as u8);
    key
}
