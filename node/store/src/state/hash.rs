//! A hash over all rows of one committed state: equal on two replicas exactly when their state is, and equal to that of
//! `stanchion_engine::memory::MemoryState` holding the same rows. Generations, which are a node's own affair, do not count.
//!
//! Reads everything: for tests, verification and the command that compares replicas, never per call.

use stanchion_engine::{Slot, StateReader, StateResult};

use super::keys::{PREFIX_BYTES, generation_end, generation_of, generation_start};
use super::reader::CommittedView;
use super::rows::KeyRange;
use crate::db::{HISTORY, STATE};
use crate::error::StoreError;

/// Where the table's number stands in a stored key.
const TABLE_AT: usize = PREFIX_BYTES - 1;

impl CommittedView<'_> {
    /// See the module.
    pub fn hash(&self) -> StateResult<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.clock().0.to_be_bytes());
        self.for_each_row(|key, value| {
            let (slot, table, key) = (&key[..2], &key[TABLE_AT..PREFIX_BYTES], &key[PREFIX_BYTES..]);
            hasher.update(&(3 + key.len() as u64).to_be_bytes());
            hasher.update(slot);
            hasher.update(table);
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_be_bytes());
            hasher.update(value);
        })?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Calls `each` with every live row, by slot, table and key. Tables of both column families stand between one another, and most
    /// slots are empty: so two cursors go over all slots together, and nothing is looked for slot by slot.
    fn for_each_row(&self, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        for (slots, generation) in self.slots().live() {
            let (first, last) = (Slot(*slots.start()), Slot(*slots.end()));
            let range = |family| KeyRange {
                family,
                from: generation_start(first, *generation),
                to: generation_end(last, *generation),
            };
            let is_live = |key: &[u8]| generation_of(key).is_some_and(|(_, found)| found == *generation);
            let (mut state, mut history) =
                (self.rows().iterator(&range(STATE))?, self.rows().iterator(&range(HISTORY))?);
            state.seek_to_first();
            history.seek_to_first();
            loop {
                let ahead = match (state.item(), history.item()) {
                    (None, None) => break,
                    (Some((ours, _)), Some((theirs, _))) if ours > theirs => &mut history,
                    (None, Some(_)) => &mut history,
                    (Some(_), _) => &mut state,
                };
                if let Some((key, value)) = ahead.item().filter(|(key, _)| is_live(key)) {
                    each(key, value);
                }
                ahead.next();
            }
            self.sound(state.status().and(history.status()))?;
        }
        Ok(())
    }
}
