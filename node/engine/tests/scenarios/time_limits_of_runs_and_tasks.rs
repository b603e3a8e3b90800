//! Time-outs of runs and workflow tasks, and the delay of a start.

use expect_test::expect;

use crate::scenario::*;

use stanchion_engine::time::{SECOND, duration};

#[test]
fn a_task_times_out_and_its_late_completion_is_refused() {
    let mut w = World::at_work();
    w.pass(9);
    expect![""].assert_eq(&w.fire_deadlines());
    w.pass(1);
    expect!["done"].assert_eq(&w.fire_deadlines());
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![complete_workflow("late")]));
    expect!["nothing"].assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskTimedOut scheduled=2 started=3 kind=StartToClose
    "#]]
    .assert_eq(&w.news());
    expect!["task 6 attempt 2"].assert_eq(&w.poll());
}

#[test]
fn a_run_times_out() {
    let mut w = World::new();
    w.start_with(|r| r.workflow_run_timeout = Some(duration(5 * SECOND)));
    expect![[r#"
        offer workflow 2 attempt 1 on tq
        timer +5s
        run-1 next event 3
    "#]]
    .assert_eq(&w.effects());
    w.poll();
    w.pass(5);
    w.fire_timers();
    expect![[r#"
        clear timer +0s
        run-1 next event 6 closed idle
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted run-timeout=5s task-timeout=5s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ForceCloseCommand identity=history-service
        5 WorkflowExecutionTimedOut retry=RetryPolicyNotSet
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_timer_of_a_closed_run_does_nothing() {
    let mut w = World::new();
    w.start_with(|r| r.workflow_run_timeout = Some(duration(5 * SECOND)));
    w.poll();
    w.complete(vec![complete_workflow("bye")]);
    expect![[r#"
        clear timer +5s
        run-1 next event 6 closed idle
    "#]]
    .assert_eq(&w.effects());
    w.pass(10);
    w.fire_timers();
    expect!["nothing"].assert_eq(&w.effects());
}

#[test]
fn the_execution_time_out_spans_retries() {
    let mut w = World::new();
    w.start_with(|r| {
        r.workflow_execution_timeout = Some(duration(3 * SECOND));
        r.retry_policy = Some(retries(0));
    });
    w.poll();
    w.pass(2);
    w.complete(vec![fail_workflow("once")]);
    expect![[r#"
        1 WorkflowExecutionStarted execution-timeout=3s run-timeout=3s task-timeout=3s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionFailed failure="once" retry=InProgress new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted attempt=2 execution-timeout=3s run-timeout=3s task-timeout=3s backoff=1s continued=run-1 initiator=Retry continued-failure="once"
    "#]].assert_eq(&w.news_of(2));
    w.pass(1);
    w.fire_timers();
    expect![[r#"
        2 WorkflowExecutionTimedOut retry=Timeout
    "#]]
    .assert_eq(&w.news_of(2));
}

#[test]
fn a_run_time_out_is_retried_by_policy() {
    let mut w = World::new();
    w.start_with(|r| {
        r.workflow_run_timeout = Some(duration(SECOND));
        r.retry_policy = Some(retries(2));
    });
    w.pass(1);
    w.fire_timers();
    expect![[r#"
        1 WorkflowExecutionStarted run-timeout=1s task-timeout=1s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTimedOut retry=InProgress new-run=run-2
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted attempt=2 run-timeout=1s task-timeout=1s backoff=1s continued=run-1 initiator=Retry continued-failure="workflow timeout"
    "#]].assert_eq(&w.news_of(2));
}

#[test]
fn a_delayed_start_is_not_woken_by_a_signal() {
    let mut w = World::new();
    w.start_with(|r| r.workflow_start_delay = Some(duration(2 * SECOND)));
    w.signal("early");
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s backoff=2s
        2 WorkflowExecutionSignaled name=early
    "#]]
    .assert_eq(&w.news());
    w.pass(1);
    w.fire_timers();
    expect!["nothing on offer"].assert_eq(&w.poll());
    w.pass(1);
    w.fire_timers();
    expect![[r#"
        3 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_cancel_request_does_not_wait_for_a_delayed_start() {
    let mut w = World::new();
    w.start_with(|r| r.workflow_start_delay = Some(duration(2 * SECOND)));
    w.request_cancel();
    expect![[r#"
        offer workflow 3 attempt 1 on tq
        clear timer +2s
        run-1 next event 4
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s backoff=2s
        2 WorkflowExecutionCancelRequested cause=enough
        3 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}
