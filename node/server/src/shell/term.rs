//! One term of one group: everything a leader does, and only while it leads.
//!
//! A `LeaderTerm` is loaded from the tables after the first entry of its term is applied, and ended when the role changes. Effects of
//! entries applied in between arrive through [`EffectSink`] in log order. What is loaded and what arrives may overlap in any way: a
//! task offered twice is one offer, a timer that is gone fires as nothing.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stanchion_engine::effects::{BatchJob, Offer, TaskKind, TaskRef, TimerKey};
use stanchion_engine::read::PendingRow;
use stanchion_engine::{Effects, GroupId, Reply, ShardTime, Slot, batch, read};
use stanchion_proto::command::{
    Command, FireTimers, RunRef, TimeoutWorkflowTask, TimerKey as WireTimerKey, command::Kind,
};
use stanchion_replica::{EffectSink, GroupHandle, TermId, off_thread};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::clock::{DueTimes, HORIZON_NANOS, TICK_NANOS, keep_soonest};
use super::hand_over::Reservations;
use super::next_queues::NextQueues;
use super::offers::OfferCarrier;
use super::outbox::OutboxMail;
use super::pending::PendingWindow;
use super::queries::Queries;
use super::recovery::Recovery;
use super::schedules::LOOKED_AT_MAX;
use super::updates::UpdateWaiters;
use super::watchers::Watchers;
use super::{CallError, Parts};

/// Rows read in one step while loading.
const LOAD_ROWS: usize = 1000;
/// How often offers are looked over, waiters swept and gauges set.
const CARE_EVERY: Duration = Duration::from_secs(1);

pub struct LeaderTerm {
    pub(super) parts: Parts,
    pub(super) handle: GroupHandle,
    id: TermId,
    window: Mutex<PendingWindow>,
    carrier: OfferCarrier,
    due: Mutex<DueTimes>,
    due_sooner: Notify,
    pub(super) watchers: Watchers,
    pub(super) queries: Queries,
    pub(super) updates: UpdateWaiters,
    pub(super) reservations: Reservations,
    pub(super) outbox: OutboxMail,
    pub(super) next_queues: NextQueues,
    recovery: Recovery,
    /// Batch operations that nobody drives yet.
    batches: Mutex<Vec<BatchJob>>,
    /// Of client calls. Effects arrive on consensus threads, which must not do what reads the disk.
    runtime: tokio::runtime::Handle,
    pub(super) schedules_looked_at: Semaphore,
    pub(super) over: CancellationToken,
    me: Weak<LeaderTerm>,
}

impl LeaderTerm {
    pub(super) fn new(parts: Parts, handle: GroupHandle, id: TermId) -> Arc<Self> {
        let window = usize::try_from(parts.limits.offer_window).unwrap_or(usize::MAX);
        let in_memory = usize::try_from(parts.limits.pending_in_memory_max).unwrap_or(usize::MAX);
        Arc::new_cyclic(|me| Self {
            carrier: OfferCarrier::new(parts.clone(), handle.id()),
            parts,
            handle,
            id,
            window: Mutex::new(PendingWindow::new(window, in_memory)),
            due: Mutex::default(),
            due_sooner: Notify::new(),
            watchers: Watchers::default(),
            queries: Queries::default(),
            updates: UpdateWaiters::default(),
            reservations: Reservations::default(),
            outbox: OutboxMail::default(),
            next_queues: NextQueues::default(),
            recovery: Recovery::default(),
            batches: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            schedules_looked_at: Semaphore::new(LOOKED_AT_MAX),
            over: CancellationToken::new(),
            me: me.clone(),
        })
    }

    pub(super) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub fn id(&self) -> TermId {
        self.id
    }

    pub fn group(&self) -> GroupId {
        self.handle.id()
    }

    /// Done when this node no longer leads the group.
    pub async fn ended(&self) {
        self.over.cancelled().await;
    }

    /// The batch operations that have been found since the last call. Whoever takes one drives it until the term ends.
    pub fn take_batches(&self) -> Vec<BatchJob> {
        std::mem::take(&mut self.batches.lock())
    }

    /// Reads timers, pending tasks, waiting messages and running batch operations. Effects of new entries may arrive meanwhile.
    pub(super) async fn load(self: &Arc<Self>) -> Result<(), CallError> {
        let term = self.clone();
        off_thread(move || {
            term.load_timers()?;
            term.load_pending()?;
            term.load_outbox(&std::collections::BTreeMap::new())?;
            term.load_batches()
        })
        .await
        .map_err(|error| CallError::Fatal(error.to_string()))?
    }

    /// Starts the loops that live as long as the term.
    pub(super) fn start(self: &Arc<Self>) {
        tokio::spawn(self.clone().keep_time());
        tokio::spawn(self.clone().keep_offers());
        tokio::spawn(super::outbox::drain(self.clone()));
    }

    pub(super) fn end(&self) {
        self.over.cancel();
        self.watchers.close();
        self.queries.close();
        self.updates.close();
        self.parts
            .dispatch
            .drop_source(stanchion_dispatch::Source { node: self.parts.neighbours.node_id(), group: self.group() });
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.handle.slots().into_iter().flat_map(|(first, last)| (first.0..=last.0).map(Slot))
    }

    fn timers_max(&self) -> usize {
        usize::try_from(self.parts.limits.timers_in_memory_max).unwrap_or(usize::MAX)
    }

    fn load_timers(&self) -> Result<(), CallError> {
        let until = ShardTime(self.handle.now().0.saturating_add(HORIZON_NANOS));
        let reader = self.handle.reader();
        let most = self.timers_max().max(1);
        let mut horizon = until;
        let mut keys: Vec<TimerKey> = Vec::new();
        for slot in self.slots() {
            let read = read::timers(&reader, slot, horizon, most)?;
            if read.len() >= most
                && let Some(last) = read.last()
            {
                horizon = horizon.min(ShardTime(last.at.0 - 1));
            }
            keys.extend(read);
            if keys.len() >= most.saturating_mul(2) {
                keep_soonest(&mut keys, most, &mut horizon);
            }
        }
        keep_soonest(&mut keys, most, &mut horizon);
        self.due.lock().load(keys, horizon);
        self.due_sooner.notify_one();
        Ok(())
    }

    /// At the start of the term: offers, and the time limits of workflow tasks.
    fn load_pending(&self) -> Result<(), CallError> {
        self.offer_pending(|row| {
            if let Some(deadline) = row.started {
                // A worker has it: whoever led before has gone in the middle of this run.
                self.recovery.interrupted(&deadline.task.run);
                self.due.lock().limit(deadline);
                return None;
            }
            if let Some(deadline) = row.sticky_deadline {
                self.due.lock().limit(deadline);
            }
            Some(row.offer)
        })?;
        self.due_sooner.notify_one();
        Ok(())
    }

    /// The window has room for offers that only the table holds. Time limits are known since the start of the term.
    fn load_offers(&self) -> Result<(), CallError> {
        self.offer_pending(|row| row.started.is_none().then_some(row.offer))
    }

    /// Offers what `offer_of` makes of the rows of pending tasks.
    fn offer_pending(&self, mut offer_of: impl FnMut(PendingRow) -> Option<Offer>) -> Result<(), CallError> {
        let reader = self.handle.reader();
        for slot in self.slots() {
            let mut after = Vec::new();
            loop {
                let rows = read::pending(&reader, slot, &after, LOAD_ROWS)?;
                let Some(last) = rows.last() else { break };
                after = last.key.to_vec();
                let full = rows.len() >= LOAD_ROWS;
                let offers = rows.into_iter().filter_map(&mut offer_of);
                let offers = offers.filter_map(|offer| self.window.lock().add(offer, Instant::now())).collect();
                self.offer(offers);
                if !full {
                    break;
                }
            }
        }
        Ok(())
    }

    fn load_batches(&self) -> Result<(), CallError> {
        if self.group() == GroupId::META {
            return Ok(());
        }
        let reader = self.handle.reader();
        for home in read::visibility::homes(self.slot_ranges()) {
            self.found_batches(batch::running(&reader, home)?);
        }
        Ok(())
    }

    /// What is found twice, by loading and by an effect, is driven once.
    fn found_batches(&self, jobs: Vec<BatchJob>) {
        if jobs.is_empty() {
            return;
        }
        let mut waiting = self.batches.lock();
        jobs.into_iter().for_each(|job| {
            if !waiting.contains(&job) {
                waiting.push(job)
            }
        });
        drop(waiting);
        self.parts.batches_found.notify_one();
    }

    /// Fires what is due, a command a tick.
    async fn keep_time(self: Arc<Self>) {
        loop {
            // While memory is full of timers the horizon is near and stays so until half of them have fired.
            let full = self.due.lock().len() >= (self.timers_max() / 2).max(1);
            let next = {
                let due = self.due.lock();
                let reload_at = ShardTime(due.horizon().0 - HORIZON_NANOS / 2);
                match due.next() {
                    Some(next) if full => next,
                    Some(next) => next.min(reload_at),
                    None => reload_at,
                }
            };
            let wait = wait_until(next, self.handle.now());
            tokio::select! {
                () = self.over.cancelled() => return,
                () = self.due_sooner.notified() => continue,
                () = tokio::time::sleep(wait), if !wait.is_zero() => {}
                () = std::future::ready(()), if wait.is_zero() => {}
            }
            let now = self.handle.now();
            if !full && now.0 >= self.due.lock().horizon().0 - HORIZON_NANOS / 2 {
                let term = self.clone();
                match off_thread(move || term.load_timers()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(group = %self.group(), %error, "timers could not be read"),
                    Err(error) => tracing::error!(group = %self.group(), %error, "reading timers ended early"),
                }
            }
            let (mut timers, deadlines) = self.due.lock().take_due(now);
            self.look_at_schedules(&mut timers);
            if !timers.is_empty() && !self.fire(timers).await {
                return;
            }
            for deadline in deadlines {
                let term = self.clone();
                tokio::spawn(async move { term.time_out(deadline).await });
            }
        }
    }

    /// False when the term is over.
    async fn fire(&self, timers: Vec<TimerKey>) -> bool {
        let keys = timers
            .iter()
            .map(|timer| WireTimerKey { slot: u32::from(timer.slot.0), key: timer.key.clone().into() })
            .collect();
        let command = Command { kind: Some(Kind::FireTimers(FireTimers { keys })), ..Default::default() };
        match self.handle.propose(self.id, command).await {
            Ok(_) => true,
            Err(error) => {
                // Not known to be applied: they stay due. A timer that has fired is gone from the table and does nothing.
                let horizon = self.due.lock().horizon();
                self.due.lock().load(timers, horizon);
                tracing::debug!(group = %self.group(), %error, "timers were not fired; they stay due");
                tokio::select! {
                    () = self.over.cancelled() => false,
                    () = tokio::time::sleep(Duration::from_nanos(TICK_NANOS.unsigned_abs())) => true,
                }
            }
        }
    }

    async fn time_out(self: Arc<Self>, deadline: stanchion_engine::effects::WorkflowTaskDeadline) {
        let task = &deadline.task;
        // Most tasks end long before their deadline, which nobody takes back: what is over by now costs no log entry.
        if let Ok(false) = read::is_pending(&self.handle.reader(), TaskKind::Workflow, task) {
            return;
        }
        let command = Command {
            namespace_id: task.run.namespace_id.clone(),
            kind: Some(Kind::TimeoutWorkflowTask(TimeoutWorkflowTask {
                run: Some(RunRef { workflow_id: task.run.workflow_id.clone(), run_id: task.run.run_id.clone() }),
                scheduled_event_id: task.scheduled_event_id.0,
                attempt: task.attempt,
                stamp: task.stamp,
                start_to_close: deadline.start_to_close,
            })),
            ..Default::default()
        };
        match self.handle.propose(self.id, command).await {
            Ok(Reply::Rejected(rejection)) => tracing::debug!(%rejection, "a workflow task's time-out was refused"),
            Ok(Reply::Stale) => {}
            Ok(_) if deadline.start_to_close => self.recovery.interrupted(&deadline.task.run),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(group = %self.group(), %error, "a workflow task's time-out stays due");
                tokio::select! {
                    () = self.over.cancelled() => {}
                    () = tokio::time::sleep(Duration::from_nanos(TICK_NANOS.unsigned_abs())) => {
                        self.due.lock().limit(deadline);
                        self.due_sooner.notify_one();
                    }
                }
            }
        }
    }

    /// Repeats offers that nobody took up, moves them when the live nodes change, and reads more when there is room.
    async fn keep_offers(self: Arc<Self>) {
        let mut view = self.parts.neighbours.view();
        let mut care = tokio::time::interval(CARE_EVERY);
        care.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let group = self.group().to_string();
        loop {
            let all = tokio::select! {
                () = self.over.cancelled() => return,
                changed = view.changed() => changed.is_ok(),
                tasks = self.carrier.without_worker() => {
                    self.offer(self.for_any_worker(&tasks));
                    continue;
                }
                _ = care.tick() => false,
            };
            let again = self.window.lock().again(Instant::now(), all);
            if !again.is_empty() {
                self.offer(again);
            }
            if self.window.lock().wants_reload() {
                let term = self.clone();
                if let Ok(Err(error)) = off_thread(move || term.load_offers()).await {
                    tracing::error!(group = %self.group(), %error, "pending tasks could not be read");
                }
            }
            self.watchers.sweep();
            self.updates.sweep();
            self.recovery.sweep(Instant::now());
            metrics::gauge!("stanchion_pending_tasks", "group" => group.clone()).set(self.window.lock().len() as f64);
        }
    }

    /// A matcher asked for a task that is not there: it must not be offered again.
    pub(super) fn forget_task(&self, task: &TaskRef) {
        let removed = self.window.lock().remove(task, Instant::now());
        self.offer(removed.next.into_iter().collect());
    }

    /// Sends offers out; sticky tasks without a worker go out again, to any worker.
    fn offer(&self, mut offers: Vec<Offer>) {
        while !offers.is_empty() {
            let without_worker = self.carrier.offer(offers);
            offers = self.for_any_worker(&without_worker);
        }
    }

    fn for_any_worker(&self, tasks: &[TaskRef]) -> Vec<Offer> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let mut window = self.window.lock();
        tasks.iter().flat_map(|task| window.for_any_worker(task, now)).collect()
    }
}

impl EffectSink for LeaderTerm {
    fn applied(&self, term: TermId, _index: u64, effects: Effects) {
        if term != self.id {
            return;
        }
        let now = Instant::now();
        let mut offers = Vec::new();
        {
            let mut window = self.window.lock();
            offers.extend(effects.offers.into_iter().filter_map(|offer| window.add(offer, now)));
            for (_, task) in &effects.withdrawn {
                let removed = window.remove(task, now);
                let before = offers.len();
                offers.retain(|offer| offer.task != *task);
                if offers.len() == before
                    && let Some(queue) = removed.queue
                {
                    self.carrier.withdraw(&queue, task);
                }
                offers.extend(removed.next);
            }
        }
        if !offers.is_empty() {
            self.offer(offers);
        }
        let mut sooner = false;
        {
            let mut due = self.due.lock();
            // Cleared first: a timer set anew at the same time has the same key, and a stale one does no harm.
            for key in &effects.timers_cleared {
                due.clear(key);
            }
            for key in effects.timers_set {
                sooner |= due.set(key);
            }
            for deadline in effects.workflow_task_deadlines {
                sooner |= due.limit(deadline);
            }
        }
        if sooner {
            self.due_sooner.notify_one();
        }
        self.outbox.add(effects.outbox);
        self.found_batches(effects.batches);
        for hand_over in effects.hand_overs {
            self.reservations.mark_used(hand_over.ticket);
            if let Some(me) = self.me() {
                self.runtime.spawn(async move { me.hand_over(hand_over) });
            }
        }
        for change in effects.updates {
            self.updates.notify(change);
        }
        for change in &effects.changes {
            self.watchers.notify(change);
            self.recovery.went_on(&change.run);
            self.next_queues.follow(change);
            if change.idle || change.closed {
                self.queries.run_is_idle(&change.run);
            }
        }
        metrics::counter!("stanchion_runs_opened_total").increment(u64::from(effects.runs_opened));
        metrics::counter!("stanchion_runs_closed_total").increment(u64::from(effects.runs_closed));
    }
}

/// From `now` to `at`, rounded up to a tick.
fn wait_until(at: ShardTime, now: ShardTime) -> Duration {
    let ticked = at.0.saturating_add(TICK_NANOS - 1) / TICK_NANOS * TICK_NANOS;
    Duration::from_nanos(u64::try_from(ticked.saturating_sub(now.0)).unwrap_or(0))
}
