//! A child starts, or does not, and its parent hears of it.

use stanchion_proto::row::{ChildStartFailed, ChildStarted, StartChild, outbox_message};
use stanchion_proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::StartChildWorkflowExecutionFailedCause;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    ChildWorkflowExecutionStartedEventAttributes, StartChildWorkflowExecutionFailedEventAttributes,
};
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;

use crate::lookup;
use crate::outbox;
use crate::reply::Code;
use crate::run::start::{self, Decision, Policies};
use crate::run::{Run, close, external, workflow_task};
use crate::time::{duration, nanos};
use crate::transaction::{Halt, Outcome, Transaction};
use crate::types::Slot;

/// A parent asks for a child in this slot.
pub fn start_arrived(tx: &mut Transaction<'_>, at: Slot, message: &StartChild) -> Outcome<()> {
    let (Some(parent), Some(request)) = (&message.parent, &message.request) else { return Ok(()) };
    let started = match start_child(tx, message, request) {
        Ok(run_id) => Ok(run_id),
        Err(Halt::Rejected(rejection)) => {
            // What an ended start left behind must not be kept: the run in its way may have been ended for it.
            tx.start_over();
            Err(rejection)
        }
        Err(fault) => return Err(fault),
    };
    let (run_id, initiated_event_id) = (parent.run_id.clone(), parent.initiated_event_id);
    let answer = match started {
        Ok(child_run_id) => outbox_message::Kind::ChildStarted(ChildStarted {
            run_id,
            initiated_event_id,
            child_run_id,
            header: request.header.clone(),
        }),
        Err(rejection) => {
            let cause = match rejection.code {
                Code::AlreadyExists => StartChildWorkflowExecutionFailedCause::WorkflowAlreadyExists,
                _ => StartChildWorkflowExecutionFailedCause::Unspecified,
            };
            outbox_message::Kind::ChildStartFailed(ChildStartFailed { run_id, initiated_event_id, cause: cause as i32 })
        }
    };
    outbox::send(tx, at, external::back_to(parent.clone()), answer);
    Ok(())
}

/// Starts the child and schedules its first workflow task. Its run id.
fn start_child(
    tx: &mut Transaction<'_>,
    message: &StartChild,
    request: &StartWorkflowExecutionRequest,
) -> Outcome<String> {
    let policies = Policies::of_start(request)?;
    let current = lookup::current(tx, &request.workflow_id)?;
    let decision = start::decide(current.as_ref(), &request.workflow_id, &request.request_id, policies)?;
    let terminate = match decision {
        Decision::Start { terminate } => terminate,
        // Its own request id, so it is this very child; a conflict policy is nothing that a parent can name.
        Decision::Same { .. } | Decision::UseExisting => return Ok(current.unwrap_or_default().run_id),
    };
    let run_id = tx.ids.uuid();
    if let Some(existing) = terminate {
        close::terminate_for_successor(tx, &request.workflow_id, &existing, &run_id)?;
    }
    let mut beginning = start::by_request(tx, request, run_id.clone(), false);
    let attributes = &mut beginning.attributes;
    // "None" is written as zero in a child's first event, and only there.
    attributes.workflow_run_timeout = Some(duration(nanos(attributes.workflow_run_timeout.as_ref())));
    if let Some(parent) = &message.parent {
        attributes.parent_workflow_namespace.clone_from(&parent.namespace);
        attributes.parent_workflow_namespace_id.clone_from(&parent.namespace_id);
        attributes.parent_workflow_execution = Some(external::execution_of(parent));
        attributes.parent_initiated_event_id = parent.initiated_event_id;
    }
    attributes.root_workflow_execution.clone_from(&message.root);
    let mut run = start::begin(tx, beginning);
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(run_id)
}

/// The parent that has no answer to its start yet. A reset may have asked twice, and then hears twice.
fn waiting(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    initiated_event_id: i64,
) -> Outcome<Option<Box<Run>>> {
    let Some(run) = super::parent(tx, workflow_id, run_id, initiated_event_id)? else { return Ok(None) };
    if run.children.get(&initiated_event_id).is_some_and(|row| row.run_id.is_empty()) {
        return Ok(Some(run));
    }
    tx.release(run);
    Ok(None)
}

/// The child that this run asked for has started.
pub fn child_started(tx: &mut Transaction<'_>, workflow_id: &str, answer: &ChildStarted) -> Outcome<()> {
    let Some(mut run) = waiting(tx, workflow_id, &answer.run_id, answer.initiated_event_id)? else { return Ok(()) };
    let Some(row) = run.children.get_mut(&answer.initiated_event_id) else { return Ok(()) };
    row.run_id.clone_from(&answer.child_run_id);
    let event = ChildWorkflowExecutionStartedEventAttributes {
        namespace: row.namespace.clone(),
        namespace_id: row.namespace_id.clone(),
        initiated_event_id: answer.initiated_event_id,
        workflow_execution: Some(WorkflowExecution {
            workflow_id: row.workflow_id.clone(),
            run_id: answer.child_run_id.clone(),
        }),
        workflow_type: Some(WorkflowType { name: row.workflow_type.clone() }),
        header: answer.header.clone(),
    };
    run.receive(tx.now, Attributes::ChildWorkflowExecutionStartedEventAttributes(event));
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(())
}

/// The child that this run asked for could not be started.
pub fn child_start_failed(tx: &mut Transaction<'_>, workflow_id: &str, answer: &ChildStartFailed) -> Outcome<()> {
    let Some(mut run) = waiting(tx, workflow_id, &answer.run_id, answer.initiated_event_id)? else { return Ok(()) };
    let Some(row) = run.children.remove(&answer.initiated_event_id) else { return Ok(()) };
    #[allow(deprecated)]
    let event = StartChildWorkflowExecutionFailedEventAttributes {
        namespace: row.namespace,
        namespace_id: row.namespace_id,
        workflow_id: row.workflow_id,
        workflow_type: Some(WorkflowType { name: row.workflow_type }),
        cause: answer.cause,
        control: row.control,
        initiated_event_id: answer.initiated_event_id,
        ..Default::default()
    };
    run.receive(tx.now, Attributes::StartChildWorkflowExecutionFailedEventAttributes(event));
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(())
}
