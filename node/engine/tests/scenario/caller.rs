//! Callers of a world: starts, signals, cancel requests and terminations as a client makes them.

use stanchion_engine::reply::Reply;
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    RequestCancelWorkflow, SignalWithStartWorkflow, SignalWorkflow, StartWorkflow, TerminateWorkflow,
};
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};

use super::{NAMESPACE, QUEUE, WORKFLOW, World, execution, poller};
impl World {
    pub fn start(&mut self) -> String {
        self.start_with(|_| {})
    }

    pub fn start_with(&mut self, change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> String {
        let mut request = StartWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: WORKFLOW.into(),
            workflow_type: Some(WorkflowType { name: "Demo".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            identity: "starter".into(),
            request_id: format!("start-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let eager = request.request_eager_execution.then(|| poller("starter"));
        let reservation = self.reservations.pop();
        let reply =
            self.apply(Kind::StartWorkflow(StartWorkflow { request: Some(request), eager_poller: eager, reservation }));
        if let Reply::Started { eager: Some(start), .. } = &reply {
            self.task = Some((**start).clone());
        }
        self.answer(&reply)
    }

    pub fn signal(&mut self, name: &str) -> String {
        self.signal_with(name, |_| {})
    }

    pub fn signal_with(&mut self, name: &str, change: impl FnOnce(&mut SignalWorkflowExecutionRequest)) -> String {
        let mut request = SignalWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            signal_name: name.into(),
            identity: "caller".into(),
            ..Default::default()
        };
        change(&mut request);
        let reservation = self.reservations.pop();
        let reply = self.apply(Kind::SignalWorkflow(SignalWorkflow { request: Some(request), reservation }));
        self.answer(&reply)
    }

    pub fn signal_with_start(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut SignalWithStartWorkflowExecutionRequest),
    ) -> String {
        let mut request = SignalWithStartWorkflowExecutionRequest {
            workflow_id: WORKFLOW.into(),
            workflow_type: Some(WorkflowType { name: "Demo".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            signal_name: name.into(),
            identity: "caller".into(),
            request_id: format!("sws-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let command = SignalWithStartWorkflow { request: Some(request), reservation: None };
        let reply = self.apply(Kind::SignalWithStartWorkflow(command));
        self.answer(&reply)
    }

    pub fn request_cancel(&mut self) -> String {
        let request = RequestCancelWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            identity: "caller".into(),
            reason: "enough".into(),
            ..Default::default()
        };
        let command = RequestCancelWorkflow { request: Some(request), reservation: None };
        let reply = self.apply(Kind::RequestCancelWorkflow(command));
        self.answer(&reply)
    }

    pub fn terminate(&mut self) -> String {
        self.terminate_with(|_| {})
    }

    pub fn terminate_with(&mut self, change: impl FnOnce(&mut TerminateWorkflowExecutionRequest)) -> String {
        let mut request = TerminateWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            identity: "caller".into(),
            reason: "because".into(),
            ..Default::default()
        };
        change(&mut request);
        let reply = self.apply(Kind::TerminateWorkflow(TerminateWorkflow { request: Some(request) }));
        self.answer(&reply)
    }
}
