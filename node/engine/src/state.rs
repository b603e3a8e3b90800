//! What the engine needs of storage: ordered tables of bytes, a slot each.
//!
//! Two implementations exist: a BTreeMap (for tests and the simulator) and the store's overlay over RocksDB.
//! Both must behave alike to the byte; the determinism test holds them against each other.
//!
//! Never: a read that sees half a command; an iteration order other than that of the key's bytes.

use bytes::Bytes;

use crate::types::{ShardTime, Slot};

/// A read failed or a row does not decode. Not a rejection: the process must stop, because going on would fork the replica.
#[derive(Debug, thiserror::Error)]
pub enum StateFault {
    #[error("storage: {0}")]
    Storage(String),
    #[error("corrupt row in {table:?}: {reason}")]
    Corrupt { table: Table, reason: String },
    #[error("invariant violated: {0}")]
    Invariant(String),
}

pub type StateResult<T> = Result<T, StateFault>;

/// The engine's tables. The number is part of every stored key: never renumber.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Table {
    /// (namespace id, workflow id) to the current run and the request ids that made it.
    Current = 1,
    /// Run to its execution state.
    Run = 2,
    /// (run, scheduled event id) to a pending activity.
    Activity = 3,
    /// (run, timer id) to a pending timer.
    Timer = 4,
    /// Tasks that wait for a worker, and workflow tasks that are with one.
    Pending = 5,
    /// (due time, sequence) to what is then to happen.
    TimerQueue = 6,
    /// (run, first event id) to an encoded batch of events.
    History = 7,
    /// Messages to other groups.
    Outbox = 8,
    /// Rows that list and count are served from.
    Index = 9,
    /// (run, request id or signal id …) seen.
    Dedup = 10,
    /// Meta group: namespaces, nodes, slot map, features.
    Meta = 11,
    /// (run, marker, update id) to an update that is in flight (marker 0) or completed (1).
    Update = 12,
    /// (run, initiated event id) to a pending child.
    Child = 13,
    /// (run, initiated event id) to a signal or cancel request to another run that is not answered.
    External = 14,
    /// Schedule id to a schedule.
    Schedule = 15,
    /// (part, namespace id, job id) to a batch operation's parts.
    Batch = 16,
    /// (namespace id, activity id) to the current run, and each run's parts.
    StandaloneActivity = 17,
    /// What a slot has applied of each other slot's messages.
    Inbox = 18,
    /// What list and count see of a run, schedule or activity, in the order of lists.
    VisibilityRecord = 19,
    /// How many of those there are, by status.
    VisibilityCount = 20,
    /// What values the closed ones of a stretch have at most and at least.
    VisibilityStretch = 22,
    /// (namespace id, workflow id, request id of a start) to the run that it made.
    StartRequest = 34,
}

impl Table {
    /// In the order of their numbers, which is the order of keys.
    pub const ALL: [Self; 22] = [
        Self::Current,
        Self::Run,
        Self::Activity,
        Self::Timer,
        Self::Pending,
        Self::TimerQueue,
        Self::History,
        Self::Outbox,
        Self::Index,
        Self::Dedup,
        Self::Meta,
        Self::Update,
        Self::Child,
        Self::External,
        Self::Schedule,
        Self::Batch,
        Self::StandaloneActivity,
        Self::Inbox,
        Self::VisibilityRecord,
        Self::VisibilityCount,
        Self::VisibilityStretch,
        Self::StartRequest,
    ];
}

/// Reads of one consistent state.
pub trait StateReader {
    /// The row, or none.
    fn get(&self, slot: Slot, table: Table, key: &[u8]) -> StateResult<Option<Bytes>>;

    /// Rows with `from <= key < to` in key order, at most `limit`. An empty `to` means the end of the table.
    fn range(&self, slot: Slot, table: Table, from: &[u8], to: &[u8], limit: usize)
    -> StateResult<Vec<(Bytes, Bytes)>>;

    /// As [`StateReader::range`], from the last key downwards.
    fn range_reverse(
        &self,
        slot: Slot,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> StateResult<Vec<(Bytes, Bytes)>>;

    /// The largest `now` that an applied command of this group has carried.
    fn clock(&self) -> ShardTime;
}

/// What `apply` works on: reads see the writes of the same batch.
pub trait ShardState: StateReader {
    fn put(&mut self, slot: Slot, table: Table, key: &[u8], value: Bytes);
    fn delete(&mut self, slot: Slot, table: Table, key: &[u8]);
    fn set_clock(&mut self, now: ShardTime);
    /// Decoded runs that were worked on lately. Purely a cache: dropping all of it changes nothing but speed.
    fn run_cache(&mut self) -> &mut crate::cache::RunCache;
}
