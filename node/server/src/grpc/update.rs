//! Updates: asked of a run, and asked after.
//!
//! The caller waits on the leader of the run's group for the stage that it names. If the leader is lost the call goes to the next one,
//! which knows the update by its id: it was made up here if the caller left it out.

use std::sync::Arc;

use stanchion_engine::reply::{Reply, UpdateStatus};
use stanchion_engine::run::start::request_link;
use stanchion_engine::{GroupId, Rejection, RunKey, read};
use stanchion_proto::command::UpdateWorkflow;
use stanchion_proto::command::command::Kind;
use stanchion_proto::temporal::common::v1::{Link, WorkflowExecution, link};
use stanchion_proto::temporal::enums::v1::{EventType, UpdateWorkflowExecutionLifecycleStage as Stage};
use stanchion_proto::temporal::update::v1::{Outcome, UpdateRef, outcome};
use stanchion_proto::temporal::workflowservice::v1::{
    PollWorkflowExecutionUpdateRequest, PollWorkflowExecutionUpdateResponse, UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
};

use super::workflow::{command, group, id_of, unexpected, view};
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate;

impl GroupCall for UpdateWorkflowExecutionRequest {
    const METHOD: &'static str = "UpdateWorkflowExecution";
    type Answer = UpdateWorkflowExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        validate::update(self, &node.limits)?;
        node.meta.namespace(node, &self.namespace).await?;
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.workflow_execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let workflow_id = id_of(self.workflow_execution.as_ref());
        let asked = Asked::of(&self);
        let waiter = at.term.wait_for_update(&namespace.id, workflow_id, &asked.update_id);
        let update = Kind::UpdateWorkflow(UpdateWorkflow { request: Some(self) });
        match at.term.propose(command(&namespace, update)).await? {
            Reply::Updated { run, order, status } => {
                let status = waiter.reach(&run, order, status, asked.stage, at.deadline).await?;
                asked.response(&namespace.name, &run, status)
            }
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

/// What the answer needs of the request.
pub struct Asked {
    pub update_id: String,
    request_id: String,
    pub stage: Stage,
}

impl Asked {
    pub fn of(request: &UpdateWorkflowExecutionRequest) -> Self {
        let inner = request.request.as_ref();
        let meta = inner.and_then(|inner| inner.meta.as_ref());
        Self {
            update_id: meta.map(|meta| meta.update_id.clone()).unwrap_or_default(),
            request_id: inner.map(|inner| inner.request_id.clone()).unwrap_or_default(),
            stage: request.wait_policy.as_ref().map_or(Stage::Completed, |wait| wait.lifecycle_stage()),
        }
    }

    /// The answer, with a link to what the update has become.
    pub fn response(
        self,
        namespace: &str,
        run: &RunKey,
        status: UpdateStatus,
    ) -> Result<UpdateWorkflowExecutionResponse, CallError> {
        let (stage, outcome) = stage_and_outcome(status)?;
        let failed = outcome.as_ref().is_some_and(|outcome| matches!(outcome.value, Some(outcome::Value::Failure(_))));
        let link = match stage {
            _ if failed => Some(rejected_link(namespace, run)),
            Stage::Accepted | Stage::Completed => {
                let event = EventType::WorkflowExecutionUpdateAccepted;
                Some(request_link(namespace, &run.workflow_id, &run.run_id, &self.request_id, event))
            }
            Stage::Unspecified | Stage::Admitted => None,
        };
        let update_ref = Some(update_ref(run, self.update_id));
        Ok(UpdateWorkflowExecutionResponse { update_ref, outcome, stage: stage.into(), link })
    }
}

fn stage_and_outcome(status: UpdateStatus) -> Result<(Stage, Option<Outcome>), CallError> {
    match status {
        UpdateStatus::Admitted => Ok((Stage::Admitted, None)),
        UpdateStatus::Accepted => Ok((Stage::Accepted, None)),
        UpdateStatus::Completed(outcome) => Ok((Stage::Completed, Some(*outcome))),
        UpdateStatus::Aborted(rejection) => Err(rejection.into()),
    }
}

pub fn update_ref(run: &RunKey, update_id: String) -> UpdateRef {
    let execution = WorkflowExecution { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() };
    UpdateRef { workflow_execution: Some(execution), update_id }
}

/// A rejected update has no event: the link leads to the run.
fn rejected_link(namespace: &str, run: &RunKey) -> Link {
    Link {
        variant: Some(link::Variant::Workflow(link::Workflow {
            namespace: namespace.to_owned(),
            workflow_id: run.workflow_id.clone(),
            run_id: run.run_id.clone(),
            reason: "Update rejected".to_owned(),
        })),
    }
}

impl GroupCall for PollWorkflowExecutionUpdateRequest {
    const METHOD: &'static str = "PollWorkflowExecutionUpdate";
    type Answer = PollWorkflowExecutionUpdateResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let Some(named) = &self.update_ref else {
            return Err(Rejection::invalid("UpdateRef is not set on request.").into());
        };
        node.meta.namespace(node, &self.namespace).await?;
        let run = named.workflow_execution.clone().unwrap_or_default();
        if run.workflow_id.is_empty() {
            return Err(Rejection::invalid("Can't load workflow execution.  WorkflowId not set.").into());
        }
        Ok(validate::run_id(&run.run_id, "RunId is not valid UUID.")?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        let run = self.update_ref.as_ref().and_then(|named| named.workflow_execution.as_ref());
        group(node, &self.namespace, id_of(run)).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let stage = self.wait_policy.as_ref().map_or(Stage::Unspecified, |wait| wait.lifecycle_stage());
        let UpdateRef { workflow_execution, update_id } = self.update_ref.unwrap_or_default();
        let named = workflow_execution.unwrap_or_default();
        let waiter = at.term.wait_for_update(&namespace.id, &named.workflow_id, &update_id);
        let run = view(&at, &namespace, &named).await?.key;
        let look = |reader: &_| read::update(reader, &namespace.id, &run.workflow_id, &run.run_id, &update_id);
        let Some((run, order, status)) = at.term.read(look).await? else {
            return Err(Rejection::not_found(format!("update {update_id:?} not found")).into());
        };
        let status = waiter.reach(&run, order, status, stage, at.deadline).await?;
        let (stage, outcome) = stage_and_outcome(status)?;
        let update_ref = Some(update_ref(&run, update_id));
        Ok(PollWorkflowExecutionUpdateResponse { outcome, stage: stage.into(), update_ref })
    }
}
