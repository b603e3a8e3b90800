//! DeleteWorkflowExecution: ends a run that is open, and deletes all of it.

use std::sync::Arc;

use stanchion_engine::GroupId;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{DeleteWorkflow, RunRef};
use stanchion_proto::temporal::workflowservice::v1::{DeleteWorkflowExecutionRequest, DeleteWorkflowExecutionResponse};

use super::workflow::{done, group, id_of};
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate;

impl GroupCall for DeleteWorkflowExecutionRequest {
    const METHOD: &'static str = "DeleteWorkflowExecution";
    type Answer = DeleteWorkflowExecutionResponse;

    /// A second one does not find the run because of the first; and the workflow id may name another run by then.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(validate::execution(self.workflow_execution.as_ref())?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.workflow_execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let named = self.workflow_execution.unwrap_or_default();
        let run = RunRef { workflow_id: named.workflow_id, run_id: named.run_id };
        let delete = DeleteWorkflow { run: Some(run) };
        done(&at, &namespace, Self::METHOD, Kind::DeleteWorkflow(delete)).await?;
        Ok(DeleteWorkflowExecutionResponse {})
    }
}
