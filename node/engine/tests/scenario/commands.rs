//! The commands that a scenario's workflow gives, with what they do not care about filled in.

use stanchion_engine::time::{SECOND, duration};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::command::v1::command::Attributes as A;
use stanchion_proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::CommandType;

use super::{failure, payloads};
pub fn command(kind: CommandType, attributes: A) -> cmd::Command {
    cmd::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() }
}

pub fn complete_workflow(result: &str) -> cmd::Command {
    command(
        CommandType::CompleteWorkflowExecution,
        A::CompleteWorkflowExecutionCommandAttributes(cmd::CompleteWorkflowExecutionCommandAttributes {
            result: Some(payloads(result)),
        }),
    )
}

pub fn fail_workflow(message: &str) -> cmd::Command {
    command(
        CommandType::FailWorkflowExecution,
        A::FailWorkflowExecutionCommandAttributes(cmd::FailWorkflowExecutionCommandAttributes {
            failure: Some(failure(message)),
        }),
    )
}

pub fn cancel_workflow() -> cmd::Command {
    command(CommandType::CancelWorkflowExecution, A::CancelWorkflowExecutionCommandAttributes(Default::default()))
}

pub fn continue_as_new(input: &str) -> cmd::Command {
    command(
        CommandType::ContinueAsNewWorkflowExecution,
        A::ContinueAsNewWorkflowExecutionCommandAttributes(cmd::ContinueAsNewWorkflowExecutionCommandAttributes {
            input: Some(payloads(input)),
            ..Default::default()
        }),
    )
}

pub fn marker(name: &str) -> cmd::Command {
    command(
        CommandType::RecordMarker,
        A::RecordMarkerCommandAttributes(cmd::RecordMarkerCommandAttributes {
            marker_name: name.into(),
            ..Default::default()
        }),
    )
}

pub fn start_child(workflow_id: &str) -> cmd::Command {
    start_child_with(workflow_id, |_| {})
}

pub fn start_child_with(
    workflow_id: &str,
    change: impl FnOnce(&mut cmd::StartChildWorkflowExecutionCommandAttributes),
) -> cmd::Command {
    let mut attributes = cmd::StartChildWorkflowExecutionCommandAttributes {
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "Child".into() }),
        ..Default::default()
    };
    change(&mut attributes);
    command(CommandType::StartChildWorkflowExecution, A::StartChildWorkflowExecutionCommandAttributes(attributes))
}

pub fn signal_external(workflow_id: &str, name: &str) -> cmd::Command {
    command(
        CommandType::SignalExternalWorkflowExecution,
        A::SignalExternalWorkflowExecutionCommandAttributes(cmd::SignalExternalWorkflowExecutionCommandAttributes {
            execution: Some(WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }),
            signal_name: name.into(),
            ..Default::default()
        }),
    )
}

pub fn cancel_external(workflow_id: &str) -> cmd::Command {
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(
            cmd::RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: workflow_id.into(),
                reason: "enough".into(),
                ..Default::default()
            },
        ),
    )
}

pub fn cancel_child(workflow_id: &str) -> cmd::Command {
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(
            cmd::RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: workflow_id.into(),
                child_workflow_only: true,
                ..Default::default()
            },
        ),
    )
}

pub fn start_timer(id: &str, seconds: i64) -> cmd::Command {
    command(
        CommandType::StartTimer,
        A::StartTimerCommandAttributes(cmd::StartTimerCommandAttributes {
            timer_id: id.into(),
            start_to_fire_timeout: Some(duration(seconds * SECOND)),
        }),
    )
}
