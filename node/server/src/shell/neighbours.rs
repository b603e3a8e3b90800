//! What the shell needs of the rest of the cluster: who matches a queue, and a way to call that node.
//!
//! Implemented by the node over its liveness table and peer connections. All of it is advice: a wrong owner costs a repeated offer,
//! never a task.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use stanchion_dispatch::QueueKey;
use tokio::sync::watch;
use tonic::Status;

pub trait Neighbours: Send + Sync + 'static {
    /// This node.
    fn node_id(&self) -> u64;

    /// The node that matches the queue, by rendezvous hash over the nodes that look alive from here.
    fn owner_of(&self, queue: &QueueKey) -> u64;

    /// Changes whenever the set of live nodes does, so that offers move to their new owners.
    fn view(&self) -> watch::Receiver<u64>;

    /// An internal call (`Peer.Call`). `UNAVAILABLE` when the node cannot be reached.
    fn call(
        &self,
        node: u64,
        method: &'static str,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Status>>;
}
