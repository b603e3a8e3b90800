//! Who has polled a queue lately, how busy it is, and which workers are shutting down.
//!
//! Reports only: no decision of the matcher depends on it, except that a worker which said goodbye gets no more tasks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use stanchion_proto::temporal::common::v1::WorkerVersionCapabilities;
use tokio::time::Instant;

use crate::PollerSpec;

/// A poller that has not been seen for so long is forgotten, and so is a queue.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(300);
/// Pollers remembered by one queue. Identities are chosen by workers, so their number needs a bound.
const RECORDS_MAX: usize = 1000;
/// A worker's last polls arrive within a long poll of its goodbye.
const CANCELLED_REMEMBERED: Duration = Duration::from_secs(120);
const CANCELLED_MAX: usize = 10_000;

/// One poller of a queue, as `DescribeTaskQueue` reports it.
#[derive(Clone, PartialEq, Debug)]
pub struct PollerRecord {
    pub identity: String,
    pub last_access: SystemTime,
    /// The limit that the worker asked for.
    pub tasks_per_second_max: Option<f64>,
    pub worker_version: Option<WorkerVersionCapabilities>,
    pub deployment_name: String,
    pub build_id: String,
}

/// A queue as this node sees it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct QueueDescription {
    /// In order of identity.
    pub pollers: Vec<PollerRecord>,
    /// Polls that wait now.
    pub waiting_polls: usize,
    /// Offers that wait now. A leader shows at most `offer_window` of its tasks.
    pub backlog_count_hint: u64,
    /// Since the oldest of them was scheduled.
    pub backlog_age: Duration,
    /// Over the last half minute or so.
    pub tasks_add_rate: f64,
    pub tasks_dispatch_rate: f64,
}

#[derive(Default)]
pub(crate) struct PollerRecords {
    by_identity: HashMap<String, (Instant, PollerRecord)>,
    latest: Option<Instant>,
}

impl PollerRecords {
    pub fn note(&mut self, spec: &PollerSpec, now: Instant) {
        self.latest = Some(now);
        if let Some((seen, record)) = self.by_identity.get_mut(&spec.poller.identity) {
            *seen = now;
            record.last_access = SystemTime::now();
            return;
        }
        if self.by_identity.len() >= RECORDS_MAX {
            self.forget_oldest(now);
        }
        let record = PollerRecord {
            identity: spec.poller.identity.clone(),
            last_access: SystemTime::now(),
            tasks_per_second_max: spec.tasks_per_second_max,
            worker_version: spec.poller.worker_version.clone(),
            deployment_name: spec.poller.deployment_name.clone(),
            build_id: spec.poller.build_id.clone(),
        };
        self.by_identity.insert(spec.poller.identity.clone(), (now, record));
    }

    pub fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub fn seen_within(&self, within: Duration, now: Instant) -> bool {
        self.latest.is_some_and(|latest| now.duration_since(latest) <= within)
    }

    pub fn list(&self, now: Instant) -> Vec<PollerRecord> {
        let fresh = self.by_identity.values().filter(|(seen, _)| now.duration_since(*seen) <= REMEMBERED);
        let mut records: Vec<_> = fresh.map(|(_, record)| record.clone()).collect();
        records.sort_by(|a, b| a.identity.cmp(&b.identity));
        records
    }

    fn forget_oldest(&mut self, now: Instant) {
        self.by_identity.retain(|_, (seen, _)| now.duration_since(*seen) <= REMEMBERED);
        if self.by_identity.len() >= RECORDS_MAX
            && let Some(oldest) = self.by_identity.iter().min_by_key(|(_, (seen, _))| *seen).map(|(id, _)| id.clone())
        {
            self.by_identity.remove(&oldest);
        }
    }
}

/// Events a second over one to two windows.
pub(crate) struct Rate {
    window_start: Instant,
    current: u64,
    previous: Option<u64>,
}

const WINDOW: Duration = Duration::from_secs(15);

impl Rate {
    pub fn new(now: Instant) -> Self {
        Self { window_start: now, current: 0, previous: None }
    }

    pub fn count(&mut self, now: Instant) {
        self.turn(now);
        self.current += 1;
    }

    pub fn per_second(&mut self, now: Instant) -> f64 {
        self.turn(now);
        let span =
            now.duration_since(self.window_start) + if self.previous.is_some() { WINDOW } else { Duration::ZERO };
        let events = self.current + self.previous.unwrap_or(0);
        // A first event a moment ago is not a rate of thousands.
        events as f64 / span.as_secs_f64().max(1.0)
    }

    fn turn(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.window_start);
        if elapsed < WINDOW {
            return;
        }
        self.previous = Some(if elapsed < WINDOW * 2 { self.current } else { 0 });
        self.current = 0;
        let windows = u32::try_from(elapsed.as_nanos() / WINDOW.as_nanos()).unwrap_or(u32::MAX);
        self.window_start += WINDOW.saturating_mul(windows);
    }
}

/// Workers that have said goodbye, for as long as their last polls may still arrive.
#[derive(Default)]
pub(crate) struct CancelledWorkers {
    count: AtomicUsize,
    keys: Mutex<CancelledKeys>,
}

#[derive(Default)]
struct CancelledKeys {
    known: HashSet<String>,
    by_age: VecDeque<(Instant, String)>,
}

impl CancelledWorkers {
    pub fn add(&self, key: &str) {
        let mut keys = self.keys.lock();
        let now = Instant::now();
        while let Some((since, _)) = keys.by_age.front()
            && (now.duration_since(*since) > CANCELLED_REMEMBERED || keys.by_age.len() >= CANCELLED_MAX)
        {
            if let Some((_, old)) = keys.by_age.pop_front() {
                keys.known.remove(&old);
            }
        }
        if keys.known.insert(key.to_owned()) {
            keys.by_age.push_back((now, key.to_owned()));
        }
        self.count.store(keys.known.len(), Ordering::SeqCst);
    }

    pub fn contains(&self, key: &str) -> bool {
        !key.is_empty() && self.count.load(Ordering::SeqCst) > 0 && self.keys.lock().known.contains(key)
    }
}
