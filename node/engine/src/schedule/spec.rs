//! When a schedule acts: a spec in its stored form, ready to be asked for the next matching time.
//!
//! Called by the leader, which stamps the answers into commands, and by descriptions. Never by `apply`.

use stanchion_proto::temporal::schedule::v1::{IntervalSpec, ScheduleSpec};

use super::calendar::Calendar;
use super::canonical::YEAR_MAX;
use super::date::DateTime;
use super::jitter;
use super::zone::Zone;
use crate::time::{SECOND, nanos};
use crate::types::ShardTime;

/// Excluded times that one search steps over before it gives up: a spec that excludes nearly everything must not keep a leader busy.
const EXCLUDED_MAX: usize = 1_000_000;

const MILLISECOND: i64 = 1_000_000;

/// A time at which a schedule acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match {
    /// What the spec says, on the second.
    pub nominal: ShardTime,
    /// With jitter.
    pub actual: ShardTime,
}

/// The search went over too many excluded times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyExclusions;

/// See the module.
#[derive(Clone, Debug)]
pub struct CompiledSpec {
    zone: Zone,
    calendars: Vec<Calendar>,
    excluded: Vec<Calendar>,
    intervals: Vec<Interval>,
    /// In seconds, to be compared with times on the second.
    start: Option<i64>,
    end: Option<i64>,
    jitter: i64,
    seed: String,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    seconds: i64,
    phase: i64,
}

impl Interval {
    fn of(spec: &IntervalSpec) -> Self {
        let seconds = nanos(spec.interval.as_ref()) / SECOND;
        Self { seconds: seconds.max(1), phase: (nanos(spec.phase.as_ref()) / SECOND).max(0) }
    }

    fn next(self, after: i64) -> i64 {
        ((after - self.phase) / self.seconds + 1) * self.seconds + self.phase
    }
}

impl CompiledSpec {
    /// The spec of a schedule, in its stored form.
    pub fn new(spec: &ScheduleSpec, namespace_id: &str, schedule_id: &str) -> Result<Self, String> {
        let seconds = |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| (time.seconds, time.nanos));
        Ok(Self {
            zone: Zone::of(spec)?,
            calendars: spec.structured_calendar.iter().map(Calendar::new).collect(),
            excluded: spec.exclude_structured_calendar.iter().map(Calendar::new).collect(),
            intervals: spec.interval.iter().map(Interval::of).collect(),
            // The first second in the range may match: the search begins right before it.
            start: seconds(&spec.start_time).map(|(seconds, _)| seconds.saturating_sub(1)),
            end: seconds(&spec.end_time).map(|(seconds, _)| seconds),
            jitter: nanos(spec.jitter.as_ref()).max(0),
            seed: format!("{namespace_id}-{schedule_id}"),
        })
    }

    /// The first matching time after this one, exclusive; none if the schedule acts no more.
    pub fn next(&self, after: ShardTime) -> Result<Option<Match>, TooManyExclusions> {
        let mut after = after.0.div_euclid(SECOND).max(self.start.unwrap_or(-1));
        for _ in 0..EXCLUDED_MAX {
            let Some(nominal) = self.next_nominal(after).filter(|found| self.in_range(*found)) else { return Ok(None) };
            if !self.excluded.iter().any(|calendar| calendar.matches(&self.zone, nominal)) {
                return Ok(Some(self.with_jitter(nominal)));
            }
            after = nominal;
        }
        Err(TooManyExclusions)
    }

    fn next_nominal(&self, after: i64) -> Option<i64> {
        let calendars = self.calendars.iter().filter_map(|calendar| calendar.next(&self.zone, after));
        let intervals = self.intervals.iter().map(|interval| interval.next(after));
        calendars.chain(intervals).min()
    }

    fn in_range(&self, unix_seconds: i64) -> bool {
        self.end.is_none_or(|end| unix_seconds <= end) && DateTime::of(unix_seconds).year <= YEAR_MAX
    }

    /// Jitter never puts a time off beyond the next one, excluded or not.
    fn with_jitter(&self, nominal: i64) -> Match {
        let room = self.next_nominal(nominal).map_or(i64::MAX, |next| (next - nominal).saturating_mul(SECOND));
        let limit = self.jitter.min(room) / MILLISECOND;
        let delay = jitter::delay_ms(&self.seed, nominal, u64::try_from(limit).unwrap_or(0));
        let nominal = ShardTime(nominal.saturating_mul(SECOND));
        Match { nominal, actual: nominal.plus(i64::try_from(delay).unwrap_or(0).saturating_mul(MILLISECOND)) }
    }
}
