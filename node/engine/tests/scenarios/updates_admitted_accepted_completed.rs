//! An update's way from admission to outcome; each id once.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn an_update_is_accepted_and_completed_in_one_task() {
    let mut w = World::idle();
    expect!["update admitted"].assert_eq(&w.update("u"));
    expect![[r#"
        offer workflow 5 attempt 1 on tq
        start by +5s
        run-1 next event 5
    "#]]
    .assert_eq(&w.effects());
    expect!["task 6 attempt 1"].assert_eq(&w.poll());
    expect![[r#"
        attempt 1, history 1..4, started 6
        5 WorkflowTaskScheduled queue=tq (not stored)
        6 WorkflowTaskStarted scheduled=5 (not stored)
    "#]]
    .assert_eq(&w.given());
    expect!["u/request EventId(5)"].assert_eq(&w.given_updates());
    expect!["completed"].assert_eq(&w.say(vec![accepts("u"), completes("u", "done")]));
    expect!["u result done"].assert_eq(&w.told());
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionUpdateAccepted update=u request=yes
        9 WorkflowExecutionUpdateCompleted update=u accepted=8
    "#]]
    .assert_eq(&w.news());
    expect!["update result done"].assert_eq(&w.update("u"));
}

#[test]
fn an_accepted_update_completes_later_and_keeps_its_outcome_when_the_run_has_closed() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    w.say(vec![accepts("u")]);
    expect!["u accepted"].assert_eq(&w.told());
    expect!["update accepted"].assert_eq(&w.update("u"));
    w.signal("go on");
    w.poll();
    expect![""].assert_eq(&w.given_updates());
    w.complete_with(vec![carry("u/complete"), complete_workflow("bye")], |request| {
        request.messages = vec![completes("u", "late")];
    });
    expect!["u result late"].assert_eq(&w.told());
    expect!["update result late"].assert_eq(&w.update("u"));
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.update("another"));
}

#[test]
fn an_update_before_the_first_task_rides_on_it() {
    let mut w = World::new();
    w.start();
    w.update("u1");
    w.update("u2");
    expect!["task 3 attempt 1"].assert_eq(&w.poll());
    expect!["u1/request EventId(2), u2/request EventId(2)"].assert_eq(&w.given_updates());
}

#[test]
fn an_update_is_shown_again_when_its_task_fails_or_times_out() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    w.fail_task();
    expect!["task 9 attempt 2"].assert_eq(&w.poll());
    expect!["u/request EventId(8)"].assert_eq(&w.given_updates());
    w.pass(20).fire_deadlines();
    expect!["task 9 attempt 3"].assert_eq(&w.poll());
    expect!["u/request EventId(8)"].assert_eq(&w.given_updates());
    w.say(vec![accepts("u"), completes("u", "at last")]);
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskFailed scheduled=5 started=6 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        8 WorkflowTaskScheduled queue=tq attempt=3
        9 WorkflowTaskStarted scheduled=8
        10 WorkflowTaskCompleted scheduled=8 started=9
        11 WorkflowExecutionUpdateAccepted update=u request=yes
        12 WorkflowExecutionUpdateCompleted update=u accepted=11
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_worker_that_says_nothing_rejects() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    w.complete(vec![]);
    expect![[r#"u failure "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not supported by the worker.""#]].assert_eq(&w.told());
}

#[test]
fn bounds_of_updates_in_flight_and_in_all() {
    let mut w = World::idle();
    w.bounds =
        Some(stanchion_proto::command::Bounds { updates_in_flight_max: 2, updates_total_max: 3, ..Default::default() });
    w.update("u1");
    w.update("u2");
    expect!["ResourceExhausted: limit on number of concurrent in-flight updates has been reached (2)"]
        .assert_eq(&w.update("u3"));
    w.poll();
    w.say(vec![accepts("u1"), completes("u1", "1"), accepts("u2"), completes("u2", "2")]);
    w.update("u3");
    w.poll();
    w.say(vec![accepts("u3"), completes("u3", "3")]);
    expect!["FailedPrecondition: The limit on the total number of distinct updates in this workflow has been reached (3). Make sure any duplicate updates share an Update ID so the server can deduplicate them, and consider rejecting updates that you aren't going to process. You can also Continue-as-New to avoid this; we recommend you check Continue-as-New Suggested in your Workflow."].assert_eq(&w.update("u4"));
    expect!["update result 1"].assert_eq(&w.update("u1"));
}

#[test]
fn messages_that_do_not_fit_fail_the_task() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    expect!["InvalidArgument: BadUpdateWorkflowExecutionMessage: invalid state transition attempted for Update u: received *update.Response message while in state Sent"].assert_eq(&w.say(vec![completes("u", "too early")]));
    expect![[r#"u aborted FailedPrecondition "Unable to perform workflow execution update due to unexpected workflow task failure.""#]].assert_eq(&w.told());
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskFailed scheduled=5 started=6 cause=BadUpdateWorkflowExecutionMessage failure="BadUpdateWorkflowExecutionMessage: invalid state transition attempted for Update u: received *update.Response message while in state Sent" identity=worker
    "#]].assert_eq(&w.news());
    expect!["NotFound: Workflow task not found."].assert_eq(&w.complete(vec![carry("nothing")]));
}

#[test]
fn a_failing_run_takes_no_updates() {
    let mut w = World::new();
    w.start();
    for _ in 0..2 {
        w.poll();
        w.fail_task();
    }
    expect!["FailedPrecondition: Unable to perform workflow execution update due to Workflow Task in failed state."]
        .assert_eq(&w.update("u"));
}
