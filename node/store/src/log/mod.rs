//! The replicated log of all groups of a node, in one RocksDB instance, behind one writer.
//!
//! Called by `replica`, which hands openraft a [`GroupLog`] for each group.

mod cache;
mod codec;
mod group;
mod keeper;
mod recover;
mod synced;
mod turns;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use stanchion_engine::GroupId;

pub use group::GroupLog;
pub use turns::Turns;
pub use writer::Done;

use crate::db::Db;
use crate::error::StoreError;
use crate::fatal::Fatal;
use crate::options::{LogWriter, StoreOptions};

/// One entry. The store looks at neither part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    pub index: u64,
    /// Encoded log id and kind.
    pub head: Bytes,
    pub payload: Bytes,
}

impl LogEntry {
    /// Bytes of head and payload.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// What all groups' logs share.
pub(crate) struct LogShared {
    queue: Arc<writer::Queue>,
    db: Arc<Db>,
    fatal: Arc<Fatal>,
    entry_cache_bytes: usize,
    stretch_bytes: u64,
}

/// The log instance with its writer.
pub(crate) struct Log {
    shared: Arc<LogShared>,
    groups: Mutex<BTreeMap<GroupId, Arc<GroupLog>>>,
    writer: RunningWriter,
}

enum RunningWriter {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Driven(Arc<turns::Seat>),
}

impl Log {
    /// Reads what each group's log holds, checks that nothing synced is missing, and starts the writer.
    pub fn open(
        db: Arc<Db>,
        fatal: Arc<Fatal>,
        options: &StoreOptions,
        dir: &std::path::Path,
    ) -> Result<Self, StoreError> {
        let (mark, synced) =
            synced::SyncedMark::open(dir).map_err(|e| StoreError::io(dir.join("log.synced").display(), e))?;
        let found = db.rocks.latest_sequence_number();
        if let Some(synced) = synced.filter(|synced| *synced > found) {
            return Err(StoreError::corrupt(
                db.path().display(),
                format!(
                    "the log ends at sequence number {found}, but was synced up to {synced}: acknowledged entries are lost"
                ),
            ));
        }
        let queue = Arc::new(writer::Queue::new());
        let shared = Arc::new(LogShared {
            queue: queue.clone(),
            db: db.clone(),
            fatal: fatal.clone(),
            entry_cache_bytes: options.entry_cache_bytes_per_group,
            stretch_bytes: options.log_stretch_bytes,
        });
        let groups = recover::groups(&shared)?;
        let writer = writer::Writer { queue, db, fatal, options: options.clone(), mark, scratch: Vec::new() };
        let writer = match &options.log_writer {
            LogWriter::Thread => {
                let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || writer.run());
                RunningWriter::Thread(Mutex::new(Some(thread.map_err(|e| StoreError::io("log writer thread", e))?)))
            }
            LogWriter::Driven(give) => {
                let seat = Arc::new(turns::Seat::new(writer));
                give(Turns::of(seat.clone()));
                RunningWriter::Driven(seat)
            }
        };
        Ok(Self { shared, groups: Mutex::new(groups), writer })
    }

    /// The group's log; an empty one if it has none yet.
    pub fn group(&self, group: GroupId) -> Arc<GroupLog> {
        let mut groups = self.groups.lock();
        groups.entry(group).or_insert_with(|| Arc::new(GroupLog::empty(group, self.shared.clone()))).clone()
    }

    /// Groups that the log knows of.
    pub fn groups(&self) -> Vec<Arc<GroupLog>> {
        self.groups.lock().values().cloned().collect()
    }

    /// Writes what is queued and ends the writer.
    pub fn close(&self) {
        for group in self.groups() {
            group.flush_committed();
        }
        self.shared.queue.close();
        match &self.writer {
            RunningWriter::Thread(thread) => {
                if let Some(thread) = thread.lock().take()
                    && thread.thread().id() != std::thread::current().id()
                    && thread.join().is_err()
                {
                    self.shared.fatal.raise(&StoreError::Misuse("the log's writer thread panicked".into()));
                }
            }
            RunningWriter::Driven(seat) => seat.finish(),
        }
    }

    /// Before waiting for the callback of an operation just queued, on a thread that may be the only one: a driven writer writes now
    /// what is queued.
    pub fn catch_up(&self) {
        match &self.writer {
            RunningWriter::Thread(_) => {}
            RunningWriter::Driven(seat) => seat.finish(),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        match &self.writer {
            RunningWriter::Thread(_) => self.close(),
            // Not shut down before: the node has crashed.
            RunningWriter::Driven(seat) => seat.abandon(),
        }
    }
}
