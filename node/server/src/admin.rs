//! The `Admin` service on the peer address: creates a cluster, and says how one stands.
//!
//! ```text
//! CLI --InitCluster--> node --Status--> every member: reachable, and of no cluster yet?
//!                       |----AdoptCluster--> every member: groups are made and started
//!                       +----first namespaces, through the meta group
//! ```
//!
//! Never: a second cluster over nodes that have one.
//!
//! Called by `stanchion cluster …`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stanchion_proto::admin::admin_client::AdminClient;
use stanchion_proto::admin::admin_server::Admin;
use stanchion_proto::admin::{
    AdoptClusterReply, AdoptClusterRequest, GroupStatus, InitClusterReply, InitClusterRequest, Member, NodeStatus,
    StatusReply, StatusRequest,
};
use stanchion_proto::command::PutNode;
use stanchion_replica::{Net, Peer};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::bootstrap;
use crate::node::Node;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ASK_WITHIN: Duration = Duration::from_secs(30);
const STATUS_WITHIN: Duration = Duration::from_secs(2);
const GROUPS_DEFAULT: u32 = 8;
const GROUPS_MAX: u32 = 256;
/// Set on status calls between nodes: answer for yourself only.
const ALONE: &str = "stanchion-alone";

pub struct AdminService {
    node: Arc<Node>,
    clients: tokio::runtime::Handle,
}

impl AdminService {
    pub fn new(node: Arc<Node>, clients: tokio::runtime::Handle) -> Self {
        Self { node, clients }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn init_cluster(&self, request: Request<InitClusterRequest>) -> Result<Response<InitClusterReply>, Status> {
        let (node, request) = (self.node.clone(), request.into_inner());
        let work = self.clients.spawn(async move { init(&node, request).await });
        let cluster_id = work.await.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(InitClusterReply { cluster_id }))
    }

    async fn adopt_cluster(
        &self,
        request: Request<AdoptClusterRequest>,
    ) -> Result<Response<AdoptClusterReply>, Status> {
        let member = adopt(&self.node, request.into_inner()).await?;
        Ok(Response::new(AdoptClusterReply { member: Some(member) }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let alone = request.metadata().contains_key(ALONE);
        Ok(Response::new(if alone { own_status(&self.node) } else { cluster_status(&self.node).await }))
    }
}

/// Creates a cluster over the members that the request names, this node among them. Its id.
pub async fn init(node: &Arc<Node>, request: InitClusterRequest) -> Result<String, Status> {
    let groups = if request.groups == 0 { GROUPS_DEFAULT } else { request.groups };
    if groups > GROUPS_MAX {
        return Err(Status::invalid_argument(format!(
            "{groups} groups are more than this release allows ({GROUPS_MAX})"
        )));
    }
    let mut members: BTreeMap<u64, Member> = BTreeMap::new();
    for member in request.members {
        if let Some(twice) = members.insert(member.node_id, member) {
            return Err(Status::invalid_argument(format!("node {} is named twice", twice.node_id)));
        }
    }
    if !members.contains_key(&node.id()) {
        return Err(Status::invalid_argument(format!(
            "this is node {}, which is not among the members: give the first member's own number and address",
            node.id()
        )));
    }
    // Nothing is changed before all members are known to be there and free.
    for member in members.values_mut() {
        let status = to(node, member).await?.status(alone()).await?.into_inner();
        if !status.cluster_id.is_empty() {
            return Err(Status::already_exists(format!(
                "node {} at {} belongs to cluster {} already; a cluster is created once",
                member.node_id, member.peer_address, status.cluster_id
            )));
        }
        let own = status.nodes.into_iter().next().and_then(|node| node.member).unwrap_or_default();
        if own.node_id != member.node_id {
            return Err(Status::invalid_argument(format!(
                "{} is node {}, not node {}",
                member.peer_address, own.node_id, member.node_id
            )));
        }
        // The address that was given is the one under which the others reach it.
        *member = Member { peer_address: member.peer_address.clone(), ..own };
    }
    let cluster_id = uuid::Uuid::new_v4().to_string();
    let adopt =
        AdoptClusterRequest { cluster_id: cluster_id.clone(), members: members.values().cloned().collect(), groups };
    for member in members.values() {
        to(node, member).await?.adopt_cluster(adopt.clone()).await.map_err(|status| {
            Status::internal(format!(
                "node {} could not adopt cluster {cluster_id}: {}; nodes before it have: wipe their data folders before \
                 trying again",
                member.node_id,
                status.message()
            ))
        })?;
    }
    let nodes = members.values().map(record_of).collect();
    bootstrap::cluster(node, cluster_id.clone(), nodes, groups)
        .await
        .map_err(|error| Status::unavailable(format!("{error:#}")))?;
    Ok(cluster_id)
}

async fn adopt(node: &Arc<Node>, request: AdoptClusterRequest) -> Result<Member, Status> {
    let replica = node.replica().ok_or_else(|| Status::unavailable("this node is starting"))?.clone();
    if let Some(cluster_id) = node.store.identity().cluster_id
        && cluster_id != request.cluster_id
    {
        return Err(Status::already_exists(format!("this node belongs to cluster {cluster_id} already")));
    }
    let members: Vec<Peer> = request.members.into_iter().map(peer_of).collect();
    let adopted = replica.adopt_cluster(&request.cluster_id, &members, request.groups).await;
    adopted.map_err(|error| Status::internal(error.to_string()))?;
    node.follow_groups();
    Ok(own_member(node))
}

fn peer_of(member: Member) -> Peer {
    let incarnation = (!member.incarnation.is_empty()).then_some(member.incarnation);
    Peer { node_id: member.node_id, address: member.peer_address, incarnation }
}

fn record_of(member: &Member) -> PutNode {
    PutNode {
        node_id: member.node_id,
        peer_address: member.peer_address.clone(),
        grpc_address: member.grpc_address.clone(),
        http_address: member.http_address.clone(),
        incarnation: member.incarnation.clone(),
    }
}

fn own_member(node: &Node) -> Member {
    let record = bootstrap::own_record(node);
    Member {
        node_id: record.node_id,
        peer_address: record.peer_address,
        grpc_address: record.grpc_address,
        http_address: record.http_address,
        incarnation: record.incarnation,
    }
}

/// What this node knows by itself.
fn own_status(node: &Node) -> StatusReply {
    let own = NodeStatus { member: Some(own_member(node)), live: true, disk_bytes: node.store.disk_bytes() };
    let groups = node.replica().map(|replica| replica.status()).unwrap_or_default();
    let groups = groups.into_iter().map(|status| {
        let mut replicas: BTreeMap<u64, u64> = status.followers;
        replicas.insert(node.id(), status.last_log_index);
        GroupStatus {
            group: status.group.0,
            leader: status.leader.unwrap_or(0),
            term: status.term,
            last_log: status.last_log_index,
            applied: status.applied_index,
            replicas,
            stopped: status.stopped.map(|why| (node.id(), why)).into_iter().collect(),
        }
    });
    StatusReply {
        cluster_id: node.store.identity().cluster_id.unwrap_or_default(),
        nodes: vec![own],
        groups: groups.collect(),
    }
}

/// What all reachable nodes know: each group as its leader tells it.
async fn cluster_status(node: &Arc<Node>) -> StatusReply {
    let mut whole = own_status(node);
    let peers = node.neighbours.transport.peers().list();
    let others = peers.into_iter().filter(|peer| peer.node_id != node.id());
    let asked = others.map(|peer| async move {
        let member = Member { node_id: peer.node_id, peer_address: peer.address.clone(), ..Member::default() };
        let ask = async { Ok::<_, Status>(to(node, &member).await?.status(alone()).await?.into_inner()) };
        let reply = tokio::time::timeout(STATUS_WITHIN, ask).await;
        (peer, reply.ok().and_then(Result::ok))
    });
    for (peer, reply) in futures::future::join_all(asked).await {
        let Some(reply) = reply else {
            let member = Member { node_id: peer.node_id, peer_address: peer.address, ..Default::default() };
            whole.nodes.push(NodeStatus { member: Some(member), live: false, disk_bytes: 0 });
            continue;
        };
        whole.nodes.extend(reply.nodes);
        for mut theirs in reply.groups {
            if let Some(ours) = whole.groups.iter_mut().find(|ours| ours.group == theirs.group) {
                ours.stopped.append(&mut theirs.stopped);
                theirs.stopped.clone_from(&ours.stopped);
            }
            match whole.groups.iter_mut().find(|ours| ours.group == theirs.group) {
                Some(ours)
                    if theirs.term > ours.term || (theirs.term == ours.term && theirs.leader == peer.node_id) =>
                {
                    *ours = theirs;
                }
                Some(_) => {}
                None => whole.groups.push(theirs),
            }
        }
    }
    whole.nodes.sort_by_key(|node| node.member.as_ref().map_or(0, |member| member.node_id));
    whole.groups.sort_by_key(|group| group.group);
    whole
}

fn alone() -> Request<StatusRequest> {
    let mut request = Request::new(StatusRequest {});
    request.metadata_mut().insert(ALONE, tonic::metadata::MetadataValue::from_static("1"));
    request
}

/// A client of that member's admin service.
async fn to(node: &Node, member: &Member) -> Result<AdminClient<Channel>, Status> {
    let peers = node.neighbours.transport.peers();
    connect(&**peers.net(), peers.dial(member.node_id).unwrap_or(&member.peer_address)).await
}

/// A client of the admin service at a peer address.
pub async fn connect(net: &dyn Net, address: &str) -> Result<AdminClient<Channel>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(format!("`{address}` is not an address: {error}")))?;
    let endpoint = endpoint.connect_timeout(CONNECT_WITHIN).timeout(ASK_WITHIN);
    let channel = net.connect(endpoint).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Status::unavailable(format!("no node answers at {address}{cause}"))
    })?;
    Ok(AdminClient::new(channel))
}
