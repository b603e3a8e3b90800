//! The newest entries of one group's log, in memory, so that replication and apply read no disk in the steady state.
//!
//! Bounded in bytes, except that an entry which the writer has not yet handed to RocksDB must stay: it is nowhere else.
//!
//! Invariant: the entries are contiguous and end with the last entry of the log. Owned by [`super::GroupLog`], under its lock.

use std::collections::VecDeque;

use super::LogEntry;

/// Memory of an entry beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;

pub(super) struct EntryCache {
    entries: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
}

struct Cached {
    entry: LogEntry,
    /// The operation that writes it. Tickets grow along the deque.
    ticket: u64,
}

impl EntryCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Index of the oldest entry held.
    pub fn first(&self) -> Option<u64> {
        self.entries.front().map(|cached| cached.entry.index)
    }

    /// Adds the entry behind the last one.
    pub fn push(&mut self, entry: LogEntry, ticket: u64) {
        self.bytes += size(&entry);
        self.entries.push_back(Cached { entry, ticket });
    }

    /// Lets go of the oldest entries beyond the bound, if operations up to `written` have reached RocksDB.
    pub fn shrink(&mut self, written: u64) {
        while self.bytes > self.bytes_max
            && let Some(front) = self.entries.front()
            && front.ticket <= written
        {
            self.bytes -= size(&front.entry);
            self.entries.pop_front();
        }
    }

    /// The entry, if it is held.
    pub fn get(&self, index: u64) -> Option<&LogEntry> {
        let at = index.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(at).ok()?).map(|cached| &cached.entry)
    }

    /// Forgets entries above `last`.
    pub fn truncate_after(&mut self, last: Option<u64>) {
        while let Some(back) = self.entries.back()
            && last.is_none_or(|last| back.entry.index > last)
        {
            self.bytes -= size(&back.entry);
            self.entries.pop_back();
        }
    }

    /// Forgets entries up to `upto`.
    pub fn purge(&mut self, upto: u64) {
        while let Some(front) = self.entries.front()
            && front.entry.index <= upto
        {
            self.bytes -= size(&front.entry);
            self.entries.pop_front();
        }
    }
}

fn size(entry: &LogEntry) -> usize {
    entry.bytes() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64) -> LogEntry {
        LogEntry { index, head: Bytes::from_static(b"h"), payload: Bytes::from(vec![0; 100]) }
    }

    #[test]
    fn unwritten_entries_stay_whatever_the_bound() {
        let mut cache = EntryCache::new(0);
        (1..=10).for_each(|index| cache.push(entry(index), index));
        cache.shrink(4);
        assert_eq!(cache.first(), Some(5));
        assert_eq!(cache.get(4), None);
        assert_eq!(cache.get(10), Some(&entry(10)));
        cache.truncate_after(Some(7));
        assert_eq!(cache.get(8), None);
        cache.purge(6);
        assert_eq!(cache.first(), Some(7));
        cache.truncate_after(None);
        assert_eq!((cache.first(), cache.bytes), (None, 0));
    }
}
