//! A schedule's spec as it is stored: cron strings and calendars of text become structured calendars and intervals, checked.
//!
//! Errors are the real server's words; the caller puts "Invalid schedule spec: " before them.

use stanchion_proto::temporal::schedule::v1::{
    CalendarSpec, IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec,
};

use super::cron::{self, When};
use super::range::{Field, Words};
use crate::time::{SECOND, nanos};

pub const YEAR_MIN: i32 = 2000;
/// Times behind this year are not looked for.
pub const YEAR_MAX: i32 = 2100;

const COMMENT_BYTES_MAX: usize = 200;
/// Protobuf's own bound of a duration, in seconds.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

const fn field(name: &'static str, default: &'static str, min: i32, max: i32, words: Words) -> Field {
    Field { name, default, min, max, words }
}

const SECONDS: Field = field("Second", "0", 0, 59, Words::None);
const MINUTES: Field = field("Minute", "0", 0, 59, Words::None);
const HOURS: Field = field("Hour", "0", 0, 23, Words::None);
const DAYS_OF_WEEK: Field = field("DayOfWeek", "*", 0, 7, Words::DayOfWeek);
const DAYS_OF_MONTH: Field = field("DayOfMonth", "*", 1, 31, Words::None);
const MONTHS: Field = field("Month", "*", 1, 12, Words::Month);
const YEARS: Field = field("Year", "*", YEAR_MIN, YEAR_MAX, Words::Year);

/// A calendar of text, structured. Every field that is wrong is named.
pub fn structured(calendar: &CalendarSpec) -> Result<StructuredCalendarSpec, String> {
    let mut wrong = Vec::new();
    let mut read = |field: &Field, text: &str| {
        field.parse(text).unwrap_or_else(|why| {
            wrong.push(why);
            Vec::new()
        })
    };
    let spec = StructuredCalendarSpec {
        second: read(&SECONDS, &calendar.second),
        minute: read(&MINUTES, &calendar.minute),
        hour: read(&HOURS, &calendar.hour),
        day_of_week: read(&DAYS_OF_WEEK, &calendar.day_of_week),
        day_of_month: read(&DAYS_OF_MONTH, &calendar.day_of_month),
        month: read(&MONTHS, &calendar.month),
        year: read(&YEARS, &calendar.year),
        comment: calendar.comment.clone(),
    };
    if wrong.is_empty() { Ok(spec) } else { Err(wrong.join(", ")) }
}

/// The spec in its stored form. The time zone's name is not looked up here.
#[allow(deprecated)]
pub fn canonical(mut spec: ScheduleSpec) -> Result<ScheduleSpec, String> {
    durations_are_valid(&spec)?;
    for calendar in std::mem::take(&mut spec.calendar) {
        spec.structured_calendar.push(structured(&calendar)?);
    }
    for calendar in std::mem::take(&mut spec.exclude_calendar) {
        spec.exclude_structured_calendar.push(structured(&calendar)?);
    }
    let mut cron_zone: Option<String> = None;
    for text in std::mem::take(&mut spec.cron_string) {
        let cron = cron::parse(&text)?;
        // All of them must agree, with or without one.
        if cron_zone.as_ref().is_some_and(|zone| *zone != cron.time_zone) {
            return Err(CONFLICTING_ZONES.to_owned());
        }
        cron_zone = Some(cron.time_zone);
        match cron.when {
            When::Calendar(calendar) => spec.structured_calendar.push(calendar),
            When::Interval(interval) => spec.interval.push(interval),
        }
    }
    if let Some(zone) = cron_zone.filter(|zone| !zone.is_empty()) {
        if (!spec.timezone_name.is_empty() && spec.timezone_name != zone) || !spec.timezone_data.is_empty() {
            return Err(CONFLICTING_ZONES.to_owned());
        }
        spec.timezone_name = zone;
    }
    spec.structured_calendar.iter().try_for_each(check_calendar)?;
    spec.interval.iter().try_for_each(check_interval)?;
    Ok(spec)
}

const CONFLICTING_ZONES: &str = "conflicting timezone names";

fn check_calendar(calendar: &StructuredCalendarSpec) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut check = |ranges: &[Range], name: &str, min: i32, max: i32| {
        for range in ranges {
            if range.start < min || range.start > max {
                wrong.push(format!("{name} Start is not in range [{min}-{max}]"));
            }
            if range.end != 0 && (range.end < range.start || range.end > max) {
                wrong.push(format!("{name} End is before Start or not in range [{min}-{max}]"));
            }
            if range.step < 0 {
                wrong.push(format!("{name} has invalid Step"));
            }
        }
    };
    check(&calendar.second, "Second", 0, 59);
    check(&calendar.minute, "Minute", 0, 59);
    check(&calendar.hour, "Hour", 0, 23);
    check(&calendar.day_of_month, "DayOfMonth", 1, 31);
    check(&calendar.month, "Month", 1, 12);
    check(&calendar.year, "Year", YEAR_MIN, YEAR_MAX);
    check(&calendar.day_of_week, "DayOfWeek", 0, 6);
    if calendar.comment.len() > COMMENT_BYTES_MAX {
        wrong.push("comment is too long".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("invalid calendar spec: {}", wrong.join(", "))) }
}

fn check_interval(spec: &IntervalSpec) -> Result<(), String> {
    let (interval, phase) = (nanos(spec.interval.as_ref()), nanos(spec.phase.as_ref()));
    if interval < SECOND {
        return Err("interval is too small".to_owned());
    }
    if phase < 0 {
        return Err("phase is negative".to_owned());
    }
    if phase >= interval {
        return Err("phase cannot be greater than Interval".to_owned());
    }
    Ok(())
}

fn durations_are_valid(spec: &ScheduleSpec) -> Result<(), String> {
    for interval in &spec.interval {
        for (name, duration) in [("interval", &interval.interval), ("phase", &interval.phase)] {
            let Some(duration) = duration else { continue };
            let signs_differ = duration.seconds.signum() * i64::from(duration.nanos.signum()) < 0;
            if duration.seconds.abs() > DURATION_SECONDS_MAX || duration.nanos.abs() > 999_999_999 || signs_differ {
                return Err(format!("{name} is not a valid duration"));
            }
        }
    }
    Ok(())
}

/// Ranges with their defaults filled in, as descriptions show them.
pub fn fill_ranges(spec: &mut ScheduleSpec) {
    for calendar in spec.structured_calendar.iter_mut().chain(&mut spec.exclude_structured_calendar) {
        let lists = [
            &mut calendar.second,
            &mut calendar.minute,
            &mut calendar.hour,
            &mut calendar.day_of_month,
            &mut calendar.month,
            &mut calendar.year,
            &mut calendar.day_of_week,
        ];
        for range in lists.into_iter().flatten() {
            range.end = range.end.max(range.start);
            if range.step == 0 {
                range.step = 1;
            }
        }
    }
}
