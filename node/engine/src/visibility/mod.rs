//! What list and count are served from: a record of every run, schedule and standalone activity, and rows that find it by its attributes.
//!
//! ```text
//! open    one record, written anew when something that a list shows of it changes; no index rows
//! closed  the record moves to its place among the closed ones; an index row for each attribute and value, written once
//! counts  how many there are of each status, kept by the same apply
//! bounds  of every few hundred closed records, so that walks pass over stretches ([`stretch`])
//! ```
//!
//! Rows stand under an *index home slot*, the first of the aligned block of 64 slots that the thing's own slot lies in, so that a
//! query seeks in 64 places and not in 4,096. A block of 64 slots therefore always belongs to one group
//! (docs/decisions/09-visibility-rows.md).
//!
//! Never: a row that the apply of the described change does not write itself; a row whose bytes depend on anything but the record.
//!
//! Called by [`crate::run::Run::flush`] for runs and by whoever owns schedules, activities and batch operations; read by [`crate::read::visibility`].

pub mod attributes;
pub mod filter;
pub mod index;
pub mod keys;
pub mod record;
pub mod stretch;
mod wire;

use prost::Message;
use stanchion_proto::row::VisibilityRow;

use crate::state::{StateResult, Table};
use crate::transaction::Transaction;
use crate::types::{RunKey, Slot};

pub use filter::Filter;
pub use keys::{Position, Space};
use stretch::Change;

/// What a record is about. Part of stored keys: never renumber.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Entity {
    Workflow = 1,
    Schedule = 2,
    Activity = 3,
    Batch = 4,
}

impl Entity {
    pub fn of(number: u32) -> Option<Self> {
        let all = [Self::Workflow, Self::Schedule, Self::Activity, Self::Batch];
        all.into_iter().find(|entity| *entity as u32 == number)
    }
}

/// Slots whose index rows stand together.
pub const BLOCK: u16 = 64;

/// Where the index rows of things in this slot stand.
pub fn home(slot: Slot) -> Slot {
    Slot(slot.0 & !(BLOCK - 1))
}

/// The attribute that takes what carries it out of ordinary lists; only filters that name it see such things.
pub const DIVISION: &str = "TemporalNamespaceDivision";

/// Writes what list and count are to see from now on. `before` is what was last written of the same thing; none if this is the first.
///
/// # Panics
/// Never. `slot` is the thing's own slot; its home is found here.
pub fn put(
    tx: &mut Transaction<'_>,
    entity: Entity,
    namespace_id: &str,
    slot: Slot,
    before: Option<&VisibilityRow>,
    row: &VisibilityRow,
) {
    let (home, space) = (home(slot), Space::of(namespace_id, entity, row));
    let position = keys::position(row);
    let mut is_new_there = true;
    match before {
        None => tx.count_visible(home, keys::count(&space, row.status), 1),
        Some(old) => {
            let (old_space, old_position) = (Space::of(namespace_id, entity, old), keys::position(old));
            is_new_there = old_space != space || old_position != position;
            if is_new_there {
                take_out(tx, home, &old_space, old, &old_position);
            }
            if old_space != space || old.status != row.status {
                tx.count_visible(home, keys::count(&old_space, old.status), -1);
                tx.count_visible(home, keys::count(&space, row.status), 1);
            }
        }
    }
    tx.put(home, Table::VisibilityRecord, keys::record(&space, &position), row.encode_to_vec().into());
    if row.closed_at != 0 {
        index::each_key(&space, row, &position, |key| tx.put(home, Table::Index, key, bytes::Bytes::new()));
        tx.change_stretch(home, Change::holds(space, row, is_new_there));
    }
}

/// Takes a thing out of lists and counts. `row` is what was last written of it.
pub fn remove(tx: &mut Transaction<'_>, entity: Entity, namespace_id: &str, slot: Slot, row: &VisibilityRow) {
    let (home, space) = (home(slot), Space::of(namespace_id, entity, row));
    take_out(tx, home, &space, row, &keys::position(row));
    tx.count_visible(home, keys::count(&space, row.status), -1);
}

/// Takes a run out of lists and counts, if it is in them. `closed_at` is 0 if it was last written while it was open.
pub fn remove_run(tx: &mut Transaction<'_>, run: &RunKey, started_at: i64, closed_at: i64) -> StateResult<()> {
    let position = keys::position_of(closed_at, started_at, &run.run_id);
    if let Some(row) = find(tx, Entity::Workflow, &run.namespace_id, run.slot(), &position)? {
        remove(tx, Entity::Workflow, &run.namespace_id, run.slot(), &row);
    }
    Ok(())
}

/// The record of a thing as it stands, found by what its position is made of.
pub fn find(
    tx: &Transaction<'_>,
    entity: Entity,
    namespace_id: &str,
    slot: Slot,
    position: &Position,
) -> StateResult<Option<VisibilityRow>> {
    for space in Space::all(namespace_id, entity) {
        let found = tx.get_row(home(slot), Table::VisibilityRecord, &keys::record(&space, position))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn take_out(tx: &mut Transaction<'_>, home: Slot, space: &Space, row: &VisibilityRow, position: &Position) {
    tx.delete(home, Table::VisibilityRecord, keys::record(space, position));
    if row.closed_at != 0 {
        index::each_key(space, row, position, |key| tx.delete(home, Table::Index, key));
        tx.change_stretch(home, Change::loses(space.clone(), row.closed_at));
    }
}
