//! One open run per workflow id; what happens to a second start is for the policies.

use expect_test::expect;

use crate::scenario::*;

use stanchion_engine::time::SECOND;
use stanchion_proto::temporal::enums::v1::{WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse};
use stanchion_proto::temporal::workflow::v1::OnConflictOptions;

#[test]
fn over_an_open_run() {
    let mut w = World::new();
    w.start();
    expect!["AlreadyExists: Workflow execution is already running. WorkflowId: wf, RunId: run-1."]
        .assert_eq(&w.start());
    let use_existing = Conflict::UseExisting as i32;
    expect!["existing open run-1"].assert_eq(&w.start_with(|r| r.workflow_id_conflict_policy = use_existing));
    let terminate = Conflict::TerminateExisting as i32;
    expect!["started run-2"].assert_eq(&w.start_with(|r| r.workflow_id_conflict_policy = terminate));
    expect![[r#"
        withdraw workflow 2 attempt 1
        offer workflow 2 attempt 1 on tq
        run-1 next event 4 closed idle
        run-2 next event 3
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTerminated reason="TerminateIfRunning WorkflowIdReusePolicy" identity=history-service
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(2));
}

#[test]
fn over_a_closed_run() {
    let mut w = World::after(vec![complete_workflow("bye")]);
    let failed_only = Reuse::AllowDuplicateFailedOnly as i32;
    expect!["AlreadyExists: Workflow execution already finished successfully. WorkflowId: wf, RunId: run-1. Workflow Id reuse policy: allow duplicate workflow Id if last run failed."].assert_eq(&w.start_with(|r| r.workflow_id_reuse_policy = failed_only));
    let reject = Reuse::RejectDuplicate as i32;
    expect!["AlreadyExists: Workflow execution already finished. WorkflowId: wf, RunId: run-1. Workflow Id reuse policy: reject duplicate workflow Id."].assert_eq(&w.start_with(|r| r.workflow_id_reuse_policy = reject));
    expect!["started run-2"].assert_eq(&w.start());
    w.terminate();
    expect!["started run-3"].assert_eq(&w.start_with(|r| r.workflow_id_reuse_policy = failed_only));
}

#[test]
fn the_same_request_gets_the_same_run() {
    let mut w = World::new();
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_id = "same".into()));
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_id = "same".into()));
    w.poll();
    w.complete(vec![complete_workflow("bye")]);
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_id = "same".into()));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news());
}

/// A server that does not know whether a start went through repeats it; meanwhile another caller's start may have ended its run. Found by the
/// simulation, seed 173.
#[test]
fn the_same_request_gets_the_same_run_although_another_took_its_place() {
    let mut w = World::new();
    w.retention = 3600 * SECOND;
    let terminate = Conflict::TerminateExisting as i32;
    let start = |w: &mut World, request: &str| {
        w.start_with(|r| {
            r.request_id = request.into();
            r.workflow_id_conflict_policy = terminate;
        })
    };
    expect!["started run-1"].assert_eq(&start(&mut w, "one"));
    expect!["started run-2"].assert_eq(&start(&mut w, "two"));
    expect!["started run-1"].assert_eq(&start(&mut w, "one"));
    expect!["started run-2"].assert_eq(&start(&mut w, "two"));
    expect!["started run-3"].assert_eq(&start(&mut w, "three"));
    expect!["started run-1"].assert_eq(&start(&mut w, "one"));
    // For as long as the run is kept.
    w.pass(3600);
    w.fire_timers();
    expect!["started run-4"].assert_eq(&start(&mut w, "one"));
    expect!["started run-4"].assert_eq(&start(&mut w, "one"));
}

#[test]
fn a_repeated_start_is_answered_with_the_chain_that_it_began() {
    let mut w = World::new();
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_id = "one".into()));
    w.poll();
    w.pass(2);
    w.complete(vec![continue_as_new("two")]);
    expect!["started run-1"].assert_eq(&w.start_with(|r| r.request_id = "one".into()));
    expect!["AlreadyExists: Workflow execution is already running. WorkflowId: wf, RunId: run-2."]
        .assert_eq(&w.start_with(|r| r.request_id = "another".into()));
}

#[test]
fn use_existing_attaches_its_request() {
    let mut w = World::at_work();
    let attach = |r: &mut stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest| {
        r.request_id = "second".into();
        r.workflow_id_conflict_policy = Conflict::UseExisting as i32;
        r.on_conflict_options = Some(OnConflictOptions { attach_request_id: true, ..Default::default() });
    };
    expect!["existing open run-1"].assert_eq(&w.start_with(attach));
    expect!["existing open run-1"].assert_eq(&w.start_with(attach));
    w.complete(vec![]);
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionOptionsUpdated attached=second
        6 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}
