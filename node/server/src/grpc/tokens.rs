//! Task tokens: what they say, and where they lead. To clients they are opaque.
//!
//! Called by the handlers of everything that a worker answers.

use prost::Message;
use stanchion_engine::Rejection;
use stanchion_proto::command::{ActivityRef, ActivityTaskToken, RunRef, WorkflowTaskToken};

use crate::meta::Namespace;

/// A token that leads to a run.
pub trait Token: Message + Default {
    fn namespace_id(&self) -> &str;
    fn workflow_id(&self) -> &str;
    /// The token of the other kind, read as one of this: it names the run, and no task.
    fn of_other_kind(bytes: &[u8]) -> Option<Self>;

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.is_empty() {
            return Err(Rejection::invalid("Task token not set on request."));
        }
        let malformed = || Rejection::invalid("Error deserializing task token.");
        let token = Self::decode(bytes).ok().or_else(|| Self::of_other_kind(bytes)).ok_or_else(malformed)?;
        if token.namespace_id().is_empty() || token.workflow_id().is_empty() { Err(malformed()) } else { Ok(token) }
    }

    /// As [`Token::read`], for a call that names a namespace.
    fn read_for(bytes: &[u8], namespace: Option<&Namespace>) -> Result<Self, Rejection> {
        let token = Self::read(bytes)?;
        if namespace.is_some_and(|namespace| namespace.id != token.namespace_id()) {
            return Err(Rejection::invalid("Operation requested with a token from a different namespace."));
        }
        Ok(token)
    }
}

impl Token for WorkflowTaskToken {
    fn namespace_id(&self) -> &str {
        &self.namespace_id
    }

    fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    fn of_other_kind(bytes: &[u8]) -> Option<Self> {
        let other = ActivityTaskToken::decode(bytes).ok()?;
        Some(Self {
            namespace_id: other.namespace_id,
            workflow_id: other.workflow_id,
            run_id: other.run_id,
            ..Default::default()
        })
    }
}

impl Token for ActivityTaskToken {
    fn namespace_id(&self) -> &str {
        &self.namespace_id
    }

    fn workflow_id(&self) -> &str {
        &self.workflow_id
    }

    fn of_other_kind(bytes: &[u8]) -> Option<Self> {
        let other = WorkflowTaskToken::decode(bytes).ok()?;
        Some(Self {
            namespace_id: other.namespace_id,
            workflow_id: other.workflow_id,
            run_id: other.run_id,
            scheduled_event_id: other.scheduled_event_id,
            ..Default::default()
        })
    }
}

/// The activity that a token names, for a command.
pub fn activity_of(token: &ActivityTaskToken) -> ActivityRef {
    ActivityRef {
        run: Some(RunRef { workflow_id: token.workflow_id.clone(), run_id: token.run_id.clone() }),
        scheduled_event_id: token.scheduled_event_id,
        attempt: token.attempt,
        stamp: token.stamp,
        activity_id: String::new(),
        standalone: token.scheduled_event_id == stanchion_engine::activity::STANDALONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_the_other_kind_names_the_run_but_no_task() {
        let token = WorkflowTaskToken {
            namespace_id: "n".into(),
            workflow_id: "w".into(),
            run_id: "r".into(),
            scheduled_event_id: 2,
            started_event_id: 3,
            attempt: 1,
            stamp: 9,
            ..Default::default()
        };
        let read = ActivityTaskToken::read(&token.encode_to_vec()).unwrap();
        assert_eq!((read.workflow_id.as_str(), read.scheduled_event_id, read.attempt), ("w", 2, 0));
        assert_eq!(ActivityTaskToken::read(b"rubbish").unwrap_err().message, "Error deserializing task token.");
        assert_eq!(WorkflowTaskToken::read(b"").unwrap_err().message, "Task token not set on request.");
    }
}
