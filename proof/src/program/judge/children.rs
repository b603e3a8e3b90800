//! Children: what a parent was told is what became of the child.

use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::scene::{Run, Scene};
use crate::check::Verdict;
use crate::program::machine::ToldOfChild;
use crate::program::{Close, Op, Outcome, Told, child_workflow_id, parent_signal};

pub fn check(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: children");
    for run in scene.runs.values() {
        let Ok(machine) = &run.machine else { continue };
        for (path, told) in &machine.ops {
            let (Told::Child(told), Some(Op::Child(_))) = (told, machine.program().op(path)) else { continue };
            verdict.looked_at += 1;
            let id = child_workflow_id(&run.history.workflow_id, machine.input.chain, path);
            child(scene, run, &id, told, &mut verdict);
        }
    }
    for (id, firsts) in &scene.first_runs {
        if firsts.len() > 1 && id.contains('/') {
            let shown = firsts.iter().map(|run_id| (*run_id).to_owned()).collect();
            verdict.violate("G1", format!("{id} was started {} times", firsts.len()), shown);
        }
    }
    verdict
}

fn child(scene: &Scene<'_>, parent: &Run<'_>, id: &str, told: &ToldOfChild, verdict: &mut Verdict) {
    let chain = scene.chain(id);
    let shown = || {
        let last = chain.last().map(Run::show).unwrap_or_default();
        [vec![format!("{parent} was told {told:?}")], last].concat()
    };
    if told.failed_to_start {
        verdict.violate("G1", format!("{parent}: {id} could not be started, and nobody else has that id"), shown());
    }
    let Some(run_id) = &told.run_id else { return };
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        verdict.violate("G1", format!("{parent}: {id} was started, and is in no history"), shown());
        return;
    };
    let named = first.started().and_then(|started| started.parent_workflow_execution.as_ref());
    if first.history.run_id != *run_id || named.is_none_or(|named| named.run_id != parent.history.run_id) {
        verdict.violate("G1", format!("{first} is not the child that {parent} was told of, run {run_id}"), shown());
    }
    if let Some(ended) = &told.ended
        && !same_end(ended, last)
    {
        let what = format!("{parent} was told that {id} ended as {ended:?}, and it ended as {:?}", last.closed_as());
        verdict.violate("G1", what, shown());
    }
    let got = scene.signals(id);
    for (n, reached) in told.signals.iter().enumerate() {
        let number = parent_signal(n as u32);
        let there = got.iter().filter(|got| **got == number).count();
        let right = match reached {
            Some(true) => there == 1,
            Some(false) => there == 0,
            None => there <= 1,
        };
        if !right {
            let what = format!("{parent} was told {reached:?} of its signal {number}, and {id} has it {there} times");
            verdict.violate("G3", what, shown());
        }
    }
    if told.cancel == Some(Some(true)) && !chain.iter().any(was_asked_to_cancel) {
        verdict.violate("G3", format!("{parent} canceled {id}, which nobody asked to"), shown());
    }
}

fn was_asked_to_cancel(run: &Run<'_>) -> bool {
    let mut events = run.history.events.iter();
    events.any(|event| matches!(event.attributes, Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(_))))
}

fn same_end(told: &Outcome, last: &Run<'_>) -> bool {
    let closing = last.machine.as_ref().ok().and_then(|machine| machine.closing.clone());
    match (told, last.closed_as()) {
        (Outcome::Completed(value), Some(EventType::WorkflowExecutionCompleted)) => match closing {
            Some(Close::Completed(report)) => serde_json::to_value(report).is_ok_and(|report| report == *value),
            // It is reported where histories are replayed.
            _ => true,
        },
        (Outcome::Failed(_), Some(EventType::WorkflowExecutionFailed))
        | (Outcome::Canceled, Some(EventType::WorkflowExecutionCanceled))
        | (Outcome::Terminated, Some(EventType::WorkflowExecutionTerminated))
        | (Outcome::TimedOut(_), Some(EventType::WorkflowExecutionTimedOut)) => true,
        _ => false,
    }
}
