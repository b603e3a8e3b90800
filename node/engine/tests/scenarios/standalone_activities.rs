//! Standalone activities: their id's policies, attempts, ends. Compared with what the real server answers.

use stanchion_engine::time::{SECOND, duration};
use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::{ActivityRef, ResetActivity, RunRef};
use stanchion_proto::temporal::common::v1::RetryPolicy;
use stanchion_proto::temporal::enums::v1::{ActivityIdConflictPolicy, ActivityIdReusePolicy};

use crate::scenario::*;

fn started() -> World {
    let mut w = World::new();
    assert_eq!(w.start_alone(|_| {}), "started");
    w
}

fn fire_all(w: &mut World) {
    w.fire_timers();
}

#[test]
fn a_worker_completes_it_and_the_outcome_stays() {
    let mut w = started();
    let task = w.activity();
    assert!(task.workflow_execution.as_ref().is_some_and(|run| run.workflow_id.is_empty()));
    assert!(!task.activity_run_id.is_empty());
    assert_eq!(w.alone(), "RUNNING STARTED attempt 1");
    assert_eq!(w.complete_activity(&task, "out"), "done");
    assert_eq!(w.alone(), "COMPLETED attempt 1 with a result");
    assert_eq!(w.complete_activity(&task, "again"), "NotFound: activity not found for ID: alone");
    w.check();
}

#[test]
fn a_failed_attempt_is_tried_again_after_its_back_off() {
    let mut w = started();
    let task = w.activity();
    w.heartbeat(&task, "half");
    w.fail_activity(&task, "no");
    assert_eq!(w.alone(), "RUNNING SCHEDULED attempt 2");
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
    w.pass(1);
    fire_all(&mut w);
    let task = w.activity();
    assert_eq!(task.attempt, 2);
    assert!(task.heartbeat_details.is_some());
    w.check();
}

#[test]
fn the_last_attempt_fails_it_for_good() {
    let mut w = World::new();
    w.start_alone(|r| r.retry_policy = Some(RetryPolicy { maximum_attempts: 1, ..Default::default() }));
    let task = w.activity();
    w.fail_activity(&task, "no");
    assert_eq!(w.alone(), "FAILED attempt 1 with 'no'");
    w.check();
}

#[test]
fn each_time_out_ends_it_or_brings_another_attempt() {
    let mut w = World::new();
    w.start_alone(|r| r.schedule_to_start_timeout = Some(duration(SECOND)));
    w.pass(1);
    fire_all(&mut w);
    assert_eq!(w.alone(), "TIMED_OUT attempt 1 with 'activity ScheduleToStart timeout'");
    w.start_alone(|r| {
        r.request_id = "second".into();
        r.heartbeat_timeout = Some(duration(SECOND));
        r.schedule_to_close_timeout = Some(duration(3 * SECOND));
    });
    w.activity();
    w.pass(1);
    fire_all(&mut w);
    assert_eq!(w.alone(), "RUNNING SCHEDULED attempt 2");
    w.pass(2);
    fire_all(&mut w);
    assert_eq!(w.alone(), "TIMED_OUT attempt 2 with 'activity ScheduleToClose timeout'");
    w.check();
}

#[test]
fn one_open_run_of_an_id_and_policies_for_the_next() {
    let mut w = started();
    assert_eq!(w.start_alone(|_| {}), "existing", "the same request");
    let refused = "AlreadyExists: activity execution already started";
    assert_eq!(w.start_alone(|r| r.request_id = "other".into()), refused);
    let use_existing = w.start_alone(|r| {
        r.request_id = "other".into();
        r.set_id_conflict_policy(ActivityIdConflictPolicy::UseExisting);
    });
    assert_eq!(use_existing, "existing");
    let task = w.activity();
    w.complete_activity(&task, "out");
    let failed_only = |w: &mut World| {
        w.start_alone(|r| {
            r.request_id = "third".into();
            r.set_id_reuse_policy(ActivityIdReusePolicy::AllowDuplicateFailedOnly);
        })
    };
    assert_eq!(failed_only(&mut w), refused, "it did not fail");
    assert_eq!(w.start_alone(|r| r.request_id = "fourth".into()), "started");
    w.terminate_alone();
    assert_eq!(failed_only(&mut w), "started");
    w.check();
}

#[test]
fn cancellation_ends_it_at_once_or_through_its_worker() {
    let mut w = started();
    assert_eq!(w.cancel_alone("c1"), "done");
    assert_eq!(w.alone(), "CANCELED attempt 1 with 'Activity canceled'");
    w.start_alone(|r| r.request_id = "second".into());
    let task = w.activity();
    let early = "InvalidArgument: unable to mark activity as canceled without activity being request canceled first";
    assert_eq!(w.cancel_activity(&task), early);
    w.cancel_alone("c2");
    assert_eq!(w.cancel_alone("c2"), "done");
    let another = "FailedPrecondition: cancellation already requested with request ID c2";
    assert_eq!(w.cancel_alone("c3"), another);
    assert_eq!(w.heartbeat(&task, "half"), "cancel");
    assert_eq!(w.cancel_activity(&task), "done");
    assert_eq!(w.alone(), "CANCELED attempt 1 with 'Activity canceled'");
    w.check();
}

#[test]
fn a_delayed_start_is_offered_when_its_time_has_come() {
    let mut w = World::new();
    w.start_alone(|r| {
        r.start_delay = Some(duration(5 * SECOND));
        r.schedule_to_close_timeout = Some(duration(10 * SECOND));
    });
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
    w.pass(5);
    fire_all(&mut w);
    let task = w.activity();
    w.pass(9);
    fire_all(&mut w);
    assert_eq!(w.alone(), "RUNNING STARTED attempt 1", "the delay is not held against it");
    assert_eq!(w.complete_activity(&task, "out"), "done");
    w.check();
}

#[test]
fn a_held_poller_gets_it_in_the_command_that_starts_it() {
    let mut w = World::new();
    w.hold_activity_poller(QUEUE);
    w.start_alone(|_| {});
    let task = w.handed_over().unwrap();
    assert_eq!(w.complete_activity(&task, "out"), "done");
    w.check();
}

#[test]
fn by_its_id_it_may_be_completed_before_a_worker_has_it() {
    let mut w = started();
    let name = || ActivityRef {
        run: Some(RunRef { workflow_id: ALONE.into(), run_id: String::new() }),
        standalone: true,
        ..Default::default()
    };
    assert_eq!(w.fail_named(name(), None), "NotFound: activity not found for ID: alone");
    assert_eq!(w.complete_named(name(), "out"), "done");
    assert_eq!(w.complete_named(name(), "out"), "FailedPrecondition: invalid transition from Completed");
    w.check();
}

#[test]
fn a_pause_keeps_its_time_outs_and_a_reset_waits_for_the_worker() {
    let mut w = World::new();
    w.start_alone(|r| {
        r.start_to_close_timeout = None;
        r.schedule_to_close_timeout = Some(duration(60 * SECOND));
    });
    assert_eq!(w.control_alone(pause()), "done");
    assert_eq!(w.alone(), "PAUSED PAUSED attempt 1");
    assert_eq!(w.try_activity().unwrap_err(), "nothing on offer");
    w.control_alone(unpause());
    let again = "FailedPrecondition: activity is in non-unpausable state Scheduled";
    assert_eq!(w.control_alone(unpause()), again);
    let task = w.activity();
    w.control_alone(Action::Reset(ResetActivity::default()));
    assert_eq!(w.heartbeat(&task, "half"), "reset");
    let pending = "FailedPrecondition: cannot reset an activity with a pending reset";
    assert_eq!(w.control_alone(Action::Reset(ResetActivity::default())), pending);
    w.fail_activity(&task, "no");
    assert_eq!(w.activity().attempt, 1);
    w.pass(60);
    fire_all(&mut w);
    assert_eq!(w.alone(), "TIMED_OUT attempt 1 with 'activity ScheduleToClose timeout'");
    w.check();
}

#[test]
fn deletion_and_the_end_of_retention_leave_nothing() {
    let mut w = started();
    w.activity();
    assert_eq!(w.delete_alone(), "done");
    assert_eq!(w.alone(), "none");
    w.retention = 100 * SECOND;
    w.start_alone(|_| {});
    w.terminate_alone();
    assert_eq!(w.alone(), "TERMINATED attempt 1 with 'because'");
    w.pass(100);
    fire_all(&mut w);
    assert_eq!(w.alone(), "none");
    assert!(w.timer_keys().is_empty());
    w.check();
}
