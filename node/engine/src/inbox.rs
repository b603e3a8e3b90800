//! Inbox: messages of other slots' outboxes, applied in order and once.
//!
//! Each slot keeps, for every slot that has ever sent to it, the number of the last message applied. What is at or below it was applied
//! before and does nothing. What is not the very next one is left alone, and the answer tells the sender where to go on.
//!
//! Every message stands for itself, as if it were a command of its own: the next one sees what this one did, and one that finds nothing
//! to do is still counted.
//!
//! Never: a message applied twice, skipped, or before the one in front of it; a message that can be refused for ever (it would hold up
//! all behind it).
//!
//! Called by `apply`. A new kind of message gets a line in [`one`].

use stanchion_proto::command::DeliverOutbox;
use stanchion_proto::row::{InboxRow, OutboxRow, outbox_message::Kind};

use crate::effects::OutboxKey;
use crate::outbox::{self, slot};
use crate::reply::Reply;
use crate::run::{children, external};
use crate::schedule::{self, origin};
use crate::state::Table;
use crate::transaction::{Halt, Outcome, Transaction};
use crate::{keys, types::Slot};

/// DeliverOutbox.
pub fn deliver<'c>(tx: &mut Transaction<'c>, command: &'c DeliverOutbox) -> Outcome<Reply> {
    let mut marks: Vec<OutboxKey> = Vec::new();
    for delivery in &command.deliveries {
        let key = OutboxKey {
            source: slot(delivery.source_slot),
            destination: slot(delivery.destination_slot),
            sequence: delivery.sequence,
        };
        let mark = mark(tx, key.source, key.destination)?;
        let mark = if key.sequence == mark + 1 {
            if let Some(row) = &delivery.row {
                apply_one(tx, key.destination, row)?;
            }
            tx.put_row(key.destination, Table::Inbox, keys::inbox(key.source), &InboxRow { sequence: key.sequence });
            key.sequence
        } else {
            mark
        };
        if command.acknowledge && key.sequence <= mark {
            outbox::applied(tx, key);
        }
        tx.commit()?;
        match marks.iter_mut().find(|m| (m.source, m.destination) == (key.source, key.destination)) {
            Some(known) => known.sequence = mark,
            None => marks.push(OutboxKey { sequence: mark, ..key }),
        }
    }
    Ok(Reply::Delivered { marks })
}

/// The last message applied of a pair of slots.
fn mark(tx: &Transaction<'_>, source: Slot, destination: Slot) -> Outcome<u64> {
    let row: Option<InboxRow> = tx.get_row(destination, Table::Inbox, &keys::inbox(source))?;
    Ok(row.map_or(0, |row| row.sequence))
}

fn apply_one<'c>(tx: &mut Transaction<'c>, at: Slot, row: &'c OutboxRow) -> Outcome<()> {
    tx.namespace_id = &row.namespace_id;
    tx.namespace = &row.namespace;
    tx.retention = row.retention_nanos;
    match one(tx, at, row) {
        // A sender that cares has been sent an answer; there is nobody else to tell.
        Err(Halt::Rejected(_)) => {
            tx.start_over();
            Ok(())
        }
        outcome => outcome,
    }
}

/// One message. `at` is the slot that it arrives in, from which answers go.
fn one<'c>(tx: &mut Transaction<'c>, at: Slot, row: &'c OutboxRow) -> Outcome<()> {
    let Some(kind) = row.message.as_ref().and_then(|message| message.kind.as_ref()) else { return Ok(()) };
    match kind {
        Kind::StartChild(m) => children::start_arrived(tx, at, m),
        Kind::ChildStarted(m) => children::child_started(tx, &row.workflow_id, m),
        Kind::ChildStartFailed(m) => children::child_start_failed(tx, &row.workflow_id, m),
        Kind::ChildClosed(m) => children::child_closed(tx, &row.workflow_id, m),
        Kind::EndOrphan(m) => children::orphaned(tx, &row.workflow_id, m),
        Kind::StartScheduled(m) => origin::start_arrived(tx, at, m),
        Kind::ScheduledStarted(m) => schedule::started(tx, m),
        Kind::ScheduledClosed(m) => schedule::closed(tx, m),
        Kind::StopScheduled(m) => origin::stop_arrived(tx, &row.workflow_id, m),
        Kind::SignalExternal(m) => external::signal_arrived(tx, at, &row.workflow_id, m),
        Kind::ExternalSignaled(m) => external::signal_answered(tx, &row.workflow_id, m),
        Kind::CancelExternal(m) => external::cancel_arrived(tx, at, &row.workflow_id, m),
        Kind::ExternalCancelRequested(m) => external::cancel_answered(tx, &row.workflow_id, m),
    }
}
