//! A worker's answers to activity tasks: by token, and by workflow and activity id.
//!
//! Over-long results and details do not bounce: as on the real server they end the attempt with a failure that is not retried, because
//! the worker would only send the same again.

use std::sync::Arc;

use prost::Message;
use stanchion_engine::reply::Reply;
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    ActivityRef, ActivityTaskToken, CancelActivityTask, CompleteActivityTask, FailActivityTask, HeartbeatActivityTask,
    RunRef,
};
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, ServerFailureInfo};
use stanchion_proto::temporal::workflowservice::v1::*;

use super::tokens::{Token, activity_of};
use super::workflow::{command, done, group, unexpected};
use super::workflow_task::namespace_of;
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::CallError;
use crate::validate;

fn is_over_long(node: &Node, payloads: Option<&Payloads>) -> bool {
    payloads.map_or(0, Message::encoded_len) as u64 > node.limits.payload_bytes_max
}

/// The server's own failure, which is not retried.
fn failure_of(message: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable: true })),
        ..Default::default()
    }
}

/// Ends the attempt because of what the worker sent.
async fn end_over_long(
    at: &Here,
    namespace: &Namespace,
    method: &str,
    activity: ActivityRef,
    identity: String,
    message: &str,
) -> Result<(), CallError> {
    let request =
        RespondActivityTaskFailedRequest { failure: Some(failure_of(message)), identity, ..Default::default() };
    let fail = FailActivityTask { activity: Some(activity), request: Some(request), reservation: None };
    done(at, namespace, method, Kind::FailActivityTask(fail)).await
}

async fn complete(
    at: &Here,
    namespace: &Namespace,
    activity: ActivityRef,
    request: RespondActivityTaskCompletedRequest,
) -> Result<(), CallError> {
    const METHOD: &str = "RespondActivityTaskCompleted";
    if is_over_long(&at.node, request.result.as_ref()) {
        let message = "Complete result exceeds size limit.";
        return end_over_long(at, namespace, METHOD, activity, request.identity, message).await;
    }
    let complete = CompleteActivityTask { activity: Some(activity), request: Some(request), reservation: None };
    done(at, namespace, METHOD, Kind::CompleteActivityTask(complete)).await
}

async fn fail(
    at: &Here,
    namespace: &Namespace,
    activity: ActivityRef,
    mut request: RespondActivityTaskFailedRequest,
) -> Result<(), CallError> {
    if is_over_long(&at.node, request.last_heartbeat_details.as_ref()) {
        request.last_heartbeat_details = None;
    }
    let fail = FailActivityTask { activity: Some(activity), request: Some(request), reservation: None };
    done(at, namespace, "RespondActivityTaskFailed", Kind::FailActivityTask(fail)).await
}

async fn cancel(
    at: &Here,
    namespace: &Namespace,
    activity: ActivityRef,
    request: RespondActivityTaskCanceledRequest,
) -> Result<(), CallError> {
    const METHOD: &str = "RespondActivityTaskCanceled";
    if is_over_long(&at.node, request.details.as_ref()) {
        let message = "Cancel details exceed size limit.";
        return end_over_long(at, namespace, METHOD, activity, request.identity, message).await;
    }
    let cancel = CancelActivityTask { activity: Some(activity), request: Some(request), reservation: None };
    done(at, namespace, METHOD, Kind::CancelActivityTask(cancel)).await
}

/// What a heartbeat tells its worker.
struct Beat {
    cancel_requested: bool,
    paused: bool,
    reset: bool,
}

async fn heartbeat(
    at: &Here,
    namespace: &Namespace,
    activity: ActivityRef,
    request: RecordActivityTaskHeartbeatRequest,
) -> Result<Beat, CallError> {
    const METHOD: &str = "RecordActivityTaskHeartbeat";
    if is_over_long(&at.node, request.details.as_ref()) {
        let message = "Heartbeat details exceed size limit.";
        end_over_long(at, namespace, METHOD, activity, request.identity, message).await?;
        return Ok(Beat { cancel_requested: true, paused: false, reset: false });
    }
    let beat = HeartbeatActivityTask { activity: Some(activity), request: Some(request) };
    match at.term.propose(command(namespace, Kind::HeartbeatActivityTask(beat))).await? {
        Reply::Heartbeat { cancel_requested, paused, reset } => Ok(Beat { cancel_requested, paused, reset }),
        reply => Err(unexpected(METHOD, reply)),
    }
}

// ------------------------------------------------------------------------------------------------------------ by token

async fn check_token(node: &Arc<Node>, namespace: &str, token: &[u8], identity: &str) -> Result<(), CallError> {
    namespace_of::<ActivityTaskToken>(node, namespace, token).await?;
    Ok(validate::identity(identity, &node.limits)?)
}

fn group_of_token(node: &Node, token: &[u8]) -> Result<GroupId, CallError> {
    let token = ActivityTaskToken::read(token)?;
    Ok(group_of_run(node, &token.namespace_id, &token.workflow_id))
}

async fn activity_of_token(at: &Here, namespace: &str, token: &[u8]) -> Result<(Namespace, ActivityRef), CallError> {
    let (namespace, token) = namespace_of::<ActivityTaskToken>(&at.node, namespace, token).await?;
    Ok((namespace, activity_of(&token)))
}

macro_rules! by_token {
    ($request:ty, $response:ty, $method:literal, $act:ident, |$outcome:ident| $answer:expr) => {
        impl GroupCall for $request {
            const METHOD: &'static str = $method;
            type Answer = $response;

            async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
                check_token(node, &self.namespace, &self.task_token, &self.identity).await
            }

            async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
                group_of_token(node, &self.task_token)
            }

            async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
                let (namespace, activity) = activity_of_token(&at, &self.namespace, &self.task_token).await?;
                let $outcome = $act(&at, &namespace, activity, self).await?;
                Ok($answer)
            }
        }
    };
}

by_token!(
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskCompletedResponse,
    "RespondActivityTaskCompleted",
    complete,
    |_done| RespondActivityTaskCompletedResponse {}
);
by_token!(
    RespondActivityTaskFailedRequest,
    RespondActivityTaskFailedResponse,
    "RespondActivityTaskFailed",
    fail,
    |_done| RespondActivityTaskFailedResponse::default()
);
by_token!(
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCanceledResponse,
    "RespondActivityTaskCanceled",
    cancel,
    |_done| RespondActivityTaskCanceledResponse {}
);
by_token!(
    RecordActivityTaskHeartbeatRequest,
    RecordActivityTaskHeartbeatResponse,
    "RecordActivityTaskHeartbeat",
    heartbeat,
    |beat| RecordActivityTaskHeartbeatResponse {
        cancel_requested: beat.cancel_requested,
        activity_paused: beat.paused,
        activity_reset: beat.reset,
    }
);

// --------------------------------------------------------------------------------------------------------------- by id

/// The fields that name an activity without a token.
struct Named<'a> {
    namespace: &'a str,
    workflow_id: &'a str,
    run_id: &'a str,
    activity_id: &'a str,
}

impl<'a> Named<'a> {
    /// The id that says where the activity lives: its workflow's, or its own if it stands alone.
    fn place(&self) -> &'a str {
        if self.workflow_id.is_empty() { self.activity_id } else { self.workflow_id }
    }
}

trait NamesActivity {
    fn named(&self) -> Named<'_>;
}

async fn check_named(node: &Arc<Node>, named: Named<'_>) -> Result<(), CallError> {
    node.meta.namespace(node, named.namespace).await?;
    if named.activity_id.is_empty() {
        return Err(Rejection::invalid("ActivityId is not set on request.").into());
    }
    Ok(validate::run_id(named.run_id, "RunId is not valid UUID.")?)
}

async fn group_of_named(node: &Arc<Node>, named: Named<'_>) -> Result<GroupId, CallError> {
    group(node, named.namespace, named.place()).await
}

fn activity_of_named(named: &Named<'_>) -> ActivityRef {
    ActivityRef {
        run: Some(RunRef { workflow_id: named.place().to_owned(), run_id: named.run_id.to_owned() }),
        standalone: named.workflow_id.is_empty(),
        activity_id: named.activity_id.to_owned(),
        ..Default::default()
    }
}

macro_rules! by_id {
    ($request:ty, $response:ty, $method:literal, $identity_max:expr, $repeatable:expr, $act:ident, |$this:ident| $plain:expr,
     |$outcome:ident| $answer:expr) => {
        impl NamesActivity for $request {
            fn named(&self) -> Named<'_> {
                Named {
                    namespace: &self.namespace,
                    workflow_id: &self.workflow_id,
                    run_id: &self.run_id,
                    activity_id: &self.activity_id,
                }
            }
        }

        impl GroupCall for $request {
            const METHOD: &'static str = $method;
            type Answer = $response;

            /// No token fences it: done twice, it could end another activity that has the id by then.
            fn is_repeatable(&self) -> bool {
                $repeatable
            }

            async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
                check_named(node, self.named()).await?;
                if $identity_max {
                    validate::identity(&self.identity, &node.limits)?;
                }
                Ok(())
            }

            async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
                group_of_named(node, self.named()).await
            }

            async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
                let namespace = at.namespace(&self.namespace).await?;
                let activity = activity_of_named(&self.named());
                let $this = self;
                let $outcome = $act(&at, &namespace, activity, $plain).await?;
                Ok($answer)
            }
        }
    };
}

by_id!(
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskCompletedByIdResponse,
    "RespondActivityTaskCompletedById",
    true,
    false,
    complete,
    |this| RespondActivityTaskCompletedRequest {
        result: this.result,
        identity: this.identity,
        namespace: this.namespace,
        ..Default::default()
    },
    |_done| RespondActivityTaskCompletedByIdResponse {}
);
by_id!(
    RespondActivityTaskFailedByIdRequest,
    RespondActivityTaskFailedByIdResponse,
    "RespondActivityTaskFailedById",
    true,
    false,
    fail,
    |this| RespondActivityTaskFailedRequest {
        failure: this.failure,
        identity: this.identity,
        namespace: this.namespace,
        last_heartbeat_details: this.last_heartbeat_details,
        ..Default::default()
    },
    |_done| RespondActivityTaskFailedByIdResponse::default()
);
by_id!(
    RespondActivityTaskCanceledByIdRequest,
    RespondActivityTaskCanceledByIdResponse,
    "RespondActivityTaskCanceledById",
    true,
    false,
    cancel,
    |this| RespondActivityTaskCanceledRequest {
        details: this.details,
        identity: this.identity,
        namespace: this.namespace,
        ..Default::default()
    },
    |_done| RespondActivityTaskCanceledByIdResponse {}
);
by_id!(
    RecordActivityTaskHeartbeatByIdRequest,
    RecordActivityTaskHeartbeatByIdResponse,
    "RecordActivityTaskHeartbeatById",
    // The real server does not look at it here.
    false,
    true,
    heartbeat,
    |this| RecordActivityTaskHeartbeatRequest {
        details: this.details,
        identity: this.identity,
        namespace: this.namespace,
        ..Default::default()
    },
    |beat| RecordActivityTaskHeartbeatByIdResponse {
        cancel_requested: beat.cancel_requested,
        activity_paused: beat.paused,
        activity_reset: beat.reset,
    }
);
