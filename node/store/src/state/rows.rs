//! Reads of one table's rows in RocksDB: by key, and by range in both directions, over the live database or one snapshot of it.
//!
//! Called by [`super::reader`] and [`super::overlay`].

use bytes::Bytes;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, Snapshot};
use stanchion_engine::{Slot, Table};

use super::keys::{family_of, row_key, table_end};
use crate::db::Db;
use crate::error::StoreError;

/// One state of the database: as of each call, or as of one snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub db: &'a Db,
    pub snapshot: Option<&'a Snapshot<'a>>,
}

/// Stored keys `from <= key < to` of one table.
pub(crate) struct KeyRange {
    pub family: &'static str,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl KeyRange {
    /// An empty `to` means the end of the table.
    pub fn new(slot: Slot, generation: u32, table: Table, from: &[u8], to: &[u8]) -> Self {
        let end = match to.is_empty() {
            true => table_end(slot, generation, table),
            false => row_key(slot, generation, table, to),
        };
        Self { family: family_of(table), from: row_key(slot, generation, table, from), to: end }
    }

    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

impl<'a> Rows<'a> {
    fn options(self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    pub fn get(self, family: &str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.db.rocks.get_pinned_cf_opt(self.db.family(family)?, key, &self.options());
        Ok(found.map_err(|e| self.db.failed(e))?.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// An iterator over the range, not yet positioned.
    pub fn iterator(self, range: &KeyRange) -> Result<DBRawIteratorWithThreadMode<'a, DB>, StoreError> {
        let mut options = self.options();
        options.set_iterate_lower_bound(range.from.as_slice());
        options.set_iterate_upper_bound(range.to.as_slice());
        Ok(self.db.rocks.raw_iterator_cf_opt(self.db.family(range.family)?, options))
    }

    /// Rows of the range with their engine keys, upwards or downwards, at most `limit`.
    pub fn range(self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let mut iterator = self.iterator(range)?;
        let mut found = Vec::new();
        if reverse {
            iterator.seek_to_last()
        } else {
            iterator.seek_to_first()
        }
        while let Some((key, value)) = iterator.item() {
            found.push((Bytes::copy_from_slice(&key[super::keys::PREFIX_BYTES..]), Bytes::copy_from_slice(value)));
            if found.len() == limit {
                break;
            }
            if reverse { iterator.prev() } else { iterator.next() }
        }
        iterator.status().map_err(|e| self.db.failed(e))?;
        Ok(found)
    }
}
