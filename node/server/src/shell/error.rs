//! Why a call on a term failed, by who must act. Mapped to gRPC in `status.rs`, and acted on by `routing.rs`.

use stanchion_engine::{Rejection, StateFault};
use stanchion_replica::ProposeError;
use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The engine refused: the caller's to mend.
    #[error("{0}")]
    Rejected(Rejection),
    /// This node does not lead the group; nothing was applied. The router asks another node.
    #[error("not the leader of this group")]
    NotHere { leader: Option<u64> },
    /// Too much is waiting; nothing was applied.
    #[error("the group's queue of commands is full")]
    Overloaded,
    /// It may or may not have been applied. Safe to repeat only with the same request id.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The caller's deadline passed while waiting.
    #[error("deadline exceeded")]
    Deadline,
    /// A disk or an invariant of this node.
    #[error("{0}")]
    Fatal(String),
    /// An answer of the protocol that needs no mapping.
    #[error("{0}")]
    Status(Status),
}

impl From<Rejection> for CallError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<ProposeError> for CallError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotHere { leader },
            ProposeError::Overloaded { .. } => Self::Overloaded,
            ProposeError::Unknown(why) => Self::Unknown(why),
            ProposeError::Fatal(why) => Self::Fatal(why),
        }
    }
}

impl From<StateFault> for CallError {
    fn from(fault: StateFault) -> Self {
        Self::Fatal(fault.to_string())
    }
}
