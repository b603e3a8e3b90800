//! A worker's answers to workflow tasks.

use std::sync::Arc;

use stanchion_engine::GroupId;
use stanchion_engine::validate::absent;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{FailWorkflowTask, WorkflowTaskToken};
use stanchion_proto::temporal::command::v1::{Command as ApiCommand, command::Attributes};
use stanchion_proto::temporal::common::v1::SearchAttributes;
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;
use stanchion_proto::temporal::failure::v1::{Failure, ServerFailureInfo, failure::FailureInfo};
use stanchion_proto::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse, RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
};

use super::search_attributes;
use super::tokens::Token;
use super::workflow::{command, done};
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
    type Answer = RespondWorkflowTaskCompletedResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        namespace_of::<WorkflowTaskToken>(node, &self.namespace, &self.task_token).await?;
        Ok(validate::identity(&self.identity, &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        let token = WorkflowTaskToken::read(&self.task_token)?;
        Ok(group_of_run(node, &token.namespace_id, &token.workflow_id))
    }

    async fn on_leader(mut self, at: Here) -> Result<Self::Answer, CallError> {
        let (namespace, token) = namespace_of::<WorkflowTaskToken>(&at.node, &self.namespace, &self.task_token).await?;
        for named in self.commands.iter().filter_map(namespace_named) {
            // Whether the command may go there is the engine's to say; that the namespace exists is known here.
            at.namespace(named).await?;
        }
        for (attributes, child) in self.commands.iter_mut().filter_map(attributes_of) {
            if let Err(error) = search_attributes::check(&at.node, &namespace, Some(attributes)).await {
                let error = match child {
                    Some(child) => of_child(error, &child, &namespace),
                    None => error,
                };
                return Err(fail_for_attributes(&at, &namespace, token, self.identity, error).await);
            }
        }
        self.commands.iter_mut().for_each(drop_absent);
        at.term.respond_workflow_task_completed(namespace.name, token, self).await
    }
}

/// The namespace that a command to another run names.
#[allow(deprecated)]
fn namespace_named(command: &ApiCommand) -> Option<&str> {
    let named = match command.attributes.as_ref()? {
        Attributes::StartChildWorkflowExecutionCommandAttributes(child) => &child.namespace,
        Attributes::SignalExternalWorkflowExecutionCommandAttributes(signal) => &signal.namespace,
        Attributes::RequestCancelExternalWorkflowExecutionCommandAttributes(cancel) => &cancel.namespace,
        _ => return None,
    };
    (!named.is_empty()).then_some(named)
}

/// The search attributes that a command sets, and the child that it sets them for. Which there are is known here, and not in the run's
/// own state.
fn attributes_of(command: &mut ApiCommand) -> Option<(&mut SearchAttributes, Option<String>)> {
    match command.attributes.as_mut()? {
        Attributes::UpsertWorkflowSearchAttributesCommandAttributes(upsert) => {
            Some((upsert.search_attributes.as_mut()?, None))
        }
        Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(next) => {
            Some((next.search_attributes.as_mut()?, None))
        }
        Attributes::StartChildWorkflowExecutionCommandAttributes(child) => {
            let kind = child.workflow_type.as_ref().map_or("", |kind| kind.name.as_str());
            let place = format!("WorkflowId={} WorkflowType={kind}", child.workflow_id);
            Some((child.search_attributes.as_mut()?, Some(place)))
        }
        _ => None,
    }
}

/// What a child or a successor begins with holds no field that says there is nothing.
fn drop_absent(command: &mut ApiCommand) {
    let (attributes, memo) = match &mut command.attributes {
        Some(Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(next)) => {
            (&mut next.search_attributes, &mut next.memo)
        }
        Some(Attributes::StartChildWorkflowExecutionCommandAttributes(child)) => {
            (&mut child.search_attributes, &mut child.memo)
        }
        _ => return,
    };
    absent::drop_from_attributes(attributes);
    absent::drop_from_memo(memo);
}

/// A bad value of a child's search attribute, in the real server's words; a name that is not known needs none of its own.
fn of_child(error: CallError, child: &str, namespace: &Namespace) -> CallError {
    match error {
        CallError::Rejected(rejection) if rejection.message.starts_with("invalid value") => {
            let why = &rejection.message;
            CallError::Rejected(stanchion_engine::Rejection::invalid(format!(
                "invalid SearchAttributes on StartChildWorkflowCommand: {why}. {child} Namespace={}",
                namespace.name
            )))
        }
        other => other,
    }
}

/// A command that sets what the namespace does not have fails its workflow task, like any other bad command.
async fn fail_for_attributes(
    at: &Here,
    namespace: &Namespace,
    token: WorkflowTaskToken,
    identity: String,
    error: CallError,
) -> CallError {
    let CallError::Rejected(rejection) = error else { return error };
    let message = format!("BadSearchAttributes: {}", rejection.message);
    if token.attempt > 1 {
        // Left to its time-out, as with other bad commands, so that code which keeps sending the same is not asked at once again.
        return CallError::Rejected(stanchion_engine::Rejection::invalid(message));
    }
    let failure = Failure {
        message: message.clone(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo::default())),
        ..Default::default()
    };
    let request = RespondWorkflowTaskFailedRequest {
        cause: WorkflowTaskFailedCause::BadSearchAttributes.into(),
        failure: Some(failure),
        identity,
        ..Default::default()
    };
    let fail = FailWorkflowTask { token: Some(token), request: Some(request) };
    match at.term.propose(command(namespace, Kind::FailWorkflowTask(fail))).await {
        Ok(_) => CallError::Rejected(stanchion_engine::Rejection::invalid(message)),
        Err(error) => error,
    }
}

impl GroupCall for RespondWorkflowTaskFailedRequest {
    const METHOD: &'static str = "RespondWorkflowTaskFailed";
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
        done(&at, &namespace, Self::METHOD, Kind::FailWorkflowTask(fail)).await?;
        Ok(RespondWorkflowTaskFailedResponse {})
    }
}
