//! The judge of programs: honest evidence passes, and each falsification is found by the rule that it breaks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod honest;

use std::sync::atomic::{AtomicU64, Ordering};

use honest::{Evidence, is_first, play};
use serde_json::{Value, json};
use stanchion_proof::check::Standing;
use stanchion_proof::drive::{FINISHER, SIGNALS_PER_CLIENT};
use stanchion_proof::journal::Journal;
use stanchion_proof::ledger::What;
use stanchion_proof::program::commands::payloads;
use stanchion_proof::program::{generate, replay};
use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionSignaledEventAttributes, WorkflowExecutionTerminatedEventAttributes,
};

const SEEDS: u64 = 200;

/// Falsifies the first evidence that `falsify` finds something in, and expects that `rule` is broken.
#[track_caller]
fn bites(rule: &str, falsify: impl Fn(&mut Evidence) -> bool) {
    for seed in 0..SEEDS {
        let mut evidence = play(seed);
        if falsify(&mut evidence) {
            let broken = evidence.broken();
            assert!(broken.iter().any(|found| found == rule), "seed {seed}: {rule} is not among {broken:?}");
            return;
        }
    }
    panic!("none of {SEEDS} seeds has what this falsifies");
}

/// The first event of the load's own workflow that `pick` likes: its run and place.
fn find(evidence: &Evidence, pick: impl Fn(&Attributes) -> bool) -> Option<(usize, usize)> {
    let id = evidence.workflow_id();
    evidence.runs.iter().enumerate().filter(|(_, run)| run.workflow_id == id).find_map(|(place, run)| {
        let at = run.events.iter().position(|event| event.attributes.as_ref().is_some_and(&pick))?;
        Some((place, at))
    })
}

/// Each line of it is a nanosecond behind the one before.
fn empty_journal() -> Journal {
    let ticks = AtomicU64::new(0);
    Journal::new(move || ticks.fetch_add(1, Ordering::Relaxed))
}

fn renumber(events: &mut [HistoryEvent]) {
    for (place, event) in events.iter_mut().enumerate() {
        event.event_id = place as i64 + 1;
    }
}

/// The first event that `pick` likes stands there twice. False where there is none.
fn twice(evidence: &mut Evidence, pick: impl Fn(&Attributes) -> bool) -> bool {
    let Some((run, at)) = find(evidence, pick) else { return false };
    let events = &mut evidence.runs[run].events;
    events.insert(at + 1, events[at].clone());
    renumber(events);
    true
}

#[test]
fn honest_evidence_passes() {
    for seed in 0..SEEDS {
        for verdict in play(seed).judge() {
            assert_ne!(verdict.standing(), Standing::Violated, "seed {seed}: {verdict:#?}");
        }
    }
}

#[test]
fn a_seed_makes_the_same_program_twice() {
    assert_eq!(generate(7, 3, 20), generate(7, 3, 20));
    assert_ne!(generate(7, 3, 20), generate(7, 4, 20));
}

#[test]
fn a_lost_start() {
    bites("A1", |evidence| {
        let id = evidence.workflow_id();
        evidence.runs.retain(|run| run.workflow_id != id);
        true
    });
}

#[test]
fn a_doubled_start() {
    bites("A2", |evidence| {
        let id = evidence.workflow_id();
        let mut twin = evidence.runs.iter().find(|run| run.workflow_id == id && is_first(run)).unwrap().clone();
        twin.run_id = "twin".into();
        evidence.runs.push(twin);
        true
    });
}

#[test]
fn a_refused_start_that_runs() {
    bites("A5", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "start", &id, json!({}));
        evidence.journal.fail(op, "FailedPrecondition");
        true
    });
}

#[test]
fn half_a_signal_with_start() {
    bites("A4", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "start", &id, json!({ "signal": 9_000_001 }));
        evidence.journal.info(op, "Unavailable");
        true
    });
}

#[test]
fn a_run_left_open() {
    bites("C4", |evidence| {
        let id = evidence.workflow_id();
        let run = evidence.runs.iter_mut().rfind(|run| run.workflow_id == id).unwrap();
        run.events.pop();
        true
    });
}

#[test]
fn a_result_that_the_events_do_not_make() {
    bites("B7", |evidence| {
        let Some((run, at)) = find(evidence, |a| matches!(a, Attributes::ActivityTaskCompletedEventAttributes(_)))
        else {
            return false;
        };
        let events = &mut evidence.runs[run].events;
        // A run that fails does not tell what its activities did.
        let last = events.last().and_then(|event| event.attributes.as_ref());
        let tells = matches!(last, Some(Attributes::WorkflowExecutionCompletedEventAttributes(_)));
        let Some(Attributes::ActivityTaskCompletedEventAttributes(a)) = &mut events[at].attributes else {
            return false;
        };
        a.result = Some(payloads(&json!("another")));
        if !tells {
            return false;
        }
        true
    });
}

#[test]
fn an_activity_scheduled_twice() {
    bites("B7", |evidence| twice(evidence, |a| matches!(a, Attributes::ActivityTaskScheduledEventAttributes(_))));
}

#[test]
fn a_timer_that_fires_twice() {
    bites("B7", |evidence| twice(evidence, |a| matches!(a, Attributes::TimerFiredEventAttributes(_))));
}

/// The load's own workflow was started, an update asked of it perhaps, and its history read twice: the first time with an event at its end
/// that nobody sees again.
fn read_twice(evidence: &mut Evidence, tail: Value, after_update: bool) {
    let id = evidence.workflow_id();
    let run = evidence.runs.iter().find(|run| run.workflow_id == id && is_first(run)).unwrap();
    let (run_id, events) = (run.run_id.clone(), run.events.len());
    let journal = empty_journal();
    let op = journal.invoke(9, "start", &id, json!({}));
    journal.ok(op, json!({ "run_id": run_id }));
    if after_update {
        let op = journal.invoke(9, "update", &id, json!({ "id": "9-1", "name": "append", "arg": 1 }));
        journal.info(op, "Unavailable");
    }
    let op = journal.invoke(9, "history", &id, json!(null));
    journal.ok(op, json!({ "run_id": run_id, "events": events + 1, "tail": tail }));
    let op = journal.invoke(9, "history", &id, json!(null));
    journal.ok(op, json!({ "run_id": run_id, "events": events, "tail": [] }));
    evidence.journal = journal;
}

#[test]
fn a_history_that_grows_shorter() {
    let scheduled = |attempt| json!([{ "id": 1, "type": "WORKFLOW_TASK_SCHEDULED", "at": 1, "attempt": attempt }]);
    let broken = |tail: Value, after_update: bool| {
        let mut evidence = play(0);
        read_twice(&mut evidence, tail, after_update);
        evidence.broken().contains(&"B3".to_owned())
    };
    assert!(broken(json!([]), true), "an event of something else");
    assert!(broken(scheduled(1), false), "a first attempt that no update asked for");
    assert!(!broken(scheduled(1), true), "one for an update is stored only if it comes to something");
    assert!(!broken(scheduled(2), false), "a later attempt is stored once it ends");
}

#[test]
fn a_successor_with_another_input() {
    bites("B6", |evidence| {
        let continued = find(
            evidence,
            |a| matches!(a, Attributes::WorkflowExecutionStartedEventAttributes(a) if !a.continued_execution_run_id.is_empty()),
        );
        let Some((run, at)) = continued else { return false };
        let machine = replay(&evidence.workflow_id(), &evidence.runs[run].events).unwrap();
        let mut input = machine.input;
        input.carried.signals.pop();
        input.carried.register += 1;
        let Some(Attributes::WorkflowExecutionStartedEventAttributes(a)) =
            &mut evidence.runs[run].events[at].attributes
        else {
            return false;
        };
        a.input = Some(payloads(&input));
        true
    });
}

#[test]
fn terminated_by_nobody() {
    bites("E5", |evidence| {
        let id = evidence.workflow_id();
        let run = evidence.runs.iter_mut().rfind(|run| run.workflow_id == id).unwrap();
        let last = run.events.last_mut().unwrap();
        last.event_type = EventType::WorkflowExecutionTerminated.into();
        let terminated = WorkflowExecutionTerminatedEventAttributes::default();
        last.attributes = Some(Attributes::WorkflowExecutionTerminatedEventAttributes(terminated));
        true
    });
}

#[test]
fn a_termination_that_came_to_nothing() {
    bites("E5", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "terminate", &id, json!(null));
        evidence.journal.ok(op, json!(null));
        true
    });
}

#[test]
fn a_cancellation_that_came_to_nothing() {
    bites("A1", |evidence| {
        // One that was acknowledged before a signal was.
        let id = evidence.workflow_id();
        let operations = evidence.journal.operations();
        let journal = empty_journal();
        let op = journal.invoke(9, "cancel", &id, json!(null));
        journal.ok(op, json!(null));
        for operation in operations {
            let op = journal.invoke(operation.process, &operation.f, &operation.key, operation.input.clone());
            journal.ok(op, operation.ok().unwrap().clone());
        }
        evidence.journal = journal;
        true
    });
}

#[test]
fn a_lost_signal() {
    bites("E1", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "signal", &id, json!(9_000_001));
        evidence.journal.ok(op, json!(9_000_001));
        true
    });
}

#[test]
fn a_signal_got_twice() {
    bites("E1", |evidence| twice(evidence, |a| matches!(a, Attributes::WorkflowExecutionSignaledEventAttributes(_))));
}

#[test]
fn a_refused_signal_that_arrived() {
    bites("E1", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "signal", &id, json!(1_000_001));
        evidence.journal.fail(op, "NotFound");
        true
    });
}

#[test]
fn signals_out_of_order() {
    bites("E2", |evidence| {
        let signal = |event: &HistoryEvent| {
            matches!(event.attributes, Some(Attributes::WorkflowExecutionSignaledEventAttributes(_)))
        };
        let id = evidence.workflow_id();
        let run = evidence.runs.iter_mut().find(|run| run.workflow_id == id && is_first(run)).unwrap();
        let places: Vec<usize> = (0..run.events.len()).filter(|at| signal(&run.events[*at])).collect();
        let [first, second, ..] = places[..] else { return false };
        run.events.swap(first, second);
        renumber(&mut run.events);
        true
    });
}

#[test]
fn an_update_lost_and_one_executed_twice() {
    bites("E3", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "update", &id, json!({ "id": "9-1", "name": "append", "arg": 1 }));
        evidence.journal.ok(op, json!({ "id": "9-1", "name": "append", "arg": 1, "answer": 2 }));
        true
    });
    bites("E3", |evidence| {
        let accepted = |a: &Attributes| matches!(a, Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(_));
        let Some((run, at)) = find(evidence, accepted) else { return false };
        let events = &mut evidence.runs[run].events;
        events.insert(at + 1, events[at].clone());
        renumber(events);
        true
    });
}

#[test]
fn an_outcome_that_changes() {
    bites("E3", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "update-outcome", &id, json!({ "id": "0-1" }));
        evidence.journal.ok(op, json!({ "id": "0-1", "answer": 2 }));
        true
    });
}

#[test]
fn a_query_that_sees_too_little_and_one_that_sees_too_much() {
    bites("E4", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "query", &id, json!(null));
        evidence.journal.ok(op, json!({ "signals": [1_000_001], "log": [] }));
        true
    });
    bites("E4", |evidence| {
        let id = evidence.workflow_id();
        let op = evidence.journal.invoke(9, "query", &id, json!(null));
        evidence.journal.ok(op, json!({ "signals": [1_000_001, 5], "log": [7] }));
        true
    });
}

#[test]
fn a_result_acknowledged_and_lost() {
    bites("D1", |evidence| {
        let id = evidence.workflow_id();
        let run_id = evidence.runs.iter().find(|run| run.workflow_id == id).unwrap().run_id.clone();
        let ended = |line: &&mut stanchion_proof::ledger::Line| {
            line.run_id == run_id
                && matches!(&line.what, What::Ended { outcome: stanchion_proof::ledger::Outcome::Completed(_) })
        };
        let Some(line) = evidence.ledger.iter_mut().find(ended) else { return false };
        line.what = What::Ended { outcome: stanchion_proof::ledger::Outcome::Completed(json!("another")) };
        true
    });
}

#[test]
fn an_attempt_beyond_the_policy() {
    bites("D1", |evidence| {
        let started = |a: &Attributes| matches!(a, Attributes::ActivityTaskStartedEventAttributes(_));
        let Some((run, at)) = find(evidence, started) else { return false };
        let machine = replay(&evidence.workflow_id(), &evidence.runs[run].events).unwrap();
        let bounded = machine.program().body.iter().any(|op| {
            matches!(op, stanchion_proof::program::Op::Activity(activity) if activity.max_attempts > 0 && activity.fails >= activity.max_attempts)
        });
        let only =
            evidence.runs[run].events.iter().filter(|event| event.attributes.as_ref().is_some_and(started)).count()
                == 1;
        if !bounded || !only {
            return false;
        }
        let Some(Attributes::ActivityTaskStartedEventAttributes(a)) = &mut evidence.runs[run].events[at].attributes
        else {
            return false;
        };
        a.attempt += 1;
        true
    });
}

#[test]
fn a_time_out_before_its_time() {
    bites("D6", |evidence| {
        let out = |a: &Attributes| matches!(a, Attributes::ActivityTaskTimedOutEventAttributes(_));
        let Some((run, at)) = find(evidence, out) else { return false };
        let before = evidence.runs[run].events[at - 1].event_time;
        evidence.runs[run].events[at].event_time = before;
        let events = &evidence.runs[run].events;
        matches!(events[at - 1].attributes, Some(Attributes::ActivityTaskStartedEventAttributes(_)))
    });
}

#[test]
fn a_child_that_ended_otherwise() {
    bites("G1", |evidence| {
        // Of a parent that was told its end.
        let ended = |a: &Attributes| {
            matches!(
                a,
                Attributes::ChildWorkflowExecutionCompletedEventAttributes(_)
                    | Attributes::ChildWorkflowExecutionFailedEventAttributes(_)
            )
        };
        if find(evidence, ended).is_none() {
            return false;
        }
        for run in evidence.runs.iter_mut().filter(|run| run.workflow_id.contains('/')) {
            let last = run.events.last_mut().unwrap();
            last.event_type = EventType::WorkflowExecutionTerminated.into();
            let terminated = WorkflowExecutionTerminatedEventAttributes::default();
            last.attributes = Some(Attributes::WorkflowExecutionTerminatedEventAttributes(terminated));
        }
        true
    });
}

#[test]
fn a_child_that_outlived_its_parent() {
    bites("G2", |evidence| {
        // It took a signal long after its parent's end, and nobody had told it of that.
        let first = evidence.runs.iter_mut().find(|run| {
            let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) = &run.events[0].attributes else {
                return false;
            };
            let parent = started.parent_workflow_execution.as_ref().map(|parent| parent.workflow_id.as_str());
            parent.is_some()
        });
        let Some(child) = first else { return false };
        let number = (FINISHER as i64 + 1) * SIGNALS_PER_CLIENT + 1;
        let signal = WorkflowExecutionSignaledEventAttributes { input: Some(payloads(&number)), ..Default::default() };
        let event = HistoryEvent {
            attributes: Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)),
            ..Default::default()
        };
        child.events.insert(1, event);
        renumber(&mut child.events);
        // Those whose parent abandons them may live.
        evidence.broken().contains(&"G2".to_owned())
    });
}

#[test]
fn a_child_started_twice() {
    bites("G1", |evidence| {
        let Some(mut twin) = evidence.runs.iter().find(|run| run.workflow_id.contains('/') && is_first(run)).cloned()
        else {
            return false;
        };
        twin.run_id = "twin".into();
        evidence.runs.push(twin);
        true
    });
}

#[test]
fn a_parents_signal_lost() {
    bites("G3", |evidence| {
        let signal = |event: &HistoryEvent| {
            matches!(event.attributes, Some(Attributes::WorkflowExecutionSignaledEventAttributes(_)))
        };
        let known = |evidence: &Evidence, id: &str| {
            evidence.runs.iter().any(|run| id.starts_with(&run.workflow_id) && run.workflow_id != id)
        };
        let found = evidence.runs.iter().position(|run| {
            run.workflow_id.contains('/') && run.events.iter().any(signal) && known(evidence, &run.workflow_id)
        });
        let Some(place) = found else { return false };
        evidence.runs[place].events.retain(|event| !signal(event));
        renumber(&mut evidence.runs[place].events);
        true
    });
}

#[test]
fn a_worker_that_was_handed_nonsense() {
    bites("B7", |evidence| {
        let Some(mut line) = evidence.ledger.first().cloned() else { return false };
        line.what = What::Nondeterminism { difference: "event 5: it does not come of anything".into() };
        evidence.ledger.push(line);
        true
    });
}
