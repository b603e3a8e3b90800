//! The clock of one group on one node: what its leader stamps into commands, and what the leader compares due times with.
//!
//! ```text
//!   nothing is known:   now = max(the group's clock, wall clock)
//!   of a leader:        now = what was known when its term began + the time that passed since, pulled ever so slowly towards its wall clock
//!   of the others:      what the leader of the newest term told, and nine tenths of the time that passed since
//! ```
//!
//! Leaders tell theirs with every append, and voters what they know with every vote, so that who is elected goes on where the last leader
//! was, or a little behind it: a wall clock is believed only where no node of a majority remembers anything, which is when they all have
//! just been started. What is told is with its term, and a later term's counts alone: the clock of a leader that was deposed may be ahead
//! of its successor's, and timers that the successor set would come early by it. See `docs/decisions/12-shard-clock.md`.
//!
//! Never: a time before one that was given earlier in the term, or before the group's clock; a time ahead of what the leader of the newest
//! term known would say; a time that gains on real time by more than [`GAIN`].
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

/// What a node tells of a group's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// Of the leader whose clock it is.
    pub term: u64,
    /// Its clock is not behind this.
    pub clock: ShardTime,
}

/// See the module. One a group.
#[derive(Default)]
pub(crate) struct GroupClock {
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Of the leader whose clock this is.
    term: u64,
    /// It is this node's own.
    leads: bool,
    anchor: i64,
    anchored: i64,
    /// The largest time given so far in this term. What was given in an earlier one may be ahead of a leader that there was in between.
    last: i64,
}

impl GroupClock {
    /// The time of this node as the leader of `term`; `group` is the clock of what is applied.
    pub fn now(&self, term: u64, group: ShardTime) -> ShardTime {
        self.at(term, group, wall(), since_boot())
    }

    /// What a peer is told: none before anything is known.
    pub fn known(&self) -> Option<Told> {
        self.known_at(wall(), since_boot())
    }

    /// What a peer told.
    pub fn hear(&self, told: Told) {
        self.hear_at(told, since_boot());
    }

    fn at(&self, term: u64, group: ShardTime, wall: i64, since_boot: i64) -> ShardTime {
        let mut running = self.running.lock();
        let start = match running.as_mut() {
            Some(own) if own.leads && own.term == term => return ShardTime(own.go_on(group, wall, since_boot)),
            // Another one leads by now: that clock is not this node's to lead.
            Some(newer) if newer.term > term => return ShardTime(newer.at_least(since_boot).max(group.0)),
            Some(known) => known.at_least(since_boot),
            None => wall,
        };
        let own = running.insert(Running { leads: true, ..Running::told(term, start.max(group.0), since_boot) });
        ShardTime(own.go_on(group, wall, since_boot))
    }

    fn known_at(&self, wall: i64, since_boot: i64) -> Option<Told> {
        let mut running = self.running.lock();
        let running = running.as_mut()?;
        let clock = match running.leads {
            true => running.go_on(ShardTime(i64::MIN), wall, since_boot),
            false => running.at_least(since_boot),
        };
        Some(Told { term: running.term, clock: ShardTime(clock) })
    }

    fn hear_at(&self, told: Told, since_boot: i64) {
        let mut running = self.running.lock();
        let is_news = match running.as_ref() {
            None => true,
            Some(known) if known.term == told.term => !known.leads && known.at_least(since_boot) < told.clock.0,
            Some(known) => known.term < told.term,
        };
        if is_news {
            *running = Some(Running::told(told.term, told.clock.0, since_boot));
        }
    }
}

impl Running {
    fn told(term: u64, clock: i64, since_boot: i64) -> Self {
        Self { term, leads: false, anchor: clock, anchored: since_boot, last: i64::MIN }
    }

    fn passed(&self, since_boot: i64) -> i64 {
        since_boot.saturating_sub(self.anchored).max(0)
    }

    /// What the leader's clock is not behind, however much it lost since.
    fn at_least(&self, since_boot: i64) -> i64 {
        let passed = self.passed(since_boot);
        self.anchor.saturating_add(passed - passed / LOSS)
    }

    fn go_on(&mut self, group: ShardTime, wall: i64, since_boot: i64) -> i64 {
        let passed = self.passed(since_boot);
        let (plain, pulled) = (self.anchor.saturating_add(passed), passed.min(PULLED_NANOS_MAX));
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
