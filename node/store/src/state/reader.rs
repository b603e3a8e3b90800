//! Reads of a group's committed state, beside its state machine: what handlers and the leader shell see.
//!
//! [`CommittedReader`] reads the newest committed state in each call. Two calls may see different states; [`CommittedReader::snapshot`]
//! is for those that must not. Neither waits for anything: whoever needs a linearizable read passes a barrier first.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::Snapshot;
use stanchion_engine::{GroupId, ShardTime, Slot, StateFault, StateReader, StateResult, Table};

use super::keys::{Ownership, family_of, row_key};
use super::rows::{KeyRange, Rows};
use super::shared::{Applied, GroupShared, Standing, StateShared};
use crate::error::StoreError;

/// Reads the newest committed state; each call by itself is consistent. Cheap to clone.
#[derive(Clone)]
pub struct CommittedReader {
    pub(crate) store: Arc<StateShared>,
    pub(crate) group: Arc<GroupShared>,
}

impl CommittedReader {
    pub fn group(&self) -> GroupId {
        self.group.group
    }

    /// How far the state that reads see stands, at least.
    pub fn applied(&self) -> Applied {
        self.group.applied.lock().clone()
    }

    /// One state for several reads.
    pub fn snapshot(&self) -> CommittedView<'_> {
        let live = self.group.live.read();
        let snapshot = self.store.db.rocks.snapshot();
        CommittedView { reader: self, snapshot, slots: live.clone() }
    }
}

impl StateReader for CommittedReader {
    fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>> {
        let live = self.group.live.read();
        get(&self.store, self.store.rows(), &live, slot, table, key)
    }

    fn range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        let live = self.group.live.read();
        range(&self.store, self.store.rows(), &live, slot, table, (from, to), false, limit)
    }

    fn range_reverse(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        let live = self.group.live.read();
        range(&self.store, self.store.rows(), &live, slot, table, (from, to), true, limit)
    }

    fn clock(&self) -> ShardTime {
        self.group.clock()
    }
}

/// One committed state of a group. Holds back the removal of old rows for as long as it lives: keep it short.
pub struct CommittedView<'a> {
    reader: &'a CommittedReader,
    snapshot: Snapshot<'a>,
    slots: Arc<Ownership>,
}

impl CommittedView<'_> {
    pub(super) fn rows(&self) -> Rows<'_> {
        Rows { db: &self.reader.store.db, snapshot: Some(&self.snapshot) }
    }

    /// How far this state stands.
    pub fn applied(&self) -> Result<Applied, StoreError> {
        Ok(self.standing()?.applied)
    }

    pub(super) fn slots(&self) -> &Ownership {
        &self.slots
    }

    /// What a cursor said at its end.
    pub(super) fn sound(&self, status: Result<(), rocksdb::Error>) -> Result<(), StoreError> {
        let db = &self.reader.store.db;
        status.map_err(|e| self.reader.store.fatal.judge(db.failed(e)))
    }

    fn standing(&self) -> Result<Standing, StoreError> {
        let read = Standing::read(self.rows(), self.reader.group.group);
        read.map_err(|e| self.reader.store.fatal.judge(e))
    }
}

impl StateReader for CommittedView<'_> {
    fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>> {
        get(&self.reader.store, self.rows(), &self.slots, slot, table, key)
    }

    fn range(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        range(&self.reader.store, self.rows(), &self.slots, slot, table, (from, to), false, limit)
    }

    fn range_reverse(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>> {
        range(&self.reader.store, self.rows(), &self.slots, slot, table, (from, to), true, limit)
    }

    /// The clock of this state. Should its row not be readable, the store has stopped, and what is returned goes nowhere.
    fn clock(&self) -> ShardTime {
        self.standing().map_or_else(|_| self.reader.group.clock(), |standing| standing.clock)
    }
}

pub(super) fn generation(slots: &Ownership, slot: Slot) -> StateResult<u32> {
    slots
        .generation(slot)
        .ok_or_else(|| StateFault::Invariant(format!("slot {} does not belong to this group", slot.0)))
}

fn get(
    store: &StateShared,
    rows: Rows<'_>,
    slots: &Ownership,
    slot: Slot,
    table: Table,
    key: &[u8],
) -> StateResult<Option<Bytes>> {
    let key = row_key(slot, generation(slots, slot)?, table, key);
    Ok(rows.get(family_of(table), &key).map_err(|e| store.fatal.judge(e))?)
}

fn range(
    store: &StateShared,
    rows: Rows<'_>,
    slots: &Ownership,
    slot: Slot,
    table: Table,
    (from, to): (&[u8], &[u8]),
    reverse: bool,
    limit: usize,
) -> StateResult<Vec<(Bytes, Bytes)>> {
    let range = KeyRange::new(slot, generation(slots, slot)?, table, from, to);
    Ok(rows.range(&range, reverse, limit).map_err(|e| store.fatal.judge(e))?)
}
