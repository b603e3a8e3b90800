//! Applying: committed entries to the engine, their rows to the store, effects and replies to whoever waits.
//!
//! ```text
//!   entries ─▶ engine::apply, one command after another, into the overlay
//!           ─▶ ONE commit a batch: rows, applied id and membership in one write (no sync: the log is the WAL)
//!           ─▶ if this node proposed the entry: effects to the sink, then replies to the proposer
//!           ─▶ some of the runs touched are held to the invariants (`audit`)
//! ```
//!
//! Small batches are applied where openraft's worker runs. A large one, or one after a commit that was slow, moves the other tasks
//! of that thread away first, so that a stalled disk stalls applying and not the heartbeats of all groups.
//!
//! Never: a reply before the commit; an entry skipped or applied twice; going on after a fault (the group stops; if the disk may be
//! bad, the node does).
//!
//! Called by openraft's state machine worker, one call at a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use prost::Message;
use stanchion_engine::invariants::Violation;
use stanchion_engine::{Effects, Features, Position, Reply, RunKey, StateFault, StateReader};
use stanchion_proto::command::{self, command::Kind};
use stanchion_store::{GroupState, StoreError};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::audit::Purse;
use crate::effects::Shared;
use crate::snapshot::{self, SnapshotData};
use crate::types::{Applied, Entry, LogId, SnapshotMeta, StoredMembership, TermId, TypeConfig};
use crate::wire;

/// Entries' bytes applied with one commit.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;
/// From here on a batch counts as large.
const INLINE_BYTES: usize = 128 * 1024;
/// From here on a commit counts as slow.
const SLOW_COMMIT: Duration = Duration::from_millis(20);

/// See the module. Owned by openraft, one a group.
pub(crate) struct StateMachine {
    shared: Arc<Shared>,
    state: GroupState,
    membership: StoredMembership,
    last_commit: Duration,
    purse: Arc<Purse>,
}

/// Why applying cannot go on.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    State(#[from] StateFault),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Format(#[from] io::Error),
    #[error("invariant violated: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Broken(Vec<Violation>),
    #[error("replicas differ: {0}")]
    Differs(String),
}

type Item = (Entry, Option<ApplyResponder<TypeConfig>>);

impl StateMachine {
    /// Over the state as it was last flushed, which is what a start begins from.
    pub fn open(shared: Arc<Shared>, state: GroupState, purse: Arc<Purse>) -> io::Result<Self> {
        let applied = state.applied();
        let log_id = applied.log_id.as_deref().map(wire::decode_log_id).transpose()?;
        let membership = applied.membership.as_deref().map(wire::decode_membership).transpose()?.unwrap_or_default();
        shared.publish(log_id.map_or(0, |id| id.index), state.clock());
        Ok(Self { shared, state, membership, last_commit: Duration::ZERO, purse })
    }

    fn apply_batch(&mut self, batch: Vec<Item>) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes: usize = batch.iter().map(|(entry, _)| entry_bytes(entry)).sum();
        let may_stall = bytes > INLINE_BYTES || self.last_commit > SLOW_COMMIT;
        match may_stall && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            true => tokio::task::block_in_place(|| self.apply_now(batch, bytes)),
            false => self.apply_now(batch, bytes),
        }
    }

    fn apply_now(&mut self, batch: Vec<Item>, bytes: usize) -> io::Result<()> {
        let _abort = StopNodeOnPanic(self.shared.clone());
        let started = Instant::now();
        let count = batch.len();
        let outcome = self.apply_all(batch);
        metrics::histogram!("stanchion_apply_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("stanchion_applied_entries_total").increment(count as u64);
        self.shared.applied_bytes.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        outcome.map_err(|fault| self.stop(fault))
    }

    fn apply_all(&mut self, batch: Vec<Item>) -> Result<(), Fault> {
        let mut last = None;
        let mut changed_membership = None;
        let mut outcomes = Vec::with_capacity(batch.len());
        for (entry, responder) in batch {
            let (applied, effects) = match entry.payload {
                EntryPayload::Blank => Default::default(),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    changed_membership = Some(wire::encode_membership(&self.membership));
                    Default::default()
                }
                EntryPayload::Normal(data) => self.apply_commands(entry.log_id.index, data.0)?,
            };
            last = Some(entry.log_id);
            outcomes.push((entry.log_id, applied, effects, responder));
        }
        let Some(last) = last else { return Ok(()) };

        let committing = Instant::now();
        self.state.commit(last.index, wire::encode_log_id(&last), changed_membership)?;
        self.last_commit = committing.elapsed();
        self.shared.publish(last.index, self.state.clock());

        let touched = self.purse.pick(outcomes.iter().map(|(_, _, effects, _)| effects));
        let sink = self.shared.sink();
        for (log_id, applied, effects, responder) in outcomes {
            if log_id.leader_id.node_id == self.shared.node {
                self.shared.publish_own_term(log_id.leader_id.term);
                if let Some(sink) = sink.as_ref().filter(|_| !applied.replies.is_empty()) {
                    sink.applied(TermId(log_id.leader_id.term), log_id.index, effects);
                }
            }
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        self.look_at(&touched)
    }

    /// Holds runs of the committed state to the invariants.
    fn look_at(&self, runs: &[RunKey]) -> Result<(), Fault> {
        let mut broken = Vec::new();
        for run in runs {
            broken.extend(self.purse.look(&self.state, run)?.violations);
        }
        if broken.is_empty() { Ok(()) } else { Err(Fault::Broken(broken)) }
    }

    fn apply_commands(&mut self, index: u64, data: Bytes) -> Result<(Applied, Effects), Fault> {
        let entry = command::Entry::decode(data).map_err(|e| crate::error::corrupt("an entry's commands", e))?;
        let mut replies: Vec<Reply> = Vec::with_capacity(entry.commands.len());
        let mut effects = Effects::default();
        for (offset, command) in (0u32..).zip(&entry.commands) {
            let at = Position { group: self.shared.group, index, offset };
            if let Some(Kind::CheckHash(check)) = &command.kind {
                self.shared.parts.apply(&self.state, index, check)?.map_err(Fault::Differs)?;
            }
            let (reply, more) = stanchion_engine::apply(&mut self.state, command, at, Features::default())?;
            replies.push(reply);
            match offset {
                0 => effects = more,
                _ => effects.merge(more),
            }
        }
        Ok((Applied { replies }, effects))
    }

    /// Says what happened where it will be found, and stops what must stop.
    fn stop(&self, fault: Fault) -> io::Error {
        let group = self.shared.group;
        tracing::error!(%group, %fault, "applying failed; this group stops on this node and must not lead or serve here again");
        metrics::counter!("stanchion_apply_faults_total").increment(1);
        for rule in rules_of(&fault) {
            metrics::counter!("stanchion_invariant_violations_total", "rule" => rule, "group" => group.to_string())
                .increment(1);
        }
        let _ = self.shared.stopped.set(fault.to_string());
        match &fault {
            // The node's other groups are sound. Where it was decided by replicated state, every replica stops this group alike.
            Fault::State(StateFault::Invariant(_)) | Fault::Broken(_) | Fault::Differs(_) => {}
            Fault::State(StateFault::Storage(_) | StateFault::Corrupt { .. }) | Fault::Store(_) | Fault::Format(_) => {
                (self.shared.fatal)(&format!("group {group}: {fault}"));
            }
        }
        io::Error::other(fault.to_string())
    }

    /// What a snapshot may be said to hold: what is safe without the log.
    fn flushed_meta(&self) -> io::Result<Option<SnapshotMeta>> {
        snapshot::meta_of(&self.shared.store.flushed(self.shared.group))
    }
}

/// The rules that are broken, for the metric.
fn rules_of(fault: &Fault) -> Vec<String> {
    match fault {
        Fault::Broken(violations) => violations.iter().map(|violation| violation.rule.to_owned()).collect(),
        Fault::Differs(_) => vec!["B2".to_owned()],
        // Words that begin with a rule, unless it is a rule of the engine's own.
        Fault::State(StateFault::Invariant(words)) => {
            let rule = words.split(':').next().filter(|rule| rule.len() <= 3).unwrap_or("engine");
            vec![rule.to_owned()]
        }
        Fault::State(StateFault::Storage(_) | StateFault::Corrupt { .. }) | Fault::Store(_) | Fault::Format(_) => {
            Vec::new()
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// A panic while applying leaves openraft's core running without a state machine: better no node than half a one.
struct StopNodeOnPanic(Arc<Shared>);

impl Drop for StopNodeOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.fatal)(&format!("group {}: applying an entry panicked", self.0.group));
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = FlushedSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let log_id = self.state.applied().log_id.as_deref().map(wire::decode_log_id).transpose()?;
        Ok((log_id, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + openraft::OptionalSend,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            bytes += entry_bytes(&entry);
            batch.push((entry, responder));
            if bytes >= COMMIT_BYTES {
                self.apply_batch(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.apply_batch(batch)
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<FlushedSnapshot> {
        if force {
            return Some(self.get_snapshot_builder().await);
        }
        match self.flushed_meta() {
            Ok(Some(meta)) => Some(FlushedSnapshot { meta: Ok(meta), shared: self.shared.clone() }),
            Ok(None) => None,
            Err(error) => Some(FlushedSnapshot { meta: Err(error), shared: self.shared.clone() }),
        }
    }

    async fn get_snapshot_builder(&mut self) -> FlushedSnapshot {
        let flushed = snapshot::off_the_runtime(|| self.shared.store.checkpoint()).map_err(io::Error::from);
        let meta = flushed.and_then(|_| self.flushed_meta()).map(Option::unwrap_or_default);
        FlushedSnapshot { meta, shared: self.shared.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let _abort = StopNodeOnPanic(self.shared.clone());
        let started = Instant::now();
        let installed = snapshot::off_the_runtime(|| -> Result<(), StoreError> {
            let received = data.into_received(self.shared.group, &self.shared.store)?;
            // Flushes too: openraft purges the log up to the snapshot next.
            self.state.install(received)
        });
        installed.map_err(|error| self.stop(error.into()))?;
        let applied = self.state.applied();
        let log_id = applied.log_id.as_deref().map(wire::decode_log_id).transpose()?;
        if log_id != meta.last_log_id {
            let reason = format!("a snapshot that ends at {:?} was announced as {:?}", log_id, meta.last_log_id);
            return Err(self.stop(Fault::Format(io::Error::new(io::ErrorKind::InvalidData, reason))));
        }
        self.membership = meta.last_membership.clone();
        self.shared.publish(log_id.map_or(0, |id| id.index), self.state.clock());
        metrics::counter!("stanchion_snapshots_installed_total").increment(1);
        tracing::info!(group = %self.shared.group, index = ?log_id.map(|id| id.index), took = ?started.elapsed(), "snapshot installed");
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        let data = || SnapshotData::Here { store: self.shared.store.clone(), group: self.shared.group };
        Ok(self.flushed_meta()?.map(|meta| openraft::Snapshot { meta, snapshot: data() }))
    }
}

/// A snapshot's name. Its content is read when it is sent; what openraft learns is the flushed index, which bounds purging.
pub(crate) struct FlushedSnapshot {
    meta: io::Result<SnapshotMeta>,
    shared: Arc<Shared>,
}

impl RaftSnapshotBuilder<TypeConfig> for FlushedSnapshot {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<openraft::alias::SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let data = SnapshotData::Here { store: self.shared.store.clone(), group: self.shared.group };
        let meta = self.meta.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        Ok(openraft::Snapshot { meta: meta.clone(), snapshot: data })
    }
}
