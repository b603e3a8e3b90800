//! Attempts of activities and histories: evidence as it should be passes, and each rule bites on evidence made to break it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stanchion_proof::check::histories::{self, Observation};
use stanchion_proof::check::{Standing, Verdict, attempts, report};
use stanchion_proof::history::RunHistory;
use stanchion_proof::ledger::{Handed, Line, Outcome, What};
use stanchion_proto::temporal::common::v1::{ActivityType, Payload, Payloads, RetryPolicy};
use stanchion_proto::temporal::enums::v1::TimeoutType;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, TimeoutFailureInfo};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::*;

const MS: u64 = 1_000_000;

fn line(at_ms: u64, attempt: u32, what: What) -> Line {
    Line {
        at: at_ms * MS,
        worker: "w".into(),
        workflow_id: "wf".into(),
        run_id: "run".into(),
        activity_id: "a".into(),
        attempt,
        token: format!("token-{attempt}"),
        what,
    }
}

/// Begun at once when the server started it; 100 ms from start to close, 50 ms between heartbeats.
fn began(at_ms: u64, attempt: u32, details: Value) -> Line {
    let started_at = (at_ms * MS) as i64;
    let (start_to_close, heartbeat) = (100 * MS as i64, 50 * MS as i64);
    line(
        at_ms,
        attempt,
        What::Began { handed: Handed { started_at, start_to_close, heartbeat, details, ..Handed::default() } },
    )
}

fn beats(at_ms: u64, attempt: u32, details: Value) -> Line {
    line(at_ms, attempt, What::Beats { details })
}

fn beat_ok(at_ms: u64, attempt: u32) -> Line {
    line(at_ms, attempt, What::BeatAcknowledged { details: Value::Null, cancel_requested: false })
}

fn ended(at_ms: u64, attempt: u32, outcome: Outcome) -> Line {
    line(at_ms, attempt, What::Ended { outcome })
}

fn ack(at_ms: u64, attempt: u32) -> Line {
    line(at_ms, attempt, What::Acknowledged)
}

fn failure() -> Outcome {
    Outcome::Failed { retryable: true, message: "no".into() }
}

fn done() -> Outcome {
    Outcome::Completed(json!(7))
}

/// The rules that are broken, over all verdicts of a ledger.
fn broken(verdicts: &[Verdict]) -> Vec<&str> {
    verdicts.iter().flat_map(|verdict| &verdict.violations).map(|violation| violation.rule.as_str()).collect()
}

#[track_caller]
fn breaks(lines: &[Line], rules: &[&str]) {
    let verdicts = attempts::ledger(lines);
    assert_eq!(broken(&verdicts), rules, "{}", report(&verdicts));
}

#[test]
fn a_failed_attempt_a_timed_out_one_and_a_completed_one() {
    let lines = [
        began(0, 1, Value::Null),
        beats(10, 1, json!(1)),
        beat_ok(11, 1),
        beats(20, 1, json!(2)),
        ended(30, 1, failure()),
        ack(31, 1),
        // The second heartbeat was not acknowledged: either is right.
        began(40, 2, json!(2)),
        began(140, 3, json!(2)),
        ended(150, 2, done()),
        line(151, 2, What::Refused { error: "superseded".into() }),
        ended(160, 3, done()),
        ack(161, 3),
    ];
    breaks(&lines, &[]);
    let verdicts = attempts::ledger(&lines);
    assert!(verdicts.iter().all(|verdict| verdict.standing() == Standing::Holds), "{}", report(&verdicts));
}

#[test]
fn a_step_that_runs_again_after_its_result_was_acknowledged() {
    breaks(&[began(0, 1, Value::Null), ended(10, 1, done()), ack(11, 1), began(200, 2, Value::Null)], &["D1"]);
    let fatal = Outcome::Failed { retryable: false, message: "never".into() };
    breaks(&[began(0, 1, Value::Null), ended(10, 1, fatal), ack(11, 1), began(200, 2, Value::Null)], &["D2"]);
}

#[test]
fn two_acknowledged_results() {
    let lines = [
        began(0, 1, Value::Null),
        began(120, 2, Value::Null),
        ended(130, 2, done()),
        ack(131, 2),
        ended(140, 1, done()),
        ack(141, 1),
    ];
    // The first one was superseded too, and the second began after what the first is said to have done.
    breaks(&lines, &["D1", "D1", "D4"]);
}

#[test]
fn an_attempt_that_begins_while_another_is_live() {
    breaks(&[began(0, 1, Value::Null), began(40, 2, Value::Null)], &["D3"]);
    // A result that was reported and not taken ends nothing.
    breaks(&[began(0, 1, Value::Null), ended(10, 1, done()), began(40, 2, Value::Null)], &["D3"]);
    // Past the deadline of heartbeats, or past the last acknowledged one's.
    breaks(&[began(0, 1, Value::Null), began(60, 2, Value::Null)], &[]);
    breaks(&[began(0, 1, Value::Null), beats(40, 1, json!(1)), beat_ok(41, 1), began(60, 2, json!(1))], &["D3"]);
    breaks(&[began(0, 1, Value::Null), beats(40, 1, json!(1)), beat_ok(41, 1), began(100, 2, json!(1))], &[]);
}

#[test]
fn a_superseded_attempt_that_is_heard() {
    let lines = [began(0, 1, Value::Null), began(120, 2, Value::Null), beats(130, 1, json!(1)), beat_ok(131, 1)];
    breaks(&lines, &["D4"]);
    // Sent before, and answered after: it was taken in time.
    let lines = [began(0, 1, Value::Null), ended(40, 1, failure()), began(50, 2, Value::Null), ack(51, 1)];
    breaks(&lines, &[]);
}

#[test]
fn details_that_are_old_lost_or_from_nowhere() {
    let with = |details: Value| {
        [
            began(0, 1, Value::Null),
            beats(10, 1, json!(1)),
            beat_ok(11, 1),
            beats(20, 1, json!(2)),
            beat_ok(21, 1),
            beats(30, 1, json!(3)),
            ended(40, 1, failure()),
            ack(41, 1),
            began(50, 2, details),
        ]
    };
    breaks(&with(json!(2)), &[]);
    breaks(&with(json!(3)), &[]);
    for wrong in [json!(1), Value::Null, json!(9)] {
        breaks(&with(wrong), &["D5"]);
    }
}

#[test]
fn an_attempt_that_two_workers_got() {
    let mut second = began(5, 1, Value::Null);
    second.worker = "other".into();
    breaks(&[began(0, 1, Value::Null), second], &["H1"]);
}

// --- with histories -----------------------------------------------------------------------------------------------------------------

fn event(event_id: i64, at_ms: u64, attributes: Attributes) -> HistoryEvent {
    let nanos = at_ms * MS;
    let event_time =
        Some(prost_types::Timestamp { seconds: (nanos / 1_000_000_000) as i64, nanos: (nanos % 1_000_000_000) as i32 });
    HistoryEvent { event_id, event_time, attributes: Some(attributes), ..HistoryEvent::default() }
}

fn millis(ms: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: (ms / 1_000) as i64, nanos: (ms % 1_000 * MS) as i32 })
}

fn scheduled() -> Attributes {
    Attributes::ActivityTaskScheduledEventAttributes(ActivityTaskScheduledEventAttributes {
        activity_id: "a".into(),
        activity_type: Some(ActivityType { name: "step".into() }),
        start_to_close_timeout: millis(100),
        retry_policy: Some(RetryPolicy {
            initial_interval: millis(50),
            backoff_coefficient: 2.0,
            maximum_attempts: 3,
            ..RetryPolicy::default()
        }),
        ..ActivityTaskScheduledEventAttributes::default()
    })
}

fn started(attempt: i32) -> Attributes {
    Attributes::ActivityTaskStartedEventAttributes(ActivityTaskStartedEventAttributes {
        scheduled_event_id: 1,
        attempt,
        ..ActivityTaskStartedEventAttributes::default()
    })
}

fn completed(value: Value) -> Attributes {
    let payload = Payload { data: value.to_string().into_bytes().into(), ..Payload::default() };
    Attributes::ActivityTaskCompletedEventAttributes(ActivityTaskCompletedEventAttributes {
        result: Some(Payloads { payloads: vec![payload] }),
        scheduled_event_id: 1,
        started_event_id: 2,
        ..ActivityTaskCompletedEventAttributes::default()
    })
}

fn timed_out(kind: TimeoutType) -> Attributes {
    let info = TimeoutFailureInfo { timeout_type: kind as i32, ..TimeoutFailureInfo::default() };
    Attributes::ActivityTaskTimedOutEventAttributes(ActivityTaskTimedOutEventAttributes {
        failure: Some(Failure { failure_info: Some(FailureInfo::TimeoutFailureInfo(info)), ..Failure::default() }),
        scheduled_event_id: 1,
        started_event_id: 2,
        ..ActivityTaskTimedOutEventAttributes::default()
    })
}

fn run(events: Vec<HistoryEvent>) -> Vec<RunHistory> {
    vec![RunHistory { workflow_id: "wf".into(), run_id: "run".into(), events }]
}

#[track_caller]
fn rules(verdict: Verdict, expected: &[&str]) {
    assert_eq!(broken(std::slice::from_ref(&verdict)), expected, "{}", report(std::slice::from_ref(&verdict)));
    assert!(verdict.looked_at > 0);
}

#[test]
fn an_acknowledged_result_that_the_history_does_not_have() {
    let lines = [began(0, 1, Value::Null), ended(10, 1, done()), ack(11, 1)];
    let history = |attempt, value| {
        run(vec![event(1, 0, scheduled()), event(2, 0, started(attempt)), event(3, 10, completed(value))])
    };
    rules(attempts::ledger_matches_histories(&lines, &history(1, json!(7))), &[]);
    // Another value, another attempt, nothing: what the history has then was reported by nobody.
    rules(attempts::ledger_matches_histories(&lines, &history(1, json!(8))), &["D1", "D1"]);
    rules(attempts::ledger_matches_histories(&lines, &history(2, json!(7))), &["D1", "D1"]);
    rules(attempts::ledger_matches_histories(&lines, &run(vec![event(1, 0, scheduled())])), &["D1"]);
    rules(attempts::ledger_matches_histories(&lines, &[]), &["D1"]);
}

#[test]
fn attempts_too_many_or_too_soon() {
    let history =
        |attempt| run(vec![event(1, 0, scheduled()), event(2, 0, started(attempt)), event(3, 10, completed(json!(7)))]);
    let failed_then = |at| [began(0, 1, Value::Null), ended(10, 1, failure()), ack(11, 1), began(at, 2, Value::Null)];
    rules(attempts::policies(&failed_then(61), &history(2)), &[]);
    rules(attempts::policies(&failed_then(40), &history(2)), &["D2"]);
    rules(attempts::policies(&failed_then(61), &history(4)), &["D2"]);
}

#[test]
fn a_time_out_before_its_time() {
    let history =
        |at, kind| run(vec![event(1, 0, scheduled()), event(2, 0, started(1)), event(3, at, timed_out(kind))]);
    rules(attempts::timeouts(&history(100, TimeoutType::StartToClose)), &[]);
    rules(attempts::timeouts(&history(99, TimeoutType::StartToClose)), &["D6"]);
    assert_eq!(attempts::timeouts(&history(1, TimeoutType::ScheduleToClose)).standing(), Standing::Vacuous);
}

// --- histories as several told them --------------------------------------------------------------------------------------------------

fn signal(event_id: i64, name: &str) -> HistoryEvent {
    let attributes = WorkflowExecutionSignaledEventAttributes { signal_name: name.into(), ..Default::default() };
    event(event_id, 0, Attributes::WorkflowExecutionSignaledEventAttributes(attributes))
}

fn opened() -> HistoryEvent {
    let attributes =
        WorkflowExecutionStartedEventAttributes { original_execution_run_id: "run".into(), ..Default::default() };
    event(1, 0, Attributes::WorkflowExecutionStartedEventAttributes(attributes))
}

fn closed(event_id: i64) -> HistoryEvent {
    event(event_id, 0, Attributes::WorkflowExecutionTerminatedEventAttributes(Default::default()))
}

#[test]
fn gaps_and_events_after_the_end_are_found() {
    rules(histories::rules(&run(vec![opened(), signal(2, "x"), closed(3)])), &[]);
    rules(histories::rules(&run(vec![opened(), signal(3, "x")])), &["B1"]);
    rules(histories::rules(&run(vec![opened(), closed(2), signal(3, "x")])), &["B5"]);
    rules(histories::all_closed(&run(vec![opened(), closed(2)])), &[]);
    rules(histories::all_closed(&run(vec![opened()])), &["C4"]);
}

fn seen(began: u64, ended: u64, events: Vec<HistoryEvent>) -> Observation {
    Observation { workflow_id: "wf".into(), run_id: "run".into(), node: "n1".into(), began, ended, events }
}

#[test]
fn a_history_that_was_read_and_is_another_one_later() {
    let last = run(vec![opened(), signal(2, "x"), signal(3, "y")]);
    rules(histories::prefixes(&[seen(0, 1, vec![opened(), signal(2, "x")])], &last), &[]);
    rules(histories::prefixes(&[seen(0, 1, vec![opened(), signal(2, "other")])], &last), &["B1"]);
    rules(histories::prefixes(&[seen(0, 1, vec![opened()]), seen(2, 3, vec![])], &last), &["B3"]);
    rules(histories::prefixes(&[seen(0, 3, vec![opened()]), seen(2, 4, vec![])], &last), &[]);
    rules(histories::prefixes(&[seen(0, 1, vec![opened()])], &[]), &["B1"]);
}

#[test]
fn nodes_that_tell_different_histories() {
    let one = run(vec![opened(), signal(2, "x")]);
    let judge = |other: Vec<RunHistory>| {
        histories::equal_on_all_nodes(&BTreeMap::from([("n1".to_owned(), one.clone()), ("n2".to_owned(), other)]))
    };
    rules(judge(one.clone()), &[]);
    rules(judge(run(vec![opened(), signal(2, "y")])), &["B2"]);
    rules(judge(run(vec![opened()])), &["B2"]);
    assert_eq!(broken(&[judge(Vec::new())]), ["B2"]);
}
