//! Cron schedules of workflows: the grammar and the next times of the real server.
//!
//! Five fields (`minute hour day month weekday`), the descriptors `@hourly`, `@daily` and so on, `@every 90s`, and `CRON_TZ=Zone` in
//! front. A time of the schedule is a whole minute whose local fields match: one that a change of the clocks skips does not come, one
//! that it repeats comes twice.
//!
//! Never: the zone database of the machine, or its local zone. The bundled one is part of this binary, so that every replica of one
//! release computes the same times (docs/decisions/11-cron-and-time-zones.md).
//!
//! Called by `run::cron`, and by the frontend to check what clients send.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp, Zoned};

use crate::go_duration;
use crate::time::SECOND;
use crate::types::ShardTime;

/// A schedule that has no time within this many years has none.
const YEARS_MAX: i16 = 5;

/// Why a schedule is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CronError {
    /// The real server's words, which do not say what is wrong.
    #[error("invalid CronSchedule.")]
    Malformed,
    #[error("invalid CronSchedule, no time can be found to satisfy the schedule")]
    NeverDue,
}

/// A schedule, understood.
#[derive(Clone, Debug)]
pub struct Cron(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Whole seconds, at least one.
    Every {
        seconds: i64,
    },
    Fields {
        fields: Fields,
        zone: TimeZone,
    },
}

/// Bit n of a field stands for the value n.
#[derive(Clone, Copy, Debug)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day must be in both fields if one of them is unrestricted, and in either if both are restricted.
    both_days: bool,
}

impl Cron {
    /// Understands a schedule, and requires that it is due some time after `now`.
    pub fn check(spec: &str, now: ShardTime) -> Result<Self, CronError> {
        let cron = Self::parse(spec)?;
        if cron.next(now).is_none() {
            return Err(CronError::NeverDue);
        }
        Ok(cron)
    }

    pub fn parse(spec: &str) -> Result<Self, CronError> {
        let (zone, spec) = zone_of(spec)?;
        if let Some(descriptor) = spec.strip_prefix('@') {
            return described(descriptor, zone);
        }
        let parts: Vec<&str> = spec.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else { return Err(CronError::Malformed) };
        let (days, any_day) = field(days, 1, 31, &[])?;
        let (weekdays, any_weekday) = field(weekdays, 0, 6, &WEEKDAYS)?;
        let fields = Fields {
            minutes: field(minutes, 0, 59, &[])?.0,
            hours: field(hours, 0, 23, &[])?.0,
            days,
            months: field(months, 1, 12, &MONTHS)?.0,
            weekdays,
            both_days: any_day || any_weekday,
        };
        Ok(Self(Kind::Fields { fields, zone }))
    }

    /// The first time of the schedule behind `after`; none within the next years is none at all.
    pub fn next(&self, after: ShardTime) -> Option<ShardTime> {
        match &self.0 {
            Kind::Every { seconds } => {
                let whole = after.0.div_euclid(SECOND) * SECOND;
                Some(ShardTime(whole).plus(seconds.saturating_mul(SECOND)))
            }
            Kind::Fields { fields, zone } => fields.next(zone, after),
        }
    }

    /// How long a run that began its work at `started_at` and is over at `now` waits for the next: to the first time behind its start
    /// that has not passed, in whole seconds. None if there is no such time.
    pub fn backoff(&self, started_at: ShardTime, now: ShardTime) -> Option<i64> {
        let mut next = self.next(started_at)?;
        if let Kind::Every { seconds } = &self.0 {
            // In one go: a run that lasted for months may have missed millions of times.
            let interval = seconds.saturating_mul(SECOND);
            let late = (now.0 - next.0).max(0);
            next = next.plus((late / interval + i64::from(late % interval != 0)).saturating_mul(interval));
        } else if next < now {
            // Times of the calendar do not depend on the one before: the first that is not before now.
            next = self.next(ShardTime(now.0 - 1))?;
        }
        let wait = next.0 - now.0;
        Some((wait / SECOND + i64::from(wait % SECOND != 0)).saturating_mul(SECOND))
    }
}

impl Fields {
    fn next(&self, zone: &TimeZone, after: ShardTime) -> Option<ShardTime> {
        let first = Timestamp::from_second(after.0.div_euclid(SECOND) + 1).ok()?;
        let mut at = first.to_zoned(zone.clone());
        let last_year = at.year().saturating_add(YEARS_MAX);
        loop {
            let local = at.datetime();
            if local.year() > last_year {
                return None;
            }
            at = if !has(self.months, local.month()) {
                begin_of(zone, local.first_of_month().checked_add(Span::new().months(1)).ok()?)?
            } else if !self.is_day(local) {
                begin_of(zone, local.checked_add(Span::new().days(1)).ok()?)?
            } else if !has(self.hours, local.hour()) {
                later(&at, 3600 - i64::from(local.minute()) * 60 - i64::from(local.second()))?
            } else if local.second() != 0 || !has(self.minutes, local.minute()) {
                later(&at, 60 - i64::from(local.second()))?
            } else {
                return Some(ShardTime(at.timestamp().as_second().checked_mul(SECOND)?));
            };
        }
    }

    fn is_day(&self, local: DateTime) -> bool {
        let day = has(self.days, local.day());
        let weekday = has(self.weekdays, local.weekday().to_sunday_zero_offset());
        if self.both_days { day && weekday } else { day || weekday }
    }
}

fn has(field: u64, value: i8) -> bool {
    field & bit(u32::from(value.unsigned_abs())) != 0
}

fn bit(value: u32) -> u64 {
    1_u64.checked_shl(value).unwrap_or(0)
}

/// The first moment of a local day.
fn begin_of(zone: &TimeZone, day: DateTime) -> Option<Zoned> {
    day.date().to_zoned(zone.clone()).ok()
}

fn later(at: &Zoned, seconds: i64) -> Option<Zoned> {
    Some(Timestamp::from_second(at.timestamp().as_second() + seconds).ok()?.to_zoned(at.time_zone().clone()))
}

// The grammar ----------------------------------------------------------------------------------------------------------

const MONTHS: [&str; 13] = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Takes `CRON_TZ=Zone` or `TZ=Zone` off the front.
fn zone_of(spec: &str) -> Result<(TimeZone, &str), CronError> {
    let Some(rest) = spec.strip_prefix("CRON_TZ=").or_else(|| spec.strip_prefix("TZ=")) else {
        return Ok((TimeZone::UTC, spec));
    };
    let (name, rest) = rest.split_once(' ').ok_or(CronError::Malformed)?;
    let zone = match name {
        // A server's own zone is no property of a schedule: what runs on several machines runs in UTC.
        "" | "UTC" | "Local" => TimeZone::UTC,
        name => zone(name).ok_or(CronError::Malformed)?,
    };
    Ok((zone, rest.trim()))
}

/// A zone of the bundled database, by its exact name.
fn zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (zone.iana_name() == Some(name)).then_some(zone)
}

fn described(name: &str, zone: TimeZone) -> Result<Cron, CronError> {
    if let Some(interval) = name.strip_prefix("every ") {
        let nanos = go_duration::parse(interval).ok_or(CronError::Malformed)?;
        return Ok(Cron(Kind::Every { seconds: (nanos / SECOND).max(1) }));
    }
    let fields = match name {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => return Err(CronError::Malformed),
    };
    let Cron(kind) = Cron::parse(fields)?;
    Ok(match kind {
        Kind::Fields { fields, .. } => Cron(Kind::Fields { fields, zone }),
        every => Cron(every),
    })
}

/// Values of a field, and whether it is unrestricted.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), CronError> {
    let (mut values, mut any) = (0, false);
    let mut parts = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (these, all) = range(part, least, most, names)?;
        values |= these;
        any |= all;
        parts += 1;
    }
    if parts == 0 { Err(CronError::Malformed) } else { Ok((values, any)) }
}

/// `*`, `?`, `n`, `n-m`, each with `/step`; `n/step` goes on to the end.
fn range(text: &str, least: u32, most: u32, names: &[&str]) -> Result<(u64, bool), CronError> {
    let mut halves = text.split('/');
    let ends: Vec<&str> = halves.next().unwrap_or_default().split('-').collect();
    let step = halves.next();
    if halves.next().is_some() || ends.len() > 2 {
        return Err(CronError::Malformed);
    }
    let all = matches!(ends[0], "*" | "?");
    let first = if all { least } else { value(ends[0], names)? };
    let mut last = match ends.get(1) {
        _ if all => most,
        Some(last) => value(last, names)?,
        None => first,
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if ends.len() == 1 {
                last = most;
            }
            number(step)?
        }
    };
    if first < least || last > most || first > last || step == 0 {
        return Err(CronError::Malformed);
    }
    let values = (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)).map(bit).sum();
    Ok((values, all && step == 1))
}

fn value(text: &str, names: &[&str]) -> Result<u32, CronError> {
    let lower = text.to_ascii_lowercase();
    match names.iter().position(|name| !name.is_empty() && *name == lower) {
        Some(place) => u32::try_from(place).map_err(|_| CronError::Malformed),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, CronError> {
    text.parse().map_err(|_| CronError::Malformed)
}

#[cfg(test)]
mod tests;
