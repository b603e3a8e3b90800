//! What comes in while a worker has the workflow task waits for its end.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn a_buffered_signal_follows_the_commands_and_schedules_a_task() {
    let mut w = World::at_work();
    w.signal("one");
    w.request_cancel();
    w.signal("two");
    expect![""].assert_eq(&w.news());
    expect!["completed"].assert_eq(&w.complete(vec![marker("m")]));
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 MarkerRecorded name=m
        6 WorkflowExecutionSignaled name=one
        7 WorkflowExecutionCancelRequested cause=enough
        8 WorkflowExecutionSignaled name=two
        9 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
    expect![[r#"
        offer workflow 9 attempt 1 on tq
        run-1 next event 10
    "#]]
    .assert_eq(&w.effects());
}

#[test]
fn a_signal_to_an_idle_run_schedules_a_task_at_once() {
    let mut w = World::idle();
    w.signal("one");
    w.signal("two");
    expect![[r#"
        5 WorkflowExecutionSignaled name=one
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowExecutionSignaled name=two
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_signal_before_the_first_poll_makes_no_second_task() {
    let mut w = World::new();
    w.start();
    expect!["signaled"].assert_eq(&w.signal("early"));
    expect![[r#"
        run-1 next event 4
    "#]]
    .assert_eq(&w.effects());
    w.poll();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionSignaled name=early
        4 WorkflowTaskStarted scheduled=2
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn closing_past_a_buffered_signal_is_an_unhandled_command() {
    let mut w = World::at_work();
    w.signal("late");
    expect!["InvalidArgument: UnhandledCommand"].assert_eq(&w.complete(vec![marker("m"), complete_workflow("bye")]));
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=UnhandledCommand failure="UnhandledCommand" identity=worker
        5 WorkflowExecutionSignaled name=late
        6 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
    w.poll();
    expect!["completed"].assert_eq(&w.complete(vec![complete_workflow("bye")]));
}

#[test]
fn a_failed_task_gives_buffered_signals_their_ids() {
    let mut w = World::at_work();
    w.signal("s");
    w.fail_task();
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn the_worker_that_completes_can_have_the_next_task_at_once() {
    let mut w = World::at_work();
    w.signal("s");
    expect!["completed, next task 7"].assert_eq(&w.complete_with(vec![], |r| r.return_new_workflow_task = true));
    expect![[r#"
        attempt 1, history 4..7, started 7
    "#]]
    .assert_eq(&w.given());
    expect![[r#"
        complete by +10s
        run-1 next event 8
    "#]]
    .assert_eq(&w.effects());
}

#[test]
fn a_forced_task_comes_though_nothing_happened() {
    let mut w = World::at_work();
    expect!["completed"].assert_eq(&w.complete_with(vec![], |r| r.force_create_new_workflow_task = true));
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
    expect![[r#"
        offer workflow 5 attempt 1 on tq
        run-1 next event 6
    "#]]
    .assert_eq(&w.effects());
}

#[test]
fn a_flood_of_signals_takes_the_task_from_its_worker() {
    let mut w = World::at_work();
    for n in 0..102 {
        w.signal(&format!("s{n}"));
    }
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![]));
    w.poll();
    let history = w.history();
    let lines: Vec<_> = history.lines().collect();
    let shown = [lines[3], lines[4], "...", lines[105], lines[106], lines[107]].join("\n");
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ForceCloseCommand identity=history-service
        5 WorkflowExecutionSignaled name=s0
        ...
        106 WorkflowExecutionSignaled name=s101
        107 WorkflowTaskScheduled queue=tq
        108 WorkflowTaskStarted scheduled=107"#]]
    .assert_eq(&shown);
}
