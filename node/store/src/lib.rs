//! Everything that a node keeps on disk: the replicated log of all its groups, and their state.
//!
//! Two RocksDB instances. The *log* is synced: one writer thread collects the appends, votes and purges of all groups into one batch
//! and syncs once for all. The *state* has no write-ahead log, because the replicated log is one: a checkpoint flushes all of its
//! column families at one point, and only what a checkpoint has covered may be purged from the log.
//!
//! Never: an fsync tried twice; a corrupt log read as a shorter one; a state whose applied index stands ahead of its rows; another
//! crate that names rocksdb; tokio.
//!
//! Called by `replica` (openraft's log store and state machine stand on [`GroupLog`] and [`GroupState`]) and by the leader shell
//! (reads of committed state through [`CommittedReader`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod checkpoint;
mod db;
mod error;
mod fatal;
mod identity;
mod log;
mod options;
mod snapshot;
mod state;
mod store;

pub use error::StoreError;
pub use fatal::FatalHook;
pub use identity::Identity;
pub use log::{Done, GroupLog, LogEntry, Turns};
pub use options::{FaultPoint, Faults, LogWriter, StoreOptions};
pub use snapshot::{ReceivedSnapshot, Snapshot, SnapshotReceiver};
pub use state::{Applied, CommittedReader, CommittedView, GroupState};
pub use store::Store;
