//! ResetWorkflowExecution and UpdateWorkflowExecutionOptions: changes of a run's course from outside.

use std::sync::Arc;

use stanchion_engine::reply::Reply;
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{ResetWorkflow, UpdateWorkflowOptions};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::workflowservice::v1::{
    ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse, UpdateWorkflowExecutionOptionsRequest,
    UpdateWorkflowExecutionOptionsResponse,
};

use super::workflow::{command, unexpected};
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::CallError;
use crate::validate;

/// What an update mask may name.
const FIELDS: [&str; 7] = [
    "priority",
    "priority.priority_key",
    "priority.fairness_key",
    "priority.fairness_weight",
    "versioning_override",
    "versioning_override.behavior",
    "time_skipping_config",
];

async fn group(node: &Arc<Node>, namespace: &str, named: Option<&WorkflowExecution>) -> Result<GroupId, CallError> {
    let namespace = node.meta.namespace(node, namespace).await?;
    Ok(group_of_run(node, &namespace.id, named.map_or("", |named| named.workflow_id.as_str())))
}

impl GroupCall for ResetWorkflowExecutionRequest {
    const METHOD: &'static str = "ResetWorkflowExecution";
    type Answer = ResetWorkflowExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        // The request id makes repeating safe; the real server requires it before it looks at anything else.
        if self.request_id.is_empty() {
            return Err(Rejection::invalid("RequestId is not set on request.").into());
        }
        validate::short(&self.request_id, &node.limits, "RequestId length exceeds limit.")?;
        Ok(validate::execution(self.workflow_execution.as_ref())?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, self.workflow_execution.as_ref()).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let reset = ResetWorkflow { request: Some(self) };
        match at.term.propose(command(&namespace, Kind::ResetWorkflow(reset))).await? {
            Reply::Reset { run_id } => Ok(ResetWorkflowExecutionResponse { run_id }),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

impl GroupCall for UpdateWorkflowExecutionOptionsRequest {
    const METHOD: &'static str = "UpdateWorkflowExecutionOptions";
    type Answer = UpdateWorkflowExecutionOptionsResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        let named = self.workflow_execution.clone().unwrap_or_default();
        if named.workflow_id.is_empty() {
            return Err(Rejection::invalid("WorkflowId is not set on request.").into());
        }
        validate::run_id(&named.run_id, "RunId is not valid UUID.")?;
        let Some(mask) = &self.update_mask else {
            return Err(Rejection::invalid("UpdateMask is required").into());
        };
        let Some(options) = &self.workflow_execution_options else {
            return Err(Rejection::invalid("WorkflowExecutionOptions is required").into());
        };
        if let Some(unknown) = mask.paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
            // With the space that the real server's library writes.
            return Err(Rejection::invalid(format!(
                "error parsing UpdateMask: proto:\u{a0}invalid path \"{unknown}\" for message \
                 \"temporal.api.workflow.v1.WorkflowExecutionOptions\""
            ))
            .into());
        }
        Ok(validate::priority(options.priority.as_ref())?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, self.workflow_execution.as_ref()).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let update = UpdateWorkflowOptions { request: Some(self) };
        match at.term.propose(command(&namespace, Kind::UpdateWorkflowOptions(update))).await? {
            Reply::OptionsUpdated { options } => Ok(UpdateWorkflowExecutionOptionsResponse {
                workflow_execution_options: Some(options),
                ..Default::default()
            }),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}
