//! User timers of a run.

use stanchion_proto::row::TimerQueueRow;
use stanchion_proto::temporal::command::v1::{CancelTimerCommandAttributes, StartTimerCommandAttributes};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use super::completion::{CommandFailure, Completion};
use super::{Extra, Run};
use crate::state::StateResult;
use crate::transaction::Transaction;

/// StartTimer.
pub fn start(
    _tx: &mut Transaction<'_>,
    _run: &mut Run,
    _completion: &mut Completion<'_>,
    _extra: Extra,
    _attributes: Option<&StartTimerCommandAttributes>,
) -> Result<(), CommandFailure> {
    Err(CommandFailure::new(WorkflowTaskFailedCause::FeatureDisabled, "StartTimer is not supported"))
}

/// CancelTimer. A timer that fired and is still buffered is taken back ([`Run::take_buffered`]).
pub fn cancel(
    _tx: &mut Transaction<'_>,
    _run: &mut Run,
    _completion: &mut Completion<'_>,
    _extra: Extra,
    _attributes: Option<&CancelTimerCommandAttributes>,
) -> Result<(), CommandFailure> {
    Err(CommandFailure::new(WorkflowTaskFailedCause::FeatureDisabled, "CancelTimer is not supported"))
}

/// A timer's row is due. The run is open. Returns false if it changed nothing.
pub fn fire(_tx: &mut Transaction<'_>, _run: &mut Run, _row: &TimerQueueRow) -> StateResult<bool> {
    Ok(false)
}

/// The run has closed: its timers and their rows go.
pub fn run_closed(_tx: &mut Transaction<'_>, _run: &mut Run) {}
