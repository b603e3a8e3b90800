//! A run closes: its parent hears how, and its own children learn that they are orphans.

use stanchion_proto::row::{ChildClosed, EndOrphan, outbox_message};
use stanchion_proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::ParentClosePolicy;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    ChildWorkflowExecutionCanceledEventAttributes, ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes, ChildWorkflowExecutionTerminatedEventAttributes,
    ChildWorkflowExecutionTimedOutEventAttributes, WorkflowExecutionCancelRequestedEventAttributes,
};

use crate::lookup;
use crate::outbox::{self, Destination};
use crate::run::workflow_task::{self, ENGINE_IDENTITY};
use crate::run::{Run, close, external, start};
use crate::transaction::{Outcome, Transaction};

const REASON: &str = "by parent close policy";

/// The run has closed; its closing event is recorded, and it is known whether another run follows it.
pub fn run_closed(tx: &mut Transaction<'_>, run: &Run) {
    if run.row.successor_run_id.is_empty()
        && let Some(parent) = &run.detail().parent
    {
        let message = ChildClosed {
            run_id: parent.run_id.clone(),
            initiated_event_id: parent.initiated_event_id,
            child_run_id: run.key.run_id.clone(),
            closing: run.closing_event(),
        };
        outbox::send(tx, run.slot, external::back_to(parent.clone()), outbox_message::Kind::ChildClosed(message));
    }
    end_orphans(tx, run);
}

/// The run's children learn that their parent has closed.
pub fn end_orphans(tx: &mut Transaction<'_>, run: &Run) {
    for (id, row) in run.children.iter() {
        if row.parent_close_policy == ParentClosePolicy::Abandon as i32 {
            continue;
        }
        let to = Destination {
            namespace_id: row.namespace_id.clone(),
            namespace: row.namespace.clone(),
            workflow_id: row.workflow_id.clone(),
        };
        let message =
            EndOrphan { parent: Some(external::sender(tx, run, *id)), parent_close_policy: row.parent_close_policy };
        outbox::send(tx, run.slot, to, outbox_message::Kind::EndOrphan(message));
    }
}

/// A child of this run has closed, and no other run follows it.
pub fn child_closed(tx: &mut Transaction<'_>, workflow_id: &str, message: &ChildClosed) -> Outcome<()> {
    let initiated_event_id = message.initiated_event_id;
    let Some(mut run) = super::parent(tx, workflow_id, &message.run_id, initiated_event_id)? else { return Ok(()) };
    let Some(row) = run.children.remove(&initiated_event_id) else { return Ok(()) };
    let (namespace, namespace_id) = (row.namespace, row.namespace_id);
    let workflow_execution =
        Some(WorkflowExecution { workflow_id: row.workflow_id, run_id: message.child_run_id.clone() });
    let workflow_type = Some(WorkflowType { name: row.workflow_type });
    // 0 while the started event itself waits for its id; filled in with it.
    let started_event_id = row.started_event_id;
    let event = match message.closing.as_ref().and_then(|event| event.attributes.clone()) {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(how)) => {
            Attributes::ChildWorkflowExecutionCompletedEventAttributes(ChildWorkflowExecutionCompletedEventAttributes {
                result: how.result,
                namespace,
                namespace_id,
                workflow_execution,
                workflow_type,
                initiated_event_id,
                started_event_id,
            })
        }
        Some(Attributes::WorkflowExecutionFailedEventAttributes(how)) => {
            Attributes::ChildWorkflowExecutionFailedEventAttributes(ChildWorkflowExecutionFailedEventAttributes {
                failure: how.failure,
                retry_state: how.retry_state,
                namespace,
                namespace_id,
                workflow_execution,
                workflow_type,
                initiated_event_id,
                started_event_id,
            })
        }
        Some(Attributes::WorkflowExecutionCanceledEventAttributes(how)) => {
            Attributes::ChildWorkflowExecutionCanceledEventAttributes(ChildWorkflowExecutionCanceledEventAttributes {
                details: how.details,
                namespace,
                namespace_id,
                workflow_execution,
                workflow_type,
                initiated_event_id,
                started_event_id,
            })
        }
        Some(Attributes::WorkflowExecutionTimedOutEventAttributes(how)) => {
            Attributes::ChildWorkflowExecutionTimedOutEventAttributes(ChildWorkflowExecutionTimedOutEventAttributes {
                retry_state: how.retry_state,
                namespace,
                namespace_id,
                workflow_execution,
                workflow_type,
                initiated_event_id,
                started_event_id,
            })
        }
        _ => Attributes::ChildWorkflowExecutionTerminatedEventAttributes(
            ChildWorkflowExecutionTerminatedEventAttributes {
                namespace,
                namespace_id,
                workflow_execution,
                workflow_type,
                initiated_event_id,
                started_event_id,
            },
        ),
    };
    run.receive(tx.now, event);
    workflow_task::schedule_if_none(tx, &mut run);
    tx.finish(run)?;
    Ok(())
}

/// The parent of a run of this workflow id has closed. Another run under the same id is none of its business.
pub fn orphaned(tx: &mut Transaction<'_>, workflow_id: &str, message: &EndOrphan) -> Outcome<()> {
    let parent = message.parent.clone().unwrap_or_default();
    let Some(current) = lookup::current(tx, workflow_id)? else { return Ok(()) };
    let mut run = lookup::run(tx, workflow_id, &current.run_id)?;
    let own = run.detail().parent.as_ref();
    let is_meant =
        super::is_child_of(&run, &parent) && own.is_some_and(|own| own.initiated_event_id == parent.initiated_event_id);
    if !run.is_open() || !is_meant {
        tx.release(run);
        return Ok(());
    }
    match ParentClosePolicy::try_from(message.parent_close_policy) {
        Ok(ParentClosePolicy::Abandon) => tx.release(run),
        Ok(ParentClosePolicy::RequestCancel) if run.row.cancel_requested => tx.release(run),
        Ok(ParentClosePolicy::RequestCancel) => {
            run.row.cancel_requested = true;
            let event = WorkflowExecutionCancelRequestedEventAttributes {
                external_workflow_execution: Some(external::execution_of(&parent)),
                identity: ENGINE_IDENTITY.to_owned(),
                ..Default::default()
            };
            run.receive(tx.now, Attributes::WorkflowExecutionCancelRequestedEventAttributes(event));
            start::end_backoff(tx, &mut run);
            workflow_task::schedule_if_none(tx, &mut run);
            tx.finish(run)?;
        }
        Ok(ParentClosePolicy::Terminate | ParentClosePolicy::Unspecified) | Err(_) => {
            close::terminate_by_engine(tx, &mut run, REASON);
            tx.finish(run)?;
        }
    }
    Ok(())
}
