//! The state of one group: what its commands have made, in RocksDB, with the writes of the commands being applied in front.
//!
//! ```text
//! apply, apply, apply …  (rows gather in the overlay; reads see them)
//! commit(index, …)       one write: the rows and the group's row, which says that entries up to index are in them
//! checkpoint             flushes all groups' commits as of one point; only entries up to it may leave the log
//! ```
//!
//! After a crash the state stands where the last flush left it, and the log is applied again from there. That is why rows and the
//! group's row are never written apart.
//!
//! Called by `replica`'s state machine. Never: a commit of half an entry; a read of a slot that the group does not have.

mod hash;
pub(crate) mod keys;
mod overlay;
mod reader;
pub(crate) mod rows;
pub(crate) mod shared;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use prost::Message;
use rocksdb::{WriteBatch, WriteOptions};
use stanchion_engine::cache::RunCache;
use stanchion_engine::{GroupId, ShardState, ShardTime, Slot, StateFault, StateReader, StateResult, Table};

use crate::db::GROUPS;
use crate::error::StoreError;
use crate::options::FaultPoint;
use keys::{Ownership, family_of, group_key, row_key};
use overlay::Overlay;
use rows::KeyRange;
use shared::{GroupShared, Standing, StateShared};

pub use reader::{CommittedReader, CommittedView};
pub use shared::Applied;

/// See the module. A group has one at a time.
pub struct GroupState {
    store: Arc<StateShared>,
    group: Arc<GroupShared>,
    /// As of the last commit.
    standing: Standing,
    /// The clock with the commands applied since.
    clock: ShardTime,
    overlay: Overlay,
    /// A write that could not be taken: the next commit fails with it.
    refused: Option<String>,
    run_cache: RunCache,
}

impl GroupState {
    pub(crate) fn open(store: Arc<StateShared>, group: Arc<GroupShared>) -> Result<Self, StoreError> {
        if group.taken.swap(true, Ordering::AcqRel) {
            return Err(StoreError::Misuse(format!("group {} has a state machine already", group.group)));
        }
        let standing = Standing {
            applied: group.applied.lock().clone(),
            clock: group.clock(),
            slots: (**group.live.read()).clone(),
        };
        let run_cache = RunCache::new(store.options.run_cache_bytes_per_group);
        Ok(Self {
            store,
            group,
            clock: standing.clock,
            standing,
            overlay: Overlay::default(),
            refused: None,
            run_cache,
        })
    }

    pub fn group(&self) -> GroupId {
        self.group.group
    }

    /// How far the committed state stands.
    pub fn applied(&self) -> Applied {
        self.standing.applied.clone()
    }

    /// A reader of the committed state.
    pub fn reader(&self) -> CommittedReader {
        CommittedReader { store: self.store.clone(), group: self.group.clone() }
    }

    /// Slots that the group has, in order.
    pub fn owned_slots(&self) -> Vec<RangeInclusive<u16>> {
        self.standing.slots.ranges()
    }

    /// Gives the group exactly these slots. It holds at once, and survives a crash from the next checkpoint on: the caller does it
    /// again at start where [`GroupState::owned_slots`] says otherwise. Rows of slots taken away are removed at the next open.
    pub fn set_owned_slots(&mut self, slots: &[RangeInclusive<u16>]) -> Result<(), StoreError> {
        if self.standing.slots.ranges() == Ownership::default().with_slots(slots, 0).ranges() {
            return Ok(());
        }
        let slots = self.standing.slots.with_slots(slots, self.store.fresh_generation()?);
        let standing = Standing { slots, ..self.standing.clone() };
        let mut live = self.group.live.write();
        write_standing(&self.store, self.group.group, &standing)?;
        *live = Arc::new(standing.slots.clone());
        self.standing = standing;
        Ok(())
    }

    /// Commits everything written since the last commit, as the effect of the entries up to `index`: one write, seen wholly or not
    /// at all, by readers and after a crash. `membership`, if there is one, replaces the group's.
    pub fn commit(&mut self, index: u64, applied_log_id: Bytes, membership: Option<Bytes>) -> Result<(), StoreError> {
        self.store.fatal.check()?;
        if let Some(refused) = &self.refused {
            return Err(StoreError::Misuse(refused.clone()));
        }
        if self.standing.applied.log_id.is_some() && index < self.standing.applied.index {
            let applied = self.standing.applied.index;
            return Err(StoreError::Misuse(format!(
                "group {}: entry {index} is committed after {applied}",
                self.group.group
            )));
        }
        let membership = membership.or_else(|| self.standing.applied.membership.clone());
        let standing = Standing {
            applied: Applied { index, log_id: Some(applied_log_id), membership },
            clock: self.clock,
            slots: std::mem::take(&mut self.standing.slots),
        };
        let mut batch = WriteBatch::default();
        let filled = self.overlay.fill(&mut batch, &self.store.db);
        let written = filled.and_then(|()| write_with(&self.store, self.group.group, &standing, batch));
        self.standing.slots = standing.slots.clone();
        written?;
        self.overlay.clear();
        self.group.publish(standing.applied.clone(), standing.clock);
        self.standing = standing;
        Ok(())
    }

    /// Forgets what was written since the last commit: the entry could not be applied.
    pub fn discard(&mut self) {
        self.overlay.clear();
        self.refused = None;
        self.clock = self.standing.clock;
        self.run_cache.clear();
    }

    /// The group's state was replaced under it.
    pub(crate) fn replaced(&mut self, standing: Standing) {
        self.overlay.clear();
        self.refused = None;
        self.run_cache.clear();
        self.clock = standing.clock;
        self.standing = standing;
    }

    pub(crate) fn parts(&self) -> (&Arc<StateShared>, &Arc<GroupShared>) {
        (&self.store, &self.group)
    }

    fn write(&mut self, slot: Slot, table: Table, key: &[u8], value: Option<Bytes>) {
        match self.standing.slots.generation(slot) {
            Some(generation) => self.overlay.put(row_key(slot, generation, table, key), value),
            None => {
                let reason =
                    format!("group {}: a command wrote to slot {}, which it does not have", self.group.group, slot.0);
                self.refused.get_or_insert(reason);
            }
        }
    }

    fn read_range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        let range = KeyRange::new(slot, self.generation(slot)?, table, from, to);
        let found = self.overlay.range(self.store.rows(), &range, reverse, limit);
        Ok(found.map_err(|e| self.store.fatal.judge(e))?)
    }

    fn generation(&self, slot: Slot) -> StateResult<u32> {
        match &self.refused {
            Some(refused) => Err(StateFault::Invariant(refused.clone())),
            None => reader::generation(&self.standing.slots, slot),
        }
    }
}

impl StateReader for GroupState {
    fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>> {
        let key = row_key(slot, self.generation(slot)?, table, key);
        if let Some(pending) = self.overlay.get(&key) {
            return Ok(pending.clone());
        }
        Ok(self.store.rows().get(family_of(table), &key).map_err(|e| self.store.fatal.judge(e))?)
    }

    fn range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        self.read_range(slot, table, from, to, false, limit)
    }

    fn range_reverse(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        self.read_range(slot, table, from, to, true, limit)
    }

    fn clock(&self) -> ShardTime {
        self.clock
    }
}

impl ShardState for GroupState {
    fn put(&mut self, slot: Slot, table: Table, key: &[u8], value: Bytes) {
        self.write(slot, table, key, Some(value));
    }

    fn delete(&mut self, slot: Slot, table: Table, key: &[u8]) {
        self.write(slot, table, key, None);
    }

    fn set_clock(&mut self, now: ShardTime) {
        self.clock = now;
    }

    fn run_cache(&mut self) -> &mut RunCache {
        &mut self.run_cache
    }
}

impl Drop for GroupState {
    fn drop(&mut self) {
        self.group.taken.store(false, Ordering::Release);
    }
}

/// Writes a group's row by itself.
pub(crate) fn write_standing(store: &StateShared, group: GroupId, standing: &Standing) -> Result<(), StoreError> {
    write_with(store, group, standing, WriteBatch::default())
}

/// Writes a group's row with the rows that it covers.
fn write_with(
    store: &StateShared,
    group: GroupId,
    standing: &Standing,
    mut batch: WriteBatch,
) -> Result<(), StoreError> {
    store.fatal.check()?;
    batch.put_cf(store.db.family(GROUPS)?, group_key(group), standing.row().encode_to_vec());
    let bytes = batch.size_in_bytes() as u64;
    let write = || {
        store.options.fault(FaultPoint::StateWrite).map_err(|e| StoreError::io(store.db.path().display(), e))?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        store.db.rocks.write_opt(batch, &options).map_err(|e| store.db.failed(e))
    };
    write().map_err(|e| store.fatal.judge(e))?;
    store.bytes_unflushed.fetch_add(bytes, Ordering::AcqRel);
    metrics::counter!("stanchion_state_bytes_total").increment(bytes);
    Ok(())
}
