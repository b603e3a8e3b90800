//! A worker that keeps a run in memory gets its tasks; losing it costs time only.

use expect_test::expect;

use crate::scenario::*;

fn on_sticky_queue() -> World {
    let mut w = World::at_work();
    w.complete_with(vec![], |r| r.sticky_attributes = Some(sticky("mine")));
    w.signal("s");
    w
}

#[test]
fn the_next_task_is_on_the_sticky_queue_with_new_events_only() {
    let mut w = on_sticky_queue();
    expect![[r#"
        offer workflow 6 attempt 1 on mine (sticky)
        start by +5s
        run-1 next event 7
    "#]]
    .assert_eq(&w.effects());
    w.poll();
    expect![[r#"
        attempt 1, history 4..7, started 7
    "#]]
    .assert_eq(&w.given());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=mine(sticky of tq)
        7 WorkflowTaskStarted scheduled=6
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn nobody_polls_the_sticky_queue() {
    let mut w = on_sticky_queue();
    w.pass(4);
    expect![""].assert_eq(&w.fire_deadlines());
    w.pass(1);
    expect!["done"].assert_eq(&w.fire_deadlines());
    expect![[r#"
        withdraw workflow 6 attempt 1
        offer workflow 8 attempt 1 on tq
        run-1 next event 9
    "#]]
    .assert_eq(&w.effects());
    w.poll();
    expect![[r#"
        attempt 1, history 1..9, started 9
    "#]]
    .assert_eq(&w.given());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=mine(sticky of tq)
        7 WorkflowTaskTimedOut scheduled=6 started=0 kind=ScheduleToStart
        8 WorkflowTaskScheduled queue=tq
        9 WorkflowTaskStarted scheduled=8
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_matcher_may_give_a_sticky_task_to_a_poller_of_the_normal_queue() {
    let mut w = on_sticky_queue();
    let offer = w.offers[0].clone();
    expect!["task 7 attempt 1"].assert_eq(&w.poll_offer(&offer, QUEUE));
    expect![[r#"
        attempt 1, history 1..7, started 7
    "#]]
    .assert_eq(&w.given());
}

#[test]
fn a_failure_off_the_sticky_queue_is_tried_on_the_normal_one_as_a_first_attempt() {
    let mut w = on_sticky_queue();
    w.poll();
    w.fail_task();
    expect![[r#"
        offer workflow 9 attempt 1 on tq
        run-1 next event 10
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionSignaled name=s
        6 WorkflowTaskScheduled queue=mine(sticky of tq)
        7 WorkflowTaskStarted scheduled=6
        8 WorkflowTaskFailed scheduled=6 started=7 cause=WorkflowWorkerUnhandledFailure failure="bug" identity=worker
        9 WorkflowTaskScheduled queue=tq
    "#]]
    .assert_eq(&w.news());
}

#[test]
fn a_held_poller_of_the_sticky_queue_gets_the_task_with_the_signal() {
    let mut w = World::at_work();
    w.complete_with(vec![], |r| r.sticky_attributes = Some(sticky("mine")));
    w.hold_poller("mine");
    w.signal("s");
    expect![[r#"
        complete by +10s
        hand over workflow to ticket 7
        run-1 next event 8
    "#]]
    .assert_eq(&w.effects());
    expect![[r#"
        attempt 1, history 4..7, started 7
    "#]]
    .assert_eq(&w.given());
}

#[test]
fn a_held_poller_of_another_queue_is_not_used() {
    let mut w = World::new();
    w.hold_poller("other");
    w.start();
    expect![[r#"
        offer workflow 2 attempt 1 on tq
        run-1 next event 3
    "#]]
    .assert_eq(&w.effects());
}
