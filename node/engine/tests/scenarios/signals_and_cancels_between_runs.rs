//! A run signals another one, or asks it to cancel itself: both ends have one event, whatever is delivered twice.

use expect_test::expect;

use crate::scenario::*;

/// One that has a workflow task with its worker, and one that waits for a worker.
fn two_runs() -> World {
    let mut w = World::new();
    w.start();
    w.start_with(|request| request.workflow_id = "other".into());
    w.poll_of(WORKFLOW);
    assert_eq!(
        w.news_of(1),
        "1 WorkflowExecutionStarted task-timeout=10s\n\
         2 WorkflowTaskScheduled queue=tq\n\
         3 WorkflowTaskStarted scheduled=2\n"
    );
    assert_eq!(w.news_of(2), "1 WorkflowExecutionStarted task-timeout=10s\n2 WorkflowTaskScheduled queue=tq\n");
    w
}

#[test]
fn a_signal_arrives_once_and_is_answered() {
    let mut w = two_runs();
    expect!["completed"].assert_eq(&w.complete(vec![signal_external("other", "hello")]));
    expect![[r#"
        message 1
        run-1 next event 6 idle
    "#]]
    .assert_eq(&w.effects());
    expect!["delivered 1; delivered 1"].assert_eq(&w.deliver());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 SignalExternalWorkflowExecutionInitiated name=hello to=other
        6 ExternalWorkflowExecutionSignaled initiated=5
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowExecutionSignaled name=hello from=wf/run-1
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn a_run_that_is_not_there_or_has_closed_or_is_the_sender_is_not_found() {
    let mut w = two_runs();
    w.terminate_with(|request| request.workflow_execution = Some(execution_of("other")));
    w.complete(vec![signal_external("nobody", "a"), signal_external("other", "b"), signal_external(WORKFLOW, "c")]);
    w.deliver();
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 SignalExternalWorkflowExecutionInitiated name=a to=nobody
        6 SignalExternalWorkflowExecutionInitiated name=b to=other
        7 SignalExternalWorkflowExecutionInitiated name=c to=wf
        8 SignalExternalWorkflowExecutionFailed initiated=5 cause=ExternalWorkflowExecutionNotFound
        9 WorkflowTaskScheduled queue=tq
        10 SignalExternalWorkflowExecutionFailed initiated=7 cause=ExternalWorkflowExecutionNotFound
        11 SignalExternalWorkflowExecutionFailed initiated=6 cause=ExternalWorkflowExecutionNotFound
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn a_cancel_request_arrives_once_and_a_closed_run_is_no_failure() {
    let mut w = two_runs();
    w.complete(vec![cancel_external("other"), cancel_external("other"), cancel_external("nobody")]);
    w.deliver();
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 RequestCancelExternalWorkflowExecutionInitiated to=other
        6 RequestCancelExternalWorkflowExecutionInitiated to=other
        7 RequestCancelExternalWorkflowExecutionInitiated to=nobody
        8 RequestCancelExternalWorkflowExecutionFailed initiated=7 cause=ExternalWorkflowExecutionNotFound
        9 WorkflowTaskScheduled queue=tq
        10 ExternalWorkflowExecutionCancelRequested initiated=5
        11 ExternalWorkflowExecutionCancelRequested initiated=6
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowExecutionCancelRequested cause=enough from=wf/run-1 initiated=5
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn an_answer_to_a_run_that_has_closed_is_dropped() {
    let mut w = two_runs();
    w.complete(vec![signal_external("other", "hello")]);
    w.terminate();
    w.deliver();
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 SignalExternalWorkflowExecutionInitiated name=hello to=other
        6 WorkflowExecutionTerminated reason="because" identity=caller
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowExecutionSignaled name=hello from=wf/run-1
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn what_is_still_to_be_sent_when_the_run_closes_is_not_sent() {
    let mut w = two_runs();
    w.complete(vec![signal_external("other", "hello"), cancel_external("other"), complete_workflow("bye")]);
    expect!["nothing"].assert_eq(if w.outbox.is_empty() { "nothing" } else { "a message" });
    w.check();
}

#[test]
fn a_child_is_not_started_and_canceled_by_one_completion() {
    let mut w = two_runs();
    expect!["InvalidArgument: BadRequestCancelExternalWorkflowExecutionAttributes: Start and RequestCancel for child workflow is not allowed in same workflow task. WorkflowId=child RunId= Namespace="]
        .assert_eq(&w.complete(vec![start_child("child"), cancel_child("child")]));
    w.check();
}

#[test]
fn an_answer_waits_while_a_worker_has_the_task() {
    let mut w = two_runs();
    w.complete_with(vec![signal_external("other", "hello")], |request| request.force_create_new_workflow_task = true);
    w.poll_of(WORKFLOW);
    w.deliver();
    w.complete(vec![marker("m")]);
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 SignalExternalWorkflowExecutionInitiated name=hello to=other
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskCompleted scheduled=6 started=7
        9 MarkerRecorded name=m
        10 ExternalWorkflowExecutionSignaled initiated=5
        11 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}
