//! Replication: the Raft groups of a node, from a proposed command to its reply on a majority's disks.
//!
//! A caller sees [`Replica`] (a node's groups), [`GroupHandle`] (one group: propose, linearizable read, role), [`PeerTransport`] (this
//! node among its peers) and four kinds of failure ([`ProposeError`]). Everything else, openraft above all, stays inside.
//!
//! Never: openraft named outside this crate; an acknowledgement of what a majority has not synced; "not applied" said of a command
//! that may be.
//!
//! Called by `server`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod audit;
mod bootstrap;
mod clock;
mod compare;
mod effects;
mod error;
mod group;
mod keeper;
mod log_store;
mod net;
mod network;
mod off_thread;
mod options;
mod peers;
mod proposer;
mod reads;
mod replica;
mod role;
mod service;
mod slots;
mod snapshot;
mod spread;
mod state_machine;
#[cfg(test)]
mod storage_tests;
mod transport;
mod types;
mod wire;

pub use effects::{EffectSink, FatalHook};
pub use error::{ProposeError, ReplicaError};
pub use group::{GroupHandle, GroupStatus};
pub use net::{Listener, Net, RealNet, Socket, Wire, incoming};
pub use off_thread::off_thread;
pub use options::{ReplicaOptions, Timings};
pub use peers::{PEER_MESSAGE_BYTES_MAX, Peer, Peers};
pub use replica::Replica;
pub use role::Role;
pub use service::FrameStream;
pub use slots::SlotMap;
pub use transport::PeerTransport;
pub use types::{NodeId, TermId};
