//! A workflow task made for updates alone leaves no trace, unless something comes of it.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn a_rejected_update_leaves_no_trace() {
    let mut w = World::idle();
    let before = w.history();
    w.update("u");
    w.poll();
    expect!["completed"].assert_eq(&w.say(vec![rejects("u")]));
    expect![[r#"u failure "not valid""#]].assert_eq(&w.told());
    assert_eq!(before, w.history());
    // The same id may come again: it is another update.
    expect!["update admitted"].assert_eq(&w.update("u"));
    expect!["task 6 attempt 1"].assert_eq(&w.poll());
    w.say(vec![accepts("u"), completes("u", "now")]);
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionUpdateAccepted update=u request=yes
        9 WorkflowExecutionUpdateCompleted update=u accepted=8
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_signal_while_the_task_is_scheduled_makes_it_an_ordinary_one() {
    let mut w = World::idle();
    w.update("u");
    w.signal("s");
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowExecutionSignaled name=s
    "#]]
    .assert_eq(&w.news());
    expect!["task 7 attempt 1"].assert_eq(&w.poll());
    expect!["u/request EventId(6)"].assert_eq(&w.given_updates());
    w.say(vec![rejects("u")]);
    expect![[r#"
        7 WorkflowTaskStarted scheduled=5
        8 WorkflowTaskCompleted scheduled=5 started=7
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_signal_while_the_task_is_started_waits_behind_its_events() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    w.signal("s");
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
    "#]]
    .assert_eq(&w.news());
    w.say(vec![rejects("u")]);
    expect![[r#"
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowExecutionSignaled name=s
        9 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn nobody_takes_the_task_up() {
    let mut w = World::idle();
    w.update("u");
    w.pass(4).fire_deadlines();
    let before = w.history();
    w.pass(1);
    w.fire_deadlines();
    assert_ne!(before, w.history());
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskTimedOut scheduled=5 started=0 kind=ScheduleToStart
        7 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
    w.poll();
    expect!["u/request EventId(7)"].assert_eq(&w.given_updates());
}

#[test]
fn an_update_that_comes_while_the_worker_has_the_task_gets_the_next_one() {
    let mut w = World::idle();
    w.update("u1");
    w.poll();
    w.update("u2");
    expect!["completed, next task 6"].assert_eq(&w.complete_with(vec![], |request| {
        request.messages = vec![rejects("u1")];
        request.return_new_workflow_task = true;
    }));
    expect![[r#"
        attempt 1, history 4..4, started 6
        5 WorkflowTaskScheduled queue=tq (not stored)
        6 WorkflowTaskStarted scheduled=5 (not stored)
    "#]]
    .assert_eq(&w.given());
    expect!["u2/request EventId(5)"].assert_eq(&w.given_updates());
    w.say(vec![rejects("u2")]);
    expect![""].assert_eq(&w.news());
}

#[test]
fn a_heartbeat_stores_the_task_and_the_update_goes_with_the_next() {
    let mut w = World::idle();
    w.update("u");
    w.poll();
    w.complete_with(vec![], |request| {
        request.force_create_new_workflow_task = true;
        request.return_new_workflow_task = true;
    });
    expect!["u/request EventId(8)"].assert_eq(&w.given_updates());
    w.say(vec![rejects("u")]);
    expect![[r#"
        5 WorkflowTaskScheduled queue=tq
        6 WorkflowTaskStarted scheduled=5
        7 WorkflowTaskCompleted scheduled=5 started=6
        8 WorkflowTaskScheduled queue=tq
        9 WorkflowTaskStarted scheduled=8
        10 WorkflowTaskCompleted scheduled=8 started=9
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn events_that_were_shown_are_not_shown_twice_unless_the_worker_can() {
    let mut w = World::idle();
    w.update("u1");
    w.poll();
    w.say(vec![accepts("u1"), completes("u1", "1")]);
    for (can, stored) in [(true, false), (false, true)] {
        w.update("u2");
        w.poll();
        let before = w.history();
        w.complete_with(vec![], |request| {
            request.messages = vec![rejects("u2")];
            request.capabilities = Some(
                stanchion_proto::temporal::workflowservice::v1::respond_workflow_task_completed_request::Capabilities {
                    discard_speculative_workflow_task_with_events: can,
                },
            );
        });
        assert_eq!(before != w.history(), stored);
    }
}

#[test]
fn an_update_does_not_wait_for_a_delayed_start() {
    let mut w = World::new();
    w.start_with(|request| request.workflow_start_delay = Some(stanchion_engine::time::duration(60_000_000_000)));
    w.update("u");
    expect!["task 3 attempt 1"].assert_eq(&w.poll());
    w.say(vec![rejects("u")]);
    w.pass(60).fire_timers();
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s backoff=60s
        2 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}
