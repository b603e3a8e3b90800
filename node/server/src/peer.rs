//! The `Peer` service: what other nodes of the cluster may ask on the peer address.
//!
//! Raft's streams and snapshots go to the replicas. Carried calls go to the table of `calls`, on the runtime that serves clients, so that
//! handlers never hold up consensus. Every caller is checked first: same cluster, known node, known data folder.

use std::sync::Arc;

use stanchion_engine::GroupId;
use stanchion_proto::node::peer_server::Peer;
use stanchion_proto::node::{CallReply, CallRequest, Frames, PingReply, PingRequest, SnapshotChunk, SnapshotReply};
use stanchion_replica::FrameStream;
use tonic::{Request, Response, Status, Streaming};

use crate::calls;
use crate::node::Node;
use crate::shell::CallError;
use crate::status;

pub struct PeerService {
    node: Arc<Node>,
    /// Where client work runs.
    clients: tokio::runtime::Handle,
}

impl PeerService {
    pub fn new(node: Arc<Node>, clients: tokio::runtime::Handle) -> Self {
        Self { node, clients }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    type RaftStream = FrameStream;

    async fn raft(&self, request: Request<Streaming<Frames>>) -> Result<Response<FrameStream>, Status> {
        self.node.neighbours.transport.serve_raft(request).await
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<SnapshotReply>, Status> {
        self.node.neighbours.transport.serve_snapshot(request).await
    }

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        self.node.neighbours.transport.peers().admit(request.metadata())?;
        let node = self.node.clone();
        // Dropped with this future: a caller that has gone takes its long poll with it.
        let work = AbortOnDrop(self.clients.spawn(async move { calls::serve(&node, request.into_inner()).await }));
        let outcome = work.finish().await;
        Ok(Response::new(status::to_reply(outcome)))
    }

    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let from = self.node.neighbours.transport.peers().admit(request.metadata())?;
        tracing::trace!(from, "ping");
        let node = &self.node;
        let identity = node.store.identity();
        let meta = node.replica().and_then(|replica| replica.group(GroupId::META));
        Ok(Response::new(PingReply {
            node_id: node.id(),
            cluster_id: identity.cluster_id.unwrap_or_default(),
            incarnation: identity.incarnation,
            leads: node.shells.led().into_iter().map(|group| group.0).collect(),
            meta_applied: meta.map_or(0, |handle| handle.applied_index()),
            draining: node.neighbours.liveness.is_draining(),
        }))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<bytes::Bytes, CallError>>);

impl AbortOnDrop {
    async fn finish(mut self) -> Result<bytes::Bytes, CallError> {
        (&mut self.0).await.unwrap_or_else(|error| Err(CallError::Unknown(format!("the handler ended early: {error}"))))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
