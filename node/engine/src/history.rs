//! Events of runs: stored as batches of encoded events, each framed as field 1 of a `History`, so that reading is copying.
//!
//! A batch's key is its run and the id of its first event; a batch is written once and never touched again.

use bytes::{Buf, Bytes};
use prost::Message;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};

use crate::keys;
use crate::state::{ShardState, StateFault, StateResult, Table};
use crate::transaction::Transaction;
use crate::types::{EventId, RunKey, Slot};

/// The chain's next link: BLAKE3 keyed with the link before, over one event's bytes. The first link's key is all zeroes.
pub fn link(previous: &[u8; 32], event: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(previous, event).as_bytes()
}

/// Stores a batch whose first event has the id `first`.
pub fn append(tx: &mut Transaction<'_>, slot: Slot, run: &RunKey, first: EventId, batch: Bytes) {
    tx.put(slot, Table::History, keys::run_event(run, first), batch);
}

/// A stored batch, or the beginning of one.
pub struct Batch {
    /// Id of its first event.
    pub first: EventId,
    pub bytes: Bytes,
}

impl Batch {
    /// Its events, each with its bytes as they were hashed, and with those that frame it.
    pub fn events(&self) -> StateResult<Vec<StoredEvent>> {
        let corrupt = |reason: String| StateFault::Corrupt { table: Table::History, reason };
        let mut events = Vec::new();
        let mut rest = self.bytes.clone();
        while rest.has_remaining() {
            let before = rest.len();
            rest.advance(1);
            let length = prost::decode_length_delimiter(&mut rest).map_err(|error| corrupt(error.to_string()))?;
            if length > rest.len() {
                return Err(corrupt(format!("the batch at {} ends within an event", self.first.0)));
            }
            let bytes = rest.split_to(length);
            let event = HistoryEvent::decode(bytes.clone()).map_err(|error| corrupt(error.to_string()))?;
            events.push(StoredEvent { event, bytes, framed_bytes: before - rest.len() });
        }
        Ok(events)
    }

    /// The part in front of the event `to`; none if that is empty.
    pub fn before(self, to: EventId) -> StateResult<Option<Self>> {
        let mut end = 0;
        for event in self.events()? {
            if event.event.event_id >= to.0 {
                break;
            }
            end += event.framed_bytes;
        }
        Ok((end > 0).then(|| Self { first: self.first, bytes: self.bytes.slice(..end) }))
    }
}

pub struct StoredEvent {
    pub event: HistoryEvent,
    pub bytes: Bytes,
    pub framed_bytes: usize,
}

/// The batches of a run that begin at or behind `from`.
pub fn batches(state: &dyn ShardState, slot: Slot, run: &RunKey, from: EventId) -> StateResult<Vec<Batch>> {
    let prefix = keys::run(run).len();
    let end = keys::after(&keys::run(run));
    let mut start = keys::run_event(run, from);
    let mut batches = Vec::new();
    loop {
        let rows = state.range(slot, Table::History, &start, &end, CHUNK)?;
        let full = rows.len() == CHUNK;
        for (key, bytes) in rows {
            let first = key.get(prefix..).and_then(|id| id.try_into().ok()).map(i64::from_be_bytes);
            let first = first.ok_or_else(|| StateFault::Corrupt {
                table: Table::History,
                reason: format!("the key of a batch of run {} is malformed", run.run_id),
            })?;
            batches.push(Batch { first: EventId(first), bytes });
            start = key.to_vec();
        }
        if !full {
            return Ok(batches);
        }
        start.push(0);
    }
}

/// The first event of the batch that holds the event `id`.
pub fn batch_of(state: &dyn ShardState, slot: Slot, run: &RunKey, id: EventId) -> StateResult<EventId> {
    let behind = keys::run_event(run, EventId(id.0.saturating_add(1)));
    let found = state.range_reverse(slot, Table::History, &keys::run(run), &behind, 1)?;
    let first = found.first().and_then(|(key, _)| key.last_chunk::<8>()).map(|id| i64::from_be_bytes(*id));
    Ok(first.map_or(id, EventId))
}

/// Batches read in one go.
const CHUNK: usize = 256;

/// The first event of a run, decoded: what a new run of the chain takes over.
pub fn first_event(state: &dyn ShardState, slot: Slot, run: &RunKey) -> StateResult<Option<HistoryEvent>> {
    let Some(bytes) = state.get(slot, Table::History, &keys::run_event(run, EventId(1)))? else { return Ok(None) };
    let batch =
        History::decode(bytes).map_err(|e| StateFault::Corrupt { table: Table::History, reason: e.to_string() })?;
    Ok(batch.events.into_iter().next())
}
