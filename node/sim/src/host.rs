//! A simulated host: one process at a time, on a runtime of its own whose clock stands still unless the host has its turn.
//!
//! ```text
//! boot -> turn, turn, … -> kill                 a turn runs everything that is due until a given time, then stops the clock
//!            \-> (no turns: the process is paused; with the next turn its clock jumps) -> turn …
//! ```
//!
//! A kill drops the runtime with all its tasks between two polls: no destructor is asked to tidy up on the wire, because the network has
//! been told before.
//!
//! Never: a turn that is longer than the shortest time between two hosts; a task on another thread.
//!
//! Called by `seed`.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::os;

/// What a host's process is.
pub struct Host {
    process: Option<Process>,
    /// The wall clock is wrong by this much at simulated time zero, and by this much more for each million nanoseconds.
    pub skew_ns: i64,
    pub drift_ppm: i64,
}

struct Process {
    runtime: Runtime,
    /// The runtime's clock, and the simulated time, when it was made.
    origin: Instant,
    booted: Duration,
    /// Simulated time up to which it ran.
    at: Duration,
}

impl Host {
    pub fn new() -> Self {
        Self { process: None, skew_ns: 0, drift_ppm: 0 }
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Starts a process, which runs with the next turn.
    ///
    /// # Errors
    /// The runtime could not be made.
    pub fn boot(&mut self, now: Duration, process: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        os::set_outside(now);
        // Only time: there are no real sockets. Its clock begins where the time outside stands.
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let origin = {
            let _inside = runtime.enter();
            Instant::now()
        };
        runtime.spawn(process);
        self.process = Some(Process { runtime, origin, booted: now, at: now });
        Ok(())
    }

    /// How wrong the wall clock is at this time.
    fn skew_at(&self, now: Duration) -> i64 {
        let drifted = i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_mul(self.drift_ppm) / 1000;
        self.skew_ns.saturating_add(drifted)
    }

    /// Runs the process from `from` to `until`. If it last ran until before `from`, it was paused, and all timers of that time are due.
    pub fn turn(&mut self, from: Duration, until: Duration) {
        let skew = self.skew_at(from);
        let Some(process) = &mut self.process else { return };
        let missed = from.saturating_sub(process.at);
        let end = process.origin + until.saturating_sub(process.booted);
        os::inside(skew, || {
            process.runtime.block_on(async {
                if !missed.is_zero() {
                    tokio::time::advance(missed).await;
                }
                tokio::time::sleep_until(end).await;
            });
        });
        process.at = until;
    }

    /// Ends the process in the middle of whatever it did.
    pub fn kill(&mut self, now: Duration) {
        os::set_outside(now);
        let skew = self.skew_at(now);
        if let Some(process) = self.process.take() {
            os::inside(skew, || drop(process.runtime));
        }
    }

    /// Spawns another task into the process, if there is one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(process) = &self.process {
            process.runtime.spawn(task);
        }
    }
}
