//! Reading a group's state as of one point, as chunks.
//!
//! A thread of its own holds the RocksDB snapshot, which borrows the database, and hands chunks over a short channel: the transfer can
//! take as long as it likes, and ends when the [`Snapshot`] is dropped. A store whose log is driven has no threads, and reads the whole at
//! once: it is a test's, and small.
//!
//! Never: two chunks of different states; more than the channel's few chunks in memory (but for a driven store). Called by
//! [`crate::Store::snapshot`].

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use prost::Message;
use stanchion_engine::Slot;
use stanchion_proto::row::{SnapshotEnd, SnapshotHead};

use super::{CHUNK_BYTES, END, FAMILIES, FORMAT, HEAD, push_field, seal};
use crate::error::StoreError;
use crate::state::Applied;
use crate::state::keys::{PREFIX_BYTES, generation_end, generation_start};
use crate::state::rows::{KeyRange, Rows};
use crate::state::shared::{GroupShared, Standing, StateShared};

/// Chunks waiting for whoever sends them.
const CHUNKS_AHEAD: usize = 2;

type Chunk = Result<Bytes, StoreError>;

/// A group's state as of one point. Iterating blocks on the disk: not for an async worker.
pub struct Snapshot {
    /// What the chunks hold, read from the same state as they are.
    pub applied: Applied,
    chunks: Box<dyn Iterator<Item = Chunk> + Send>,
}

impl Iterator for Snapshot {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        self.chunks.next()
    }
}

/// Takes the snapshot now; its chunks are read as they are asked for.
pub(crate) fn open(store: Arc<StateShared>, group: Arc<GroupShared>) -> Result<Snapshot, StoreError> {
    if store.options.log_writer.is_driven() {
        return read_whole(&store, &group).map_err(|error| store.fatal.judge(error));
    }
    let (chunks, receiver) = sync_channel::<Chunk>(CHUNKS_AHEAD);
    let (opened, applied) = sync_channel(1);
    std::thread::Builder::new()
        .name(format!("snapshot-{}", group.group))
        .spawn(move || {
            // An error on a channel means that nobody wants the rest.
            let tell = |applied: &Applied| opened.send(Ok(applied.clone())).map_err(|_| None);
            let give = |chunk| chunks.send(Ok(chunk)).map_err(|_| None);
            if let Err(Some(error)) = send(&store, &group, tell, give) {
                let error = store.fatal.judge(error);
                let _ = opened.try_send(Err(error.clone()));
                let _ = chunks.send(Err(error));
            }
        })
        .map_err(|e| StoreError::io("snapshot thread", e))?;
    let applied = applied.recv().map_err(|_| StoreError::Misuse("the snapshot's thread ended".into()))??;
    Ok(Snapshot { applied, chunks: Box::new(receiver.into_iter()) })
}

fn read_whole(store: &StateShared, group: &GroupShared) -> Result<Snapshot, StoreError> {
    let (mut found, mut chunks) = (Applied::default(), Vec::new());
    let tell = |applied: &Applied| {
        found = applied.clone();
        Ok(())
    };
    let give = |chunk| {
        chunks.push(Ok(chunk));
        Ok(())
    };
    match send(store, group, tell, give) {
        Ok(()) | Err(None) => Ok(Snapshot { applied: found, chunks: Box::new(chunks.into_iter()) }),
        Err(Some(error)) => Err(error),
    }
}

/// `Err(None)` where the receiver has gone.
type Sent<T> = Result<T, Option<StoreError>>;

fn send(
    store: &StateShared,
    group: &GroupShared,
    tell: impl FnOnce(&Applied) -> Sent<()>,
    mut give: impl FnMut(Bytes) -> Sent<()>,
) -> Sent<()> {
    let snapshot = {
        let _live = group.live.read();
        store.db.rocks.snapshot()
    };
    let rows = Rows { db: &store.db, snapshot: Some(&snapshot) };
    let standing = Standing::read(rows, group.group)?;
    tell(&standing.applied)?;
    let mut give = |kind, body: &[u8]| give(seal(kind, body));

    let head = SnapshotHead { format: FORMAT, group: group.group.0, row: Some(standing.row()) };
    give(HEAD, &head.encode_to_vec())?;
    let mut end = SnapshotEnd::default();
    for (kind, family) in FAMILIES {
        let mut body = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        for (slot, generation) in standing.slots.slots() {
            let range =
                KeyRange { family, from: generation_start(slot, generation), to: generation_end(slot, generation) };
            let mut iterator = rows.iterator(&range)?;
            iterator.seek_to_first();
            while let Some((key, value)) = iterator.item() {
                push_field(&mut body, &portable(slot, key));
                push_field(&mut body, value);
                end.rows += 1;
                end.bytes += (key.len() + value.len()) as u64;
                if body.len() >= CHUNK_BYTES {
                    give(kind, &body)?;
                    body.clear();
                }
                iterator.next();
            }
            iterator.status().map_err(|e| store.db.failed(e))?;
        }
        if !body.is_empty() {
            give(kind, &body)?;
        }
    }
    give(END, &end.encode_to_vec())
}

/// A stored key without its generation.
fn portable(slot: Slot, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len());
    out.extend_from_slice(&slot.0.to_be_bytes());
    out.extend_from_slice(&key[PREFIX_BYTES - 1..]);
    out
}
