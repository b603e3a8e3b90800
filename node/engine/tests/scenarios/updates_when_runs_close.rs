//! What becomes of updates when their run closes, and of those that may start one.

use expect_test::expect;
use stanchion_proto::temporal::enums::v1::WorkflowIdConflictPolicy;

use crate::scenario::*;

#[test]
fn waiting_updates_are_aborted_and_accepted_ones_fail() {
    let mut w = World::new();
    w.start();
    w.update("accepted");
    w.poll();
    w.say(vec![accepts("accepted")]);
    w.update("waiting");
    w.poll();
    w.update("late");
    w.complete(vec![complete_workflow("bye")]);
    expect![[r#"late aborted NotFound "workflow update was aborted by closing workflow", waiting aborted NotFound "workflow update was aborted by closing workflow", accepted failure "Workflow Update failed because the Workflow completed before the Update completed.""#]].assert_eq(&w.told());
    expect![[r#"update failure "Workflow Update failed because the Workflow completed before the Update completed.""#]]
        .assert_eq(&w.update("accepted"));
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.update("waiting"));
}

#[test]
fn a_termination_aborts_and_leaves_no_trace_of_a_task_that_nobody_took() {
    let mut w = World::idle();
    w.update("u");
    w.terminate();
    expect![[r#"u aborted NotFound "workflow update was aborted by closing workflow""#]].assert_eq(&w.told());
    expect![[r#"
        5 WorkflowExecutionTerminated reason="because" identity=caller
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn the_callers_of_a_run_that_goes_on_try_again() {
    let mut w = World::at_work();
    w.update("u");
    w.complete(vec![continue_as_new("next")]);
    expect![[r#"u aborted ResourceExhausted "workflow operation can not be applied because workflow is closing""#]]
        .assert_eq(&w.told());
    expect!["update admitted"].assert_eq(&w.update("u"));
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.update_run("u", 1));
}

#[test]
fn a_message_behind_the_closing_command_comes_too_late() {
    let mut w = World::new();
    w.start();
    w.update("u");
    w.update("v");
    w.poll();
    w.complete_with(vec![complete_workflow("bye")], |request| {
        request.messages = vec![accepts("u"), completes("u", "1"), rejects("v")];
    });
    expect![[r#"v failure "not valid", u aborted NotFound "workflow update was aborted by closing workflow""#]]
        .assert_eq(&w.told());
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
fn a_run_that_tried_to_close_takes_no_updates_until_it_has_been_heard() {
    let mut w = World::at_work();
    w.signal("s");
    w.complete(vec![complete_workflow("bye")]);
    w.poll();
    expect!["ResourceExhausted: workflow operation can not be applied because workflow is closing"]
        .assert_eq(&w.update("u"));
    w.complete(vec![]);
    expect!["update admitted"].assert_eq(&w.update("u"));
}

#[test]
fn update_with_start_starts_joins_or_finds() {
    let mut w = World::new();
    expect!["started run-1, update admitted"]
        .assert_eq(&w.update_with_start("u1", |start| start.request_id = "start".into()));
    w.poll();
    expect!["u1/request EventId(2)"].assert_eq(&w.given_updates());
    // The same call again, while the update waits.
    expect!["existing run-1, update admitted"]
        .assert_eq(&w.update_with_start("u1", |start| start.request_id = "start".into()));
    w.say(vec![accepts("u1"), completes("u1", "1")]);
    expect!["existing run-1, update result 1"].assert_eq(&w.update_with_start("u1", |_| {}));
    // Another update needs a policy that lets it use the run.
    expect!["AlreadyExists: Update-with-Start could not be executed."].assert_eq(&w.update_with_start("u2", |_| {}));
    expect!["existing run-1, update admitted"].assert_eq(&w.update_with_start("u2", |start| {
        start.workflow_id_conflict_policy = WorkflowIdConflictPolicy::UseExisting as i32;
    }));
    w.poll();
    w.complete(vec![complete_workflow("bye")]);
    expect!["existing run-1, update result 1"].assert_eq(&w.update_with_start("u1", |_| {}));
    expect!["started run-2, update admitted"].assert_eq(&w.update_with_start("u3", |_| {}));
}

/// What the server repeats of its own accord, after the run that it made was continued as new.
#[test]
fn a_repeated_update_with_start_goes_where_its_update_is_or_else_to_the_run_that_follows() {
    let mut w = World::new();
    let again = |w: &mut World, update: &str| {
        w.update_with_start(update, |start| {
            start.request_id = "start".into();
            start.workflow_id_conflict_policy = WorkflowIdConflictPolicy::UseExisting as i32;
        })
    };
    expect!["started run-1, update admitted"].assert_eq(&again(&mut w, "u1"));
    w.poll();
    w.say(vec![accepts("u1"), completes("u1", "1")]);
    w.signal("go");
    w.poll();
    w.complete(vec![continue_as_new("two")]);
    expect!["existing run-1, update result 1"].assert_eq(&again(&mut w, "u1"));
    expect!["existing run-2, update admitted"].assert_eq(&again(&mut w, "u2"));
}

#[test]
fn a_refused_update_starts_nothing() {
    let mut w = World::new();
    w.bounds = Some(stanchion_proto::command::Bounds { updates_in_flight_bytes_max: 1, ..Default::default() });
    expect!["ResourceExhausted: Update-with-Start could not be executed."].assert_eq(&w.update_with_start("u", |_| {}));
    expect!["NotFound: workflow not found for ID: wf"].assert_eq(&w.signal("anybody"));
}
