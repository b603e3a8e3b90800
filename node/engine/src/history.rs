//! Events of runs: stored as batches of encoded events, each framed as field 1 of a `History`, so that reading is copying.
//!
//! A batch's key is its run and the id of its first event; a batch is written once and never touched again.

use bytes::Bytes;
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

/// The first event of a run, decoded: what a new run of the chain takes over.
pub fn first_event(state: &dyn ShardState, slot: Slot, run: &RunKey) -> StateResult<Option<HistoryEvent>> {
    let Some(bytes) = state.get(slot, Table::History, &keys::run_event(run, EventId(1)))? else { return Ok(None) };
    let batch =
        History::decode(bytes).map_err(|e| StateFault::Corrupt { table: Table::History, reason: e.to_string() })?;
    Ok(batch.events.into_iter().next())
}
