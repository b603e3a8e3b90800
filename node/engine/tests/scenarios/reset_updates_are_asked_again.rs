//! Updates over a reset: those behind the point are asked again by an event, those in front of it are as they were there.

use expect_test::expect;
use stanchion_proto::temporal::enums::v1::{ResetReapplyExcludeType, ResetReapplyType};

use crate::scenario::*;

/// A run with one completed task.
fn idle() -> World {
    let mut w = World::new();
    w.start();
    w.poll();
    w.complete(vec![]);
    w
}

/// An update is accepted, and completed with it if it has a result.
fn updated(w: &mut World, id: &str, result: Option<&str>) {
    w.update(id);
    w.poll();
    let completed = result.map(|result| completes(id, result));
    w.say([accepts(id)].into_iter().chain(completed).collect());
}

fn last_events(w: &World, from: usize) -> String {
    w.history().lines().skip(from - 1).map(|line| format!("{line}\n")).collect()
}

#[test]
fn updates_behind_the_point_are_admitted_by_events_in_their_order() {
    let mut w = idle();
    w.signal("one");
    w.poll();
    w.complete(vec![]);
    updated(&mut w, "done", Some("out"));
    updated(&mut w, "accepted", None);
    w.signal("two");
    expect!["reset to run-2"].assert_eq(&w.reset(4));
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowExecutionSignaled name=one
        6 WorkflowExecutionUpdateAdmitted update=done origin=Reapply
        7 WorkflowExecutionUpdateAdmitted update=accepted origin=Reapply
        8 WorkflowExecutionSignaled name=two
        9 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&last_events(&w, 4));
    expect!["update admitted"].assert_eq(&w.update("done"));
    w.poll();
    // The worker finds them in the history: no messages.
    expect![""].assert_eq(&w.given_updates());
    w.say(vec![accepts("done"), completes("done", "again"), accepts("accepted")]);
    expect!["done result again, accepted accepted"].assert_eq(&w.told());
    expect!["update result again"].assert_eq(&w.update("done"));
    expect!["update accepted"].assert_eq(&w.update("accepted"));
    expect![[r#"
        11 WorkflowTaskCompleted scheduled=9 started=10
        12 WorkflowExecutionUpdateAccepted update=done
        13 WorkflowExecutionUpdateCompleted update=done accepted=12
        14 WorkflowExecutionUpdateAccepted update=accepted
    "#]]
    .assert_eq(&last_events(&w, 11));
    w.check();
}

#[test]
fn what_is_left_out_is_forgotten() {
    let mut w = idle();
    updated(&mut w, "u", Some("out"));
    w.signal("s");
    w.reset_with(4, |r| r.reset_reapply_exclude_types = vec![ResetReapplyExcludeType::Update as i32]);
    expect![[r#"
        4 WorkflowTaskFailed scheduled=2 started=3 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&last_events(&w, 4));
    // Its id is free again.
    expect!["update admitted"].assert_eq(&w.update("u"));
    let first = w.run_id(1);
    for kind in [ResetReapplyType::Signal, ResetReapplyType::None, ResetReapplyType::AllEligible] {
        #[allow(deprecated)]
        w.reset_with(4, |r| {
            r.workflow_execution = Some(execution(&first));
            r.reset_reapply_type = kind as i32;
        });
    }
    let told_again = |w: &World, n| {
        let told = |line: &&str| line.contains("Signaled") || line.contains("Admitted");
        w.history_of(n).lines().filter(told).count()
    };
    expect!["[1, 0, 2]"].assert_eq(&format!("{:?}", [told_again(&w, 3), told_again(&w, 4), told_again(&w, 5)]));
    w.check();
}

#[test]
fn updates_in_front_of_the_point_are_as_they_were() {
    let mut w = idle();
    updated(&mut w, "done", Some("out"));
    updated(&mut w, "accepted", None);
    w.signal("s");
    w.poll();
    // Its outcome is behind the point.
    w.say(vec![completes("accepted", "late")]);
    expect!["reset to run-2"].assert_eq(&w.reset(16));
    expect![[r#"
        16 WorkflowTaskStarted scheduled=15
        17 WorkflowTaskFailed scheduled=15 started=16 cause=ResetWorkflow failure="why" identity=history-service base-run=run-1 new-run=run-2
        18 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&last_events(&w, 16));
    expect!["update result out"].assert_eq(&w.update("done"));
    expect!["update accepted"].assert_eq(&w.update("accepted"));
    w.poll();
    w.say(vec![completes("accepted", "again")]);
    expect!["accepted result again"].assert_eq(&w.told());
    w.check();
}

#[test]
fn updates_that_were_asked_again_are_asked_once_more_by_the_next_reset() {
    let mut w = idle();
    updated(&mut w, "one", Some("out"));
    updated(&mut w, "two", None);
    w.reset(4);
    w.poll();
    w.say(vec![accepts("one"), completes("one", "again")]);
    // Behind their admission: the acceptance goes, and the admitted events stay.
    expect!["reset to run-3"].assert_eq(&w.reset(9));
    expect![[r#"
        5 WorkflowExecutionUpdateAdmitted update=one origin=Reapply
        6 WorkflowExecutionUpdateAdmitted update=two origin=Reapply
        7 WorkflowTaskScheduled queue=tq
        8 WorkflowTaskStarted scheduled=7
        9 WorkflowTaskFailed scheduled=7 started=8 cause=ResetWorkflow failure="why" identity=history-service base-run=run-2 new-run=run-3
        10 WorkflowTaskScheduled queue=tq
    "#]].assert_eq(&last_events(&w, 5));
    expect!["update admitted"].assert_eq(&w.update("one"));
    expect!["reset to run-4"].assert_eq(&w.reset(4));
    expect![[r#"
        5 WorkflowExecutionUpdateAdmitted update=one origin=Reapply
        6 WorkflowExecutionUpdateAdmitted update=two origin=Reapply
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&last_events(&w, 5));
    w.check();
}

#[test]
fn an_update_asked_again_can_be_rejected_and_outlives_a_failed_task() {
    let mut w = idle();
    updated(&mut w, "one", Some("out"));
    updated(&mut w, "two", Some("out"));
    w.reset(4);
    w.poll();
    // Not what an accepted update may be told.
    w.say(vec![completes("one", "too early")]);
    expect!["update admitted"].assert_eq(&w.update("one"));
    w.poll();
    w.say(vec![rejects("one"), accepts("two")]);
    expect![[r#"two accepted, one failure "not valid""#]].assert_eq(&w.told());
    w.check();
}

#[test]
fn one_id_in_two_runs_of_a_chain_is_asked_once() {
    let mut w = idle();
    updated(&mut w, "u", Some("first"));
    w.signal("go on");
    w.poll();
    w.pass(2);
    w.complete(vec![continue_as_new("two")]);
    w.poll();
    w.complete(vec![]);
    updated(&mut w, "u", Some("second"));
    updated(&mut w, "v", Some("second"));
    expect!["reset to run-3"].assert_eq(&w.reset_run(1, 4));
    expect![[r#"
        5 WorkflowExecutionUpdateAdmitted update=u origin=Reapply
        6 WorkflowExecutionSignaled name=go on
        7 WorkflowExecutionUpdateAdmitted update=v origin=Reapply
        8 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&last_events(&w, 5));
    w.check();
}
