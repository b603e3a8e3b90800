//! A child starts in its own slot, its parent hears of that, and how it closed: once each, whatever is delivered twice.

use expect_test::expect;
use stanchion_proto::command::Bounds;
use stanchion_proto::temporal::enums::v1::WorkflowIdReusePolicy;

use crate::scenario::*;

/// A parent (run 1) whose child (run 2) has started; the parent has seen it.
fn with_child() -> World {
    let mut w = World::after(vec![start_child("child")]);
    w.deliver();
    w.poll_of(WORKFLOW);
    w.complete(vec![]);
    assert_eq!(
        w.news_of(1),
        "5 StartChildWorkflowExecutionInitiated child=child policy=Terminate\n\
         6 ChildWorkflowExecutionStarted initiated=5 child=child/run-2\n\
         7 WorkflowTaskScheduled queue=tq\n\
         8 WorkflowTaskStarted scheduled=7\n\
         9 WorkflowTaskCompleted scheduled=7 started=8\n"
    );
    assert_eq!(
        w.news_of(2),
        "1 WorkflowExecutionStarted task-timeout=10s parent=wf/run-1 initiated=5 root=wf/run-1\n\
         2 WorkflowTaskScheduled queue=tq\n"
    );
    w
}

#[test]
fn a_child_starts_and_its_result_comes_back() {
    let mut w = with_child();
    w.poll_of("child");
    w.complete(vec![complete_workflow("done")]);
    expect![[r#"
        message 2
        run-2 next event 6 closed idle
    "#]]
    .assert_eq(&w.effects());
    w.deliver();
    expect![[r#"
        10 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-2 result=done
        11 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=done
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn started_and_completed_wait_together_and_their_ids_fit() {
    let mut w = World::at_work();
    w.complete_with(vec![start_child("child")], |request| request.force_create_new_workflow_task = true);
    w.poll_of(WORKFLOW);
    w.deliver();
    w.poll_of("child");
    w.complete(vec![complete_workflow("done")]);
    w.deliver();
    w.signal("go");
    w.work_on(WORKFLOW).complete(vec![marker("m")]);
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskCompleted scheduled=6 started=7
        9 MarkerRecorded name=m
        10 ChildWorkflowExecutionStarted initiated=5 child=child/run-2
        11 WorkflowExecutionSignaled name=go
        12 ChildWorkflowExecutionCompleted initiated=5 started=10 child=child/run-2 result=done
        13 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn an_id_that_is_taken_fails_the_start() {
    let mut w = World::new();
    w.start_with(|request| request.workflow_id = "child".into());
    w.start();
    w.poll_of(WORKFLOW);
    w.complete(vec![start_child("child"), start_child(WORKFLOW)]);
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 StartChildWorkflowExecutionInitiated child=wf policy=Terminate
        7 StartChildWorkflowExecutionFailed initiated=6 cause=WorkflowAlreadyExists
        8 WorkflowTaskScheduled queue=tq
        9 StartChildWorkflowExecutionFailed initiated=5 cause=WorkflowAlreadyExists
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn a_child_may_end_the_run_in_its_way() {
    let mut w = World::new();
    w.start_with(|request| request.workflow_id = "child".into());
    w.start();
    w.poll_of(WORKFLOW);
    #[allow(deprecated)]
    let policy = WorkflowIdReusePolicy::TerminateIfRunning as i32;
    w.complete(vec![start_child_with("child", |child| child.workflow_id_reuse_policy = policy)]);
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 ChildWorkflowExecutionStarted initiated=5 child=child/run-3
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(2));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTerminated reason="TerminateIfRunning WorkflowIdReusePolicy" identity=history-service
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn the_parent_hears_of_the_last_run_of_a_chain_only() {
    let mut w = with_child();
    w.poll_of("child");
    w.complete(vec![continue_as_new("again")]);
    expect!["nothing"].assert_eq(if w.outbox.is_empty() { "nothing" } else { "a message" });
    w.pass(1).fire_timers();
    w.poll_of("child");
    w.complete(vec![fail_workflow("bad")]);
    w.deliver();
    expect![[r#"
        10 ChildWorkflowExecutionFailed initiated=5 started=6 failure="bad" retry=RetryPolicyNotSet
        11 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted input=again task-timeout=10s backoff=1s continued=run-2 initiator=Workflow parent=wf/run-1 initiated=5 root=wf/run-1
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionFailed failure="bad" retry=RetryPolicyNotSet
    "#]].assert_eq(&w.news_of(3));
    w.check();
}

#[test]
fn the_parent_hears_of_the_last_attempt_only() {
    let mut w = World::after(vec![start_child_with("child", |child| child.retry_policy = Some(retries(2)))]);
    w.deliver();
    w.poll_of("child");
    w.complete(vec![fail_workflow("first")]);
    expect!["nothing"].assert_eq(if w.outbox.is_empty() { "nothing" } else { "a message" });
    w.pass(1).fire_timers();
    w.poll_of("child");
    w.complete(vec![fail_workflow("second")]);
    w.deliver();
    expect![[r#"
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 ChildWorkflowExecutionStarted initiated=5 child=child/run-2
        7 WorkflowTaskScheduled queue=tq
        8 ChildWorkflowExecutionFailed initiated=5 started=6 failure="second" retry=MaximumAttemptsReached
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn a_child_times_out_and_is_terminated() {
    let mut w = World::at_work();
    let timeout = stanchion_engine::time::duration(5 * stanchion_engine::time::SECOND);
    w.complete(vec![
        start_child_with("slow", |child| child.workflow_run_timeout = Some(timeout)),
        start_child("stopped"),
    ]);
    w.deliver();
    w.terminate_with(|request| request.workflow_execution = Some(execution_of("stopped")));
    w.pass(5).fire_timers();
    w.deliver();
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 StartChildWorkflowExecutionInitiated child=slow policy=Terminate
        6 StartChildWorkflowExecutionInitiated child=stopped policy=Terminate
        7 ChildWorkflowExecutionStarted initiated=5 child=slow/run-2
        8 WorkflowTaskScheduled queue=tq
        9 ChildWorkflowExecutionStarted initiated=6 child=stopped/run-3
        10 ChildWorkflowExecutionTimedOut initiated=5 started=7 retry=RetryPolicyNotSet
        11 ChildWorkflowExecutionTerminated initiated=6 started=9
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn a_grandchild_knows_its_root() {
    let mut w = with_child();
    w.poll_of("child");
    w.complete(vec![start_child("grandchild")]);
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s parent=child/run-2 initiated=5 root=wf/run-1
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(3));
    w.check();
}

#[test]
fn a_child_is_canceled_by_its_parent_and_by_nobody_else_who_says_so() {
    let mut w = with_child();
    w.start_with(|request| request.workflow_id = "stranger".into());
    w.poll_of("stranger");
    w.complete(vec![cancel_child("child")]);
    w.deliver();
    w.signal("go");
    w.poll_of(WORKFLOW);
    w.complete(vec![cancel_child("child")]);
    w.deliver();
    w.poll_of("child");
    w.complete(vec![cancel_workflow()]);
    w.deliver();
    expect![[r#"
        10 WorkflowExecutionSignaled name=go
        11 WorkflowTaskScheduled queue=tq
        12 WorkflowTaskStarted scheduled=11
        13 WorkflowTaskCompleted scheduled=11 started=12
        14 RequestCancelExternalWorkflowExecutionInitiated to=child
        15 ExternalWorkflowExecutionCancelRequested initiated=14
        16 WorkflowTaskScheduled queue=tq
        17 ChildWorkflowExecutionCanceled initiated=5 started=6
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowExecutionCancelRequested from=wf/run-1 initiated=14
        4 WorkflowTaskStarted scheduled=2
        5 WorkflowTaskCompleted scheduled=2 started=4
        6 WorkflowExecutionCanceled
    "#]]
    .assert_eq(&w.news_of(2));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 RequestCancelExternalWorkflowExecutionInitiated to=child
        6 RequestCancelExternalWorkflowExecutionFailed initiated=5 cause=ExternalWorkflowExecutionNotFound
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(3));
    w.check();
}

#[test]
fn children_over_the_limit_fail_the_task() {
    let mut w = World::new();
    w.bounds = Some(Bounds { pending_children_max: 1, ..Default::default() });
    w.start();
    w.poll_of(WORKFLOW);
    expect!["InvalidArgument: PendingChildWorkflowsLimitExceeded: the number of pending child workflow executions, 1, has reached the per-workflow limit of 1"].assert_eq(&w.complete(vec![start_child("one"), start_child("two")]));
    w.check();
}

#[test]
fn a_held_poller_gets_the_first_task_of_a_child() {
    let mut w = World::after(vec![start_child("child")]);
    w.hold_poller(QUEUE).deliver_once();
    expect![[r#"
        complete by +10s
        hand over workflow to ticket 7
        message 1
        run-2 next event 4
    "#]]
    .assert_eq(&w.effects());
    w.deliver();
    w.check();
}
