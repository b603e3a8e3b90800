//! Activities changed from outside: pause, unpause, reset, options. Two families of calls lead to the same commands: the older ones name
//! pending activities of a workflow run, the newer ones name one activity, of a workflow or standalone.
//!
//! Rules that need the activity's state are the engine's. Here requests are checked, in the real server's words.

use std::sync::Arc;

use stanchion_engine::limits::Limits;
use stanchion_engine::reply::Reply;
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::control_activities::Which;
use stanchion_proto::command::{
    ActivityControl, ChangeActivityOptions, ControlActivities, ControlStandaloneActivity, PauseActivity, ResetActivity,
    RunRef, UnpauseActivity,
};
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::workflowservice::v1::*;

use super::workflow::{command, group, new_request_id, unexpected};
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate::{self, Checked};

fn refuse(message: impl Into<String>) -> Checked {
    Err(Rejection::invalid(message))
}

/// `what exceeds length limit. Length=… Limit=…`
pub(super) fn within(what: &str, text: &str, limits: &Limits) -> Checked {
    let limit = limits.id_bytes_max;
    if text.len() as u64 > limit {
        return refuse(format!("{what} exceeds length limit. Length={} Limit={limit}", text.len()));
    }
    Ok(())
}

/// The activity and its run, as the newer calls name them.
pub(super) fn named(activity_id: &str, run_id: &str, limits: &Limits) -> Checked {
    if activity_id.is_empty() {
        return refuse("activity ID is required");
    }
    within("activity ID", activity_id, limits)?;
    validate::run_id(run_id, "invalid run id: must be a valid UUID")
}

/// For requests of which nothing else is to be checked.
fn nothing_more<R>(_request: &R) -> Checked {
    Ok(())
}

async fn propose(at: &Here, namespace: &str, kind: Kind, method: &str) -> Result<Option<ActivityOptions>, CallError> {
    let namespace = at.namespace(namespace).await?;
    match at.term.propose(command(&namespace, kind)).await? {
        Reply::Done => Ok(None),
        Reply::ActivityOptions(options) => Ok(Some(*options)),
        reply => Err(unexpected(method, reply)),
    }
}

// -------------------------------------------------------------------------------------------- pending activities of a run

async fn check_pending(
    node: &Arc<Node>,
    namespace: &str,
    execution: Option<&WorkflowExecution>,
    names_some: bool,
) -> Result<(), CallError> {
    node.meta.namespace(node, namespace).await?;
    let execution = execution.cloned().unwrap_or_default();
    if execution.workflow_id.is_empty() {
        return Err(Rejection::invalid("WorkflowId is not set on request.").into());
    }
    validate::run_id(&execution.run_id, "RunId is not valid UUID.")?;
    if !names_some {
        return Err(Rejection::invalid("Either Activity.Id or Activity.Type should be set on request.").into());
    }
    Ok(())
}

fn workflow_id(execution: Option<&WorkflowExecution>) -> &str {
    execution.map_or("", |execution| execution.workflow_id.as_str())
}

macro_rules! pending {
    ($request:ident, $response:ident, $method:literal, $which:ident { $($variant:ident => $our:ident),* },
     |$this:ident| $more:expr, $action:expr, |$options:ident| $answer:expr) => {
        impl GroupCall for $request {
            const METHOD: &'static str = $method;
            type Answer = $response;

            async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
                check_pending(node, &self.namespace, self.execution.as_ref(), self.activity.is_some()).await?;
                let $this = self;
                Ok($more?)
            }

            async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
                group(node, &self.namespace, workflow_id(self.execution.as_ref())).await
            }

            async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
                let execution = self.execution.clone().unwrap_or_default();
                let which = self.activity.clone().map(|which| match which {
                    $($which::Activity::$variant(named) => Which::$our(named),)*
                });
                let namespace = self.namespace.clone();
                let identity = self.identity.clone();
                let $this = self;
                let control = ControlActivities {
                    run: Some(RunRef { workflow_id: execution.workflow_id, run_id: execution.run_id }),
                    which,
                    control: Some(ActivityControl { identity, action: Some($action) }),
                };
                let $options = propose(&at, &namespace, Kind::ControlActivities(control), $method).await?;
                Ok($answer)
            }
        }
    };
}

pending!(
    PauseActivityRequest,
    PauseActivityResponse,
    "PauseActivity",
    pause_activity_request { Id => Id, Type => Type },
    |this| nothing_more(this),
    Action::Pause(PauseActivity { reason: this.reason, request_id: this.request_id, once: false }),
    |_none| PauseActivityResponse {}
);
pending!(
    UnpauseActivityRequest,
    UnpauseActivityResponse,
    "UnpauseActivity",
    unpause_activity_request { Id => Id, Type => Type, UnpauseAll => All },
    |this| nothing_more(this),
    Action::Unpause(UnpauseActivity {
        reset_attempts: this.reset_attempts,
        reset_heartbeat: this.reset_heartbeat,
        jitter: this.jitter,
    }),
    |_none| UnpauseActivityResponse {}
);
pending!(
    ResetActivityRequest,
    ResetActivityResponse,
    "ResetActivity",
    reset_activity_request { Id => Id, Type => Type, MatchAll => All },
    |this| nothing_more(this),
    Action::Reset(ResetActivity {
        reset_heartbeat: this.reset_heartbeat,
        keep_paused: this.keep_paused,
        jitter: this.jitter,
        restore_original_options: this.restore_original_options,
    }),
    |_none| ResetActivityResponse {}
);
pending!(
    UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse,
    "UpdateActivityOptions",
    update_activity_options_request { Id => Id, Type => Type, MatchAll => All },
    |this| not_both(this.restore_original, this.update_mask.as_ref()),
    Action::Options(ChangeActivityOptions {
        options: this.activity_options,
        mask: this.update_mask.map(|mask| mask.paths).unwrap_or_default(),
        restore_original: this.restore_original,
    }),
    |options| UpdateActivityOptionsResponse { activity_options: options }
);

fn not_both(restore_original: bool, mask: Option<&prost_types::FieldMask>) -> Checked {
    if restore_original && mask.is_some_and(|mask| !mask.paths.is_empty()) {
        return refuse("Both UpdateMask and RestoreOriginal are provided");
    }
    Ok(())
}

// ------------------------------------------------------------------------------ one activity, of a workflow or standalone

macro_rules! one {
    ($request:ident, $response:ident, $method:literal, |$this:ident, $limits:ident| $more:expr, $action:expr,
     |$options:ident| $answer:expr) => {
        impl GroupCall for $request {
            const METHOD: &'static str = $method;
            type Answer = $response;

            async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
                node.meta.namespace(node, &self.namespace).await?;
                named(&self.activity_id, &self.run_id, &node.limits)?;
                within("identity", &self.identity, &node.limits)?;
                let ($this, $limits) = (self, &node.limits);
                Ok($more?)
            }

            async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
                let id = if self.workflow_id.is_empty() { &self.activity_id } else { &self.workflow_id };
                group(node, &self.namespace, id).await
            }

            async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
                let (namespace, identity) = (self.namespace.clone(), self.identity.clone());
                let (workflow_id, activity_id) = (self.workflow_id.clone(), self.activity_id.clone());
                let run_id = self.run_id.clone();
                let $this = self;
                let control = Some(ActivityControl { identity, action: Some($action) });
                let kind = if workflow_id.is_empty() {
                    Kind::ControlStandaloneActivity(ControlStandaloneActivity { activity_id, run_id, control })
                } else {
                    let run = Some(RunRef { workflow_id, run_id });
                    Kind::ControlActivities(ControlActivities { run, which: Some(Which::Id(activity_id)), control })
                };
                let $options = propose(&at, &namespace, kind, $method).await?;
                Ok($answer)
            }
        }
    };
}

one!(
    PauseActivityExecutionRequest,
    PauseActivityExecutionResponse,
    "PauseActivityExecution",
    |this, limits| {
        let checked = within("request ID", &this.request_id, limits);
        if this.request_id.is_empty() {
            this.request_id = new_request_id();
        }
        checked
    },
    Action::Pause(PauseActivity { reason: this.reason, request_id: this.request_id, once: true }),
    |_none| PauseActivityExecutionResponse {}
);
one!(
    UnpauseActivityExecutionRequest,
    UnpauseActivityExecutionResponse,
    "UnpauseActivityExecution",
    |this, _limits| nothing_more(this),
    // The message has no fields for resets.
    Action::Unpause(UnpauseActivity { reset_attempts: false, reset_heartbeat: false, jitter: this.jitter }),
    |_none| UnpauseActivityExecutionResponse {}
);
one!(
    ResetActivityExecutionRequest,
    ResetActivityExecutionResponse,
    "ResetActivityExecution",
    |this, _limits| nothing_more(this),
    Action::Reset(ResetActivity {
        // The message has no such field: what heartbeats said goes on.
        reset_heartbeat: false,
        keep_paused: this.keep_paused,
        jitter: this.jitter,
        restore_original_options: this.restore_original_options,
    }),
    |_none| ResetActivityExecutionResponse {}
);
one!(
    UpdateActivityExecutionOptionsRequest,
    UpdateActivityExecutionOptionsResponse,
    "UpdateActivityExecutionOptions",
    |this, _limits| options_given(this),
    Action::Options(ChangeActivityOptions {
        options: this.activity_options,
        mask: this.update_mask.map(|mask| mask.paths).unwrap_or_default(),
        restore_original: this.restore_original,
    }),
    |options| UpdateActivityExecutionOptionsResponse { activity_options: options }
);

fn options_given(request: &UpdateActivityExecutionOptionsRequest) -> Checked {
    if request.restore_original {
        return not_both(true, request.update_mask.as_ref());
    }
    if request.activity_options.is_none() {
        return refuse("ActivityOptions are not provided");
    }
    match &request.update_mask {
        None => refuse("UpdateMask is not provided"),
        Some(mask) if mask.paths.is_empty() => refuse("UpdateMask must specify at least one path"),
        Some(_) => Ok(()),
    }
}
