//! This node's copy of the meta group: namespaces, search attributes, nodes.
//!
//! The copy follows the meta group's applied entries. Where it does not know a name, it is first brought up to what the meta group's
//! leader has acknowledged: a namespace is usable on every node the moment that the call which made it returns.
//!
//! Called by every handler (to resolve a namespace) and by `node` (to follow).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stanchion_engine::GroupId;
use stanchion_engine::read::{self, MetaView};
use stanchion_engine::reply::Reply;
use stanchion_proto::command::meta_command::Kind;
use stanchion_proto::command::{Command, MetaCommand};
use stanchion_proto::row::NamespaceRow;
use stanchion_proto::temporal::enums::v1::NamespaceState;
use stanchion_replica::SlotMap;
use tokio::sync::watch;

use crate::node::Node;
use crate::routing::{self, GroupCall, Here};
use crate::shell::CallError;
use crate::status;

/// Method between nodes: the meta group's index up to which everything is acknowledged.
pub const POSITION: &str = "MetaPosition";

const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_WHEN_AWAITED: Duration = Duration::from_millis(2);
const REFRESH_WITHIN: Duration = Duration::from_secs(5);

/// A namespace as handlers need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    pub id: String,
    pub name: String,
}

pub struct Meta {
    view: watch::Sender<Arc<MetaView>>,
    applied: watch::Sender<u64>,
}

impl Default for Meta {
    fn default() -> Self {
        Self { view: watch::Sender::new(Arc::new(MetaView::default())), applied: watch::Sender::new(0) }
    }
}

impl Meta {
    pub fn view(&self) -> Arc<MetaView> {
        self.view.borrow().clone()
    }

    /// The namespace of that name.
    pub async fn namespace(&self, node: &Arc<Node>, name: &str) -> Result<Namespace, CallError> {
        if name.is_empty() {
            return Err(CallError::Rejected(stanchion_engine::Rejection::invalid("Namespace is empty.")));
        }
        if let Some(known) = self.named(name) {
            return Ok(known);
        }
        self.refresh(node).await?;
        self.named(name).ok_or_else(|| CallError::Rejected(status::namespace_not_found(name)))
    }

    /// As [`Meta::namespace`], for what begins something new: that needs one that is not deprecated.
    pub async fn namespace_for_start(&self, node: &Arc<Node>, name: &str) -> Result<Namespace, CallError> {
        let found = self.namespace(node, name).await?;
        let state = self.view().namespace(name).map_or(NamespaceState::Registered as i32, |row| row.state);
        if state == NamespaceState::Registered as i32 {
            return Ok(found);
        }
        Err(CallError::Rejected(status::namespace_in_state(name, NamespaceState::try_from(state).unwrap_or_default())))
    }

    /// The namespace's name by its id, which tokens carry.
    pub fn name_of(&self, id: &str) -> Option<String> {
        self.view.borrow().namespace_by_id(id).map(|found| found.name.clone())
    }

    /// All that is known of a namespace, by name or id, as of now.
    pub async fn describe(&self, node: &Arc<Node>, name: &str, id: &str) -> Result<Arc<NamespaceRow>, CallError> {
        self.refresh(node).await?;
        let view = self.view();
        let found = match name {
            "" => view.namespace_by_id(id),
            name => view.namespace(name),
        };
        let asked = if name.is_empty() { id } else { name };
        found.cloned().ok_or_else(|| CallError::Rejected(status::namespace_not_found(asked)))
    }

    /// The namespace's retention in nanoseconds, by its id; 0 if it is not known here.
    pub fn retention_of(&self, id: &str) -> i64 {
        self.view.borrow().namespace_by_id(id).map_or(0, |found| found.retention)
    }

    fn named(&self, name: &str) -> Option<Namespace> {
        let view = self.view.borrow();
        view.namespace(name).map(|found| Namespace { id: found.namespace_id.clone(), name: found.name.clone() })
    }

    /// Brings the copy up to everything that the meta group has acknowledged.
    pub async fn refresh(&self, node: &Arc<Node>) -> Result<(), CallError> {
        let deadline = Instant::now() + REFRESH_WITHIN;
        loop {
            match self.position(node, deadline).await {
                Ok(index) => {
                    self.look(node)?;
                    let mut applied = self.applied.subscribe();
                    loop {
                        if *applied.borrow_and_update() >= index {
                            return Ok(());
                        }
                        if Instant::now() >= deadline {
                            return Err(CallError::NotHere { leader: None });
                        }
                        let _ = tokio::time::timeout(LOOK_WHEN_AWAITED, applied.changed()).await;
                        self.look(node)?;
                    }
                }
                Err(CallError::NotHere { .. } | CallError::Unknown(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn position(&self, node: &Arc<Node>, deadline: Instant) -> Result<u64, CallError> {
        if node.shells.term(GroupId::META).is_ok() {
            return acknowledged(node).await;
        }
        let leader = routing::leader_elsewhere(node, GroupId::META).ok_or(CallError::NotHere { leader: None })?;
        let body = node.neighbours.carry(leader, POSITION, Bytes::new(), deadline).await?;
        let index: [u8; 8] = body
            .as_ref()
            .try_into()
            .map_err(|_| CallError::Fatal(format!("{POSITION} was answered with {} bytes instead of 8", body.len())))?;
        Ok(u64::from_be_bytes(index))
    }

    /// Reads the tables again if entries were applied since.
    fn look(&self, node: &Node) -> Result<(), CallError> {
        let Some(handle) = node.replica().and_then(|replica| replica.group(GroupId::META)) else { return Ok(()) };
        let applied = handle.applied_index();
        if applied > *self.applied.borrow() {
            let fresh = read::meta(&handle.reader())?;
            self.adopt_slot_map(node, &fresh);
            self.view.send_replace(Arc::new(fresh));
            self.applied.send_replace(applied);
        }
        Ok(())
    }

    fn adopt_slot_map(&self, node: &Node, fresh: &MetaView) {
        if fresh.slot_map.epoch == self.view.borrow().slot_map.epoch {
            return;
        }
        let narrow = |slot: u32| u16::try_from(slot).unwrap_or(u16::MAX);
        let ranges: Vec<_> = fresh
            .slot_map
            .ranges
            .iter()
            .map(|range| (narrow(range.first), narrow(range.last), GroupId(range.group)))
            .collect();
        match (SlotMap::from_ranges(fresh.slot_map.epoch, &ranges), node.replica()) {
            (Some(map), Some(replica)) => replica.set_slot_map(map),
            (None, _) => tracing::error!(epoch = fresh.slot_map.epoch, "the slot map does not cover every slot once"),
            (Some(_), None) => {}
        }
    }

    /// Follows the meta group for as long as the node lives.
    pub async fn follow(node: Arc<Node>) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            if let Err(error) = node.meta.look(&node) {
                tracing::error!(%error, "the meta group's tables could not be read");
            }
            // Again and again: a peer may have become known since, by a membership.
            let peers = node.neighbours.transport.peers();
            for known in node.meta.view().nodes.values().filter(|known| known.node_id != node.id()) {
                peers.set_incarnation(known.node_id, &known.incarnation);
            }
        }
    }
}

/// On the meta group's leader.
async fn acknowledged(node: &Node) -> Result<u64, CallError> {
    let handle = node.replica().and_then(|replica| replica.group(GroupId::META));
    let handle = handle.ok_or(CallError::NotHere { leader: None })?;
    handle.read_index().await?;
    Ok(handle.applied_index())
}

/// [`POSITION`], carried here.
pub async fn serve_position(node: &Arc<Node>) -> Result<Bytes, CallError> {
    Ok(Bytes::copy_from_slice(&acknowledged(node).await?.to_be_bytes()))
}

/// Changes the meta group's tables; returns once this node's copy has the change.
pub async fn change(node: &Arc<Node>, kind: Kind, deadline: Instant) -> Result<(), CallError> {
    routing::call(node, MetaCommand { kind: Some(kind) }, deadline).await?;
    node.meta.refresh(node).await
}

impl GroupCall for MetaCommand {
    const METHOD: &'static str = "Meta";
    type Answer = ();

    async fn check(&mut self, _node: &Arc<Node>) -> Result<(), CallError> {
        Ok(())
    }

    async fn group(&self, _node: &Arc<Node>) -> Result<GroupId, CallError> {
        Ok(GroupId::META)
    }

    async fn on_leader(self, at: Here) -> Result<(), CallError> {
        match at.term.propose(Command { meta: Some(self), ..Default::default() }).await? {
            Reply::Done | Reply::NamespaceRegistered { .. } => Ok(()),
            reply => Err(CallError::Fatal(format!("a change of the meta group was answered with {reply:?}"))),
        }
    }
}
