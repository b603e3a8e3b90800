//! Back-offs, and why there is no further attempt.

use super::*;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, TimeoutFailureInfo};

fn policy(initial: i64, coefficient: f64, maximum: i64) -> RetryPolicy {
    RetryPolicy {
        initial_interval: Some(duration(initial)),
        backoff_coefficient: coefficient,
        maximum_interval: Some(duration(maximum)),
        ..Default::default()
    }
}

fn application(kind: &str) -> ApplicationFailureInfo {
    ApplicationFailureInfo { r#type: kind.to_owned(), ..Default::default() }
}

fn failure(info: FailureInfo) -> Failure {
    Failure { failure_info: Some(info), ..Default::default() }
}

#[test]
fn the_interval_grows_by_the_coefficient_up_to_the_maximum() {
    let doubling = policy(SECOND, 2.0, 100 * SECOND);
    let seconds: Vec<i64> = (1..10).map(|attempt| backoff(&doubling, attempt) / SECOND).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
    assert_eq!(backoff(&policy(SECOND, 1.5, 100 * SECOND), 3), 2_250_000_000);
    assert_eq!(backoff(&policy(SECOND, 1.0, 100 * SECOND), 1_000_000), SECOND);
    assert_eq!(backoff(&doubling, i32::MAX), 100 * SECOND);
    assert_eq!(backoff(&policy(SECOND, 1e300, 100 * SECOND), 2), 100 * SECOND);
    assert_eq!(backoff(&policy(SECOND, f64::INFINITY, 100 * SECOND), 2), 100 * SECOND);
    assert_eq!(backoff(&policy(i64::MAX, 9e15, i64::MAX), 4), i64::MAX);
    assert_eq!(backoff(&policy(0, 2.0, SECOND), 5), 0);
}

#[test]
fn it_agrees_with_floating_point_to_a_millionth() {
    for (initial, coefficient, attempt) in [(200_000_000, 1.1, 30), (7, 3.3, 12), (SECOND, 1.000_1, 400)] {
        let exact = backoff(&policy(initial, coefficient, i64::MAX), attempt);
        let float = initial as f64 * coefficient.powi(attempt - 1);
        assert!(((exact as f64 - float) / float).abs() < 1e-6 || (exact as f64 - float).abs() < 1.0);
    }
}

#[test]
fn defaults_are_the_servers() {
    let filled = with_defaults(None);
    assert_eq!(filled.initial_interval, Some(duration(SECOND)));
    assert_eq!(filled.maximum_interval, Some(duration(100 * SECOND)));
    assert_eq!(filled.backoff_coefficient, 2.0);
    assert_eq!(filled.maximum_attempts, 0);
    let own = RetryPolicy { initial_interval: Some(duration(3 * SECOND)), ..Default::default() };
    assert_eq!(with_defaults(Some(&own)).maximum_interval, Some(duration(300 * SECOND)));
}

#[test]
fn attempts_types_and_deadlines_stop_it() {
    let mut rules = policy(SECOND, 2.0, 100 * SECOND);
    rules.maximum_attempts = 3;
    rules.non_retryable_error_types = vec!["Fatal".into(), "TemporalTimeout:Heartbeat".into()];
    let now = ShardTime(10 * SECOND);
    let ask = |attempt, info: FailureInfo, expires: Option<i64>| {
        next(&rules, attempt, Some(&failure(info)), now, expires.map(ShardTime))
    };
    let ordinary = || FailureInfo::ApplicationFailureInfo(application("Ordinary"));
    assert_eq!(ask(2, ordinary(), None), Next::After(2 * SECOND));
    assert_eq!(ask(3, ordinary(), None), Next::Stop(RetryState::MaximumAttemptsReached));
    assert_eq!(ask(2, ordinary(), Some(11 * SECOND)), Next::Stop(RetryState::Timeout));
    assert_eq!(ask(2, ordinary(), Some(12 * SECOND)), Next::After(2 * SECOND));
    let fatal = FailureInfo::ApplicationFailureInfo(application("Fatal"));
    assert_eq!(ask(1, fatal, None), Next::Stop(RetryState::NonRetryableFailure));
    let timeout = |kind: TimeoutType| {
        FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo { timeout_type: kind as i32, ..Default::default() })
    };
    assert_eq!(ask(1, timeout(TimeoutType::StartToClose), None), Next::After(SECOND));
    assert_eq!(ask(1, timeout(TimeoutType::Heartbeat), None), Next::Stop(RetryState::NonRetryableFailure));
    assert_eq!(ask(1, timeout(TimeoutType::ScheduleToStart), None), Next::Stop(RetryState::NonRetryableFailure));
    assert_eq!(next(&rules, 1, None, now, None), Next::After(SECOND));
    let late = ApplicationFailureInfo { next_retry_delay: Some(duration(300 * SECOND)), ..application("Slow") };
    assert_eq!(ask(1, FailureInfo::ApplicationFailureInfo(late), None), Next::After(300 * SECOND));
}
