//! The birth of a cluster: its groups, on each of its nodes, and their first members.
//!
//! Every member is told the same three things: the cluster's id, all members, how many groups. Each adopts its data folder, starts
//! the groups, and gives those groups their first membership that are its to begin: group *g* is begun by the member at place
//! *g mod n*, which is thereby elected, so that leaders are spread from the first second. A group begins to work as soon as a
//! majority of the members has got that far. Doing it all again changes nothing.
//!
//! Never: a second membership begun for a group that has one; a folder adopted that belongs to another cluster or node.
//!
//! Called by the server: `dev` at its first start, and a member when `stanchion cluster init` reaches it.

use std::collections::BTreeMap;

use openraft::BasicNode;
use openraft::errors::{InitializeError, RaftError};
use stanchion_engine::GroupId;

use crate::error::ReplicaError;
use crate::peers::Peer;
use crate::replica::Replica;
use crate::slots::SlotMap;

impl Replica {
    /// A cluster of this node alone, with `groups` groups besides the meta group.
    pub async fn bootstrap_single(&self, cluster_id: &str, address: &str, groups: u32) -> Result<(), ReplicaError> {
        let incarnation = Some(self.store().identity().incarnation);
        let me = Peer { node_id: self.node_id(), address: address.to_owned(), incarnation };
        self.adopt_cluster(cluster_id, &[me], groups).await
    }

    /// Makes this node a member of a new cluster. `members` are all its nodes, this one among them, and the same on every one.
    ///
    /// # Errors
    /// The data folder belongs to another cluster or node; this node is not among the members; two members share an id or address.
    pub async fn adopt_cluster(&self, cluster_id: &str, members: &[Peer], groups: u32) -> Result<(), ReplicaError> {
        let me = self.node_id();
        let nodes: BTreeMap<u64, BasicNode> =
            members.iter().map(|m| (m.node_id, BasicNode { addr: m.address.clone() })).collect();
        let addresses: std::collections::BTreeSet<&str> = members.iter().map(|m| m.address.as_str()).collect();
        let refused = |reason: String| Err(ReplicaError::Bootstrap(reason));
        if groups == 0 {
            return refused("a cluster needs at least one group besides the meta group".into());
        }
        if nodes.len() != members.len() || addresses.len() != members.len() {
            return refused("two members have the same node id or the same peer address".into());
        }
        if !nodes.contains_key(&me) {
            return refused(format!("node {me} is not among the members of cluster `{cluster_id}`"));
        }
        let incarnation = self.store().identity().incarnation;
        if let Some(other) = members.iter().find(|m| m.node_id == me).and_then(|m| m.incarnation.as_ref())
            && *other != incarnation
        {
            return refused(format!(
                "node {me} is listed with data folder `{other}`, but this one is `{incarnation}`: it was wiped since, or \
                 another machine has its address"
            ));
        }
        self.store().begin_cluster(cluster_id, me, groups)?;
        self.transport().peers().set_cluster_id(cluster_id);
        members.iter().for_each(|member| self.transport().peers().set(member.clone()));
        self.set_slot_map(SlotMap::even(groups));

        for group in 0..=groups {
            self.start(GroupId(group)).await?;
        }
        let places: Vec<u64> = nodes.keys().copied().collect();
        for group in (0..=groups).filter(|group| places.get(*group as usize % places.len()) == Some(&me)) {
            self.begin(GroupId(group), nodes.clone()).await?;
        }
        Ok(())
    }

    async fn begin(&self, group: GroupId, nodes: BTreeMap<u64, BasicNode>) -> Result<(), ReplicaError> {
        let handle = self.start(group).await?;
        match handle.raft().initialize(nodes).await {
            // Not allowed: it has a membership already, by an earlier call or from its leader.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(other) => Err(ReplicaError::Group { group: group.0, reason: other.to_string() }),
        }
    }
}
