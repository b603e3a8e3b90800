//! openraft's view of a peer: requests of one group to one target, over the node's shared links.
//!
//! Appends are pipelined: up to [`WINDOW`] of them, or [`WINDOW_KIB`] KiB, are on their way before the first is answered. A lone
//! append without entries (heartbeat, probe, news of a commit) is a single request instead, which needs no session.
//!
//! Never: a request for this node itself; `Unreachable` for anything but a peer that cannot be asked now (openraft then backs off).
//!
//! Called by openraft alone.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use stanchion_engine::GroupId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;

use crate::clock::GroupClock;
use crate::peers::Peer;
use crate::snapshot::{self, SnapshotData};
use crate::transport::{Link, LinkError, PeerTransport, SessionReplies, SessionSender, kind};
use crate::types::{NodeId, TypeConfig, Vote};
use crate::wire;

/// Appends of one session that may wait for their replies.
const WINDOW: u32 = 32;
/// Their size, in KiB. A single larger one goes alone.
const WINDOW_KIB: u32 = 4096;
/// For a single request. openraft's own time-outs are shorter where they matter (heartbeats); a slow disk must not look like a lost
/// peer to the rest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

type Failure = RPCError<TypeConfig>;
type AppendStream<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failure>>;

/// Makes the clients of one group.
pub(crate) struct Network {
    pub transport: Arc<PeerTransport>,
    pub group: GroupId,
    pub clock: Arc<GroupClock>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Target;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Target {
        if self.transport.peers().address(target).is_none() {
            // Membership is replicated and so may know a node before the configuration or the meta group does.
            self.transport.peers().set(Peer { node_id: target, address: node.addr.clone(), incarnation: None });
        }
        Target {
            link: self.transport.link(target),
            transport: self.transport.clone(),
            group: self.group,
            clock: self.clock.clone(),
            target,
        }
    }
}

/// One group's way to one peer.
pub(crate) struct Target {
    transport: Arc<PeerTransport>,
    link: Arc<Link>,
    group: GroupId,
    clock: Arc<GroupClock>,
    target: NodeId,
}

fn failure(error: LinkError) -> Failure {
    match error {
        LinkError::Down(_) | LinkError::Refused(..) => RPCError::Unreachable(Unreachable::new(&error)),
        LinkError::Broken(_) | LinkError::Timeout(..) => RPCError::Network(NetworkError::new(&error)),
    }
}

fn garbled(error: std::io::Error) -> Failure {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl Target {
    async fn ask(&self, kind: u32, body: bytes::Bytes, timeout: Duration) -> Result<bytes::Bytes, Failure> {
        self.link.ask(self.group, kind, body, timeout).await.map_err(failure)
    }

    /// A voter's answer. What it knows of the group's clock is known here before it counts.
    fn voted(&self, body: bytes::Bytes) -> Result<VoteResponse<TypeConfig>, Failure> {
        let (reply, clock) = wire::decode_vote_reply(body).map_err(garbled)?;
        clock.into_iter().for_each(|told| self.clock.hear(told));
        Ok(reply)
    }

    async fn append(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        let body = self.ask(kind::APPEND, wire::encode_append(request, self.clock.known()), REQUEST_TIMEOUT).await?;
        wire::decode_append_reply(body).map_err(garbled)
    }

    async fn open_stream<'s, S>(&'s mut self, mut input: S) -> Result<AppendStream<'s>, Failure>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let Some(first) = input.next().await else {
            return Ok(stream::empty().boxed());
        };
        if !first.entries.is_empty() {
            return Ok(self.pipeline(first, input)?.boxed());
        }
        let last = first.prev_log_id;
        let answer = self.append(&first).await?.into_stream_result(first.prev_log_id, last);
        let failed = answer.is_err();
        let this = &*self;
        let rest = async move {
            match input.next().await {
                Some(next) if !failed => match this.pipeline(next, input) {
                    Ok(replies) => replies.boxed(),
                    Err(error) => stream::iter([Err(error)]).boxed(),
                },
                _ => stream::empty().boxed(),
            }
        };
        Ok(stream::iter([Ok(answer)]).chain(stream::once(rest).flatten()).boxed())
    }

    /// Sends `first` and all that follows; yields the replies as they come.
    fn pipeline<S>(
        &self,
        first: AppendEntriesRequest<TypeConfig>,
        input: S,
    ) -> Result<impl Stream<Item = Result<StreamAppendResult<TypeConfig>, Failure>> + Send + 'static, Failure>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let (sender, replies) = self.link.open_session(self.group).map_err(failure)?;
        let (sent, on_their_way) = mpsc::unbounded_channel();
        let requests = stream::once(async { first }).chain(input);
        let pump = self.transport.runtime().spawn(pump(sender, requests, sent, self.clock.clone())).abort_handle();
        let pipeline = Pipeline { replies, on_their_way, pump };
        Ok(stream::unfold(Some(pipeline), |pipeline| async {
            let mut pipeline = pipeline?;
            // No more requests, and none unanswered.
            let _window = pipeline.on_their_way.recv().await?;
            let reply = match pipeline.replies.next().await {
                Ok(body) => wire::decode_stream_reply(body).map_err(garbled),
                Err(error) => Err(failure(error)),
            };
            let goes_on = matches!(reply, Ok(Ok(_)));
            Some((reply, goes_on.then_some(pipeline)))
        }))
    }
}

/// A session under way. Dropping it stops the pump and ends the session at the peer.
struct Pipeline {
    replies: SessionReplies,
    /// A place in the window for each request sent and not yet answered.
    on_their_way: mpsc::UnboundedReceiver<OwnedSemaphorePermit>,
    pump: AbortHandle,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

async fn pump<S>(
    sender: SessionSender,
    requests: S,
    sent: mpsc::UnboundedSender<OwnedSemaphorePermit>,
    clock: Arc<GroupClock>,
) where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send,
{
    let window = Arc::new(Semaphore::new(WINDOW_KIB as usize));
    let mut requests = std::pin::pin!(requests);
    while let Some(request) = requests.next().await {
        let body = wire::encode_append(&request, clock.known());
        let kib = u32::try_from(body.len() / 1024).unwrap_or(WINDOW_KIB).clamp(WINDOW_KIB / WINDOW, WINDOW_KIB);
        let Ok(place) = window.clone().acquire_many_owned(kib).await else { return };
        // The order matters: whoever sees a reply must find the place it frees.
        if sent.send(place).is_err() || sender.send(body).is_err() {
            return;
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Target {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        self.append(&request).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendStream<'s>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(self.open_stream(input))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let body = self.ask(kind::VOTE, wire::encode_vote_request(&request), option.hard_ttl()).await?;
        self.voted(body)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let body = self.ask(kind::PRE_VOTE, wire::encode_vote_request(&request), option.hard_ttl()).await?;
        self.voted(body)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        snapshot::send(&self.transport, self.target, self.group, vote, snapshot.snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let timeout = option.hard_ttl().max(Duration::from_secs(1));
        let body = self.ask(kind::TRANSFER, wire::encode_transfer(&request), timeout).await?;
        wire::decode_transfer_reply(body).map_err(garbled)
    }
}
