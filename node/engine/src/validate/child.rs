//! The command that starts a child. Called by `run/children`.

use prost::Message;
use stanchion_proto::temporal::command::v1::StartChildWorkflowExecutionCommandAttributes;
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::cron::Cron;
use crate::types::ShardTime;
use crate::validate::external::same_namespace;
use crate::validate::fields::{self, ID_BYTES_MAX};
use crate::validate::search_attributes::check_sizes;
use crate::validate::{Refusal, retry_policy};

/// What a command is held against.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The run's own namespace and normal queue.
    pub namespace: &'a str,
    pub task_queue: &'a str,
    pub now: ShardTime,
    pub payload_bytes_max: usize,
    pub memo_bytes_max: usize,
}

/// A start that passed: the attributes, and the queue that the child gets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChildPlan<'a> {
    pub attributes: &'a StartChildWorkflowExecutionCommandAttributes,
    pub workflow_type: &'a str,
    pub task_queue: &'a str,
}

#[allow(deprecated)]
pub fn start<'a>(
    attributes: Option<&'a StartChildWorkflowExecutionCommandAttributes>,
    bounds: Bounds<'a>,
) -> Result<ChildPlan<'a>, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadStartChildExecutionAttributes;
    const COMMAND: &str = "StartChildWorkflowExecutionCommand";
    let refuse = |reason: String| Refusal::new(CAUSE, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(format!("StartChildWorkflowExecutionCommandAttributes is not set on {COMMAND}.")));
    };
    let namespace = bounds.namespace;
    same_namespace(CAUSE, &attributes.namespace, namespace)?;
    let workflow_id = &attributes.workflow_id;
    let workflow_type = attributes.workflow_type.as_ref().map_or("", |kind| kind.name.as_str());
    if workflow_id.is_empty() {
        return Err(refuse(format!(
            "Required field WorkflowId is not set on {COMMAND}. WorkflowType={workflow_type} Namespace={namespace}"
        )));
    }
    if workflow_type.is_empty() {
        return Err(refuse(format!(
            "Required field WorkflowType is not set on {COMMAND}. WorkflowId={workflow_id} Namespace={namespace}"
        )));
    }
    if workflow_id.len() > ID_BYTES_MAX {
        let length = workflow_id.len();
        return Err(refuse(format!(
            "WorkflowId on {COMMAND} exceeds length limit. WorkflowId={workflow_id} Length={length} Limit={ID_BYTES_MAX} \
             WorkflowType={workflow_type} Namespace={namespace}"
        )));
    }
    if workflow_type.len() > ID_BYTES_MAX {
        let length = workflow_type.len();
        return Err(refuse(format!(
            "WorkflowType on {COMMAND} exceeds length limit. WorkflowId={workflow_id} WorkflowType={workflow_type} \
             Length={length} Limit={ID_BYTES_MAX} Namespace={namespace}"
        )));
    }
    let place = format!("WorkflowId={workflow_id} WorkflowType={workflow_type} Namespace={namespace}");
    for (name, value) in [
        ("WorkflowExecutionTimeout", &attributes.workflow_execution_timeout),
        ("WorkflowRunTimeout", &attributes.workflow_run_timeout),
        ("WorkflowTaskTimeout", &attributes.workflow_task_timeout),
    ] {
        fields::duration(value.as_ref())
            .map_err(|why| refuse(format!("Invalid {name} on {COMMAND}: {why}. {place}")))?;
    }
    retry_policy::check(attributes.retry_policy.as_ref())
        .map_err(|why| refuse(format!("invalid WorkflowRetryPolicy on {COMMAND}: {why}. {place}")))?;
    if !attributes.cron_schedule.is_empty() {
        Cron::check(&attributes.cron_schedule, bounds.now)
            .map_err(|why| refuse(format!("invalid CronSchedule on {COMMAND}: {why}. {place}")))?;
    }
    let named = attributes.task_queue.as_ref().map_or("", |queue| queue.name.as_str());
    let task_queue = fields::task_queue(attributes.task_queue.as_ref(), bounds.task_queue).map_err(|why| {
        refuse(format!(
            "invalid TaskQueue on {COMMAND}: {why}. {place} TaskQueue=name:\"{named}\"  kind:TASK_QUEUE_KIND_NORMAL"
        ))
    })?;
    if attributes.priority.as_ref().is_some_and(|priority| priority.priority_key < 0) {
        return Err(refuse("priority key can't be negative".to_owned()));
    }
    if attributes.versioning_override.is_some() {
        return Err(refuse(format!("a versioning override on {COMMAND} is not supported by this release.")));
    }
    if fields::payloads_bytes(attributes.input.as_ref()) > bounds.payload_bytes_max {
        return Err(Refusal::oversized(
            CAUSE,
            "StartChildWorkflowExecutionCommandAttributes. Input exceeds size limit.",
        ));
    }
    if attributes.memo.as_ref().map_or(0, Message::encoded_len) > bounds.memo_bytes_max {
        return Err(Refusal::oversized(CAUSE, "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit."));
    }
    check_sizes(attributes.search_attributes.as_ref()).map_err(|why| Refusal::oversized(CAUSE, why))?;
    Ok(ChildPlan { attributes, workflow_type, task_queue })
}
