//! Cron strings of schedules: five to seven fields, `@daily` and its like, `@every`, a time zone in front and a comment behind.
//!
//! This is the reading of schedules. Cron of workflows follows other rules (five fields, no years) and is read elsewhere.

use stanchion_proto::temporal::schedule::v1::{CalendarSpec, IntervalSpec, StructuredCalendarSpec};

use super::canonical;
use crate::{go_duration, time};

/// What a cron string says.
#[derive(Clone, PartialEq, Debug)]
pub struct Cron {
    pub when: When,
    /// Empty: none given.
    pub time_zone: String,
}

#[derive(Clone, PartialEq, Debug)]
pub enum When {
    Calendar(StructuredCalendarSpec),
    Interval(IntervalSpec),
}

/// Reads one cron string.
pub fn parse(text: &str) -> Result<Cron, String> {
    let mut text = text.trim();
    let mut time_zone = "";
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        let (zone, rest) = text.split_once(' ').ok_or("CronString has time zone but missing fields")?;
        time_zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        text = rest;
    }
    let (text, comment) = text.split_once('#').unwrap_or((text, ""));
    let (text, comment) = (text.trim(), comment.trim());
    if text.starts_with("@every") {
        // The zone makes no difference to an interval, and is dropped.
        return Ok(Cron { when: When::Interval(every(text)?), time_zone: String::new() });
    }
    let fields: Vec<&str> = predefined(text).split_whitespace().collect();
    let (second, rest, year) = match fields.len() {
        5 => ("", &fields[..], ""),
        6 => ("", &fields[..5], fields[5]),
        7 => (fields[0], &fields[1..6], fields[6]),
        _ => return Err("CronString does not have 5-7 fields".to_owned()),
    };
    let calendar = CalendarSpec {
        second: second.to_owned(),
        minute: rest[0].to_owned(),
        hour: rest[1].to_owned(),
        day_of_month: rest[2].to_owned(),
        month: rest[3].to_owned(),
        day_of_week: rest[4].to_owned(),
        year: year.to_owned(),
        comment: comment.to_owned(),
    };
    Ok(Cron { when: When::Calendar(canonical::structured(&calendar)?), time_zone: time_zone.to_owned() })
}

/// `@every 1h`, `@every 14h/3h` (with a phase).
fn every(text: &str) -> Result<IntervalSpec, String> {
    let (_, interval) = text.split_once(' ').ok_or("CronString does not have interval after @every")?;
    let (interval, phase) = interval.split_once('/').unwrap_or((interval, ""));
    let interval = duration_of(interval)?;
    let phase = if phase.is_empty() { None } else { Some(duration_of(phase)?) };
    Ok(IntervalSpec { interval: Some(time::duration(interval)), phase: phase.map(time::duration) })
}

fn duration_of(text: &str) -> Result<i64, String> {
    go_duration::parse_with_days(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

fn predefined(text: &str) -> &str {
    match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}
