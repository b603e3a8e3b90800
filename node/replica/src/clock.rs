//! The clock of one group's leader: what is stamped into commands, and what the leader compares due times with.
//!
//! ```text
//!   at the start of a term:  now = max(the group's clock, wall clock)
//!   within the term:         now = that + monotonic time, pulled towards the wall clock by a small share of the time that passed
//! ```
//!
//! The wall clock is believed once a term and then only followed slowly, so that a jump of it, forwards or back, moves nothing that
//! is due. See `docs/decisions/12-shard-clock.md`.
//!
//! Never: a time before one that was given earlier in the term, or before the group's clock; a time that runs away from monotonic
//! time by more than its share.
//!
//! Called by the proposer, and by the leader shell through [`crate::GroupHandle::now`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stanchion_engine::ShardTime;

/// A clock that is behind the wall clock gains at most one part in so many.
const GAIN: i64 = 20;
/// A clock that is ahead of it loses at most one part in so many. Late is allowed, so it may be more.
const LOSS: i64 = 10;
/// The anchor moves on after this long; between two anchors little is lost to rounding.
const ANCHOR_NANOS: i64 = 50_000_000;

/// See the module. One a group; a new term begins it anew.
#[derive(Default)]
pub(crate) struct TermClock {
    running: Mutex<Option<Running>>,
}

struct Running {
    term: u64,
    anchor: i64,
    anchored: Instant,
    /// The largest time given so far.
    last: i64,
}

impl TermClock {
    /// The time in `term` of this node; `group` is the clock of what is applied.
    pub fn now(&self, term: u64, group: ShardTime) -> ShardTime {
        self.at(term, group, wall(), Instant::now())
    }

    fn at(&self, term: u64, group: ShardTime, wall: i64, monotonic: Instant) -> ShardTime {
        let mut running = self.running.lock();
        match running.as_mut().filter(|running| running.term == term) {
            Some(running) => ShardTime(running.go_on(group, wall, monotonic)),
            None => {
                let start = wall.max(group.0);
                *running = Some(Running { term, anchor: start, anchored: monotonic, last: start });
                ShardTime(start)
            }
        }
    }
}

impl Running {
    fn go_on(&mut self, group: ShardTime, wall: i64, monotonic: Instant) -> i64 {
        let passed = monotonic.saturating_duration_since(self.anchored).as_nanos();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let plain = self.anchor.saturating_add(passed);
        let pull = wall.saturating_sub(plain).clamp(-(passed / LOSS), passed / GAIN);
        let now = plain.saturating_add(pull).max(group.0);
        if passed >= ANCHOR_NANOS || now == group.0 {
            (self.anchor, self.anchored) = (now, monotonic);
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

#[cfg(test)]
mod tests;
