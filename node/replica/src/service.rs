//! The receiving end of Raft's traffic: frames of a peer's stream to the groups, replies back.
//!
//! Sessions are ordered: each has one queue into its group, served in order, answered in order. Single requests may overtake one
//! another; openraft allows that.
//!
//! Never: a request of a caller that was not admitted; a frame that makes this node panic, whatever it holds.
//!
//! Called by the server's `Peer` service, which owns the listener.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::raft::AppendEntriesRequest;
use stanchion_engine::GroupId;
use stanchion_proto::node::{Frame, Frames, SnapshotChunk, SnapshotReply};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::clock::GroupClock;
use crate::snapshot;
use crate::transport::{PeerTransport, Served, coalesce, kind};
use crate::types::{NodeId, TypeConfig};
use crate::wire;

/// Appends of one session that may wait here. Twice the sender's window: reaching it is the sender's mistake.
const SESSION_QUEUE: usize = 64;

/// What `Peer.Raft` answers with.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Frames, Status>> + Send>>;

impl PeerTransport {
    /// `Peer.Raft`.
    pub async fn serve_raft(
        self: &Arc<Self>,
        request: Request<Streaming<Frames>>,
    ) -> Result<Response<FrameStream>, Status> {
        let node = self.peers().admit(request.metadata())?;
        let (out, queue) = mpsc::unbounded_channel();
        let reader = Reader { transport: self.clone(), node, out, sessions: BTreeMap::new() };
        self.runtime().spawn(reader.run(request.into_inner()));
        let replies: FrameStream = Box::pin(coalesce(queue).map(Ok));
        let mut response = Response::new(replies);
        self.peers().sign(response.metadata_mut());
        Ok(response)
    }

    /// `Peer.Snapshot`.
    pub async fn serve_snapshot(
        self: &Arc<Self>,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let node = self.peers().admit(request.metadata())?;
        let body = snapshot::receive(self, node, request.into_inner()).await?;
        Ok(Response::new(SnapshotReply { body }))
    }
}

struct Reader {
    transport: Arc<PeerTransport>,
    node: NodeId,
    out: mpsc::UnboundedSender<Frame>,
    sessions: BTreeMap<u64, Session>,
}

/// Appends of one group on their way into it, in order.
struct Session {
    queue: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
    clock: Arc<GroupClock>,
}

impl Reader {
    async fn run(mut self, mut frames: Streaming<Frames>) {
        let mut closed = self.transport.closed();
        loop {
            let next = tokio::select! {
                _ = closed.wait_for(|closed| *closed) => return,
                next = frames.message() => next,
            };
            match next {
                Ok(Some(frames)) => frames.frames.into_iter().for_each(|frame| self.take(frame)),
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(node = self.node, %status, "a peer's stream broke");
                    return;
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame.kind {
            kind::SESSION_END => {
                self.sessions.remove(&frame.id);
            }
            kind::SESSION => self.take_session(frame),
            kind::APPEND | kind::VOTE | kind::PRE_VOTE | kind::TRANSFER => self.take_request(frame),
            // A newer peer may know more kinds than this one; it must not wait for an answer.
            other => self.refuse(frame.group, frame.id, format!("frames of kind {other} are not known here")),
        }
    }

    fn take_request(&self, frame: Frame) {
        let Some(served) = self.transport.served(GroupId(frame.group)) else {
            return self.refuse(frame.group, frame.id, format!("group {} is not on this node", frame.group));
        };
        if frame.kind == kind::TRANSFER
            && self.transport.is_draining()
            && is_for(&frame, self.transport.peers().node_id())
        {
            return self.refuse(frame.group, frame.id, "this node is about to stop".into());
        }
        let out = self.out.clone();
        self.transport.runtime().spawn(async move {
            let (group, id) = (frame.group, frame.id);
            let reply = match answer(&served, frame.kind, frame.body).await {
                Ok(body) => Frame { kind: kind::REPLY, group, id, body },
                Err(reason) => Frame { kind: kind::REFUSED, group, id, body: Bytes::from(reason) },
            };
            // The peer has gone; it will ask again.
            let _ = out.send(reply);
        });
    }

    fn take_session(&mut self, frame: Frame) {
        let (group, id) = (frame.group, frame.id);
        let (request, clock) = match wire::decode_append(frame.body) {
            Ok(request) => request,
            Err(error) => {
                self.sessions.remove(&id);
                return self.refuse(group, id, error.to_string());
            }
        };
        if !self.sessions.contains_key(&id) {
            let Some(served) = self.transport.served(GroupId(group)) else {
                return self.refuse(group, id, format!("group {group} is not on this node"));
            };
            let (queue, receiver) = mpsc::channel(SESSION_QUEUE);
            self.sessions.insert(id, Session { queue, clock: served.clock });
            let replies = served.raft.stream_append(ReceiverStream::new(receiver));
            self.transport.runtime().spawn(answer_session(group, id, replies, self.out.clone()));
        }
        let Some(session) = self.sessions.get(&id) else { return };
        clock.into_iter().for_each(|theirs| session.clock.hear(theirs));
        match session.queue.try_send(request) {
            // Closed: the session ended with an error that is on its way to the sender, who will end it too.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.sessions.remove(&id);
                self.refuse(group, id, format!("more than {SESSION_QUEUE} appends of one session wait"));
            }
        }
    }

    fn refuse(&self, group: u32, id: u64, reason: String) {
        let _ = self.out.send(Frame { kind: kind::REFUSED, group, id, body: Bytes::from(reason) });
    }
}

/// Whether a transfer would make that node the leader. The others are told of it too.
fn is_for(frame: &Frame, node: NodeId) -> bool {
    wire::decode_transfer(frame.body.clone()).is_ok_and(|transfer| *transfer.to_node_id() == node)
}

async fn answer_session<S>(group: u32, id: u64, replies: S, out: mpsc::UnboundedSender<Frame>)
where
    S: Stream<Item = Result<openraft::raft::StreamAppendResult<TypeConfig>, openraft::errors::Fatal<TypeConfig>>>
        + Send,
{
    let mut replies = std::pin::pin!(replies);
    while let Some(reply) = replies.next().await {
        let frame = match reply {
            Ok(reply) => Frame { kind: kind::SESSION_REPLY, group, id, body: wire::encode_stream_reply(&reply) },
            Err(fatal) => Frame { kind: kind::REFUSED, group, id, body: Bytes::from(fatal.to_string()) },
        };
        if out.send(frame).is_err() {
            return;
        }
    }
}

async fn answer(Served { raft, clock, .. }: &Served, kind: u32, body: Bytes) -> Result<Bytes, String> {
    let garbled = |error: io::Error| error.to_string();
    match kind {
        kind::APPEND => {
            let (request, theirs) = wire::decode_append(body).map_err(garbled)?;
            theirs.into_iter().for_each(|theirs| clock.hear(theirs));
            let reply = raft.append_entries(request).await.map_err(|e| e.to_string())?;
            Ok(wire::encode_append_reply(&reply))
        }
        kind::VOTE => {
            let reply =
                raft.vote(wire::decode_vote_request(body).map_err(garbled)?).await.map_err(|e| e.to_string())?;
            Ok(wire::encode_vote_reply(&reply, clock.known()))
        }
        kind::PRE_VOTE => {
            let request = wire::decode_vote_request(body).map_err(garbled)?;
            let reply = raft.pre_vote(request).await.map_err(|e| e.to_string())?;
            Ok(wire::encode_vote_reply(&reply, clock.known()))
        }
        kind::TRANSFER => {
            let request = wire::decode_transfer(body).map_err(garbled)?;
            let reply = raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())?;
            Ok(wire::encode_transfer_reply(&reply))
        }
        other => Err(format!("frames of kind {other} are not requests")),
    }
}
