//! The commands that close a run: complete, fail, cancel, continue as new. Called by `completion`.

use prost::Message;
use stanchion_proto::temporal::command::v1::{
    CancelWorkflowExecutionCommandAttributes, CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes, FailWorkflowExecutionCommandAttributes,
};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::validate::fields::{self, ID_BYTES_MAX};
use crate::validate::search_attributes::check_sizes;
use crate::validate::{Refusal, retry_policy};

pub fn complete(
    attributes: Option<&CompleteWorkflowExecutionCommandAttributes>,
    payload_bytes_max: usize,
) -> Result<&CompleteWorkflowExecutionCommandAttributes, Refusal> {
    let Some(attributes) = attributes else {
        return Err(Refusal::new(
            WorkflowTaskFailedCause::BadCompleteWorkflowExecutionAttributes,
            "CompleteWorkflowExecutionCommandAttributes is not set on CompleteWorkflowExecutionCommand.",
        ));
    };
    if fields::payloads_bytes(attributes.result.as_ref()) > payload_bytes_max {
        // The activity's cause is what the real server records here.
        return Err(Refusal::oversized(
            WorkflowTaskFailedCause::BadScheduleActivityAttributes,
            "CompleteWorkflowExecutionCommandAttributes.Result exceeds size limit.",
        ));
    }
    Ok(attributes)
}

pub fn fail(
    attributes: Option<&FailWorkflowExecutionCommandAttributes>,
    payload_bytes_max: usize,
) -> Result<&FailWorkflowExecutionCommandAttributes, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadFailWorkflowExecutionAttributes;
    let Some(attributes) = attributes else {
        return Err(Refusal::new(
            CAUSE,
            "FailWorkflowExecutionCommandAttributes is not set on FailWorkflowExecutionCommand.",
        ));
    };
    let Some(failure) = attributes.failure.as_ref() else {
        return Err(Refusal::new(CAUSE, "Failure is not set on FailWorkflowExecutionCommand."));
    };
    if failure.encoded_len() > payload_bytes_max {
        return Err(Refusal::oversized(CAUSE, "FailWorkflowExecutionCommandAttributes.Failure exceeds size limit."));
    }
    Ok(attributes)
}

pub fn cancel(
    attributes: Option<&CancelWorkflowExecutionCommandAttributes>,
    payload_bytes_max: usize,
) -> Result<&CancelWorkflowExecutionCommandAttributes, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadCancelWorkflowExecutionAttributes;
    let Some(attributes) = attributes else {
        return Err(Refusal::new(
            CAUSE,
            "CancelWorkflowExecutionCommandAttributes is not set on CancelWorkflowExecutionCommand.",
        ));
    };
    if fields::payloads_bytes(attributes.details.as_ref()) > payload_bytes_max {
        return Err(Refusal::oversized(CAUSE, "CancelWorkflowExecutionCommandAttributes.Details exceeds size limit."));
    }
    Ok(attributes)
}

/// A continue-as-new that passed: the attributes, and what it inherits from the run where they leave it open.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ContinueAsNewPlan<'a> {
    pub attributes: &'a ContinueAsNewWorkflowExecutionCommandAttributes,
    pub workflow_type: &'a str,
    pub task_queue: &'a str,
}

pub fn continue_as_new<'a>(
    attributes: Option<&'a ContinueAsNewWorkflowExecutionCommandAttributes>,
    run_workflow_type: &'a str,
    run_task_queue: &'a str,
    payload_bytes_max: usize,
    memo_bytes_max: usize,
) -> Result<ContinueAsNewPlan<'a>, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadContinueAsNewAttributes;
    const COMMAND: &str = "ContinueAsNewWorkflowExecutionCommand";
    let refuse = |reason: String| Refusal::new(CAUSE, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(format!("ContinueAsNewWorkflowExecutionCommandAttributes is not set on {COMMAND}.")));
    };
    let workflow_type = match attributes.workflow_type.as_ref().map_or("", |t| t.name.as_str()) {
        "" => run_workflow_type,
        own => own,
    };
    if workflow_type.len() > ID_BYTES_MAX {
        let length = workflow_type.len();
        return Err(refuse(format!(
            "WorkflowType on {COMMAND} exceeds length limit. WorkflowType={workflow_type} Length={length} Limit={ID_BYTES_MAX}"
        )));
    }
    let named = attributes.task_queue.as_ref().map_or("", |q| q.name.as_str());
    let shown = if named.is_empty() { run_task_queue } else { named };
    let place = format!("WorkflowType={workflow_type} TaskQueue=name:\"{shown}\"  kind:TASK_QUEUE_KIND_NORMAL");
    let task_queue = fields::task_queue(attributes.task_queue.as_ref(), run_task_queue)
        .map_err(|why| refuse(format!("error validating {COMMAND} TaskQueue: {why}. {place}")))?;
    for (name, value) in [
        ("WorkflowRunTimeout", &attributes.workflow_run_timeout),
        ("WorkflowTaskTimeout", &attributes.workflow_task_timeout),
        ("BackoffStartInterval", &attributes.backoff_start_interval),
    ] {
        fields::duration(value.as_ref())
            .map_err(|why| refuse(format!("Invalid {name} on {COMMAND}: {why}. {place}")))?;
    }
    retry_policy::check(attributes.retry_policy.as_ref())
        .map_err(|why| refuse(format!("invalid WorkflowRetryPolicy on {COMMAND}: {why}. {place}")))?;
    if fields::payloads_bytes(attributes.input.as_ref()) > payload_bytes_max {
        return Err(Refusal::oversized(
            CAUSE,
            "ContinueAsNewWorkflowExecutionCommandAttributes. Input exceeds size limit.",
        ));
    }
    if attributes.memo.as_ref().map_or(0, Message::encoded_len) > memo_bytes_max {
        return Err(Refusal::oversized(
            CAUSE,
            "ContinueAsNewWorkflowExecutionCommandAttributes. Memo exceeds size limit.",
        ));
    }
    check_sizes(attributes.search_attributes.as_ref()).map_err(|why| Refusal::oversized(CAUSE, why))?;
    Ok(ContinueAsNewPlan { attributes, workflow_type, task_queue })
}
