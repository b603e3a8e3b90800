//! What each group's log holds, read when the log is opened: all of `meta`, the first and last entry of each group, and what lies
//! behind its last closed stretch, but not the payloads in between.
//!
//! Never: starts a group on a log that does not begin behind what was purged, or ends before its last closed stretch.
//! Called by [`super::Log::open`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use rocksdb::IteratorMode;
use stanchion_engine::GroupId;
use stanchion_proto::row::{KeptRow, PurgedRow};

use super::codec::{COMMITTED, KEPT, PURGED, VOTE, entry_key, entry_of, meta_of};
use super::group::{GroupLog, Held};
use super::{LogEntry, LogShared};
use crate::db::{ENTRIES, META};
use crate::error::StoreError;

/// Rows of `meta` of one group.
#[derive(Default)]
struct Found {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<PurgedRow>,
    kept: BTreeMap<u64, KeptRow>,
}

pub(super) fn groups(shared: &Arc<LogShared>) -> Result<BTreeMap<GroupId, Arc<GroupLog>>, StoreError> {
    let mut found = meta(shared)?;
    for group in groups_with_entries(shared)? {
        found.entry(group).or_default();
    }
    found.into_iter().map(|(group, found)| Ok((group, Arc::new(open(group, shared, found)?)))).collect()
}

fn meta(shared: &LogShared) -> Result<BTreeMap<GroupId, Found>, StoreError> {
    let db = &shared.db;
    let mut groups: BTreeMap<GroupId, Found> = BTreeMap::new();
    for row in db.rocks.iterator_cf(db.family(META)?, IteratorMode::Start) {
        let (key, value) = row.map_err(|e| db.failed(e))?;
        let corrupt = |reason: String| StoreError::corrupt(db.path().display(), reason);
        let value = Bytes::from(value.into_vec());
        let (group, name, index) = meta_of(&key).ok_or_else(|| corrupt(format!("a row of `meta` has key {key:?}")))?;
        let found = groups.entry(group).or_default();
        match (name, index) {
            (VOTE, None) => found.vote = Some(value),
            (COMMITTED, None) => found.committed = Some(value),
            (PURGED, None) => {
                let row = PurgedRow::decode(value).map_err(|e| corrupt(format!("purged row of group {group}: {e}")))?;
                found.purged = Some(row);
            }
            (KEPT, Some(last)) => {
                let row =
                    KeptRow::decode(value).map_err(|e| corrupt(format!("stretch {last} of group {group}: {e}")))?;
                found.kept.insert(last, row);
            }
            _ => return Err(corrupt(format!("a row of `meta` has key {key:?}"))),
        }
    }
    Ok(groups)
}

fn groups_with_entries(shared: &LogShared) -> Result<Vec<GroupId>, StoreError> {
    let db = &shared.db;
    let mut iterator = db.rocks.raw_iterator_cf(db.family(ENTRIES)?);
    let mut groups = Vec::new();
    iterator.seek_to_first();
    while let Some(key) = iterator.key() {
        let (group, _) = entry_of(key)
            .ok_or_else(|| StoreError::corrupt(db.path().display(), format!("an entry has key {key:?}")))?;
        groups.push(group);
        let Some(next) = group.0.checked_add(1) else { break };
        iterator.seek(entry_key(GroupId(next), 0));
    }
    iterator.status().map_err(|e| db.failed(e))?;
    Ok(groups)
}

fn open(group: GroupId, shared: &Arc<LogShared>, found: Found) -> Result<GroupLog, StoreError> {
    let corrupt = |reason: String| StoreError::corrupt(shared.db.path().display(), format!("group {group}: {reason}"));
    let (first, last) = bounds(group, shared)?;
    let expected = found.purged.as_ref().map(|purged| purged.index + 1);
    if let (Some(first), Some(expected)) = (first, expected)
        && first != expected
    {
        return Err(corrupt(format!("the log begins at {first}, but was purged to {}", expected - 1)));
    }
    let first = expected.or(first);
    let mut held = Held::empty(shared);
    held.first = first;
    held.last = last.as_ref().map(|entry| (entry.index, entry.head.clone()));
    held.vote = found.vote;
    held.committed = found.committed;
    held.purged = found.purged.map(|row| (row.index, row.log_id));

    let mut next = first.unwrap_or(0);
    for (stretch_last, row) in &found.kept {
        if *stretch_last >= next {
            held.keeper.restore(next, *stretch_last, row);
            next = stretch_last + 1;
        }
    }
    let log = GroupLog::new(group, shared.clone(), Held::empty(shared));
    if let Some(last) = last {
        let now = super::group::unix_seconds();
        if held.keeper.closed_last().is_some_and(|closed| closed > last.index) {
            return Err(corrupt(format!("the log ends at {}, but once had entry {}", last.index, next - 1)));
        }
        while next <= last.index {
            let entries = log.read(next..last.index + 1, 1024 * 1024)?;
            if entries.is_empty() {
                return Err(corrupt(format!("entry {next} is missing")));
            }
            for entry in entries {
                // Not closed here: rows of stretches are written with appends. The age of these entries starts anew.
                held.keeper.reopen(entry.index, entry.bytes() as u64, now);
                next = entry.index + 1;
            }
        }
    } else if held.keeper.closed_last().is_some() {
        return Err(corrupt(format!("the log is empty, but once had entry {}", next - 1)));
    }
    Ok(GroupLog::new(group, shared.clone(), held))
}

/// Index of the group's first entry, and its last entry.
fn bounds(group: GroupId, shared: &Arc<LogShared>) -> Result<(Option<u64>, Option<LogEntry>), StoreError> {
    let db = &shared.db;
    let index_at =
        |key: Option<&[u8]>| key.and_then(entry_of).filter(|(found, _)| *found == group).map(|(_, index)| index);
    let mut iterator = db.rocks.raw_iterator_cf(db.family(ENTRIES)?);
    iterator.seek(entry_key(group, 0));
    let first = index_at(iterator.key());
    iterator.seek_for_prev(entry_key(group, u64::MAX));
    let last = index_at(iterator.key());
    iterator.status().map_err(|e| db.failed(e))?;
    let log = GroupLog::empty(group, shared.clone());
    match last {
        None => Ok((None, None)),
        Some(last) => Ok((first, log.read(last..last + 1, usize::MAX)?.pop())),
    }
}
