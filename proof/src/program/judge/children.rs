//! Children: what a parent was told is what became of the child.

use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::scene::{Run, Scene};
use crate::check::Verdict;
use crate::drive::{FINISHER, SIGNALS_PER_CLIENT};
use crate::program::machine::{Sent, ToldOfChild, read};
use crate::program::{Close, Op, Outcome, ParentCloses, Told, child_workflow_id, parent_signal};

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
        parent_close(scene, id, &mut verdict);
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
            Sent::Reached => there == 1,
            Sent::NotReached => there == 0,
            Sent::OnItsWay => there <= 1,
        };
        if !right {
            let what = format!("{parent} was told {reached:?} of its signal {number}, and {id} has it {there} times");
            verdict.violate("G3", what, shown());
        }
    }
}

/// The policy for what is open when its parent closes (G2). The one who brings programs to their end sends signals to a child only once its
/// parent has been closed for a while; a child that takes one should have been ended by its parent's end, or asked to end.
fn parent_close(scene: &Scene<'_>, id: &str, verdict: &mut Verdict) {
    let Some((parent, child)) = scene.chain(id).first().and_then(|run| scene.child_op(run)) else { return };
    if parent.close().is_none() || child.parent_closes == ParentCloses::Abandon {
        return;
    }
    verdict.looked_at += 1;
    let mut asked_to_cancel = false;
    for run in scene.chain(id) {
        for event in &run.history.events {
            match &event.attributes {
                Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(_)) => asked_to_cancel = true,
                Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) => {
                    let number: i64 = read(signal.input.as_ref()).unwrap_or_default();
                    let late = number / SIGNALS_PER_CLIENT == FINISHER as i64 + 1;
                    if late && !(asked_to_cancel && child.parent_closes == ParentCloses::RequestCancel) {
                        let what = format!(
                            "{run} was open long after {parent} closed, which should have meant {:?}",
                            child.parent_closes
                        );
                        verdict.violate("G2", what, [parent.show(), run.show()].concat());
                        return;
                    }
                }
                _ => {}
            }
        }
    }
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
