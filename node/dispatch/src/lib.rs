//! In-memory matching of pending tasks and waiting pollers.
//!
//! Leaders offer tasks, workers poll, a matcher pairs the two and its caller asks the run's leader to start the task. Nothing here is
//! promised to anybody: the pending table of the run's shard is the only copy that counts, apply decides who starts a task, and leaders
//! repeat their offers. Losing this process costs latency.
//!
//! ```text
//! leader --offer--> backlog ----+
//!                               +--> Pairing --StartTask at the leader--> started      both are done
//! worker --poll---> seats  -----+       |--------------------------------> gone        the offer goes, the poller waits on, at the front
//!                     |                 |--------------------------------> retry_later the same; the leader offers again
//!                     |                 +--(dropped: the client has gone)-> the offer is back where it was
//!                     +--reserve--> Held --hand_over--> answered; --release--> back at the front
//! ```
//!
//! Within a queue: queries first, then tasks by priority and time of scheduling; pollers by arrival, and one that comes back from a pairing
//! or a reservation has kept its place. Each queue has a lock of its own, held for a few map operations and never across an `await`.
//!
//! Never: durable state, I/O, a rule of durable execution; forgets an offer that nobody has started, withdrawn or dropped.
//!
//! Called by the leader shell (offers, reservations) and by the poll handlers of the server.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod directory;
mod gauges;
mod pairing;
mod poll;
mod pollers;
mod queue;
mod reservation;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stanchion_engine::GroupId;
use stanchion_engine::effects::{Offer, TaskKind, TaskRef};
use stanchion_engine::limits::Limits;
use stanchion_proto::command::Poller;
use uuid::Uuid;

pub use pairing::Pairing;
pub use pollers::{PollerRecord, QueueDescription};
pub use reservation::{Held, PollerGone};

use directory::{Directory, Tickets};
use gauges::Gauges;
use pollers::CancelledWorkers;
use queue::Answer;

/// A sticky queue without a poll for so long has lost its worker (the real server's number).
pub const STICKY_WORKER_REMEMBERED: Duration = Duration::from_secs(10);

/// A task queue of one kind. A sticky queue is a queue with a name of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueKey {
    pub namespace_id: String,
    pub name: String,
    pub kind: TaskKind,
}

impl QueueKey {
    /// The queue that an offer belongs to.
    pub fn of(offer: &Offer) -> Self {
        Self { namespace_id: offer.task.run.namespace_id.clone(), name: offer.task_queue.clone(), kind: offer.kind }
    }
}

impl fmt::Display for QueueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TaskKind::Workflow => "workflow",
            TaskKind::Activity => "activity",
        };
        write!(f, "{kind} task queue `{}`", self.name)
    }
}

/// Who offers: a group, as led by a node. The start is asked of that node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source {
    pub node: u64,
    pub group: GroupId,
}

/// A question for a run that no workflow task carries: any worker of the queue may answer it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryTask {
    /// Unique among the queries of `node`.
    pub id: String,
    /// Where the asker waits.
    pub node: u64,
    /// The encoded poll response that the worker gets.
    pub response: Bytes,
    /// Nobody waits for the answer any more after this.
    pub deadline: Instant,
}

/// The encoded poll response that a reserved poller gets.
pub type TaskPayload = Bytes;

/// One poll.
#[derive(Clone, Debug)]
pub struct PollerSpec {
    /// Who polls. The matcher fills in `request_id`, a new one for each pairing.
    pub poller: Poller,
    /// When the poll is answered empty.
    pub deadline: Instant,
    /// What the worker asks its queue to be limited to; reported by `describe`.
    pub tasks_per_second_max: Option<f64>,
}

/// How a poll ended.
#[derive(Debug)]
pub enum PollOutcome {
    /// Ask the offer's source to start the task, then tell the pairing what came of it.
    Matched(Pairing),
    /// Answer the poll with the query's response.
    Query(QueryTask),
    /// Answer the poll with this response: the task is started already.
    HandedOver(TaskPayload),
    /// The deadline has come, or the worker shuts down.
    Empty,
    /// This node is about to end.
    Shutdown,
}

/// A poll or a query that a bound refuses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("{queue} has {waiting} waiting polls already; the limit pollers_per_queue_max is {limit}")]
    Pollers { queue: QueueKey, waiting: usize, limit: u64 },
    #[error("{queue} has {waiting} waiting queries already; the limit offer_window is {limit}")]
    Queries { queue: QueueKey, waiting: usize, limit: u64 },
}

/// The matcher of a node: all queues that it owns.
pub struct Dispatch {
    limits: Arc<Limits>,
    directory: Directory,
    tickets: Tickets,
    cancelled: CancelledWorkers,
    gauges: Gauges,
    draining: AtomicBool,
    /// Request ids of pairings count up from a random start, so that they are unique over restarts and nodes.
    request_ids: (u128, AtomicU64),
}

impl Dispatch {
    /// A matcher without queues. The metrics recorder must be installed before.
    pub fn new(limits: Arc<Limits>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            directory: Directory::default(),
            tickets: Tickets::new(),
            cancelled: CancelledWorkers::default(),
            gauges: Gauges::register(),
            draining: AtomicBool::new(false),
            request_ids: (Uuid::new_v4().as_u128(), AtomicU64::new(0)),
        })
    }

    /// Takes a pending task in. Offering it again changes nothing, except that a new source replaces the old one.
    ///
    /// False: it is for a sticky queue that nobody has polled for [`STICKY_WORKER_REMEMBERED`], and was not taken. Offer it to any worker.
    pub fn offer(self: &Arc<Self>, queue: QueueKey, offer: Offer, source: Source) -> bool {
        self.directory.enter(&queue, |queue, state| state.offer(self, queue, offer, source))
    }

    /// Takes an offer back: the task was started or is gone. One that is being started right now is not offered again.
    pub fn withdraw(self: &Arc<Self>, task: &TaskRef) {
        if let Some(queue) = self.directory.queue_of(task) {
            queue.state.lock().withdraw(self, &queue, task);
        }
    }

    /// Takes all offers of a source back: its term is over.
    pub fn drop_source(self: &Arc<Self>, source: Source) {
        self.drop_offers(|from| from == source);
    }

    /// Takes all offers of a node back: it is not reachable any more.
    pub fn drop_node(self: &Arc<Self>, node: u64) {
        self.drop_offers(|from| from.node == node);
    }

    fn drop_offers(self: &Arc<Self>, dropped: impl Fn(Source) -> bool) {
        for queue in self.directory.all() {
            queue.state.lock().drop_offers(self, &queue, &dropped);
        }
    }

    /// Takes a query in. It goes to the next poller, before any task.
    pub fn offer_query(self: &Arc<Self>, queue: QueueKey, query: QueryTask) -> Result<(), Refused> {
        self.directory.enter(&queue, |queue, state| state.offer_query(self, queue, query))
    }

    /// Takes a query back: its asker has gone.
    pub fn withdraw_query(&self, queue: &QueueKey, id: &str) {
        if let Some(queue) = self.directory.find(queue) {
            queue.state.lock().withdraw_query(id);
        }
    }

    /// Waits for work. Dropping the future gives up: whatever it had been given goes back to where it was.
    pub async fn poll(self: &Arc<Self>, queue: QueueKey, spec: PollerSpec) -> Result<PollOutcome, Refused> {
        let seat = poll::Seat::take(self, &queue, spec)?;
        Ok(seat.wait().await)
    }

    /// Answers the open polls of a worker empty, and those that may still be on their way (`ShutdownWorker`).
    pub fn cancel_polls(&self, worker_instance_key: &str) {
        if worker_instance_key.is_empty() {
            return;
        }
        self.cancelled.add(worker_instance_key);
        for queue in self.directory.all() {
            let mut state = queue.state.lock();
            state.answer_seats(
                self,
                &queue,
                |poller| poller.worker_instance_key == worker_instance_key,
                || Answer::Empty,
            );
        }
    }

    /// Answers all open polls of a queue empty: its only worker shuts down (a sticky queue). The queue counts as not polled from now on.
    pub fn cancel_queue(&self, queue: &QueueKey) {
        if let Some(queue) = self.directory.find(queue) {
            let mut state = queue.state.lock();
            state.answer_seats(self, &queue, |_| true, || Answer::Empty);
            state.forget_pollers();
        }
    }

    /// Who polls the queue, and what waits in it as far as this node was told.
    pub fn describe(&self, queue: &QueueKey) -> QueueDescription {
        self.directory.find(queue).map(|queue| queue.state.lock().describe()).unwrap_or_default()
    }

    /// Answers all polls with [`PollOutcome::Shutdown`], now and from now on (SIGTERM).
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for queue in self.directory.all() {
            queue.state.lock().answer_seats(self, &queue, |_| true, || Answer::Shutdown);
        }
    }

    /// Forgets queues that nobody has used for minutes. Happens by itself as queues are added; calling it only makes it prompt.
    pub fn sweep(&self) {
        self.directory.sweep();
    }

    /// Queues in memory.
    pub fn queues(&self) -> usize {
        self.directory.len()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn next_request_id(&self) -> String {
        let (base, counter) = &self.request_ids;
        let count = u128::from(counter.fetch_add(1, Ordering::Relaxed));
        Uuid::from_u128(base.wrapping_add(count)).to_string()
    }
}
