//! How an attempt at a workflow task ends without a completion: failed by its worker or on the engine's behalf, timed out, or overtaken by
//! the close of its run.
//!
//! Never: an event for an attempt above the first; a next attempt scheduled here but for those who have no caller to do it.

use stanchion_proto::command::{FailWorkflowTask, TimeoutWorkflowTask};
use stanchion_proto::row::{WorkflowTaskScheduledRow, WorkflowTaskStartedRow, run_row::WorkflowTask};
use stanchion_proto::temporal::common::v1::WorkerVersionStamp;
use stanchion_proto::temporal::enums::v1::{TimeoutType, WorkflowTaskFailedCause};
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{WorkflowTaskFailedEventAttributes, WorkflowTaskTimedOutEventAttributes};
use stanchion_proto::temporal::workflowservice::v1::RespondWorkflowTaskFailedRequest;

use super::shown::{scheduled_attributes, store_transient};
use super::{ENGINE_IDENTITY, not_found, remove_row, schedule, start_within, take_started, task_ref};
use crate::effects::TaskKind;
use crate::reply::{Rejection, Reply};
use crate::run::Run;
use crate::run::speculative::is_stored;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;
use crate::{lookup, mutant, pending};

/// The worker gives the task up.
pub fn fail(tx: &mut Transaction<'_>, command: &FailWorkflowTask) -> Outcome<Reply> {
    let (Some(token), Some(request)) = (&command.token, &command.request) else {
        return Err(Rejection::invalid("Task token not set on request.").into());
    };
    let mut run = lookup::open_run(tx, &token.workflow_id, &token.run_id)?;
    let Some(started) = take_started(&mut run, token) else {
        tx.release(run);
        return Err(not_found().into());
    };
    let why = TaskFailure {
        cause: request.cause,
        failure: request.failure.clone(),
        identity: request.identity.clone(),
        binary_checksum: binary_checksum(request),
        // The real server leaves the stamp of an unversioned worker out of this event.
        worker_version: None,
    };
    end_attempt(tx, &mut run, started, End::Failed(why));
    schedule(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Done)
}

#[allow(deprecated)]
fn binary_checksum(request: &RespondWorkflowTaskFailedRequest) -> String {
    request.binary_checksum.clone()
}

/// The leader saw the task's time pass.
pub fn timeout(tx: &mut Transaction<'_>, command: &TimeoutWorkflowTask) -> Outcome<Reply> {
    let Some(name) = &command.run else { return Ok(Reply::Stale) };
    let Some(mut run) = lookup::named(tx, &name.workflow_id, &name.run_id)? else { return Ok(Reply::Stale) };
    if !is_due(tx, &run, command) {
        tx.release(run);
        return Ok(Reply::Stale);
    }
    match run.row.workflow_task.take() {
        Some(WorkflowTask::Started(started)) => end_attempt(tx, &mut run, started, End::TimedOut),
        Some(WorkflowTask::Scheduled(task)) => give_up_waiting(tx, &mut run, &task),
        None => {}
    }
    schedule(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::Done)
}

/// The task is the one meant, in the state meant, and its time has passed by the shard's clock: a leader's clock may run ahead.
fn is_due(tx: &Transaction<'_>, run: &Run, command: &TimeoutWorkflowTask) -> bool {
    if !run.is_open() {
        return false;
    }
    match (&run.row.workflow_task, command.start_to_close) {
        (Some(WorkflowTask::Started(started)), true) => started.scheduled.as_ref().is_some_and(|task| {
            task.stamp == command.stamp && ShardTime(started.started_at).plus(task.start_to_close_timeout) <= tx.now
        }),
        (Some(WorkflowTask::Scheduled(task)), false) => {
            task.stamp == command.stamp
                && start_within(run, task).is_some_and(|limit| ShardTime(task.scheduled_at).plus(limit) <= tx.now)
        }
        _ => false,
    }
}

/// Nobody took the task off its queue in time.
fn give_up_waiting(tx: &mut Transaction<'_>, run: &mut Run, task: &WorkflowTaskScheduledRow) {
    pending::remove(tx, run.slot, TaskKind::Workflow, &task_ref(&run.key, task), true);
    if !is_stored(task) {
        run.record(ShardTime(task.scheduled_at), scheduled_attributes(run, task));
    }
    run.record(
        tx.now,
        Attributes::WorkflowTaskTimedOutEventAttributes(WorkflowTaskTimedOutEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: 0,
            timeout_type: TimeoutType::ScheduleToStart as i32,
        }),
    );
    run.row.sticky = None;
    run.row.workflow_task_attempt = 1;
}

/// Why a started task failed, as its event says.
pub(in crate::run) struct TaskFailure {
    /// [`WorkflowTaskFailedCause`], kept as it came.
    pub cause: i32,
    pub failure: Option<Failure>,
    pub identity: String,
    pub binary_checksum: String,
    pub worker_version: Option<WorkerVersionStamp>,
}

pub(in crate::run) enum End {
    Failed(TaskFailure),
    TimedOut,
}

/// A started task ends without a completion. The next one is the caller's to schedule.
pub(in crate::run) fn end_attempt(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    mut started: WorkflowTaskStartedRow,
    end: End,
) {
    if mutant!(LoseBufferedSignal) {
        let is_signal = |a: &Attributes| matches!(a, Attributes::WorkflowExecutionSignaledEventAttributes(_));
        run.buffered.retain(|event| !event.attributes.as_ref().is_some_and(is_signal));
    }
    let offered_as = started.scheduled.clone().unwrap_or_default();
    remove_row(tx, run, &offered_as);
    if offered_as.speculative {
        let identity = match &end {
            End::Failed(why) => why.identity.clone(),
            End::TimedOut => String::new(),
        };
        store_transient(run, &mut started, &identity);
    }
    let task = started.scheduled.clone().unwrap_or_default();
    run.row.close_attempted =
        matches!(&end, End::Failed(why) if why.cause == WorkflowTaskFailedCause::UnhandledCommand as i32);
    run.row.workflow_task_failed_cause = match &end {
        End::Failed(why) => why.cause,
        End::TimedOut => 0,
    };
    if task.attempt == 1 {
        let attributes = match end {
            End::Failed(why) => failed_attributes(&task, started.started_event_id, why),
            End::TimedOut => Attributes::WorkflowTaskTimedOutEventAttributes(WorkflowTaskTimedOutEventAttributes {
                scheduled_event_id: task.scheduled_event_id,
                started_event_id: started.started_event_id,
                timeout_type: TimeoutType::StartToClose as i32,
            }),
        };
        run.record(tx.now, attributes);
    }
    // Off a sticky queue the failure may lie in that worker's cache: the normal queue gets a first attempt.
    run.row.workflow_task_attempt = if run.row.sticky.take().is_some() { 1 } else { task.attempt + 1 };
}

#[allow(deprecated)]
fn failed_attributes(task: &WorkflowTaskScheduledRow, started_event_id: i64, why: TaskFailure) -> Attributes {
    Attributes::WorkflowTaskFailedEventAttributes(WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id,
        cause: why.cause,
        failure: why.failure,
        identity: why.identity,
        binary_checksum: why.binary_checksum,
        worker_version: why.worker_version,
        ..Default::default()
    })
}

/// Too much has come in while the worker had the task: it is failed, and the next one tells of it all.
pub(in crate::run) fn fail_overtaken(tx: &mut Transaction<'_>, run: &mut Run) {
    match run.row.workflow_task.take() {
        Some(WorkflowTask::Started(started)) => {
            end_attempt(tx, run, started, End::Failed(forced()));
            run.flush_buffered();
            schedule(tx, run);
        }
        other => run.row.workflow_task = other,
    }
}

fn forced() -> TaskFailure {
    TaskFailure {
        cause: WorkflowTaskFailedCause::ForceCloseCommand as i32,
        failure: None,
        identity: ENGINE_IDENTITY.to_owned(),
        binary_checksum: String::new(),
        worker_version: None,
    }
}

/// The run is closed from outside: a task that is with a worker ends first, and what waited for it gets its ids.
pub(in crate::run) fn force_close(tx: &mut Transaction<'_>, run: &mut Run) {
    match run.row.workflow_task.take() {
        Some(WorkflowTask::Started(started)) => {
            end_attempt(tx, run, started, End::Failed(forced()));
        }
        Some(WorkflowTask::Scheduled(mut task)) => {
            // One that nobody has taken up leaves no events.
            task.speculative = false;
            run.row.workflow_task = Some(WorkflowTask::Scheduled(task));
        }
        None => {}
    }
    run.flush_buffered();
}
