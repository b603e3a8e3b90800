//! Numbers and names that must not be mistaken for one another.

use std::fmt;

/// A run's place for ever: one of [`crate::slot::SLOTS`], by hash of namespace id and workflow id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

/// A Raft group. Group 0 is the meta group; slots map to the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u32);

impl GroupId {
    /// Nodes, slot map, namespaces, search attributes, features.
    pub const META: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an event in its run's history. The first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct EventId(pub i64);

/// Attempt of a workflow or activity task. The first is 1.
pub type Attempt = i32;

/// Nanoseconds since the epoch by the shard's clock, which only moves by commands and never backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardTime(pub i64);

/// Where in the log a command stands. Equal on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub group: GroupId,
    /// Log index of the entry.
    pub index: u64,
    /// Place of the command within its entry, from 0.
    pub offset: u32,
}

/// Behaviours that a log entry has switched on for the whole cluster. Empty in this release.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features(pub u64);

/// One run, fully named.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunKey {
    pub namespace_id: String,
    pub workflow_id: String,
    pub run_id: String,
}

impl RunKey {
    pub fn slot(&self) -> Slot {
        crate::slot::slot_of(&self.namespace_id, &self.workflow_id)
    }
}
