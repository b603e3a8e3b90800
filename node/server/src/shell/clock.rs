//! What is due when: the timers of the next minute, and the time limits of workflow tasks.
//!
//! Timers live in a table; the leader holds a horizon of them. Due ones are fired in one command a tick. A timer never fires early:
//! only the shard's clock, which the command carries, decides, and a row whose time has not come is left alone by the engine.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use stanchion_engine::ShardTime;
use stanchion_engine::effects::{TimerKey, WorkflowTaskDeadline};

/// Due times are rounded up to this, so that timers close together share a command.
pub const TICK_NANOS: i64 = 10_000_000;
/// How far ahead timers are held in memory.
pub const HORIZON_NANOS: i64 = 60_000_000_000;
/// Keys in one `FireTimers` command.
pub const FIRE_MAX: usize = 512;

#[derive(Default)]
pub struct DueTimes {
    timers: BTreeSet<TimerKey>,
    /// Timers beyond it are in the table only.
    horizon: ShardTime,
    deadlines: BinaryHeap<Reverse<ByTime>>,
}

impl DueTimes {
    /// Timers read from the table, complete up to `horizon`.
    pub fn load(&mut self, keys: impl IntoIterator<Item = TimerKey>, horizon: ShardTime) {
        self.timers.extend(keys);
        self.horizon = self.horizon.max(horizon);
    }

    /// Timers held.
    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    pub fn horizon(&self) -> ShardTime {
        self.horizon
    }

    /// Takes a timer in if it lies before the horizon. True when it is now the first of all.
    pub fn set(&mut self, key: TimerKey) -> bool {
        if key.at > self.horizon {
            return false;
        }
        let first = self.timers.first().is_none_or(|first| key.at < first.at);
        self.timers.insert(key);
        first
    }

    pub fn clear(&mut self, key: &TimerKey) {
        self.timers.remove(key);
    }

    /// True when it is now the first deadline of all.
    pub fn limit(&mut self, deadline: WorkflowTaskDeadline) -> bool {
        let first = self.deadlines.peek().is_none_or(|Reverse(first)| deadline.at < first.0.at);
        self.deadlines.push(Reverse(ByTime(deadline)));
        first
    }

    /// The next time at which something is due, if anything is known to be.
    pub fn next(&self) -> Option<ShardTime> {
        let timer = self.timers.first().map(|key| key.at);
        let deadline = self.deadlines.peek().map(|Reverse(first)| first.0.at);
        match (timer, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Takes out what is due, timers up to [`FIRE_MAX`].
    pub fn take_due(&mut self, now: ShardTime) -> (Vec<TimerKey>, Vec<WorkflowTaskDeadline>) {
        let mut timers = Vec::new();
        while timers.len() < FIRE_MAX
            && let Some(first) = self.timers.first()
            && first.at <= now
        {
            timers.extend(self.timers.pop_first());
        }
        let mut deadlines = Vec::new();
        while let Some(Reverse(first)) = self.deadlines.peek()
            && first.0.at <= now
        {
            deadlines.extend(self.deadlines.pop().map(|Reverse(due)| due.0));
        }
        (timers, deadlines)
    }
}

/// Orders deadlines by time; ties in any order.
struct ByTime(WorkflowTaskDeadline);

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        self.0.at == other.0.at
    }
}

impl Eq for ByTime {}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.at.cmp(&other.0.at)
    }
}

/// Wall-clock nanoseconds since the epoch, for checks that need only be about right. What is due goes by the group's clock
/// (`GroupHandle::now`).
pub fn wall() -> ShardTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    ShardTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Leaves the soonest timers of these; what is known of them is complete up to `horizon`, also afterwards.
pub fn keep_soonest(keys: &mut Vec<TimerKey>, most: usize, horizon: &mut ShardTime) {
    if keys.len() > most {
        let (_, first_left_out, _) = keys.select_nth_unstable(most);
        *horizon = (*horizon).min(ShardTime(first_left_out.at.0 - 1));
        keys.truncate(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_engine::Slot;

    fn key(at: i64) -> TimerKey {
        TimerKey { at: ShardTime(at), slot: Slot(1), key: vec![at as u8] }
    }

    #[test]
    fn a_timer_is_due_at_its_time_and_not_before() {
        let mut due = DueTimes::default();
        due.load([key(5)], ShardTime(10));
        assert!(due.set(key(3)), "it is the first now");
        assert!(!due.set(key(7)));
        assert!(!due.set(key(11)), "behind the horizon: the table keeps it");
        assert_eq!(due.take_due(ShardTime(2)).0, []);
        assert_eq!(due.take_due(ShardTime(6)).0, [key(3), key(5)]);
        assert_eq!(due.next(), Some(ShardTime(7)));
        due.clear(&key(7));
        assert_eq!(due.next(), None);
    }

    #[test]
    fn what_is_left_out_lies_behind_the_horizon() {
        let (mut keys, mut horizon) = (vec![key(9), key(2), key(7), key(4)], ShardTime(50));
        keep_soonest(&mut keys, 4, &mut horizon);
        assert_eq!((keys.len(), horizon), (4, ShardTime(50)));
        keep_soonest(&mut keys, 2, &mut horizon);
        keys.sort();
        assert_eq!((keys, horizon), (vec![key(2), key(4)], ShardTime(6)));
    }
}
