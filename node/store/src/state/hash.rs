//! A hash over all rows of one committed state: equal on two replicas exactly when their state is, and equal to that of
//! `stanchion_engine::memory::MemoryState` holding the same rows. Generations, which are a node's own affair, do not count.
//!
//! Reads everything: for tests, verification and the command that compares replicas, never per call.

use stanchion_engine::{StateReader, StateResult, Table};

use super::keys::PREFIX_BYTES;
use super::reader::CommittedView;
use super::rows::KeyRange;

impl CommittedView<'_> {
    /// See the module.
    pub fn hash(&self) -> StateResult<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.clock().0.to_be_bytes());
        for (slot, generation) in self.slots().slots() {
            for table in Table::ALL {
                let range = KeyRange::new(slot, generation, table, &[], &[]);
                self.for_each(&range, |key, value| {
                    let key = &key[PREFIX_BYTES..];
                    hasher.update(&(3 + key.len() as u64).to_be_bytes());
                    hasher.update(&slot.0.to_be_bytes());
                    hasher.update(&[table as u8]);
                    hasher.update(key);
                    hasher.update(&(value.len() as u64).to_be_bytes());
                    hasher.update(value);
                })?;
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }
}
