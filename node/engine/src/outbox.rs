//! Outbox: messages from one slot to another, which may be in another group on another node.
//!
//! A row is written by the apply that causes it, and deleted when the receiver has applied it: by the same command if both slots are of
//! one group, by `AckOutbox` otherwise. Delivery is at least once and in order; the receiver drops what it has applied
//! ([`crate::inbox`]), so the effect is exactly once. An answer is a message the other way.
//!
//! ```text
//! command of the sender         leader of the sender's group          receiver's group
//!   row (s, d, n) written --effect--> reads the row ----------------> DeliverOutbox: n == mark + 1, applied; mark = n
//!                                     AckOutbox up to n <------------ mark
//!   row deleted
//! ```
//!
//! Never: sends before commit; deletes without an acknowledged receiver; reorders or leaves a gap within a pair of slots; uses a
//! number twice (the tail's row outlives the messages).
//!
//! Called by whatever concept has something to say to another run ([`send`]), and by `apply`.

use bytes::Bytes;
use prost::Message;
use stanchion_proto::command::AckOutbox;
use stanchion_proto::row::{OutboxMessage, OutboxRow, OutboxTailRow, outbox_message};

use crate::effects::OutboxKey;
use crate::keys;
use crate::reply::Reply;
use crate::slot::slot_of;
use crate::state::{ShardState, StateReader, StateResult, Table};
use crate::transaction::{Outcome, Transaction, decode};
use crate::types::Slot;

/// Rows deleted in one go.
const ACK_CHUNK: usize = 1000;

/// Whom a message is for. The namespace's name may be empty where it is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    pub namespace_id: String,
    pub namespace: String,
    pub workflow_id: String,
}

impl Destination {
    pub fn slot(&self) -> Slot {
        slot_of(&self.namespace_id, &self.workflow_id)
    }
}

/// Sends a message from `source`, the slot of the run that this command changes. It leaves if the command goes through.
pub fn send(tx: &mut Transaction<'_>, source: Slot, to: Destination, message: outbox_message::Kind) {
    let destination = to.slot();
    let row = OutboxRow {
        namespace_id: to.namespace_id,
        namespace: to.namespace,
        workflow_id: to.workflow_id,
        message: Some(OutboxMessage { kind: Some(message) }),
        retention_nanos: tx.retention,
    };
    tx.post(source, destination, row.encode_to_vec().into());
}

/// Writes a message under the next number of its pair of slots. Called by [`Transaction::commit`].
pub(crate) fn store(state: &mut dyn ShardState, source: Slot, destination: Slot, row: Bytes) -> StateResult<OutboxKey> {
    let tail_key = keys::outbox_tail(destination);
    let mut tail: OutboxTailRow = match state.get(source, Table::Outbox, &tail_key)? {
        Some(bytes) => decode(Table::Outbox, bytes)?,
        None => OutboxTailRow::default(),
    };
    tail.sequence += 1;
    state.put(source, Table::Outbox, &keys::outbox(destination, tail.sequence), row);
    state.put(source, Table::Outbox, &tail_key, tail.encode_to_vec().into());
    Ok(OutboxKey { source, destination, sequence: tail.sequence })
}

/// Deletes a message that this command applies.
pub(crate) fn applied(tx: &mut Transaction<'_>, key: OutboxKey) {
    tx.delete(key.source, Table::Outbox, keys::outbox(key.destination, key.sequence));
}

/// AckOutbox.
pub fn acknowledge(tx: &mut Transaction<'_>, command: &AckOutbox) -> Outcome<Reply> {
    for mark in &command.marks {
        let (source, destination) = (slot(mark.source_slot), slot(mark.destination_slot));
        let mut from = keys::outbox(destination, 0);
        let to = keys::outbox(destination, mark.sequence.saturating_add(1));
        loop {
            let rows = tx.range(source, Table::Outbox, &from, &to, ACK_CHUNK)?;
            let full = rows.len() >= ACK_CHUNK;
            for (key, _) in rows {
                from = key.to_vec();
                tx.delete(source, Table::Outbox, key.to_vec());
            }
            if !full {
                break;
            }
            from.push(0);
        }
    }
    Ok(Reply::Done)
}

/// A slot's number as messages carry it.
pub(crate) fn slot(number: u32) -> Slot {
    Slot(u16::try_from(number).unwrap_or(u16::MAX))
}

/// Messages of a slot that wait, behind `after` (all for none), at most `limit`: what a new leader begins with.
pub fn waiting<R: StateReader + ?Sized>(
    reader: &R,
    source: Slot,
    after: Option<OutboxKey>,
    limit: usize,
) -> StateResult<Vec<OutboxKey>> {
    let from = match after {
        Some(key) => keys::outbox(key.destination, key.sequence.saturating_add(1)),
        None => keys::outbox(Slot(0), 0),
    };
    let rows = reader.range(source, Table::Outbox, &from, &keys::outbox_end(), limit)?;
    rows.iter()
        .map(|(key, _)| {
            let (destination, sequence) = keys::of_outbox(key).ok_or_else(|| crate::StateFault::Corrupt {
                table: Table::Outbox,
                reason: format!("a key of {} bytes", key.len()),
            })?;
            Ok(OutboxKey { source, destination, sequence })
        })
        .collect()
}

/// A message, unless it has gone.
pub fn message<R: StateReader + ?Sized>(reader: &R, key: OutboxKey) -> StateResult<Option<OutboxRow>> {
    let bytes = reader.get(key.source, Table::Outbox, &keys::outbox(key.destination, key.sequence))?;
    bytes.map(|bytes| decode(Table::Outbox, bytes)).transpose()
}
