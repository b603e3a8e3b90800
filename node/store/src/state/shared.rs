//! What the readers of one group and its state machine share: how far it is applied, and which generations of its slots are live.
//!
//! Invariant: what is published here is committed to RocksDB. A generation is switched only under the write lock of `live`, so a
//! reader that holds the read lock while it reads, or while it takes its snapshot, sees one generation wholly.
//!
//! Called by [`super::GroupState`] (writes), [`super::CommittedReader`], snapshots and the checkpointer (reads).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use stanchion_engine::{GroupId, ShardTime};
use stanchion_proto::row::GroupRow;

use super::keys::{Ownership, group_key};
use super::rows::Rows;
use crate::db::{Db, GROUPS};
use crate::error::StoreError;
use crate::fatal::Fatal;
use crate::options::StoreOptions;

/// How far a group's state stands.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Log index of the last entry applied; 0 also where `log_id` says that there is none.
    pub index: u64,
    /// As given to [`super::GroupState::commit`]; none while nothing is applied.
    pub log_id: Option<Bytes>,
    /// The newest membership among the entries applied.
    pub membership: Option<Bytes>,
}

/// The state instance with what all groups share.
pub(crate) struct StateShared {
    pub db: Arc<Db>,
    pub fatal: Arc<Fatal>,
    pub options: StoreOptions,
    /// The next generation that no slot of this node has ever had.
    pub next_generation: AtomicU64,
    /// Bytes committed since the last checkpoint began.
    pub bytes_unflushed: AtomicU64,
}

impl StateShared {
    pub fn rows(&self) -> Rows<'_> {
        Rows { db: &self.db, snapshot: None }
    }

    /// A generation that nothing on this node is stored under.
    pub fn fresh_generation(&self) -> Result<u32, StoreError> {
        let generation = self.next_generation.fetch_add(1, Ordering::AcqRel);
        u32::try_from(generation)
            .map_err(|_| StoreError::Misuse("no generation is left; refill this node under a new id".into()))
    }
}

pub(crate) struct GroupShared {
    pub group: GroupId,
    pub live: RwLock<Arc<Ownership>>,
    pub applied: Mutex<Applied>,
    pub clock: AtomicI64,
    /// What the last checkpoint covered.
    pub flushed: Mutex<Applied>,
    /// Whether a [`super::GroupState`] is there: a group has one state machine.
    pub taken: AtomicBool,
}

impl GroupShared {
    pub fn empty(group: GroupId) -> Self {
        Self {
            group,
            live: RwLock::default(),
            applied: Mutex::default(),
            clock: AtomicI64::new(0),
            flushed: Mutex::default(),
            taken: AtomicBool::new(false),
        }
    }

    /// As found on disk, and therefore flushed.
    pub fn restored(group: GroupId, row: Standing) -> Self {
        Self {
            group,
            live: RwLock::new(Arc::new(row.slots)),
            applied: Mutex::new(row.applied.clone()),
            clock: AtomicI64::new(row.clock.0),
            flushed: Mutex::new(row.applied),
            taken: AtomicBool::new(false),
        }
    }

    pub fn clock(&self) -> ShardTime {
        ShardTime(self.clock.load(Ordering::Acquire))
    }

    /// Makes a committed row known.
    pub fn publish(&self, applied: Applied, clock: ShardTime) {
        self.clock.store(clock.0, Ordering::Release);
        *self.applied.lock() = applied;
    }
}

/// A group's row, decoded.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub applied: Applied,
    pub clock: ShardTime,
    pub slots: Ownership,
}

impl Standing {
    pub fn row(&self) -> GroupRow {
        GroupRow {
            applied_index: self.applied.index,
            applied_log_id: self.applied.log_id.clone().unwrap_or_default(),
            membership: self.applied.membership.clone().unwrap_or_default(),
            clock_unix_nanos: self.clock.0,
            slots: self.slots.encode(),
        }
    }

    /// Empty bytes mean none: the replication layer's encodings are never empty.
    pub fn of(row: GroupRow) -> Option<Self> {
        let some = |bytes: Bytes| (!bytes.is_empty()).then_some(bytes);
        Some(Self {
            slots: Ownership::decode(&row.slots)?,
            applied: Applied {
                index: row.applied_index,
                log_id: some(row.applied_log_id),
                membership: some(row.membership),
            },
            clock: ShardTime(row.clock_unix_nanos),
        })
    }

    pub fn decode(db: &Db, group: GroupId, value: &[u8]) -> Result<Self, StoreError> {
        let corrupt =
            |reason: String| StoreError::corrupt(db.path().display(), format!("row of group {group}: {reason}"));
        let row = GroupRow::decode(value).map_err(|e| corrupt(e.to_string()))?;
        Self::of(row).ok_or_else(|| corrupt("its slots overlap or are out of range".into()))
    }

    /// The group's row as `rows` has it; the empty one if it has none.
    pub fn read(rows: Rows<'_>, group: GroupId) -> Result<Self, StoreError> {
        match rows.get(GROUPS, &group_key(group))? {
            Some(value) => Self::decode(rows.db, group, &value),
            None => Ok(Self::default()),
        }
    }
}
