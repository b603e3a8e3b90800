//! Histories: by themselves and between runs, as the engine's own rules have it, and as several reads and several nodes told them.
//!
//! The rules over events are those of `stanchion_engine::invariants`, the same that `stanchion verify` and the engine's tests use; here they
//! become verdicts. Called by every workload whose runs have histories worth reading.

use std::collections::BTreeMap;

use stanchion_engine::invariants::{self, between::Outline};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::Verdict;
use crate::history::RunHistory;

/// B1, B4, B5, B6, C1, E3, F1, G1, A3 and what else the events of runs say about themselves and about one another.
pub fn rules(histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("histories keep every rule");
    let mut outlines = Vec::new();
    for RunHistory { workflow_id, run_id, events } in histories {
        verdict.looked_at += events.len() as u64;
        if events.is_empty() {
            verdict.violate("B1", format!("workflow {workflow_id:?}, run {run_id}: an empty history"), Vec::new());
        }
        for broken in invariants::history::check(workflow_id, run_id, events) {
            let evidence = around(events, broken.event_id);
            verdict.violate(broken.rule, broken.to_string(), evidence);
        }
        outlines.push(Outline::of(workflow_id, run_id, events));
    }
    for broken in invariants::between::check(&outlines) {
        let run = histories.iter().find(|history| history.run_id == broken.run_id);
        let evidence = run.map(|run| around(&run.events, broken.event_id)).unwrap_or_default();
        verdict.violate(broken.rule, broken.to_string(), evidence);
    }
    verdict
}

/// C4: every run is closed.
pub fn all_closed(histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("every run closes");
    for RunHistory { workflow_id, run_id, events } in histories {
        verdict.looked_at += 1;
        if Outline::of(workflow_id, run_id, events).closed().is_none() {
            let what = format!("{workflow_id}, run {run_id}: still open after {} events", events.len());
            verdict.violate("C4", what, events.iter().rev().take(1).map(show).collect());
        }
    }
    verdict
}

/// A history as one strong read saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub workflow_id: String,
    pub run_id: String,
    /// Who answered.
    pub node: String,
    /// Nanoseconds since the start of the test.
    pub began: u64,
    pub ended: u64,
    pub events: Vec<HistoryEvent>,
}

impl Observation {
    fn show(&self) -> String {
        let Self { node, began, ended, events, .. } = self;
        format!(
            "{node} told {} events, asked at {} ms, answered at {} ms",
            events.len(),
            began / 1_000_000,
            ended / 1_000_000
        )
    }
}

/// B1, B3: everything ever read of a run is the beginning of its final history, and a read that began after another had ended saw at
/// least as much.
pub fn prefixes(observations: &[Observation], finals: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("what was read of a history stays so");
    let finals: BTreeMap<&str, &RunHistory> = finals.iter().map(|run| (run.run_id.as_str(), run)).collect();
    let mut runs: BTreeMap<&str, Vec<&Observation>> = BTreeMap::new();
    for seen in observations {
        verdict.looked_at += 1;
        runs.entry(&seen.run_id).or_default().push(seen);
        let of = format!("{}, run {}", seen.workflow_id, seen.run_id);
        let Some(last) = finals.get(seen.run_id.as_str()) else {
            verdict.violate("B1", format!("{of}: it was read, and there is no final history of it"), vec![seen.show()]);
            continue;
        };
        if let Some(difference) = difference(&seen.events, &last.events, true) {
            verdict.violate("B1", format!("{of}: {difference} (read, and final)"), vec![seen.show()]);
        }
    }
    for mut seen in runs.into_values() {
        seen.sort_by_key(|seen| seen.ended);
        let by_end = seen.clone();
        seen.sort_by_key(|seen| seen.began);
        let mut ended = by_end.into_iter().peekable();
        let mut longest: Option<&Observation> = None;
        for read in seen {
            while let Some(before) = ended.next_if(|before| before.ended < read.began) {
                if longest.is_none_or(|longest| before.events.len() > longest.events.len()) {
                    longest = Some(before);
                }
            }
            if let Some(before) = longest.filter(|before| before.events.len() > read.events.len()) {
                let what = format!("{}, run {}: a later read returned less", read.workflow_id, read.run_id);
                verdict.violate("B3", what, vec![before.show(), read.show()]);
            }
        }
    }
    verdict
}

/// B1, B2: at rest every node tells the same bytes. `copies` is node to what it told of all runs.
pub fn equal_on_all_nodes(copies: &BTreeMap<String, Vec<RunHistory>>) -> Verdict {
    let mut verdict = Verdict::new("all nodes tell the same histories");
    let mut runs: BTreeMap<(&str, &str), BTreeMap<&str, &RunHistory>> = BTreeMap::new();
    for (node, told) in copies {
        for run in told {
            runs.entry((&run.workflow_id, &run.run_id)).or_default().insert(node, run);
        }
    }
    for ((workflow_id, run_id), told) in runs {
        let of = format!("{workflow_id}, run {run_id}");
        if let Some(missing) = copies.keys().find(|node| !told.contains_key(node.as_str())) {
            verdict.violate("B2", format!("{of}: {missing} does not have it"), Vec::new());
            continue;
        }
        // With one node there is nothing to compare.
        verdict.looked_at += u64::from(told.len() > 1);
        let mut told = told.into_iter();
        let Some((first_node, first)) = told.next() else { continue };
        for (node, other) in told {
            if let Some(difference) = difference(&first.events, &other.events, false) {
                verdict.violate("B2", format!("{of}: {difference} ({first_node}, and {node})"), Vec::new());
            }
        }
    }
    verdict
}

/// The first place where two histories differ. A prefix of the other is no difference where `prefix` says so.
fn difference(one: &[HistoryEvent], other: &[HistoryEvent], prefix: bool) -> Option<String> {
    if let Some(at) = one.iter().zip(other).position(|(one, other)| one != other) {
        return Some(format!("event {}: {} against {}", at + 1, show(&one[at]), show(&other[at])));
    }
    let as_long = if prefix { one.len() <= other.len() } else { one.len() == other.len() };
    (!as_long).then(|| format!("{} events against {}", one.len(), other.len()))
}

/// The event that a rule is broken by, with the one before it.
fn around(events: &[HistoryEvent], event_id: i64) -> Vec<String> {
    let at = events.iter().position(|event| event.event_id == event_id);
    at.map(|at| events[at.saturating_sub(1)..=at].iter().map(show).collect()).unwrap_or_default()
}

/// An event in a line.
pub fn show(event: &HistoryEvent) -> String {
    let attributes = event.attributes.as_ref().map(|attributes| format!("{attributes:?}")).unwrap_or_default();
    // The variant's name says what kind of event it is; what it holds is told as far as a line goes.
    let short: String = attributes.replace("EventAttributes", "").chars().take(EVENT_SHOWN_MAX).collect();
    format!("event {} at {}: {short}", event.event_id, crate::history::event_time(event))
}

const EVENT_SHOWN_MAX: usize = 260;

/// Whether an event closes its run.
pub fn closes(event: &HistoryEvent) -> bool {
    matches!(
        event.attributes,
        Some(
            Attributes::WorkflowExecutionCompletedEventAttributes(_)
                | Attributes::WorkflowExecutionFailedEventAttributes(_)
                | Attributes::WorkflowExecutionTimedOutEventAttributes(_)
                | Attributes::WorkflowExecutionCanceledEventAttributes(_)
                | Attributes::WorkflowExecutionTerminatedEventAttributes(_)
                | Attributes::WorkflowExecutionContinuedAsNewEventAttributes(_)
        )
    )
}
