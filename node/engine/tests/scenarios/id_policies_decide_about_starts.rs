//! One open run per workflow id; what happens to a second start is for the policies.

use expect_test::expect;

use crate::scenario::*;

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
