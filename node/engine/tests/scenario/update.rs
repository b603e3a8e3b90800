//! Updates: what callers ask, what the worker gets and says.

use prost::{Message as _, Name};
use stanchion_engine::reply::{Reply, UpdateStatus};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{UpdateWithStartWorkflow, UpdateWorkflow};
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::command::v1::command::Attributes as A;
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::enums::v1::CommandType;
use stanchion_proto::temporal::protocol::v1::Message;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::update::v1::{
    Acceptance, Input, Meta, Outcome, Rejection, Request, Response, outcome::Value,
};
use stanchion_proto::temporal::workflowservice::v1::{StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest};

use super::{QUEUE, WORKFLOW, World, execution, failure, payloads};

fn request(id: &str) -> UpdateWorkflowExecutionRequest {
    UpdateWorkflowExecutionRequest {
        workflow_execution: Some(execution("")),
        request: Some(Request {
            meta: Some(Meta { update_id: id.into(), identity: "caller".into() }),
            input: Some(Input { name: "set".into(), args: Some(payloads("7")), ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl World {
    pub fn update(&mut self, id: &str) -> String {
        let reply = self.apply(Kind::UpdateWorkflow(UpdateWorkflow { request: Some(request(id)) }));
        self.shown(&reply)
    }

    pub fn update_run(&mut self, id: &str, run: usize) -> String {
        let workflow_execution = Some(execution(&self.run_id(run)));
        let request = UpdateWorkflowExecutionRequest { workflow_execution, ..request(id) };
        let reply = self.apply(Kind::UpdateWorkflow(UpdateWorkflow { request: Some(request) }));
        self.shown(&reply)
    }

    pub fn update_with_start(&mut self, id: &str, change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> String {
        let mut start = StartWorkflowExecutionRequest {
            workflow_id: WORKFLOW.into(),
            workflow_type: Some(WorkflowType { name: "Demo".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            request_id: format!("uws-{}", self.log.len()),
            ..Default::default()
        };
        change(&mut start);
        let command = UpdateWithStartWorkflow { start: Some(start), update: Some(request(id)), reservation: None };
        let reply = self.apply(Kind::UpdateWithStartWorkflow(command));
        match &reply {
            Reply::UpdatedWithStart { run, started, status, .. } => {
                let how = if *started { "started" } else { "existing" };
                format!("{how} run-{}, update {}", self.number_of(&run.run_id), said(status))
            }
            other => self.shown(other),
        }
    }

    fn number_of(&self, run_id: &str) -> usize {
        (1..=self.runs.len()).find(|n| self.run_id(*n) == run_id).unwrap_or(0)
    }

    /// Ids of the updates that came with the workflow task, each with the event that it is to be handled behind.
    pub fn given_updates(&self) -> String {
        let Some(task) = &self.task else { return "no task".into() };
        let shown = task.messages.iter().map(|message| {
            let body = message.body.as_ref().unwrap();
            let request = Request::decode(body.value.as_slice()).unwrap();
            assert_eq!(request.meta.unwrap().update_id, message.protocol_instance_id);
            format!("{} {:?}", message.id, message.sequencing_id.as_ref().unwrap())
        });
        shown.collect::<Vec<_>>().join(", ")
    }

    /// What those who wait for updates are told by the last command.
    pub fn told(&self) -> String {
        let changes = self.effects.updates.iter();
        changes.map(|change| format!("{} {}", change.update_id, said(&change.status))).collect::<Vec<_>>().join(", ")
    }

    /// Completes the task with messages, each with its command.
    pub fn say(&mut self, messages: Vec<Message>) -> String {
        let rejected = |message: &Message| message.id.ends_with("/reject");
        let commands = messages.iter().filter(|message| !rejected(message)).map(|message| carry(&message.id)).collect();
        self.complete_with(commands, |request| request.messages = messages)
    }
}

pub fn said(status: &UpdateStatus) -> String {
    match status {
        UpdateStatus::Admitted => "admitted".into(),
        UpdateStatus::Accepted => "accepted".into(),
        UpdateStatus::Completed(outcome) => match &outcome.value {
            Some(Value::Success(payloads)) => {
                format!("result {}", String::from_utf8_lossy(&payloads.payloads[0].data))
            }
            Some(Value::Failure(failure)) => format!("failure {:?}", failure.message),
            None => "no outcome".into(),
        },
        UpdateStatus::Aborted(rejection) => format!("aborted {:?} {:?}", rejection.code, rejection.message),
    }
}

/// The command that says when a message is to be handled.
pub fn carry(message_id: &str) -> cmd::Command {
    cmd::Command {
        command_type: CommandType::ProtocolMessage as i32,
        attributes: Some(A::ProtocolMessageCommandAttributes(cmd::ProtocolMessageCommandAttributes {
            message_id: message_id.into(),
        })),
        ..Default::default()
    }
}

fn message<M: prost::Message + Name>(id: &str, what: &str, body: &M) -> Message {
    Message {
        id: format!("{id}/{what}"),
        protocol_instance_id: id.into(),
        body: Some(prost_types::Any {
            type_url: format!("type.googleapis.com/{}", M::full_name()),
            value: body.encode_to_vec(),
        }),
        ..Default::default()
    }
}

pub fn accepts(id: &str) -> Message {
    let body = Acceptance {
        accepted_request_message_id: format!("{id}/request"),
        accepted_request_sequencing_event_id: 1,
        ..Default::default()
    };
    message(id, "accept", &body)
}

pub fn rejects(id: &str) -> Message {
    message(id, "reject", &Rejection { failure: Some(failure("not valid")), ..Default::default() })
}

pub fn completes(id: &str, result: &str) -> Message {
    let outcome = Outcome { value: Some(Value::Success(payloads(result))) };
    let meta = Some(Meta { update_id: id.into(), identity: "caller".into() });
    message(id, "complete", &Response { meta, outcome: Some(outcome) })
}
