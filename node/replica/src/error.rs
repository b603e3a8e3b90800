//! What can go wrong for those who call this crate, sorted by what they must do about it.
//!
//! Never: `NotLeader` for a command that might have been appended. The caller repeats such a command elsewhere, and a wrong answer
//! here would double it.

use std::io;

use crate::types::NodeId;

/// Why a command was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not applied, now or later. Ask that node, or find the leader anew.
    #[error("this node does not lead the group{}", match leader { Some(node) => format!("; node {node} does"), None => String::new() })]
    NotLeader { leader: Option<NodeId> },
    /// Certainly not applied: the group's queue is full.
    #[error("the group's queue is full: {waiting_bytes} bytes wait, the limit proposer_queue_bytes_max is {bytes_max}")]
    Overloaded { waiting_bytes: u64, bytes_max: u64 },
    /// May have been applied, or may still be. Repeat it only with the same request id.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// This group has ended on this node and does not come back without a restart.
    #[error("the group has stopped on this node: {0}")]
    Fatal(String),
}

/// Why a node's replicas could not be opened, adopted or asked.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error(transparent)]
    Store(#[from] stanchion_store::StoreError),
    #[error("raft configuration: {0}")]
    Config(String),
    #[error("group {group}: {reason}")]
    Group { group: u32, reason: String },
    #[error("{0}")]
    Bootstrap(String),
}

/// Bytes of ours, from the disk or a peer, that do not decode.
pub(crate) fn corrupt(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} does not decode: {error}"))
}
