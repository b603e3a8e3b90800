//! Next times by the calendar, through zones and their changes of time.

use super::*;

/// 2026-11-21T07:35:42.739233Z, a Saturday.
const NOW: ShardTime = ShardTime(1_795_246_542_739_233_000);

fn time(text: &str) -> ShardTime {
    ShardTime(i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap())
}

fn next(spec: &str, after: ShardTime) -> String {
    match Cron::check(spec, after) {
        Ok(cron) => Timestamp::from_nanosecond(cron.next(after).unwrap().0.into()).unwrap().to_string(),
        Err(error) => error.to_string(),
    }
}

/// Each as the real server was seen to answer.
#[test]
fn next_times_are_the_real_servers() {
    for (spec, expected) in [
        ("@every 1s", "2026-11-21T07:35:43Z"),
        ("@every 500ms", "2026-11-21T07:35:43Z"),
        ("@every -5s", "2026-11-21T07:35:43Z"),
        ("@every 0s", "2026-11-21T07:35:43Z"),
        ("@every 1.5s", "2026-11-21T07:35:43Z"),
        ("@every 1h30m", "2026-11-21T09:05:42Z"),
        ("@hourly", "2026-11-21T08:00:00Z"),
        ("@daily", "2026-11-22T00:00:00Z"),
        ("@weekly", "2026-11-22T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("CRON_TZ=Europe/Berlin 0 5 * * *", "2026-11-22T04:00:00Z"),
        ("TZ=UTC 0 5 * * *", "2026-11-22T05:00:00Z"),
        ("0 0 ? * MON", "2026-11-23T00:00:00Z"),
        ("0 0 * * SUN-TUE", "2026-11-22T00:00:00Z"),
        ("0 0 * JAN-MAR *", "2027-01-01T00:00:00Z"),
        (" 0  5 * * *", "2026-11-22T05:00:00Z"),
        ("0 0 1-5/2 * *", "2026-12-01T00:00:00Z"),
        ("1,2,3 * * * *", "2026-11-21T08:01:00Z"),
        ("1/15 * * * *", "2026-11-21T07:46:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("59 23 31 12 5", "2026-12-04T23:59:00Z"),
        ("* * * * *", "2026-11-21T07:36:00Z"),
    ] {
        assert_eq!(next(spec, NOW), expected, "{spec}");
    }
}

#[test]
fn what_the_real_server_refuses_is_refused() {
    for spec in [
        "bad",
        "",
        "* * * *",
        "60 * * * *",
        "@every",
        "@every x",
        "@every 1d",
        "@reboot",
        "@Daily",
        "* * * * * *",
        "CRON_TZ=No/Where 0 5 * * *",
        "CRON_TZ=europe/berlin 0 5 * * *",
        "CRON_TZ=",
        "0 0 * * 7",
        "0 0 L * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "a b c d e",
        "* * * * MON#2",
        ", * * * *",
    ] {
        assert_eq!(next(spec, NOW), "invalid CronSchedule.", "{spec}");
    }
    assert_eq!(next("0 0 31 2 *", NOW), "invalid CronSchedule, no time can be found to satisfy the schedule");
}

#[test]
fn a_skipped_hour_does_not_come_and_a_repeated_one_comes_twice() {
    let berlin = "CRON_TZ=Europe/Berlin 30 2 * * *";
    assert_eq!(next(berlin, time("2026-03-28T12:00:00Z")), "2026-03-30T00:30:00Z");
    assert_eq!(next(berlin, time("2026-10-24T12:00:00Z")), "2026-10-25T00:30:00Z");
    assert_eq!(next(berlin, time("2026-10-25T00:30:00Z")), "2026-10-25T01:30:00Z");
    assert_eq!(next(berlin, time("2026-10-25T01:30:00Z")), "2026-10-26T01:30:00Z");
}

#[test]
fn the_wait_is_whole_seconds_to_the_first_time_that_has_not_passed() {
    let wait = |spec: &str, started: &str, now: &str| {
        Cron::parse(spec).unwrap().backoff(time(started), time(now)).unwrap() / SECOND
    };
    assert_eq!(wait("@hourly", "2026-11-21T07:35:42.7Z", "2026-11-21T07:35:42.7Z"), 24 * 60 + 18);
    assert_eq!(wait("@every 10s", "2026-11-21T07:00:00Z", "2026-11-21T07:00:03.5Z"), 7);
    assert_eq!(wait("@every 10s", "2026-11-21T07:00:00Z", "2026-11-21T07:00:33.5Z"), 7);
    assert_eq!(wait("@every 10s", "2026-11-21T07:00:00Z", "2026-11-21T07:00:30Z"), 0);
    assert_eq!(wait("0 * * * *", "2026-11-21T07:00:00Z", "2026-11-21T10:59:59.5Z"), 1);
    assert_eq!(wait("0 * * * *", "2026-11-21T07:00:00Z", "2026-11-21T10:00:00Z"), 0);
}
