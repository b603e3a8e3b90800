//! A history over its bound ends the run; before that, workers are advised.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn too_many_events() {
    let mut w = World::new();
    w.bounds = Some(stanchion_proto::command::Bounds { history_events_max: 6, ..Default::default() });
    w.start();
    w.poll();
    for n in 0..3 {
        w.signal(&format!("s{n}"));
    }
    w.complete(vec![]);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionSignaled name=s0
        6 WorkflowExecutionSignaled name=s1
        7 WorkflowExecutionSignaled name=s2
        8 WorkflowTaskScheduled queue=tq
        9 WorkflowExecutionTerminated reason="Workflow history count exceeds limit." identity=history-service
    "#]]
    .assert_eq(&w.news());
    expect![[r#"
        run-1 next event 10 closed idle
    "#]]
    .assert_eq(&w.effects());
}

#[test]
fn advice_to_continue_as_new() {
    let mut w = World::new();
    w.bounds = Some(stanchion_proto::command::Bounds { suggest_continue_as_new_events: 6, ..Default::default() });
    w.start();
    w.poll();
    w.complete_with(vec![], |r| r.force_create_new_workflow_task = true);
    w.poll();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5 suggest-continue-as-new=yes
    "#]]
    .assert_eq(&w.news());
}
