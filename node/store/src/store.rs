//! One node's data folder, opened: the way to every group's log and state.
//!
//! Opened once per process by `replica`; cheap to clone. Nothing here waits for the network or knows of Raft.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::{IteratorMode, WriteBatch, WriteOptions};
use stanchion_engine::GroupId;

use crate::checkpoint;
use crate::db::{Db, GROUPS, block_cache};
use crate::error::StoreError;
use crate::fatal::Fatal;
use crate::identity::{DataDir, Identity};
use crate::log::{GroupLog, Log};
use crate::options::StoreOptions;
use crate::snapshot::{self, Snapshot, SnapshotReceiver};
use crate::state::keys::group_key;
use crate::state::shared::{GroupShared, Standing, StateShared};
use crate::state::{Applied, CommittedReader, GroupState};

/// See the module. The folder stays locked until the store and everything that came from it is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    state: Arc<StateShared>,
    groups: Mutex<BTreeMap<GroupId, Arc<GroupShared>>>,
    identity: Mutex<Identity>,
    /// One checkpoint at a time.
    checkpoint: Mutex<()>,
    dir: Arc<DataDir>,
}

impl Store {
    /// Opens the folder, or makes it. Blocks on the disk.
    ///
    /// # Errors
    /// The folder is locked by another process, of another format, or holds data that does not check: a log shorter than what was
    /// synced, or a state behind what the log was purged to. A node with such a folder is lost; it joins again under a new id.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let (dir, identity) = DataDir::open(&options)?;
        let dir = Arc::new(dir);
        let fatal = Arc::new(Fatal::new(options.fatal.clone()));
        let cache = block_cache(&options);
        snapshot::clear_staging(&dir.path)?;
        let log = Log::open(Arc::new(Db::open_log(&dir, &options, &cache)?), fatal.clone(), &options, &dir.path)?;
        let db = Arc::new(Db::open_state(&dir, &options, &cache)?);

        let standings = standings(&db)?;
        let rows: Vec<Standing> = standings.values().cloned().collect();
        let highest = snapshot::remove_orphans(&db, &rows)?;
        check_against_log(&standings, &log)?;
        let restored = |(group, standing)| (group, Arc::new(GroupShared::restored(group, standing)));
        let groups = standings.into_iter().map(restored).collect();
        let state = Arc::new(StateShared {
            db,
            fatal,
            options,
            next_generation: AtomicU64::new(u64::from(highest) + 1),
            bytes_unflushed: AtomicU64::new(0),
        });
        let inner = Inner {
            log,
            state,
            groups: Mutex::new(groups),
            identity: Mutex::new(identity),
            checkpoint: Mutex::new(()),
            dir,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whose folder this is.
    pub fn identity(&self) -> Identity {
        self.inner.identity.lock().clone()
    }

    /// Makes the folder that of this cluster and node, or says that it is another's.
    pub fn adopt(&self, cluster_id: &str, node_id: u64) -> Result<(), StoreError> {
        let mut identity = self.inner.identity.lock();
        *identity = self.inner.dir.adopt(&identity, cluster_id, node_id, None)?;
        Ok(())
    }

    /// As [`Store::adopt`], for a cluster that begins now with so many groups besides the meta group. Written down before the first of
    /// them is made, so that a start that is cut short can be gone on with.
    pub fn begin_cluster(&self, cluster_id: &str, node_id: u64, groups: u32) -> Result<(), StoreError> {
        let mut identity = self.inner.identity.lock();
        *identity = self.inner.dir.adopt(&identity, cluster_id, node_id, Some(groups))?;
        Ok(())
    }

    /// The data folder; for an ephemeral store, the one it made.
    pub fn dir(&self) -> &Path {
        &self.inner.dir.path
    }

    /// Groups that this folder knows, by their log or their state, in order.
    pub fn groups(&self) -> Vec<GroupId> {
        let logs = self.inner.log.groups();
        let mut groups: BTreeSet<GroupId> = logs.iter().filter(|log| log.is_known()).map(|log| log.group()).collect();
        groups.extend(self.inner.groups.lock().keys());
        groups.into_iter().collect()
    }

    /// The group's log; an empty one if there is none yet.
    pub fn log(&self, group: GroupId) -> Arc<GroupLog> {
        self.inner.log.group(group)
    }

    /// The group's state machine. A group has one: an error while another lives.
    pub fn group_state(&self, group: GroupId) -> Result<GroupState, StoreError> {
        GroupState::open(self.inner.state.clone(), self.shared(group))
    }

    /// Reads of the group's committed state.
    pub fn reader(&self, group: GroupId) -> CommittedReader {
        CommittedReader { store: self.inner.state.clone(), group: self.shared(group) }
    }

    /// Makes everything committed so far safe without the log, and returns how far that is for each group that has applied anything.
    /// Blocks for a flush of up to the memtables' bound.
    pub fn checkpoint(&self) -> Result<BTreeMap<GroupId, u64>, StoreError> {
        let _one = self.inner.checkpoint.lock();
        let groups = self.inner.groups.lock().values().cloned().collect();
        checkpoint::run(&self.inner.state, groups, &self.inner.log)
    }

    /// How far the group's state is safe without the log: what openraft may be told as its snapshot.
    pub fn flushed(&self, group: GroupId) -> Applied {
        self.shared(group).flushed.lock().clone()
    }

    /// Bytes committed since the last checkpoint began.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.inner.state.bytes_unflushed.load(Ordering::Acquire)
    }

    /// The group's committed state as of now, in chunks.
    pub fn snapshot(&self, group: GroupId) -> Result<Snapshot, StoreError> {
        self.inner.state.fatal.check()?;
        snapshot::open(self.inner.state.clone(), self.shared(group))
    }

    /// Takes in a snapshot of the group from another node.
    pub fn snapshot_receiver(&self, group: GroupId) -> Result<SnapshotReceiver, StoreError> {
        self.inner.state.fatal.check()?;
        SnapshotReceiver::new(self.inner.state.clone(), group, &self.inner.dir.path)
    }

    /// Removes the group from this node: its log, its vote and its state. It must never come back under the same node id.
    pub fn remove_group(&self, group: GroupId) -> Result<(), StoreError> {
        let shared = self.shared(group);
        if shared.taken.load(Ordering::Acquire) {
            return Err(StoreError::Misuse(format!("group {group} still has a state machine")));
        }
        let (sent, done) = std::sync::mpsc::sync_channel(1);
        self.log(group).forget(Box::new(move |result| {
            let _ = sent.send(result);
        }));
        self.inner.log.catch_up();
        let done = done.recv().map_err(|_| StoreError::Closed)?;
        done.map_err(|e| StoreError::io(format!("log of group {group}"), e))?;
        let db = &self.inner.state.db;
        let mut batch = WriteBatch::default();
        batch.delete_cf(db.family(GROUPS)?, group_key(group));
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        db.rocks.write_opt(batch, &options).map_err(|e| self.inner.state.fatal.judge(db.failed(e)))?;
        self.inner.groups.lock().remove(&group);
        // The rows are nobody's now; the flush makes that so after a crash, and the next open removes them.
        self.checkpoint().map(drop)
    }

    /// Bytes of all files in the folder.
    pub fn disk_bytes(&self) -> u64 {
        bytes_under(self.inner.dir.path.clone())
    }

    /// Whether RocksDB holds back writes of applied rows: applies, and with them heartbeats, would be late.
    pub fn write_stalled(&self) -> bool {
        self.inner.state.db.stalled()
    }

    /// Whether the store has stopped, and why.
    pub fn check(&self) -> Result<(), StoreError> {
        self.inner.state.fatal.check()
    }

    /// Writes what is queued, flushes, and ends the writer. Every later append fails. An ephemeral store's folder is gone after it.
    pub fn shutdown(&self) -> Result<(), StoreError> {
        self.inner.log.close();
        if self.inner.state.options.ephemeral {
            self.inner.state.db.rocks.cancel_all_background_work(true);
            self.inner.dir.remove_if_ephemeral();
            return Ok(());
        }
        self.checkpoint().map(drop)
    }

    fn shared(&self, group: GroupId) -> Arc<GroupShared> {
        let mut groups = self.inner.groups.lock();
        groups.entry(group).or_insert_with(|| Arc::new(GroupShared::empty(group))).clone()
    }
}

/// Every group's row.
fn standings(db: &Db) -> Result<BTreeMap<GroupId, Standing>, StoreError> {
    let mut standings = BTreeMap::new();
    for row in db.rocks.iterator_cf(db.family(GROUPS)?, IteratorMode::Start) {
        let (key, value) = row.map_err(|e| db.failed(e))?;
        let Ok(group) = <[u8; 4]>::try_from(&*key) else {
            return Err(StoreError::corrupt(db.path().display(), format!("a row of `groups` has key {key:?}")));
        };
        let group = GroupId(u32::from_be_bytes(group));
        standings.insert(group, Standing::decode(db, group, &value)?);
    }
    Ok(standings)
}

/// What was purged from a log must be in the state: entries in neither are lost. Tells each log how far its state is flushed.
fn check_against_log(standings: &BTreeMap<GroupId, Standing>, log: &Log) -> Result<(), StoreError> {
    for log in log.groups() {
        let applied = standings.get(&log.group()).map(|standing| &standing.applied);
        let applied = applied.filter(|applied| applied.log_id.is_some()).map(|applied| applied.index);
        if log.purged_index() > applied {
            let (purged, applied) =
                (log.purged_index().unwrap_or(0), applied.map_or("nothing".into(), |index| format!("{index}")));
            return Err(StoreError::corrupt(
                format!("group {}", log.group()),
                format!("its log is purged up to {purged}, but its state holds {applied}"),
            ));
        }
        if let Some(applied) = applied {
            log.flushed(applied);
        }
    }
    Ok(())
}

fn bytes_under(dir: PathBuf) -> u64 {
    // Files come and go while this walks; what has gone counts nothing.
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_under(entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
