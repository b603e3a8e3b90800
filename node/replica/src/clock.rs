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
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const NOON: i64 = 1_700_000_000 * SECOND;

    /// A machine whose wall clock can be set.
    struct Machine {
        clock: TermClock,
        began: Instant,
        passed: i64,
        wall: i64,
        group: ShardTime,
    }

    impl Machine {
        fn new(wall: i64) -> Self {
            Self { clock: TermClock::default(), began: Instant::now(), passed: 0, wall, group: ShardTime(0) }
        }

        fn now(&self, term: u64) -> i64 {
            let passed = Duration::from_nanos(self.passed.unsigned_abs());
            self.clock.at(term, self.group, self.wall, self.began + passed).0
        }

        /// Lets time pass, a reading every 10 ms, none before the one before it.
        fn pass(&mut self, nanos: i64) -> i64 {
            let mut last = self.now(1);
            for _ in 0..nanos / 10_000_000 {
                self.passed += 10_000_000;
                self.wall += 10_000_000;
                let now = self.now(1);
                assert!(now >= last, "the clock went back");
                last = now;
            }
            last
        }
    }

    #[test]
    fn it_starts_at_the_wall_clock_and_keeps_to_it() {
        let mut machine = Machine::new(NOON);
        assert_eq!(machine.now(1), NOON);
        assert_eq!(machine.pass(10 * SECOND), NOON + 10 * SECOND);
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_and_back_moves_nothing_that_is_due() {
        let mut machine = Machine::new(NOON);
        machine.now(1);
        machine.wall += 2 * HOUR;
        let ahead = machine.pass(4 * SECOND) - (NOON + 4 * SECOND);
        assert!((0..=SECOND / 5).contains(&ahead), "{ahead} ns ahead after four seconds");
        machine.wall -= 2 * HOUR;
        let due = machine.now(1) + SECOND;
        machine.pass(SECOND * 12 / 10);
        assert!(machine.now(1) >= due, "a timer of a second comes in little more than a second");
        assert_eq!(machine.pass(10 * SECOND), machine.wall, "and it is right again");
    }

    #[test]
    fn a_group_whose_clock_is_ahead_goes_on_at_once_and_comes_back_slowly() {
        let mut machine = Machine::new(NOON);
        machine.group = ShardTime(NOON + 2 * HOUR);
        assert_eq!(machine.now(1), NOON + 2 * HOUR);
        let passed = machine.pass(10 * SECOND) - (NOON + 2 * HOUR);
        assert_eq!(passed, 9 * SECOND, "a tenth slower until the wall clock has caught up");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_is_not_followed_back() {
        let mut machine = Machine::new(NOON);
        machine.now(1);
        machine.wall -= HOUR;
        assert_eq!(machine.pass(10 * SECOND), NOON + 9 * SECOND);
    }

    #[test]
    fn a_new_term_believes_the_wall_clock_again() {
        let mut machine = Machine::new(NOON);
        machine.now(1);
        machine.wall += HOUR;
        assert_eq!(machine.now(2), NOON + HOUR);
    }

    #[test]
    fn it_is_never_behind_what_is_applied() {
        let mut machine = Machine::new(NOON);
        machine.now(1);
        machine.group = ShardTime(NOON + 5);
        assert_eq!(machine.now(1), NOON + 5);
    }
}
