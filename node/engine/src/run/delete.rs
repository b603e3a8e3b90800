//! The end of a run's rows: deleted by a caller, or when the namespace's retention has passed.
//!
//! ```text
//!  closed --retention--> purge
//!  open --delete--> terminated --+
//!  closed --delete---------------+--> marked, no longer current, nobody finds it --a second--> purge
//!
//!  purge: the run's row and what list and count know of it, then its other rows and its history, in bounded steps
//! ```
//!
//! Never: more than a bounded number of rows in one command; a row of another run.

use stanchion_proto::command::DeleteWorkflow;
use stanchion_proto::row::{CurrentRow, TimerQueueRow, timer_queue_row};
use stanchion_proto::temporal::enums::v1::EventType;

use super::{Run, close, start};
use crate::effects::TimerKey;
use crate::reply::Reply;
use crate::state::{StateResult, Table};
use crate::time::SECOND;
use crate::transaction::{Outcome, Transaction};
use crate::types::{RunKey, ShardTime, Slot};
use crate::{keys, lookup, timer_queue, visibility};

/// Those who wait for a run's end read its last event in this time.
const LAST_LOOK: i64 = SECOND;

/// Rows that one command deletes at most, and rows read in one go for that.
const ROWS_MAX: usize = 1024;
const CHUNK: usize = 64;
/// Bytes of rows read for one command at most, but for the last chunk: keys are all that is needed, but rows are what is read.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Tables whose keys begin with the run. The run's own row goes first: what is not found is not looked into.
const TABLES: &[Table] = &[
    Table::Run,
    Table::Activity,
    Table::Timer,
    Table::Update,
    Table::Child,
    Table::External,
    Table::Dedup,
    Table::History,
];

/// DeleteWorkflow.
pub fn delete(tx: &mut Transaction<'_>, command: &DeleteWorkflow) -> Outcome<Reply> {
    let name = command.run.clone().unwrap_or_default();
    let mut run = lookup::run(tx, &name.workflow_id, &name.run_id)?;
    if run.is_open() {
        close::terminate_for_deletion(tx, &mut run);
    }
    run.row.deleted = true;
    if run.row.retention > 0 {
        timer_queue::clear(tx, run.slot, retention_over(&run), &purge_row(&run));
    }
    let (slot, key) = (run.slot, run.key.clone());
    timer_queue::set(tx, slot, tx.now.plus(LAST_LOOK), &purge_row(&run));
    let is_current = lookup::current(tx, &key.workflow_id)?.is_some_and(|current| current.run_id == key.run_id);
    tx.finish(run)?;
    if is_current {
        // Not the run before: the workflow id is free, whatever a reuse policy says.
        tx.delete(slot, Table::Current, keys::current(&key.namespace_id, &key.workflow_id));
    }
    Ok(Reply::Done)
}

/// The run has closed: from now on its retention runs.
pub(super) fn run_closed(tx: &mut Transaction<'_>, run: &mut Run) {
    if tx.retention > 0 {
        run.row.retention = tx.retention;
    }
    if run.row.retention > 0 {
        timer_queue::set(tx, run.slot, retention_over(run), &purge_row(run));
    }
}

fn retention_over(run: &Run) -> ShardTime {
    ShardTime(run.row.closed_at).plus(run.row.retention)
}

fn purge_row(run: &Run) -> TimerQueueRow {
    start::run_timer(run, timer_queue_row::Kind::Purge)
}

/// The timer row under `timer` is due: deletes what this command may still delete. The row stays until nothing is left.
pub fn purge(tx: &mut Transaction<'_>, key: &RunKey, slot: Slot, timer: &[u8]) -> StateResult<()> {
    if let Some(run) = tx.load(key)? {
        if run.is_open() {
            // No run is given a purge while it is open.
            tx.release(run);
            tx.delete(slot, Table::TimerQueue, timer.to_vec());
            return Ok(());
        }
        if tx.rows_purged < ROWS_MAX {
            forget(tx, &run)?;
            // Not given back to the cache: there is no such run from here on.
        } else {
            tx.release(run);
        }
    }
    if delete_rows(tx, slot, key)? {
        tx.delete(slot, Table::TimerQueue, timer.to_vec());
        return Ok(());
    }
    // The leader has taken the timer out of its memory: it is to be fired again at once.
    let at = timer.first_chunk::<8>().map_or(tx.now, |at| ShardTime(i64::from_be_bytes(*at)));
    tx.effects.set_timer(TimerKey { at, slot, key: timer.to_vec() });
    Ok(())
}

/// What other tables know of the run by its name.
fn forget(tx: &mut Transaction<'_>, run: &Run) -> StateResult<()> {
    let key = keys::current(&run.key.namespace_id, &run.key.workflow_id);
    let current: Option<CurrentRow> = tx.get_row(run.slot, Table::Current, &key)?;
    if current.is_some_and(|current| current.run_id == run.key.run_id) {
        tx.delete(run.slot, Table::Current, key);
    }
    for id in run.row.request_ids.iter().filter(|id| id.event_type == EventType::WorkflowExecutionStarted as i32) {
        let key = keys::start_request(&run.key.namespace_id, &run.key.workflow_id, &id.request_id);
        if tx.get(run.slot, Table::StartRequest, &key)?.is_some_and(|made| made == run.key.run_id.as_bytes()) {
            tx.delete(run.slot, Table::StartRequest, key);
        }
    }
    visibility::remove_run(tx, &run.key, run.row.started_at, run.row.closed_at)
}

/// True when no row is left.
fn delete_rows(tx: &mut Transaction<'_>, slot: Slot, key: &RunKey) -> StateResult<bool> {
    let prefix = keys::run(key);
    let end = keys::after(&prefix);
    let mut bytes = 0;
    for table in TABLES.iter().copied() {
        let mut from = prefix.clone();
        loop {
            if tx.rows_purged >= ROWS_MAX || bytes >= BYTES_MAX {
                return Ok(false);
            }
            let rows = tx.range(slot, table, &from, &end, CHUNK)?;
            let full = rows.len() == CHUNK;
            for (key, value) in rows {
                bytes += value.len();
                tx.rows_purged += 1;
                tx.delete(slot, table, key.to_vec());
                from = key.to_vec();
            }
            if !full {
                break;
            }
            from.push(0);
        }
    }
    Ok(true)
}
