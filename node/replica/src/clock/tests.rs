//! The clock of a group, whatever the wall clock does.

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
