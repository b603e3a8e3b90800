//! How a store is opened: its folder, its bounds of memory, and what tests may break.
//!
//! Called by the server's configuration (through `replica`) and by tests.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::fatal::FatalHook;
use crate::log::Turns;

const MIB: usize = 1024 * 1024;

/// Where a test may make the disk fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultPoint {
    /// A batch of the log is about to be written and synced.
    LogWrite,
    /// A batch of applied rows is about to be written.
    StateWrite,
    /// A checkpoint is about to flush.
    Checkpoint,
}

/// Asked before each write; an error stands for the disk's.
pub type Faults = Arc<dyn Fn(FaultPoint) -> io::Result<()> + Send + Sync>;

/// Who takes the turns of the log's writer: each writes what has gathered, syncs once, and calls back.
#[derive(Clone, Default)]
pub enum LogWriter {
    /// A thread of the store's own.
    #[default]
    Thread,
    /// Whoever is given the turns, when the store is opened. Such a store has no thread of its own, and can be lost as in a crash, in a
    /// process that goes on: dropping it, or the turns, without a shutdown writes nothing more and flushes nothing.
    Driven(Arc<dyn Fn(Turns) + Send + Sync>),
}

impl LogWriter {
    pub(crate) fn is_driven(&self) -> bool {
        match self {
            Self::Thread => false,
            Self::Driven(_) => true,
        }
    }
}

/// See the module. Sizes are in bytes.
#[derive(Clone)]
pub struct StoreOptions {
    /// Made if absent. Ignored by an ephemeral store, which makes a folder of its own under the system's temporary one.
    pub dir: PathBuf,
    /// Whether an acknowledged append is on the disk and not only with the operating system. False only where data may be lost.
    pub sync: bool,
    /// Nothing is kept: the folder is removed at shutdown, and nothing is synced.
    pub ephemeral: bool,
    /// Uncompressed blocks of both instances, with their indexes and filters.
    pub block_cache_bytes: usize,
    /// Rows of the state not yet flushed.
    pub state_memtables_bytes: usize,
    /// Entries of the log not yet flushed into files.
    pub log_memtables_bytes: usize,
    /// Log entries of a group kept in memory beyond those not yet durable.
    pub entry_cache_bytes_per_group: usize,
    /// A group's log is let go of in pieces of this size.
    pub log_stretch_bytes: u64,
    /// Decoded runs of a group kept in memory.
    pub run_cache_bytes_per_group: usize,
    pub log_writer: LogWriter,
    /// Called once when the disk fails or corrupt data is met. Without one the store stops and says so in the log only.
    pub fatal: Option<FatalHook>,
    /// For tests.
    pub faults: Option<Faults>,
}

impl StoreOptions {
    /// A synced store in `dir` with the default bounds.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: true,
            ephemeral: false,
            block_cache_bytes: 64 * MIB,
            state_memtables_bytes: 64 * MIB,
            log_memtables_bytes: 32 * MIB,
            entry_cache_bytes_per_group: 4 * MIB,
            log_stretch_bytes: MIB as u64,
            run_cache_bytes_per_group: 32 * MIB,
            log_writer: LogWriter::Thread,
            fatal: None,
            faults: None,
        }
    }

    /// A synced store with little memory: for tests with many stores in one process. Its state has room for more than a test writes
    /// between two checkpoints, so that only these flush it, and not RocksDB at a time of its own choosing.
    pub fn small(dir: impl Into<PathBuf>) -> Self {
        Self {
            block_cache_bytes: 4 * MIB,
            state_memtables_bytes: 32 * MIB,
            log_memtables_bytes: 8 * MIB,
            entry_cache_bytes_per_group: MIB,
            run_cache_bytes_per_group: 4 * MIB,
            ..Self::new(dir)
        }
    }

    /// A store that nothing outlives.
    pub fn ephemeral() -> Self {
        Self { sync: false, ephemeral: true, ..Self::new(PathBuf::new()) }
    }

    pub(crate) fn fault(&self, point: FaultPoint) -> io::Result<()> {
        match &self.faults {
            Some(faults) => faults(point),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions")
            .field("dir", &self.dir)
            .field("sync", &self.sync)
            .field("ephemeral", &self.ephemeral)
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("state_memtables_bytes", &self.state_memtables_bytes)
            .field("log_memtables_bytes", &self.log_memtables_bytes)
            .field("entry_cache_bytes_per_group", &self.entry_cache_bytes_per_group)
            .field("log_stretch_bytes", &self.log_stretch_bytes)
            .field("run_cache_bytes_per_group", &self.run_cache_bytes_per_group)
            .finish_non_exhaustive()
    }
}
