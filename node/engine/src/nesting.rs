//! Bounds how deep a command nests, before it is proposed.
//!
//! Protobuf decoders stop at a depth of 100, and a failure carries its cause, which carries its own. A chain that just fits its request no
//! longer fits once the request is part of a log entry, an event, a message to another run: what was committed could not be read
//! again. So chains are cut far below that bound, and what was cut is said in the failure that it was cut from.
//!
//! Called by the leader shell for each command that it proposes. The proposer checks what comes out.

use stanchion_proto::command::Command;
use stanchion_proto::command::command::Kind;
use stanchion_proto::temporal::command::v1::command::Attributes;
use stanchion_proto::temporal::failure::v1::Failure;

/// Failures in a chain of causes. Leaves half of the decoders' depth to whatever the chain is put into.
pub const FAILURE_CHAIN_MAX: usize = 50;

/// Cuts every chain of failures in the command to [`FAILURE_CHAIN_MAX`].
pub fn bound(command: &mut Command) {
    match &mut command.kind {
        Some(Kind::StartWorkflow(start)) => {
            cut_if_some(start.request.as_mut().and_then(|request| request.continued_failure.as_mut()));
        }
        Some(Kind::FailActivityTask(fail)) => {
            cut_if_some(fail.request.as_mut().and_then(|request| request.failure.as_mut()));
        }
        Some(Kind::FailWorkflowTask(fail)) => {
            cut_if_some(fail.request.as_mut().and_then(|request| request.failure.as_mut()));
        }
        Some(Kind::CompleteWorkflowTask(complete)) => {
            let commands = complete.request.as_mut().map(|request| request.commands.as_mut_slice()).unwrap_or_default();
            for command in commands {
                cut_if_some(match &mut command.attributes {
                    Some(Attributes::FailWorkflowExecutionCommandAttributes(a)) => a.failure.as_mut(),
                    Some(Attributes::RecordMarkerCommandAttributes(a)) => a.failure.as_mut(),
                    Some(Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(a)) => a.failure.as_mut(),
                    _ => None,
                });
            }
        }
        _ => {}
    }
}

fn cut_if_some(failure: Option<&mut Failure>) {
    if let Some(failure) = failure {
        cut(failure);
    }
}

/// Cuts one chain.
pub fn cut(failure: &mut Failure) {
    let mut last = failure;
    for _ in 1..FAILURE_CHAIN_MAX {
        let Some(cause) = last.cause.as_deref_mut() else { return };
        last = cause;
    }
    if last.cause.take().is_some() {
        last.message
            .push_str(&format!(" (its causes are not kept: a chain of failures may be {FAILURE_CHAIN_MAX} deep)"));
    }
}

#[cfg(test)]
mod tests;
