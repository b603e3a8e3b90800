//! The shortest life of a run, and its variants: reserved pollers, eager start.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn one_task_completes_the_run() {
    let mut w = World::new();
    expect!["started run-1"].assert_eq(&w.start());
    expect![[r#"
        offer workflow 2 attempt 1 on tq
        run-1 next event 3
    "#]]
    .assert_eq(&w.effects());
    expect!["task 3 attempt 1"].assert_eq(&w.poll());
    expect![[r#"
        withdraw workflow 2 attempt 1
        complete by +10s
        run-1 next event 4
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        attempt 1, history 1..3, started 3
    "#]]
    .assert_eq(&w.given());
    expect!["completed"].assert_eq(&w.complete(vec![complete_workflow("bye")]));
    expect![[r#"
        run-1 next event 6 closed idle
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.history());
}

#[test]
fn a_held_poller_gets_the_task_in_the_same_command() {
    let mut w = World::new();
    w.hold_poller(QUEUE);
    expect!["started run-1"].assert_eq(&w.start());
    expect![[r#"
        complete by +10s
        hand over workflow to ticket 7
        run-1 next event 4
    "#]]
    .assert_eq(&w.effects());
    expect!["completed"].assert_eq(&w.complete(vec![marker("m"), complete_workflow("bye")]));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 MarkerRecorded name=m
        6 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.history());
}

#[test]
fn an_eager_starter_gets_the_first_task() {
    let mut w = World::new();
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_eager_execution = true));
    expect![[r#"
        complete by +10s
        run-1 next event 4
    "#]]
    .assert_eq(&w.effects());
    expect!["completed"].assert_eq(&w.complete(vec![complete_workflow("bye")]));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.history());
}

#[test]
fn a_token_works_once() {
    let mut w = World::new();
    w.start();
    w.poll();
    w.complete(vec![]);
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![]));
    expect!["NotFound: Workflow task not found."].assert_eq(&w.fail_task());
    w.signal("s");
    w.poll();
    w.complete(vec![complete_workflow("bye")]);
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![]));
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.fail_task());
}
