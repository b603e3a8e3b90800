//! A task that a poller has been given, until its leader has answered.
//!
//! Never: loses its task. Every end that is not said explicitly (a dropped future, a panic, a client that has gone) puts it back.

use std::fmt;
use std::sync::Arc;

use stanchion_engine::effects::Offer;
use stanchion_proto::command::Poller;

use crate::poll::Seat;
use crate::queue::{Fate, Queue, Rank, Waiting};
use crate::{Dispatch, PollOutcome, QueryTask, QueueKey, Source};

/// The hold on one task. Dropping it puts the task back and pairs again.
pub(crate) struct Claim {
    dispatch: Arc<Dispatch>,
    queue: Arc<Queue>,
    /// None once settled.
    claimed: Option<(Rank, Waiting)>,
}

impl Claim {
    pub fn new(dispatch: Arc<Dispatch>, queue: Arc<Queue>, rank: Rank, waiting: Waiting) -> Self {
        Self { dispatch, queue, claimed: Some((rank, waiting)) }
    }

    /// Takes the task out, for a caller that holds the queue's lock.
    pub fn disarm(mut self) -> Option<(Rank, Waiting)> {
        self.claimed.take()
    }

    fn settle(&mut self, fate: Fate) {
        if let Some((rank, waiting)) = self.claimed.take() {
            let mut state = self.queue.state.lock();
            state.settle(&self.dispatch, &self.queue, rank, waiting, fate);
            state.pair(&self.dispatch, &self.queue);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.settle(Fate::Returned);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.claimed).finish()
    }
}

/// The hold on one query, on its way to a poller.
pub(crate) struct QueryClaim {
    dispatch: Arc<Dispatch>,
    queue: Arc<Queue>,
    query: Option<QueryTask>,
}

impl QueryClaim {
    pub fn new(dispatch: Arc<Dispatch>, queue: Arc<Queue>, query: QueryTask) -> Self {
        Self { dispatch, queue, query: Some(query) }
    }

    pub fn disarm(mut self) -> Option<QueryTask> {
        self.query.take()
    }
}

impl Drop for QueryClaim {
    fn drop(&mut self) {
        if let Some(query) = self.query.take() {
            let mut state = self.queue.state.lock();
            state.return_query(query);
            state.pair(&self.dispatch, &self.queue);
        }
    }
}

impl fmt::Debug for QueryClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueryClaim").field(&self.query).finish()
    }
}

/// An offer and a poller. Ask the offer's source to start the task for [`Self::poller`], then say what it answered. A pairing that is
/// dropped instead puts the task back to the front of its queue; asking twice for the same start is harmless.
pub struct Pairing {
    // In this order: the task is back in its queue before the seat is given up.
    claim: Claim,
    seat: Seat,
    offer: Offer,
    source: Source,
    poller: Poller,
}

impl Pairing {
    pub(crate) fn new(claim: Claim, seat: Seat) -> Option<Self> {
        let (_, waiting) = claim.claimed.as_ref()?;
        let (offer, source) = (waiting.offer.clone(), waiting.source);
        let poller = seat.poller_for_start();
        Some(Self { claim, seat, offer, source, poller })
    }

    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Whom to ask.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Who starts it; its request id is this pairing's alone.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }

    /// The queue that was polled.
    pub fn queue(&self) -> &QueueKey {
        &self.claim.queue.key
    }

    /// The start is replicated; the poll can be answered with it.
    pub fn started(mut self) {
        self.claim.settle(Fate::Over);
    }

    /// The task is no longer there. The poller waits on, with its place and its deadline.
    pub async fn gone(mut self) -> PollOutcome {
        self.claim.settle(Fate::Over);
        self.seat.wait().await
    }

    /// The source could not be asked, or did not answer. The task is dropped here (its leader offers it again), the poller waits on.
    pub async fn retry_later(mut self) -> PollOutcome {
        self.claim.settle(Fate::Unasked);
        self.seat.wait().await
    }
}

impl fmt::Debug for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairing").field("offer", &self.offer).field("source", &self.source).finish_non_exhaustive()
    }
}
