//! All groups of this node: opened, found, asked how they are, closed.
//!
//! Starts what the store knows. A new node knows nothing, until it is made a cluster of its own or a member of one (see
//! `bootstrap`). Group 0 is the meta group; the slots belong to the others.
//!
//! Never: a group of another cluster; a second set of replicas over one store.
//!
//! Called by the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use stanchion_engine::{GroupId, Slot};
use stanchion_store::Store;
use tokio::task::AbortHandle;

use crate::audit::Purse;
use crate::error::ReplicaError;
use crate::group::{GroupHandle, GroupStatus, Surroundings};
use crate::off_thread::off_thread_of;
use crate::options::ReplicaOptions;
use crate::slots::SlotMap;
use crate::transport::PeerTransport;
use crate::types::NodeId;
use crate::{compare, keeper, spread};

/// See the module. Clones are the same.
#[derive(Clone)]
pub struct Replica {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub around: Surroundings,
    groups: RwLock<BTreeMap<GroupId, GroupHandle>>,
    slots: RwLock<Arc<SlotMap>>,
    draining: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Inner {
    pub fn handles(&self) -> Vec<GroupHandle> {
        self.groups.read().values().cloned().collect()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The other nodes.
    pub fn peer_ids(&self) -> Vec<NodeId> {
        let peers = self.around.transport.peers();
        peers.list().into_iter().map(|peer| peer.node_id).filter(|node| *node != peers.node_id()).collect()
    }
}

impl Replica {
    /// Starts every group that the store knows, on the runtime that the transport was made on: give consensus one that client calls
    /// do not share.
    ///
    /// # Errors
    /// A group's data is not whole, or the timings do not fit together.
    pub async fn open(
        store: Store,
        transport: Arc<PeerTransport>,
        options: ReplicaOptions,
    ) -> Result<Self, ReplicaError> {
        let config = options.raft_config()?;
        let identity = store.identity();
        if let Some(cluster_id) = &identity.cluster_id {
            transport.peers().set_cluster_id(cluster_id);
        }
        let known = store.groups();
        // What the cluster was begun with counts, not what a start that was cut short got to.
        let slotted = known.iter().filter(|group| **group != GroupId::META).count() as u32;
        let groups: Vec<GroupId> = match identity.groups {
            Some(groups) => (0..=groups).map(GroupId).collect(),
            None => known,
        };
        let slotted = identity.groups.unwrap_or(slotted);
        let purse = Arc::new(Purse::new(options.limits.invariants_share_permille));
        let compare_every = Duration::from_secs(options.limits.compare_seconds);
        let applied_bytes = Arc::new(AtomicU64::new(0));
        let around = Surroundings { store, transport, options, config, applied_bytes, purse };
        let replica = Self {
            inner: Arc::new(Inner {
                around,
                groups: RwLock::new(BTreeMap::new()),
                slots: RwLock::new(Arc::new(SlotMap::even(slotted))),
                draining: AtomicBool::new(false),
                tasks: Mutex::new(Vec::new()),
            }),
        };
        // A folder that no cluster has adopted yet has no groups that count: bootstrap makes them.
        if identity.cluster_id.is_some() {
            for group in groups {
                replica.start(group).await?;
            }
        }
        let runtime = replica.inner.around.transport.runtime();
        let tasks = [
            runtime.spawn(keeper::run(Arc::downgrade(&replica.inner))).abort_handle(),
            runtime.spawn(spread::run(Arc::downgrade(&replica.inner))).abort_handle(),
        ];
        replica.inner.tasks.lock().extend(tasks);
        if !compare_every.is_zero() {
            let compare = runtime.spawn(compare::run(Arc::downgrade(&replica.inner), compare_every));
            replica.inner.tasks.lock().push(compare.abort_handle());
        }
        Ok(replica)
    }

    /// Starts a group unless it runs.
    pub(crate) async fn start(&self, group: GroupId) -> Result<GroupHandle, ReplicaError> {
        if let Some(running) = self.group(group) {
            return Ok(running);
        }
        let slots = self.slot_map();
        let handle = GroupHandle::start(group, &slots, &self.inner.around).await?;
        self.inner.groups.write().insert(group, handle.clone());
        Ok(handle)
    }

    /// This node's number.
    pub fn node_id(&self) -> NodeId {
        self.inner.around.transport.peers().node_id()
    }

    pub fn store(&self) -> &Store {
        &self.inner.around.store
    }

    pub fn transport(&self) -> &Arc<PeerTransport> {
        &self.inner.around.transport
    }

    pub fn group(&self, group: GroupId) -> Option<GroupHandle> {
        self.inner.groups.read().get(&group).cloned()
    }

    /// Groups on this node, in order; the meta group first.
    pub fn groups(&self) -> Vec<GroupId> {
        self.inner.groups.read().keys().copied().collect()
    }

    pub fn group_of(&self, slot: Slot) -> GroupId {
        self.inner.slots.read().group_of(slot)
    }

    pub fn slot_map(&self) -> Arc<SlotMap> {
        self.inner.slots.read().clone()
    }

    /// Takes over a newer slot map, as the meta group's tables have it. An older one is ignored.
    pub fn set_slot_map(&self, map: SlotMap) {
        let mut slots = self.inner.slots.write();
        if map.epoch() >= slots.epoch() {
            *slots = Arc::new(map);
        }
    }

    /// The group's leader, as far as this node knows.
    pub fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        self.group(group).and_then(|group| group.leader())
    }

    /// Groups that this node leads.
    pub fn leads(&self) -> Vec<GroupId> {
        self.inner.handles().iter().filter(|group| group.term().is_some()).map(GroupHandle::id).collect()
    }

    pub fn status(&self) -> Vec<GroupStatus> {
        self.inner.handles().iter().map(GroupHandle::status).collect()
    }

    /// Makes what is applied safe without the log, now.
    pub async fn checkpoint(&self) -> Result<(), ReplicaError> {
        let flushed = keeper::checkpoint(&self.inner).await;
        flushed.map_err(|reason| ReplicaError::Group { group: 0, reason: format!("a checkpoint failed: {reason}") })
    }

    /// Hands over what this node leads, to nodes that can take it. It may lead again later. How many groups have moved.
    pub async fn hand_over(&self) -> usize {
        spread::transfer_all(&self.inner).await
    }

    /// Stops taking leadership, and hands over what this node leads. How many groups have moved.
    pub async fn transfer_all(&self) -> usize {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.around.transport.drain();
        self.inner.handles().iter().for_each(GroupHandle::stand_no_more);
        spread::transfer_all(&self.inner).await
    }

    /// Ends every group and every connection. What is applied is flushed, so that the next start has nothing to apply again.
    /// The store stays open: shutting it down is its owner's.
    pub async fn shutdown(&self) {
        self.halt().await;
        let store = self.inner.around.store.clone();
        match off_thread_of(self.inner.around.transport.runtime(), move || store.checkpoint()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the last checkpoint failed; the next start applies the log again")
            }
            Err(error) => tracing::warn!(%error, "the last checkpoint failed; the next start applies the log again"),
        }
    }

    /// Ends every group and every connection as they stand: nothing is handed over, nothing flushed.
    pub async fn halt(&self) {
        self.inner.draining.store(true, Ordering::Release);
        self.inner.tasks.lock().drain(..).for_each(|task| task.abort());
        let groups = std::mem::take(&mut *self.inner.groups.write());
        futures::future::join_all(groups.values().map(GroupHandle::shutdown)).await;
        self.inner.around.transport.close();
    }
}
