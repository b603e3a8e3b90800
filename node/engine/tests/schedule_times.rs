//! When schedules act, held against what the real server answered (`schedule_times.json`, recorded by `tests/schedules/record.py`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use jiff::Timestamp;
use prost::Message;
use serde_json::Value;
use stanchion_engine::ShardTime;
use stanchion_engine::schedule::canonical::{canonical, fill_ranges};
use stanchion_engine::schedule::spec::CompiledSpec;
use stanchion_engine::schedule::zone::Zone;
use stanchion_proto::temporal::schedule::v1::{
    CalendarSpec, IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec,
};

fn recorded() -> Value {
    serde_json::from_str(include_str!("schedule_times.json")).unwrap()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap()
}

fn spec(case: &Value, name: &str) -> ScheduleSpec {
    let hex = text(case, name);
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    ScheduleSpec::decode(&bytes[..]).unwrap()
}

fn nanos(text: &str) -> ShardTime {
    ShardTime(i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap())
}

fn shown(at: ShardTime) -> String {
    Timestamp::from_nanosecond(i128::from(at.0)).unwrap().to_string()
}

#[test]
fn times_are_those_of_the_real_server() {
    let recorded = recorded();
    let limit = usize::try_from(recorded["limit"].as_u64().unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in recorded["cases"].as_array().unwrap() {
        let stored = canonical(spec(case, "encoded")).unwrap();
        let compiled = CompiledSpec::new(&stored, text(&recorded, "namespace_id"), text(case, "schedule_id")).unwrap();
        for window in case["windows"].as_array().unwrap() {
            let end = nanos(text(window, "to"));
            let mut at = nanos(text(window, "from"));
            let mut ours = Vec::new();
            while let Some(found) = compiled.next(at).unwrap()
                && found.actual <= end
                && ours.len() < limit
            {
                at = found.actual;
                ours.push(shown(at));
            }
            let theirs: Vec<_> =
                window["times"].as_array().unwrap().iter().map(|time| shown(nanos(time.as_str().unwrap()))).collect();
            if ours != theirs {
                wrong.push(format!("{} from {}\n  ours   {ours:?}\n  theirs {theirs:?}", case["spec"], window["from"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn specs_are_stored_as_the_real_server_shows_them() {
    for case in recorded()["cases"].as_array().unwrap() {
        let mut ours = canonical(spec(case, "encoded")).unwrap();
        fill_ranges(&mut ours);
        assert_eq!(ours, spec(case, "stored"), "{}", case["spec"]);
    }
}

#[allow(deprecated)]
fn cron(texts: &[&str]) -> ScheduleSpec {
    ScheduleSpec { cron_string: texts.iter().map(|&text| text.to_owned()).collect(), ..Default::default() }
}

/// Every text here is the real server's, behind "Invalid schedule spec: ".
#[test]
fn bad_cron_strings() {
    let refused = [
        ("", "CronString does not have 5-7 fields"),
        ("* * * *", "CronString does not have 5-7 fields"),
        ("* * * * * * * *", "CronString does not have 5-7 fields"),
        ("@foo", "CronString does not have 5-7 fields"),
        ("a * * * *", "Minute is not in range [0-59]"),
        ("60 * * * *", "Minute is not in range [0-59]"),
        ("1,,2 * * * *", "Minute is not in range [0-59]"),
        ("5/ * * * *", "Minute missing step value"),
        ("5/0 * * * *", "Minute has invalid Step"),
        ("5/x * * * *", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("1/2/3 * * * *", "Minute has too many slashes"),
        ("1-2-3 * * * *", "Minute has too many dashes"),
        ("5-3 * * * *", "Minute End is before Start or not in range [0-59]"),
        ("-5 * * * *", "Minute Start is not in range [0-59]"),
        ("* 24 * * *", "Hour is not in range [0-23]"),
        ("5 ? * * *", "Hour is not in range [0-23]"),
        ("* * 0 * *", "DayOfMonth is not in range [1-31]"),
        ("0 0 L * *", "DayOfMonth is not in range [1-31]"),
        ("* * * foo *", "Month is not in range [1-12]"),
        ("* * * * fo", "DayOfWeek is not in range [0-7]"),
        ("* * * * * 1999", "Year is not in range [2000-2100]"),
        ("@every", "CronString does not have interval after @every"),
        ("@every x", "time: invalid duration \"x\""),
        ("@every 500ms", "interval is too small"),
        ("@every -5s", "interval is too small"),
        ("@every 1h/2h", "phase cannot be greater than Interval"),
        ("TZ=UTC", "CronString has time zone but missing fields"),
        (
            "a b 0 foo 8",
            "Minute is not in range [0-59], Hour is not in range [0-23], DayOfWeek is not in range [0-7], \
          DayOfMonth is not in range [1-31], Month is not in range [1-12]",
        ),
    ];
    for (text, why) in refused {
        assert_eq!(canonical(cron(&[text])), Err(why.to_owned()), "{text:?}");
    }
    let zones = canonical(cron(&["CRON_TZ=UTC * * * * *", "* * * * *"]));
    assert_eq!(zones, Err("conflicting timezone names".to_owned()));
    let twice = ScheduleSpec { timezone_name: "Europe/Berlin".into(), ..cron(&["CRON_TZ=UTC * * * * *"]) };
    assert_eq!(canonical(twice), Err("conflicting timezone names".to_owned()));
}

#[test]
fn bad_calendars_and_intervals() {
    let range = |start, end, step| vec![Range { start, end, step }];
    let structured = |calendar| ScheduleSpec { structured_calendar: vec![calendar], ..Default::default() };
    let wrong = StructuredCalendarSpec {
        minute: range(-1, 0, 0),
        hour: range(24, 0, 0),
        day_of_month: range(0, 0, 0),
        month: range(1, 13, 0),
        year: range(1, 0, 0),
        day_of_week: range(7, 0, 0),
        ..Default::default()
    };
    let why = "invalid calendar spec: Minute Start is not in range [0-59], Hour Start is not in range [0-23], DayOfMonth \
               Start is not in range [1-31], Month End is before Start or not in range [1-12], Year Start is not in range \
               [2000-2100], DayOfWeek Start is not in range [0-6]";
    assert_eq!(canonical(structured(wrong)), Err(why.to_owned()));
    let step = StructuredCalendarSpec { second: range(5, 0, -1), ..Default::default() };
    assert_eq!(canonical(structured(step)), Err("invalid calendar spec: Second has invalid Step".to_owned()));
    let comment = CalendarSpec { comment: "x".repeat(201), ..Default::default() };
    let commented = ScheduleSpec { calendar: vec![comment], ..Default::default() };
    assert_eq!(canonical(commented), Err("invalid calendar spec: comment is too long".to_owned()));
    for (interval, phase, why) in [
        (0, 0, "interval is too small"),
        (10, 10, "phase cannot be greater than Interval"),
        (10, -1, "phase is negative"),
        (315_576_000_001, 0, "interval is not a valid duration"),
    ] {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let interval = IntervalSpec { interval: seconds(interval), phase: seconds(phase) };
        let spec = ScheduleSpec { interval: vec![interval], ..Default::default() };
        assert_eq!(canonical(spec), Err(why.to_owned()));
    }
}

#[test]
fn zones_go_by_their_exact_names() {
    for known in ["", "UTC", "Local", "EST5EDT", "US/Eastern", "Europe/Berlin"] {
        assert!(Zone::named(known).is_ok(), "{known}");
    }
    for unknown in ["Nope", "europe/berlin"] {
        assert_eq!(Zone::named(unknown).err(), Some(format!("unknown time zone {unknown}")));
    }
    let data = ScheduleSpec { timezone_data: vec![1, 2, 3], ..Default::default() };
    assert_eq!(Zone::of(&data).err().as_deref(), Some("malformed time zone information"));
}

#[test]
fn a_spec_that_excludes_everything_ends_the_search() {
    let every = StructuredCalendarSpec {
        second: vec![Range { start: 0, end: 59, step: 1 }],
        minute: vec![Range { start: 0, end: 59, step: 1 }],
        hour: vec![Range { start: 0, end: 23, step: 1 }],
        day_of_month: vec![Range { start: 1, end: 31, step: 1 }],
        month: vec![Range { start: 1, end: 12, step: 1 }],
        day_of_week: vec![Range { start: 0, end: 6, step: 1 }],
        ..Default::default()
    };
    let spec = ScheduleSpec {
        structured_calendar: vec![every.clone()],
        exclude_structured_calendar: vec![every],
        ..Default::default()
    };
    let compiled = CompiledSpec::new(&spec, "n", "s").unwrap();
    assert!(compiled.next(ShardTime(0)).is_err());
}
