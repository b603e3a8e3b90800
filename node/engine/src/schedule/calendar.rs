//! One structured calendar as a search: the next second at which clocks in a zone show a matching date and time.
//!
//! The search walks from the year inwards, and on from the first field that does not match. Around changes of the clocks it does what
//! the real server's does, oddities included: a time that is jumped over does not happen, one that comes twice happens once, or twice
//! where the search began between the two.

use stanchion_proto::temporal::schedule::v1::{Range, StructuredCalendarSpec};

use super::canonical::YEAR_MAX;
use super::date::DateTime;
use super::zone::Zone;

const HOUR_SECONDS: i64 = 3600;

fn days_in_month(month: i32, year: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Values of a field, one bit each.
#[derive(Clone, Copy, Debug)]
struct Bits(u64);

impl Bits {
    fn of(ranges: &[Range]) -> Self {
        Self(values(ranges, 63).fold(0, |bits, value| bits | (1 << value)))
    }

    fn has(self, value: i32) -> bool {
        (0..64).contains(&value) && self.0 & (1 << value) != 0
    }
}

/// Values of the ranges from 0 to `max`. Exclusions are stored unchecked, so a range may be absurdly long.
fn values(ranges: &[Range], max: i32) -> impl Iterator<Item = i32> {
    ranges.iter().flat_map(move |range| {
        let step = usize::try_from(range.step).unwrap_or(0).max(1);
        (range.start.max(0)..=range.end.max(range.start).min(max)).step_by(step)
    })
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// None: every year.
    years: Option<Vec<i32>>,
    months: Bits,
    days: Bits,
    weekdays: Bits,
    hours: Bits,
    minutes: Bits,
    seconds: Bits,
}

impl Calendar {
    pub fn new(spec: &StructuredCalendarSpec) -> Self {
        Self {
            years: (!spec.year.is_empty()).then(|| values(&spec.year, YEAR_MAX).collect()),
            months: Bits::of(&spec.month),
            days: Bits::of(&spec.day_of_month),
            weekdays: Bits::of(&spec.day_of_week),
            hours: Bits::of(&spec.hour),
            minutes: Bits::of(&spec.minute),
            seconds: Bits::of(&spec.second),
        }
    }

    fn has_year(&self, year: i32) -> bool {
        self.years.as_ref().is_none_or(|years| years.contains(&year))
    }

    /// Whether clocks in the zone show a matching time at this instant.
    pub fn matches(&self, zone: &Zone, unix_seconds: i64) -> bool {
        let at = zone.local(unix_seconds);
        self.has_year(at.year)
            && self.months.has(at.month)
            && self.days.has(at.day)
            && self.weekdays.has(at.weekday())
            && self.hours.has(at.hour)
            && self.minutes.has(at.minute)
            && self.seconds.has(at.second)
    }

    /// The first matching second after this one.
    pub fn next(&self, zone: &Zone, after: i64) -> Option<i64> {
        let mut search = Search::new(zone, after);
        loop {
            search.carry();
            if search.at.year > YEAR_MAX {
                return None;
            }
            if !self.step(&mut search) {
                continue;
            }
            let found = zone.instant(search.at);
            // A time that the clocks jump over is shown as another hour.
            if zone.local(found).hour != search.at.hour {
                search.next_hour();
                continue;
            }
            return Some(found + search.repeated);
        }
    }

    /// Moves to the first fitting value of each field. False: a field ran over, so the fields before it must be looked at again.
    fn step(&self, search: &mut Search<'_>) -> bool {
        if !self.has_year(search.at.year) {
            search.at = DateTime { year: search.at.year + 1, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
            search.repeated = 0;
            return false;
        }
        while !self.months.has(search.at.month) {
            search.at = DateTime { month: search.at.month + 1, day: 1, hour: 0, minute: 0, second: 0, ..search.at };
            search.repeated = 0;
            if search.at.month > 12 {
                return false;
            }
        }
        while !self.days.has(search.at.day) || !self.weekdays.has(search.weekday()) {
            search.at = DateTime { day: search.at.day + 1, hour: 0, minute: 0, second: 0, ..search.at };
            search.repeated = 0;
            if search.at.day > days_in_month(search.at.month, search.at.year) {
                return false;
            }
        }
        while !self.hours.has(search.at.hour) {
            search.next_hour();
            search.repeated = 0;
            if search.at.hour >= 24 {
                return false;
            }
        }
        while !self.minutes.has(search.at.minute) {
            search.at = DateTime { minute: search.at.minute + 1, second: 0, ..search.at };
            if search.at.minute >= 60 {
                return false;
            }
        }
        while !self.seconds.has(search.at.second) {
            search.at.second += 1;
            if search.at.second >= 60 {
                return false;
            }
        }
        true
    }
}

/// Where a search stands.
struct Search<'z> {
    zone: &'z Zone,
    at: DateTime,
    /// An hour in seconds while the search is in the second of two equal hours, else 0.
    repeated: i64,
}

impl<'z> Search<'z> {
    fn new(zone: &'z Zone, after: i64) -> Self {
        let mut at = zone.local(after);
        let repeated = if zone.local(after - HOUR_SECONDS).hour == at.hour { HOUR_SECONDS } else { 0 };
        at.second += 1;
        Self { zone, at, repeated }
    }

    fn next_hour(&mut self) {
        self.at = DateTime { hour: self.at.hour + 1, minute: 0, second: 0, ..self.at };
    }

    /// Of the instant that the search stands for, which is another day's where the clocks jump over midnight.
    fn weekday(&self) -> i32 {
        self.zone.local(self.zone.instant(self.at)).weekday()
    }

    fn carry(&mut self) {
        if self.at.second >= 60 {
            self.at.second = 0;
            self.at.minute += 1;
        }
        if self.at.minute >= 60 {
            let hour = DateTime { minute: 0, second: 0, ..self.at };
            let begun = self.zone.instant(hour);
            let next = self.zone.instant(DateTime { hour: hour.hour + 1, ..hour });
            self.at.minute = 0;
            // Two hours to the next one: this hour comes twice, and is searched again.
            if self.repeated == 0 && next - begun > HOUR_SECONDS {
                self.repeated = HOUR_SECONDS;
            } else {
                self.at.hour += 1;
                self.repeated = 0;
            }
        }
        if self.at.hour >= 24 {
            self.at.hour = 0;
            self.at.day += 1;
        }
        if self.at.day > days_in_month(self.at.month, self.at.year) {
            self.at.day = 1;
            self.at.month += 1;
        }
        if self.at.month > 12 {
            self.at.month = 1;
            self.at.year += 1;
        }
    }
}
