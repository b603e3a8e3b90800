//! Calls that name a run: start, signal, cancel, terminate, describe, reset of stickiness.
//!
//! Each is checked on the node it came in at, given a request id if it has none (so that repeating it is safe), and answered by the
//! leader of the run's group.

use std::sync::Arc;

use stanchion_engine::read;
use stanchion_engine::reply::Reply;
use stanchion_engine::{GroupId, Rejection, StateReader};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    Command, Poller, RequestCancelWorkflow, ResetStickyTaskQueue, RunRef, SignalWithStartWorkflow, SignalWorkflow,
    StartWorkflow, TerminateWorkflow,
};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::workflowservice::v1::*;

use super::search_attributes;
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::{CallError, run_not_found};
use crate::validate;

/// A reply that this command cannot have.
pub fn unexpected(method: &str, reply: Reply) -> CallError {
    CallError::Fatal(format!("{method} was answered with {reply:?}"))
}

pub fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A command for a run of this namespace.
pub fn command(namespace: &Namespace, kind: Kind) -> Command {
    Command {
        namespace_id: namespace.id.clone(),
        namespace: namespace.name.clone(),
        kind: Some(kind),
        ..Default::default()
    }
}

/// Proposes what can only be refused or done.
pub async fn done(at: &Here, namespace: &Namespace, method: &str, kind: Kind) -> Result<(), CallError> {
    match at.term.propose(command(namespace, kind)).await? {
        Reply::Done => Ok(()),
        reply => Err(unexpected(method, reply)),
    }
}

/// The group of a run, by the names in a request.
pub async fn group(node: &Arc<Node>, namespace: &str, workflow_id: &str) -> Result<GroupId, CallError> {
    let namespace = node.meta.namespace(node, namespace).await?;
    Ok(group_of_run(node, &namespace.id, workflow_id))
}

pub fn id_of(execution: Option<&WorkflowExecution>) -> &str {
    execution.map_or("", |execution| execution.workflow_id.as_str())
}

impl GroupCall for StartWorkflowExecutionRequest {
    const METHOD: &'static str = "StartWorkflowExecution";
    type Answer = StartWorkflowExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace_for_start(node, &self.namespace).await?;
        validate::start(self, &node.limits)?;
        search_attributes::check_start(node, &namespace, &mut self.search_attributes, &mut self.memo).await?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.workflow_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let start = StartWorkflow { eager_poller: eager_poller(&self), request: Some(self), reservation: None };
        let reply = at.term.propose(command(&namespace, Kind::StartWorkflow(start))).await?;
        let Reply::Started { run_id, first_execution_run_id, started, status, eager, link, .. } = reply else {
            return Err(unexpected(Self::METHOD, reply));
        };
        Ok(StartWorkflowExecutionResponse {
            run_id,
            first_execution_run_id,
            started,
            status,
            eager_workflow_task: eager.map(|start| at.term.poll_response(&start)).transpose()?,
            link,
        })
    }
}

/// The starter, as the poller of the first workflow task, if it asked for that and may have it.
fn eager_poller(request: &StartWorkflowExecutionRequest) -> Option<Poller> {
    let delayed = request.workflow_start_delay.as_ref().is_some_and(|delay| delay.seconds > 0 || delay.nanos > 0);
    if !request.request_eager_execution || delayed || !request.cron_schedule.is_empty() {
        return None;
    }
    let worker = request.eager_worker_deployment_options.clone().unwrap_or_default();
    Some(Poller {
        identity: request.identity.clone(),
        deployment_name: worker.deployment_name,
        build_id: worker.build_id,
        // The start's own, so that a repeated start is the same start.
        request_id: request.request_id.clone(),
        ..Default::default()
    })
}

impl GroupCall for SignalWorkflowExecutionRequest {
    const METHOD: &'static str = "SignalWorkflowExecution";
    type Answer = SignalWorkflowExecutionResponse;

    /// A signal without a request id cannot be told from a second one like it; none is made up, because it would stand in the history.
    fn is_repeatable(&self) -> bool {
        !self.request_id.is_empty()
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(validate::signal(self, &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.workflow_execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let signal = SignalWorkflow { request: Some(self), reservation: None };
        match at.term.propose(command(&namespace, Kind::SignalWorkflow(signal))).await? {
            Reply::Signaled { link } => Ok(SignalWorkflowExecutionResponse { link }),
            Reply::Done => Ok(SignalWorkflowExecutionResponse { link: None }),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

impl GroupCall for SignalWithStartWorkflowExecutionRequest {
    const METHOD: &'static str = "SignalWithStartWorkflowExecution";
    type Answer = SignalWithStartWorkflowExecutionResponse;

    /// As on the real server, its request id is the signal's: a second one starts a second run if the first run is closed by then.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace_for_start(node, &self.namespace).await?;
        validate::signal_with_start(self, &node.limits)?;
        search_attributes::check_start(node, &namespace, &mut self.search_attributes, &mut self.memo).await?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.workflow_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let start = SignalWithStartWorkflow { request: Some(self), reservation: None };
        match at.term.propose(command(&namespace, Kind::SignalWithStartWorkflow(start))).await? {
            Reply::Started { run_id, first_execution_run_id, started, link, .. } => {
                Ok(SignalWithStartWorkflowExecutionResponse {
                    run_id,
                    first_execution_run_id,
                    started,
                    signal_link: link,
                })
            }
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

impl GroupCall for RequestCancelWorkflowExecutionRequest {
    const METHOD: &'static str = "RequestCancelWorkflowExecution";
    type Answer = RequestCancelWorkflowExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        validate::execution(self.workflow_execution.as_ref())?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.workflow_execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let cancel = RequestCancelWorkflow { request: Some(self), reservation: None };
        match at.term.propose(command(&namespace, Kind::RequestCancelWorkflow(cancel))).await? {
            Reply::Done | Reply::Stale => Ok(RequestCancelWorkflowExecutionResponse {}),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

impl GroupCall for TerminateWorkflowExecutionRequest {
    const METHOD: &'static str = "TerminateWorkflowExecution";
    type Answer = TerminateWorkflowExecutionResponse;

    /// A second one is refused because of the first, and the caller would take its own success for a failure.
    fn is_repeatable(&self) -> bool {
        false
    }

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        validate::execution(self.workflow_execution.as_ref())?;
        Ok(validate::blob(self.details.as_ref(), &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.workflow_execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let terminate = TerminateWorkflow { request: Some(self) };
        done(&at, &namespace, Self::METHOD, Kind::TerminateWorkflow(terminate)).await?;
        Ok(TerminateWorkflowExecutionResponse {})
    }
}

impl GroupCall for DescribeWorkflowExecutionRequest {
    const METHOD: &'static str = "DescribeWorkflowExecution";
    type Answer = DescribeWorkflowExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(validate::execution(self.execution.as_ref())?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let named = self.execution.unwrap_or_default();
        let (workflow_id, run_id) = (&named.workflow_id, &named.run_id);
        let described =
            at.term.read(|reader| read::describe(reader, &namespace.id, workflow_id, run_id, reader.clock()));
        let mut described: Self::Answer = described.await??;
        if let Some(info) = &mut described.workflow_execution_info {
            search_attributes::retain_known(&at.node, &namespace, info.search_attributes.as_mut()).await?;
        }
        Ok(described)
    }
}

impl GroupCall for ResetStickyTaskQueueRequest {
    const METHOD: &'static str = "ResetStickyTaskQueue";
    type Answer = ResetStickyTaskQueueResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(validate::execution(self.execution.as_ref())?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let named = self.execution.unwrap_or_default();
        let run = RunRef { workflow_id: named.workflow_id, run_id: named.run_id };
        let reset = ResetStickyTaskQueue { run: Some(run) };
        match at.term.propose(command(&namespace, Kind::ResetStickyTaskQueue(reset))).await? {
            Reply::Done | Reply::Stale => Ok(ResetStickyTaskQueueResponse {}),
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

/// The run that a call names; without a run id the current one.
pub async fn view(at: &Here, namespace: &Namespace, named: &WorkflowExecution) -> Result<read::RunView, CallError> {
    let (workflow_id, run_id) = (&named.workflow_id, &named.run_id);
    let view = at.term.read(|reader| read::run_view(reader, &namespace.id, workflow_id, run_id)).await?;
    view.ok_or_else(|| CallError::Rejected(not_found(named)))
}

pub fn not_found(named: &WorkflowExecution) -> Rejection {
    if named.run_id.is_empty() {
        return run_not_found(&named.workflow_id);
    }
    Rejection::not_found(format!(
        "workflow execution not found for workflow ID \"{}\" and run ID \"{}\"",
        named.workflow_id, named.run_id
    ))
}
