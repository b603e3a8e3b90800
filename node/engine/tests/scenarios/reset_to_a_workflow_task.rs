//! Reset: a new run with the history up to a workflow task, and what callers told the old one since.

use expect_test::expect;
use stanchion_engine::time::SECOND;
use stanchion_engine::{EventId, RunKey, history};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{Bounds, UpdateWorkflowOptions};
use stanchion_proto::temporal::common::v1::Priority;
use stanchion_proto::temporal::enums::v1::{ResetReapplyExcludeType, ResetReapplyType};
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionOptions;
use stanchion_proto::temporal::workflowservice::v1::UpdateWorkflowExecutionOptionsRequest;

use crate::scenario::*;

/// Two tasks completed, an activity and a timer pending, a signal before the second task and one behind it.
fn worked(w: &mut World) {
    w.start();
    w.poll();
    w.complete(vec![start_timer("t", 600), schedule("a")]);
    w.pass(1);
    w.signal_with("early", |r| r.request_id = "once".into());
    w.poll();
    w.complete(vec![start_timer("u", 700)]);
    w.pass(1);
    w.signal("late");
    assert_eq!(
        w.news(),
        "1 WorkflowExecutionStarted task-timeout=10s\n\
         2 WorkflowTaskScheduled queue=tq\n\
         3 WorkflowTaskStarted scheduled=2\n\
         4 WorkflowTaskCompleted scheduled=2 started=3\n\
         5 TimerStarted timer=t after=600s\n\
         6 ActivityTaskScheduled activity=a\n\
         7 WorkflowExecutionSignaled name=early request=once\n\
         8 WorkflowTaskScheduled queue=tq\n\
         9 WorkflowTaskStarted scheduled=8\n\
         10 WorkflowTaskCompleted scheduled=8 started=9\n\
         11 TimerStarted timer=u after=700s\n\
         12 WorkflowExecutionSignaled name=late\n\
         13 WorkflowTaskScheduled queue=tq\n"
    );
}

#[test]
fn an_open_run_is_ended_and_the_new_one_goes_on_from_the_point() {
    let mut w = World::new();
    worked(&mut w);
    expect!["reset to run-2"].assert_eq(&w.reset(4));
    expect![[r#"
        withdraw workflow 13 attempt 1
        withdraw activity 6 attempt 1
        offer workflow 7 attempt 1 on tq
        clear timer +598s
        clear timer +699s
        run-1 next event 15 closed idle
        run-2 next event 8
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        14 WorkflowExecutionTerminated reason="why" identity=history-resetter
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowExecutionSignaled name=early request=once
        6 WorkflowExecutionSignaled name=late
        7 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news_of(2));
    w.check();
    w.poll();
    w.complete(vec![complete_workflow("again")]);
    w.check();
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.signal("too late"));
}

#[test]
fn what_was_pending_at_the_point_is_pending_again() {
    let mut w = World::new();
    worked(&mut w);
    w.poll();
    w.complete(vec![complete_workflow("done")]);
    expect!["reset to run-2"].assert_eq(&w.reset(10));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 TimerStarted timer=t after=600s
        6 ActivityTaskScheduled activity=a
        7 WorkflowExecutionSignaled name=early request=once
        8 WorkflowTaskScheduled queue=tq
        9 WorkflowTaskStarted scheduled=8
        10 WorkflowTaskFailed scheduled=8 started=9 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        11 WorkflowExecutionSignaled name=late
        12 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news_of(2));
    w.check();
    let task = w.activity();
    w.complete_activity(&task, "result");
    w.check();
    // The timer keeps its time: 600 s from when it was started.
    w.pass(597);
    w.fire_timers();
    expect!["14 ActivityTaskCompleted scheduled=6 started=13 result=result"]
        .assert_eq(w.history().lines().last().unwrap_or_default());
    w.pass(1);
    w.fire_timers();
    expect!["15 TimerFired timer=t started=5"].assert_eq(w.history().lines().last().unwrap_or_default());
    w.check();
}

#[test]
fn the_worker_that_has_a_task_of_the_old_run_has_lost_it() {
    let mut w = World::idle();
    w.signal("one");
    w.poll();
    w.signal("two");
    expect!["reset to run-2"].assert_eq(&w.reset(4));
    expect![[r#"
        5 WorkflowExecutionSignaled name=one
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskFailed scheduled=6 started=7 cause=ForceCloseCommand identity=history-service
        9 WorkflowExecutionSignaled name=two
        10 WorkflowExecutionTerminated reason="why" identity=history-resetter
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowExecutionSignaled name=one
        6 WorkflowExecutionSignaled name=two
        7 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news_of(2));
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![complete_workflow("late")]));
    w.check();
}

#[test]
fn signals_go_over_unless_they_are_left_out() {
    let mut w = World::new();
    worked(&mut w);
    #[allow(deprecated)]
    w.reset_with(4, |r| r.reset_reapply_type = ResetReapplyType::None as i32);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news());
    let first = w.run_id(1);
    w.reset_with(4, |r| {
        r.workflow_execution = Some(execution(&first));
        r.reset_reapply_exclude_types = vec![ResetReapplyExcludeType::Signal as i32];
    });
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-3
        5 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news());
}

#[test]
fn signals_of_runs_that_continued_it_go_over_too() {
    let mut w = World::idle();
    w.signal("first run");
    w.poll();
    w.pass(2);
    w.complete(vec![continue_as_new("two")]);
    w.signal("second run");
    w.poll();
    w.signal("waits for its id");
    let first = w.run_id(1);
    expect!["reset to run-3"].assert_eq(&w.reset_with(4, |r| r.workflow_execution = Some(execution(&first))));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-3
        5 WorkflowExecutionSignaled name=first run
        6 WorkflowExecutionSignaled name=second run
        7 WorkflowExecutionSignaled name=waits for its id
        8 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news_of(3));
    w.check();
}

#[test]
fn a_repeated_request_is_the_same_reset() {
    let mut w = World::new();
    worked(&mut w);
    let again = |w: &mut World| w.reset_with(4, |r| r.request_id = "same".into());
    expect!["reset to run-2"].assert_eq(&again(&mut w));
    expect!["reset to run-2"].assert_eq(&again(&mut w));
    // Also when the run that it made has gone on as another one, if the caller names the run that it meant.
    w.poll();
    w.complete(vec![continue_as_new("more")]);
    let first = w.run_id(1);
    let repeated = w.reset_with(4, |r| {
        r.request_id = "same".into();
        r.workflow_execution = Some(execution(&first));
    });
    expect!["reset to run-2"].assert_eq(&repeated);
    expect!["reset to run-4"].assert_eq(&w.reset_run(1, 4));
}

#[test]
fn a_new_run_that_would_be_over_a_bound_is_not_made() {
    let mut w = World::new();
    worked(&mut w);
    w.bounds = Some(Bounds { history_events_max: 4, ..Default::default() });
    expect![[r#"
        InvalidArgument: The new run's history would have 5 events, with those behind the reset point that are applied again; the limit is 4."#]].assert_eq(&w.reset(4));
    w.bounds = Some(Bounds { history_bytes_max: 100, ..Default::default() });
    expect!["InvalidArgument: The new run's history would have 286 bytes, with those behind the reset point that are applied again; the limit is 100."].assert_eq(&w.reset(4));
    w.bounds = None;
    expect!["signaled"].assert_eq(&w.signal("nothing has happened to it"));
}

#[test]
fn many_signals_are_told_again_in_batches_of_a_mebibyte() {
    let mut w = World::new();
    w.start();
    w.poll();
    w.complete(vec![]);
    for n in 0..5 {
        w.signal_with(&format!("signal {n}"), |r| r.input = Some(payloads(&"x".repeat(500_000))));
    }
    expect!["reset to run-2"].assert_eq(&w.reset(4));
    let run = RunKey { namespace_id: NAMESPACE.into(), workflow_id: WORKFLOW.into(), run_id: w.run_id(2) };
    let batches = history::batches(&w.state, run.slot(), &run, EventId(4)).unwrap();
    let sizes: Vec<_> = batches.iter().map(|batch| batch.bytes.len() / 100_000).collect();
    expect!["[15, 10]"].assert_eq(&format!("{sizes:?}"));
    w.check();
    // Each is where it was: the new run can itself be reset.
    w.poll();
    w.complete(vec![]);
    expect!["reset to run-3"].assert_eq(&w.reset(12));
    w.check();
}

#[test]
fn only_a_workflow_task_is_a_point() {
    let mut w = World::new();
    worked(&mut w);
    let mut said = String::new();
    for point in [0, 1, 2, 5, 6, 7, 14, 99] {
        said += &format!("{point}: {}\n", w.reset(point));
    }
    expect![[r#"
        0: InvalidArgument: Workflow task finish ID must be > 1 && <= workflow last event ID.
        1: InvalidArgument: Workflow task finish ID must be > 1 && <= workflow last event ID.
        2: InvalidArgument: StateRebuilder unable to Rebuild mutable state to event ID: 1, version: 0, this event must be at the boundary
        5: InvalidArgument: StateRebuilder unable to Rebuild mutable state to event ID: 4, version: 0, this event must be at the boundary
        6: InvalidArgument: StateRebuilder unable to Rebuild mutable state to event ID: 5, version: 0, this event must be at the boundary
        7: InvalidArgument: Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: 7
        14: InvalidArgument: Workflow task finish ID must be > 1 && <= workflow last event ID.
        99: InvalidArgument: Workflow task finish ID must be > 1 && <= workflow last event ID.
    "#]].assert_eq(&said);
}

/// A task that carried updates alone is written with its completion; so is a later attempt.
#[test]
fn a_task_that_is_written_at_once_can_be_cut_where_it_ends() {
    let mut w = World::new();
    w.start();
    w.poll();
    w.complete(vec![]);
    w.update("u");
    w.poll();
    w.say(vec![accepts("u")]);
    let mut said = String::new();
    for point in [5, 6, 7, 8] {
        said += &format!("{point}: {}\n", w.reset_run(1, point));
    }
    expect![[r#"
        5: InvalidArgument: Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: 5
        6: InvalidArgument: StateRebuilder unable to Rebuild mutable state to event ID: 5, version: 0, this event must be at the boundary
        7: reset to run-2
        8: InvalidArgument: StateRebuilder unable to Rebuild mutable state to event ID: 7, version: 0, this event must be at the boundary
    "#]].assert_eq(&said);
    w.check();
}

#[test]
fn a_point_behind_a_failed_task_is_its_next_attempt() {
    let mut w = World::new();
    w.start();
    w.poll();
    w.fail_task();
    w.poll();
    w.complete(vec![complete_workflow("done")]);
    expect!["reset to run-2"].assert_eq(&w.reset(5));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskFailed scheduled=5 started=6 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.history_of(2));
    w.check();
}

#[test]
fn a_task_that_was_handed_over_at_once_can_be_cut_off() {
    let mut w = World::new();
    w.hold_poller(QUEUE);
    w.start();
    w.complete(vec![complete_workflow("done")]);
    expect!["reset to run-2"].assert_eq(&w.reset(3));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn options_are_changed_and_go_over() {
    let mut w = World::idle();
    let request = UpdateWorkflowExecutionOptionsRequest {
        workflow_execution: Some(execution("")),
        workflow_execution_options: Some(WorkflowExecutionOptions {
            priority: Some(Priority { priority_key: 4, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["priority".into()] }),
        identity: "caller".into(),
        ..Default::default()
    };
    let change = || Kind::UpdateWorkflowOptions(UpdateWorkflowOptions { request: Some(request.clone()) });
    w.apply(change());
    w.apply(change());
    w.reset(4);
    expect![[r#"
        5 WorkflowExecutionOptionsUpdated priority=4
        6 WorkflowExecutionTerminated reason="why" identity=history-resetter
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowExecutionOptionsUpdated priority=4
        6 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(2));
}

#[test]
fn the_new_run_has_its_own_time_outs_and_is_kept_as_long() {
    let mut w = World::new();
    w.retention = 3600 * SECOND;
    w.start_with(|r| r.workflow_run_timeout = Some(stanchion_engine::time::duration(100 * SECOND)));
    w.poll();
    w.complete(vec![]);
    w.pass(60);
    w.reset(4);
    w.pass(99);
    w.fire_timers();
    expect!["signaled"].assert_eq(&w.signal("still open"));
    w.pass(1);
    w.fire_timers();
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.signal("timed out"));
    w.check();
}
