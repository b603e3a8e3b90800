//! A worker's answer to a workflow task: its commands, applied all or nothing.

use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;
use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use crate::types::EventId;
use crate::validate::Refusal;

/// The completion whose commands are being applied.
pub struct Completion<'c> {
    /// The WorkflowTaskCompleted event.
    pub completed_event_id: EventId,
    pub identity: &'c str,
    pub worker_instance_key: &'c str,
    /// Started at once for the worker that completes, and part of the answer to it.
    pub eager_activities: Vec<PollActivityTaskQueueResponse>,
    /// Scheduled by a command of this completion, with whether the worker asked to have it at once: they are offered, handed over or
    /// started when all commands are applied ([`super::activities::dispatch`]), because a later command may cancel them.
    pub scheduled_activities: Vec<(i64, bool)>,
    /// A command had a result on the spot (an activity that nobody had started was canceled): schedule another workflow task.
    pub needs_workflow_task: bool,
}

/// A command that breaks a rule: the whole completion is dropped and the workflow task fails with this.
#[derive(Clone, PartialEq, Debug)]
pub struct CommandFailure {
    pub cause: WorkflowTaskFailedCause,
    /// What is wrong; the cause's name is put in front of it.
    pub message: String,
    /// A payload over its limit: the run is terminated behind the failed workflow task.
    pub ends_run: bool,
}

impl CommandFailure {
    pub fn new(cause: WorkflowTaskFailedCause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), ends_run: false }
    }
}

impl From<Refusal> for CommandFailure {
    fn from(refusal: Refusal) -> Self {
        Self { cause: refusal.cause, message: refusal.reason, ends_run: refusal.ends_run }
    }
}
