//! Who the other nodes are: their addresses, their identity, and a connection to each for calls.
//!
//! Every stream and call between nodes says which cluster, node and data folder it comes from. A node that lost its disk has a new
//! data folder (another incarnation); under its old id it could vote twice in one term or forget entries that it acknowledged, so
//! its peers refuse it, and say why.
//!
//! Never: a call answered for another cluster; two data folders accepted for one node id.
//!
//! Called by the transport, and by the server for `Peer.Call` and `Peer.Ping`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use stanchion_proto::node::peer_client::PeerClient;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::net::Net;
use crate::types::NodeId;

/// Largest message between nodes, in bytes: an append request and its frame, or a client's call carried on.
pub const PEER_MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

const CLUSTER: &str = "stanchion-cluster";
const NODE: &str = "stanchion-node";
const INCARNATION: &str = "stanchion-incarnation";
const TO: &str = "stanchion-to";

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A peer that answers nothing for this long is cut off, so that what waits for it fails over.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Another node (or this one), as the membership or the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node_id: NodeId,
    /// `host:port` of its peer address.
    pub address: String,
    /// Identity of its data folder; none accepts the first one that is seen, and then that one alone.
    pub incarnation: Option<String>,
}

struct Known {
    address: String,
    incarnation: Option<String>,
    channel: Option<Channel>,
    /// It is about to stop, as it said last.
    draining: bool,
}

/// This node's view of its cluster's nodes.
pub struct Peers {
    node_id: NodeId,
    incarnation: String,
    net: Arc<dyn Net>,
    /// Where to connect to these nodes, instead of at their recorded addresses.
    dial: BTreeMap<NodeId, String>,
    cluster_id: RwLock<Option<String>>,
    known: RwLock<BTreeMap<NodeId, Known>>,
}

impl Peers {
    pub(crate) fn new(net: Arc<dyn Net>, node_id: NodeId, incarnation: String, dial: BTreeMap<NodeId, String>) -> Self {
        Self { node_id, incarnation, net, dial, cluster_id: RwLock::new(None), known: RwLock::new(BTreeMap::new()) }
    }

    /// What connections are made over.
    pub fn net(&self) -> &Arc<dyn Net> {
        &self.net
    }

    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    pub fn cluster_id(&self) -> Option<String> {
        self.cluster_id.read().clone()
    }

    pub(crate) fn set_cluster_id(&self, cluster_id: &str) {
        *self.cluster_id.write() = Some(cluster_id.to_owned());
    }

    /// Adds a node, or changes what is known of it. A changed address takes effect with the next connection.
    pub fn set(&self, peer: Peer) {
        let mut known = self.known.write();
        let entry = known.entry(peer.node_id).or_insert_with(|| Known {
            address: peer.address.clone(),
            incarnation: None,
            channel: None,
            draining: false,
        });
        if entry.address != peer.address {
            entry.address = peer.address;
            entry.channel = None;
        }
        if peer.incarnation.is_some() {
            entry.incarnation = peer.incarnation;
        }
    }

    /// What that node said last: whether it is about to stop. One that is gets no leadership.
    pub fn set_draining(&self, node: NodeId, draining: bool) {
        if let Some(entry) = self.known.write().get_mut(&node) {
            entry.draining = draining;
        }
    }

    pub(crate) fn is_draining(&self, node: NodeId) -> bool {
        self.known.read().get(&node).is_some_and(|known| known.draining)
    }

    /// The data folder that a node's number belongs to, as the meta group has recorded it: it outranks the first one seen.
    pub fn set_incarnation(&self, node: NodeId, incarnation: &str) {
        let recorded = |known: &Known| known.incarnation.as_deref() == Some(incarnation);
        if incarnation.is_empty() || self.known.read().get(&node).is_none_or(recorded) {
            return;
        }
        if let Some(entry) = self.known.write().get_mut(&node) {
            entry.incarnation = Some(incarnation.to_owned());
        }
    }

    pub fn list(&self) -> Vec<Peer> {
        let known = self.known.read();
        let peer = |(id, known): (&NodeId, &Known)| Peer {
            node_id: *id,
            address: known.address.clone(),
            incarnation: known.incarnation.clone(),
        };
        known.iter().map(peer).collect()
    }

    pub fn address(&self, node: NodeId) -> Option<String> {
        self.known.read().get(&node).map(|known| known.address.clone())
    }

    /// Where this node connects to that one: as the configuration says, or else at its recorded address.
    pub fn dialled(&self, node: NodeId) -> Option<String> {
        self.dial(node).map(str::to_owned).or_else(|| self.address(node))
    }

    /// Where the configuration says that this node is to connect to that one.
    pub fn dial(&self, node: NodeId) -> Option<&str> {
        self.dial.get(&node).map(String::as_str)
    }

    /// A client for that node's calls, over one shared connection that is made at the first call and made again after a failure.
    pub fn client(&self, node: NodeId) -> Result<PeerClient<Channel>, Status> {
        if let Some(channel) = self.known.read().get(&node).and_then(|known| known.channel.clone()) {
            return Ok(client(channel));
        }
        let mut known = self.known.write();
        let entry =
            known.get_mut(&node).ok_or_else(|| Status::unavailable(format!("node {node} is not known here")))?;
        let channel = match &entry.channel {
            Some(channel) => channel.clone(),
            None => {
                let address = self.dial(node).unwrap_or(&entry.address);
                entry.channel.insert(self.net.connect_lazy(endpoint(address)?)).clone()
            }
        };
        Ok(client(channel))
    }

    /// A request to `to` that says who sends it.
    pub fn identify<T>(&self, to: NodeId, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.sign(request.metadata_mut());
        request.metadata_mut().insert(TO, MetadataValue::from(to));
        request
    }

    pub(crate) fn sign(&self, metadata: &mut MetadataMap) {
        let cluster_id = self.cluster_id().unwrap_or_default();
        metadata.insert(NODE, MetadataValue::from(self.node_id));
        for (key, value) in [(CLUSTER, cluster_id.as_str()), (INCARNATION, self.incarnation.as_str())] {
            if let Ok(value) = MetadataValue::try_from(value) {
                metadata.insert(key, value);
            }
        }
    }

    /// The node that sent this, if it may: same cluster, meant for this node, and from the data folder that its id belongs to.
    pub fn admit(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        if let Some(to) = text(metadata, TO).filter(|to| *to != self.node_id.to_string()) {
            return Err(Status::failed_precondition(format!(
                "this is node {}, and the call is for node {to}: the address in that node's configuration is wrong",
                self.node_id
            )));
        }
        self.verify(metadata, None)
    }

    /// As [`Peers::admit`], for an answer of the node that was called.
    pub(crate) fn verify(&self, metadata: &MetadataMap, called: Option<NodeId>) -> Result<NodeId, Status> {
        let (theirs, ours) = (text(metadata, CLUSTER).unwrap_or_default(), self.cluster_id().unwrap_or_default());
        if ours.is_empty() {
            return Err(Status::unavailable(format!("node {} belongs to no cluster yet", self.node_id)));
        }
        if theirs != ours {
            return Err(Status::failed_precondition(format!(
                "node {} belongs to cluster `{ours}`, the caller to cluster `{theirs}`",
                self.node_id
            )));
        }
        let node = text(metadata, NODE).and_then(|node| node.parse::<NodeId>().ok());
        let node = node.ok_or_else(|| Status::invalid_argument("a peer must say which node it is"))?;
        if let Some(called) = called.filter(|called| *called != node) {
            return Err(Status::failed_precondition(format!(
                "node {called} was called, and node {node} answered: the address of one of them is wrong"
            )));
        }
        let incarnation = text(metadata, INCARNATION).unwrap_or_default();
        let mut known = self.known.write();
        let Some(entry) = known.get_mut(&node) else {
            return Err(Status::failed_precondition(format!("node {node} is not a member of cluster `{ours}`")));
        };
        match &entry.incarnation {
            Some(expected) if *expected != incarnation => Err(Status::failed_precondition(format!(
                "node {node} is known with data folder `{expected}` and comes with `{incarnation}`: \
                 a node that lost its data must join under a new id"
            ))),
            Some(_) => Ok(node),
            None => {
                entry.incarnation = Some(incarnation.to_owned());
                Ok(node)
            }
        }
    }
}

fn text<'m>(metadata: &'m MetadataMap, key: &str) -> Option<&'m str> {
    metadata.get(key).and_then(|value| value.to_str().ok())
}

pub(crate) fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

/// How connections between nodes are made.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|e| Status::invalid_argument(format!("peer address `{address}`: {e}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES))
}

#[cfg(test)]
mod tests;
