//! Writes of commands that are applied and not yet committed to RocksDB, in front of what RocksDB holds: a command sees what the
//! commands before it in the batch have written.
//!
//! Owned by [`super::GroupState`]. Never outlives a commit.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use rocksdb::WriteBatch;

use super::keys::{PREFIX_BYTES, family_of_key};
use super::rows::{KeyRange, Rows};
use crate::db::{Db, HISTORY, STATE};
use crate::error::StoreError;

#[derive(Default)]
pub(super) struct Overlay {
    /// By stored key; `None` is a deleted row.
    rows: BTreeMap<Vec<u8>, Option<Bytes>>,
}

impl Overlay {
    pub fn put(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.rows.insert(key, value);
    }

    /// The pending write of this key, if there is one.
    pub fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.rows.get(key)
    }

    pub fn clear(&mut self) {
        self.rows.clear();
    }

    /// Adds all writes to `batch`.
    pub fn fill(&self, batch: &mut WriteBatch, db: &Db) -> Result<(), StoreError> {
        let (state, history) = (db.family(STATE)?, db.family(HISTORY)?);
        for (key, value) in &self.rows {
            let family = if family_of_key(key) == HISTORY { history } else { state };
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        Ok(())
    }

    /// Rows of the range as they will be once committed, with their engine keys, at most `limit`.
    pub fn range(
        &self,
        below: Rows<'_>,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let mut pending = self.rows.range(range.from.clone()..range.to.clone());
        let mut next_pending = || if reverse { pending.next_back() } else { pending.next() };
        let Some(mut above) = next_pending().map(Some) else { return below.range(range, reverse, limit) };

        let mut iterator = below.iterator(range)?;
        if reverse {
            iterator.seek_to_last()
        } else {
            iterator.seek_to_first()
        }
        let mut found = Vec::new();
        while found.len() < limit {
            let order = match (above, iterator.key()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some(stored)) if reverse => stored.cmp(key),
                (Some((key, _)), Some(stored)) => key.as_slice().cmp(stored),
            };
            // What comes first wins; of the same key, the pending write does.
            match above.filter(|_| order.is_le()) {
                Some((key, value)) => {
                    if let Some(value) = value {
                        found.push((Bytes::copy_from_slice(&key[PREFIX_BYTES..]), value.clone()));
                    }
                    above = next_pending();
                }
                None => {
                    if let Some((key, value)) = iterator.item() {
                        found.push((Bytes::copy_from_slice(&key[PREFIX_BYTES..]), Bytes::copy_from_slice(value)));
                    }
                }
            }
            if order.is_ge() {
                if reverse { iterator.prev() } else { iterator.next() }
            }
        }
        iterator.status().map_err(|e| below.db.failed(e))?;
        Ok(found)
    }
}
