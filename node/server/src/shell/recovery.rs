//! `workflow_failure_recovery_rate`: of the runs that lost their worker or their leader in the middle of a workflow task, the share
//! that went on from the last recorded step.
//!
//! A run counts as interrupted when its started workflow task timed out (the worker died), or when this node took its group over
//! while a worker had one (the leader died). It has recovered when its history grows again. One that stands still for minutes
//! has not. Runs that nobody has decided about yet are in neither number.
//!
//! In memory, of this process alone. Called by the leader's term.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stanchion_engine::RunKey;

pub const RATE: &str = "workflow_failure_recovery_rate";

/// A run that stands still for this long has not recovered.
const STANDSTILL: Duration = Duration::from_secs(300);
/// Interrupted runs watched at a time, of one group. Beyond it they are not counted.
const WATCHED_MAX: usize = 10_000;

static RECOVERED: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
pub struct Recovery {
    interrupted: Mutex<HashMap<RunKey, Instant>>,
}

impl Recovery {
    pub fn interrupted(&self, run: &RunKey) {
        let mut interrupted = self.interrupted.lock();
        if interrupted.len() < WATCHED_MAX && interrupted.insert(run.clone(), Instant::now()).is_none() {
            metrics::counter!("stanchion_runs_interrupted_total").increment(1);
        }
    }

    /// The run's history has grown.
    pub fn went_on(&self, run: &RunKey) {
        let mut interrupted = self.interrupted.lock();
        if !interrupted.is_empty() && interrupted.remove(run).is_some() {
            RECOVERED.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("stanchion_runs_recovered_total").increment(1);
            show();
        }
    }

    /// Gives up on runs that stand still. Called now and then.
    pub fn sweep(&self, now: Instant) {
        let mut interrupted = self.interrupted.lock();
        let before = interrupted.len();
        interrupted.retain(|_, since| now.duration_since(*since) < STANDSTILL);
        let lost = before - interrupted.len();
        if lost > 0 {
            LOST.fetch_add(lost as u64, Ordering::Relaxed);
            metrics::counter!("stanchion_runs_not_recovered_total").increment(lost as u64);
            show();
        }
    }
}

/// Sets the gauge; 1 while nothing was interrupted.
pub fn show() {
    let (recovered, lost) = (RECOVERED.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));
    let decided = recovered + lost;
    let rate = if decided == 0 { 1.0 } else { recovered as f64 / decided as f64 };
    metrics::gauge!(RATE).set(rate);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_recovered_once_and_lost_only_after_a_standstill() {
        let run = |n: u8| RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: n.to_string() };
        let recovery = Recovery::default();
        let before = (RECOVERED.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));
        recovery.went_on(&run(1));
        recovery.interrupted(&run(1));
        recovery.interrupted(&run(2));
        recovery.went_on(&run(1));
        recovery.went_on(&run(1));
        recovery.sweep(Instant::now());
        recovery.sweep(Instant::now() + STANDSTILL * 2);
        let after = (RECOVERED.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    }
}
