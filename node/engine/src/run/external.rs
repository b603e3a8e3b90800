//! Signals and cancel requests from one run to another: initiated by a command, carried by the outbox, answered.
//!
//! ```text
//! sender: Initiated --outbox--> target: Signaled / CancelRequested event, workflow task
//!         Signaled / CancelRequested, or Failed with its cause <--outbox-- answer
//! ```
//!
//! What a completion initiates that also closes the run does not leave, as on the real server: the run is closed before it could.
//! A pending one has a row in the sender until the answer comes. The target's answer also tells of a target that is not there.
//!
//! Never: a second event for one initiation, at either end.

use stanchion_proto::row::{
    CancelExternal, ExternalCancelRequested, ExternalRow, ExternalSignaled, SenderRow, SignalExternal, outbox_message,
};
use stanchion_proto::temporal::command::v1::{
    RequestCancelExternalWorkflowExecutionCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause, SignalExternalWorkflowExecutionFailedCause, WorkflowTaskFailedCause,
};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    ExternalWorkflowExecutionCancelRequestedEventAttributes, ExternalWorkflowExecutionSignaledEventAttributes,
    RequestCancelExternalWorkflowExecutionFailedEventAttributes,
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes,
    SignalExternalWorkflowExecutionFailedEventAttributes, SignalExternalWorkflowExecutionInitiatedEventAttributes,
    WorkflowExecutionCancelRequestedEventAttributes,
};

use super::completion::{CommandFailure, Completion};
use super::signals::Signal;
use super::workflow_task::{self, ENGINE_IDENTITY};
use super::{Extra, Run, children, start};
use crate::lookup;
use crate::outbox::{self, Destination};
use crate::state::StateResult;
use crate::transaction::{Halt, Outcome, Transaction};
use crate::types::{EventId, Slot};
use crate::validate;

/// SignalExternalWorkflowExecution.
pub fn signal(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&SignalExternalWorkflowExecutionCommandAttributes>,
) -> Result<(), CommandFailure> {
    let attributes = validate::external::signal(attributes, tx.namespace, tx.bounds.payload_bytes_max)?;
    let limit = tx.bounds.pending_signals_max;
    below(run, false, limit, WorkflowTaskFailedCause::PendingSignalsLimitExceeded, "signals to")?;
    let target = attributes.execution.clone().unwrap_or_default();
    let event = SignalExternalWorkflowExecutionInitiatedEventAttributes {
        workflow_task_completed_event_id: completion.completed_event_id.0,
        #[allow(deprecated)]
        namespace: attributes.namespace.clone(),
        namespace_id: tx.namespace_id.to_owned(),
        workflow_execution: Some(target.clone()),
        signal_name: attributes.signal_name.clone(),
        input: attributes.input.clone(),
        #[allow(deprecated)]
        control: attributes.control.clone(),
        child_workflow_only: attributes.child_workflow_only,
        header: attributes.header.clone(),
    };
    let EventId(id) =
        run.record_with(tx.now, Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(event), extra);
    #[allow(deprecated)]
    let row = ExternalRow { signal_name: attributes.signal_name.clone(), ..pending(tx, &target, &attributes.control) };
    let message = SignalExternal {
        sender: Some(sender(tx, run, id)),
        run_id: target.run_id,
        signal_name: attributes.signal_name.clone(),
        input: attributes.input.clone(),
        header: attributes.header.clone(),
        request_id: row.request_id.clone(),
        child_workflow_only: attributes.child_workflow_only,
    };
    completion.send(same_namespace(tx, &target.workflow_id), outbox_message::Kind::SignalExternal(message));
    run.externals.insert(id, row);
    Ok(())
}

/// RequestCancelExternalWorkflowExecution.
pub fn request_cancel(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&RequestCancelExternalWorkflowExecutionCommandAttributes>,
) -> Result<(), CommandFailure> {
    let attributes = validate::external::request_cancel(attributes, tx.namespace)?;
    if completion.started_children.contains(&attributes.workflow_id) {
        #[allow(deprecated)]
        let namespace = &attributes.namespace;
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::BadRequestCancelExternalWorkflowExecutionAttributes,
            format!(
                "Start and RequestCancel for child workflow is not allowed in same workflow task. WorkflowId={} RunId={} Namespace={namespace}",
                attributes.workflow_id, attributes.run_id
            ),
        ));
    }
    let limit = tx.bounds.pending_cancels_max;
    below(run, true, limit, WorkflowTaskFailedCause::PendingRequestCancelLimitExceeded, "requests to cancel")?;
    let target = WorkflowExecution { workflow_id: attributes.workflow_id.clone(), run_id: attributes.run_id.clone() };
    let event = RequestCancelExternalWorkflowExecutionInitiatedEventAttributes {
        workflow_task_completed_event_id: completion.completed_event_id.0,
        #[allow(deprecated)]
        namespace: attributes.namespace.clone(),
        namespace_id: tx.namespace_id.to_owned(),
        workflow_execution: Some(target.clone()),
        #[allow(deprecated)]
        control: attributes.control.clone(),
        child_workflow_only: attributes.child_workflow_only,
        reason: attributes.reason.clone(),
    };
    let attributes_of = Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes;
    let EventId(id) = run.record_with(tx.now, attributes_of(event), extra);
    #[allow(deprecated)]
    let row = ExternalRow { is_cancel: true, ..pending(tx, &target, &attributes.control) };
    let message = CancelExternal {
        sender: Some(sender(tx, run, id)),
        run_id: target.run_id,
        request_id: row.request_id.clone(),
        reason: attributes.reason.clone(),
        child_workflow_only: attributes.child_workflow_only,
    };
    completion.send(same_namespace(tx, &target.workflow_id), outbox_message::Kind::CancelExternal(message));
    run.externals.insert(id, row);
    Ok(())
}

/// One more is allowed.
fn below(
    run: &Run,
    is_cancel: bool,
    limit: usize,
    cause: WorkflowTaskFailedCause,
    what: &str,
) -> Result<(), CommandFailure> {
    let pending = run.externals.iter().filter(|(_, row)| row.is_cancel == is_cancel).count();
    if pending < limit {
        return Ok(());
    }
    let message = format!(
        "the number of pending {what} external workflows, {pending}, has reached the per-workflow limit of {limit}"
    );
    Err(CommandFailure::new(cause, message))
}

/// What the sender keeps until there is an answer.
fn pending(tx: &mut Transaction<'_>, target: &WorkflowExecution, control: &str) -> ExternalRow {
    ExternalRow {
        namespace_id: tx.namespace_id.to_owned(),
        namespace: tx.namespace.to_owned(),
        workflow_id: target.workflow_id.clone(),
        run_id: target.run_id.clone(),
        control: control.to_owned(),
        request_id: tx.ids.uuid(),
        ..Default::default()
    }
}

/// A signal of another run arrives.
pub fn signal_arrived(tx: &mut Transaction<'_>, at: Slot, workflow_id: &str, message: &SignalExternal) -> Outcome<()> {
    let sender = message.sender.clone().unwrap_or_default();
    let found = target(tx, workflow_id, &message.run_id, &sender, message.child_workflow_only)?;
    let failed_cause = match found {
        None => SignalExternalWorkflowExecutionFailedCause::ExternalWorkflowExecutionNotFound as i32,
        Some(run) if !run.is_open() => {
            tx.release(run);
            SignalExternalWorkflowExecutionFailedCause::ExternalWorkflowExecutionNotFound as i32
        }
        Some(mut run) => {
            let signal = Signal {
                name: &message.signal_name,
                input: &message.input,
                header: &message.header,
                identity: ENGINE_IDENTITY,
                request_id: &message.request_id,
                links: &[],
            };
            signal.deliver_from(tx, &mut run, execution_of(&sender));
            workflow_task::schedule_if_none(tx, &mut run);
            tx.finish(run)?;
            0
        }
    };
    let initiated_event_id = sender.initiated_event_id;
    let answer = ExternalSignaled { run_id: sender.run_id.clone(), initiated_event_id, failed_cause };
    outbox::send(tx, at, back_to(sender), outbox_message::Kind::ExternalSignaled(answer));
    Ok(())
}

/// A cancel request of another run arrives. A target that is asked already, or has closed, is no failure.
pub fn cancel_arrived(tx: &mut Transaction<'_>, at: Slot, workflow_id: &str, message: &CancelExternal) -> Outcome<()> {
    let sender = message.sender.clone().unwrap_or_default();
    let found = target(tx, workflow_id, &message.run_id, &sender, message.child_workflow_only)?;
    let failed_cause = match found {
        None => CancelExternalWorkflowExecutionFailedCause::ExternalWorkflowExecutionNotFound as i32,
        Some(run) if !run.is_open() || run.row.cancel_requested => {
            tx.release(run);
            0
        }
        Some(mut run) => {
            run.row.cancel_requested = true;
            run.row.cancel_request_id.clone_from(&message.request_id);
            let event = WorkflowExecutionCancelRequestedEventAttributes {
                cause: message.reason.clone(),
                external_initiated_event_id: sender.initiated_event_id,
                external_workflow_execution: Some(execution_of(&sender)),
                identity: ENGINE_IDENTITY.to_owned(),
            };
            run.receive(tx.now, Attributes::WorkflowExecutionCancelRequestedEventAttributes(event));
            start::end_backoff(tx, &mut run);
            workflow_task::schedule_if_none(tx, &mut run);
            tx.finish(run)?;
            0
        }
    };
    let initiated_event_id = sender.initiated_event_id;
    let answer = ExternalCancelRequested { run_id: sender.run_id.clone(), initiated_event_id, failed_cause };
    outbox::send(tx, at, back_to(sender), outbox_message::Kind::ExternalCancelRequested(answer));
    Ok(())
}

/// What became of a signal to another run.
pub fn signal_answered(tx: &mut Transaction<'_>, workflow_id: &str, answer: &ExternalSignaled) -> Outcome<()> {
    let Some((run, row)) = take(tx, workflow_id, &answer.run_id, answer.initiated_event_id)? else { return Ok(()) };
    let workflow_execution = Some(WorkflowExecution { workflow_id: row.workflow_id, run_id: row.run_id });
    #[allow(deprecated)]
    let event = if answer.failed_cause == 0 {
        Attributes::ExternalWorkflowExecutionSignaledEventAttributes(ExternalWorkflowExecutionSignaledEventAttributes {
            initiated_event_id: answer.initiated_event_id,
            namespace: row.namespace,
            namespace_id: row.namespace_id,
            workflow_execution,
            control: row.control,
        })
    } else {
        let event = SignalExternalWorkflowExecutionFailedEventAttributes {
            cause: answer.failed_cause,
            namespace: row.namespace,
            namespace_id: row.namespace_id,
            workflow_execution,
            initiated_event_id: answer.initiated_event_id,
            control: row.control,
            ..Default::default()
        };
        Attributes::SignalExternalWorkflowExecutionFailedEventAttributes(event)
    };
    Ok(told(tx, run, event)?)
}

/// What became of a cancel request to another run.
pub fn cancel_answered(tx: &mut Transaction<'_>, workflow_id: &str, answer: &ExternalCancelRequested) -> Outcome<()> {
    let Some((run, row)) = take(tx, workflow_id, &answer.run_id, answer.initiated_event_id)? else { return Ok(()) };
    let workflow_execution = Some(WorkflowExecution { workflow_id: row.workflow_id, run_id: row.run_id });
    #[allow(deprecated)]
    let event = if answer.failed_cause == 0 {
        let event = ExternalWorkflowExecutionCancelRequestedEventAttributes {
            initiated_event_id: answer.initiated_event_id,
            namespace: row.namespace,
            namespace_id: row.namespace_id,
            workflow_execution,
        };
        Attributes::ExternalWorkflowExecutionCancelRequestedEventAttributes(event)
    } else {
        let event = RequestCancelExternalWorkflowExecutionFailedEventAttributes {
            cause: answer.failed_cause,
            namespace: row.namespace,
            namespace_id: row.namespace_id,
            workflow_execution,
            initiated_event_id: answer.initiated_event_id,
            control: row.control,
            ..Default::default()
        };
        Attributes::RequestCancelExternalWorkflowExecutionFailedEventAttributes(event)
    };
    Ok(told(tx, run, event)?)
}

/// The sender's worker hears of the answer.
fn told(tx: &mut Transaction<'_>, mut run: Box<Run>, event: Attributes) -> StateResult<()> {
    run.receive(tx.now, event);
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)
}

/// A run that a reset has made asks again what the one before had no answer to when the reset point was written.
pub(super) fn send_again(tx: &mut Transaction<'_>, run: &mut Run, id: i64, initiated: &Attributes) {
    let request_id = tx.ids.uuid();
    let Some(row) = run.externals.get_mut(&id) else { return };
    row.request_id.clone_from(&request_id);
    let (workflow_id, run_id) = (row.workflow_id.clone(), row.run_id.clone());
    let sender = Some(sender(tx, run, id));
    let kind = match initiated {
        Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            outbox_message::Kind::SignalExternal(SignalExternal {
                sender,
                run_id,
                signal_name: a.signal_name.clone(),
                input: a.input.clone(),
                header: a.header.clone(),
                request_id,
                child_workflow_only: a.child_workflow_only,
            })
        }
        Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            outbox_message::Kind::CancelExternal(CancelExternal {
                sender,
                run_id,
                reason: a.reason.clone(),
                request_id,
                child_workflow_only: a.child_workflow_only,
            })
        }
        _ => return,
    };
    outbox::send(tx, run.slot, same_namespace(tx, &workflow_id), kind);
}

/// The run has closed: it waits for no answers.
pub fn run_closed(run: &mut Run) {
    let ids: Vec<i64> = run.externals.keys().copied().collect();
    for id in ids {
        run.externals.remove(&id);
    }
}

/// The run that a message is for: none if it is not there, is the sender's own workflow id, or is not the sender's child where it must be.
fn target(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    sender: &SenderRow,
    child_workflow_only: bool,
) -> Outcome<Option<Box<Run>>> {
    if sender.namespace_id == tx.namespace_id && sender.workflow_id == workflow_id {
        return Ok(None);
    }
    let run = match lookup::run(tx, workflow_id, run_id) {
        Ok(run) => run,
        Err(Halt::Rejected(_)) => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if child_workflow_only && !children::is_child_of(&run, sender) {
        tx.release(run);
        return Ok(None);
    }
    Ok(Some(run))
}

/// The open run that waits for an answer, and what it waits with.
fn take(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    initiated_event_id: i64,
) -> Outcome<Option<(Box<Run>, ExternalRow)>> {
    let Some(mut run) = lookup::named(tx, workflow_id, run_id)? else { return Ok(None) };
    if run.is_open()
        && let Some(row) = run.externals.remove(&initiated_event_id)
    {
        return Ok(Some((run, row)));
    }
    tx.release(run);
    Ok(None)
}

pub(super) fn sender(tx: &Transaction<'_>, run: &Run, initiated_event_id: i64) -> SenderRow {
    SenderRow {
        namespace_id: run.key.namespace_id.clone(),
        namespace: tx.namespace.to_owned(),
        workflow_id: run.key.workflow_id.clone(),
        run_id: run.key.run_id.clone(),
        initiated_event_id,
    }
}

pub(super) fn back_to(sender: SenderRow) -> Destination {
    Destination { namespace_id: sender.namespace_id, namespace: sender.namespace, workflow_id: sender.workflow_id }
}

pub(super) fn execution_of(sender: &SenderRow) -> WorkflowExecution {
    WorkflowExecution { workflow_id: sender.workflow_id.clone(), run_id: sender.run_id.clone() }
}

pub(super) fn same_namespace(tx: &Transaction<'_>, workflow_id: &str) -> Destination {
    Destination {
        namespace_id: tx.namespace_id.to_owned(),
        namespace: tx.namespace.to_owned(),
        workflow_id: workflow_id.to_owned(),
    }
}
