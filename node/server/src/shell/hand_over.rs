//! Pollers held for tasks that a command is about to schedule.
//!
//! Before a command is proposed, a poller that waits in this process's matcher on the queue concerned is taken aside and named in the
//! command. If apply schedules a task for that queue it writes it as started by that poller, and the hand-over goes out from here:
//! one log entry instead of two, and no round through the matcher. If apply does not, the poller goes back to the front of its queue.
//!
//! Never: holds a poller of another node (asking for it would cost what it saves); keeps a poller past the proposal's end.

use std::collections::HashSet;

use parking_lot::Mutex;
use stanchion_dispatch::QueueKey;
use stanchion_engine::effects::TaskKind;
use stanchion_proto::command::Reservation;

use super::Parts;

/// Tickets that a command took out, and those of them that apply used.
#[derive(Default)]
pub struct Reservations {
    used: Mutex<HashSet<u64>>,
}

impl Reservations {
    /// Takes a waiting poller of the queue aside, if this node matches the queue and one waits.
    pub fn take(&self, parts: &Parts, namespace_id: &str, task_queue: &str, kind: TaskKind) -> Option<Reservation> {
        let queue = QueueKey { namespace_id: namespace_id.to_owned(), name: task_queue.to_owned(), kind };
        if parts.neighbours.owner_of(&queue) != parts.neighbours.node_id() {
            return None;
        }
        let held = parts.dispatch.reserve(&queue)?;
        Some(Reservation {
            task_queue: task_queue.to_owned(),
            is_activity: kind == TaskKind::Activity,
            poller: Some(held.poller),
            ticket: held.ticket,
        })
    }

    /// Apply has used the ticket.
    pub fn mark_used(&self, ticket: u64) {
        self.used.lock().insert(ticket);
    }

    /// After the proposal: gives back what was not used.
    pub fn settle(&self, parts: &Parts, tickets: &[u64]) {
        for ticket in tickets {
            if !self.used.lock().remove(ticket) {
                parts.dispatch.release(*ticket);
            }
        }
    }
}
