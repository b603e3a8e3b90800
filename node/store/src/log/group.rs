//! One group's log. What it holds is known in memory the moment it is queued; the disk follows in the queue's order.
//!
//! Invariants, under the lock: `first <= last + 1`; the entries `first..=last` are all readable, from the cache or from RocksDB; the
//! order of changes here is the order of operations in the writer's queue.
//!
//! Never: returns fewer entries than there are because some do not check. Called by `replica`'s log store, and by its log keeper.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::ReadOptions;
use stanchion_engine::GroupId;
use stanchion_proto::row::PurgedRow;

use super::cache::EntryCache;
use super::codec::{decode_entry, entry_key, entry_of};
use super::keeper::Keeper;
use super::writer::{Done, Op};
use super::{LogEntry, LogShared};
use crate::db::ENTRIES;
use crate::error::StoreError;

/// See the module.
pub struct GroupLog {
    group: GroupId,
    shared: Arc<LogShared>,
    held: Mutex<Held>,
    /// Highest index that a checkpoint of the state has covered, plus one; 0 if none.
    flushed_behind: AtomicU64,
}

/// What the log holds.
pub(super) struct Held {
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
    /// Whether `committed` is newer than on disk.
    pub committed_changed: bool,
    pub purged: Option<(u64, Bytes)>,
    /// Of the oldest entry; where the log is empty, of the one to come. None while nothing says where the log begins.
    pub first: Option<u64>,
    /// Index and head.
    pub last: Option<(u64, Bytes)>,
    pub cache: EntryCache,
    pub keeper: Keeper,
}

impl Held {
    pub fn empty(shared: &LogShared) -> Self {
        Self {
            vote: None,
            committed: None,
            committed_changed: false,
            purged: None,
            first: None,
            last: None,
            cache: EntryCache::new(shared.entry_cache_bytes),
            keeper: Keeper::new(shared.stretch_bytes),
        }
    }

    /// Index that the next entry must have, if the log says.
    fn next(&self) -> Option<u64> {
        self.last.as_ref().map(|(index, _)| index + 1).or(self.first)
    }
}

impl GroupLog {
    pub(super) fn empty(group: GroupId, shared: Arc<LogShared>) -> Self {
        let held = Held::empty(&shared);
        Self::new(group, shared, held)
    }

    pub(super) fn new(group: GroupId, shared: Arc<LogShared>, held: Held) -> Self {
        Self { group, shared, held: Mutex::new(held), flushed_behind: AtomicU64::new(0) }
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Adds entries behind the last one. They are readable at once, and durable when `done` is called. Entries that do not follow on
    /// the log are refused through `done`.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return done(Ok(())) };
        let (first, last) = (first.index, (last.index, last.head.clone()));
        let mut held = self.held.lock();
        let follows = held.next().is_none_or(|next| next == first)
            && entries.windows(2).all(|pair| pair[0].index + 1 == pair[1].index);
        if !follows {
            let next = held.next();
            drop(held);
            return done(Err(StoreError::Misuse(format!(
                "group {}: entries {first}..={} do not follow on its log, whose next index is {next:?}",
                self.group, last.0
            ))
            .into()));
        }
        let now = unix_seconds();
        let keeper = &mut held.keeper;
        let closed = entries.iter().filter_map(|entry| keeper.append(entry.index, entry.bytes() as u64, now)).collect();
        let committed = match std::mem::take(&mut held.committed_changed) {
            true => held.committed.clone(),
            false => None,
        };
        // Pushed after queueing, because only then is the ticket known; a reader waits for this lock meanwhile.
        let cached = entries.clone();
        let ticket = self.shared.queue.push(self.group, Op::Append { entries, committed, closed }, done);
        for entry in cached {
            held.cache.push(entry, ticket);
        }
        held.first.get_or_insert(first);
        held.last = Some(last);
        held.cache.shrink(self.shared.queue.written());
    }

    /// Replaces the vote. [`GroupLog::vote`] tells it at once; it is durable when `done` is called.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let mut held = self.held.lock();
        held.vote = Some(vote.clone());
        self.shared.queue.push(self.group, Op::Vote(vote), done);
    }

    /// Remembers the committed id. It is written with the next append, and at shutdown.
    pub fn save_committed(&self, committed: Bytes) {
        let mut held = self.held.lock();
        held.committed_changed |= held.committed.as_ref() != Some(&committed);
        held.committed = Some(committed);
    }

    /// Removes all entries above `last`; all of them if `None`.
    pub fn truncate_after(&self, last: Option<u64>, done: Done) {
        let mut held = self.held.lock();
        if held.last.as_ref().map(|(index, _)| *index) <= last {
            drop(held);
            return done(Ok(()));
        }
        let first = held.first.unwrap_or(0);
        let kept = last.filter(|last| *last >= first);
        let new_last = match kept {
            None => None,
            // The caller is openraft's core, which changes its log by no one else: nothing else can move while this is read.
            Some(index) => match self.entry(&held, index) {
                Ok(entry) => Some((index, entry.head)),
                Err(error) => {
                    drop(held);
                    return done(Err(error.into()));
                }
            },
        };
        held.cache.truncate_after(kept);
        held.keeper.truncate_after(kept);
        held.last = new_last;
        if held.last.is_none() && held.purged.is_none() {
            held.first = None;
        }
        let from = kept.map_or(first, |last| last + 1);
        self.shared.queue.push(self.group, Op::Truncate { from }, done);
    }

    /// Removes all entries up to `upto`, whose id is `purged_id`. It may lie behind the last entry: a snapshot was installed.
    pub fn purge(&self, upto: u64, purged_id: Bytes, done: Done) {
        let mut held = self.held.lock();
        if held.purged.as_ref().is_some_and(|(index, _)| *index >= upto) {
            drop(held);
            return done(Ok(()));
        }
        let from = held.first.unwrap_or(0);
        held.cache.purge(upto);
        held.keeper.purge(upto);
        held.purged = Some((upto, purged_id.clone()));
        held.first = Some(held.first.unwrap_or(0).max(upto + 1));
        held.last = held.last.take().filter(|(index, _)| *index > upto);
        let row = PurgedRow { index: upto, log_id: purged_id };
        self.shared.queue.push(self.group, Op::Purge { from, row }, done);
    }

    /// Entries of `range`, in order, none left out: at least one if the log has any of the range, and no more once `max_bytes` are
    /// reached. The range is cut at the end of the log. A range that begins below [`GroupLog::first_index`] is `NotFound`; an entry
    /// that is missing or does not check stops the store.
    pub fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        self.shared.fatal.check()?;
        let mut found: Vec<LogEntry> = Vec::new();
        let (mut next, mut bytes) = (range.start, 0);
        loop {
            let held = self.held.lock();
            let end = held.last.as_ref().map_or(0, |(last, _)| last + 1).min(range.end);
            if next >= end || (!found.is_empty() && bytes >= max_bytes) {
                return Ok(found);
            }
            let first = held.first.unwrap_or(0);
            if next < first {
                let reason = format!("group {}: entry {next} is purged; the log begins at {first}", self.group);
                return Err(io::Error::new(io::ErrorKind::NotFound, reason));
            }
            let cached = held.cache.first().unwrap_or(end);
            if next >= cached {
                while next < end
                    && (found.is_empty() || bytes < max_bytes)
                    && let Some(entry) = held.cache.get(next)
                {
                    bytes += entry.bytes();
                    found.push(entry.clone());
                    next += 1;
                }
                if next < end && bytes < max_bytes {
                    return Err(self.hole(next).into());
                }
                continue;
            }
            drop(held);
            let read = self.read(next..end.min(cached), max_bytes.saturating_sub(bytes))?;
            if read.is_empty() && self.still_has(next) {
                return Err(self.hole(next).into());
            }
            bytes += read.iter().map(LogEntry::bytes).sum::<usize>();
            next += read.len() as u64;
            found.extend(read);
        }
    }

    /// The newest vote saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.held.lock().vote.clone()
    }

    /// The newest committed id remembered; after a restart, the newest written.
    pub fn committed(&self) -> Option<Bytes> {
        self.held.lock().committed.clone()
    }

    /// The id given to the last purge.
    pub fn purged(&self) -> Option<Bytes> {
        self.held.lock().purged.as_ref().map(|(_, id)| id.clone())
    }

    /// Index of the last purged entry.
    pub fn purged_index(&self) -> Option<u64> {
        self.held.lock().purged.as_ref().map(|(index, _)| *index)
    }

    /// Index and head of the last entry; none where the log is empty, be it purged or new.
    pub fn last(&self) -> Option<(u64, Bytes)> {
        self.held.lock().last.clone()
    }

    /// Index of the first entry there is, or will be.
    pub fn first_index(&self) -> u64 {
        self.held.lock().first.unwrap_or(0)
    }

    /// Bytes of heads and payloads kept, to within a truncated stretch.
    pub fn bytes(&self) -> u64 {
        self.held.lock().keeper.bytes()
    }

    /// The last entry that may be purged so that at most `keep_bytes` and nothing older than `keep_seconds` stays. Never one that a
    /// checkpoint of the state has not covered.
    pub fn purge_candidate(&self, keep_bytes: u64, keep_seconds: u64) -> Option<u64> {
        let flushed = self.flushed_behind.load(Ordering::Acquire).checked_sub(1)?;
        self.held.lock().keeper.candidate(keep_bytes, keep_seconds, flushed, unix_seconds())
    }

    /// A checkpoint of the state has covered `index`.
    pub(crate) fn flushed(&self, index: u64) {
        self.flushed_behind.fetch_max(index + 1, Ordering::AcqRel);
    }

    /// Whether the log has a vote, an entry or a purge, that is, whether the group was ever here.
    pub(crate) fn is_known(&self) -> bool {
        let held = self.held.lock();
        held.vote.is_some() || held.last.is_some() || held.purged.is_some()
    }

    /// Queues the committed id if it is newer than on disk.
    pub(super) fn flush_committed(&self) {
        let mut held = self.held.lock();
        if std::mem::take(&mut held.committed_changed)
            && let Some(committed) = held.committed.clone()
        {
            self.shared.queue.push(self.group, Op::Committed(committed), Box::new(|_| ()));
        }
    }

    /// Forgets the whole log: the group has left this node.
    pub(crate) fn forget(&self, done: Done) {
        let mut held = self.held.lock();
        *held = Held::empty(&self.shared);
        self.flushed_behind.store(0, Ordering::Release);
        self.shared.queue.push(self.group, Op::Forget, done);
    }

    /// One entry that the log has.
    fn entry(&self, held: &Held, index: u64) -> Result<LogEntry, StoreError> {
        match held.cache.get(index) {
            Some(entry) => Ok(entry.clone()),
            None => self.read(index..index + 1, usize::MAX)?.pop().ok_or_else(|| self.hole(index)),
        }
    }

    /// Entries from RocksDB, contiguous from the start of the range on, as many as there are.
    pub(super) fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<LogEntry>, StoreError> {
        let db = &self.shared.db;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(entry_key(self.group, range.end));
        let mut iterator = db.rocks.raw_iterator_cf_opt(db.family(ENTRIES)?, options);
        iterator.seek(entry_key(self.group, range.start));
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in range {
            if !found.is_empty() && bytes >= max_bytes {
                break;
            }
            let Some((key, value)) = iterator.item() else { break };
            if entry_of(key) != Some((self.group, index)) {
                break;
            }
            let entry = decode_entry(self.group, index, Bytes::copy_from_slice(value))
                .map_err(|reason| self.shared.fatal.judge(StoreError::corrupt(db.path().display(), reason)))?;
            bytes += entry.bytes();
            found.push(entry);
            iterator.next();
        }
        iterator.status().map_err(|e| self.shared.fatal.judge(db.failed(e)))?;
        Ok(found)
    }

    /// Whether the log has the entry now: it may have been purged or truncated while RocksDB was read.
    fn still_has(&self, index: u64) -> bool {
        let held = self.held.lock();
        held.first.is_some_and(|first| first <= index) && held.last.as_ref().is_some_and(|(last, _)| *last >= index)
    }

    fn hole(&self, index: u64) -> StoreError {
        let reason = format!("entry {index} of group {} is missing", self.group);
        self.shared.fatal.judge(StoreError::corrupt(self.shared.db.path().display(), reason))
    }
}

pub(super) fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
