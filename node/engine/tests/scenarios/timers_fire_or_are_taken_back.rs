//! User timers: fired in order of time, canceled, taken back while their firing still waits for its id.

use expect_test::expect;

use crate::scenario::*;

#[test]
fn timers_fire_in_order_and_one_can_be_taken_back() {
    let mut w = World::after(vec![start_timer("late", 20), start_timer("soon", 10), start_timer("gone", 5)]);
    w.signal("s");
    w.poll();
    w.pass(5).fire_timers();
    w.complete(vec![cancel_timer("gone"), start_timer("gone", 30)]);
    w.pass(20).fire_timers();
    expect![[r#"
        5 TimerStarted timer=late after=20s
        6 TimerStarted timer=soon after=10s
        7 TimerStarted timer=gone after=5s
        8 WorkflowExecutionSignaled name=s
        9 WorkflowTaskScheduled queue=tq
        10 WorkflowTaskStarted scheduled=9
        11 WorkflowTaskCompleted scheduled=9 started=10
        12 TimerCanceled timer=gone started=7
        13 TimerStarted timer=gone after=30s
        14 TimerFired timer=soon started=6
        15 WorkflowTaskScheduled queue=tq
        16 TimerFired timer=late started=5
    "#]]
    .assert_eq(&w.news());
    w.poll();
    expect!["InvalidArgument: BadCancelTimerAttributes: invalid history builder state for action: add-timer-canceled-event, TimerID: nope"].assert_eq(&w.complete(vec![cancel_timer("nope")]));
    w.poll();
    expect!["InvalidArgument: StartTimerDuplicateId: invalid history builder state for action: add-timer-started-event, TimerID: gone"].assert_eq(&w.complete(vec![start_timer("gone", 1)]));
}

#[test]
fn a_timer_never_fires_before_its_time_by_the_shards_clock() {
    let mut w = World::after(vec![start_timer("t", 10)]);
    let keys = w.timer_keys();
    w.pass(9);
    w.fire(&keys);
    assert!(!w.history().contains("TimerFired"));
    w.pass(1);
    w.fire(&keys);
    w.fire(&keys);
    assert_eq!(w.history().matches("TimerFired").count(), 1);
}
