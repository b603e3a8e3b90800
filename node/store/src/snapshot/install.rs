//! Making a received snapshot the live state of its group, and removing what it replaces.
//!
//! ```text
//! 1  ingest the files                 rows under a generation that nobody reads
//! 2  write the group's row            applied index, membership, clock and slots under the new generation: live from here
//! 3  flush                            and from here after a crash too; before it, the old state is
//! 4  remove the old generation        a crash before or in it leaves orphans, which the next open removes
//! ```
//!
//! Never: a mixture of two states, in memory or after a crash. Called by `replica`'s state machine, and at open.

use std::collections::BTreeSet;
use std::sync::Arc;

use rocksdb::{IngestExternalFileOptions, WriteBatch, WriteOptions};
use stanchion_engine::Slot;

use super::{FAMILIES, ReceivedSnapshot};
use crate::db::Db;
use crate::error::StoreError;
use crate::options::FaultPoint;
use crate::state::keys::{Ownership, generation_end, generation_of, generation_start};
use crate::state::rows::{KeyRange, Rows};
use crate::state::shared::{Standing, StateShared};
use crate::state::{GroupState, write_standing};

impl GroupState {
    /// Replaces the group's state. Returns when the new one is on the disk. Ingests and flushes: not for an async worker.
    pub fn install(&mut self, received: ReceivedSnapshot) -> Result<(), StoreError> {
        let (store, group) = self.parts();
        let (store, group) = (store.clone(), group.clone());
        store.fatal.check()?;
        if received.group != group.group {
            let (theirs, ours) = (received.group, group.group);
            return Err(StoreError::Misuse(format!("a snapshot of group {theirs} was given to group {ours}")));
        }
        ingest(&store, &received).map_err(|e| store.fatal.judge(e))?;

        let standing = received.standing.clone();
        let old = {
            let mut live = group.live.write();
            write_standing(&store, group.group, &standing)?;
            group.publish(standing.applied.clone(), standing.clock);
            std::mem::replace(&mut *live, Arc::new(standing.slots.clone()))
        };
        self.replaced(standing.clone());
        let fault =
            store.options.fault(FaultPoint::Checkpoint).map_err(|e| StoreError::io(store.db.path().display(), e));
        fault.and_then(|()| store.db.flush_state()).map_err(|e| store.fatal.judge(e))?;
        *group.flushed.lock() = standing.applied;

        remove(&store.db, &old).map_err(|e| store.fatal.judge(e))
    }
}

fn ingest(store: &StateShared, received: &ReceivedSnapshot) -> Result<(), StoreError> {
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    for (family, files) in &received.files {
        let family = store.db.family(family)?;
        store.db.rocks.ingest_external_file_cf_opts(family, &options, files.clone()).map_err(|e| store.db.failed(e))?;
    }
    Ok(())
}

/// Removes the rows of these generations.
fn remove(db: &Db, old: &Ownership) -> Result<(), StoreError> {
    let rows = Rows { db, snapshot: None };
    let mut batch = WriteBatch::default();
    for (slot, generation) in old.slots() {
        for (_, family) in FAMILIES {
            let range =
                KeyRange { family, from: generation_start(slot, generation), to: generation_end(slot, generation) };
            // Most slots of a small installation are empty, and a range tombstone costs every later read of its neighbours.
            if !rows.range(&range, false, 1)?.is_empty() {
                batch.delete_range_cf(db.family(family)?, range.from, range.to);
            }
        }
    }
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.rocks.write_opt(batch, &options).map_err(|e| db.failed(e))
}

/// Removes generations that no group has live: left by an install that a crash cut off, or by slots taken away. Returns the highest
/// generation that was stored under, live or not.
pub(crate) fn remove_orphans(db: &Db, groups: &[Standing]) -> Result<u32, StoreError> {
    let live: BTreeSet<(Slot, u32)> = groups.iter().flat_map(|standing| standing.slots.slots()).collect();
    let mut highest = live.iter().map(|(_, generation)| *generation).max().unwrap_or(0);
    let mut batch = WriteBatch::default();
    for (_, family) in FAMILIES {
        let handle = db.family(family)?;
        let mut iterator = db.rocks.raw_iterator_cf(handle);
        iterator.seek_to_first();
        while let Some(key) = iterator.key() {
            let Some((slot, generation)) = generation_of(key) else {
                return Err(StoreError::corrupt(db.path().display(), format!("a row of `{family}` has key {key:?}")));
            };
            highest = highest.max(generation);
            let (from, to) = (generation_start(slot, generation), generation_end(slot, generation));
            if !live.contains(&(slot, generation)) {
                tracing::info!(slot = slot.0, generation, family, "removing rows that no group has live");
                batch.delete_range_cf(handle, &from, &to);
            }
            iterator.seek(&to);
        }
        iterator.status().map_err(|e| db.failed(e))?;
    }
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.rocks.write_opt(batch, &options).map_err(|e| db.failed(e))?;
    Ok(highest)
}
