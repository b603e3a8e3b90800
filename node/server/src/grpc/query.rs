//! Queries: asked by clients, answered by workers.
//!
//! The asker waits on the leader of the run's group; a worker's answer to a query that had a task of its own goes back there by the
//! token.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::command::WorkflowTaskToken;
use stanchion_proto::temporal::enums::v1::QueryResultType;
use stanchion_proto::temporal::query::v1::WorkflowQueryResult;
use stanchion_proto::temporal::workflowservice::v1::{
    QueryWorkflowRequest, QueryWorkflowResponse, RespondQueryTaskCompletedRequest, RespondQueryTaskCompletedResponse,
};
use tonic::Status;

use super::tokens::Token;
use super::workflow::{group, id_of};
use crate::calls::malformed;
use crate::context::Context;
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::CallError;
use crate::validate;

impl GroupCall for QueryWorkflowRequest {
    const METHOD: &'static str = "QueryWorkflow";
    type Answer = QueryWorkflowResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        validate::execution(self.execution.as_ref())?;
        let Some(query) = &self.query else {
            return Err(Rejection::invalid("WorkflowQuery is not set on request.").into());
        };
        if query.query_type.is_empty() {
            return Err(Rejection::invalid("QueryType is not set on request.").into());
        }
        validate::blob(query.query_args.as_ref(), &node.limits)?;
        Ok(validate::blob_bytes(validate::header_bytes(query.header.as_ref()), &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        if let Some(named) = &self.execution {
            // A run that is not there is told apart from a workflow id that is not.
            super::workflow::view(&at, &namespace, named).await?;
        }
        at.term.query(&namespace.id, self, at.deadline).await
    }
}

pub async fn respond_query_task_completed(
    node: Arc<Node>,
    request: RespondQueryTaskCompletedRequest,
    context: Context,
) -> Result<RespondQueryTaskCompletedResponse, Status> {
    answer(&node, request, context.deadline()).await?;
    Ok(RespondQueryTaskCompletedResponse {})
}

async fn answer(
    node: &Arc<Node>,
    request: RespondQueryTaskCompletedRequest,
    deadline: Instant,
) -> Result<(), CallError> {
    let namespace = match request.namespace.as_str() {
        "" => None,
        name => Some(node.meta.namespace(node, name).await?),
    };
    let token = WorkflowTaskToken::read_for(&request.task_token, namespace.as_ref())?;
    if token.query_id.is_empty() {
        return Err(Rejection::invalid("Invalid TaskToken.").into());
    }
    if token.query_node == node.id() {
        return deliver(node, &token, request);
    }
    let body = request.encode_to_vec().into();
    match node.neighbours.carry(token.query_node, "RespondQueryTaskCompleted", body, deadline).await {
        Ok(_) => Ok(()),
        // The asker was on a node that has gone; it asks again.
        Err(CallError::NotHere { .. }) => Err(expired()),
        Err(error) => Err(error),
    }
}

/// An answer that was carried here.
pub fn serve_answer(node: &Arc<Node>, body: Bytes) -> Result<Bytes, CallError> {
    let request = RespondQueryTaskCompletedRequest::decode(body)
        .map_err(|error| malformed("RespondQueryTaskCompleted", error))?;
    let token = WorkflowTaskToken::read(&request.task_token)?;
    deliver(node, &token, request)?;
    Ok(Bytes::new())
}

fn deliver(
    node: &Arc<Node>,
    token: &WorkflowTaskToken,
    request: RespondQueryTaskCompletedRequest,
) -> Result<(), CallError> {
    let result = if validate::blob(request.query_result.as_ref(), &node.limits).is_err() {
        WorkflowQueryResult {
            result_type: QueryResultType::Failed.into(),
            error_message: "Blob data size exceeds limit.".to_owned(),
            ..Default::default()
        }
    } else {
        WorkflowQueryResult {
            result_type: request.completed_type,
            answer: request.query_result,
            error_message: request.error_message,
            failure: request.failure,
        }
    };
    let group = group_of_run(node, &token.namespace_id, &token.workflow_id);
    let term = node.shells.term(group).map_err(|_| expired())?;
    if term.complete_query(&token.query_id, result) { Ok(()) } else { Err(expired()) }
}

fn expired() -> CallError {
    CallError::Rejected(Rejection::not_found("query task not found, or already expired"))
}
