//! Invariants in production: after a commit, on every replica, some of the runs that it touched are read back from their rows and held to
//! the engine's rules; now and then a whole history is.
//!
//! How many depends on what it costs: all groups of a node share a purse that fills with a share of time (`invariants_share_permille`,
//! of one processor) and is emptied by the time that looking takes. A share of 1000 looks at everything, by no clock: for the simulator.
//!
//! Never: a change of state, or of what is decided by it. A node that looked and one that did not go on alike, unless a rule is broken.
//!
//! Called by the state machine; what it finds stops the group on this node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stanchion_engine::effects::RunChange;
use stanchion_engine::invariants::rows::{self, Look};
use stanchion_engine::{Effects, RunKey, ShardState, StateResult};

/// What the purse holds at most: so long a group may be kept from applying by looks in a row.
const PURSE_MAX: Duration = Duration::from_millis(5);
/// One run in so many is looked at with its whole history.
const HISTORY_EVERY: u64 = 16;
/// Larger histories are left to `stanchion verify`.
const HISTORY_BYTES_MAX: u64 = 1024 * 1024;

/// What looking may cost. One a node.
pub(crate) struct Purse {
    share_permille: u64,
    held: Mutex<Held>,
    looks: AtomicU64,
}

struct Held {
    nanos: i64,
    filled: Instant,
}

impl Purse {
    pub fn new(share_permille: u64) -> Self {
        let held = Held { nanos: 0, filled: Instant::now() };
        Self { share_permille, held: Mutex::new(held), looks: AtomicU64::new(0) }
    }

    fn looks_at_everything(&self) -> bool {
        self.share_permille >= 1000
    }

    fn is_open(&self) -> bool {
        if self.share_permille == 0 || self.looks_at_everything() {
            return self.share_permille > 0;
        }
        let mut held = self.held.lock();
        let now = Instant::now();
        let passed = i64::try_from((now - held.filled).as_nanos()).unwrap_or(i64::MAX);
        let share = i64::try_from(self.share_permille).unwrap_or(1000);
        let most = i64::try_from(PURSE_MAX.as_nanos()).unwrap_or(i64::MAX);
        held.nanos = (held.nanos + passed / 1000 * share).min(most);
        held.filled = now;
        held.nanos > 0
    }

    fn pay(&self, spent: Duration) {
        self.held.lock().nanos -= i64::try_from(spent.as_nanos()).unwrap_or(i64::MAX);
    }

    /// The runs to look at among those that the effects name.
    pub fn pick<'e>(&self, effects: impl Iterator<Item = &'e Effects>) -> Vec<RunKey> {
        if !self.is_open() {
            return Vec::new();
        }
        let mut touched: Vec<&RunChange> = effects.flat_map(|effects| &effects.changes).collect();
        if !self.looks_at_everything() && !touched.is_empty() {
            let place = self.looks.load(Ordering::Relaxed) as usize % touched.len();
            touched = vec![touched[place]];
        }
        let mut keys: Vec<RunKey> = touched.into_iter().map(|change| change.run.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Looks at one run of a committed state.
    pub fn look(&self, state: &dyn ShardState, key: &RunKey) -> StateResult<Look> {
        let begun = Instant::now();
        let number = self.looks.fetch_add(1, Ordering::Relaxed);
        let Some(mut look) = rows::check(state, key)? else { return Ok(Look::default()) };
        if number.is_multiple_of(HISTORY_EVERY) && look.history_bytes <= HISTORY_BYTES_MAX {
            let history = rows::check_history(state, key)?.unwrap_or_default();
            look.events = history.events;
            look.violations.extend(history.violations);
        }
        let spent = begun.elapsed();
        self.pay(spent);
        metrics::counter!("stanchion_invariant_looks_total").increment(1);
        metrics::counter!("stanchion_invariant_looks_events_total").increment(look.events as u64);
        metrics::counter!("stanchion_invariant_looks_nanoseconds_total").increment(spent.as_nanos() as u64);
        Ok(look)
    }
}

#[cfg(test)]
mod tests;
