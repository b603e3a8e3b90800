//! The one place where failures become gRPC statuses, with Temporal's detail messages, and where they cross between nodes.
//!
//! Never: an error of the protocol made elsewhere with details; a detail message without its type. Called by every handler (what a
//! client sees) and by `peer` and `routing` (what a node tells another).

use bytes::Bytes;
use prost::{Message, Name};
use stanchion_engine::Rejection;
use stanchion_engine::reply::{Code as RejectionCode, Detail, OperationOutcome};
use stanchion_proto::node::{CallReply, NotHere, call_reply::Outcome};
use stanchion_proto::temporal::enums::v1::{NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope};
use stanchion_proto::temporal::errordetails::v1::multi_operation_execution_failure::OperationStatus;
use stanchion_proto::temporal::errordetails::v1::{
    ActivityExecutionAlreadyStartedFailure, MultiOperationExecutionFailure, NamespaceAlreadyExistsFailure,
    NamespaceInvalidStateFailure, NamespaceNotFoundFailure, NotFoundFailure, PermissionDeniedFailure,
    QueryFailedFailure, ResourceExhaustedFailure, WorkflowExecutionAlreadyStartedFailure, WorkflowNotReadyFailure,
};
use stanchion_proto::temporal::failure::v1::{Failure, MultiOperationExecutionAborted};
use tonic::{Code, Status};

use crate::shell::CallError;

/// `google.rpc.Status`: the form of an error with details, on the wire of gRPC and of ours.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// Between nodes only: the outcome of the call is not known.
const UNKNOWN_OUTCOME: &str = "type.googleapis.com/stanchion.node.v1.UnknownOutcome";

/// Of an error's message, in bytes.
const MESSAGE_BYTES_MAX: usize = 3072;

/// What a client is told.
pub fn of(error: CallError) -> Status {
    match error {
        CallError::Rejected(rejection) => of_rejection(rejection),
        CallError::NotHere { .. } => {
            Status::unavailable("no node is known to lead this run's group at the moment; nothing was done, try again")
        }
        CallError::Overloaded => of_rejection(overloaded()),
        CallError::Unknown(why) => Status::unavailable(format!(
            "the outcome is not known: it may or may not have been done ({why}); try again with the same request id"
        )),
        CallError::Deadline => Status::deadline_exceeded("Deadline Exceeded"),
        CallError::Fatal(why) => {
            tracing::error!(%why, "a call failed inside");
            Status::internal(format!("internal error: {why}"))
        }
        CallError::Status(status) => status,
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        of(error)
    }
}

/// The rules refuse the call.
pub fn of_rejection(rejection: Rejection) -> Status {
    let Rejection { code, message, detail } = rejection;
    let (code, message) = (code_of(code), shortened(message));
    match any_of(detail) {
        None => Status::new(code, message),
        Some(any) => with_details(code, message, vec![any]),
    }
}

/// A message travels in a header, and with details in two of them: clients refuse headers of more than 16 KiB and then see no error of ours
/// at all, but a broken stream, which they try again. What a caller named may be longer than that.
fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let bytes = message.len();
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push_str(&format!("… ({bytes} bytes)"));
    }
    message
}

fn code_of(code: RejectionCode) -> Code {
    match code {
        RejectionCode::InvalidArgument => Code::InvalidArgument,
        RejectionCode::NotFound => Code::NotFound,
        RejectionCode::AlreadyExists => Code::AlreadyExists,
        RejectionCode::FailedPrecondition => Code::FailedPrecondition,
        RejectionCode::ResourceExhausted => Code::ResourceExhausted,
        RejectionCode::PermissionDenied => Code::PermissionDenied,
        RejectionCode::Unimplemented => Code::Unimplemented,
        RejectionCode::Unavailable => Code::Unavailable,
        RejectionCode::Aborted => Code::Aborted,
        RejectionCode::Internal => Code::Internal,
    }
}

fn any_of(detail: Detail) -> Option<prost_types::Any> {
    Some(match detail {
        Detail::None => return None,
        Detail::NotFound { current_cluster, active_cluster } => {
            any(&NotFoundFailure { current_cluster, active_cluster })
        }
        Detail::WorkflowExecutionAlreadyStarted { start_request_id, run_id, first_execution_run_id } => {
            any(&WorkflowExecutionAlreadyStartedFailure { start_request_id, run_id, first_execution_run_id })
        }
        Detail::NamespaceNotFound { namespace } => any(&NamespaceNotFoundFailure { namespace }),
        Detail::NamespaceInvalidState { namespace, state, allowed_states } => {
            any(&NamespaceInvalidStateFailure { namespace, state, allowed_states })
        }
        Detail::NamespaceAlreadyExists => any(&NamespaceAlreadyExistsFailure {}),
        Detail::ActivityExecutionAlreadyStarted { start_request_id, run_id } => {
            any(&ActivityExecutionAlreadyStartedFailure { start_request_id, run_id })
        }
        Detail::QueryFailed => any(&QueryFailedFailure { failure: None }),
        Detail::WorkflowNotReady => any(&WorkflowNotReadyFailure {}),
        Detail::ResourceExhausted { cause, scope } => any(&ResourceExhaustedFailure { cause, scope }),
        Detail::PermissionDenied => any(&PermissionDeniedFailure::default()),
        Detail::MultiOperation(operations) => {
            any(&MultiOperationExecutionFailure { statuses: operations.into_iter().map(operation_status).collect() })
        }
    })
}

fn operation_status(outcome: OperationOutcome) -> OperationStatus {
    match outcome {
        OperationOutcome::Done => OperationStatus::default(),
        OperationOutcome::Aborted => OperationStatus {
            code: Code::Aborted as i32,
            message: "Operation was aborted.".to_owned(),
            details: vec![any(&MultiOperationExecutionAborted {})],
        },
        OperationOutcome::Refused(Rejection { code, message, detail }) => {
            OperationStatus { code: code_of(code) as i32, message, details: any_of(detail).into_iter().collect() }
        }
    }
}

fn any<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{}", M::full_name()), value: message.encode_to_vec() }
}

fn with_details(code: Code, message: String, details: Vec<prost_types::Any>) -> Status {
    let encoded = RpcStatus { code: code as i32, message: message.clone(), details }.encode_to_vec();
    Status::with_details(code, message, encoded.into())
}

fn overloaded() -> Rejection {
    let message = "too many commands wait for this run's group (limit proposer_queue_bytes_max); try again shortly";
    Rejection::new(RejectionCode::ResourceExhausted, message).with(Detail::ResourceExhausted {
        cause: ResourceExhaustedCause::SystemOverloaded.into(),
        scope: ResourceExhaustedScope::System.into(),
    })
}

/// A worker failed the query.
pub fn query_failed(message: String, failure: Option<Failure>) -> Status {
    with_details(Code::InvalidArgument, message, vec![any(&QueryFailedFailure { failure })])
}

/// The namespace is there, but in a state in which nothing new may begin.
pub fn namespace_in_state(name: &str, state: NamespaceState) -> Rejection {
    let message = format!("Namespace has invalid state: {state:?}. Must be Registered.");
    Rejection::new(RejectionCode::FailedPrecondition, message).with(Detail::NamespaceInvalidState {
        namespace: name.to_owned(),
        state: state.into(),
        allowed_states: vec![NamespaceState::Registered.into()],
    })
}

/// A namespace that does not exist, in the real server's words.
pub fn namespace_not_found(name: &str) -> Rejection {
    Rejection::new(RejectionCode::NotFound, format!("Namespace {name} is not found."))
        .with(Detail::NamespaceNotFound { namespace: name.to_owned() })
}

/// The answer to an RPC that this release does not serve.
pub fn unserved(method: &str) -> Status {
    Status::unimplemented(format!("{method} is not served by this release of Stanchion"))
}

/// A call's outcome as one node tells another.
pub fn to_reply(outcome: Result<Bytes, CallError>) -> CallReply {
    let outcome = match outcome {
        Ok(body) => Outcome::Body(body),
        Err(CallError::NotHere { leader }) => Outcome::NotHere(NotHere { try_node: leader.unwrap_or(0) }),
        Err(CallError::Unknown(why)) => {
            let marker = prost_types::Any { type_url: UNKNOWN_OUTCOME.to_owned(), value: Vec::new() };
            let status = RpcStatus { code: Code::Unavailable as i32, message: why, details: vec![marker] };
            Outcome::Status(status.encode_to_vec().into())
        }
        Err(error) => {
            let status = of(error);
            let encoded = if status.details().is_empty() {
                let code = status.code() as i32;
                RpcStatus { code, message: status.message().to_owned(), details: Vec::new() }.encode_to_vec().into()
            } else {
                Bytes::copy_from_slice(status.details())
            };
            Outcome::Status(encoded)
        }
    };
    CallReply { outcome: Some(outcome) }
}

/// The inverse of [`to_reply`].
pub fn from_reply(reply: CallReply) -> Result<Bytes, CallError> {
    match reply.outcome {
        Some(Outcome::Body(body)) => Ok(body),
        Some(Outcome::NotHere(not_here)) => {
            Err(CallError::NotHere { leader: (not_here.try_node != 0).then_some(not_here.try_node) })
        }
        Some(Outcome::Status(encoded)) => {
            let status = RpcStatus::decode(encoded.clone())
                .map_err(|error| CallError::Unknown(format!("a node's answer does not decode: {error}")))?;
            if status.details.iter().any(|detail| detail.type_url == UNKNOWN_OUTCOME) {
                return Err(CallError::Unknown(status.message));
            }
            let code = Code::from(status.code);
            Err(CallError::Status(if status.details.is_empty() {
                Status::new(code, status.message)
            } else {
                Status::with_details(code, status.message, encoded)
            }))
        }
        None => Err(CallError::Unknown("a node answered with an outcome that this release does not know".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_no_header_would_carry_is_cut() {
        let status = of_rejection(Rejection::invalid(format!("no such queue: {}", "ü".repeat(10_000))));
        assert!(status.message().len() < 4096, "{} bytes", status.message().len());
        assert!(status.message().starts_with("no such queue: üü"));
        assert!(status.message().ends_with("… (20015 bytes)"));
        assert_eq!(of_rejection(Rejection::invalid("short")).message(), "short");
    }

    #[test]
    fn a_rejection_crosses_between_nodes_unchanged() {
        let here = of_rejection(namespace_not_found("nowhere"));
        let there = from_reply(to_reply(Err(CallError::Rejected(namespace_not_found("nowhere"))))).unwrap_err();
        let CallError::Status(there) = there else { panic!("{there}") };
        assert_eq!((here.code(), here.message(), here.details()), (there.code(), there.message(), there.details()));
        let details = RpcStatus::decode(here.details()).unwrap().details;
        assert_eq!(details[0].type_url, "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure");
    }

    #[test]
    fn unknown_and_not_applied_stay_apart_between_nodes() {
        let unknown = from_reply(to_reply(Err(CallError::Unknown("lost".into())))).unwrap_err();
        assert!(matches!(unknown, CallError::Unknown(why) if why == "lost"));
        let elsewhere = from_reply(to_reply(Err(CallError::NotHere { leader: Some(3) }))).unwrap_err();
        assert!(matches!(elsewhere, CallError::NotHere { leader: Some(3) }));
    }
}
