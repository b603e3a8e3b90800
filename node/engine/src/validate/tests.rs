//! The words of refusals, as the real server was seen to say them.

use std::collections::BTreeMap;

use prost_types::Duration;
use stanchion_proto::temporal::command::v1::*;
use stanchion_proto::temporal::common::v1::{ActivityType, Payload, Payloads, RetryPolicy, SearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use super::*;
use crate::time::SECOND;

const LIMIT: usize = 2 * 1024 * 1024;

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn schedule() -> ScheduleActivityTaskCommandAttributes {
    ScheduleActivityTaskCommandAttributes {
        activity_id: "a1".into(),
        activity_type: Some(ActivityType { name: "act".into() }),
        task_queue: Some(TaskQueue { name: "tq".into(), ..Default::default() }),
        start_to_close_timeout: seconds(30),
        ..Default::default()
    }
}

fn refusal(change: impl FnOnce(&mut ScheduleActivityTaskCommandAttributes)) -> String {
    let mut attributes = schedule();
    change(&mut attributes);
    activity::schedule(Some(&attributes), 0, LIMIT).unwrap_err().to_string()
}

#[test]
fn schedule_activity_is_refused_in_the_servers_words() {
    let said = [
        refusal(|a| a.activity_id.clear()),
        refusal(|a| a.activity_id = "x".repeat(1001)),
        refusal(|a| a.activity_type = None),
        refusal(|a| a.task_queue = Some(TaskQueue::default())),
        refusal(|a| a.task_queue = Some(TaskQueue { name: "x".repeat(1001), ..Default::default() })),
        refusal(|a| a.start_to_close_timeout = None),
        refusal(|a| a.heartbeat_timeout = seconds(-1)),
        refusal(|a| a.schedule_to_start_timeout = seconds(-1)),
        refusal(|a| a.retry_policy = Some(RetryPolicy { backoff_coefficient: 0.5, ..Default::default() })),
        refusal(|a| a.retry_policy = Some(RetryPolicy { maximum_attempts: -1, ..Default::default() })),
        activity::schedule(None, 0, LIMIT).unwrap_err().to_string(),
    ];
    expect_test::expect![[r#"
        BadScheduleActivityAttributes: activityId is not set
        BadScheduleActivityAttributes: activityId exceeds length limit. Length=1001 Limit=1000
        BadScheduleActivityAttributes: activityType is not set
        BadScheduleActivityAttributes: missing task queue name
        BadScheduleActivityAttributes: taskQueue length exceeds limit
        BadScheduleActivityAttributes: a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId=a1 ActivityType=act
        BadScheduleActivityAttributes: invalid HeartbeatTimeout: negative duration
        BadScheduleActivityAttributes: invalid ScheduleToStartTimeout: negative duration
        BadScheduleActivityAttributes: BackoffCoefficient cannot be less than 1 on retry policy.
        BadScheduleActivityAttributes: MaximumAttempts cannot be negative on retry policy.
        BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes is not set on ScheduleActivityTaskCommand.
    "#]]
    .assert_eq(&(said.join("\n") + "\n"));
}

#[test]
fn time_outs_are_filled_in_and_cut_under_the_run_time_out() {
    // close, start, start-to-close, heartbeat in; the same out, under a run time-out of 100 s. As recorded from the real server.
    let cases = [
        ([0, 0, 30, 0], [100, 100, 30, 0]),
        ([20, 0, 0, 0], [20, 20, 20, 0]),
        ([20, 0, 50, 0], [20, 20, 20, 0]),
        ([900, 0, 500, 0], [100, 100, 100, 0]),
        ([0, 5, 30, 60], [100, 5, 30, 30]),
        ([0, 0, 30, 600], [100, 100, 30, 30]),
    ];
    for (given, expected) in cases {
        let some = |s: i64| (s != 0).then_some(Duration { seconds: s, nanos: 0 });
        let attributes = ScheduleActivityTaskCommandAttributes {
            schedule_to_close_timeout: some(given[0]),
            schedule_to_start_timeout: some(given[1]),
            start_to_close_timeout: some(given[2]),
            heartbeat_timeout: some(given[3]),
            ..schedule()
        };
        let plan = activity::schedule(Some(&attributes), 100 * SECOND, LIMIT).unwrap();
        let got = [
            plan.schedule_to_close_timeout,
            plan.schedule_to_start_timeout,
            plan.start_to_close_timeout,
            plan.heartbeat_timeout,
        ];
        assert_eq!(got.map(|nanos| nanos / SECOND), expected, "{given:?}");
    }
    let attributes = schedule();
    let plan = activity::schedule(Some(&attributes), 0, LIMIT).unwrap();
    assert_eq!((plan.schedule_to_close_timeout, plan.schedule_to_start_timeout), (0, 0), "no run time-out, no cap");
}

#[test]
fn an_oversized_payload_ends_the_run() {
    let payload = Payload { data: vec![0; LIMIT].into(), ..Default::default() };
    let attributes =
        ScheduleActivityTaskCommandAttributes { input: Some(Payloads { payloads: vec![payload] }), ..schedule() };
    let refusal = activity::schedule(Some(&attributes), 0, LIMIT).unwrap_err();
    assert!(refusal.ends_run);
    assert_eq!(
        refusal.to_string(),
        "BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit."
    );
}

#[test]
fn other_commands_are_refused_in_the_servers_words() {
    let start = |id: &str, timeout| {
        let attributes = StartTimerCommandAttributes { timer_id: id.into(), start_to_fire_timeout: timeout };
        timer::start(Some(&attributes)).unwrap_err().to_string()
    };
    let continued =
        ContinueAsNewWorkflowExecutionCommandAttributes { workflow_run_timeout: seconds(-1), ..Default::default() };
    let said = [
        start("", seconds(1)),
        start("t1", seconds(-1)),
        timer::start(None).unwrap_err().to_string(),
        timer::cancel(Some(&Default::default())).unwrap_err().to_string(),
        marker::record(Some(&Default::default()), LIMIT).unwrap_err().to_string(),
        properties::modify(Some(&Default::default()), LIMIT).unwrap_err().to_string(),
        properties::upsert_search_attributes(Some(&Default::default()), LIMIT).unwrap_err().to_string(),
        close::complete(None, LIMIT).unwrap_err().to_string(),
        close::fail(Some(&Default::default()), LIMIT).unwrap_err().to_string(),
        close::continue_as_new(Some(&continued), "Demo", "tq", LIMIT, LIMIT).unwrap_err().to_string(),
        activity::request_cancel(Some(&Default::default())).unwrap_err().to_string(),
    ];
    expect_test::expect![[r#"
        BadStartTimerAttributes: TimerId is not set on StartTimerCommand.
        BadStartTimerAttributes: An invalid StartToFireTimeout is set on StartTimerCommand: negative duration. TimerId=t1
        BadStartTimerAttributes: StartTimerCommandAttributes is not set on StartTimerCommand.
        BadCancelTimerAttributes: TimerId is not set on CancelTimerCommand.
        BadRecordMarkerAttributes: MarkerName is not set on RecordMarkerCommand.
        BadModifyWorkflowPropertiesAttributes: UpsertedMemo is not set on ModifyWorkflowPropertiesCommand.
        BadSearchAttributes: SearchAttributes is not set on UpsertWorkflowSearchAttributesCommand.
        BadCompleteWorkflowExecutionAttributes: CompleteWorkflowExecutionCommandAttributes is not set on CompleteWorkflowExecutionCommand.
        BadFailWorkflowExecutionAttributes: Failure is not set on FailWorkflowExecutionCommand.
        BadContinueAsNewAttributes: Invalid WorkflowRunTimeout on ContinueAsNewWorkflowExecutionCommand: negative duration. WorkflowType=Demo TaskQueue=name:"tq"  kind:TASK_QUEUE_KIND_NORMAL
        BadRequestCancelActivityAttributes: ScheduledEventId is not set on RequestCancelActivityTaskCommand.
    "#]]
    .assert_eq(&(said.join("\n") + "\n"));
}

#[test]
fn search_attributes_are_known_and_of_their_type() {
    let known = BTreeMap::from([
        ("CustomInt".to_owned(), IndexedValueType::Int as i32),
        ("CustomTime".to_owned(), IndexedValueType::Datetime as i32),
        ("CustomList".to_owned(), IndexedValueType::KeywordList as i32),
    ]);
    let check = |name: &str, json: &'static str| {
        let metadata = [("encoding".to_owned(), "json/plain".into())].into();
        let payload = Payload { metadata, data: json.into(), ..Default::default() };
        let mut given = SearchAttributes { indexed_fields: BTreeMap::from([(name.to_owned(), payload)]) };
        search_attributes::check("default", &known, Some(&mut given))
            .map(|()| String::from_utf8_lossy(&given.indexed_fields[name].metadata["type"]).into_owned())
    };
    assert_eq!(check("CustomInt", "5").unwrap(), "Int");
    assert_eq!(check("CustomInt", "null").unwrap(), "Int");
    assert_eq!(check("CustomTime", "\"2026-01-02T03:04:05.5Z\"").unwrap(), "Datetime");
    assert_eq!(check("CustomList", "[\"a\", \"b\\\"]\"]").unwrap(), "KeywordList");
    assert!(check("CustomList", "[\"a\" 5]").is_err());
    assert!(check("CustomTime", "\"yesterday\"").is_err());
    assert_eq!(check("CustomInt", "\"a\"").unwrap_err(), "invalid value for search attribute CustomInt of type Int: a");
    let printed = |json| check("CustomTime", json).unwrap_err().rsplit_once(": ").unwrap().1.to_owned();
    assert_eq!(printed("[1, 2.50, 9223372036854775808, 0.00001, null]"), "[1 2.5 9.223372036854776e+18 1e-05 <nil>]");
    assert_eq!(printed("5 5"), "value from <metadata:{key:\"encoding\" value:\"json/plain\"} data:\"5 5\">");
    assert!(check("CustomInt", r#"{"b":1,"a":[true]}"#).unwrap_err().ends_with(": map[a:[true] b:1]"));
    assert_eq!(check("Nope", "1").unwrap_err(), "Namespace default has no mapping defined for search attribute Nope");
    assert_eq!(
        check("ExecutionStatus", "1").unwrap_err(),
        "ExecutionStatus attribute can't be set in SearchAttributes"
    );
}
