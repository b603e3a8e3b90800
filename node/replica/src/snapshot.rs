//! Snapshots between nodes: one group's rows, streamed to a follower whose next entry is already purged here.
//!
//! ```text
//!   header (group, vote, applied id and membership) ─▶ chunks, checked and ended by the store ─▶ installed, vote back
//! ```
//!
//! openraft is told of the *flushed* index, because that bounds what may be purged. What is sent is read in one consistent view taken
//! at the time of sending, so it may be newer, and the header says what it is. It travels on a connection of its own: replication
//! and calls do not wait behind it.
//!
//! Never: a snapshot installed that did not come whole (the store counts and checks its chunks); two received at once for one group.
//!
//! Called by `network` (sending), `service` (receiving) and the state machine (installing).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use stanchion_engine::GroupId;
use stanchion_proto::node::{SnapshotChunk, SnapshotReply};
use stanchion_store::{Applied, ReceivedSnapshot, Snapshot, Store, StoreError};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::off_thread::is_alone;
use crate::peers::{client, endpoint};
use crate::transport::{PeerTransport, causes};
use crate::types::{NodeId, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use crate::wire::{self, SnapshotHeader};

/// Chunks read ahead of the network, or ahead of the disk at the other end.
const CHUNKS_AHEAD: usize = 4;
/// A transfer without progress for this long is given up.
const IDLE: Duration = Duration::from_secs(30);

/// What openraft hands from one side of a snapshot to the other.
pub(crate) enum SnapshotData {
    /// This node's own state; read when it is sent.
    Here { store: Store, group: GroupId },
    /// Received whole and verified, not yet live.
    Received(Box<ReceivedSnapshot>),
}

impl SnapshotData {
    /// Ready to be installed. One that is still `Here` is copied without a network.
    pub fn into_received(self, group: GroupId, into: &Store) -> Result<ReceivedSnapshot, StoreError> {
        match self {
            Self::Received(received) => Ok(*received),
            Self::Here { store, group: from } => {
                let mut receiver = into.snapshot_receiver(group)?;
                for chunk in store.snapshot(from)? {
                    receiver.chunk(&chunk?)?;
                }
                receiver.finish()
            }
        }
    }
}

/// Applied id and membership as the store keeps them for us. None where nothing is applied.
pub(crate) fn meta_of(applied: &Applied) -> io::Result<Option<SnapshotMeta>> {
    let Some(log_id) = applied.log_id.as_deref() else { return Ok(None) };
    let last_membership = match applied.membership.as_deref() {
        Some(bytes) => wire::decode_membership(bytes)?,
        None => StoredMembership::default(),
    };
    Ok(Some(SnapshotMeta { last_log_id: Some(wire::decode_log_id(log_id)?), last_membership }))
}

/// Runs what may block for long without holding up the other tasks of this thread.
pub(crate) fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

// -------------------------------------------------------------------------------------------------------------- sending

pub(crate) async fn send(
    transport: &Arc<PeerTransport>,
    target: NodeId,
    group: GroupId,
    vote: Vote,
    data: SnapshotData,
    cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let SnapshotData::Here { store, .. } = data else {
        return Err(NetworkError::from_string("only a node's own snapshot is sent").into());
    };
    let started = Instant::now();
    tracing::info!(%group, target, "sending a snapshot");
    tokio::select! {
        closed = cancel => Err(closed.into()),
        sent = transfer(transport, target, group, vote, store) => match sent {
            Ok((vote, bytes)) => {
                metrics::counter!("stanchion_snapshots_sent_total").increment(1);
                metrics::counter!("stanchion_snapshot_bytes_sent_total").increment(bytes);
                tracing::info!(%group, target, bytes, took = ?started.elapsed(), "snapshot sent");
                Ok(SnapshotResponse::new(vote))
            }
            Err(status) => {
                tracing::warn!(%group, target, %status, "a snapshot was not sent");
                Err(Unreachable::from_string(status).into())
            }
        },
    }
}

async fn transfer(
    transport: &Arc<PeerTransport>,
    target: NodeId,
    group: GroupId,
    vote: Vote,
    store: Store,
) -> Result<(Vote, u64), Status> {
    let peers = transport.peers();
    let address = peers.dialled(target).ok_or_else(|| Status::unavailable("its address is not known"))?;
    let channel = peers.net().connect(endpoint(&address)?).await;
    let channel = channel.map_err(|e| Status::unavailable(format!("{address}: {}", causes(&e))))?;
    let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
    let reader = spawn_reader(transport.runtime(), store, group, vote, chunks);
    let reply = client(channel).snapshot(peers.identify(target, ReceiverStream::new(queue))).await;
    let read = reader.await.map_err(|e| Status::internal(e.to_string()))?;
    // A reader that failed is why the receiver got only a part: its reason comes first.
    let bytes = read?;
    let SnapshotReply { body } = reply?.into_inner();
    let vote = wire::decode_vote(&body).map_err(|e| Status::data_loss(e.to_string()))?;
    Ok((vote, bytes))
}

/// On a thread of its own; on a runtime that has no other, as a task beside the others.
fn spawn_reader(
    runtime: &Handle,
    store: Store,
    group: GroupId,
    vote: Vote,
    queue: mpsc::Sender<SnapshotChunk>,
) -> JoinHandle<Result<u64, Status>> {
    match is_alone(runtime) {
        true => runtime.spawn(read_stepwise(store, group, vote, queue)),
        false => runtime.spawn_blocking(move || read(&store, group, vote, &queue)),
    }
}

/// Puts the whole snapshot into the queue. Bytes that were read.
fn read(store: &Store, group: GroupId, vote: Vote, queue: &mpsc::Sender<SnapshotChunk>) -> Result<u64, Status> {
    let (first, snapshot) = open(store, group, vote)?;
    let mut bytes = 0;
    // A queue that takes nothing more belongs to a call that has ended, and its own error says why.
    if queue.blocking_send(first).is_err() {
        return Ok(bytes);
    }
    for data in snapshot {
        let data = data.map_err(unreadable)?;
        bytes += data.len() as u64;
        if queue.blocking_send(SnapshotChunk { data, ..SnapshotChunk::default() }).is_err() {
            return Ok(bytes);
        }
    }
    Ok(bytes)
}

/// As [`read`], giving way to other tasks while the queue is full.
async fn read_stepwise(
    store: Store,
    group: GroupId,
    vote: Vote,
    queue: mpsc::Sender<SnapshotChunk>,
) -> Result<u64, Status> {
    let (first, snapshot) = open(&store, group, vote)?;
    let mut bytes = 0;
    if queue.send(first).await.is_err() {
        return Ok(bytes);
    }
    for data in snapshot {
        let data = data.map_err(unreadable)?;
        bytes += data.len() as u64;
        if queue.send(SnapshotChunk { data, ..SnapshotChunk::default() }).await.is_err() {
            return Ok(bytes);
        }
    }
    Ok(bytes)
}

/// The header, and what follows it.
fn open(store: &Store, group: GroupId, vote: Vote) -> Result<(SnapshotChunk, Snapshot), Status> {
    let snapshot = store.snapshot(group).map_err(unreadable)?;
    let meta = meta_of(&snapshot.applied).map_err(unreadable)?.unwrap_or_default();
    let header = wire::encode_snapshot_header(&SnapshotHeader { group: group.0, vote, meta });
    Ok((SnapshotChunk { header, ..SnapshotChunk::default() }, snapshot))
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("reading the snapshot: {error}"))
}

// ------------------------------------------------------------------------------------------------------------ receiving

/// Takes in a snapshot and has it installed. Answers this node's vote.
pub(crate) async fn receive(
    transport: &Arc<PeerTransport>,
    from: NodeId,
    mut chunks: Streaming<SnapshotChunk>,
) -> Result<Bytes, Status> {
    let first = next(&mut chunks).await?.ok_or_else(|| Status::invalid_argument("a snapshot without a header"))?;
    let header = wire::decode_snapshot_header(&first.header).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let group = GroupId(header.group);
    let served = transport.served(group).ok_or_else(|| Status::unavailable(format!("group {group} is not here")))?;
    let _only = transport
        .receive_alone(group)
        .ok_or_else(|| Status::aborted(format!("a snapshot of group {group} is already being received")))?;

    let started = Instant::now();
    tracing::info!(%group, from, "receiving a snapshot");
    let (queue, work) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    let store = served.store.clone();
    let writer = spawn_writer(transport.runtime(), store, group, work);
    let mut bytes = 0;
    while let Some(chunk) = next(&mut chunks).await? {
        bytes += chunk.data.len() as u64;
        if queue.send(chunk.data).await.is_err() {
            // The writer has failed, and says why below.
            break;
        }
    }
    drop(queue);
    let received = writer.await.map_err(|e| Status::internal(e.to_string()))?;
    let received = received.map_err(|e| Status::internal(format!("writing the snapshot of group {group}: {e}")))?;
    metrics::counter!("stanchion_snapshots_received_total").increment(1);
    metrics::counter!("stanchion_snapshot_bytes_received_total").increment(bytes);
    tracing::info!(%group, from, bytes, took = ?started.elapsed(), "snapshot received");
    let snapshot = openraft::Snapshot { meta: header.meta, snapshot: SnapshotData::Received(Box::new(received)) };
    let reply = served.raft.install_full_snapshot(header.vote, snapshot).await;
    let reply = reply.map_err(|e| Status::internal(e.to_string()))?;
    Ok(wire::encode_vote(&reply.vote))
}

async fn next(chunks: &mut Streaming<SnapshotChunk>) -> Result<Option<SnapshotChunk>, Status> {
    let next = tokio::time::timeout(IDLE, chunks.message()).await;
    next.map_err(|_| Status::deadline_exceeded(format!("no chunk of the snapshot within {IDLE:?}")))?
}

/// As [`spawn_reader`].
fn spawn_writer(
    runtime: &Handle,
    store: Store,
    group: GroupId,
    work: mpsc::Receiver<Bytes>,
) -> JoinHandle<Result<ReceivedSnapshot, StoreError>> {
    match is_alone(runtime) {
        true => runtime.spawn(write_stepwise(store, group, work)),
        false => runtime.spawn_blocking(move || write(&store, group, work)),
    }
}

fn write(store: &Store, group: GroupId, mut work: mpsc::Receiver<Bytes>) -> Result<ReceivedSnapshot, StoreError> {
    let mut receiver = store.snapshot_receiver(group)?;
    while let Some(chunk) = work.blocking_recv() {
        receiver.chunk(&chunk)?;
    }
    receiver.finish()
}

async fn write_stepwise(
    store: Store,
    group: GroupId,
    mut work: mpsc::Receiver<Bytes>,
) -> Result<ReceivedSnapshot, StoreError> {
    let mut receiver = store.snapshot_receiver(group)?;
    while let Some(chunk) = work.recv().await {
        receiver.chunk(&chunk)?;
    }
    receiver.finish()
}
