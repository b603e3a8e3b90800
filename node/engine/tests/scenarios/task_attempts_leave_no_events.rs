//! Attempts of a workflow task above the first leave no events until one completes.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn only_the_first_failure_and_the_success_are_events() {
    let mut w = World::at_work();
    expect!["done"].assert_eq(&w.fail_task());
    expect![[r#"
        offer workflow 5 attempt 2 on tq
        run-1 next event 5
    "#]]
    .assert_eq(&w.effects());
    expect!["task 6 attempt 2"].assert_eq(&w.poll());
    expect![[r#"
        attempt 2, history 1..4, started 6
        5 WorkflowTaskScheduled queue=tq attempt=2 (not stored)
        6 WorkflowTaskStarted scheduled=5 (not stored)
    "#]]
    .assert_eq(&w.given());
    w.fail_task();
    expect!["task 6 attempt 3"].assert_eq(&w.poll());
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
    "#]]
    .assert_eq(&w.news());
    w.complete(vec![complete_workflow("bye")]);
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq attempt=3
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_signal_turns_a_waiting_attempt_into_an_ordinary_task() {
    let mut w = World::at_work();
    w.fail_task();
    w.signal("s");
    expect!["task 7 attempt 1"].assert_eq(&w.poll());
    expect![[r#"
        withdraw workflow 5 attempt 2
        complete by +10s
        run-1 next event 8
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
    "#]]
    .assert_eq(&w.news());
    expect!["completed"].assert_eq(&w.complete(vec![complete_workflow("bye")]));
}

#[test]
fn a_signal_during_an_attempt_waits_behind_its_events() {
    let mut w = World::at_work();
    w.fail_task();
    w.poll();
    w.signal("s");
    w.complete(vec![]);
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        5 WorkflowTaskScheduled queue=tq attempt=2
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionSignaled name=s
        9 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn later_attempts_have_more_time() {
    let mut w = World::at_work();
    for _ in 0..3 {
        w.fail_task();
        w.poll();
    }
    expect![[r#"
        withdraw workflow 5 attempt 4
        complete by +15s
    "#]]
    .assert_eq(&w.effects());
}
