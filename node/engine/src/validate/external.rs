//! The commands that reach another run: signal and cancel request. Called by `run/external`.

use stanchion_proto::temporal::command::v1::{
    RequestCancelExternalWorkflowExecutionCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::validate::Refusal;
use crate::validate::fields::{self, ID_BYTES_MAX};

#[allow(deprecated)]
pub fn signal<'a>(
    attributes: Option<&'a SignalExternalWorkflowExecutionCommandAttributes>,
    namespace: &str,
    payload_bytes_max: usize,
) -> Result<&'a SignalExternalWorkflowExecutionCommandAttributes, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadSignalWorkflowExecutionAttributes;
    const COMMAND: &str = "SignalExternalWorkflowExecutionCommand";
    let refuse = |reason: String| Refusal::new(CAUSE, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(format!("SignalExternalWorkflowExecutionCommandAttributes is not set on {COMMAND}.")));
    };
    let Some(execution) = &attributes.execution else {
        return Err(refuse(format!("Execution is not set on {COMMAND}.")));
    };
    let (workflow_id, run_id, signal_name) = (&execution.workflow_id, &execution.run_id, &attributes.signal_name);
    same_namespace(CAUSE, &attributes.namespace, namespace)?;
    let named = &attributes.namespace;
    if workflow_id.is_empty() {
        return Err(refuse(format!(
            "WorkflowId is not set on {COMMAND}. Namespace={named} RunId={run_id} SignalName={signal_name}"
        )));
    }
    if workflow_id.len() > ID_BYTES_MAX {
        let length = workflow_id.len();
        return Err(refuse(format!(
            "WorkflowId on {COMMAND} exceeds length limit. WorkflowId={workflow_id} Length={length} Limit={ID_BYTES_MAX} \
             Namespace={named} RunId={run_id} SignalName={signal_name}"
        )));
    }
    let place = format!("WorkflowId={workflow_id} Namespace={named} RunId={run_id}");
    if !is_run_id(run_id) {
        return Err(refuse(format!("Invalid RunId set on {COMMAND}. {place} SignalName={signal_name}")));
    }
    if signal_name.is_empty() {
        return Err(refuse(format!("SignalName is not set on {COMMAND}. {place}")));
    }
    if fields::payloads_bytes(attributes.input.as_ref()) > payload_bytes_max {
        return Err(Refusal::oversized(
            CAUSE,
            "SignalExternalWorkflowExecutionCommandAttributes.Input exceeds size limit.",
        ));
    }
    Ok(attributes)
}

#[allow(deprecated)]
pub fn request_cancel<'a>(
    attributes: Option<&'a RequestCancelExternalWorkflowExecutionCommandAttributes>,
    namespace: &str,
) -> Result<&'a RequestCancelExternalWorkflowExecutionCommandAttributes, Refusal> {
    const CAUSE: WorkflowTaskFailedCause = WorkflowTaskFailedCause::BadRequestCancelExternalWorkflowExecutionAttributes;
    const COMMAND: &str = "RequestCancelExternalWorkflowExecutionCommand";
    let refuse = |reason: String| Refusal::new(CAUSE, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(format!(
            "RequestCancelExternalWorkflowExecutionCommandAttributes is not set on {COMMAND}."
        )));
    };
    let (workflow_id, run_id) = (&attributes.workflow_id, &attributes.run_id);
    same_namespace(CAUSE, &attributes.namespace, namespace)?;
    let named = &attributes.namespace;
    if workflow_id.is_empty() {
        return Err(refuse(format!("WorkflowId is not set on {COMMAND}. Namespace={named} RunId={run_id}")));
    }
    if workflow_id.len() > ID_BYTES_MAX {
        let length = workflow_id.len();
        return Err(refuse(format!(
            "WorkflowId on {COMMAND} exceeds length limit. WorkflowId={workflow_id} Length={length} Limit={ID_BYTES_MAX} \
             RunId={run_id} Namespace={named}"
        )));
    }
    if !is_run_id(run_id) {
        return Err(refuse(format!(
            "Invalid RunId set on {COMMAND}. WorkflowId={workflow_id} RunId={run_id} Namespace={named}"
        )));
    }
    Ok(attributes)
}

/// A command must stay in its namespace.
pub(super) fn same_namespace(cause: WorkflowTaskFailedCause, named: &str, own: &str) -> Result<(), Refusal> {
    if named.is_empty() || named == own {
        return Ok(());
    }
    Err(Refusal::new(cause, "cross namespace commands are not allowed"))
}

fn is_run_id(run_id: &str) -> bool {
    let hex = |c: char| c.is_ascii_hexdigit();
    run_id.is_empty()
        || (run_id.len() == 36
            && run_id.char_indices().all(|(at, c)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { hex(c) }))
}
