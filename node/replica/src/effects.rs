//! Where a leader's effects go, and what the parts of one group's replica on this node share.
//!
//! Called by the state machine (which fills it) and by everything that only looks: proposer, role, keeper, status.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::RwLock;
use stanchion_engine::{Effects, GroupId, ShardTime};
use stanchion_store::Store;
use tokio::sync::watch;

use crate::clock::GroupClock;
use crate::compare::Parts;
use crate::types::{NodeId, TermId};

/// Gets the effects of every entry that this node proposed in `term`, in log order, before its proposer gets the reply.
///
/// Called from the thread that applies: it must not block, and must not call back into the group.
pub trait EffectSink: Send + Sync {
    fn applied(&self, term: TermId, index: u64, effects: Effects);
}

/// Called once when this node must stop: its disk is bad, or a replica cannot go on. It should end the process.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

/// See the module.
pub(crate) struct Shared {
    pub group: GroupId,
    pub node: NodeId,
    pub store: Store,
    pub fatal: FatalHook,
    /// Not kept alive from here: a term has handles to its group, so that neither would ever go.
    sink: RwLock<Option<Weak<dyn EffectSink>>>,
    /// The group's clock as of the last commit: what is stamped next is not before it.
    clock: AtomicI64,
    /// What a leader's time is, and what this node knows of it while it does not lead.
    pub running_clock: Arc<GroupClock>,
    applied: AtomicU64,
    /// Bytes applied since the node's last checkpoint, of all groups.
    pub applied_bytes: Arc<AtomicU64>,
    /// What the replicas of this group compare.
    pub parts: Parts,
    /// Why this group's applying has stopped here for good.
    pub stopped: OnceLock<String>,
    /// The newest term of this node whose first entry is applied here; 0 for none.
    own_term: watch::Sender<u64>,
}

impl Shared {
    pub fn new(group: GroupId, node: NodeId, store: Store, fatal: FatalHook, applied_bytes: Arc<AtomicU64>) -> Self {
        Self {
            group,
            node,
            store,
            fatal,
            sink: RwLock::new(None),
            clock: AtomicI64::new(0),
            running_clock: Arc::default(),
            applied: AtomicU64::new(0),
            applied_bytes,
            parts: Parts::default(),
            stopped: OnceLock::new(),
            own_term: watch::Sender::new(0),
        }
    }

    pub fn set_sink(&self, sink: Option<Arc<dyn EffectSink>>) {
        *self.sink.write() = sink.as_ref().map(Arc::downgrade);
    }

    pub fn sink(&self) -> Option<Arc<dyn EffectSink>> {
        self.sink.read().as_ref().and_then(Weak::upgrade)
    }

    pub fn clock(&self) -> ShardTime {
        ShardTime(self.clock.load(Ordering::Acquire))
    }

    /// The time for stamping and for what is due, on a leader.
    pub fn now(&self) -> ShardTime {
        let term = *self.own_term.borrow();
        self.running_clock.now(term, self.clock())
    }

    /// Index of the last entry applied here.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub fn own_term(&self) -> watch::Receiver<u64> {
        self.own_term.subscribe()
    }

    /// The state now stands at `index`; readers see it already.
    pub fn publish(&self, index: u64, clock: ShardTime) {
        self.clock.fetch_max(clock.0, Ordering::AcqRel);
        self.applied.store(index, Ordering::Release);
    }

    /// An entry of this node's own term is applied.
    pub fn publish_own_term(&self, term: u64) {
        self.own_term.send_if_modified(|newest| {
            let newer = term > *newest;
            if newer {
                *newest = term;
            }
            newer
        });
    }
}
