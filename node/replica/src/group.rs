//! One group on this node: started, asked, watched, ended.
//!
//! Never: a group started without a durable trace that a restart would find it by.
//!
//! Called by [`crate::Replica`], and by the leader shell through [`GroupHandle`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use openraft::Config;
use openraft::async_runtime::watch::WatchReceiver;
use stanchion_engine::{GroupId, Reply, ShardTime, Slot};
use stanchion_proto::command::Command;
use stanchion_store::{CommittedReader, GroupLog, Store};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::audit::Purse;
use crate::compare::Parts;
use crate::effects::{EffectSink, Shared};
use crate::error::{ProposeError, ReplicaError};
use crate::log_store::LogStore;
use crate::network::Network;
use crate::options::ReplicaOptions;
use crate::proposer::Proposer;
use crate::reads::Reads;
use crate::role::{self, Role};
use crate::slots::SlotMap;
use crate::state_machine::StateMachine;
use crate::transport::{PeerTransport, Served};
use crate::types::{NodeId, Raft, TermId, Vote};
use crate::wire;

/// What a group needs of its node.
pub(crate) struct Surroundings {
    pub store: Store,
    pub transport: Arc<PeerTransport>,
    pub options: ReplicaOptions,
    pub config: Arc<Config>,
    pub applied_bytes: Arc<AtomicU64>,
    pub purse: Arc<Purse>,
}

/// A group on this node. Clones are the same group.
#[derive(Clone)]
pub struct GroupHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    raft: Raft,
    log: Arc<GroupLog>,
    proposer: Arc<Proposer>,
    reads: Arc<Reads>,
    role: watch::Receiver<Role>,
    reader: CommittedReader,
    /// First and last, inclusive.
    slots: Vec<(Slot, Slot)>,
    transport: Arc<PeerTransport>,
    tracker: AbortHandle,
}

/// How a group stands, as this node sees it. Followers' progress is known to the leader only.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    pub group: GroupId,
    pub role: Role,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub last_log_index: u64,
    pub committed_index: u64,
    pub applied_index: u64,
    /// What a restart would begin from.
    pub flushed_index: u64,
    pub purged_index: u64,
    /// Of the log kept on disk.
    pub log_bytes: u64,
    pub voters: Vec<NodeId>,
    /// Index up to which each follower's log is known to match.
    pub followers: BTreeMap<NodeId, u64>,
    /// Why the group has ended on this node, if it has.
    pub stopped: Option<String>,
}

impl GroupHandle {
    /// Starts the group from what the store holds of it.
    pub(crate) async fn start(group: GroupId, slots: &SlotMap, around: &Surroundings) -> Result<Self, ReplicaError> {
        let failed = |reason: String| ReplicaError::Group { group: group.0, reason };
        let node = around.transport.peers().node_id();
        let log = around.store.log(group);
        remember(&log, node).await.map_err(|e| failed(e.to_string()))?;

        let mut state = around.store.group_state(group)?;
        // What a group owns is in its own rows once they were flushed; before that, the map says it.
        if state.owned_slots().is_empty() {
            state.set_owned_slots(&slots.slots_of(group))?;
        }
        let owned = state.owned_slots().into_iter().map(|range| (Slot(*range.start()), Slot(*range.end()))).collect();
        let reader = state.reader();
        let shared = Arc::new(Shared::new(
            group,
            node,
            around.store.clone(),
            around.options.fatal.clone(),
            around.applied_bytes.clone(),
        ));
        let machine =
            StateMachine::open(shared.clone(), state, around.purse.clone()).map_err(|e| failed(e.to_string()))?;
        let log_store = LogStore::new(log.clone(), around.options.limits.append_bytes_max as usize);
        let clock = shared.running_clock.clone();
        let network = Network { transport: around.transport.clone(), group, clock: clock.clone() };
        let raft = Raft::new(node, around.config.clone(), network, log_store, machine);
        let raft = raft.await.map_err(|e| failed(e.to_string()))?;
        around.transport.register(group, Served { raft: raft.clone(), store: around.store.clone(), clock });

        let runtime = around.transport.runtime().clone();
        let (role, watcher) = watch::channel(Role::Follower { leader: None });
        let tracker = runtime.spawn(role::track(raft.clone(), shared.clone(), role)).abort_handle();
        let proposer = Proposer::new(raft.clone(), shared.clone(), runtime.clone(), &around.options);
        let inner = Inner {
            reads: Arc::new(Reads::new(raft.clone(), node, runtime)),
            proposer: Arc::new(proposer),
            shared,
            raft,
            log,
            role: watcher,
            reader,
            slots: owned,
            transport: around.transport.clone(),
            tracker,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn id(&self) -> GroupId {
        self.inner.shared.group
    }

    /// Queues a command of this term; answers when it is applied here. Its effects have gone to the sink by then.
    ///
    /// `now`, `seed` and the bounds are stamped on the way. Dropping the future leaves the
    /// outcome unknown: a command that is not yet proposed never will be, one that is goes its way.
    pub async fn propose(&self, term: TermId, command: Command) -> Result<Reply, ProposeError> {
        match *self.inner.role.borrow() {
            Role::Leader { term: now } if now == term => {}
            Role::Leader { .. } => return Err(ProposeError::NotLeader { leader: None }),
            Role::Follower { leader } => return Err(ProposeError::NotLeader { leader }),
        }
        self.inner.proposer.propose(term, command).await
    }

    /// After this, [`GroupHandle::reader`] sees every write that was acknowledged before the call, by whichever leader.
    pub async fn read_index(&self) -> Result<(), ProposeError> {
        self.inner.reads.read_index().await
    }

    /// The state as it is applied here.
    pub fn reader(&self) -> CommittedReader {
        self.inner.reader.clone()
    }

    /// The group's slots, as ranges: first and last, inclusive.
    pub fn slots(&self) -> Vec<(Slot, Slot)> {
        self.inner.slots.clone()
    }

    /// The role, and its changes from now on.
    pub fn role(&self) -> watch::Receiver<Role> {
        let mut role = self.inner.role.clone();
        // A clone has seen what the one kept here has seen, which is nothing: `changed` would not wait.
        role.mark_unchanged();
        role
    }

    /// The term of this node, if it leads now.
    pub fn term(&self) -> Option<TermId> {
        self.inner.role.borrow().term()
    }

    /// The leader as far as this node knows; itself if it leads.
    pub fn leader(&self) -> Option<NodeId> {
        match *self.inner.role.borrow() {
            Role::Leader { .. } => Some(self.inner.shared.node),
            Role::Follower { leader } => leader,
        }
    }

    /// The time that a command proposed now would carry. What a leader holds due times against: no other clock is in step with it.
    pub fn now(&self) -> ShardTime {
        self.inner.shared.now()
    }

    /// Index of the last entry applied here.
    pub fn applied_index(&self) -> u64 {
        self.inner.shared.applied()
    }

    /// Who gets the effects of this node's entries from now on, for as long as the caller keeps it. To be set before anything is
    /// proposed in a term.
    pub fn set_effect_sink(&self, sink: Option<Arc<dyn EffectSink>>) {
        self.inner.shared.set_sink(sink);
    }

    pub fn status(&self) -> GroupStatus {
        // A copy: the original holds the lock that the group's core writes its metrics under.
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let matched = |(node, id): (&NodeId, &Option<crate::types::LogId>)| (*node, index(*id));
        GroupStatus {
            group: self.id(),
            role: *self.inner.role.borrow(),
            leader: self.leader(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: index(metrics.local_committed),
            applied_index: self.applied_index(),
            flushed_index: self.inner.shared.store.flushed(self.id()).index,
            purged_index: self.inner.log.purged_index().unwrap_or(0),
            log_bytes: self.inner.log.bytes(),
            voters: metrics.membership_config.voter_ids().collect(),
            followers: metrics.replication.iter().flatten().map(matched).collect(),
            stopped: self.stopped().or_else(|| metrics.running_state.err().map(|fatal| fatal.to_string())),
        }
    }

    /// Why the group has stopped on this node because of what it applied or holds, if it has.
    pub fn stopped(&self) -> Option<String> {
        self.inner.shared.stopped.get().cloned()
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.inner.shared.parts
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    /// Never again asks for votes by itself: this node is about to stop.
    pub(crate) fn stand_no_more(&self) {
        self.inner.raft.runtime_config().elect(false);
    }

    pub(crate) fn log(&self) -> &GroupLog {
        &self.inner.log
    }

    pub(crate) async fn shutdown(&self) {
        self.inner.transport.unregister(self.id());
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.id(), %error, "the group's core did not end well");
        }
        self.inner.tracker.abort();
    }
}

/// Makes the log know of the group, durably: a node that restarts before the first vote or entry must still start it. A vote for
/// nobody is what a group without a vote begins with anyway.
async fn remember(log: &GroupLog, node: NodeId) -> std::io::Result<()> {
    if log.vote().is_some() {
        return Ok(());
    }
    let (done, saved) = tokio::sync::oneshot::channel();
    log.save_vote(
        wire::encode_vote(&Vote::new(0, node)),
        Box::new(move |result| {
            let _ = done.send(result);
        }),
    );
    saved.await.unwrap_or_else(|_| Err(std::io::Error::other("the log writer has stopped")))
}
