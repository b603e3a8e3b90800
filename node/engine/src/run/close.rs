//! How runs end: by their own command, by time-out, by termination; and the run that follows in the chain, if one does.
//!
//! ```text
//! complete, cancel ------------------------------> closed
//! fail, time-out --retry policy says again------> closed, successor with the next attempt after its back-off
//! complete, fail, time-out of a cron schedule ----> closed, successor at the next time of the schedule
//! continue as new ------------------------------> closed, successor with new input
//! terminate, bounds ----------------------------> closed (a task that is with a worker fails first)
//! ```
//!
//! Never: an event after the closing one; two successors of one run.

use stanchion_proto::command::TerminateWorkflow;
use stanchion_proto::row::StopScheduled;
use stanchion_proto::temporal::command::v1::{
    CancelWorkflowExecutionCommandAttributes, CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes, FailWorkflowExecutionCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{ContinueAsNewInitiator, RetryState, TimeoutType, WorkflowExecutionStatus};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, TimeoutFailureInfo};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    WorkflowExecutionCanceledEventAttributes, WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionContinuedAsNewEventAttributes, WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionStartedEventAttributes, WorkflowExecutionTerminatedEventAttributes,
    WorkflowExecutionTimedOutEventAttributes,
};
use stanchion_proto::temporal::workflow::v1::ResetPoints;
use stanchion_proto::temporal::workflowservice::v1::TerminateWorkflowExecutionRequest;

use super::completion::Completion;
use super::start::{self, Beginning};
use super::workflow_task::{self, ENGINE_IDENTITY};
use super::{Extra, Run, activities, callbacks, children, cron, delete, external, timers};
use crate::reply::{Rejection, Reply};
use crate::retry;
use crate::schedule::origin;
use crate::state::{StateFault, StateResult, Table};
use crate::time::{SECOND, duration, nanos, timestamp, timestamp_if_set};
use crate::transaction::{Outcome, Transaction};
use crate::types::{RunKey, ShardTime};
use crate::validate::close::ContinueAsNewPlan;
use crate::{history, lookup, timer_queue};

/// A chain goes on at the earliest this long after its run began to work: no loop of continue-as-new runs hot.
const CONTINUE_INTERVAL_MIN: i64 = SECOND;

/// How long reset points of a closed run are said to be of use.
const RESET_POINT_LIFE: i64 = 24 * 3600 * SECOND;

/// The run that a closing command starts, to be finished behind the closed one.
pub type Successor = Option<Box<Run>>;

/// CompleteWorkflowExecution.
pub(super) fn complete(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &Completion<'_>,
    extra: Extra,
    attributes: &CompleteWorkflowExecutionCommandAttributes,
) -> StateResult<Successor> {
    let next = cron::next_wait(tx, run).map(|wait| Next {
        run_id: tx.ids.uuid(),
        initiator: ContinueAsNewInitiator::CronSchedule,
        wait,
        failure: None,
    });
    let event = WorkflowExecutionCompletedEventAttributes {
        result: attributes.result.clone(),
        workflow_task_completed_event_id: completion.completed_event_id.0,
        new_execution_run_id: run_id_of(next.as_ref()),
    };
    run.record_with(tx.now, Attributes::WorkflowExecutionCompletedEventAttributes(event), extra);
    run.row.successor_run_id = run_id_of(next.as_ref());
    closed(tx, run, WorkflowExecutionStatus::Completed);
    let Some(next) = next else { return Ok(None) };
    let mut beginning = started_again(tx, run, next)?;
    beginning.attributes.last_completion_result.clone_from(&attributes.result);
    Ok(Some(start::begin(tx, beginning)))
}

/// CancelWorkflowExecution.
pub(super) fn cancel(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &Completion<'_>,
    extra: Extra,
    attributes: &CancelWorkflowExecutionCommandAttributes,
) {
    let event = WorkflowExecutionCanceledEventAttributes {
        workflow_task_completed_event_id: completion.completed_event_id.0,
        details: attributes.details.clone(),
    };
    run.record_with(tx.now, Attributes::WorkflowExecutionCanceledEventAttributes(event), extra);
    closed(tx, run, WorkflowExecutionStatus::Canceled);
}

/// FailWorkflowExecution: the end, or the next attempt of the workflow retry policy, or the next run of the cron schedule.
pub(super) fn fail(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &Completion<'_>,
    extra: Extra,
    attributes: &FailWorkflowExecutionCommandAttributes,
) -> StateResult<Successor> {
    let failure = attributes.failure.clone().unwrap_or_default();
    let (retry_state, next) = after_failure(tx, run, &failure);
    let event = WorkflowExecutionFailedEventAttributes {
        failure: Some(failure),
        retry_state: retry_state as i32,
        workflow_task_completed_event_id: completion.completed_event_id.0,
        new_execution_run_id: run_id_of(next.as_ref()),
    };
    run.record_with(tx.now, Attributes::WorkflowExecutionFailedEventAttributes(event), extra);
    run.row.successor_run_id = run_id_of(next.as_ref());
    closed(tx, run, WorkflowExecutionStatus::Failed);
    let Some(next) = next else { return Ok(None) };
    let beginning = started_again(tx, run, next)?;
    Ok(Some(start::begin(tx, beginning)))
}

/// The run's time-out has passed. The run is open.
pub fn time_out(tx: &mut Transaction<'_>, mut run: Box<Run>) -> StateResult<()> {
    workflow_task::force_close(tx, &mut run);
    let failure = Failure {
        message: "workflow timeout".to_owned(),
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {
            timeout_type: TimeoutType::StartToClose as i32,
            last_heartbeat_details: None,
        })),
        ..Default::default()
    };
    let (retry_state, next) =
        if is_expired(tx, &run) { (RetryState::Timeout, None) } else { after_failure(tx, &run, &failure) };
    let event = WorkflowExecutionTimedOutEventAttributes {
        retry_state: retry_state as i32,
        new_execution_run_id: run_id_of(next.as_ref()),
    };
    run.record(tx.now, Attributes::WorkflowExecutionTimedOutEventAttributes(event));
    run.row.successor_run_id = run_id_of(next.as_ref());
    closed(tx, &mut run, WorkflowExecutionStatus::TimedOut);
    let successor = match next {
        Some(next) => {
            let beginning = started_again(tx, &mut run, next)?;
            Some(start::begin(tx, beginning))
        }
        None => None,
    };
    finish_chain(tx, run, successor)
}

/// Stages the closed run, then its successor, whose first workflow task is due unless it backs off.
pub(super) fn finish_chain(tx: &mut Transaction<'_>, mut run: Box<Run>, mut successor: Successor) -> StateResult<()> {
    if let Some(successor) = &mut successor {
        origin::hand_on(&mut run, successor);
    }
    let retention = run.row.retention;
    tx.finish(run)?;
    if let Some(mut successor) = successor {
        if successor.row.retention == 0 {
            // A timer closed the run: such a command is about no namespace.
            successor.row.retention = retention;
        }
        workflow_task::schedule_if_none(tx, &mut successor);
        tx.finish(successor)?;
    }
    Ok(())
}

/// The run that follows one that is over, started with the same once more.
struct Next {
    run_id: String,
    initiator: ContinueAsNewInitiator,
    wait: i64,
    /// That the one before ended with.
    failure: Option<Failure>,
}

fn run_id_of(next: Option<&Next>) -> String {
    next.map(|next| next.run_id.clone()).unwrap_or_default()
}

/// What comes after a run that failed or timed out: another attempt, or else the next time of its schedule.
fn after_failure(tx: &mut Transaction<'_>, run: &Run, failure: &Failure) -> (RetryState, Option<Next>) {
    let (state, again) = match next_attempt(tx.now, run, failure) {
        Ok(wait) => (RetryState::InProgress, Some((ContinueAsNewInitiator::Retry, wait))),
        Err(state) => (state, cron::next_wait(tx, run).map(|wait| (ContinueAsNewInitiator::CronSchedule, wait))),
    };
    let next =
        again.map(|(initiator, wait)| Next { run_id: tx.ids.uuid(), initiator, wait, failure: Some(failure.clone()) });
    (state, next)
}

/// The back-off before the next attempt by the workflow retry policy, or why there is none.
fn next_attempt(now: ShardTime, run: &Run, failure: &Failure) -> Result<i64, RetryState> {
    let expires_at = (run.row.execution_expires_at > 0).then_some(ShardTime(run.row.execution_expires_at));
    if expires_at.is_some_and(|at| at <= now) {
        return Err(RetryState::Timeout);
    }
    let Some(policy) = &run.row.retry_policy else { return Err(RetryState::RetryPolicyNotSet) };
    match retry::next(policy, run.row.attempt, Some(failure), now, expires_at) {
        retry::Next::After(backoff) => Ok(backoff),
        retry::Next::Stop(state) => Err(state),
    }
}

fn is_expired(tx: &Transaction<'_>, run: &Run) -> bool {
    run.row.execution_expires_at > 0 && ShardTime(run.row.execution_expires_at) <= tx.now
}

/// What the run was started with, once more.
fn started_again(tx: &mut Transaction<'_>, run: &mut Run, next: Next) -> StateResult<Beginning> {
    let mut attributes = started_with(tx, run)?;
    attributes.continued_execution_run_id.clone_from(&run.key.run_id);
    attributes.initiator = next.initiator as i32;
    attributes.continued_failure = next.failure;
    attributes.original_execution_run_id.clone_from(&next.run_id);
    attributes.first_execution_run_id.clone_from(&run.row.first_execution_run_id);
    attributes.attempt = if next.initiator == ContinueAsNewInitiator::Retry { run.row.attempt + 1 } else { 1 };
    attributes.workflow_execution_expiration_time = timestamp_if_set(run.row.execution_expires_at);
    attributes.first_workflow_task_backoff = Some(duration(next.wait));
    attributes.identity = String::new();
    attributes.eager_execution_accepted = false;
    attributes.completion_callbacks = callbacks::carried(run);
    // Memo and search attributes are those of the start: what the workflow upserted went with its attempt.
    attributes.prev_auto_reset_points = Some(expiring_reset_points(tx, run));
    let key = RunKey { run_id: next.run_id, ..run.key.clone() };
    Ok(Beginning { key, attributes, extra: Extra::default(), request_id: String::new() })
}

/// What the run's first event says.
fn started_with(tx: &Transaction<'_>, run: &Run) -> StateResult<WorkflowExecutionStartedEventAttributes> {
    let first = history::first_event(tx.reader(), run.slot, &run.key)?.and_then(|event| event.attributes);
    match first {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(attributes)) => Ok(attributes),
        _ => Err(StateFault::Corrupt {
            table: Table::History,
            reason: format!("run {} does not begin with a started event", run.key.run_id),
        }),
    }
}

/// ContinueAsNewWorkflowExecution.
pub(super) fn continue_as_new(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &Completion<'_>,
    extra: Extra,
    plan: &ContinueAsNewPlan<'_>,
) -> Box<Run> {
    let asked = plan.attributes;
    let run_id = tx.ids.uuid();
    let run_timeout = match nanos(asked.workflow_run_timeout.as_ref()) {
        0 => run.row.run_timeout,
        own => own,
    };
    let task_timeout = match nanos(asked.workflow_task_timeout.as_ref()) {
        0 => run.row.task_timeout,
        own => start::task_timeout(own, run_timeout),
    };
    let workflow_type = WorkflowType { name: plan.workflow_type.to_owned() };
    let event = WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: run_id.clone(),
        workflow_type: Some(workflow_type.clone()),
        task_queue: Some(start::normal_queue(plan.task_queue.to_owned())),
        input: asked.input.clone(),
        workflow_run_timeout: Some(duration(run_timeout)),
        workflow_task_timeout: Some(duration(task_timeout)),
        workflow_task_completed_event_id: completion.completed_event_id.0,
        backoff_start_interval: asked.backoff_start_interval,
        initiator: asked.initiator,
        last_completion_result: asked.last_completion_result.clone(),
        header: asked.header.clone(),
        memo: asked.memo.clone(),
        search_attributes: asked.search_attributes.clone(),
        initial_versioning_behavior: asked.initial_versioning_behavior,
        ..deprecated_part(asked)
    };
    run.record_with(tx.now, Attributes::WorkflowExecutionContinuedAsNewEventAttributes(event), extra);
    run.row.successor_run_id.clone_from(&run_id);
    closed(tx, run, WorkflowExecutionStatus::ContinuedAsNew);

    let parent_workflow_execution = run.detail().parent.as_ref().map(external::execution_of);
    let parent = run.detail().parent.clone().unwrap_or_default();
    let retry_policy = asked.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy)));
    let initiator = match asked.initiator() {
        ContinueAsNewInitiator::Unspecified => ContinueAsNewInitiator::Workflow,
        own => own,
    };
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: Some(workflow_type),
        task_queue: Some(start::normal_queue(plan.task_queue.to_owned())),
        input: asked.input.clone(),
        workflow_execution_timeout: (run.row.execution_timeout > 0).then(|| duration(run.row.execution_timeout)),
        workflow_run_timeout: Some(duration(run_timeout)),
        workflow_task_timeout: Some(duration(task_timeout)),
        continued_execution_run_id: run.key.run_id.clone(),
        initiator: initiator as i32,
        continued_failure: asked.failure.clone(),
        last_completion_result: asked.last_completion_result.clone(),
        original_execution_run_id: run_id.clone(),
        first_execution_run_id: run.row.first_execution_run_id.clone(),
        retry_policy,
        attempt: 1,
        workflow_execution_expiration_time: timestamp_if_set(run.row.execution_expires_at),
        cron_schedule: asked.cron_schedule.clone(),
        first_workflow_task_backoff: Some(duration(chain_backoff(
            tx,
            run,
            nanos(asked.backoff_start_interval.as_ref()),
        ))),
        memo: asked.memo.clone(),
        search_attributes: asked.search_attributes.clone(),
        prev_auto_reset_points: Some(expiring_reset_points(tx, run)),
        header: asked.header.clone(),
        workflow_id: run.key.workflow_id.clone(),
        priority: run.row.priority.clone(),
        parent_workflow_namespace: parent.namespace,
        parent_workflow_namespace_id: parent.namespace_id,
        parent_workflow_execution,
        parent_initiated_event_id: parent.initiated_event_id,
        root_workflow_execution: run.detail().root.clone(),
        completion_callbacks: callbacks::carried(run),
        ..Default::default()
    };
    let key = RunKey { run_id, ..run.key.clone() };
    start::begin(tx, Beginning { key, attributes, extra: Extra::default(), request_id: String::new() })
}

#[allow(deprecated)]
fn deprecated_part(
    asked: &ContinueAsNewWorkflowExecutionCommandAttributes,
) -> WorkflowExecutionContinuedAsNewEventAttributes {
    WorkflowExecutionContinuedAsNewEventAttributes {
        failure: asked.failure.clone(),
        inherit_build_id: asked.inherit_build_id,
        ..Default::default()
    }
}

/// The asked back-off, or what is left of the least interval between two runs of a chain.
fn chain_backoff(tx: &Transaction<'_>, run: &Run, asked: i64) -> i64 {
    let lifetime = (tx.now.0 - run.row.execution_at).max(0);
    if lifetime.saturating_add(asked) < CONTINUE_INTERVAL_MIN { CONTINUE_INTERVAL_MIN - lifetime } else { asked }
}

/// The reset points that the next run of the chain takes over: those of this run now expire.
fn expiring_reset_points(tx: &Transaction<'_>, run: &mut Run) -> ResetPoints {
    let mut points = run.row.reset_points.clone().unwrap_or_default();
    for point in &mut points.points {
        if point.run_id == run.key.run_id {
            point.expire_time = Some(timestamp(tx.now.plus(RESET_POINT_LIFE)));
        }
    }
    if run.row.reset_points.is_some() {
        run.row.reset_points = Some(points.clone());
    }
    points
}

/// TerminateWorkflow.
pub fn terminate(tx: &mut Transaction<'_>, command: &TerminateWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("TerminateWorkflow carries no request.").into());
    };
    let name = request.workflow_execution.clone().unwrap_or_default();
    let mut run = lookup::run_of_chain(tx, &name.workflow_id, &name.run_id, &request.first_execution_run_id)?;
    if !run.is_open() {
        tx.release(run);
        return Err(lookup::closed().into());
    }
    let extra = Extra { links: request.links.clone(), ..Default::default() };
    let reason = if request.reason.is_empty() { "terminated by user via frontend" } else { &request.reason };
    end_by_force(tx, &mut run, reason, request.details.clone(), &request.identity, extra);
    tx.finish(run)?;
    Ok(Reply::Done)
}

/// A schedule's overlap policy ends what runs.
pub fn terminate_scheduled(tx: &mut Transaction<'_>, workflow_id: &str, message: &StopScheduled) -> Outcome<()> {
    let request = TerminateWorkflowExecutionRequest {
        workflow_execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: String::new() }),
        first_execution_run_id: message.first_run_id.clone(),
        identity: message.identity.clone(),
        reason: "terminated by schedule overlap policy".to_owned(),
        ..Default::default()
    };
    terminate(tx, &TerminateWorkflow { request: Some(request) }).map(|_| ())
}

/// A start under TERMINATE_EXISTING ends the run that is in its way.
pub(super) fn terminate_for_successor(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    new_run_id: &str,
) -> Outcome<()> {
    let mut run = lookup::open_run(tx, workflow_id, run_id)?;
    let said = format!("\"terminated by new runID: {new_run_id}\"");
    let details = Payloads {
        payloads: vec![Payload {
            metadata: [("encoding".to_owned(), bytes::Bytes::from_static(b"json/plain"))].into(),
            data: said.into_bytes().into(),
            ..Default::default()
        }],
    };
    let reason = "TerminateIfRunning WorkflowIdReusePolicy";
    end_by_force(tx, &mut run, reason, Some(details), ENGINE_IDENTITY, Extra::default());
    tx.finish(run)?;
    Ok(())
}

/// Ends an open run that may not go on: it or what its worker sends is over a bound, or it goes with its parent.
pub(super) fn terminate_by_engine(tx: &mut Transaction<'_>, run: &mut Run, reason: &str) {
    end_by_force(tx, run, reason, None, ENGINE_IDENTITY, Extra::default());
}

/// Ends an open run whose place one takes that a reset makes: its parent waits for that one. So do the children of a run that is the
/// reset's base; those of another one are orphans, as on the real server.
pub(super) fn terminate_for_reset(tx: &mut Transaction<'_>, run: &mut Run, reason: &str) {
    terminated(tx, run, reason, None, "history-resetter", Extra::default());
    stopped(tx, run, WorkflowExecutionStatus::Terminated);
    if run.row.reset_run_id.is_empty() {
        children::end_orphans(tx, run);
    }
}

/// Ends an open run that a caller deletes.
pub(super) fn terminate_for_deletion(tx: &mut Transaction<'_>, run: &mut Run) {
    end_by_force(tx, run, "Delete workflow execution", None, ENGINE_IDENTITY, Extra::default());
}

fn end_by_force(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    reason: &str,
    details: Option<Payloads>,
    identity: &str,
    extra: Extra,
) {
    terminated(tx, run, reason, details, identity, extra);
    closed(tx, run, WorkflowExecutionStatus::Terminated);
}

fn terminated(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    reason: &str,
    details: Option<Payloads>,
    identity: &str,
    extra: Extra,
) {
    workflow_task::force_close(tx, run);
    let event = WorkflowExecutionTerminatedEventAttributes {
        reason: reason.to_owned(),
        details,
        identity: identity.to_owned(),
    };
    run.record_with(tx.now, Attributes::WorkflowExecutionTerminatedEventAttributes(event), extra);
}

/// The closing event is recorded: nothing of the run is on offer or due any more, and its relatives hear of it.
fn closed(tx: &mut Transaction<'_>, run: &mut Run, status: WorkflowExecutionStatus) {
    stopped(tx, run, status);
    children::run_closed(tx, run);
}

fn stopped(tx: &mut Transaction<'_>, run: &mut Run, status: WorkflowExecutionStatus) {
    workflow_task::run_closed(tx, run);
    if let Some((at, row)) = start::run_timeout_row(run) {
        timer_queue::clear(tx, run.slot, at, &row);
    }
    start::end_backoff(tx, run);
    run.row.status = status as i32;
    run.row.closed_at = tx.now.0;
    activities::run_closed(tx, run);
    timers::run_closed(tx, run);
    external::run_closed(run);
    callbacks::run_closed(tx, run);
    delete::run_closed(tx, run);
}
