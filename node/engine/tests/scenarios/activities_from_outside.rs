//! Activities of a run, paused, reset and given other options by a caller: as the real server does it, without a trace in the history.

use stanchion_engine::time::{SECOND, duration};
use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::{ChangeActivityOptions, ResetActivity, UnpauseActivity};
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use crate::scenario::*;

fn change(mask: &str, options: ActivityOptions) -> Action {
    Action::Options(ChangeActivityOptions { options: Some(options), mask: vec![mask.into()], restore_original: false })
}

#[test]
fn a_paused_activity_is_not_on_offer_until_it_goes_on() {
    let mut w = World::after(vec![schedule("a1")]);
    assert_eq!(w.control("a1", pause()), "done");
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
    assert_eq!(w.control("a1", pause()), "done", "twice is once");
    assert_eq!(w.pass(1000).control("a1", unpause()), "done");
    assert_eq!(w.activity().attempt, 1);
    w.check();
}

#[test]
fn a_pause_reaches_the_worker_with_its_heartbeat_and_holds_the_next_attempt_back() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.control("a1", pause());
    assert_eq!(w.heartbeat(&task, "half"), "paused");
    assert_eq!(w.fail_activity(&task, "no"), "done");
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
    w.pass(1000).control("a1", unpause());
    let task = w.activity();
    assert_eq!(task.attempt, 2, "the failed attempt counts");
    assert_eq!(w.complete_activity(&task, "out"), "done");
    w.check();
}

#[test]
fn no_time_out_passes_while_an_activity_is_paused() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.control("a1", pause());
    assert!(w.timer_keys().is_empty(), "the worker's time stands still too");
    w.pass(1000).control("a1", unpause());
    assert_eq!(w.timer_keys().len(), 1, "its start-to-close time-out, which has passed meanwhile");
    w.fire_timers();
    assert_eq!(w.complete_activity(&task, "late"), refused_attempt());
    w.check();
}

#[test]
fn a_reset_while_a_later_attempt_runs_outdates_its_token() {
    let mut w = World::after(vec![schedule("a1")]);
    let first = w.activity();
    w.fail_activity(&first, "no");
    w.pass(1);
    w.fire_timers();
    let second = w.activity();
    assert_eq!(second.attempt, 2);
    assert_eq!(w.control("a1", Action::Reset(ResetActivity::default())), "done");
    assert_eq!(w.heartbeat(&second, "half"), refused_attempt());
    w.check();
}

#[test]
fn a_reset_of_the_first_attempt_is_told_with_the_heartbeat() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.control("a1", Action::Reset(ResetActivity::default()));
    assert_eq!(w.heartbeat(&task, "half"), "reset");
    assert_eq!(w.complete_activity(&task, "out"), "done");
    w.check();
}

#[test]
fn a_reset_ends_the_back_off_and_may_forget_what_heartbeats_said() {
    let mut w = World::after(vec![schedule("a1")]);
    let task = w.activity();
    w.heartbeat(&task, "half");
    w.fail_activity(&task, "no");
    let reset = ResetActivity { reset_heartbeat: true, ..Default::default() };
    w.control("a1", Action::Reset(reset));
    let task = w.activity();
    assert_eq!((task.attempt, task.heartbeat_details), (1, None));
    w.check();
}

#[test]
fn other_options_move_the_activity_to_another_queue_and_can_be_taken_back() {
    let mut w = World::after(vec![schedule("a1")]);
    let queue = TaskQueue { name: "other".into(), ..Default::default() };
    let options = ActivityOptions { task_queue: Some(queue), ..Default::default() };
    w.control("a1", change("taskQueue.name", options));
    assert_eq!(w.offers[0].task_queue, "other");
    let options = ActivityOptions { start_to_close_timeout: Some(duration(50 * SECOND)), ..Default::default() };
    let answer = w.control("a1", change("startToCloseTimeout", options));
    assert_eq!(answer, "options: start to close 50s, schedule to close 0s");
    let restore = ChangeActivityOptions { restore_original: true, ..Default::default() };
    assert_eq!(w.control("a1", Action::Options(restore)), "options: start to close 30s, schedule to close 0s");
    assert_eq!(w.offers[0].task_queue, QUEUE);
    w.check();
}

#[test]
fn an_activity_that_is_not_there_is_refused() {
    let mut w = World::after(vec![schedule("a1")]);
    let words = "NotFound: Can't find pending activity with such ID. Invalid activityID or activity already completed";
    assert_eq!(w.control("zz", pause()), words);
    w.check();
}

#[test]
fn jitter_lets_an_activity_go_on_within_its_bound() {
    let mut w = World::after(vec![schedule("a1")]);
    w.control("a1", pause());
    let jitter = Some(duration(10 * SECOND));
    w.control("a1", Action::Unpause(UnpauseActivity { jitter, ..Default::default() }));
    w.pass(10);
    w.fire_timers();
    assert_eq!(w.activity().attempt, 1);
    w.check();
}

fn refused_attempt() -> String {
    "NotFound: invalid activityID or activity already timed out or invoking workflow is completed".into()
}
