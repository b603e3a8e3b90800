//! The clock of one group on one node: what its leader stamps into commands, and what the leader compares due times with.
//!
//! ```text
//!   nothing is known:  now = max(the group's clock, wall clock)
//!   from then on:      now = what was known + the time that passed since; a leader's is pulled towards its wall clock, ever so slowly
//!   a peer tells its:  now = the later of the two
//! ```
//!
//! Leaders tell theirs with every append, and voters with every vote, so that who is elected goes on where the last leader was: a wall
//! clock is believed only where no node of a majority remembers anything, which is when they all have just been started. What is known
//! never ran faster than real time, so the later of two is right, and no timer comes early by it. See `docs/decisions/12-shard-clock.md`.
//!
//! Never: a time before one that was given earlier, or before the group's clock; a time that gains on real time by more than [`GAIN`].
//!
//! Called by the proposer, by the leader shell through [`crate::GroupHandle::now`], and with what peers tell.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use stanchion_engine::ShardTime;

/// A clock that is behind the wall clock gains at most one part in so many: what disciplined clocks differ by themselves.
const GAIN: i64 = 2000;
/// A clock that is ahead of it loses at most one part in so many. Late is allowed, so it may be more.
const LOSS: i64 = 10;
/// The pull is for the time that a leader looked at its clock, and not for hours in which another one led.
const PULLED_NANOS_MAX: i64 = 1_000_000_000;
/// The anchor moves on after this long; between two anchors little is lost to rounding.
const ANCHOR_NANOS: i64 = 50_000_000;

/// See the module. One a group.
#[derive(Default)]
pub(crate) struct GroupClock {
    running: Mutex<Option<Running>>,
}

struct Running {
    anchor: i64,
    anchored: i64,
    /// The largest time given so far.
    last: i64,
}

impl GroupClock {
    /// The leader's time; `group` is the clock of what is applied.
    pub fn now(&self, group: ShardTime) -> ShardTime {
        self.at(group, wall(), since_boot())
    }

    /// What a peer is told: none before anything is known.
    pub fn known(&self) -> Option<ShardTime> {
        self.known_at(since_boot())
    }

    /// What a peer told.
    pub fn hear(&self, clock: ShardTime) {
        self.hear_at(clock, since_boot());
    }

    fn at(&self, group: ShardTime, wall: i64, since_boot: i64) -> ShardTime {
        let mut running = self.running.lock();
        let start = wall.max(group.0);
        let running = running.get_or_insert(Running { anchor: start, anchored: since_boot, last: start });
        ShardTime(running.go_on(group, wall, since_boot))
    }

    fn known_at(&self, since_boot: i64) -> Option<ShardTime> {
        let running = self.running.lock();
        running.as_ref().map(|running| ShardTime(running.plain(since_boot)))
    }

    fn hear_at(&self, clock: ShardTime, since_boot: i64) {
        let mut running = self.running.lock();
        match running.as_mut() {
            Some(running) if running.plain(since_boot) >= clock.0 => {}
            Some(running) => (running.anchor, running.anchored) = (clock.0, since_boot),
            None => *running = Some(Running { anchor: clock.0, anchored: since_boot, last: clock.0 }),
        }
    }
}

impl Running {
    fn passed(&self, since_boot: i64) -> i64 {
        since_boot.saturating_sub(self.anchored).max(0)
    }

    fn plain(&self, since_boot: i64) -> i64 {
        self.anchor.saturating_add(self.passed(since_boot))
    }

    fn go_on(&mut self, group: ShardTime, wall: i64, since_boot: i64) -> i64 {
        let (passed, plain) = (self.passed(since_boot), self.plain(since_boot));
        let pulled = passed.min(PULLED_NANOS_MAX);
        let pull = wall.saturating_sub(plain).clamp(-(pulled / LOSS), pulled / GAIN);
        let now = plain.saturating_add(pull).max(group.0);
        if passed >= ANCHOR_NANOS || now == group.0 {
            (self.anchor, self.anchored) = (now, since_boot);
        }
        self.last = self.last.max(now);
        self.last
    }
}

/// Nanoseconds since the epoch, as this machine believes.
fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds of monotonic time, those in which the machine was suspended included.
fn since_boot() -> i64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    // It fails only for a clock that the system does not have, and then always: the group's clock then moves with what is applied.
    let Ok(time) = clock_gettime(CLOCK) else { return 0 };
    time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec())
}

#[cfg(test)]
mod tests;
