//! Schedules: matching times become runs, once each, as the policies say. The world begins 20 seconds behind a full minute.

use expect_test::expect;
use stanchion_engine::Reply;
use stanchion_engine::time::SECOND;
use stanchion_proto::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::schedule::v1::{Schedule, SchedulePatch};

use crate::scenario::*;

fn created(schedule: Schedule) -> World {
    let mut w = World::new();
    expect!["done"].assert_eq(&w.create_schedule(schedule));
    w.settle();
    w
}

/// Without overlap, in words: what two minutes make of it while the first run goes on, and what its end does.
fn two_minutes(policy: Overlap) -> (World, String) {
    let mut w = created(with_overlap(every(60), policy));
    w.run_for(180);
    w.check();
    let text = w.schedule();
    (w, text)
}

#[test]
fn each_matching_time_leads_to_one_run() {
    let mut w = created(every(60));
    for id in ["run-2023-11-14T22:14:00Z", "run-2023-11-14T22:15:00Z"] {
        w.run_for(60);
        w.finish_run(id, "bye");
    }
    expect![[r#"
        actions 2
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:15:00Z for 100 at 100 completed
        next [160, 220, 280]
    "#]]
    .assert_eq(&w.schedule());
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowTaskStarted scheduled=2
        4 WorkflowTaskCompleted scheduled=2 started=3
        5 WorkflowExecutionCompleted result=bye
    "#]]
    .assert_eq(&w.news_of(1));
    w.check();
}

#[test]
fn a_run_carries_where_it_comes_from() {
    let mut w = created(every(60));
    w.run_for(60);
    w.finish_run("run-2023-11-14T22:14:00Z", "the result");
    w.run_for(60);
    let events = w.events_of(2);
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = events[0].attributes.clone() else {
        panic!("no started event");
    };
    assert_eq!(started.identity, "temporal-scheduler-ns-sched");
    let attributes = started.search_attributes.unwrap().indexed_fields;
    let text = |name: &str| String::from_utf8(attributes[name].data.to_vec()).unwrap();
    assert_eq!(text("TemporalScheduledStartTime"), "\"2023-11-14T22:15:00Z\"");
    assert_eq!(text("TemporalScheduledById"), "\"sched\"");
    let last = started.last_completion_result.unwrap();
    assert_eq!(last.payloads[0].data, "the result".as_bytes());
}

#[test]
fn skip() {
    let (mut w, text) = two_minutes(Overlap::Skip);
    expect![[r#"
        actions 1 skipped 2
        run-2023-11-14T22:14:00Z for 40 at 40 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    w.run_for(60);
    expect![[r#"
        actions 2 skipped 2
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:17:00Z for 220 at 220 running counts
        next [280, 340, 400]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn buffer_one() {
    let (mut w, text) = two_minutes(Overlap::BufferOne);
    expect![[r#"
        actions 1 skipped 1 buffered 1
        run-2023-11-14T22:14:00Z for 40 at 40 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    expect![[r#"
        actions 2 skipped 1
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:15:00Z for 100 at 180 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn buffer_all() {
    let (mut w, text) = two_minutes(Overlap::BufferAll);
    expect![[r#"
        actions 1 buffered 2
        run-2023-11-14T22:14:00Z for 40 at 40 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    w.finish_run("run-2023-11-14T22:15:00Z", "bye");
    expect![[r#"
        actions 3
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:15:00Z for 100 at 180 completed
        run-2023-11-14T22:16:00Z for 160 at 180 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn cancel_other() {
    let (mut w, text) = two_minutes(Overlap::CancelOther);
    expect![[r#"
        actions 1 buffered 2
        run-2023-11-14T22:14:00Z for 40 at 40 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionCancelRequested cause=cancelled by schedule overlap policy
    "#]]
    .assert_eq(&w.news_of(1));
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    expect![[r#"
        actions 2
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:16:00Z for 160 at 180 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn terminate_other() {
    let (mut w, text) = two_minutes(Overlap::TerminateOther);
    expect![[r#"
        actions 3
        run-2023-11-14T22:14:00Z for 40 at 40 terminated
        run-2023-11-14T22:15:00Z for 100 at 100 terminated
        run-2023-11-14T22:16:00Z for 160 at 160 running counts
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    expect![[r#"
        1 WorkflowExecutionStarted task-timeout=10s
        2 WorkflowTaskScheduled queue=tq
        3 WorkflowExecutionTerminated reason="terminated by schedule overlap policy" identity=temporal-scheduler-ns-sched
    "#]].assert_eq(&w.news_of(1));
}

#[test]
fn allow_all() {
    let (mut w, text) = two_minutes(Overlap::AllowAll);
    expect![[r#"
        actions 3
        run-2023-11-14T22:14:00Z for 40 at 40 running
        run-2023-11-14T22:15:00Z for 100 at 100 running
        run-2023-11-14T22:16:00Z for 160 at 160 running
        next [220, 280, 340]
    "#]]
    .assert_eq(&text);
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    expect![[r#"
        actions 3
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:15:00Z for 100 at 100 running
        run-2023-11-14T22:16:00Z for 160 at 160 running
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn a_chain_of_runs_is_one_action() {
    let mut w = created(with_overlap(every(60), Overlap::BufferAll));
    w.run_for(60);
    let id = "run-2023-11-14T22:14:00Z";
    w.poll_of(id);
    w.work_on(id);
    w.complete(vec![continue_as_new("more")]);
    w.run_for(60);
    expect![[r#"
        actions 1 buffered 1
        run-2023-11-14T22:14:00Z for 40 at 40 running counts
        next [160, 220, 280]
    "#]]
    .assert_eq(&w.schedule());
    w.pass(1);
    w.fire_timers();
    w.finish_run(id, "bye");
    expect![[r#"
        actions 2
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        run-2023-11-14T22:15:00Z for 100 at 121 running counts
        next [160, 220, 280]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn after_an_outage_the_catch_up_window_decides() {
    let mut schedule = with_overlap(every(60), Overlap::BufferAll);
    schedule.policies.get_or_insert_default().catchup_window = Some(prost_types::Duration { seconds: 150, nanos: 0 });
    let mut w = created(schedule);
    w.pass(600);
    w.settle();
    expect![[r#"
        actions 1 missed 7 buffered 2
        run-2023-11-14T22:21:00Z for 460 at 600 running counts
        next [640, 700, 760]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn a_look_from_before_a_change_does_nothing() {
    let mut w = created(every(60));
    w.pass(60);
    let early = w.look_at_schedule();
    w.settle();
    let actions = w.schedule();
    assert_eq!(w.tick_with(early.clone()), Reply::Stale, "the same times again");
    w.patch_schedule(SchedulePatch { pause: "stop".into(), ..Default::default() });
    let mut paused = w.look_at_schedule();
    paused.conflict_token -= 1;
    assert_eq!(w.tick_with(paused), Reply::Stale);
    let mut ahead = w.look_at_schedule();
    ahead.until += 3600 * SECOND;
    assert_eq!(w.tick_with(ahead), Reply::Stale, "the leader's clock is ahead of the shard's");
    w.settle();
    assert_eq!(w.schedule().lines().nth(1), actions.lines().nth(1));
}

#[test]
fn a_pause_lets_times_pass() {
    let mut w = created(with_overlap(every(60), Overlap::AllowAll));
    w.patch_schedule(SchedulePatch { pause: "lunch".into(), ..Default::default() });
    w.run_for(130);
    expect![[r#"
        actions 0 paused "lunch"
        next [160, 220, 280]
    "#]]
    .assert_eq(&w.schedule());
    w.patch_schedule(SchedulePatch { unpause: "back".into(), ..Default::default() });
    w.run_for(60);
    expect![[r#"
        actions 1 "back"
        run-2023-11-14T22:16:00Z for 160 at 160 running
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn a_failure_pauses_if_asked() {
    let mut schedule = every(60);
    schedule.policies.get_or_insert_default().pause_on_failure = true;
    let mut w = created(schedule);
    w.run_for(60);
    let id = "run-2023-11-14T22:14:00Z";
    w.poll_of(id);
    w.work_on(id);
    w.complete(vec![fail_workflow("boom")]);
    w.settle();
    w.run_for(120);
    expect![[r#"
        actions 1 paused "paused due to workflow failure: run-2023-11-14T22:14:00Z: boom"
        run-2023-11-14T22:14:00Z for 40 at 40 failed
        next [220, 280, 340]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn limited_actions_run_out() {
    let mut schedule = with_overlap(every(60), Overlap::AllowAll);
    let state = schedule.state.get_or_insert_default();
    (state.limited_actions, state.remaining_actions) = (true, 2);
    let mut w = created(schedule);
    w.run_for(240);
    expect![[r#"
        actions 2 left 0
        run-2023-11-14T22:14:00Z for 40 at 40 running
        run-2023-11-14T22:15:00Z for 100 at 100 running
        next []
    "#]]
    .assert_eq(&w.schedule());
    // Somebody may still ask for more.
    w.patch_schedule(trigger(Overlap::AllowAll));
    w.settle();
    expect![[r#"
        actions 3 left 0
        run-2023-11-14T22:14:00Z for 40 at 40 running
        run-2023-11-14T22:15:00Z for 100 at 100 running
        run-2023-11-14T22:17:20Z for 240 at 240 running
        next []
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn a_trigger_acts_at_once_and_twice_asked_is_once_done() {
    let mut w = created(every(3600));
    expect!["done"].assert_eq(&w.patch_schedule_as(trigger(Overlap::Unspecified), "again"));
    expect!["done"].assert_eq(&w.patch_schedule_as(trigger(Overlap::Unspecified), "again"));
    w.settle();
    expect![[r#"
        actions 1
        run-2023-11-14T22:13:20Z for 0 at 0 running counts
        next [2800, 6400, 10000]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn a_backfill_acts_on_times_that_have_passed() {
    let mut w = created(every(60));
    w.patch_schedule(backfill(-1220, -200, Overlap::AllowAll));
    w.settle();
    assert_eq!(w.schedule_row().unwrap().action_count, 10, "ten at a time");
    w.run_for(1);
    expect![[r#"
        actions 18
        run-2023-11-14T22:01:00Z for -740 at 0 running
        run-2023-11-14T22:02:00Z for -680 at 0 running
        run-2023-11-14T22:03:00Z for -620 at 1 running
        run-2023-11-14T22:04:00Z for -560 at 1 running
        run-2023-11-14T22:05:00Z for -500 at 1 running
        run-2023-11-14T22:06:00Z for -440 at 1 running
        run-2023-11-14T22:07:00Z for -380 at 1 running
        run-2023-11-14T22:08:00Z for -320 at 1 running
        run-2023-11-14T22:09:00Z for -260 at 1 running
        run-2023-11-14T22:10:00Z for -200 at 1 running
        next [40, 100, 160]
    "#]]
    .assert_eq(&w.schedule());
    assert!(w.schedule_row().unwrap().backfills.is_empty());
    w.check();
}

#[test]
fn an_initial_patch_acts_with_the_creation() {
    let mut w = World::new();
    let patch = trigger(Overlap::Unspecified);
    w.create_schedule_with(every(3600), |request| request.initial_patch = Some(patch));
    w.settle();
    expect![[r#"
        actions 1
        run-2023-11-14T22:13:20Z for 0 at 0 running counts
        next [2800, 6400, 10000]
    "#]]
    .assert_eq(&w.schedule());
}

#[test]
fn updates_and_their_conflicts() {
    let mut w = created(every(60));
    let token = w.describe_schedule().conflict_token;
    expect!["done"].assert_eq(&w.update_schedule(|request| {
        request.conflict_token = token.clone();
        request.schedule = Some(every(30));
    }));
    expect!["FailedPrecondition: mismatched conflict token"]
        .assert_eq(&w.update_schedule(|request| request.conflict_token = token.clone()));
    expect!["done"].assert_eq(&w.update_schedule(|request| request.conflict_token.clear()));
    expect![[r#"
        actions 0
        next [10, 40, 70]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}

#[test]
fn names_are_taken_and_given_back() {
    let mut w = created(every(60));
    expect!["done"].assert_eq(&w.create_schedule_with(every(60), |request| request.request_id = "create-0".into()));
    expect![[r#"AlreadyExists: schedule "sched" is already registered"#]].assert_eq(&w.create_schedule(every(60)));
    w.run_for(60);
    expect!["done"].assert_eq(&w.delete_schedule());
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.delete_schedule());
    expect!["NotFound: workflow execution already completed"].assert_eq(&w.patch_schedule(SchedulePatch::default()));
    // The run goes on; its end is of no consequence to a schedule that takes the name.
    expect!["done"].assert_eq(&w.create_schedule(every(3600)));
    w.settle();
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    expect![[r#"
        actions 0
        next [2800, 6400, 10000]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
    let mut other = World::new();
    expect!["NotFound: workflow not found for ID: temporal-sys-scheduler:sched"].assert_eq(&other.delete_schedule());
}

#[test]
fn a_schedule_with_nothing_left_to_do_is_forgotten() {
    let mut schedule = every(60);
    schedule.spec.get_or_insert_default().end_time = at(70);
    let mut w = created(schedule);
    w.run_for(60);
    w.finish_run("run-2023-11-14T22:14:00Z", "bye");
    expect![[r#"
        actions 1
        run-2023-11-14T22:14:00Z for 40 at 40 completed
        next []
    "#]]
    .assert_eq(&w.schedule());
    w.pass(7 * 24 * 3600 - 100);
    w.fire_timers();
    assert!(w.schedule_row().is_some(), "a week behind its last action");
    w.pass(100);
    w.fire_timers();
    assert!(w.schedule_row().is_none());
    w.check();
}

#[test]
fn a_start_that_is_refused_makes_room_for_the_next() {
    let mut w = World::new();
    w.start_with(|request| request.workflow_id = "run-2023-11-14T22:14:00Z".into());
    w.create_schedule(with_overlap(every(60), Overlap::BufferAll));
    w.run_for(130);
    expect![[r#"
        actions 1
        run-2023-11-14T22:15:00Z for 100 at 100 running counts
        next [160, 220, 280]
    "#]]
    .assert_eq(&w.schedule());
    w.check();
}
