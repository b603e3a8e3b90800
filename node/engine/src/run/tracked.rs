//! A map that remembers which of its rows changed, so that one change writes one row.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

/// Rows of a run in a table of their own, and the keys to be written.
#[derive(Clone, Debug)]
pub struct Tracked<K: Ord + Clone, V> {
    rows: BTreeMap<K, V>,
    changed: BTreeSet<K>,
    /// Encoded size of each row when it was last written, and of all of them: the cache's bound counts them after every command.
    bytes: BTreeMap<K, usize>,
    bytes_total: usize,
}

impl<K: Ord + Clone, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), changed: BTreeSet::new(), bytes: BTreeMap::new(), bytes_total: 0 }
    }
}

impl<K: Ord + Clone, V: Message> Tracked<K, V> {
    /// Rows as they were read: nothing to be written.
    pub fn loaded(rows: BTreeMap<K, V>) -> Self {
        let bytes: BTreeMap<K, usize> = rows.iter().map(|(key, row)| (key.clone(), row.encoded_len())).collect();
        let bytes_total = bytes.values().sum();
        Self { rows, changed: BTreeSet::new(), bytes, bytes_total }
    }

    /// Encoded size of the rows, as far as they are written.
    pub fn bytes(&self) -> usize {
        self.bytes_total
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// For changing: the row will be written.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        self.changed.insert(key.clone());
        Some(row)
    }

    pub fn insert(&mut self, key: K, row: V) {
        self.changed.insert(key.clone());
        self.rows.insert(key, row);
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.changed.insert(key.clone());
        Some(row)
    }

    pub fn contains(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.keys()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Hands each changed key to `write`, with its row or none if it is gone; afterwards nothing is changed.
    pub fn drain_changed(&mut self, mut write: impl FnMut(&K, Option<&V>)) {
        for key in std::mem::take(&mut self.changed) {
            let row = self.rows.get(&key);
            write(&key, row);
            let before = match row.map(Message::encoded_len) {
                Some(now) => {
                    self.bytes_total += now;
                    self.bytes.insert(key, now)
                }
                None => self.bytes.remove(&key),
            };
            self.bytes_total -= before.unwrap_or(0);
        }
    }
}
