//! The window of pending tasks that a leader holds in memory: which are waiting, and which have been offered to a matcher.
//!
//! The pending table is the only copy that counts. Of a queue with a long backlog only the first tasks are offered; beyond a bound on
//! the whole group the rest stays in the table and is read again when there is room.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use stanchion_dispatch::QueueKey;
use stanchion_engine::effects::{Offer, TaskRef};

/// An offered task that nobody has started is offered again after this long: the matcher may have forgotten it.
const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Removed tasks that may stand among the waiting ones of a queue before they are looked for.
const GONE_MIN: usize = 64;

pub struct PendingWindow {
    queues: HashMap<QueueKey, Queue>,
    tasks: HashMap<TaskRef, QueueKey>,
    window: usize,
    in_memory_max: usize,
    /// Tasks exist in the table that are not in memory.
    overflowed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Offer>,
    /// Of `waiting`, those that were removed meanwhile.
    gone: usize,
    offered: HashMap<TaskRef, (Offer, Instant)>,
}

impl PendingWindow {
    pub fn new(window: usize, in_memory_max: usize) -> Self {
        Self { queues: HashMap::new(), tasks: HashMap::new(), window, in_memory_max, overflowed: false }
    }

    /// Takes a task in. Returns it when it is to be offered now.
    pub fn add(&mut self, offer: Offer, now: Instant) -> Option<Offer> {
        if self.tasks.contains_key(&offer.task) {
            return None;
        }
        if self.tasks.len() >= self.in_memory_max {
            self.overflowed = true;
            return None;
        }
        let key = queue_of(&offer);
        self.tasks.insert(offer.task.clone(), key.clone());
        let queue = self.queues.entry(key).or_default();
        if queue.offered.len() < self.window {
            queue.offered.insert(offer.task.clone(), (offer.clone(), now));
            Some(offer)
        } else {
            queue.waiting.push_back(offer);
            None
        }
    }

    /// A task is no longer pending. Returns what it had been offered as, and the next task to offer in its place.
    pub fn remove(&mut self, task: &TaskRef, now: Instant) -> Removed {
        let Some(key) = self.tasks.remove(task) else { return Removed::default() };
        let Some(queue) = self.queues.get_mut(&key) else { return Removed::default() };
        let was_offered = queue.offered.remove(task).is_some();
        let mut next = None;
        if was_offered {
            while let Some(offer) = queue.waiting.pop_front() {
                // A waiting task that was removed is skipped here rather than searched for when it went.
                if self.tasks.contains_key(&offer.task) {
                    queue.offered.insert(offer.task.clone(), (offer.clone(), now));
                    next = Some(offer);
                    break;
                }
                queue.gone = queue.gone.saturating_sub(1);
            }
        } else {
            queue.gone += 1;
            if queue.gone > GONE_MIN && queue.gone * 2 > queue.waiting.len() {
                queue.waiting.retain(|offer| self.tasks.contains_key(&offer.task));
                queue.gone = 0;
            }
        }
        if queue.offered.is_empty() && queue.waiting.is_empty() {
            self.queues.remove(&key);
        }
        Removed { queue: was_offered.then_some(key), next }
    }

    /// Nobody polls the sticky queue that the task was offered to. Returns what is to be offered now: the task for any worker, and the
    /// next one of its old queue.
    pub fn for_any_worker(&mut self, task: &TaskRef, now: Instant) -> Vec<Offer> {
        let sticky = self.tasks.get(task).and_then(|key| self.queues.get(key)?.offered.get(task));
        let Some((offer, _)) = sticky.filter(|(offer, _)| offer.sticky) else { return Vec::new() };
        let offer = offer.clone().for_any_worker();
        let next = self.remove(task, now).next;
        self.add(offer, now).into_iter().chain(next).collect()
    }

    /// Offers that are to be repeated: those older than a few seconds, or all when the nodes that match have changed.
    pub fn again(&mut self, now: Instant, all: bool) -> Vec<Offer> {
        let mut due = Vec::new();
        for queue in self.queues.values_mut() {
            for (offer, at) in queue.offered.values_mut() {
                if all || now.duration_since(*at) >= OFFER_AGAIN_AFTER {
                    *at = now;
                    due.push(offer.clone());
                }
            }
        }
        due.sort_by(|a, b| {
            let place = |offer: &Offer| (offer.task.scheduled_event_id, offer.kind);
            (a.scheduled_at, &a.task.run, place(a)).cmp(&(b.scheduled_at, &b.task.run, place(b)))
        });
        due
    }

    /// True once when there is room again for tasks that had to stay in the table.
    pub fn wants_reload(&mut self) -> bool {
        if self.overflowed && self.tasks.len() * 2 < self.in_memory_max {
            self.overflowed = false;
            return true;
        }
        false
    }

    /// Pending tasks held in memory.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }
}

/// What [`PendingWindow::remove`] leaves to do.
#[derive(Default)]
pub struct Removed {
    /// Set when the task had been offered: the queue whose matcher may still hold it.
    pub queue: Option<QueueKey>,
    pub next: Option<Offer>,
}

pub fn queue_of(offer: &Offer) -> QueueKey {
    QueueKey { namespace_id: offer.task.run.namespace_id.clone(), name: offer.task_queue.clone(), kind: offer.kind }
}

#[cfg(test)]
mod tests;
