//! Ends: every run closes, and as its program and what was asked of it say. What a closed workflow is said to be, it stays.

use serde_json::Value;
use stanchion_proto::temporal::enums::v1::{EventType, WorkflowExecutionStatus};
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::scene::{Run, Scene};
use crate::check::Verdict;
use crate::program::{Ends, OnCancel, ParentCloses, Told, child_workflow_id};

pub fn check(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: ends");
    for run in scene.runs.values() {
        verdict.looked_at += 1;
        let Some(closed_as) = run.closed_as() else {
            verdict.violate("C4", format!("{run} is open"), run.show());
            continue;
        };
        if let Err(why) = allowed(scene, run, closed_as) {
            verdict.violate("E5", format!("{run} closed as {}: {why}", closed_as.as_str_name()), run.show());
        }
    }
    for (id, chain) in &scene.chains {
        let Some(last) = chain.last() else { continue };
        if scene.acknowledged(id, "terminate") && last.closed_as() != Some(EventType::WorkflowExecutionTerminated) {
            let shown = scene.asked(id, "terminate").map(ToString::to_string).chain(last.show()).collect();
            verdict.violate("E5", format!("{last}: its termination was acknowledged"), shown);
        }
        // To cancel what is closed succeeds and does nothing, so the request counts only if the workflow took something after it.
        for cancel in scene.asked(id, "cancel") {
            let Some(open) = scene.open_after(id, cancel) else { continue };
            if cancel.ok().is_some() && !chain.iter().any(cancel_requested) {
                let shown = [vec![cancel.to_string(), open.to_string()], last.show()].concat();
                verdict.violate("A1", format!("{last}: the acknowledged request to cancel it is in no history"), shown);
            }
        }
        told(scene, id, chain, &mut verdict);
    }
    verdict
}

fn allowed(scene: &Scene<'_>, run: &Run<'_>, closed_as: EventType) -> Result<(), String> {
    let Some(input) = run.input() else { return Err("its input is no program".into()) };
    let canceled = cancel_requested(run) && input.program.on_cancel != OnCancel::Ignores;
    match (closed_as, &input.program.ends) {
        (EventType::WorkflowExecutionTerminated, _) => {
            if scene.maybe(&run.history.workflow_id, "terminate")
                || closed_by_parent(scene, run, ParentCloses::Terminate)
            {
                Ok(())
            } else {
                Err("nobody terminated it".into())
            }
        }
        (EventType::WorkflowExecutionCanceled, _) if canceled => requested_by_someone(scene, run),
        (EventType::WorkflowExecutionCompleted, Ends::Completes)
        | (EventType::WorkflowExecutionFailed, Ends::Fails)
        | (EventType::WorkflowExecutionContinuedAsNew, Ends::ContinuesAsNew(_))
            if !canceled =>
        {
            Ok(())
        }
        (_, ends) => Err(format!(
            "its program ends otherwise: {}",
            if canceled { "canceled".to_owned() } else { kind(ends).to_owned() }
        )),
    }
}

fn kind(ends: &Ends) -> &'static str {
    match ends {
        Ends::Completes => "it completes",
        Ends::Fails => "it fails",
        Ends::ContinuesAsNew(_) => "it continues as new",
    }
}

fn requested_by_someone(scene: &Scene<'_>, run: &Run<'_>) -> Result<(), String> {
    if scene.maybe(&run.history.workflow_id, "cancel") || closed_by_parent(scene, run, ParentCloses::RequestCancel) {
        return Ok(());
    }
    // A parent asks because its program says so, or because it is being canceled itself.
    let asked = scene.child_op(run).and_then(|(parent, _)| parent.machine.as_ref().ok()).is_some_and(|machine| {
        let own =
            |path: &str| child_workflow_id(&machine.workflow_id, machine.input.chain, path) == run.history.workflow_id;
        machine.ops.iter().any(|(path, told)| matches!(told, Told::Child(told) if told.cancel.is_some() && own(path)))
    });
    if asked { Ok(()) } else { Err("nobody asked for its cancellation".into()) }
}

/// Whether its parent closed, and said that this should become of it.
fn closed_by_parent(scene: &Scene<'_>, run: &Run<'_>, policy: ParentCloses) -> bool {
    scene.child_op(run).is_some_and(|(parent, child)| child.parent_closes == policy && parent.close().is_some())
}

fn cancel_requested(run: &Run<'_>) -> bool {
    run.history
        .events
        .iter()
        .any(|event| matches!(event.attributes, Some(Attributes::WorkflowExecutionCancelRequestedEventAttributes(_))))
}

/// What clients were told of the end.
fn told(scene: &Scene<'_>, id: &str, chain: &[Run<'_>], verdict: &mut Verdict) {
    let closes: Vec<(String, i64)> = chain
        .iter()
        .filter_map(Run::close)
        .map(|event| (event.event_type().as_str_name().to_owned(), event.event_id))
        .collect();
    for operation in scene.asked(id, "result") {
        let Some(value) = operation.ok() else { continue };
        verdict.looked_at += 1;
        let said = value.get("event").and_then(Value::as_str).zip(value.get("event_id").and_then(Value::as_i64));
        if !closes.iter().any(|(event, event_id)| said == Some((event, *event_id))) {
            let shown = vec![operation.to_string(), format!("its runs closed with {closes:?}")];
            verdict.violate("B1", format!("{id} was told to have ended otherwise than it did"), shown);
        }
    }
    for operation in scene.asked(id, "describe") {
        let Some(value) = operation.ok() else { continue };
        verdict.looked_at += 1;
        let status = value.get("status").and_then(Value::as_str).and_then(WorkflowExecutionStatus::from_str_name);
        let run_id = value.get("run_id").and_then(Value::as_str).unwrap_or_default();
        let Some(run) = chain.iter().find(|run| run.history.run_id == run_id) else {
            verdict.violate(
                "B3",
                format!("{id}: run {run_id} was described, and is in no history"),
                vec![operation.to_string()],
            );
            continue;
        };
        let is = run.closed_as().map(status_of);
        if status != Some(WorkflowExecutionStatus::Running) && status != is {
            verdict.violate(
                "B3",
                format!("{run} was described as {status:?}, and is {is:?}"),
                vec![operation.to_string()],
            );
        }
    }
}

fn status_of(closed_as: EventType) -> WorkflowExecutionStatus {
    match closed_as {
        EventType::WorkflowExecutionCompleted => WorkflowExecutionStatus::Completed,
        EventType::WorkflowExecutionFailed => WorkflowExecutionStatus::Failed,
        EventType::WorkflowExecutionTimedOut => WorkflowExecutionStatus::TimedOut,
        EventType::WorkflowExecutionCanceled => WorkflowExecutionStatus::Canceled,
        EventType::WorkflowExecutionTerminated => WorkflowExecutionStatus::Terminated,
        EventType::WorkflowExecutionContinuedAsNew => WorkflowExecutionStatus::ContinuedAsNew,
        _ => WorkflowExecutionStatus::Unspecified,
    }
}
