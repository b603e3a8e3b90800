//! Finds queues by key, by task and by ticket.
//!
//! Each map is cut into shards by hash, so that busy queues meet only in a lock that is held for one lookup. A queue that is forgotten is
//! marked closed under its own lock; whoever still holds it looks the key up again.
//!
//! Never: takes a queue's lock while holding the lock of a task or ticket map (they are the innermost).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stanchion_engine::effects::TaskRef;

use crate::QueueKey;
use crate::queue::{Queue, State};

const SHARDS: usize = 32;
/// Queues of a shard before it is first swept.
const SWEEP_FROM: usize = 64;

#[derive(Default)]
pub(crate) struct Directory {
    hasher: RandomState,
    queues: [Mutex<QueueShard>; SHARDS],
    tasks: [Mutex<HashMap<Arc<TaskRef>, Arc<Queue>>>; SHARDS],
}

#[derive(Default)]
struct QueueShard {
    queues: HashMap<QueueKey, Arc<Queue>>,
    sweep_at: usize,
}

impl Directory {
    /// Runs `work` on the queue under its lock; makes the queue if there is none.
    pub fn enter<T>(&self, key: &QueueKey, work: impl FnOnce(&Arc<Queue>, &mut State) -> T) -> T {
        loop {
            let queue = self.find_or_make(key);
            let mut state = queue.state.lock();
            if !state.closed {
                return work(&queue, &mut state);
            }
        }
    }

    pub fn find(&self, key: &QueueKey) -> Option<Arc<Queue>> {
        self.queues[self.shard(key)].lock().queues.get(key).cloned()
    }

    /// Every queue, in order of their keys. For the rare calls that concern them all.
    pub fn all(&self) -> impl Iterator<Item = Arc<Queue>> {
        let mut queues = BTreeMap::new();
        for shard in &self.queues {
            queues.extend(shard.lock().queues.iter().map(|(key, queue)| (key.clone(), queue.clone())));
        }
        queues.into_values()
    }

    pub fn len(&self) -> usize {
        self.queues.iter().map(|shard| shard.lock().queues.len()).sum()
    }

    pub fn queue_of(&self, task: &TaskRef) -> Option<Arc<Queue>> {
        self.tasks[self.shard(task)].lock().get(task).cloned()
    }

    pub fn add_task(&self, task: Arc<TaskRef>, queue: Arc<Queue>) {
        self.tasks[self.shard(&*task)].lock().insert(task, queue);
    }

    pub fn remove_task(&self, task: &TaskRef) {
        self.tasks[self.shard(task)].lock().remove(task);
    }

    pub fn sweep(&self) {
        for shard in &self.queues {
            shard.lock().sweep();
        }
    }

    fn find_or_make(&self, key: &QueueKey) -> Arc<Queue> {
        let mut shard = self.queues[self.shard(key)].lock();
        if let Some(queue) = shard.queues.get(key) {
            return queue.clone();
        }
        if shard.queues.len() >= shard.sweep_at.max(SWEEP_FROM) {
            shard.sweep();
        }
        let queue = Arc::new(Queue::new(key.clone()));
        shard.queues.insert(key.clone(), queue.clone());
        queue
    }

    fn shard<K: Hash>(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

impl QueueShard {
    fn sweep(&mut self) {
        self.queues.retain(|_, queue| {
            // A queue that is locked is in use.
            let Some(mut state) = queue.state.try_lock() else { return true };
            state.closed = state.is_idle();
            !state.closed
        });
        self.sweep_at = self.queues.len() * 2;
    }
}

/// Which queue holds the poller of a ticket.
pub(crate) struct Tickets {
    next: AtomicU64,
    holders: Mutex<HashMap<u64, Arc<Queue>>>,
}

impl Tickets {
    pub fn new() -> Self {
        // Tickets travel through the log: a random start keeps those of an earlier life of this process from meaning anything.
        Self { next: AtomicU64::new(RandomState::new().hash_one(0u8)), holders: Mutex::default() }
    }

    pub fn issue(&self, queue: Arc<Queue>) -> u64 {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        self.holders.lock().insert(ticket, queue);
        ticket
    }

    /// Each ticket is redeemed once: handed over, released, or given up.
    pub fn redeem(&self, ticket: u64) -> Option<Arc<Queue>> {
        self.holders.lock().remove(&ticket)
    }
}
