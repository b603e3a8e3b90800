//! Pollers taken aside, so that one command can schedule a task and start it.
//!
//! ```text
//! waiting --reserve--> held --hand_over--> answered with the started task
//!                       |------release---> waiting, at its old place (or answered empty, when its time is up)
//!                       +--(too long)----> waiting, as soon as there is work for it
//! ```
//!
//! Never: promises that a held poller is still there. A hand-over that finds it gone says so, and the task times out as it would for a
//! response lost on its way.

use std::sync::Arc;
use std::time::Duration;

use stanchion_proto::command::Poller;
use tokio::time::Instant;

use crate::queue::{Answer, Queue, Seated, State};
use crate::{Dispatch, QueueKey, TaskPayload};

/// A poller whose deadline is nearer than this is not taken aside: the command would take too long.
const TIME_LEFT_MIN: Duration = Duration::from_millis(500);
/// A hold that was never ended is void after this long. Longer than any proposal takes: one that goes on may still need its poller.
const HELD_MAX: Duration = Duration::from_secs(30);

/// A poller taken aside.
#[derive(Clone, PartialEq, Debug)]
pub struct Held {
    pub ticket: u64,
    /// With a request id for the start.
    pub poller: Poller,
}

/// The poller of the ticket has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the poller held by this reservation has gone")]
pub struct PollerGone;

/// A held poller, in its queue.
pub(crate) struct Hold {
    pub arrival: u64,
    since: Instant,
    seated: Seated,
}

impl Dispatch {
    /// Takes the longest-waiting poller of the queue aside. None when nobody waits.
    pub fn reserve(self: &Arc<Self>, queue: &QueueKey) -> Option<Held> {
        let queue = self.directory.find(queue)?;
        let mut state = queue.state.lock();
        let enough = Instant::now().into_std() + TIME_LEFT_MIN;
        let fit = |seated: &Seated| seated.spec.deadline >= enough && !seated.answer.is_closed();
        let arrival = state.seats.iter().find(|(_, seated)| fit(seated)).map(|(arrival, _)| *arrival)?;
        let seated = state.take_seat(self, &queue, arrival)?;
        let poller = Poller { request_id: self.next_request_id(), ..seated.spec.poller.clone() };
        let ticket = self.tickets.issue(queue.clone());
        state.held.insert(ticket, Hold { arrival, since: Instant::now(), seated });
        Some(Held { ticket, poller })
    }

    /// Answers a held poller with its started task.
    pub fn hand_over(&self, ticket: u64, payload: TaskPayload) -> Result<(), PollerGone> {
        let queue = self.tickets.redeem(ticket).ok_or(PollerGone)?;
        // Sent under the lock: a poller that finds its hold ended finds its answer too.
        let mut state = queue.state.lock();
        let hold = state.held.remove(&ticket).ok_or(PollerGone)?;
        hold.seated.answer.send(Answer::HandedOver(payload)).map_err(|_| PollerGone)
    }

    /// Puts a held poller back to its place. A ticket that has been used or is void does nothing.
    pub fn release(self: &Arc<Self>, ticket: u64) {
        let Some(queue) = self.tickets.redeem(ticket) else { return };
        let mut state = queue.state.lock();
        if let Some(hold) = state.held.remove(&ticket) {
            state.reseat(self, &queue, hold, Instant::now());
            state.pair(self, &queue);
        }
    }
}

impl State {
    fn reseat(&mut self, dispatch: &Dispatch, queue: &Queue, hold: Hold, now: Instant) {
        let Hold { arrival, seated, .. } = hold;
        let over = if dispatch.is_draining() {
            Some(Answer::Shutdown)
        } else if seated.spec.deadline <= now.into_std()
            || dispatch.cancelled.contains(&seated.spec.poller.worker_instance_key)
        {
            Some(Answer::Empty)
        } else {
            None
        };
        match over {
            // A poller that has left needs no answer.
            Some(answer) => drop(seated.answer.send(answer)),
            None => self.give_seat(dispatch, queue, arrival, seated),
        }
    }

    /// Holds that nobody has ended in time are void. Looked for only when there is work: until then it makes no difference.
    pub fn recall_overdue(&mut self, dispatch: &Dispatch, queue: &Queue, now: Instant) {
        let overdue = self.held.iter().filter(|(_, hold)| now.duration_since(hold.since) > HELD_MAX);
        for ticket in overdue.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            dispatch.tickets.redeem(ticket);
            if let Some(hold) = self.held.remove(&ticket) {
                self.reseat(dispatch, queue, hold, now);
            }
        }
    }
}
