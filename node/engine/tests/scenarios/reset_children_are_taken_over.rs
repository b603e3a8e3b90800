//! Children over a reset: the new run knows those that were initiated in front of the point, and hears of each once.

use expect_test::expect;
use stanchion_proto::temporal::enums::v1::{ParentClosePolicy, ResetReapplyType};

use crate::scenario::*;

/// A parent (run 1) whose child (run 2) has started; the parent has completed a task since (events 7 to 9), and one with a signal.
fn with_child(policy: ParentClosePolicy) -> World {
    let mut w = World::new();
    w.start();
    w.poll_of(WORKFLOW);
    w.complete(vec![start_child_with("child", |child| child.parent_close_policy = policy as i32)]);
    w.deliver();
    w.poll_of(WORKFLOW);
    w.complete(vec![]);
    w.signal("s");
    w.poll_of(WORKFLOW);
    w.complete(vec![]);
    w
}

fn child_completes(w: &mut World) {
    w.poll_of("child");
    w.complete(vec![complete_workflow("done")]);
    w.deliver();
}

fn last_events(w: &World, run: usize, from: usize) -> String {
    w.history_of(run).lines().skip(from - 1).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_child_goes_on_and_its_result_comes_to_the_new_run() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    expect!["reset to run-3"].assert_eq(&w.reset(9));
    w.deliver();
    child_completes(&mut w);
    // Twice: the answers to both runs of the parent are the same.
    w.redeliver();
    expect![[r#"
        9 WorkflowTaskFailed scheduled=7 started=8 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-3
        10 WorkflowExecutionSignaled name=s
        11 WorkflowTaskScheduled queue=tq
        12 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-2 result=done
    "#]].assert_eq(&last_events(&w, 3, 9));
    expect!["14 WorkflowExecutionTerminated reason=\"why\" identity=history-resetter\n"]
        .assert_eq(&last_events(&w, 1, 14));
    w.check();
}

#[test]
fn the_run_of_the_last_reset_hears_of_it() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.reset(9);
    w.poll_of(WORKFLOW);
    w.complete(vec![]);
    expect!["reset to run-4"].assert_eq(&w.reset(13));
    w.deliver();
    child_completes(&mut w);
    expect![[r#"
        14 WorkflowTaskScheduled queue=tq
        15 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-2 result=done
    "#]]
    .assert_eq(&last_events(&w, 4, 14));
    w.check();
}

#[test]
fn what_the_base_heard_behind_the_point_is_heard_again_whatever_is_left_out() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    child_completes(&mut w);
    #[allow(deprecated)]
    w.reset_with(9, |r| r.reset_reapply_type = ResetReapplyType::None as i32);
    expect![[r#"
        10 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-2 result=done
        11 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&last_events(&w, 3, 10));
    w.check();
}

#[test]
fn ids_fit_when_start_and_result_are_both_behind_the_point() {
    let mut w = World::new();
    w.start();
    w.poll_of(WORKFLOW);
    w.complete_with(vec![start_child("child")], |request| request.force_create_new_workflow_task = true);
    w.poll_of(WORKFLOW);
    w.deliver();
    child_completes(&mut w);
    // Both wait for their ids while the worker has the task.
    expect!["reset to run-3"].assert_eq(&w.reset(7));
    expect![[r#"
        5 StartChildWorkflowExecutionInitiated child=child policy=Terminate
        6 WorkflowTaskScheduled queue=tq
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskFailed scheduled=6 started=7 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-3
        9 ChildWorkflowExecutionStarted initiated=5 child=child/run-2
        10 ChildWorkflowExecutionCompleted initiated=5 started=9 child=child/run-2 result=done
        11 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&last_events(&w, 3, 5));
    w.check();
}

#[test]
fn the_answer_to_a_start_that_is_under_way_is_passed_on() {
    let mut w = World::new();
    w.start();
    w.poll_of(WORKFLOW);
    w.complete_with(vec![start_child("child")], |request| request.force_create_new_workflow_task = true);
    w.poll_of(WORKFLOW);
    expect!["reset to run-2"].assert_eq(&w.reset(7));
    w.deliver();
    child_completes(&mut w);
    expect![[r#"
        8 WorkflowTaskFailed scheduled=6 started=7 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        9 WorkflowTaskScheduled queue=tq
        10 ChildWorkflowExecutionStarted initiated=5 child=child/run-3
        11 ChildWorkflowExecutionCompleted initiated=5 started=10 child=child/run-3 result=done
    "#]].assert_eq(&last_events(&w, 2, 8));
    expect!["1 WorkflowExecutionStarted task-timeout=10s parent=wf/run-1 initiated=5 root=wf/run-1"]
        .assert_eq(w.history_of(3).lines().next().unwrap_or_default());
    w.check();
}

#[test]
fn a_start_whose_answer_came_too_late_is_asked_for_again_and_starts_nothing_new() {
    let mut w = World::new();
    w.start();
    w.poll_of(WORKFLOW);
    let abandoned =
        |child: &mut stanchion_proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes| {
            child.parent_close_policy = ParentClosePolicy::Abandon as i32;
        };
    w.complete_with(vec![start_child_with("child", abandoned)], |r| r.force_create_new_workflow_task = true);
    w.poll_of(WORKFLOW);
    w.complete(vec![complete_workflow("in a hurry")]);
    w.deliver();
    expect!["reset to run-3"].assert_eq(&w.reset(8));
    w.deliver();
    child_completes(&mut w);
    expect![[r#"
        8 WorkflowTaskFailed scheduled=6 started=7 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-3
        9 WorkflowTaskScheduled queue=tq
        10 ChildWorkflowExecutionStarted initiated=5 child=child/run-2
        11 ChildWorkflowExecutionCompleted initiated=5 started=10 child=child/run-2 result=done
    "#]].assert_eq(&last_events(&w, 3, 8));
    expect!["3"].assert_eq(&w.all_run_ids().len().to_string());
    w.check();
}

/// Run 5 is made of run 3, while the child's own parent, run 1, was last reset to another one, in front of the child.
#[test]
fn the_newest_run_hears_of_a_child_whichever_run_it_was_made_of() {
    let mut w = World::new();
    w.start();
    w.poll_of(WORKFLOW);
    w.complete_with(vec![start_child("child")], |request| request.force_create_new_workflow_task = true);
    w.deliver_once();
    w.signal("s");
    expect!["reset to run-3"].assert_eq(&w.reset_run(1, 7));
    expect!["reset to run-4"].assert_eq(&w.reset_run(1, 4));
    expect!["reset to run-5"].assert_eq(&w.reset_run(3, 8));
    w.deliver();
    child_completes(&mut w);
    expect![[r#"
        8 WorkflowTaskFailed scheduled=6 started=7 cause=ResetWorkflow failure="why" identity=history-service base-run=run-3 new-run=run-5
        9 WorkflowExecutionSignaled name=s
        10 WorkflowTaskScheduled queue=tq
        11 ChildWorkflowExecutionStarted initiated=5 child=child/run-2
        12 ChildWorkflowExecutionCompleted initiated=5 started=11 child=child/run-2 result=done
    "#]]
    .assert_eq(&last_events(&w, 5, 8));
    w.check();
}

#[test]
fn a_child_of_the_same_event_id_is_not_mistaken_for_another() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    // The new run has its own event 9 and the like; it initiates another child with the id that the first one's event had.
    #[allow(deprecated)]
    w.reset_with(3, |r| r.reset_reapply_type = ResetReapplyType::None as i32);
    w.poll_of(WORKFLOW);
    w.complete(vec![start_child("other")]);
    w.deliver();
    child_completes(&mut w);
    expect![[r#"
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 StartChildWorkflowExecutionInitiated child=other policy=Terminate
        9 ChildWorkflowExecutionStarted initiated=8 child=other/run-4
        10 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&last_events(&w, 3, 7));
    w.check();
}

#[test]
fn the_end_of_the_new_run_does_not_reach_a_child_that_it_took_over() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.reset(9);
    w.deliver();
    w.poll_of(WORKFLOW);
    w.complete(vec![complete_workflow("bye")]);
    w.deliver();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s parent=wf/run-1 initiated=5 root=wf/run-1
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.history_of(2));
    w.check();
}

#[test]
fn children_of_a_run_that_is_not_the_base_end_with_it() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.reset(9);
    w.poll_of(WORKFLOW);
    w.complete(vec![start_child("own")]);
    w.deliver();
    expect!["reset to run-5"].assert_eq(&w.reset_run(1, 9));
    w.deliver();
    expect!["2 WorkflowTaskScheduled queue=tq"].assert_eq(w.history_of(2).lines().last().unwrap_or_default());
    expect![[r#"3 WorkflowExecutionTerminated reason="by parent close policy" identity=history-service"#]]
        .assert_eq(w.history_of(4).lines().last().unwrap_or_default());
    child_completes(&mut w);
    expect!["12 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-2 result=done"]
        .assert_eq(w.history_of(5).lines().last().unwrap_or_default());
    w.check();
}

#[test]
fn the_parent_of_a_child_that_is_reset_hears_of_its_last_run_alone() {
    let mut w = with_child(ParentClosePolicy::Terminate);
    w.poll_of("child");
    w.complete(vec![]);
    w.reset_run(2, 4);
    w.deliver();
    w.poll_of("child");
    w.complete(vec![]);
    // The run of the first reset is ended, and is not the base.
    expect!["reset to run-4"].assert_eq(&w.reset_run(2, 4));
    w.deliver();
    expect!["13 WorkflowTaskCompleted scheduled=11 started=12"]
        .assert_eq(w.history_of(1).lines().last().unwrap_or_default());
    child_completes(&mut w);
    expect![[r#"
        14 ChildWorkflowExecutionCompleted initiated=5 started=6 child=child/run-4 result=done
        15 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&last_events(&w, 1, 14));
    w.check();
}
