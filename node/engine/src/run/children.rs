//! Children of a run: started by a command, carried by the outbox to their own slot, heard of when they start and when they close.
//!
//! ```text
//!  parent                                       child
//!  Initiated, row --StartChild------------->    Started (knows parent and root), first workflow task
//!  Started        <------------ChildStarted--
//!  or StartFailed <--------ChildStartFailed--   (its id is taken)
//!  Completed ...  <-------------ChildClosed--   the last run of its chain has closed
//!  closed ---------EndOrphan---------------->   terminated or asked to cancel, unless abandoned
//! ```
//!
//! Messages of one pair of slots keep their order, so a child is never heard to close before it is heard to start, and a policy never
//! overtakes the start that it is about. What a completion initiates that also closes the run does not leave (see
//! [`Completion::messages`]).
//!
//! A parent that is reset goes on as another run, which takes over the children that it knows of; these keep the parent that they have,
//! and what they say to it is heard by the newest run.
//!
//! The parent's row stays when the parent closes, because describing it shows what was pending.
//!
//! Never: a second start, or a second result, of one initiation; a parent that hears of a run that another one follows.
//!
//! Called by `completion` (the command), `inbox` (messages), `start`, `close` and `reset`.

mod closing;
mod starting;
mod taken_over;

pub use closing::{child_closed, end_orphans, orphaned, run_closed};
pub use starting::{child_start_failed, child_started, start_arrived};
pub(super) use taken_over::{Unstarted, hear_again, send_again, take_over};

use stanchion_proto::row::{ChildRow, SenderRow, StartChild, outbox_message};
use stanchion_proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes;
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::enums::v1::{ParentClosePolicy, WorkflowIdReusePolicy, WorkflowTaskFailedCause};
use stanchion_proto::temporal::history::v1::StartChildWorkflowExecutionInitiatedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::sdk::v1::UserMetadata;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;

use super::completion::{CommandFailure, Completion};
use super::{Extra, Run, activities, external, start};
use crate::lookup;
use crate::retry;
use crate::time::{duration, nanos};
use crate::transaction::{Outcome, Transaction};
use crate::types::EventId;
use crate::validate;
use crate::validate::child::Bounds;

/// StartChildWorkflowExecution.
pub fn initiate(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&StartChildWorkflowExecutionCommandAttributes>,
) -> Result<(), CommandFailure> {
    let own_queue = run.row.task_queue.clone();
    let bounds = Bounds {
        namespace: tx.namespace,
        task_queue: &own_queue,
        now: tx.now,
        payload_bytes_max: tx.bounds.payload_bytes_max,
        memo_bytes_max: tx.bounds.memo_bytes_max,
    };
    let plan = validate::child::start(attributes, bounds)?;
    let pending = run.children.len();
    let limit = tx.bounds.pending_children_max;
    if pending >= limit {
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::PendingChildWorkflowsLimitExceeded,
            format!(
                "the number of pending child workflow executions, {pending}, has reached the per-workflow limit of {limit}"
            ),
        ));
    }
    let asked = plan.attributes;
    let parent_close_policy = match asked.parent_close_policy {
        0 => ParentClosePolicy::Terminate as i32,
        own => own,
    };
    let reuse_policy = match asked.workflow_id_reuse_policy {
        0 => WorkflowIdReusePolicy::AllowDuplicate as i32,
        own => own,
    };
    // SDKs send an empty memo; the real server writes none.
    let memo = asked.memo.clone().filter(|memo| !memo.fields.is_empty());
    let run_timeout =
        start::capped(nanos(asked.workflow_run_timeout.as_ref()), nanos(asked.workflow_execution_timeout.as_ref()));
    let task_timeout = start::task_timeout(nanos(asked.workflow_task_timeout.as_ref()), run_timeout);
    #[allow(deprecated)]
    let event = StartChildWorkflowExecutionInitiatedEventAttributes {
        namespace: tx.namespace.to_owned(),
        namespace_id: tx.namespace_id.to_owned(),
        workflow_id: asked.workflow_id.clone(),
        workflow_type: asked.workflow_type.clone(),
        task_queue: Some(start::normal_queue(plan.task_queue.to_owned())),
        input: asked.input.clone(),
        workflow_execution_timeout: asked.workflow_execution_timeout,
        workflow_run_timeout: Some(duration(run_timeout)),
        workflow_task_timeout: Some(duration(task_timeout)),
        parent_close_policy,
        control: asked.control.clone(),
        workflow_task_completed_event_id: completion.completed_event_id.0,
        workflow_id_reuse_policy: reuse_policy,
        retry_policy: asked.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: asked.cron_schedule.clone(),
        header: asked.header.clone(),
        memo: memo.clone(),
        search_attributes: asked.search_attributes.clone(),
        inherit_build_id: asked.inherit_build_id,
        priority: asked.priority.clone(),
        ..Default::default()
    };
    let user_metadata = extra.user_metadata.clone();
    let attributes = Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(event.clone());
    let EventId(id) = run.record_with(tx.now, attributes, extra);
    let message = start_message(tx, run, id, &event, user_metadata);
    completion.send(external::same_namespace(tx, &asked.workflow_id), outbox_message::Kind::StartChild(message));
    completion.started_children.insert(asked.workflow_id.clone());
    run.children.insert(id, initiated(&event));
    Ok(())
}

/// The row of a child as its initiated event tells it.
#[allow(deprecated)]
pub(super) fn initiated(event: &StartChildWorkflowExecutionInitiatedEventAttributes) -> ChildRow {
    ChildRow {
        namespace_id: event.namespace_id.clone(),
        namespace: event.namespace.clone(),
        workflow_id: event.workflow_id.clone(),
        workflow_type: event.workflow_type.as_ref().map(|kind| kind.name.clone()).unwrap_or_default(),
        parent_close_policy: event.parent_close_policy,
        control: event.control.clone(),
        ..Default::default()
    }
}

/// What asks for a child, in the name of the run that initiated it first.
fn start_message(
    tx: &Transaction<'_>,
    run: &Run,
    id: i64,
    event: &StartChildWorkflowExecutionInitiatedEventAttributes,
    user_metadata: Option<UserMetadata>,
) -> StartChild {
    let mut parent = external::sender(tx, run, id);
    if let Some(taken_over) = run.children.get(&id).filter(|row| !row.initiator_run_id.is_empty()) {
        parent.run_id.clone_from(&taken_over.initiator_run_id);
    }
    let request = StartWorkflowExecutionRequest {
        namespace: tx.namespace.to_owned(),
        workflow_id: event.workflow_id.clone(),
        workflow_type: event.workflow_type.clone(),
        task_queue: event.task_queue.clone(),
        input: event.input.clone(),
        workflow_execution_timeout: event.workflow_execution_timeout,
        workflow_run_timeout: event.workflow_run_timeout,
        workflow_task_timeout: event.workflow_task_timeout,
        // As the real server makes it: the run, the event, and the version of a cluster that has no replicas.
        request_id: format!("{}:{id}:0", parent.run_id),
        workflow_id_reuse_policy: event.workflow_id_reuse_policy,
        retry_policy: event.retry_policy.clone(),
        cron_schedule: event.cron_schedule.clone(),
        header: event.header.clone(),
        memo: event.memo.clone(),
        search_attributes: event.search_attributes.clone(),
        user_metadata,
        priority: activities::merged(run.row.priority.as_ref(), event.priority.as_ref()),
        ..Default::default()
    };
    let root = run.detail().root.clone().unwrap_or_else(|| WorkflowExecution {
        workflow_id: run.key.workflow_id.clone(),
        run_id: run.key.run_id.clone(),
    });
    StartChild { parent: Some(parent), root: Some(root), request: Some(request) }
}

/// The parent that a message is for: open, and with this child pending. If it was reset, that is the run that goes on now, if it has taken
/// over the child.
fn parent(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    initiated_event_id: i64,
) -> Outcome<Option<Box<Run>>> {
    // Only the newest run can be open, whichever runs were reset to it in between.
    let Some(current) = lookup::current(tx, workflow_id)? else { return Ok(None) };
    let Some(run) = lookup::named(tx, workflow_id, &current.run_id)? else { return Ok(None) };
    // Another run's event of that id may have initiated another child.
    let initiated_by = |row: &ChildRow| match row.initiator_run_id.as_str() {
        "" => run.key.run_id == run_id,
        initiator => initiator == run_id,
    };
    if run.is_open() && run.children.get(&initiated_event_id).is_some_and(initiated_by) {
        return Ok(Some(run));
    }
    tx.release(run);
    Ok(None)
}

/// The run is this sender's child.
pub(super) fn is_child_of(run: &Run, parent: &SenderRow) -> bool {
    run.detail().parent.as_ref().is_some_and(|own| {
        (&own.namespace_id, &own.workflow_id, &own.run_id)
            == (&parent.namespace_id, &parent.workflow_id, &parent.run_id)
    })
}
