//! Speculative workflow tasks: made for updates alone, and without a trace if all that comes of them is rejections.
//!
//! Its scheduled and started events have ids, and its worker is shown them, but they are not stored. They are stored when
//! - its worker accepts an update, sends a command or asks for more time ([`super::completion`]),
//! - it fails or times out ([`super::workflow_task`]),
//! - anything else happens in the run ([`settle`]): then it is an ordinary task from there on.
//!
//! ```text
//! signal while scheduled             signal while started                rejection
//!   5 scheduled (now stored)           5 scheduled (now stored)            nothing: the worker is told to go back to
//!   6 signal                           6 started   (now stored)            where it was (reset_history_event_id)
//!                                      signal waits for its id
//! ```
//!
//! Never: an event between the ones that the worker was shown.

use stanchion_proto::row::{WorkflowTaskScheduledRow, run_row::WorkflowTask};
use stanchion_proto::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;

use super::Run;
use super::updates::messages;
use super::workflow_task::{scheduled_attributes, started_attributes};
use crate::types::ShardTime;

/// A worker that can be shown the same events again may be shown this many; more are stored rather than sent over and over.
const SHOWN_AGAIN_MAX: i64 = 10;

/// The task's scheduled and started events are stored when they happen. Not so those of a repeated attempt.
pub(crate) fn is_stored(task: &WorkflowTaskScheduledRow) -> bool {
    task.attempt == 1 && !task.speculative
}

/// Something else is about to get an event: a speculative task's own come first, and it is an ordinary task from now on.
pub(super) fn settle(run: &mut Run) {
    match run.row.workflow_task.take() {
        Some(WorkflowTask::Scheduled(mut task)) if task.speculative => {
            task.speculative = false;
            run.record(ShardTime(task.scheduled_at), scheduled_attributes(run, &task));
            run.row.workflow_task = Some(WorkflowTask::Scheduled(task));
        }
        Some(WorkflowTask::Started(mut started)) if started.scheduled.as_ref().is_some_and(|task| task.speculative) => {
            if let Some(task) = &mut started.scheduled {
                task.speculative = false;
                let attributes = scheduled_attributes(run, task);
                run.record(ShardTime(task.scheduled_at), attributes);
            }
            // The real server knows the worker's identity no more at this point.
            run.record(ShardTime(started.started_at), started_attributes(&started, ""));
            run.row.workflow_task = Some(WorkflowTask::Started(started));
        }
        other => run.row.workflow_task = other,
    }
}

/// The completion asks for nothing that must be recorded, so the task has never been.
pub(super) fn is_discarded(
    run: &Run,
    task: Option<&WorkflowTaskScheduledRow>,
    request: &RespondWorkflowTaskCompletedRequest,
) -> bool {
    let speculative = task.is_some_and(|task| task.speculative);
    if !speculative || !request.commands.is_empty() || request.force_create_new_workflow_task {
        return false;
    }
    // Events between the last completed task and this one were shown to the worker, and would be once more.
    let again = request.capabilities.is_some_and(|can| can.discard_speculative_workflow_task_with_events);
    let shown = run.row.next_event_id - (run.row.previous_started_event_id + 2);
    shown <= if again { SHOWN_AGAIN_MAX } else { 0 } && messages::only_rejections(&request.messages)
}
