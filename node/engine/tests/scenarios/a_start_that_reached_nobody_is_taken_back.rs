//! The poller that was held for an activity has left before the task was ready: the attempt is offered anew.

use expect_test::expect;

use crate::scenario::*;

fn started() -> (World, ActivityTask) {
    let mut w = World::at_work();
    assert_eq!(w.complete(vec![schedule("a1")]), "completed");
    let task = w.activity();
    w.effects();
    (w, task)
}

#[test]
fn the_same_attempt_is_offered_again() {
    let (mut w, task) = started();
    expect!["done"].assert_eq(&w.pass(1).give_back(&task));
    expect![[r#"
        offer activity 5 attempt 1 on tq
        clear timer +29s
    "#]]
    .assert_eq(&w.effects());
    let again = w.activity();
    expect!["a1 attempt 1 input=in"].assert_eq(&task_line(&again));
    assert_eq!(w.complete_activity(&again, "out"), "done");
}

#[test]
fn the_token_of_the_start_taken_back_is_worth_nothing() {
    let (mut w, task) = started();
    w.give_back(&task);
    assert_ne!(w.complete_activity(&task, "out"), "done");
    expect!["stale"].assert_eq(&w.give_back(&task));
}

#[test]
fn what_a_worker_has_heartbeaten_is_not_taken_back() {
    let (mut w, task) = started();
    assert_eq!(w.heartbeat(&task, "half"), "alive");
    expect!["stale"].assert_eq(&w.give_back(&task));
    assert_eq!(w.complete_activity(&task, "out"), "done");
}
