//! Update-with-start: one call, two operations, one command.
//!
//! Never: a start without its update. An error says of each operation what became of it.

use std::sync::Arc;

use stanchion_engine::reply::{Code, OperationOutcome, Reply, UpdateStatus};
use stanchion_engine::run::start::started_link;
use stanchion_engine::run::updates::ABORTED;
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::command::UpdateWithStartWorkflow;
use stanchion_proto::command::command::Kind;
use stanchion_proto::temporal::workflowservice::v1::execute_multi_operation_request::{Operation, operation};
use stanchion_proto::temporal::workflowservice::v1::execute_multi_operation_response::{Response, response};
use stanchion_proto::temporal::workflowservice::v1::{
    ExecuteMultiOperationRequest, ExecuteMultiOperationResponse, StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse, UpdateWorkflowExecutionRequest,
};

use super::update::Asked;
use super::workflow::{command, new_request_id, unexpected};
use crate::node::Node;
use crate::routing::{GroupCall, Here, group_of_run};
use crate::shell::CallError;
use crate::validate;

use OperationOutcome::{Aborted, Done, Refused};

impl GroupCall for ExecuteMultiOperationRequest {
    const METHOD: &'static str = "ExecuteMultiOperation";
    type Answer = ExecuteMultiOperationResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        let namespace = self.namespace.clone();
        let (start, update) = both_mut(&mut self.operations)?;
        let start_id = check_start(node, &namespace, start).await?;
        let update_id = check_update(node, &namespace, update);
        match (start_id, update_id) {
            (Ok(first), Ok(second)) if first == second => Ok(()),
            (Ok(_), Ok(_)) => {
                let why = Rejection::invalid("WorkflowId is not consistent with previous operation(s).");
                Err(Rejection::of_operations([Aborted, Refused(why)]).into())
            }
            (start, update) => {
                let outcome = |checked: Result<String, Rejection>| checked.map_or_else(Refused, |_| Aborted);
                Err(Rejection::of_operations([outcome(start), outcome(update)]).into())
            }
        }
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        let namespace = node.meta.namespace(node, &self.namespace).await?;
        let (start, _) = both(&self.operations)?;
        Ok(group_of_run(node, &namespace.id, &start.workflow_id))
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let (start, update) = both(&self.operations)?;
        match once(&at, &self.namespace, start, update).await? {
            Attempt::Answered(response) => return Ok(*response),
            Attempt::Overtaken { started: true, why } => return Err(refused(Done, why)),
            // The run that it went to has closed under it. This call may start another one: once more, and then the caller decides.
            Attempt::Overtaken { started: false, why } if why.message == ABORTED => {}
            Attempt::Overtaken { started: false, why } => return Err(refused(Aborted, why)),
        }
        match once(&at, &self.namespace, start, update).await? {
            Attempt::Answered(response) => Ok(*response),
            Attempt::Overtaken { started: true, why } => Err(refused(Done, why)),
            Attempt::Overtaken { started: false, why } if why.message == ABORTED => {
                Err(refused(Aborted, Rejection::new(Code::Aborted, why.message)))
            }
            Attempt::Overtaken { started: false, why } => Err(refused(Aborted, why)),
        }
    }
}

fn refused(start: OperationOutcome, update: Rejection) -> CallError {
    Rejection::of_operations([start, Refused(update)]).into()
}

enum Attempt {
    Answered(Box<ExecuteMultiOperationResponse>),
    /// The update was admitted, and its run closed before a worker took it.
    Overtaken {
        started: bool,
        why: Rejection,
    },
}

async fn once(
    at: &Here,
    namespace: &str,
    start: &StartWorkflowExecutionRequest,
    update: &UpdateWorkflowExecutionRequest,
) -> Result<Attempt, CallError> {
    let namespace = at.namespace(namespace).await?;
    let asked = Asked::of(update);
    let waiter = at.term.wait_for_update(&namespace.id, &start.workflow_id, &asked.update_id);
    let both = UpdateWithStartWorkflow { start: Some(start.clone()), update: Some(update.clone()), reservation: None };
    let reply = at.term.propose(command(&namespace, Kind::UpdateWithStartWorkflow(both))).await?;
    let Reply::UpdatedWithStart { run, order, status, started, first_execution_run_id, run_status } = reply else {
        return Err(unexpected(ExecuteMultiOperationRequest::METHOD, reply));
    };
    // The real server says less where the update had its outcome already.
    let had_outcome = matches!(status, UpdateStatus::Completed(_));
    let status = waiter.reach(&run, order, status, asked.stage, at.deadline).await?;
    if let UpdateStatus::Aborted(why) = status {
        return Ok(Attempt::Overtaken { started, why });
    }
    let mut updated = asked.response(&namespace.name, &run, status)?;
    let mut link = Some(started_link(&namespace.name, &run.workflow_id, &run.run_id));
    if had_outcome {
        updated.link = None;
        link = None;
    }
    let begun = StartWorkflowExecutionResponse {
        run_id: run.run_id.clone(),
        first_execution_run_id: if started { first_execution_run_id } else { String::new() },
        started,
        status: run_status,
        link,
        ..Default::default()
    };
    let responses = [response::Response::StartWorkflow(begun), response::Response::UpdateWorkflow(updated)];
    let responses = responses.map(|one| Response { response: Some(one) }).into();
    Ok(Attempt::Answered(Box::new(ExecuteMultiOperationResponse { responses })))
}

fn not_both() -> Rejection {
    Rejection::invalid("Operations have to be exactly [Start, Update].")
}

fn both(
    operations: &[Operation],
) -> Result<(&StartWorkflowExecutionRequest, &UpdateWorkflowExecutionRequest), Rejection> {
    match operations {
        [
            Operation { operation: Some(operation::Operation::StartWorkflow(start)) },
            Operation { operation: Some(operation::Operation::UpdateWorkflow(update)) },
        ] => Ok((start, update)),
        _ => Err(not_both()),
    }
}

fn both_mut(
    operations: &mut [Operation],
) -> Result<(&mut StartWorkflowExecutionRequest, &mut UpdateWorkflowExecutionRequest), Rejection> {
    match operations {
        [
            Operation { operation: Some(operation::Operation::StartWorkflow(start)) },
            Operation { operation: Some(operation::Operation::UpdateWorkflow(update)) },
        ] => Ok((start, update)),
        _ => Err(not_both()),
    }
}

fn check_namespace(own: &str, whole: &str) -> Result<(), Rejection> {
    if own.is_empty() || own == whole {
        return Ok(());
    }
    Err(Rejection::invalid("Operation namespace did not match request's namespace."))
}

/// The start as a start, and what it may not ask for here. The outer error is not about this operation.
async fn check_start(
    node: &Arc<Node>,
    namespace: &str,
    start: &mut StartWorkflowExecutionRequest,
) -> Result<Result<String, Rejection>, CallError> {
    if let Err(rejection) = check_namespace(&start.namespace, namespace) {
        return Ok(Err(rejection));
    }
    start.namespace = namespace.to_owned();
    match start.check(node).await {
        Ok(()) => {}
        Err(CallError::Rejected(rejection)) => return Ok(Err(rejection)),
        Err(error) => return Err(error),
    }
    if start.request_id.is_empty() {
        start.request_id = new_request_id();
    }
    let delayed = start.workflow_start_delay.is_some_and(|delay| delay.seconds > 0 || delay.nanos > 0);
    let forbidden = [
        (!start.cron_schedule.is_empty(), "CronSchedule is not allowed."),
        (start.request_eager_execution, "RequestEagerExecution is not supported."),
        (delayed, "WorkflowStartDelay is not supported."),
    ];
    Ok(match forbidden.iter().find(|(asked, _)| *asked) {
        Some((_, message)) => Err(Rejection::invalid(*message)),
        None => Ok(start.workflow_id.clone()),
    })
}

fn check_update(
    node: &Arc<Node>,
    namespace: &str,
    update: &mut UpdateWorkflowExecutionRequest,
) -> Result<String, Rejection> {
    check_namespace(&update.namespace, namespace)?;
    update.namespace = namespace.to_owned();
    validate::update(update, &node.limits)?;
    let named = update.workflow_execution.clone().unwrap_or_default();
    if !update.first_execution_run_id.is_empty() {
        return Err(Rejection::invalid("FirstExecutionRunId is not allowed."));
    }
    if !named.run_id.is_empty() {
        return Err(Rejection::invalid("RunId is not allowed."));
    }
    Ok(named.workflow_id)
}
