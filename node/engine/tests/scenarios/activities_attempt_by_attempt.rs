//! Activities: what the history says of them, attempt by attempt. Compared with what the real server records.

use expect_test::expect;
use stanchion_engine::time::{SECOND, duration};

use crate::scenario::*;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(duration(seconds * SECOND))
}

#[test]
fn a_completed_activity_brings_a_workflow_task() {
    let mut w = World::after(vec![schedule("a1")]);
    expect![[r#"
        offer activity 5 attempt 1 on tq
        run-1 next event 6 idle
    "#]]
    .assert_eq(&w.effects());
    let task = w.activity();
    expect!["a1 attempt 1 input=in"].assert_eq(&task_line(&task));
    expect![[r#"
        withdraw activity 5 attempt 1
        timer +30s
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
    "#]]
    .assert_eq(&w.news());
    expect!["done"].assert_eq(&w.pass(1).complete_activity(&task, "out"));
    expect![[r#"
        offer workflow 8 attempt 1 on tq
        clear timer +29s
        run-1 next event 9
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        6 ActivityTaskStarted scheduled=5
        7 ActivityTaskCompleted scheduled=5 started=6 result=out
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_held_poller_gets_the_activity_in_the_command_that_schedules_it() {
    let mut w = World::at_work();
    w.hold_activity_poller(QUEUE);
    w.complete(vec![schedule("a1"), schedule("a2")]);
    expect![[r#"
        offer activity 6 attempt 1 on tq
        timer +30s
        hand over activity to ticket 9
        run-1 next event 7 idle
    "#]]
    .assert_eq(&w.effects());
    let task = w.handed_over().unwrap();
    expect!["a1 attempt 1 input=in"].assert_eq(&task_line(&task));
    w.hold_poller(QUEUE);
    expect!["done"].assert_eq(&w.complete_activity(&task, "out"));
    expect![[r#"
        complete by +10s
        clear timer +30s
        hand over workflow to ticket 7
        run-1 next event 11
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskScheduled activity=a2
        7 ActivityTaskStarted scheduled=5
        8 ActivityTaskCompleted scheduled=5 started=7 result=out
        9 WorkflowTaskScheduled queue=tq
        10 WorkflowTaskStarted scheduled=9
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn an_eager_activity_is_in_the_answer_unless_it_was_canceled() {
    let mut w = World::at_work();
    let eager = |id: &str| schedule_with(id, |a| a.request_eager_execution = true);
    let answer = w.complete(vec![eager("a1"), eager("a2"), request_cancel_activity(6)]);
    assert!(answer.starts_with("completed"), "{answer}");
    expect![[r#"
        offer workflow 9 attempt 1 on tq
        timer +30s
        run-1 next event 10
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskScheduled activity=a2
        7 ActivityTaskCancelRequested scheduled=6
        8 ActivityTaskCanceled scheduled=6 started=0
        9 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn failed_attempts_leave_no_events_until_the_last() {
    let mut w = World::after(vec![schedule_with("a1", |a| a.retry_policy = policy(1, 3))]);
    let first = w.activity();
    w.fail_activity(&first, "one");
    expect![[r#"
        timer +1s
        clear timer +30s
    "#]]
    .assert_eq(&w.effects());
    expect!["done"].assert_eq(&w.fire_timers());
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer", "the back-off has not passed");
    w.pass(1).fire_timers();
    expect![[r#"
        offer activity 5 attempt 2 on tq
    "#]]
    .assert_eq(&w.effects());
    let second = w.activity();
    expect!["NotFound: invalid activityID or activity already timed out or invoking workflow is completed"]
        .assert_eq(&w.complete_activity(&first, "too late"));
    w.fail_activity(&second, "two");
    w.pass(1).fire_timers();
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer", "the second back-off is twice as long");
    w.pass(1).fire_timers();
    let third = w.activity();
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
    "#]]
    .assert_eq(&w.news());
    w.fail_activity(&third, "three");
    expect![[r#"
        6 ActivityTaskStarted scheduled=5 attempt=3 last-failure="two"
        7 ActivityTaskFailed scheduled=5 started=6 failure="three" retry=MaximumAttemptsReached
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_non_retryable_failure_is_final() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.fail_named(named(&task), Some(non_retryable("no use")));
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskStarted scheduled=5
        7 ActivityTaskFailed scheduled=5 started=6 failure="no use" retry=NonRetryableFailure
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_retry_that_would_begin_after_schedule_to_close_is_not_tried() {
    let mut w = World::after(vec![schedule_with("a1", |a| {
        a.schedule_to_close_timeout = seconds(3);
        a.start_to_close_timeout = seconds(2);
        a.retry_policy = policy(60, 0);
    })]);
    let task = w.activity();
    w.fail_activity(&task, "no time");
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskStarted scheduled=5
        7 ActivityTaskFailed scheduled=5 started=6 failure="no time" retry=Timeout
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn start_to_close_is_retried_and_then_recorded_with_its_cause() {
    let mut w = World::after(vec![schedule_with("a1", |a| {
        a.start_to_close_timeout = seconds(5);
        a.retry_policy = policy(1, 2);
    })]);
    let first = w.activity();
    w.pass(4).fire_timers();
    expect!["nothing"].assert_eq(&w.effects());
    w.pass(1).fire_timers();
    expect![[r#"
        timer +1s
        clear timer +0s
    "#]]
    .assert_eq(&w.effects());
    expect!["NotFound: invalid activityID or activity already timed out or invoking workflow is completed"]
        .assert_eq(&w.heartbeat(&first, "still here"));
    w.pass(1).fire_timers();
    w.activity();
    w.pass(5).fire_timers();
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskStarted scheduled=5 attempt=2 last-failure="activity StartToClose timeout"
        7 ActivityTaskTimedOut scheduled=5 started=6 failure="activity StartToClose timeout" retry=MaximumAttemptsReached
        8 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news());
}

#[test]
fn nobody_polls_before_schedule_to_start() {
    let mut w = World::after(vec![schedule_with("a1", |a| a.schedule_to_start_timeout = seconds(5))]);
    w.pass(5).fire_timers();
    expect![[r#"
        withdraw activity 5 attempt 1
        offer workflow 7 attempt 1 on tq
        clear timer +0s
        run-1 next event 8
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskTimedOut scheduled=5 started=0 failure="activity ScheduleToStart timeout" retry=Timeout
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn schedule_to_close_of_an_activity_that_nobody_polls_is_called_schedule_to_start() {
    let mut w = World::after(vec![schedule_with("a1", |a| {
        a.start_to_close_timeout = None;
        a.schedule_to_close_timeout = seconds(5);
    })]);
    w.pass(5).fire_timers();
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskTimedOut scheduled=5 started=0 failure="activity ScheduleToStart timeout" retry=Timeout
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn schedule_to_close_ends_a_running_attempt() {
    let mut w = World::after(vec![schedule_with("a1", |a| {
        a.start_to_close_timeout = None;
        a.schedule_to_close_timeout = seconds(5);
        a.retry_policy = policy(1, 0);
    })]);
    let task = w.activity();
    w.fail_activity(&task, "first");
    w.pass(1).fire_timers();
    w.activity();
    w.pass(4).fire_timers();
    expect![[r#"
        offer workflow 8 attempt 1 on tq
        clear timer +0s
        run-1 next event 9
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskStarted scheduled=5 attempt=2 last-failure="first"
        7 ActivityTaskTimedOut scheduled=5 started=6 failure="Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying" retry=Timeout
        8 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news());
}

#[test]
fn heartbeats_put_the_time_out_off_and_leave_their_details_to_the_next_attempt() {
    let mut w = World::after(vec![schedule_with("a1", |a| {
        a.heartbeat_timeout = seconds(4);
        a.retry_policy = policy(1, 2);
    })]);
    let task = w.activity();
    expect![[r#"
        withdraw activity 5 attempt 1
        timer +30s
        timer +4s
    "#]]
    .assert_eq(&w.effects());
    assert_eq!(w.pass(3).heartbeat(&task, "p1"), "alive");
    expect!["nothing"].assert_eq(&w.effects());
    w.pass(1).fire_timers();
    expect![[r#"
        timer +3s
    "#]]
    .assert_eq(&w.effects());
    w.pass(3).fire_timers();
    expect![[r#"
        timer +1s
        clear timer +23s
        clear timer +0s
    "#]]
    .assert_eq(&w.effects());
    w.pass(1).fire_timers();
    let task = w.activity();
    expect!["a1 attempt 2 input=in details=p1"].assert_eq(&task_line(&task));
    w.pass(4).fire_timers();
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskStarted scheduled=5 attempt=2 last-failure="activity Heartbeat timeout"
        7 ActivityTaskTimedOut scheduled=5 started=6 failure="activity Heartbeat timeout" retry=MaximumAttemptsReached
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn cancel_before_a_worker_has_it_cancels_at_once() {
    let mut w = World::after(vec![schedule("a1")]);
    w.signal("go");
    w.poll();
    w.complete(vec![request_cancel_activity(5)]);
    expect![[r#"
        withdraw activity 5 attempt 1
        offer workflow 12 attempt 1 on tq
        run-1 next event 13
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 WorkflowExecutionSignaled name=go
        7 WorkflowTaskScheduled queue=tq
        8 WorkflowTaskStarted scheduled=7
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 ActivityTaskCancelRequested scheduled=5
        11 ActivityTaskCanceled scheduled=5 started=0
        12 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
}

#[test]
fn cancel_during_a_back_off_cancels_at_once() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.fail_activity(&task, "first");
    w.signal("go");
    w.poll();
    w.complete(vec![request_cancel_activity(5)]);
    expect![[r#"
        offer workflow 12 attempt 1 on tq
        clear timer +1s
        run-1 next event 13
    "#]]
    .assert_eq(&w.effects());
    w.pass(100).fire_timers();
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
}

#[test]
fn a_worker_hears_of_the_cancellation_by_its_heartbeat() {
    let mut w = World::after(vec![schedule_with("a1", |a| a.heartbeat_timeout = seconds(30))]);
    let task = w.activity();
    assert_eq!(w.heartbeat(&task, "p"), "alive");
    expect!["InvalidArgument: unable to mark activity as canceled without activity being request canceled first"]
        .assert_eq(&w.cancel_activity(&task));
    w.signal("go");
    w.poll();
    w.complete(vec![request_cancel_activity(5)]);
    assert_eq!(w.heartbeat(&task, "p"), "cancel");
    expect!["done"].assert_eq(&w.cancel_activity(&task));
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 WorkflowExecutionSignaled name=go
        7 WorkflowTaskScheduled queue=tq
        8 WorkflowTaskStarted scheduled=7
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 ActivityTaskCancelRequested scheduled=5
        11 ActivityTaskStarted scheduled=5
        12 ActivityTaskCanceled scheduled=5 started=11
        13 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_failure_after_a_cancel_request_is_final() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.signal("go");
    w.poll();
    w.complete(vec![request_cancel_activity(5)]);
    w.fail_activity(&task, "while cancelling");
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 WorkflowExecutionSignaled name=go
        7 WorkflowTaskScheduled queue=tq
        8 WorkflowTaskStarted scheduled=7
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 ActivityTaskCancelRequested scheduled=5
        11 ActivityTaskStarted scheduled=5
        12 ActivityTaskFailed scheduled=5 started=11 failure="while cancelling" retry=CancelRequested
        13 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_bad_cancel_request_fails_the_workflow_task() {
    let mut w = World::after(vec![schedule("a1")]);
    w.activity();
    w.signal("go");
    w.poll();
    expect!["InvalidArgument: BadRequestCancelActivityAttributes: invalid history builder state for action: add-activitytask-cancel-requested-event, ScheduledEventID: 77"].assert_eq(&w.complete(vec![request_cancel_activity(77)]));
    w.poll();
    w.complete(vec![request_cancel_activity(5)]);
    w.signal("go");
    w.poll();
    expect!["InvalidArgument: BadRequestCancelActivityAttributes: invalid history builder state for action: add-activitytask-cancel-requested-event, ScheduledEventID: 5"].assert_eq(&w.complete(vec![request_cancel_activity(5)]));
}

#[test]
fn an_id_in_use_and_a_bound_fail_the_workflow_task() {
    let mut w = World::after(vec![schedule("a1")]);
    w.signal("go");
    w.poll();
    expect!["InvalidArgument: ScheduleActivityDuplicateId: invalid history builder state for action: add-activitytask-scheduled-event, ActivityID: a1"].assert_eq(&w.complete(vec![schedule("a2"), schedule("a1")]));
    w.bounds = Some(stanchion_proto::command::Bounds { pending_activities_max: 2, ..Default::default() });
    w.poll();
    expect!["InvalidArgument: PendingActivitiesLimitExceeded: the number of pending activities, 2, has reached the per-workflow limit of 2"].assert_eq(&w.complete(vec![schedule("a2"), schedule("a3")]));
    expect!["nothing"].assert_eq(&w.effects());
    let waiting: Vec<_> = w.offers.iter().map(|offer| offer.task.scheduled_event_id.0).collect();
    assert_eq!(waiting, [5], "nothing of the refused completions is on offer, what was before still is");
}

#[test]
fn results_wait_while_a_worker_has_the_workflow_task() {
    let mut w = World::after(vec![schedule("a1"), schedule("a2")]);
    let (first, second) = (w.activity(), w.activity());
    w.signal("s");
    w.poll();
    w.complete_activity(&second, "1");
    w.fail_named(named(&first), Some(non_retryable("f")));
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskScheduled activity=a2
        7 WorkflowExecutionSignaled name=s
        8 WorkflowTaskScheduled queue=tq
        9 WorkflowTaskStarted scheduled=8
    "#]]
    .assert_eq(&w.news());
    w.complete(vec![]);
    expect![[r#"
        10 WorkflowTaskCompleted scheduled=8 started=9
        11 ActivityTaskStarted scheduled=6
        12 ActivityTaskStarted scheduled=5
        13 ActivityTaskCompleted scheduled=6 started=11 result=1
        14 ActivityTaskFailed scheduled=5 started=12 failure="f" retry=NonRetryableFailure
        15 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_cancel_request_and_the_same_id_again_are_fine_while_the_result_is_unseen() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.signal("s");
    w.poll();
    w.complete_activity(&task, "r");
    assert_eq!(w.complete(vec![request_cancel_activity(5), schedule("a1")]), "completed");
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 WorkflowExecutionSignaled name=s
        7 WorkflowTaskScheduled queue=tq
        8 WorkflowTaskStarted scheduled=7
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 ActivityTaskCancelRequested scheduled=5
        11 ActivityTaskScheduled activity=a1
        12 ActivityTaskStarted scheduled=5
        13 ActivityTaskCompleted scheduled=5 started=12 result=r
        14 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn by_id_an_activity_can_be_completed_by_anybody() {
    let mut w = World::after(vec![schedule("a1"), schedule("a2")]);
    w.activity();
    expect!["done"].assert_eq(&w.complete_named(by_id("a1"), "r1"));
    expect!["NotFound: invalid activityID or activity already timed out or invoking workflow is completed"]
        .assert_eq(&w.fail_named(by_id("a2"), None));
    expect!["done"].assert_eq(&w.complete_named(by_id("a2"), "r2"));
    expect![[r#"
        withdraw activity 6 attempt 1
        run-1 next event 12
    "#]]
    .assert_eq(&w.effects());
    expect![
        "NotFound: cannot find pending activity with ActivityID a2, check workflow execution history for more details"
    ]
    .assert_eq(&w.complete_named(by_id("a2"), "r3"));
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskScheduled activity=a2
        7 ActivityTaskStarted scheduled=5
        8 ActivityTaskCompleted scheduled=5 started=7 result=r1
        9 WorkflowTaskScheduled queue=tq
        10 ActivityTaskStarted scheduled=6
        11 ActivityTaskCompleted scheduled=6 started=10 result=r2
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn an_oversized_result_or_heartbeat_fails_the_activity() {
    let mut w = World::after(vec![schedule("a1"), schedule("a2")]);
    let (first, second) = (w.activity(), w.activity());
    w.bounds = Some(stanchion_proto::command::Bounds { payload_bytes_max: 100, ..Default::default() });
    assert_eq!(w.heartbeat(&first, &"x".repeat(100)), "cancel");
    assert_eq!(w.complete_activity(&second, &"x".repeat(100)), "done");
    expect![[r#"
        5 ActivityTaskScheduled activity=a1
        6 ActivityTaskScheduled activity=a2
        7 ActivityTaskStarted scheduled=5
        8 ActivityTaskFailed scheduled=5 started=7 failure="Heartbeat details exceed size limit." retry=NonRetryableFailure
        9 WorkflowTaskScheduled queue=tq
        10 ActivityTaskStarted scheduled=6
        11 ActivityTaskFailed scheduled=6 started=10 failure="Complete result exceeds size limit." retry=NonRetryableFailure
    "#]].assert_eq(&w.news());
}

#[test]
fn an_oversized_input_fails_the_workflow_task_and_ends_the_run() {
    let mut w = World::at_work();
    w.bounds = Some(stanchion_proto::command::Bounds { payload_bytes_max: 100, ..Default::default() });
    let input = payloads(&"x".repeat(100));
    expect!["InvalidArgument: BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit."].assert_eq(&w.complete(vec![schedule("a1"), schedule_with("a2", |a| a.input = Some(input))]));
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=BadScheduleActivityAttributes failure="BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit." identity=worker
        5 WorkflowExecutionTerminated reason="BadScheduleActivityAttributes: ScheduleActivityTaskCommandAttributes.Input exceeds size limit." identity=history-service
    "#]].assert_eq(&w.news());
}

#[test]
fn a_closed_run_leaves_nothing_on_offer_or_due() {
    let mut w = World::after(vec![
        schedule_with("waits", |a| a.schedule_to_close_timeout = seconds(100)),
        schedule_with("runs", |a| a.heartbeat_timeout = seconds(10)),
        schedule("backs off"),
        start_timer("t", 50),
    ]);
    w.offers.rotate_left(1);
    let runs = w.activity();
    assert_eq!(runs.activity_id, "runs");
    let backs_off = w.activity();
    w.fail_activity(&backs_off, "first");
    w.terminate();
    expect![[r#"
        withdraw activity 5 attempt 1
        clear timer +100s
        clear timer +30s
        clear timer +10s
        clear timer +1s
        clear timer +50s
        run-1 next event 10 closed idle
    "#]]
    .assert_eq(&w.effects());
    assert!(w.offers.is_empty() && w.timer_keys().is_empty());
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.heartbeat(&runs, "p"));
}

#[test]
fn starting_again_with_the_same_request_gives_the_same_answer() {
    let mut w = World::after(vec![schedule("a1")]);
    let offer = w.offers[0].clone();
    let first = w.activity();
    w.offers.push(offer);
    assert_eq!(w.activity(), first, "the answer was lost on the way and asked for again");
}
