//! A rule that cannot be broken checks nothing: here each is.

use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::*;

use super::between::{self, Outline};
use super::history;
use crate::time::{SECOND, duration, timestamp};
use crate::types::ShardTime;

fn events(attributes: impl IntoIterator<Item = Attributes>) -> Vec<HistoryEvent> {
    let event = |(place, attributes)| HistoryEvent {
        event_id: place as i64 + 1,
        event_time: Some(timestamp(ShardTime((100 + place as i64) * SECOND))),
        attributes: Some(attributes),
        ..Default::default()
    };
    attributes.into_iter().enumerate().map(event).collect()
}

fn started(run_id: &str) -> Attributes {
    Attributes::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
        original_execution_run_id: run_id.into(),
        first_execution_run_id: run_id.into(),
        ..Default::default()
    })
}

fn task() -> Attributes {
    Attributes::WorkflowTaskScheduledEventAttributes(Default::default())
}

fn task_started(scheduled_event_id: i64) -> Attributes {
    Attributes::WorkflowTaskStartedEventAttributes(WorkflowTaskStartedEventAttributes {
        scheduled_event_id,
        ..Default::default()
    })
}

fn task_completed(scheduled_event_id: i64, started_event_id: i64) -> Attributes {
    Attributes::WorkflowTaskCompletedEventAttributes(WorkflowTaskCompletedEventAttributes {
        scheduled_event_id,
        started_event_id,
        ..Default::default()
    })
}

fn activity(workflow_task_completed_event_id: i64) -> Attributes {
    Attributes::ActivityTaskScheduledEventAttributes(ActivityTaskScheduledEventAttributes {
        workflow_task_completed_event_id,
        ..Default::default()
    })
}

fn activity_started(scheduled_event_id: i64) -> Attributes {
    Attributes::ActivityTaskStartedEventAttributes(ActivityTaskStartedEventAttributes {
        scheduled_event_id,
        ..Default::default()
    })
}

fn activity_completed(scheduled_event_id: i64, started_event_id: i64) -> Attributes {
    Attributes::ActivityTaskCompletedEventAttributes(ActivityTaskCompletedEventAttributes {
        scheduled_event_id,
        started_event_id,
        ..Default::default()
    })
}

fn timer(seconds: i64) -> Attributes {
    Attributes::TimerStartedEventAttributes(TimerStartedEventAttributes {
        start_to_fire_timeout: Some(duration(seconds * SECOND)),
        workflow_task_completed_event_id: 4,
        ..Default::default()
    })
}

fn fired(started_event_id: i64) -> Attributes {
    Attributes::TimerFiredEventAttributes(TimerFiredEventAttributes { started_event_id, ..Default::default() })
}

fn accepted(id: &str) -> Attributes {
    Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(WorkflowExecutionUpdateAcceptedEventAttributes {
        protocol_instance_id: id.into(),
        ..Default::default()
    })
}

fn completed() -> Attributes {
    Attributes::WorkflowExecutionCompletedEventAttributes(Default::default())
}

/// A run whose first task has just been completed, and what follows.
fn after_a_task(more: impl IntoIterator<Item = Attributes>) -> Vec<HistoryEvent> {
    events([started("r"), task(), task_started(2), task_completed(2, 3)].into_iter().chain(more))
}

/// Rules broken, with the events where that is seen.
fn broken(events: &[HistoryEvent]) -> Vec<(&'static str, i64)> {
    history::check("w", "r", events).into_iter().map(|violation| (violation.rule, violation.event_id)).collect()
}

#[test]
fn a_sound_history_breaks_no_rule() {
    let sound = [activity(4), timer(2), activity_started(5), fired(6), activity_completed(5, 7), completed()];
    assert_eq!(broken(&after_a_task(sound)), []);
}

#[test]
fn ids_have_no_gap_and_a_run_starts_once() {
    let mut gap = after_a_task([activity(4)]);
    gap[4].event_id = 6;
    assert_eq!(broken(&gap), [("B1", 6)]);
    assert_eq!(broken(&after_a_task([started("r")])), [("B1", 5)]);
    assert_eq!(broken(&events([task()])), [("B1", 1)]);
}

#[test]
fn what_happens_was_caused_and_ends_once() {
    assert_eq!(broken(&after_a_task([activity(3)])), [("B4", 5)]);
    let twice = [activity(4), activity_started(5), activity_completed(5, 6), activity_completed(5, 6)];
    assert_eq!(broken(&after_a_task(twice)), [("B4", 8)]);
    assert_eq!(broken(&after_a_task([timer(1), activity_completed(5, 0)])), [("B4", 6)]);
    assert_eq!(broken(&after_a_task([activity(4), activity_started(5), activity_completed(5, 2)])), [("B4", 7)]);
    assert_eq!(broken(&after_a_task([activity(4), activity_started(5), activity_started(5)])), [("H1", 7)]);
}

#[test]
fn nothing_follows_the_end() {
    assert_eq!(broken(&after_a_task([completed(), task()])), [("B5", 6)]);
}

#[test]
fn one_workflow_task_is_outstanding() {
    assert_eq!(broken(&after_a_task([task(), task()])), [("C1", 6)]);
}

#[test]
fn timers_are_never_early() {
    assert_eq!(broken(&after_a_task([timer(1), fired(5)])), []);
    assert_eq!(broken(&after_a_task([timer(2), fired(5)])), [("F1", 6)]);
}

#[test]
fn an_update_is_accepted_once() {
    assert_eq!(broken(&after_a_task([accepted("u"), accepted("v"), accepted("u")])), [("E3", 7)]);
}

fn child_of(run_id: &str, parent: &str, initiated: i64) -> Attributes {
    let Attributes::WorkflowExecutionStartedEventAttributes(a) = started(run_id) else { unreachable!() };
    Attributes::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
        parent_workflow_execution: Some(WorkflowExecution { run_id: parent.into(), ..Default::default() }),
        parent_initiated_event_id: initiated,
        ..a
    })
}

fn continuing(run_id: &str, of: &str, first: &str) -> Attributes {
    Attributes::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
        original_execution_run_id: run_id.into(),
        first_execution_run_id: first.into(),
        continued_execution_run_id: of.into(),
        ..Default::default()
    })
}

fn continued_as(next: &str) -> Attributes {
    Attributes::WorkflowExecutionContinuedAsNewEventAttributes(WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: next.into(),
        ..Default::default()
    })
}

fn run(workflow_id: &str, run_id: &str, attributes: impl IntoIterator<Item = Attributes>) -> Outline {
    Outline::of(workflow_id, run_id, &events(attributes))
}

fn broken_between(runs: &[Outline]) -> Vec<(&'static str, String)> {
    between::check(runs).into_iter().map(|violation| (violation.rule, violation.run_id)).collect()
}

#[test]
fn one_run_of_a_workflow_is_open() {
    let runs = [run("w", "a", [started("a")]), run("w", "b", [started("b")]), run("v", "c", [started("c")])];
    assert_eq!(broken_between(&runs), [("A3", "b".into())]);
}

#[test]
fn a_run_has_one_successor_which_knows_it() {
    let first = run("w", "a", [started("a"), continued_as("b")]);
    let sound = [first.clone(), run("w", "b", [continuing("b", "a", "a"), completed()])];
    assert_eq!(broken_between(&sound), []);
    let strange = [first.clone(), run("w", "b", [continuing("b", "x", "y"), completed()])];
    assert_eq!(broken_between(&strange), [("B6", "a".into()), ("B6", "a".into())]);
    let [first, second] = sound;
    let two = [first, second, run("w", "c", [continuing("c", "a", "a"), completed()])];
    assert_eq!(broken_between(&two), [("B6", "c".into())]);
}

#[test]
fn a_child_is_started_once_and_its_end_is_what_the_parent_heard() {
    let begun =
        Attributes::ChildWorkflowExecutionStartedEventAttributes(ChildWorkflowExecutionStartedEventAttributes {
            initiated_event_id: 5,
            workflow_execution: Some(WorkflowExecution { run_id: "c".into(), ..Default::default() }),
            ..Default::default()
        });
    let ended = Attributes::ChildWorkflowExecutionFailedEventAttributes(ChildWorkflowExecutionFailedEventAttributes {
        initiated_event_id: 5,
        ..Default::default()
    });
    let parent = run("p", "p", [started("p"), begun, ended]);
    let child = |more: Option<Attributes>| run("c", "c", [child_of("c", "p", 5)].into_iter().chain(more));
    let failed = Attributes::WorkflowExecutionFailedEventAttributes(Default::default());
    assert_eq!(broken_between(&[parent.clone(), child(Some(failed))]), []);
    assert_eq!(broken_between(&[parent.clone(), child(Some(completed()))]), [("G1", "p".into())]);
    assert_eq!(broken_between(&[parent.clone(), child(None)]), [("G1", "p".into())]);
    let again = run("d", "d", [child_of("d", "p", 5), completed()]);
    assert_eq!(broken_between(&[child(Some(completed())), again]), [("G1", "d".into())]);
}
