//! The clock of a group, whatever the wall clock does.

use super::*;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
const NOON: i64 = 1_700_000_000 * SECOND;

/// A machine whose wall clock can be set.
struct Machine {
    clock: GroupClock,
    since_boot: i64,
    wall: i64,
    group: ShardTime,
}

impl Machine {
    fn new(wall: i64) -> Self {
        Self { clock: GroupClock::default(), since_boot: 7 * SECOND, wall, group: ShardTime(0) }
    }

    /// As the leader of term 1.
    fn now(&self) -> i64 {
        self.now_in(1)
    }

    fn now_in(&self, term: u64) -> i64 {
        self.clock.at(term, self.group, self.wall, self.since_boot).0
    }

    fn known(&self) -> Option<i64> {
        self.told().map(|told| told.clock.0)
    }

    fn told(&self) -> Option<Told> {
        self.clock.known_at(self.wall, self.since_boot)
    }

    fn hear(&self, term: u64, clock: i64) {
        self.clock.hear_at(Told { term, clock: ShardTime(clock) }, self.since_boot);
    }

    fn wait(&mut self, nanos: i64) {
        self.since_boot += nanos;
        self.wall += nanos;
    }

    /// Leads for a while, a reading every 10 ms, none before the one before it.
    fn lead(&mut self, nanos: i64) -> i64 {
        let mut last = self.now();
        for _ in 0..nanos / 10_000_000 {
            self.wait(10_000_000);
            let now = self.now();
            assert!(now >= last, "the clock went back");
            last = now;
        }
        last
    }
}

#[test]
fn it_starts_at_the_wall_clock_and_keeps_to_it() {
    let mut machine = Machine::new(NOON);
    assert_eq!(machine.known(), None);
    assert_eq!(machine.now(), NOON);
    assert_eq!(machine.lead(10 * SECOND), NOON + 10 * SECOND);
}

#[test]
fn a_wall_clock_that_jumps_ahead_and_back_moves_nothing_that_is_due() {
    let mut machine = Machine::new(NOON);
    machine.now();
    machine.wall += 2 * HOUR;
    let ahead = machine.lead(4 * SECOND) - (NOON + 4 * SECOND);
    assert!((0..=SECOND / 500).contains(&ahead), "{ahead} ns ahead after four seconds");
    machine.wall -= 2 * HOUR;
    let due = machine.now() + SECOND;
    machine.lead(SECOND * 12 / 10);
    assert!(machine.now() >= due, "a timer of a second comes in little more than a second");
    assert_eq!(machine.lead(10 * SECOND), machine.wall, "and it is right again");
}

#[test]
fn a_group_whose_clock_is_ahead_goes_on_at_once_and_comes_back_slowly() {
    let mut machine = Machine::new(NOON);
    machine.group = ShardTime(NOON + 2 * HOUR);
    assert_eq!(machine.now(), NOON + 2 * HOUR);
    let passed = machine.lead(10 * SECOND) - (NOON + 2 * HOUR);
    assert_eq!(passed, 9 * SECOND, "a tenth slower until the wall clock has caught up");
}

#[test]
fn a_wall_clock_that_is_set_back_is_not_followed_back() {
    let mut machine = Machine::new(NOON);
    machine.now();
    machine.wall -= HOUR;
    assert_eq!(machine.lead(10 * SECOND), NOON + 9 * SECOND);
}

#[test]
fn the_next_leader_goes_on_where_the_last_one_was_whatever_its_own_wall_clock_says() {
    for wall in [NOON + HOUR, NOON - HOUR] {
        let leader = Machine::new(NOON);
        leader.now();
        let mut next = Machine::new(wall);
        let Told { term, clock } = leader.told().unwrap();
        next.hear(term, clock.0);
        next.wait(SECOND);
        assert_eq!(next.now_in(2), NOON + SECOND * 9 / 10, "never ahead of what the leader may say by then");
    }
}

#[test]
fn what_a_slow_leader_lost_is_not_regained_by_the_next() {
    let mut leader = Machine::new(NOON);
    leader.now();
    leader.wall -= HOUR;
    let mut next = Machine::new(NOON);
    let mut since = NOON;
    for _ in 0..100 {
        since = leader.lead(50_000_000);
        let Told { term, clock } = leader.told().unwrap();
        next.wait(50_000_000);
        next.hear(term, clock.0);
    }
    assert_eq!(since, NOON + 5 * SECOND * 9 / 10);
    assert!(next.now_in(2) <= since, "a timer that the slow leader set would come early");
}

#[test]
fn what_comes_late_sets_nothing_back() {
    let mut machine = Machine::new(NOON + HOUR);
    machine.hear(1, NOON);
    machine.wait(10 * SECOND);
    machine.hear(1, NOON + 3 * SECOND);
    assert_eq!(machine.known(), Some(NOON + 9 * SECOND));
    machine.hear(1, NOON + 10 * SECOND);
    assert_eq!(machine.known(), Some(NOON + 10 * SECOND));
}

#[test]
fn a_deposed_leaders_clock_counts_no_more() {
    let machine = Machine::new(NOON);
    machine.hear(1, NOON + 5 * SECOND);
    machine.hear(2, NOON + SECOND);
    machine.hear(1, NOON + 6 * SECOND);
    assert_eq!(machine.told(), Some(Told { term: 2, clock: ShardTime(NOON + SECOND) }));
    let deposed = Machine::new(NOON);
    deposed.now();
    deposed.hear(2, NOON - SECOND);
    assert_eq!(deposed.told(), Some(Told { term: 2, clock: ShardTime(NOON - SECOND) }));
}

#[test]
fn who_was_deposed_follows_the_next_leader_though_it_asks_for_its_own_time() {
    let mut deposed = Machine::new(NOON);
    deposed.now_in(1);
    deposed.hear(2, NOON - SECOND);
    assert_eq!(deposed.now_in(1), NOON - SECOND);
    deposed.wait(SECOND);
    deposed.now_in(1);
    deposed.hear(2, NOON);
    assert_eq!(deposed.told(), Some(Told { term: 2, clock: ShardTime(NOON) }), "it would take the term for its own");
}

#[test]
fn a_time_of_an_earlier_term_does_not_outrun_the_leader_in_between() {
    let machine = Machine::new(NOON);
    machine.now_in(1);
    machine.hear(2, NOON - SECOND);
    assert_eq!(machine.now_in(3), NOON - SECOND, "a timer that the second leader set would come early");
}

#[test]
fn a_leader_that_leads_again_goes_on_too() {
    let mut machine = Machine::new(NOON);
    machine.now();
    machine.wall += HOUR;
    machine.wait(10 * SECOND);
    let now = machine.now_in(2);
    assert!((NOON + 9 * SECOND..=NOON + 10 * SECOND + SECOND / 100).contains(&now), "{now}");
}

#[test]
fn it_is_never_behind_what_is_applied() {
    let mut machine = Machine::new(NOON);
    machine.now();
    machine.group = ShardTime(NOON + 5);
    assert_eq!(machine.now(), NOON + 5);
}

#[test]
fn the_machines_monotonic_clock_is_there_and_runs() {
    let before = since_boot();
    assert!(before > 0);
    assert!(since_boot() >= before);
}
