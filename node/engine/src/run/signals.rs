//! Signals and cancel requests: what callers tell a run.
//!
//! Never: a signal lost or doubled. Its request id is remembered for as long as the run is.

use stanchion_proto::command::{RequestCancelWorkflow, SignalWithStartWorkflow, SignalWorkflow};
use stanchion_proto::row::StopScheduled;
use stanchion_proto::temporal::common::v1::{Header, Link, Payloads, WorkflowExecution};
use stanchion_proto::temporal::enums::v1::{EventType, WorkflowIdConflictPolicy};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    WorkflowExecutionCancelRequestedEventAttributes, WorkflowExecutionSignaledEventAttributes,
};
use stanchion_proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, SignalWithStartWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};

use super::start::{self, Decision, Policies};
use super::{Extra, Run, close, workflow_task};
use crate::reply::{Rejection, Reply};
use crate::state::{StateResult, Table};
use crate::transaction::{Outcome, Transaction};
use crate::{keys, lookup};

/// SignalWorkflow.
pub fn signal<'c>(tx: &mut Transaction<'c>, command: &'c SignalWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("SignalWorkflow carries no request.").into());
    };
    tx.reserve(command.reservation.as_ref());
    let name = request.workflow_execution.clone().unwrap_or_default();
    let mut run = lookup::open_run(tx, &name.workflow_id, &name.run_id)?;
    let link = signal_link(tx, &run, &request.request_id);
    if is_known(tx, &run, &request.request_id)? {
        tx.release(run);
        return Ok(Reply::Signaled { link });
    }
    let signal = Signal {
        name: &request.signal_name,
        input: &request.input,
        header: &request.header,
        identity: &request.identity,
        request_id: &request.request_id,
        links: &request.links,
    };
    signal.deliver(tx, &mut run);
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Signaled { link })
}

pub(super) struct Signal<'r> {
    pub name: &'r str,
    pub input: &'r Option<Payloads>,
    pub header: &'r Option<Header>,
    pub identity: &'r str,
    pub request_id: &'r str,
    pub links: &'r [Link],
}

impl Signal<'_> {
    fn deliver(&self, tx: &mut Transaction<'_>, run: &mut Run) {
        if !self.request_id.is_empty() {
            tx.put(run.slot, Table::Dedup, keys::run_name(&run.key, self.request_id), bytes::Bytes::new());
        }
        self.receive(tx, run, None);
    }

    /// A signal of another run. That it comes once is the inbox's doing.
    pub fn deliver_from(&self, tx: &Transaction<'_>, run: &mut Run, sender: WorkflowExecution) {
        self.receive(tx, run, Some(sender));
    }

    fn receive(&self, tx: &Transaction<'_>, run: &mut Run, external_workflow_execution: Option<WorkflowExecution>) {
        run.row.signals += 1;
        let event = WorkflowExecutionSignaledEventAttributes {
            signal_name: self.name.to_owned(),
            input: self.input.clone(),
            identity: self.identity.to_owned(),
            header: self.header.clone(),
            request_id: self.request_id.to_owned(),
            external_workflow_execution,
            ..Default::default()
        };
        let extra = Extra { links: self.links.to_vec(), ..Default::default() };
        run.receive_with(tx.now, Attributes::WorkflowExecutionSignaledEventAttributes(event), extra);
    }
}

/// The run has had this signal request before.
fn is_known(tx: &Transaction<'_>, run: &Run, request_id: &str) -> StateResult<bool> {
    // The row's presence is all; a run that has had no signal needs no look.
    if request_id.is_empty() || run.row.signals == 0 {
        return Ok(false);
    }
    Ok(tx.get(run.slot, Table::Dedup, &keys::run_name(&run.key, request_id))?.is_some())
}

fn signal_link(tx: &Transaction<'_>, run: &Run, request_id: &str) -> Option<Link> {
    let event = EventType::WorkflowExecutionSignaled;
    Some(start::request_link(tx.namespace, &run.key.workflow_id, &run.key.run_id, request_id, event))
}

/// SignalWithStartWorkflow: the open run gets the signal, or a new one whose second event it is; in one step.
pub fn signal_with_start<'c>(tx: &mut Transaction<'c>, command: &'c SignalWithStartWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("SignalWithStartWorkflow carries no request.").into());
    };
    tx.reserve(command.reservation.as_ref());
    if request.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::Fail {
        return Err(Rejection::invalid(
            "Invalid WorkflowIDConflictPolicy: WORKFLOW_ID_CONFLICT_POLICY_FAIL is not supported for this operation.",
        )
        .into());
    }
    let policies = Policies::of(
        request.workflow_id_reuse_policy(),
        request.workflow_id_conflict_policy(),
        WorkflowIdConflictPolicy::UseExisting,
    )?;
    let as_start = start_part(request);
    start::check(tx, &as_start)?;
    let current = lookup::current(tx, &request.workflow_id)?;
    // The start's request id does not count here: it is the signal that must not come twice, and a closed run has had its signals.
    match start::decide(current.as_ref(), &request.workflow_id, "", policies)? {
        Decision::Same { .. } | Decision::UseExisting => {
            let current = current.unwrap_or_default();
            let mut run = lookup::run(tx, &request.workflow_id, &current.run_id)?;
            let reply = replied(tx, &run, &request.request_id, false);
            if run.is_open() && !is_known(tx, &run, &request.request_id)? {
                signal_of(request).deliver(tx, &mut run);
                workflow_task::schedule_if_none(tx, &mut run);
                tx.finish(run)?;
            } else {
                tx.release(run);
            }
            Ok(reply)
        }
        Decision::Start { terminate } => {
            let run_id = tx.ids.uuid();
            if let Some(existing) = terminate {
                close::terminate_for_successor(tx, &request.workflow_id, &existing, &run_id)?;
            }
            let mut run = start::begin(tx, start::by_request(tx, &as_start, run_id, false));
            signal_of(request).deliver(tx, &mut run);
            workflow_task::schedule_if_none(tx, &mut run);
            let reply = replied(tx, &run, &request.request_id, true);
            tx.finish(run)?;
            Ok(reply)
        }
    }
}

fn replied(tx: &Transaction<'_>, run: &Run, request_id: &str, started: bool) -> Reply {
    Reply::Started {
        run_id: run.key.run_id.clone(),
        first_execution_run_id: run.row.first_execution_run_id.clone(),
        started,
        running: run.is_open(),
        status: run.row.status,
        eager: None,
        link: signal_link(tx, run, request_id),
    }
}

fn signal_of(request: &SignalWithStartWorkflowExecutionRequest) -> Signal<'_> {
    Signal {
        name: &request.signal_name,
        input: &request.signal_input,
        header: &request.header,
        identity: &request.identity,
        request_id: &request.request_id,
        links: &request.links,
    }
}

fn start_part(request: &SignalWithStartWorkflowExecutionRequest) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: request.namespace.clone(),
        workflow_id: request.workflow_id.clone(),
        workflow_type: request.workflow_type.clone(),
        task_queue: request.task_queue.clone(),
        input: request.input.clone(),
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity.clone(),
        request_id: request.request_id.clone(),
        retry_policy: request.retry_policy.clone(),
        cron_schedule: request.cron_schedule.clone(),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        workflow_start_delay: request.workflow_start_delay,
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
        versioning_override: request.versioning_override.clone(),
        priority: request.priority.clone(),
        time_skipping_config: request.time_skipping_config.clone(),
        ..Default::default()
    }
}

/// RequestCancelWorkflow. A closed run and a second request are no errors: there is nothing more to do.
pub fn request_cancel<'c>(tx: &mut Transaction<'c>, command: &'c RequestCancelWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("RequestCancelWorkflow carries no request.").into());
    };
    tx.reserve(command.reservation.as_ref());
    cancel(tx, request)
}

/// A schedule's overlap policy asks what runs to cancel itself.
pub fn cancel_scheduled(tx: &mut Transaction<'_>, workflow_id: &str, message: &StopScheduled) -> Outcome<()> {
    let request = RequestCancelWorkflowExecutionRequest {
        workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
        first_execution_run_id: message.first_run_id.clone(),
        identity: message.identity.clone(),
        request_id: message.request_id.clone(),
        reason: "cancelled by schedule overlap policy".to_owned(),
        ..Default::default()
    };
    cancel(tx, &request).map(|_| ())
}

fn cancel(tx: &mut Transaction<'_>, request: &RequestCancelWorkflowExecutionRequest) -> Outcome<Reply> {
    let WorkflowExecution { workflow_id, run_id } = request.workflow_execution.clone().unwrap_or_default();
    let mut run = lookup::run_of_chain(tx, &workflow_id, &run_id, &request.first_execution_run_id)?;
    if !run.is_open() || run.row.cancel_requested {
        tx.release(run);
        return Ok(Reply::Done);
    }
    run.row.cancel_requested = true;
    run.row.cancel_request_id.clone_from(&request.request_id);
    let event = WorkflowExecutionCancelRequestedEventAttributes {
        cause: request.reason.clone(),
        identity: request.identity.clone(),
        ..Default::default()
    };
    let extra = Extra { links: request.links.clone(), ..Default::default() };
    run.receive_with(tx.now, Attributes::WorkflowExecutionCancelRequestedEventAttributes(event), extra);
    // Unlike a signal, it does not wait for a delayed start.
    start::end_backoff(tx, &mut run);
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Done)
}
