//! One queue: its backlog, its waiting pollers, and the pairing of the two.
//!
//! Everything here runs under the queue's lock and is a handful of map operations. The rule that holds whenever the lock is free:
//! there is either work without pollers or there are pollers without work ([`State::pair`] restores it).
//!
//! A task is in exactly one place: in `backlog`, or in a [`Claim`] that a poll or its caller owns. A claim that is dropped puts
//! its task back, so no path of cancellation can lose one.
//!
//! Never: drops a live claim while the lock is held (its drop takes the lock); awaits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use stanchion_engine::ShardTime;
use stanchion_engine::effects::{Offer, TaskRef};
use stanchion_proto::command::Poller;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::gauges::KindGauges;
use crate::pairing::{Claim, QueryClaim};
use crate::pollers::{PollerRecords, REMEMBERED, Rate};
use crate::reservation::Hold;
use crate::{
    Dispatch, PollerSpec, QueryTask, QueueDescription, QueueKey, Refused, STICKY_WORKER_REMEMBERED, Source, TaskPayload,
};

/// Priority of a task that names none.
const DEFAULT_PRIORITY: i32 = 3;
const LAST_PRIORITY: i32 = 5;

pub(crate) struct Queue {
    pub key: QueueKey,
    pub state: Mutex<State>,
}

pub(crate) struct State {
    /// Forgotten by the directory: look the key up again.
    pub closed: bool,
    backlog: BTreeMap<Rank, Waiting>,
    queries: VecDeque<QueryTask>,
    /// Every task that was offered and neither started nor taken back. Invariant: `Standing::Waiting` exactly for those in `backlog`.
    tasks: HashMap<Arc<TaskRef>, Standing>,
    /// Waiting pollers by arrival.
    pub seats: BTreeMap<u64, Seated>,
    /// Pollers taken aside, by ticket.
    pub held: BTreeMap<u64, Hold>,
    pollers: PollerRecords,
    added: Rate,
    dispatched: Rate,
    next_arrival: u64,
    next_offer: u64,
}

/// The order in which tasks go out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    priority: i32,
    scheduled_at: ShardTime,
    /// Order of arrival, among equals.
    number: u64,
}

/// An offer without a poller.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub task: Arc<TaskRef>,
    pub offer: Offer,
    pub source: Source,
    pub since: Instant,
}

enum Standing {
    Waiting(Rank),
    Paired {
        source: Source,
        /// Taken back meanwhile: if the claim comes back, the task is forgotten.
        withdrawn: bool,
        /// Offered again meanwhile: whoever leads now wants it started, whatever the source of the pairing answers.
        offered_again: bool,
    },
}

/// A waiting poller.
pub(crate) struct Seated {
    pub spec: Arc<PollerSpec>,
    pub answer: oneshot::Sender<Answer>,
}

/// What ends a wait.
#[derive(Debug)]
pub(crate) enum Answer {
    Task(Claim),
    Query(QueryClaim),
    HandedOver(TaskPayload),
    Empty,
    Shutdown,
}

/// Where a poller stands after asking for a seat.
pub(crate) enum Sat {
    Answered(Answer),
    Waiting(oneshot::Receiver<Answer>),
}

/// What became of a poller whose time is up.
pub(crate) enum Expired {
    Left,
    Held,
    Answered,
}

/// What becomes of a claim's task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Started, or gone: it will never be there again.
    Over,
    /// Its source could not be asked. The leader offers it again, or has done so already.
    Unasked,
    /// The poller has gone.
    Returned,
}

impl Queue {
    pub fn new(key: QueueKey) -> Self {
        let now = Instant::now();
        let state = State {
            closed: false,
            backlog: BTreeMap::new(),
            queries: VecDeque::new(),
            tasks: HashMap::new(),
            seats: BTreeMap::new(),
            held: BTreeMap::new(),
            pollers: PollerRecords::default(),
            added: Rate::new(now),
            dispatched: Rate::new(now),
            next_arrival: 0,
            next_offer: 0,
        };
        Self { key, state: Mutex::new(state) }
    }

    fn gauges<'a>(&self, dispatch: &'a Dispatch) -> &'a KindGauges {
        dispatch.gauges.of(self.key.kind)
    }
}

impl State {
    // ------------------------------------------------------------------------------------------------------- work comes

    /// False: a sticky queue without a worker.
    pub fn offer(&mut self, dispatch: &Arc<Dispatch>, queue: &Arc<Queue>, offer: Offer, from: Source) -> bool {
        match self.tasks.get_mut(&offer.task) {
            Some(Standing::Waiting(rank)) => {
                if let Some(waiting) = self.backlog.get_mut(rank) {
                    waiting.source = from;
                }
                return true;
            }
            Some(Standing::Paired { source, withdrawn, offered_again }) => {
                (*source, *withdrawn, *offered_again) = (from, false, true);
                return true;
            }
            None => {}
        }
        if offer.sticky && !self.polled_within(STICKY_WORKER_REMEMBERED) {
            return false;
        }
        let now = Instant::now();
        let rank = self.rank(&offer);
        let task = Arc::new(offer.task.clone());
        dispatch.directory.add_task(task.clone(), queue.clone());
        self.tasks.insert(task.clone(), Standing::Waiting(rank));
        self.put(dispatch, queue, rank, Waiting { task, offer, source: from, since: now });
        self.added.count(now);
        self.pair(dispatch, queue);
        true
    }

    fn rank(&mut self, offer: &Offer) -> Rank {
        let priority = match offer.priority {
            0 => DEFAULT_PRIORITY,
            given => given.clamp(1, LAST_PRIORITY),
        };
        self.next_offer += 1;
        Rank { priority, scheduled_at: offer.scheduled_at, number: self.next_offer }
    }

    pub fn offer_query(
        &mut self,
        dispatch: &Arc<Dispatch>,
        queue: &Arc<Queue>,
        query: QueryTask,
    ) -> Result<(), Refused> {
        let now = Instant::now().into_std();
        self.queries.retain(|query| query.deadline > now);
        let limit = dispatch.limits.offer_window;
        if self.queries.len() as u64 >= limit {
            return Err(Refused::Queries { queue: queue.key.clone(), waiting: self.queries.len(), limit });
        }
        self.queries.push_back(query);
        self.pair(dispatch, queue);
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------- work is taken back

    pub fn withdraw(&mut self, dispatch: &Dispatch, queue: &Queue, task: &TaskRef) {
        match self.tasks.get_mut(task) {
            Some(Standing::Waiting(rank)) => {
                let rank = *rank;
                self.remove_waiting(dispatch, queue, rank);
            }
            Some(Standing::Paired { withdrawn, .. }) => *withdrawn = true,
            None => {}
        }
    }

    pub fn drop_offers(&mut self, dispatch: &Dispatch, queue: &Queue, dropped: &impl Fn(Source) -> bool) {
        let gone = self.backlog.iter().filter(|(_, waiting)| dropped(waiting.source)).map(|(rank, _)| *rank);
        for rank in gone.collect::<Vec<_>>() {
            self.remove_waiting(dispatch, queue, rank);
        }
        for standing in self.tasks.values_mut() {
            if let Standing::Paired { source, withdrawn, .. } = standing
                && dropped(*source)
            {
                *withdrawn = true;
            }
        }
    }

    pub fn withdraw_query(&mut self, id: &str) {
        self.queries.retain(|query| query.id != id);
    }

    fn remove_waiting(&mut self, dispatch: &Dispatch, queue: &Queue, rank: Rank) {
        if let Some(waiting) = self.backlog.remove(&rank) {
            queue.gauges(dispatch).backlog.decrement(1.0);
            self.forget(dispatch, &waiting.task);
        }
    }

    fn forget(&mut self, dispatch: &Dispatch, task: &TaskRef) {
        self.tasks.remove(task);
        dispatch.directory.remove_task(task);
    }

    // -------------------------------------------------------------------------------------------------------- pollers come

    /// Takes a seat, or work if there is some. Without an arrival the poller is new and goes last; with one it resumes its place.
    pub fn sit(
        &mut self,
        dispatch: &Arc<Dispatch>,
        queue: &Arc<Queue>,
        spec: &Arc<PollerSpec>,
        arrival: Option<u64>,
    ) -> Result<(u64, Sat), Refused> {
        let now = Instant::now();
        if arrival.is_none() {
            let (waiting, limit) = (self.seats.len() + self.held.len(), dispatch.limits.pollers_per_queue_max);
            if waiting as u64 >= limit {
                return Err(Refused::Pollers { queue: queue.key.clone(), waiting, limit });
            }
            self.pollers.note(spec, now);
        }
        let arrival = arrival.unwrap_or_else(|| {
            self.next_arrival += 1;
            self.next_arrival
        });
        if dispatch.is_draining() {
            return Ok((arrival, Sat::Answered(Answer::Shutdown)));
        }
        if spec.deadline <= now.into_std() || dispatch.cancelled.contains(&spec.poller.worker_instance_key) {
            return Ok((arrival, Sat::Answered(Answer::Empty)));
        }
        // By the queue's invariant there is nobody else waiting if there is work.
        if let Some(work) = self.next_work(dispatch, queue, now) {
            return Ok((arrival, Sat::Answered(work)));
        }
        let (answer, answered) = oneshot::channel();
        self.give_seat(dispatch, queue, arrival, Seated { spec: spec.clone(), answer });
        Ok((arrival, Sat::Waiting(answered)))
    }

    /// Gives a seat or a hold up.
    pub fn leave(&mut self, dispatch: &Dispatch, queue: &Queue, arrival: u64) {
        if self.take_seat(dispatch, queue, arrival).is_none() {
            let ticket = self.held.iter().find(|(_, hold)| hold.arrival == arrival).map(|(ticket, _)| *ticket);
            if let Some(ticket) = ticket {
                self.held.remove(&ticket);
                dispatch.tickets.redeem(ticket);
            }
        }
    }

    pub fn expire(&mut self, dispatch: &Dispatch, queue: &Queue, arrival: u64) -> Expired {
        if self.take_seat(dispatch, queue, arrival).is_some() {
            Expired::Left
        } else if self.held.values().any(|hold| hold.arrival == arrival) {
            Expired::Held
        } else {
            Expired::Answered
        }
    }

    pub fn give_seat(&mut self, dispatch: &Dispatch, queue: &Queue, arrival: u64, seated: Seated) {
        self.seats.insert(arrival, seated);
        queue.gauges(dispatch).pollers.increment(1.0);
    }

    pub fn take_seat(&mut self, dispatch: &Dispatch, queue: &Queue, arrival: u64) -> Option<Seated> {
        let seated = self.seats.remove(&arrival)?;
        queue.gauges(dispatch).pollers.decrement(1.0);
        Some(seated)
    }

    pub fn answer_seats(
        &mut self,
        dispatch: &Dispatch,
        queue: &Queue,
        concerned: impl Fn(&Poller) -> bool,
        answer: impl Fn() -> Answer,
    ) {
        let arrivals = self.seats.iter().filter(|(_, seated)| concerned(&seated.spec.poller)).map(|(at, _)| *at);
        for arrival in arrivals.collect::<Vec<_>>() {
            if let Some(seated) = self.take_seat(dispatch, queue, arrival) {
                // A poller that has left needs no answer.
                let _ = seated.answer.send(answer());
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------------- pairing

    /// Gives work to waiting pollers until one of the two runs out.
    pub fn pair(&mut self, dispatch: &Arc<Dispatch>, queue: &Arc<Queue>) {
        let now = Instant::now();
        if !self.held.is_empty() && self.has_work() {
            self.recall_overdue(dispatch, queue, now);
        }
        while let Some(&arrival) = self.seats.keys().next() {
            let Some(work) = self.next_work(dispatch, queue, now) else { break };
            let Some(seated) = self.take_seat(dispatch, queue, arrival) else { break };
            if let Err(work) = seated.answer.send(work) {
                self.take_back(dispatch, queue, work);
            }
        }
    }

    fn has_work(&self) -> bool {
        !self.backlog.is_empty() || !self.queries.is_empty()
    }

    fn next_work(&mut self, dispatch: &Arc<Dispatch>, queue: &Arc<Queue>, now: Instant) -> Option<Answer> {
        while let Some(query) = self.queries.pop_front() {
            if query.deadline > now.into_std() {
                dispatch.gauges.query_matches.increment(1);
                return Some(Answer::Query(QueryClaim::new(dispatch.clone(), queue.clone(), query)));
            }
        }
        let (rank, waiting) = self.backlog.pop_first()?;
        let gauges = queue.gauges(dispatch);
        gauges.backlog.decrement(1.0);
        gauges.matched(now.duration_since(waiting.since), waiting.since == now);
        self.dispatched.count(now);
        let standing = Standing::Paired { source: waiting.source, withdrawn: false, offered_again: false };
        self.tasks.insert(waiting.task.clone(), standing);
        Some(Answer::Task(Claim::new(dispatch.clone(), queue.clone(), rank, waiting)))
    }

    /// The poller had left before its answer came: the work goes back to where it was. The claim is disarmed, not dropped.
    fn take_back(&mut self, dispatch: &Arc<Dispatch>, queue: &Arc<Queue>, answer: Answer) {
        match answer {
            Answer::Task(claim) => {
                if let Some((rank, waiting)) = claim.disarm() {
                    self.settle(dispatch, queue, rank, waiting, Fate::Returned);
                }
            }
            Answer::Query(claim) => claim.disarm().into_iter().for_each(|query| self.queries.push_front(query)),
            Answer::HandedOver(_) | Answer::Empty | Answer::Shutdown => {}
        }
    }

    /// Ends a claim. Call [`Self::pair`] afterwards.
    pub fn settle(&mut self, dispatch: &Dispatch, queue: &Queue, rank: Rank, mut waiting: Waiting, fate: Fate) {
        let Some(Standing::Paired { source, withdrawn, offered_again }) = self.tasks.get(&waiting.task) else { return };
        let stays = match fate {
            Fate::Over => false,
            Fate::Unasked => *offered_again && !withdrawn,
            Fate::Returned => !withdrawn,
        };
        if stays {
            waiting.source = *source;
            self.tasks.insert(waiting.task.clone(), Standing::Waiting(rank));
            self.put(dispatch, queue, rank, waiting);
        } else {
            self.forget(dispatch, &waiting.task);
        }
    }

    pub fn return_query(&mut self, query: QueryTask) {
        self.queries.push_front(query);
    }

    fn put(&mut self, dispatch: &Dispatch, queue: &Queue, rank: Rank, waiting: Waiting) {
        self.backlog.insert(rank, waiting);
        queue.gauges(dispatch).backlog.increment(1.0);
    }

    // ------------------------------------------------------------------------------------------------------------- reports

    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
            && self.queries.is_empty()
            && self.seats.is_empty()
            && self.held.is_empty()
            && !self.pollers.seen_within(REMEMBERED, Instant::now())
    }

    /// The queue's worker has said that it goes.
    pub fn forget_pollers(&mut self) {
        self.pollers.forget_all();
    }

    fn polled_within(&self, within: Duration) -> bool {
        !self.seats.is_empty() || !self.held.is_empty() || self.pollers.seen_within(within, Instant::now())
    }

    pub fn describe(&mut self) -> QueueDescription {
        let now = Instant::now();
        let oldest = self.backlog.values().map(|waiting| waiting.offer.scheduled_at).min();
        QueueDescription {
            pollers: self.pollers.list(now),
            waiting_polls: self.seats.len() + self.held.len(),
            backlog_count_hint: self.backlog.len() as u64,
            backlog_age: oldest.map(age_of).unwrap_or_default(),
            tasks_add_rate: self.added.per_second(now),
            tasks_dispatch_rate: self.dispatched.per_second(now),
        }
    }
}

fn age_of(scheduled_at: ShardTime) -> Duration {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_epoch.saturating_sub(Duration::from_nanos(u64::try_from(scheduled_at.0).unwrap_or(0)))
}
