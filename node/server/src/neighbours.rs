//! The other nodes as this one calls them: `Peer.Call` with its deadline, and what the leader shell asks of the cluster.
//!
//! Never: a failure of the connection passed off as an answer. A call that may have reached the other node has an unknown outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use stanchion_dispatch::QueueKey;
use stanchion_proto::node::CallRequest;
use stanchion_replica::PeerTransport;
use tokio::sync::watch;
use tonic::Status;

use crate::liveness::Liveness;
use crate::shell::{CallError, Neighbours};
use crate::status;

/// What a call between nodes may take beyond its caller's deadline, for the answer's way back.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Nodes {
    me: u64,
    pub liveness: Arc<Liveness>,
    pub transport: Arc<PeerTransport>,
}

impl Nodes {
    pub fn new(me: u64, liveness: Arc<Liveness>, transport: Arc<PeerTransport>) -> Self {
        Self { me, liveness, transport }
    }

    /// Carries a call to another node and brings its outcome back.
    pub async fn carry(
        &self,
        node: u64,
        method: &'static str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        if !self.liveness.is_live(node) {
            return Err(CallError::NotHere { leader: None });
        }
        let within = deadline.saturating_duration_since(Instant::now());
        let request = CallRequest {
            method: method.to_owned(),
            body,
            deadline_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1),
            identity: String::new(),
            hops: 1,
        };
        let peers = self.transport.peers();
        let mut client = peers.client(node).map_err(|_| CallError::NotHere { leader: None })?;
        metrics::counter!("stanchion_rpc_forwarded_total", "method" => method).increment(1);
        match tokio::time::timeout(within + GRACE, client.call(peers.identify(node, request))).await {
            Ok(Ok(reply)) => status::from_reply(reply.into_inner()),
            Ok(Err(status)) if was_refused(&status) => {
                self.liveness.silent(node, true);
                Err(CallError::NotHere { leader: None })
            }
            Ok(Err(status)) => Err(CallError::Unknown(format!("node {node}: {}", status.message()))),
            Err(_) => Err(CallError::Unknown(format!("node {node} did not answer in time"))),
        }
    }
}

impl Neighbours for Nodes {
    fn node_id(&self) -> u64 {
        self.me
    }

    fn owner_of(&self, queue: &QueueKey) -> u64 {
        self.liveness.owner_of(queue)
    }

    fn view(&self) -> watch::Receiver<u64> {
        self.liveness.version()
    }

    fn call(
        &self,
        node: u64,
        method: &'static str,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Status>> {
        let nodes = self.clone();
        async move { nodes.carry(node, method, body, Instant::now() + within).await.map_err(status::of) }.boxed()
    }
}

/// The connection was refused: the call has certainly not reached anybody.
pub fn was_refused(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}
