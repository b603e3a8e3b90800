//! Deletion by a caller and by retention: nobody finds the run, and in the end no row of it is left.

use expect_test::expect;
use stanchion_engine::time::SECOND;
use stanchion_engine::{RunKey, StateReader, Table, keys};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{DeleteWorkflow, RunRef};

use crate::scenario::*;

fn delete(w: &mut World, run_id: &str) -> String {
    let run = RunRef { workflow_id: WORKFLOW.into(), run_id: run_id.into() };
    let reply = w.apply(Kind::DeleteWorkflow(DeleteWorkflow { run: Some(run) }));
    w.shown(&reply)
}

/// Rows of any table that name the run.
fn rows(w: &World, run_id: &str) -> usize {
    let key = RunKey { namespace_id: NAMESPACE.into(), workflow_id: WORKFLOW.into(), run_id: run_id.into() };
    let prefix = keys::run(&key);
    [Table::Run, Table::Activity, Table::Timer, Table::Pending, Table::History, Table::Dedup]
        .into_iter()
        .map(|table| w.state.range(key.slot(), table, &prefix, &keys::after(&prefix), usize::MAX).unwrap().len())
        .sum()
}

fn timer_rows(w: &World) -> usize {
    let slot = RunKey { namespace_id: NAMESPACE.into(), workflow_id: WORKFLOW.into(), run_id: String::new() }.slot();
    w.state.range(slot, Table::TimerQueue, &[], &[], usize::MAX).unwrap().len()
}

#[test]
fn an_open_run_is_terminated_and_gone() {
    let mut w = World::new();
    w.start();
    w.signal_with("s", |r| r.request_id = "once".into());
    w.poll();
    w.complete(vec![start_timer("t", 60), schedule("a")]);
    expect!["done"].assert_eq(&delete(&mut w, ""));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionSignaled name=s request=once
        4 WorkflowTaskStarted scheduled=2
        5 WorkflowTaskCompleted scheduled=2 started=4
        6 TimerStarted timer=t after=60s
        7 ActivityTaskScheduled activity=a
        8 WorkflowExecutionTerminated reason="Delete workflow execution" identity=history-service
    "#]]
    .assert_eq(&w.news());
    // Its last event can be read for a moment by those who waited for it.
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&w.signal("late"));
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&delete(&mut w, ""));
    let first = w.run_id(1);
    expect![[r#"NotFound: workflow execution not found for workflow ID "wf" and run ID "run-1""#]]
        .assert_eq(&delete(&mut w, &first));
    w.pass(1);
    w.fire_timers();
    assert_eq!((rows(&w, &first), timer_rows(&w)), (0, 0));
    expect!["started run-2"].assert_eq(&w.start());
}

#[test]
fn a_closed_run_goes_when_its_retention_is_over() {
    let mut w = World::new();
    w.retention = 3600 * SECOND;
    w.start();
    w.poll();
    w.complete(vec![complete_workflow("done")]);
    let first = w.run_id(1);
    w.pass(3599);
    w.fire_timers();
    assert_ne!(rows(&w, &first), 0);
    w.pass(1);
    w.fire_timers();
    assert_eq!((rows(&w, &first), timer_rows(&w)), (0, 0));
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&w.terminate());
}

#[test]
fn a_run_of_a_chain_goes_alone() {
    let mut w = World::new();
    w.retention = 3600 * SECOND;
    w.start();
    w.poll();
    w.pass(2);
    w.complete(vec![continue_as_new("two")]);
    let (first, second) = (w.run_id(1), w.run_id(2));
    expect!["done"].assert_eq(&delete(&mut w, &first));
    w.pass(1);
    w.fire_timers();
    assert_eq!(rows(&w, &first), 0);
    expect!["signaled"].assert_eq(&w.signal("still there"));
    w.poll();
    w.complete(vec![complete_workflow("end")]);
    w.pass(3600);
    w.fire_timers();
    assert_eq!((rows(&w, &second), timer_rows(&w)), (0, 0));
}

#[test]
fn a_long_history_goes_in_steps() {
    let mut w = World::new();
    w.start();
    for _ in 0..1500 {
        w.signal("s");
    }
    let first = w.run_id(1);
    delete(&mut w, "");
    w.pass(1);
    let mut steps = 0;
    while timer_rows(&w) > 0 {
        let before = rows(&w, &first);
        w.fire_timers();
        assert!(before - rows(&w, &first) <= 1100, "one step deleted too much");
        steps += 1;
    }
    assert_eq!((rows(&w, &first), steps), (0, 2));
}

#[test]
fn an_unknown_run_is_not_found() {
    let mut w = World::new();
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&delete(&mut w, ""));
}
