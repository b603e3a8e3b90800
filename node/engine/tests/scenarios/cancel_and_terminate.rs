//! Cancel requests are asked of the workflow; termination asks nobody.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn a_cancel_request_is_one_event_however_often_it_comes() {
    let mut w = World::idle();
    expect!["done"].assert_eq(&w.request_cancel());
    expect!["done"].assert_eq(&w.request_cancel());
    w.poll();
    w.complete(vec![cancel_workflow()]);
    expect![[r#"
        5 WorkflowExecutionCancelRequested cause=enough
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskCompleted scheduled=6 started=7
        9 WorkflowExecutionCanceled
    "#]]
    .assert_eq(&w.news());
    expect!["done"].assert_eq(&w.request_cancel());
}

#[test]
fn termination_fails_the_task_that_a_worker_has() {
    let mut w = World::at_work();
    w.signal("buffered");
    expect!["done"].assert_eq(&w.terminate());
    expect![[r#"
        run-1 next event 7 closed idle
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ForceCloseCommand identity=history-service
        5 WorkflowExecutionSignaled name=buffered
        6 WorkflowExecutionTerminated reason="because" identity=caller
    "#]]
    .assert_eq(&w.news());
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![complete_workflow("late")]));
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.terminate());
}

#[test]
fn termination_withdraws_the_task_on_offer() {
    let mut w = World::new();
    w.start();
    w.terminate();
    expect![[r#"
        withdraw workflow 2 attempt 1
        run-1 next event 4 closed idle
    "#]]
    .assert_eq(&w.effects());
    expect!["nothing on offer"].assert_eq(&w.poll());
}

#[test]
fn a_run_of_another_chain_is_not_found() {
    let mut w = World::new();
    w.start();
    let other = "00000000-0000-0000-0000-000000000000";
    expect!["NotFound: workflow execution not found"]
        .assert_eq(&w.terminate_with(|r| r.first_execution_run_id = other.into()));
    let by_run = |r: &mut stanchion_proto::temporal::workflowservice::v1::TerminateWorkflowExecutionRequest| {
        r.workflow_execution = Some(execution(other));
    };
    expect![[r#"NotFound: workflow execution not found for workflow ID "wf" and run ID "00000000-0000-0000-0000-000000000000""#]].assert_eq(&w.terminate_with(by_run));
}
