//! ResetWorkflowExecution: a new run that begins as an earlier one did, up to a workflow task, and goes on from there.
//!
//! ```text
//!  base:  1 started ... | task scheduled | task started | task completed ... closed
//!  new:   1 started ... | task scheduled | task started | task failed (RESET_WORKFLOW) | signals again | task scheduled
//!                                                         ^ the request's finish id: events in front of it are copied
//! ```
//!
//! The run that is current is ended if it is open; the new one takes its place. The copied events stand in the new run's own history:
//! the two have nothing in common from then on.
//!
//! Never: a cut within what one command wrote; a second run for the same request id.

use prost::Message as _;
use stanchion_proto::command::ResetWorkflow;
use stanchion_proto::row::run_row::WorkflowTask;
use stanchion_proto::temporal::enums::v1::{TimeoutType, WorkflowTaskFailedCause};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, ResetWorkflowFailureInfo};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    HistoryEvent, WorkflowTaskFailedEventAttributes, WorkflowTaskStartedEventAttributes,
};
use stanchion_proto::temporal::workflow::v1::post_reset_operation::Variant;
use stanchion_proto::temporal::workflowservice::v1::ResetWorkflowExecutionRequest;

use super::rebuild::{self, Rebuilt};
use super::workflow_task::{self, ENGINE_IDENTITY};
use super::{Run, activities, children, close, external, options, reapply, start, timers};
use crate::history::{self, Batch, StoredEvent};
use crate::keys::{self, UpdatePart};
use crate::reply::{Rejection, Reply};
use crate::schedule::origin;
use crate::state::{StateResult, Table};
use crate::transaction::{Outcome, Transaction};
use crate::types::{EventId, RunKey};
use crate::{lookup, timer_queue};

/// ResetWorkflow.
pub fn reset(tx: &mut Transaction<'_>, command: &ResetWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("ResetWorkflow carries no request.").into());
    };
    let name = request.workflow_execution.clone().unwrap_or_default();
    let mut base = lookup::run(tx, &name.workflow_id, &name.run_id)?;
    let mut other = other_current(tx, &base)?;
    let current = other.as_deref().unwrap_or(&base);
    if let Some(run_id) = made_before(tx, request, &base, current)? {
        other.into_iter().for_each(|run| tx.release(run));
        tx.release(base);
        return Ok(Reply::Reset { run_id });
    }

    let point = EventId(request.workflow_task_finish_event_id);
    let batches = batches_before(tx, &base, point)?;
    let key = RunKey { run_id: tx.ids.uuid(), ..base.key.clone() };
    let mut rebuilt = rebuild::rebuild(key.clone(), &batches)?;
    let was_to_be_tried_again = !rebuilt.run.has_workflow_task() && ends_with_a_lost_task(&batches)?;
    if was_to_be_tried_again {
        // The next attempt left no event; it is the one that the reset fails.
        rebuilt.run.row.workflow_task_attempt = 1;
        workflow_task::write_scheduled(tx, &mut rebuilt.run, None, workflow_task::Make::Ordinary);
    }
    if !rebuilt.run.has_workflow_task() {
        return Err(Rejection::invalid(format!(
            "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]: {}",
            point.0
        ))
        .into());
    }
    let again = reapply::events_behind(tx, &base, point, reapply::Kinds::of(request))?;
    within_bounds(tx, &rebuilt.run, &again)?;
    if base.is_open() {
        // What it has not heard of its children comes yet, and the newest run hears it.
        rebuilt.unstarted.clear();
    }

    base.row.reset_run_id.clone_from(&key.run_id);
    let mut run = make(tx, request, &base, rebuilt, batches, again)?;
    let open = other.as_deref_mut().unwrap_or(&mut base);
    origin::hand_on(open, &mut run);
    if open.is_open() {
        close::terminate_for_reset(tx, open, &request.reason);
    }
    if let Some(other) = other {
        tx.finish(other)?;
    }
    tx.finish(base)?;
    // Last: the newest run is the current one.
    tx.finish(run)?;
    Ok(Reply::Reset { run_id: key.run_id })
}

/// The run that this very request has made already: the current one, or the last that was made of the base.
fn made_before(
    tx: &mut Transaction<'_>,
    request: &ResetWorkflowExecutionRequest,
    base: &Run,
    current: &Run,
) -> StateResult<Option<String>> {
    let by_request = |run: &Run| !request.request_id.is_empty() && run.row.reset_request_id == request.request_id;
    if by_request(current) {
        return Ok(Some(current.key.run_id.clone()));
    }
    if base.row.reset_run_id.is_empty() || base.row.reset_run_id == current.key.run_id {
        return Ok(None);
    }
    let Some(last) = tx.load(&RunKey { run_id: base.row.reset_run_id.clone(), ..base.key.clone() })? else {
        return Ok(None);
    };
    let made = by_request(&last).then(|| last.key.run_id.clone());
    tx.release(last);
    Ok(made)
}

/// The new run must have room for what it is told again, or it would be ended as soon as it is made.
fn within_bounds(tx: &Transaction<'_>, run: &Run, again: &[HistoryEvent]) -> Result<(), Rejection> {
    let refuse = |what: &str, is: u64, limit: u64| {
        Err(Rejection::invalid(format!(
            "The new run's history would have {is} {what}, with those behind the reset point that are applied again; \
             the limit is {limit}."
        )))
    };
    let bytes = run.row.history_bytes + again.iter().map(|event| event.encoded_len() as u64).sum::<u64>();
    if bytes > tx.bounds.history_bytes_max {
        return refuse("bytes", bytes, tx.bounds.history_bytes_max);
    }
    let events = u64::try_from(run.row.next_event_id - 1).unwrap_or(0) + again.len() as u64;
    if events > tx.bounds.history_events_max {
        return refuse("events", events, tx.bounds.history_events_max);
    }
    Ok(())
}

/// The current run, if it is another one.
fn other_current(tx: &mut Transaction<'_>, base: &Run) -> StateResult<Option<Box<Run>>> {
    let Some(current) = lookup::current(tx, &base.key.workflow_id)? else { return Ok(None) };
    if current.run_id == base.key.run_id {
        return Ok(None);
    }
    tx.load(&RunKey { run_id: current.run_id, ..base.key.clone() })
}

/// What goes over into the new run: the history in front of the point, which must be where a command's events begin or where a worker
/// took the task.
fn batches_before(tx: &Transaction<'_>, base: &Run, point: EventId) -> Outcome<Vec<Batch>> {
    if point.0 <= 1 || point >= base.next_event_id() {
        return Err(Rejection::invalid("Workflow task finish ID must be > 1 && <= workflow last event ID.").into());
    }
    let mut batches = history::batches(tx.reader(), base.slot, &base.key, EventId(1))?;
    let whole = batches.partition_point(|batch| batch.first < point);
    let at_boundary = batches.get(whole).is_some_and(|batch| batch.first == point);
    batches.truncate(whole);
    if !at_boundary && let Some(last) = batches.pop() {
        if !may_cut(&last.events()?, point) {
            return Err(Rejection::invalid(format!(
                "StateRebuilder unable to Rebuild mutable state to event ID: {}, version: 0, this event must be at the \
                 boundary",
                point.0 - 1
            ))
            .into());
        }
        batches.extend(last.before(point)?);
    }
    Ok(batches)
}

/// The last event is that a workflow task failed or timed out: another attempt of it was due, or with a worker.
fn ends_with_a_lost_task(batches: &[Batch]) -> StateResult<bool> {
    let last = batches.last().map(Batch::events).transpose()?.and_then(|mut events| events.pop());
    Ok(match last.and_then(|stored| stored.event.attributes) {
        Some(Attributes::WorkflowTaskFailedEventAttributes(_)) => true,
        Some(Attributes::WorkflowTaskTimedOutEventAttributes(a)) => a.timeout_type() != TimeoutType::ScheduleToStart,
        _ => false,
    })
}

/// What one command wrote can be cut where the real server writes two batches: behind the start of a workflow task, which may be written
/// together with its end; and in front of one with which the command ended, because it had a poller for it.
fn may_cut(events: &[StoredEvent], point: EventId) -> bool {
    let starts = |stored: Option<&StoredEvent>| {
        stored.is_some_and(|stored| {
            matches!(stored.event.attributes, Some(Attributes::WorkflowTaskStartedEventAttributes(_)))
        })
    };
    let Some(place) = events.iter().position(|stored| stored.event.event_id == point.0) else { return false };
    let behind = place.checked_sub(1).and_then(|before| events.get(before));
    starts(behind) || (place + 1 == events.len() && starts(events.last()))
}

/// The new run with all its events.
fn make(
    tx: &mut Transaction<'_>,
    request: &ResetWorkflowExecutionRequest,
    base: &Run,
    rebuilt: Rebuilt,
    batches: Vec<Batch>,
    again: Vec<HistoryEvent>,
) -> Outcome<Box<Run>> {
    let Rebuilt { mut run, signal_request_ids, unanswered, unstarted, completed_updates } = rebuilt;
    for batch in batches {
        history::append(tx, run.slot, &run.key, batch.first, batch.bytes);
    }
    inherit(tx, &mut run, base, request);
    for request_id in &signal_request_ids {
        reapply::seen(tx, &run, request_id);
    }
    for (id, completed) in &completed_updates {
        tx.put_row(run.slot, Table::Update, keys::update(&run.key, UpdatePart::Completed, id), completed);
    }
    children::take_over(&mut run, base);
    arm(tx, &mut run);
    for (id, attributes) in unanswered {
        external::send_again(tx, &mut run, id, &attributes);
    }

    fail_task(tx, &mut run, base, request);
    reapply::again(tx, &mut run, again, &completed_updates);
    children::send_again(tx, &run, unstarted);
    for operation in &request.post_reset_operations {
        match &operation.variant {
            Some(Variant::UpdateWorkflowOptions(update)) => {
                let (wanted, mask) = (update.workflow_execution_options.as_ref(), update.update_mask.as_ref());
                options::change(tx, &mut run, wanted, mask, "")?;
            }
            Some(Variant::SignalWorkflow(_)) => {
                return Err(unsupported_operation("*workflow.PostResetOperation_SignalWorkflow_"));
            }
            None => return Err(unsupported_operation("<nil>")),
        }
    }
    workflow_task::schedule(tx, &mut run);
    Ok(run)
}

fn unsupported_operation(what: &str) -> crate::transaction::Halt {
    Rejection::invalid(format!("unsupported post reset operation: {what}")).into()
}

/// What the new run has of the one before beside its events, and its own times.
fn inherit(tx: &Transaction<'_>, run: &mut Run, base: &Run, request: &ResetWorkflowExecutionRequest) {
    let row = &mut run.row;
    row.started_at = tx.now.0;
    row.execution_at = tx.now.0;
    row.original_started_at =
        if base.row.original_started_at == 0 { base.row.started_at } else { base.row.original_started_at };
    row.reset_at = tx.now.0;
    row.reset_request_id.clone_from(&request.request_id);
    row.retention = if tx.retention > 0 { tx.retention } else { base.row.retention };
    // Both time-outs run anew.
    let ends = |timeout: i64| if timeout > 0 { tx.now.plus(timeout).0 } else { 0 };
    row.execution_expires_at = ends(row.execution_timeout);
    row.run_expires_at = start::capped(ends(row.run_timeout), row.execution_expires_at);
    let before_point = |id: i64| id > 0 && id < request.workflow_task_finish_event_id;
    row.request_ids = base.row.request_ids.iter().filter(|known| before_point(known.event_id)).cloned().collect();
    let (parent, root) = (base.detail().parent.clone(), base.detail().root.clone());
    if parent.is_some() || root.is_some() {
        let detail = run.detail_mut();
        detail.parent = parent;
        detail.root = root;
    }
}

/// Everything that is pending gets its timers and offers, as if it had been scheduled now; user timers keep their time.
fn arm(tx: &mut Transaction<'_>, run: &mut Run) {
    if let Some((at, row)) = start::run_timeout_row(run) {
        timer_queue::set(tx, run.slot, at, &row);
    }
    timers::arm(tx, run);
    activities::arm(tx, run);
}

/// The task at the reset point ends by the reset.
fn fail_task(tx: &mut Transaction<'_>, run: &mut Run, base: &Run, request: &ResetWorkflowExecutionRequest) {
    let (scheduled_event_id, started_event_id) = match run.row.workflow_task.take() {
        Some(WorkflowTask::Started(started)) => {
            (started.scheduled.map_or(0, |task| task.scheduled_event_id), started.started_event_id)
        }
        Some(WorkflowTask::Scheduled(task)) => {
            let event = WorkflowTaskStartedEventAttributes {
                scheduled_event_id: task.scheduled_event_id,
                identity: ENGINE_IDENTITY.to_owned(),
                // As the real server writes it.
                request_id: "emptyUuid".to_owned(),
                history_size_bytes: i64::try_from(run.row.history_bytes).unwrap_or(i64::MAX),
                ..Default::default()
            };
            let EventId(id) = run.record(tx.now, Attributes::WorkflowTaskStartedEventAttributes(event));
            (task.scheduled_event_id, id)
        }
        None => return,
    };
    let event = WorkflowTaskFailedEventAttributes {
        scheduled_event_id,
        started_event_id,
        cause: WorkflowTaskFailedCause::ResetWorkflow as i32,
        failure: Some(Failure {
            message: request.reason.clone(),
            failure_info: Some(FailureInfo::ResetWorkflowFailureInfo(ResetWorkflowFailureInfo::default())),
            ..Default::default()
        }),
        identity: ENGINE_IDENTITY.to_owned(),
        base_run_id: base.key.run_id.clone(),
        new_run_id: run.key.run_id.clone(),
        ..Default::default()
    };
    run.record(tx.now, Attributes::WorkflowTaskFailedEventAttributes(event));
    run.row.workflow_task_attempt = 1;
    run.row.workflow_task_failed_cause = 0;
}
