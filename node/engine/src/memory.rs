//! Shard state in memory: a BTreeMap, for tests and the simulator. Behaves to the byte as the store's overlay does.
//!
//! Never: production data (nothing here survives the process).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::cache::RunCache;
use crate::state::{ShardState, StateReader, StateResult, Table};
use crate::types::{ShardTime, Slot};

/// One group's tables.
pub struct MemoryState {
    /// Slot (big-endian), table, key.
    rows: BTreeMap<Vec<u8>, Bytes>,
    clock: ShardTime,
    run_cache: RunCache,
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new(32 * 1024 * 1024)
    }
}

impl MemoryState {
    /// `run_cache_bytes_max` bounds the decoded runs that are kept; 0 keeps none.
    pub fn new(run_cache_bytes_max: usize) -> Self {
        Self { rows: BTreeMap::new(), clock: ShardTime(0), run_cache: RunCache::new(run_cache_bytes_max) }
    }

    /// Hash of every row and the clock: equal on two replicas exactly when their state is.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.clock.0.to_be_bytes());
        for (key, value) in &self.rows {
            hasher.update(&(key.len() as u64).to_be_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u64).to_be_bytes());
            hasher.update(value);
        }
        *hasher.finalize().as_bytes()
    }

    /// All rows of one table, over all slots, in key order: slot, key within the table, value.
    pub fn rows(&self, table: Table) -> impl Iterator<Item = (Slot, &[u8], &Bytes)> {
        self.rows.iter().filter(move |(key, _)| key[2] == table as u8).map(|(key, value)| {
            let slot = Slot(u16::from_be_bytes([key[0], key[1]]));
            (slot, &key[PREFIX..], value)
        })
    }

    /// Number of rows over all tables.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn between(&self, slot: Slot, table: Table, from: &[u8], to: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let end = if to.is_empty() { row_end(slot, table) } else { row_key(slot, table, to) };
        (Bound::Included(row_key(slot, table, from)), Bound::Excluded(end))
    }
}

impl StateReader for MemoryState {
    fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>> {
        Ok(self.rows.get(&row_key(slot, table, key)).cloned())
    }

    fn range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        let bounds = self.between(slot, table, from, to);
        if is_empty_range(&bounds) {
            return Ok(Vec::new());
        }
        Ok(self.rows.range(bounds).take(limit).map(without_prefix).collect())
    }

    fn range_reverse(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        let bounds = self.between(slot, table, from, to);
        if is_empty_range(&bounds) {
            return Ok(Vec::new());
        }
        Ok(self.rows.range(bounds).rev().take(limit).map(without_prefix).collect())
    }

    fn clock(&self) -> ShardTime {
        self.clock
    }
}

impl ShardState for MemoryState {
    fn put(&mut self, slot: Slot, table: Table, key: &[u8], value: Bytes) {
        self.rows.insert(row_key(slot, table, key), value);
    }

    fn delete(&mut self, slot: Slot, table: Table, key: &[u8]) {
        self.rows.remove(&row_key(slot, table, key));
    }

    fn set_clock(&mut self, now: ShardTime) {
        self.clock = now;
    }

    fn run_cache(&mut self) -> &mut RunCache {
        &mut self.run_cache
    }
}

const PREFIX: usize = 3;

fn row_key(slot: Slot, table: Table, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(PREFIX + key.len());
    row.extend_from_slice(&slot.0.to_be_bytes());
    row.push(table as u8);
    row.extend_from_slice(key);
    row
}

/// The first key behind the table. Table numbers stay below 255, so adding one never overflows.
fn row_end(slot: Slot, table: Table) -> Vec<u8> {
    let mut end = slot.0.to_be_bytes().to_vec();
    end.push(table as u8 + 1);
    end
}

/// `BTreeMap::range` panics on a start behind its end; a range like that is simply empty.
fn is_empty_range(bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    match bounds {
        (Bound::Included(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

fn without_prefix((key, value): (&Vec<u8>, &Bytes)) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(&key[PREFIX..]), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(rows: Vec<(Bytes, Bytes)>) -> Vec<Vec<u8>> {
        rows.into_iter().map(|(key, _)| key.to_vec()).collect()
    }

    #[test]
    fn ranges_stay_within_their_slot_and_table() {
        let mut state = MemoryState::default();
        for (slot, table, key) in [
            (0, Table::Run, b"a".as_slice()),
            (0, Table::Run, b"b"),
            (0, Table::Activity, b"a"),
            (1, Table::Run, b"a"),
            (u16::MAX, Table::Meta, b"a"),
        ] {
            state.put(Slot(slot), table, key, Bytes::from_static(b"v"));
        }
        assert_eq!(keys(state.range(Slot(0), Table::Run, b"", b"", 10).unwrap()), [b"a", b"b"]);
        assert_eq!(keys(state.range(Slot(0), Table::Run, b"", b"b", 10).unwrap()), [b"a"]);
        assert_eq!(keys(state.range_reverse(Slot(0), Table::Run, b"", b"", 1).unwrap()), [b"b"]);
        assert_eq!(keys(state.range(Slot(u16::MAX), Table::Meta, b"", b"", 9).unwrap()), [b"a"]);
        assert!(state.range(Slot(0), Table::Run, b"z", b"b", 10).unwrap().is_empty());
    }

    #[test]
    fn the_hash_sees_rows_and_clock_and_not_the_cache() {
        let (mut a, mut b) = (MemoryState::default(), MemoryState::new(0));
        assert_eq!(a.hash(), b.hash());
        a.put(Slot(1), Table::Run, b"k", Bytes::from_static(b"v"));
        assert_ne!(a.hash(), b.hash());
        b.put(Slot(1), Table::Run, b"k", Bytes::from_static(b"v"));
        assert_eq!(a.hash(), b.hash());
        b.set_clock(ShardTime(1));
        assert_ne!(a.hash(), b.hash());
    }
}
