//! Raft's traffic to the other nodes: one stream a peer for all groups, frames coalesced into messages.
//!
//! ```text
//!   group 1 ─┐                            ┌─ Frames{[append g1, heartbeat g2, vote g5]} ─▶  peer
//!   group 2 ─┼─▶ link (queue of frames) ──┤
//!   group 5 ─┘                            └─ replies, matched by id (or by session, in order) ◀─
//! ```
//!
//! A frame either asks for one reply (its id is the request's), or belongs to a session: a pipelined sequence of appends of one
//! group, whose replies come in the order of its requests. When the connection breaks, whatever waits for a reply fails at once;
//! openraft asks again. The queue of a link needs no bound of its own: sessions are bounded by their windows, and single requests
//! are one a group and kind.
//!
//! Never: frames of one session out of order; a reply to another connection's request.
//!
//! Called by `network` (requests) and `service` (the other end).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use parking_lot::{Mutex, RwLock};
use stanchion_engine::GroupId;
use stanchion_proto::node::{Frame, Frames};
use stanchion_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Status, Streaming};

use crate::clock::GroupClock;
use crate::net::{Net, RealNet};
use crate::peers::{Peers, client, endpoint};
use crate::types::{NodeId, Raft};

/// What a frame is. Numbers are on the wire: never reused.
pub(crate) mod kind {
    pub const APPEND: u32 = 1;
    pub const VOTE: u32 = 2;
    pub const PRE_VOTE: u32 = 3;
    pub const TRANSFER: u32 = 4;
    pub const SESSION: u32 = 5;
    pub const SESSION_END: u32 = 6;
    pub const REPLY: u32 = 16;
    pub const SESSION_REPLY: u32 = 17;
    /// The body says in words why a request got no reply, or a session ended.
    pub const REFUSED: u32 = 18;
}

const MESSAGE_BYTES: usize = 512 * 1024;
const MESSAGE_FRAMES: usize = 512;
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_millis(500);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a request got no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("no connection to node {0}")]
    Down(NodeId),
    #[error("the connection to node {0} broke")]
    Broken(NodeId),
    #[error("node {0} refused: {1}")]
    Refused(NodeId, String),
    #[error("node {0} did not answer within {1:?}")]
    Timeout(NodeId, Duration),
}

/// This node's connections to its peers, and the groups that it serves to them.
pub struct PeerTransport {
    peers: Peers,
    runtime: Handle,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    groups: RwLock<BTreeMap<GroupId, Served>>,
    receiving: Mutex<BTreeSet<GroupId>>,
    closed: watch::Sender<bool>,
    /// This node is about to stop: it takes no leadership over any more.
    draining: AtomicBool,
}

impl PeerTransport {
    /// For this node, over real sockets; connections are made and served on the current runtime.
    pub fn new(node_id: NodeId, incarnation: impl Into<String>) -> Arc<Self> {
        Self::over(Arc::new(RealNet), node_id, incarnation, BTreeMap::new())
    }

    /// As [`PeerTransport::new`], over that net. A node that `dial` names is connected to at the address there, whatever its recorded
    /// one is.
    pub fn over(
        net: Arc<dyn Net>,
        node_id: NodeId,
        incarnation: impl Into<String>,
        dial: BTreeMap<NodeId, String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            peers: Peers::new(net, node_id, incarnation.into(), dial),
            runtime: Handle::current(),
            links: Mutex::new(BTreeMap::new()),
            groups: RwLock::new(BTreeMap::new()),
            receiving: Mutex::new(BTreeSet::new()),
            closed: watch::Sender::new(false),
            draining: AtomicBool::new(false),
        })
    }

    /// Names, addresses and identities; also the clients for `Call` and `Ping`.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Whether the Raft stream to that node stands.
    pub fn connected(&self, node: NodeId) -> bool {
        self.links.lock().get(&node).is_some_and(|link| link.session.lock().is_some())
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Ends every connection, for good.
    pub fn close(&self) {
        self.closed.send_replace(true);
        self.links.lock().clear();
        self.groups.write().clear();
    }

    pub(crate) fn register(&self, group: GroupId, served: Served) {
        self.groups.write().insert(group, served);
    }

    pub(crate) fn unregister(&self, group: GroupId) {
        self.groups.write().remove(&group);
    }

    pub(crate) fn served(&self, group: GroupId) -> Option<Served> {
        self.groups.read().get(&group).cloned()
    }

    /// The right to receive this group's snapshot, until it is dropped; none while somebody has it.
    pub(crate) fn receive_alone(&self, group: GroupId) -> Option<ReceiveAlone<'_>> {
        let is_first = self.receiving.lock().insert(group);
        // Made only where it is given: dropping it takes the lock, and gives up a right that would be somebody else's.
        is_first.then(|| ReceiveAlone { transport: self, group })
    }

    /// The link to a peer; connecting starts with the first use.
    pub(crate) fn link(self: &Arc<Self>, node: NodeId) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&node) {
            return link.clone();
        }
        let link = Arc::new(Link { node, session: Mutex::new(None), next_id: AtomicU64::new(1) });
        if !*self.closed.borrow() {
            links.insert(node, link.clone());
            self.runtime.spawn(keep_connected(self.clone(), link.clone()));
        }
        link
    }
}

/// A group that peers may address here.
#[derive(Clone)]
pub(crate) struct Served {
    pub raft: Raft,
    pub store: Store,
    pub clock: Arc<GroupClock>,
}

pub(crate) struct ReceiveAlone<'t> {
    transport: &'t PeerTransport,
    group: GroupId,
}

impl Drop for ReceiveAlone<'_> {
    fn drop(&mut self) {
        self.transport.receiving.lock().remove(&self.group);
    }
}

/// The way to one peer.
pub(crate) struct Link {
    node: NodeId,
    session: Mutex<Option<Arc<Connection>>>,
    next_id: AtomicU64,
}

/// One connection of a link, from its handshake to its end.
pub(crate) struct Connection {
    out: mpsc::UnboundedSender<Frame>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    ended: bool,
    requests: BTreeMap<u64, oneshot::Sender<Frame>>,
    sessions: BTreeMap<u64, mpsc::UnboundedSender<Frame>>,
}

impl Link {
    fn connection(&self) -> Result<Arc<Connection>, LinkError> {
        self.session.lock().clone().ok_or(LinkError::Down(self.node))
    }

    /// One request, one reply.
    pub async fn ask(&self, group: GroupId, kind: u32, body: Bytes, timeout: Duration) -> Result<Bytes, LinkError> {
        let connection = self.connection()?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = connection.waiting.lock();
            if waiting.ended {
                return Err(LinkError::Broken(self.node));
            }
            waiting.requests.insert(id, sender);
        }
        // Forgets the request however this ends: a reply that comes too late finds nobody.
        let _forget = Forget(&connection, id);
        let frame = Frame { kind, group: group.0, id, body };
        connection.out.send(frame).map_err(|_| LinkError::Broken(self.node))?;
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(frame)) if frame.kind == kind::REFUSED => {
                Err(LinkError::Refused(self.node, String::from_utf8_lossy(&frame.body).into_owned()))
            }
            Ok(Ok(frame)) => Ok(frame.body),
            Ok(Err(_)) => Err(LinkError::Broken(self.node)),
            Err(_) => Err(LinkError::Timeout(self.node, timeout)),
        }
    }

    /// A session: frames in order, replies in order.
    pub fn open_session(&self, group: GroupId) -> Result<(SessionSender, SessionReplies), LinkError> {
        let connection = self.connection()?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::unbounded_channel();
        {
            let mut waiting = connection.waiting.lock();
            if waiting.ended {
                return Err(LinkError::Broken(self.node));
            }
            waiting.sessions.insert(id, sender);
        }
        let replies = SessionReplies { node: self.node, group, id, connection: connection.clone(), receiver };
        Ok((SessionSender { node: self.node, group, id, connection }, replies))
    }
}

struct Forget<'c>(&'c Connection, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.waiting.lock().requests.remove(&self.1);
    }
}

/// The sending half of a session.
pub(crate) struct SessionSender {
    node: NodeId,
    group: GroupId,
    id: u64,
    connection: Arc<Connection>,
}

impl SessionSender {
    pub fn send(&self, body: Bytes) -> Result<(), LinkError> {
        let frame = Frame { kind: kind::SESSION, group: self.group.0, id: self.id, body };
        // Under the lock: a frame behind the session's end would open it again at the peer.
        let waiting = self.connection.waiting.lock();
        if !waiting.sessions.contains_key(&self.id) {
            return Err(LinkError::Broken(self.node));
        }
        self.connection.out.send(frame).map_err(|_| LinkError::Broken(self.node))
    }
}

/// The receiving half of a session. Dropping it ends the session on both sides.
pub(crate) struct SessionReplies {
    node: NodeId,
    group: GroupId,
    id: u64,
    connection: Arc<Connection>,
    receiver: mpsc::UnboundedReceiver<Frame>,
}

impl SessionReplies {
    pub async fn next(&mut self) -> Result<Bytes, LinkError> {
        match self.receiver.recv().await {
            Some(frame) if frame.kind == kind::REFUSED => {
                Err(LinkError::Refused(self.node, String::from_utf8_lossy(&frame.body).into_owned()))
            }
            Some(frame) => Ok(frame.body),
            None => Err(LinkError::Broken(self.node)),
        }
    }
}

impl Drop for SessionReplies {
    fn drop(&mut self) {
        let mut waiting = self.connection.waiting.lock();
        waiting.sessions.remove(&self.id);
        let end = Frame { kind: kind::SESSION_END, group: self.group.0, id: self.id, body: Bytes::new() };
        // If the connection has gone, so has the session at its other end.
        let _ = self.connection.out.send(end);
    }
}

impl Connection {
    fn deliver(&self, frame: Frame) {
        let mut waiting = self.waiting.lock();
        match frame.kind {
            kind::SESSION_REPLY => {
                if let Some(session) = waiting.sessions.get(&frame.id) {
                    // A session that was dropped a moment ago wants no more replies.
                    let _ = session.send(frame);
                }
            }
            kind::REFUSED if waiting.sessions.contains_key(&frame.id) => {
                if let Some(session) = waiting.sessions.remove(&frame.id) {
                    let _ = session.send(frame);
                }
            }
            _ => {
                if let Some(request) = waiting.requests.remove(&frame.id) {
                    let _ = request.send(frame);
                }
            }
        }
    }

    fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.ended = true;
        waiting.requests.clear();
        waiting.sessions.clear();
    }
}

/// Connects, serves the connection until it breaks, waits a little, again; until the transport closes.
async fn keep_connected(transport: Arc<PeerTransport>, link: Arc<Link>) {
    let node = link.node;
    let mut closed = transport.closed();
    let mut pause = RECONNECT_MIN;
    let mut said = String::new();
    loop {
        let attempt = Instant::now();
        let outcome = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            outcome = connect_and_serve(&transport, &link) => outcome,
        };
        if let Some(connection) = link.session.lock().take() {
            connection.end();
            tracing::info!(node, "the connection for replication ended");
            said.clear();
        }
        // A peer that is away is normal; the same complaint is not repeated every half second.
        if let Err(status) = outcome
            && said != status.message()
        {
            said = status.message().to_owned();
            match status.code() {
                tonic::Code::Unavailable => tracing::info!(node, reason = %said, "no connection for replication"),
                code => tracing::warn!(node, ?code, reason = %said, "no connection for replication"),
            }
        }
        pause = match attempt.elapsed() > RECONNECT_MAX * 2 {
            true => RECONNECT_MIN,
            false => (pause * 2).min(RECONNECT_MAX),
        };
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn connect_and_serve(transport: &Arc<PeerTransport>, link: &Arc<Link>) -> Result<(), Status> {
    let node = link.node;
    let address = transport.peers.dialled(node);
    let address = address.ok_or_else(|| Status::unavailable(format!("the address of node {node} is not known")))?;
    let channel = transport.peers.net().connect(endpoint(&address)?).await;
    let channel = channel.map_err(|e| Status::unavailable(format!("{address}: {}", causes(&e))))?;

    let (out, queue) = mpsc::unbounded_channel();
    let request = transport.peers.identify(node, coalesce(queue));
    let call = tokio::time::timeout(HANDSHAKE_TIMEOUT, async { client(channel).raft(request).await });
    let response =
        call.await.map_err(|_| Status::unavailable(format!("{address}: no handshake in {HANDSHAKE_TIMEOUT:?}")))??;
    transport.peers.verify(response.metadata(), Some(node))?;

    let connection = Arc::new(Connection { out, waiting: Mutex::new(Waiting::default()) });
    *link.session.lock() = Some(connection.clone());
    tracing::info!(node, %address, "connected for replication");
    let mut replies: Streaming<Frames> = response.into_inner();
    while let Some(frames) = replies.message().await? {
        frames.frames.into_iter().for_each(|frame| connection.deliver(frame));
    }
    Ok(())
}

/// An error with all of its causes, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// All frames that wait, as one message.
pub(crate) fn coalesce(queue: mpsc::UnboundedReceiver<Frame>) -> Coalesce {
    Coalesce { queue }
}

pub(crate) struct Coalesce {
    queue: mpsc::UnboundedReceiver<Frame>,
}

impl Coalesce {
    fn fill(&mut self, first: Frame) -> Frames {
        let mut bytes = first.body.len();
        let mut frames = vec![first];
        while bytes < MESSAGE_BYTES && frames.len() < MESSAGE_FRAMES {
            let Ok(frame) = self.queue.try_recv() else { break };
            bytes += frame.body.len();
            frames.push(frame);
        }
        Frames { frames }
    }
}

impl Stream for Coalesce {
    type Item = Frames;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frames>> {
        match self.queue.poll_recv(context) {
            Poll::Ready(Some(first)) => Poll::Ready(Some(self.fill(first))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
