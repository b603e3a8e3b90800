//! What a workflow task's commands must satisfy before any of them takes effect, in the real server's words.
//!
//! A [`Refusal`] fails the workflow task: `completion` records it and answers INVALID_ARGUMENT with the same words. Here only what a
//! command says of itself is looked at; rules that need the run's state (duplicate ids, unknown timers) are with those concepts.
//!
//! Never: a change of state; a look at anything but the command and the bounds.

pub mod absent;
pub mod activity;
pub mod child;
pub mod close;
pub mod external;
pub mod fields;
pub mod marker;
pub mod properties;
pub mod retry_policy;
pub mod search_attributes;
pub mod timer;

use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

/// A command that fails the workflow task it came with.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {reason}", words(*cause))]
pub struct Refusal {
    pub cause: WorkflowTaskFailedCause,
    /// Without the cause's name in front; `to_string` has both.
    pub reason: String,
    /// A payload over its limit: the run itself is ended too, because the same code would only send it again.
    pub ends_run: bool,
}

impl Refusal {
    pub fn new(cause: WorkflowTaskFailedCause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into(), ends_run: false }
    }

    /// A payload over its limit.
    pub fn oversized(cause: WorkflowTaskFailedCause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into(), ends_run: true }
    }
}

/// The cause's name as messages carry it.
pub fn words(cause: WorkflowTaskFailedCause) -> &'static str {
    use WorkflowTaskFailedCause as C;
    match cause {
        C::UnhandledCommand => "UnhandledCommand",
        C::BadScheduleActivityAttributes => "BadScheduleActivityAttributes",
        C::BadRequestCancelActivityAttributes => "BadRequestCancelActivityAttributes",
        C::BadStartTimerAttributes => "BadStartTimerAttributes",
        C::BadCancelTimerAttributes => "BadCancelTimerAttributes",
        C::BadRecordMarkerAttributes => "BadRecordMarkerAttributes",
        C::BadCompleteWorkflowExecutionAttributes => "BadCompleteWorkflowExecutionAttributes",
        C::BadFailWorkflowExecutionAttributes => "BadFailWorkflowExecutionAttributes",
        C::BadCancelWorkflowExecutionAttributes => "BadCancelWorkflowExecutionAttributes",
        C::BadRequestCancelExternalWorkflowExecutionAttributes => "BadRequestCancelExternalWorkflowExecutionAttributes",
        C::BadContinueAsNewAttributes => "BadContinueAsNewAttributes",
        C::StartTimerDuplicateId => "StartTimerDuplicateId",
        C::ResetStickyTaskQueue => "ResetStickyTaskQueue",
        C::WorkflowWorkerUnhandledFailure => "WorkflowWorkerUnhandledFailure",
        C::BadSignalWorkflowExecutionAttributes => "BadSignalWorkflowExecutionAttributes",
        C::BadStartChildExecutionAttributes => "BadStartChildExecutionAttributes",
        C::ForceCloseCommand => "ForceCloseCommand",
        C::FailoverCloseCommand => "FailoverCloseCommand",
        C::BadSignalInputSize => "BadSignalInputSize",
        C::ResetWorkflow => "ResetWorkflow",
        C::BadBinary => "BadBinary",
        C::ScheduleActivityDuplicateId => "ScheduleActivityDuplicateId",
        C::BadSearchAttributes => "BadSearchAttributes",
        C::NonDeterministicError => "NonDeterministicError",
        C::BadModifyWorkflowPropertiesAttributes => "BadModifyWorkflowPropertiesAttributes",
        C::PendingChildWorkflowsLimitExceeded => "PendingChildWorkflowsLimitExceeded",
        C::PendingActivitiesLimitExceeded => "PendingActivitiesLimitExceeded",
        C::PendingSignalsLimitExceeded => "PendingSignalsLimitExceeded",
        C::PendingRequestCancelLimitExceeded => "PendingRequestCancelLimitExceeded",
        C::BadUpdateWorkflowExecutionMessage => "BadUpdateWorkflowExecutionMessage",
        C::UnhandledUpdate => "UnhandledUpdate",
        C::BadScheduleNexusOperationAttributes => "BadScheduleNexusOperationAttributes",
        C::PendingNexusOperationsLimitExceeded => "PendingNexusOperationsLimitExceeded",
        C::BadRequestCancelNexusOperationAttributes => "BadRequestCancelNexusOperationAttributes",
        C::FeatureDisabled => "FeatureDisabled",
        C::GrpcMessageTooLarge => "GrpcMessageTooLarge",
        _ => "Unspecified",
    }
}

#[cfg(test)]
mod tests;
