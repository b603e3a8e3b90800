//! Runs on a cron schedule: each next one begins at the next time of the schedule, with what the one before left.

use expect_test::expect;
use stanchion_engine::time::{SECOND, duration};

use crate::scenario::*;

fn every_minute(w: &mut World) -> String {
    w.start_with(|r| {
        r.cron_schedule = "* * * * *".into();
        r.input = Some(payloads("in"));
    })
}

fn seconds(seconds: i64) -> prost_types::Duration {
    duration(seconds * SECOND)
}

/// What fires within a day.
fn after_a_day(w: &mut World) -> String {
    w.pass(86_400);
    w.fire_timers();
    w.effects()
}

#[test]
fn the_first_run_waits_for_the_first_time() {
    let mut w = World::new();
    every_minute(&mut w);
    // T0 is 20 seconds past a minute.
    expect![[r#"
        1 WorkflowExecutionStarted input=in task-timeout=10s backoff=40s initiator=CronSchedule
    "#]]
    .assert_eq(&w.news());
    w.pass(39);
    w.fire_timers();
    expect!["nothing on offer"].assert_eq(&w.poll());
    w.pass(1);
    w.fire_timers();
    expect!["task 3 attempt 1"].assert_eq(&w.poll());
}

#[test]
fn a_completed_run_hands_its_result_to_the_next() {
    let mut w = World::new();
    every_minute(&mut w);
    w.pass(40);
    w.fire_timers();
    w.poll();
    w.pass(10);
    w.complete(vec![complete_workflow("one")]);
    expect![[r#"
        1 WorkflowExecutionStarted input=in task-timeout=10s backoff=40s initiator=CronSchedule
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=one new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted input=in task-timeout=10s backoff=50s continued=run-1 initiator=CronSchedule last-result=one
    "#]]
    .assert_eq(&w.news_of(2));
    w.pass(50);
    w.fire_timers();
    w.poll();
    // Over after more than two times have passed: they are left out.
    w.pass(130);
    w.complete(vec![fail_workflow("late")]);
    expect![[r#"
        1 WorkflowExecutionStarted input=in task-timeout=10s backoff=50s continued=run-2 initiator=CronSchedule continued-failure="late" last-result=one
    "#]]
    .assert_eq(&w.news_of(3));
}

#[test]
fn attempts_of_the_retry_policy_come_before_the_next_time() {
    let mut w = World::new();
    w.start_with(|r| {
        r.cron_schedule = "@every 1h".into();
        r.retry_policy = Some(retries(2));
    });
    w.pass(3600);
    w.fire_timers();
    w.poll();
    w.complete(vec![fail_workflow("first")]);
    w.pass(1);
    w.fire_timers();
    w.poll();
    w.complete(vec![fail_workflow("second")]);
    expect![[r#"
        1 WorkflowExecutionStarted attempt=2 task-timeout=10s backoff=1s continued=run-1 initiator=Retry continued-failure="first"
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionFailed failure="second" retry=MaximumAttemptsReached new-run=run-3
    "#]]
    .assert_eq(&w.news_of(2));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s backoff=3600s continued=run-2 initiator=CronSchedule continued-failure="second"
    "#]]
    .assert_eq(&w.news_of(3));
}

#[test]
fn a_run_that_times_out_is_followed_until_the_execution_does() {
    let mut w = World::new();
    w.start_with(|r| {
        r.cron_schedule = "@every 10s".into();
        r.workflow_run_timeout = Some(seconds(5));
        r.workflow_execution_timeout = Some(seconds(25));
    });
    w.pass(10);
    w.fire_timers();
    w.pass(5);
    w.fire_timers();
    expect![[r#"
        1 WorkflowExecutionStarted execution-timeout=25s run-timeout=5s task-timeout=5s backoff=10s initiator=CronSchedule
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTimedOut retry=RetryPolicyNotSet new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    w.pass(5);
    w.fire_timers();
    w.pass(5);
    w.fire_timers();
    expect![[r#"
        1 WorkflowExecutionStarted execution-timeout=25s run-timeout=5s task-timeout=5s backoff=5s continued=run-1 initiator=CronSchedule continued-failure="workflow timeout"
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTimedOut retry=Timeout
    "#]].assert_eq(&w.news_of(2));
}

#[test]
fn cancellation_and_termination_end_the_schedule() {
    let mut w = World::new();
    every_minute(&mut w);
    w.request_cancel();
    w.poll();
    w.complete(vec![cancel_workflow()]);
    expect!["nothing"].assert_eq(&after_a_day(&mut w));
    every_minute(&mut w);
    w.terminate();
    expect!["nothing"].assert_eq(&after_a_day(&mut w));
}

#[test]
fn a_continued_run_has_the_schedule_that_its_command_names() {
    let mut w = World::new();
    every_minute(&mut w);
    w.pass(40);
    w.fire_timers();
    w.poll();
    w.pass(1);
    w.complete(vec![continue_as_new("bare")]);
    w.poll();
    w.complete(vec![complete_workflow("end")]);
    expect!["nothing"].assert_eq(&after_a_day(&mut w));
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let mut w = World::new();
    let mut start = |spec: &str| w.start_with(|r| r.cron_schedule = spec.into());
    expect!["InvalidArgument: invalid CronSchedule."].assert_eq(&start("every day"));
    expect!["InvalidArgument: invalid CronSchedule, no time can be found to satisfy the schedule"]
        .assert_eq(&start("0 0 31 2 *"));
    let both = w.start_with(|r| {
        r.cron_schedule = "@daily".into();
        r.workflow_start_delay = Some(seconds(1));
    });
    expect!["InvalidArgument: CronSchedule and WorkflowStartDelay may not be used together."].assert_eq(&both);
}
