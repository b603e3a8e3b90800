//! Activities of a run: scheduled by a command, started, heartbeating, closed, retried, timed out.

use stanchion_proto::command::{
    CancelActivityTask, CompleteActivityTask, FailActivityTask, HeartbeatActivityTask, StartActivityTask,
};
use stanchion_proto::row::TimerQueueRow;
use stanchion_proto::temporal::command::v1::{
    RequestCancelActivityTaskCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use super::completion::{CommandFailure, Completion};
use super::{Extra, Run};
use crate::reply::{Code, Rejection, Reply};
use crate::state::StateResult;
use crate::transaction::{Outcome, Transaction};

/// ScheduleActivityTask. An activity that the worker may have at once goes to `completion.eager_activities`.
pub fn schedule(
    _tx: &mut Transaction<'_>,
    _run: &mut Run,
    _completion: &mut Completion<'_>,
    _extra: Extra,
    _attributes: Option<&ScheduleActivityTaskCommandAttributes>,
) -> Result<(), CommandFailure> {
    Err(CommandFailure::new(WorkflowTaskFailedCause::FeatureDisabled, "ScheduleActivityTask is not supported"))
}

/// RequestCancelActivityTask. Sets `completion.needs_workflow_task` when the activity is canceled on the spot.
pub fn request_cancel(
    _tx: &mut Transaction<'_>,
    _run: &mut Run,
    _completion: &mut Completion<'_>,
    _extra: Extra,
    _attributes: Option<&RequestCancelActivityTaskCommandAttributes>,
) -> Result<(), CommandFailure> {
    Err(CommandFailure::new(WorkflowTaskFailedCause::FeatureDisabled, "RequestCancelActivityTask is not supported"))
}

/// All commands of the completion are applied and the run is still open: what they scheduled is offered to matchers, handed to pollers
/// that are held for it, or started for the worker itself (then it is in `completion.eager_activities`).
pub fn dispatch(_tx: &mut Transaction<'_>, _run: &mut Run, _completion: &mut Completion<'_>) -> StateResult<()> {
    Ok(())
}

fn unsupported(what: &str) -> Outcome<Reply> {
    Err(Rejection::new(Code::Unimplemented, format!("{what} is not supported")).into())
}

/// A matcher paired the activity with a poller.
pub fn start(_tx: &mut Transaction<'_>, _command: &StartActivityTask) -> Outcome<Reply> {
    unsupported("StartActivityTask")
}

pub fn complete(_tx: &mut Transaction<'_>, _command: &CompleteActivityTask) -> Outcome<Reply> {
    unsupported("CompleteActivityTask")
}

pub fn fail(_tx: &mut Transaction<'_>, _command: &FailActivityTask) -> Outcome<Reply> {
    unsupported("FailActivityTask")
}

pub fn cancel(_tx: &mut Transaction<'_>, _command: &CancelActivityTask) -> Outcome<Reply> {
    unsupported("CancelActivityTask")
}

pub fn heartbeat(_tx: &mut Transaction<'_>, _command: &HeartbeatActivityTask) -> Outcome<Reply> {
    unsupported("HeartbeatActivityTask")
}

/// A time-out's row is due. The run is open. Returns false if it changed nothing.
pub fn fire_timeout(_tx: &mut Transaction<'_>, _run: &mut Run, _row: &TimerQueueRow) -> StateResult<bool> {
    Ok(false)
}

/// A retry's back-off has passed. The run is open. Returns false if it changed nothing.
pub fn fire_retry(_tx: &mut Transaction<'_>, _run: &mut Run, _row: &TimerQueueRow) -> StateResult<bool> {
    Ok(false)
}

/// The run has closed: nothing of it is on offer or due any more. Rows stay for describing the run.
pub fn run_closed(_tx: &mut Transaction<'_>, _run: &mut Run) {}
