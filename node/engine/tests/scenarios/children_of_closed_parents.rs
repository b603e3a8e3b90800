//! What becomes of children when their parent closes, and of what is under way then.

use expect_test::expect;
use stanchion_proto::temporal::enums::v1::ParentClosePolicy;

use crate::scenario::*;

/// A parent (run 1) that has heard of the start of its child (run 2), and has a workflow task with its worker.
fn with_child(policy: ParentClosePolicy) -> World {
    let mut w = World::after(vec![start_child_with("child", |child| child.parent_close_policy = policy as i32)]);
    w.deliver();
    w.poll_of(WORKFLOW);
    assert_eq!(
        w.news_of(1),
        format!(
            "5 StartChildWorkflowExecutionInitiated child=child policy={}\n\
             6 ChildWorkflowExecutionStarted initiated=5 child=child/run-2\n\
             7 WorkflowTaskScheduled queue=tq\n\
             8 WorkflowTaskStarted scheduled=7\n",
            match policy {
                ParentClosePolicy::Unspecified => "Terminate".to_owned(),
                named => format!("{named:?}"),
            }
        )
    );
    assert_eq!(
        w.news_of(2),
        "1 WorkflowExecutionStarted task-timeout=10s parent=wf/run-1 initiated=5 root=wf/run-1\n\
         2 WorkflowTaskScheduled queue=tq\n"
    );
    w
}

#[test]
fn a_child_is_terminated_with_its_parent() {
    let mut w = with_child(ParentClosePolicy::Unspecified);
    w.complete(vec![complete_workflow("bye")]);
    w.deliver();
    expect![[r#"
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowExecutionTerminated reason="by parent close policy" identity=history-service
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn a_child_is_asked_to_cancel_itself() {
    let mut w = with_child(ParentClosePolicy::RequestCancel);
    w.terminate();
    w.deliver();
    expect![[r#"
        3 WorkflowExecutionCancelRequested from=wf/run-1
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn an_abandoned_child_goes_on_and_its_result_is_dropped() {
    let mut w = with_child(ParentClosePolicy::Abandon);
    w.complete(vec![complete_workflow("bye")]);
    w.deliver();
    w.poll_of("child");
    w.complete(vec![complete_workflow("alone")]);
    w.deliver();
    expect![[r#"
        9 WorkflowTaskCompleted scheduled=7 started=8
        10 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=alone
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn continuing_as_new_closes_the_run_that_had_the_child() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.complete(vec![continue_as_new("again")]);
    w.deliver();
    expect![[r#"
        3 WorkflowExecutionTerminated reason="by parent close policy" identity=history-service
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn the_policy_follows_a_child_that_continued_as_new() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.poll_of("child");
    w.complete(vec![continue_as_new("again")]);
    w.work_on(WORKFLOW).complete(vec![complete_workflow("bye")]);
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted input=again task-timeout=10s backoff=1s continued=run-2 initiator=Workflow parent=wf/run-1 initiated=5 root=wf/run-1
        2 WorkflowExecutionTerminated reason="by parent close policy" identity=history-service
    "#]].assert_eq(&w.news_of(3));
    w.check();
}

#[test]
fn a_child_that_its_parent_starts_and_forgets_is_never_started() {
    let mut w = World::at_work();
    let abandoned =
        |child: &mut stanchion_proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes| {
            child.parent_close_policy = ParentClosePolicy::Abandon as i32;
        };
    w.complete(vec![start_child("one"), start_child_with("two", abandoned), complete_workflow("bye")]);
    w.deliver();
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 StartChildWorkflowExecutionInitiated child=one policy=Terminate
        6 StartChildWorkflowExecutionInitiated child=two policy=Abandon
        7 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news());
    w.check();
}

#[test]
fn a_start_under_way_when_its_parent_is_terminated_is_undone() {
    let mut w = World::after(vec![start_child("child")]);
    w.terminate();
    w.deliver();
    expect![[r#"
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 WorkflowExecutionTerminated reason="because" identity=caller
    "#]]
    .assert_eq(&w.news_of(1));
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s parent=wf/run-1 initiated=5 root=wf/run-1
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTerminated reason="by parent close policy" identity=history-service
    "#]]
    .assert_eq(&w.news_of(2));
    w.check();
}

#[test]
fn another_run_under_the_childs_id_is_left_alone() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.poll_of("child");
    w.complete(vec![complete_workflow("done")]);
    w.start_with(|request| request.workflow_id = "child".into());
    // The parent closes before it hears that its child is done.
    w.terminate();
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news_of(3));
    w.check();
}
