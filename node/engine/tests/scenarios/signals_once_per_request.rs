//! A signal with a request id comes once, and signal-with-start is one step.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn the_same_request_signals_once() {
    let mut w = World::new();
    w.start();
    for _ in 0..2 {
        expect![["signaled"]].assert_eq(&w.signal_with("s", |r| r.request_id = "same".into()));
    }
    w.poll();
    w.signal_with("s", |r| r.request_id = "same".into());
    w.signal_with("t", |r| r.request_id = "other".into());
    w.complete(vec![]);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionSignaled name=s request=same
        4 WorkflowTaskStarted scheduled=2
        5 WorkflowTaskCompleted scheduled=2 started=4
        6 WorkflowExecutionSignaled name=t request=other
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn signal_with_start_starts_or_signals() {
    let mut w = World::new();
    expect!["started run-1"].assert_eq(&w.signal_with_start("s", |r| r.request_id = "r1".into()));
    expect!["existing open run-1"].assert_eq(&w.signal_with_start("s", |r| r.request_id = "r1".into()));
    expect!["existing open run-1"].assert_eq(&w.signal_with_start("s", |r| r.request_id = "r2".into()));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowExecutionSignaled name=s request=r1
        3 WorkflowTaskScheduled queue=tq
        4 WorkflowExecutionSignaled name=s request=r2
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_signal_to_nobody_is_not_found() {
    let mut w = World::new();
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&w.signal("s"));
    w.start();
    w.terminate();
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.signal("s"));
}

#[test]
fn signal_with_start_over_a_closed_run_starts_another_even_with_the_same_request() {
    let mut w = World::new();
    w.signal_with_start("s", |r| r.request_id = "same".into());
    w.terminate();
    expect!["started run-2"].assert_eq(&w.signal_with_start("s", |r| r.request_id = "same".into()));
}
