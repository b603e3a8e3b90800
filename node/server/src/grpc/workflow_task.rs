//! A worker's answers to workflow tasks.

use std::sync::Arc;

use stanchion_engine::GroupId;
use stanchion_engine::reply::Reply;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{FailWorkflowTask, WorkflowTaskToken};
use stanchion_proto::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse, RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
};

use super::tokens::Token;
use super::workflow::{command, unexpected};
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::CallError;
use crate::validate;

/// The namespace of a call that carries a token: the one that it names, or else the token's.
pub async fn namespace_of<T: Token>(node: &Arc<Node>, name: &str, token: &[u8]) -> Result<(Namespace, T), CallError> {
    let named = if name.is_empty() { None } else { Some(node.meta.namespace(node, name).await?) };
    let token = T::read_for(token, named.as_ref())?;
    if let Some(named) = named {
        return Ok((named, token));
    }
    let id = token.namespace_id().to_owned();
    let name = match node.meta.name_of(&id) {
        Some(name) => name,
        None => {
            node.meta.refresh(node).await?;
            node.meta.name_of(&id).ok_or_else(|| CallError::Rejected(crate::status::namespace_not_found(&id)))?
        }
    };
    Ok((Namespace { id, name }, token))
}

impl GroupCall for RespondWorkflowTaskCompletedRequest {
    const METHOD: &'static str = "RespondWorkflowTaskCompleted";
    /// Fenced by its token.
    const REPEATABLE: bool = true;
    type Answer = RespondWorkflowTaskCompletedResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        namespace_of::<WorkflowTaskToken>(node, &self.namespace, &self.task_token).await?;
        Ok(validate::identity(&self.identity, &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        let token = WorkflowTaskToken::read(&self.task_token)?;
        Ok(group_of_run(node, &token.namespace_id, &token.workflow_id))
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let (namespace, token) = namespace_of::<WorkflowTaskToken>(&at.node, &self.namespace, &self.task_token).await?;
        at.term.respond_workflow_task_completed(namespace.name, token, self).await
    }
}

impl GroupCall for RespondWorkflowTaskFailedRequest {
    const METHOD: &'static str = "RespondWorkflowTaskFailed";
    /// Fenced by its token.
    const REPEATABLE: bool = true;
    type Answer = RespondWorkflowTaskFailedResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        namespace_of::<WorkflowTaskToken>(node, &self.namespace, &self.task_token).await?;
        Ok(validate::identity(&self.identity, &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        let token = WorkflowTaskToken::read(&self.task_token)?;
        Ok(group_of_run(node, &token.namespace_id, &token.workflow_id))
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let (namespace, token) = namespace_of::<WorkflowTaskToken>(&at.node, &self.namespace, &self.task_token).await?;
        let fail = FailWorkflowTask { token: Some(token), request: Some(self) };
        match at.term.propose(command(&namespace, Kind::FailWorkflowTask(fail))).await? {
            Reply::Done => Ok(RespondWorkflowTaskFailedResponse {}),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}
