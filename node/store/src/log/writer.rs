//! The one writer of the log: all groups' appends, votes, truncations and purges go through one queue, and each round of the thread
//! writes what has gathered as one batch, syncs once, and then calls everybody back.
//!
//! ```text
//! groups   append  append  vote      append  purge          append …
//! thread        [ batch 1: write + sync ][ batch 2: write + sync ] …
//! callbacks                             ^ append, append, vote    ^ append, purge
//! ```
//!
//! The order of the queue is the order on disk; openraft's safety rests on a vote and an append not changing places. A purge or a
//! truncation alone is written and not synced.
//!
//! Never: writes again after a failed write or sync (what a second fsync says is worthless); lets a later operation succeed then.
//! Called by [`super::GroupLog`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use rocksdb::{WriteBatch, WriteOptions};
use stanchion_engine::{GroupId, mutant};
use stanchion_proto::row::{KeptRow, PurgedRow};

use super::LogEntry;
use super::codec::{COMMITTED, KEPT, PURGED, VOTE, encode_entry, entry_key, kept_key, meta_key};
use super::synced::SyncedMark;
use crate::db::{Db, ENTRIES, META};
use crate::error::StoreError;
use crate::fatal::Fatal;
use crate::options::{FaultPoint, StoreOptions};

/// Called once an operation is durable, or has failed for good. From the writer's thread: it must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Operations of one batch; above it a round would take longer than the sync it saves.
const BATCH_OPS_MAX: usize = 4096;
/// Bytes of one batch, unless a single operation is larger.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a group wants done to its log.
pub(super) enum Op {
    /// With the newest committed id, if it changed, and the stretches that these entries close.
    Append {
        entries: Vec<LogEntry>,
        committed: Option<Bytes>,
        closed: Vec<(u64, KeptRow)>,
    },
    Vote(Bytes),
    /// Removes the entries from this index on.
    Truncate {
        from: u64,
    },
    /// Removes the entries from `from` to the row's index.
    Purge {
        from: u64,
        row: PurgedRow,
    },
    Committed(Bytes),
    /// Removes all that is known of the group.
    Forget,
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(LogEntry::bytes).sum(),
            Self::Vote(_) | Self::Truncate { .. } | Self::Purge { .. } | Self::Committed(_) | Self::Forget => 0,
        }
    }

    fn needs_sync(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Vote(_) | Self::Committed(_) | Self::Forget => true,
            Self::Truncate { .. } | Self::Purge { .. } => false,
        }
    }
}

pub(super) struct Queued {
    group: GroupId,
    op: Op,
    done: Done,
}

/// The way to the writer. Not bounded by itself: an append may not block its caller, and what a group has in flight is bounded by the
/// proposer's budgets on a leader and by one request's size on a follower.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Operations up to this ticket have reached RocksDB.
    written: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    ops: std::collections::VecDeque<Queued>,
    /// Of the newest operation queued.
    ticket: u64,
    closed: bool,
    /// Of whoever drives the writer, while it waits for work.
    driver: Option<Waker>,
}

impl Queue {
    pub fn new() -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), written: AtomicU64::new(0) }
    }

    /// Queues an operation behind all others; its ticket tells when it has reached RocksDB. `done` fails at once after shutdown.
    pub fn push(&self, group: GroupId, op: Op, done: Done) -> u64 {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            drop(waiting);
            done(Err(StoreError::Closed.into()));
            return u64::MAX;
        }
        waiting.ticket += 1;
        let ticket = waiting.ticket;
        waiting.ops.push_back(Queued { group, op, done });
        let driver = waiting.driver.take();
        drop(waiting);
        match driver {
            Some(driver) => driver.wake(),
            None => _ = self.wake.notify_one(),
        }
        ticket
    }

    /// Operations up to this ticket have reached RocksDB.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Ends the writer once it has written what is queued.
    pub fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let driver = waiting.driver.take();
        drop(waiting);
        match driver {
            Some(driver) => driver.wake(),
            None => _ = self.wake.notify_one(),
        }
    }

    /// Takes no more, and forgets what is queued: nobody will write it, and nobody is told.
    pub fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let (ops, driver) = (std::mem::take(&mut waiting.ops), waiting.driver.take());
        drop(waiting);
        // Whoever waits for a callback is woken by its end.
        drop(ops);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().ops.is_empty()
    }

    /// Ready when something is queued, or never will be again.
    pub fn poll_work(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        if waiting.closed || !waiting.ops.is_empty() {
            return Poll::Ready(());
        }
        waiting.driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// What waits, up to the bounds of one batch; none when closed and empty.
    pub fn take_now(&self) -> Option<Vec<Queued>> {
        let mut waiting = self.waiting.lock();
        match waiting.ops.is_empty() {
            true if waiting.closed => None,
            true => Some(Vec::new()),
            false => Some(batch(&mut waiting)),
        }
    }

    /// Waits for work; none when closed and empty.
    fn take(&self) -> Option<Vec<Queued>> {
        let mut waiting = self.waiting.lock();
        while waiting.ops.is_empty() {
            if waiting.closed {
                return None;
            }
            self.wake.wait(&mut waiting);
        }
        Some(batch(&mut waiting))
    }
}

fn batch(waiting: &mut Waiting) -> Vec<Queued> {
    let mut bytes = 0;
    let within = |queued: &&Queued| {
        bytes += queued.op.bytes();
        bytes <= BATCH_BYTES_MAX
    };
    let count = waiting.ops.iter().take(BATCH_OPS_MAX).take_while(within).count().max(1);
    waiting.ops.drain(..count).collect()
}

pub(super) fn call_back(batch: Vec<Queued>, result: &Result<(), StoreError>) {
    for queued in batch {
        (queued.done)(result.clone().map_err(Into::into));
    }
}

/// What writing takes, whoever's turn it is.
pub(super) struct Writer {
    pub queue: Arc<Queue>,
    pub db: Arc<Db>,
    pub fatal: Arc<Fatal>,
    pub options: StoreOptions,
    pub mark: SyncedMark,
    /// Reused for each entry.
    pub scratch: Vec<u8>,
}

impl Writer {
    /// Until the queue is closed and empty.
    pub fn run(mut self) {
        // There from the start, so that a rate over it is right from the first sync on.
        metrics::counter!("stanchion_log_fsyncs_total").increment(0);
        while let Some(batch) = self.queue.take() {
            let result = self.turn(&batch);
            call_back(batch, &result);
        }
    }

    /// Writes one batch and syncs it. Those who wait are to be called back with the outcome.
    pub fn turn(&mut self, batch: &[Queued]) -> Result<(), StoreError> {
        let result = self.fatal.check().and_then(|()| self.write(batch).map_err(|e| self.fatal.judge(e)));
        // Before the callbacks, so that whoever is called back finds the entries evictable and readable.
        self.queue.written.fetch_add(batch.len() as u64, Ordering::AcqRel);
        result
    }

    fn write(&mut self, ops: &[Queued]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for queued in ops {
            self.add(&mut batch, queued)?;
        }
        let may_sync = self.options.sync && !self.options.ephemeral && !mutant!(NoFsync);
        let sync = may_sync && ops.iter().any(|queued| queued.op.needs_sync());
        metrics::histogram!("stanchion_log_batch_ops").record(ops.len() as f64);
        metrics::counter!("stanchion_log_bytes_total").increment(batch.size_in_bytes() as u64);

        self.options.fault(FaultPoint::LogWrite).map_err(|e| StoreError::io(self.db.path().display(), e))?;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let started = Instant::now();
        self.db.rocks.write_opt(batch, &options).map_err(|e| self.db.failed(e))?;
        if sync {
            metrics::counter!("stanchion_log_fsyncs_total").increment(1);
            metrics::histogram!("stanchion_log_fsync_seconds").record(started.elapsed().as_secs_f64());
            let sequence = self.db.rocks.latest_sequence_number();
            self.mark.note(sequence).map_err(|e| StoreError::io("log.synced", e))?;
        }
        Ok(())
    }

    fn add(&mut self, batch: &mut WriteBatch, queued: &Queued) -> Result<(), StoreError> {
        let (entries_cf, meta_cf) = (self.db.family(ENTRIES)?, self.db.family(META)?);
        let group = queued.group;
        match &queued.op {
            Op::Append { entries, committed, closed } => {
                for entry in entries {
                    encode_entry(group, entry, &mut self.scratch);
                    batch.put_cf(entries_cf, entry_key(group, entry.index), &self.scratch);
                }
                for (last, row) in closed {
                    batch.put_cf(meta_cf, kept_key(group, *last), row.encode_to_vec());
                }
                if let Some(committed) = committed {
                    batch.put_cf(meta_cf, meta_key(group, COMMITTED), committed);
                }
            }
            Op::Vote(vote) => batch.put_cf(meta_cf, meta_key(group, VOTE), vote),
            Op::Truncate { from } => {
                batch.delete_range_cf(entries_cf, entry_key(group, *from), entry_key(group, u64::MAX));
                batch.delete_range_cf(meta_cf, kept_key(group, *from), kept_key(group, u64::MAX));
            }
            Op::Purge { from, row } => {
                let behind = row.index.saturating_add(1);
                batch.put_cf(meta_cf, meta_key(group, PURGED), row.encode_to_vec());
                if *from < behind {
                    batch.delete_range_cf(entries_cf, entry_key(group, *from), entry_key(group, behind));
                }
                batch.delete_range_cf(meta_cf, kept_key(group, 0), kept_key(group, behind));
            }
            Op::Committed(committed) => batch.put_cf(meta_cf, meta_key(group, COMMITTED), committed),
            Op::Forget => {
                batch.delete_range_cf(entries_cf, entry_key(group, 0), entry_key(group, u64::MAX));
                for name in [COMMITTED, PURGED, VOTE] {
                    batch.delete_cf(meta_cf, meta_key(group, name));
                }
                batch.delete_range_cf(meta_cf, meta_key(group, KEPT), meta_key(group, KEPT + 1));
            }
        }
        Ok(())
    }
}
