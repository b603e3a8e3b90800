//! The turns of a log's writer that somebody else takes, in place of a thread of the store's own.
//!
//! A simulated node runs in one thread with others: its writer is a task beside its other tasks, which waits for work, lets the time pass
//! that a disk would take, and takes a turn.
//!
//! ```text
//! driver   wait ┄┄┄┄┄┄┄┄┄ (time passes) turn: write + sync, callbacks   wait ┄┄┄
//! groups        append vote      append
//! ```
//!
//! A shutdown takes the remaining turns itself. Where the driver has been dropped there are none left: the node has crashed, and what
//! was queued is lost without a word.
//!
//! Never: two turns at once; a turn taken by nobody in a store that has a thread. Called by a simulator's disk.

use std::future::poll_fn;
use std::sync::Arc;

use parking_lot::Mutex;

use super::writer::{Queue, Writer, call_back};

/// Shared by the log and whoever drives it.
pub(super) struct Seat {
    queue: Arc<Queue>,
    /// None once nobody may write any more.
    writer: Mutex<Option<Writer>>,
}

impl Seat {
    pub fn new(writer: Writer) -> Self {
        Self { queue: writer.queue.clone(), writer: Mutex::new(Some(writer)) }
    }

    /// False when the queue is closed and empty, or nobody may write any more.
    fn turn(&self) -> bool {
        let mut seat = self.writer.lock();
        let Some(writer) = seat.as_mut() else { return false };
        let Some(batch) = self.queue.take_now() else { return false };
        if !batch.is_empty() {
            let result = writer.turn(&batch);
            // A callback may queue more, and whoever it wakes may take the next turn.
            drop(seat);
            call_back(batch, &result);
        }
        true
    }

    /// Takes turns until nothing is queued.
    pub fn finish(&self) {
        while !self.queue.is_empty() && self.turn() {}
    }

    /// Nobody writes any more: what is queued is lost.
    pub fn abandon(&self) {
        drop(self.writer.lock().take());
        self.queue.abandon();
    }
}

/// The right to take the turns of one store's log writer. Dropping it is the store's crash.
pub struct Turns {
    seat: Arc<Seat>,
}

impl Turns {
    pub(super) fn of(seat: Arc<Seat>) -> Self {
        Self { seat }
    }

    /// Until something is queued, or never will be again.
    pub async fn wait(&self) {
        poll_fn(|context| self.seat.queue.poll_work(context)).await;
    }

    /// Writes one batch of what is queued, syncs once, and calls everybody back. False when there will be no more.
    pub fn turn(&mut self) -> bool {
        self.seat.turn()
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.seat.abandon();
    }
}
