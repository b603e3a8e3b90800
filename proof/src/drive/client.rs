//! Clients: each starts its share of the programs, acts on them and on those of others, and journals what it was told.
//!
//! A client does one thing after the other, so the order of its acknowledged signals is known. Signals carry integers that no one else
//! sends, updates ids that no one else uses; a request whose outcome is unknown is repeated with its own id, on another node.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use serde_json::{Value, json};
use stanchion_proto::temporal::common::v1::{Payloads, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{
    EventType, HistoryEventFilterType, UpdateWorkflowExecutionLifecycleStage as Stage_, WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::query::v1::WorkflowQuery;
use stanchion_proto::temporal::update::v1 as update;
use stanchion_proto::temporal::workflowservice::v1::execute_multi_operation_request::{Operation, operation};
use stanchion_proto::temporal::workflowservice::v1::execute_multi_operation_response::response;
use stanchion_proto::temporal::workflowservice::v1::{
    CountWorkflowExecutionsRequest, DescribeWorkflowExecutionRequest, ExecuteMultiOperationRequest,
    GetWorkflowExecutionHistoryRequest, PollWorkflowExecutionUpdateRequest, QueryWorkflowRequest,
    RequestCancelWorkflowExecutionRequest, SignalWithStartWorkflowExecutionRequest,
    SignalWithStartWorkflowExecutionResponse, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest, UpdateWorkflowExecutionRequest, UpdateWorkflowExecutionResponse,
};
use tonic::Status;

use super::call::{Caller, Told, had_no_effect};
use super::fetch;
use super::{Load, Nodes};
use crate::history::tail;
use crate::journal::{Journal, OpId};
use crate::program::commands::{FAILURE_TYPE, normal_queue, payloads};
use crate::program::{Carried, Input, QUERY, SIGNAL, WORKFLOW_TYPE, named, read_payload};

/// What clients share: which program is next, and which were started.
#[derive(Clone, Default)]
pub struct Stage {
    shared: Arc<Mutex<Played>>,
}

#[derive(Default)]
struct Played {
    next: u64,
    started: Vec<u64>,
}

pub struct Client<N> {
    load: Arc<Load>,
    journal: Journal,
    stage: Stage,
    caller: Caller<N>,
    /// Under which it acts in the journal; a new one after each unknown outcome.
    process: u64,
    number: u64,
    sent: u64,
    /// Signals acknowledged, by workflow.
    acknowledged: BTreeMap<String, u32>,
    /// Updates that were acknowledged: workflow, run and update id.
    updates: Vec<(String, String)>,
}

/// Signals of one client lie between its number and the next one, times this.
pub const SIGNALS_PER_CLIENT: i64 = 1_000_000;
/// The client that brings programs to their end.
pub const FINISHER: u64 = 900;

/// How an act ended, for whoever goes on after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    Ok,
    Refused,
    Unknown,
}

impl<N: Nodes> Client<N> {
    pub fn new(load: &Arc<Load>, nodes: &N, journal: &Journal, stage: &Stage, number: usize) -> Self {
        let dice = named(load.seed, &format!("client {number}"));
        Self {
            load: load.clone(),
            journal: journal.clone(),
            stage: stage.clone(),
            caller: Caller::new(nodes, dice, &load.timings),
            process: journal.new_process(),
            number: number as u64,
            sent: 0,
            acknowledged: BTreeMap::new(),
            updates: Vec::new(),
        }
    }

    /// Plays until no program is left to start.
    pub async fn play(mut self) {
        while let Some(index) = self.next_program() {
            self.program(index).await;
        }
    }

    fn next_program(&self) -> Option<u64> {
        let mut played = self.stage.shared.lock();
        let index = played.next;
        played.next += 1;
        (index < self.load.programs).then_some(index)
    }

    async fn program(&mut self, index: u64) {
        let id = self.load.workflow_id(index);
        let program = self.load.program(index);
        let needed = program.signals_needed();
        let input = Input { program, chain: 0, carried: Carried::default() };
        let came = match self.caller.dice.random_range(0..10) {
            0..6 => self.start(&id, &input).await,
            6..8 => self.signal_with_start(&id, &input).await,
            _ => self.update_with_start(&id, &input).await,
        };
        if came == Came::Refused {
            return;
        }
        self.stage.shared.lock().started.push(index);
        for _ in 0..self.caller.dice.random_range(1..7) {
            self.caller.pause(self.load.timings.think).await;
            let target = self.target(index);
            self.act(&target).await;
        }
        // So that it need not wait for `finish`.
        for _ in 0..2 * needed {
            if self.acknowledged.get(&id).copied().unwrap_or(0) >= needed || self.signal(&id).await == Came::Refused {
                break;
            }
        }
        if self.caller.chance(3) {
            self.result(&id).await;
        }
        // A closed workflow is never asked again but for the outcomes of its updates.
        self.acknowledged.remove(&id);
    }

    /// Mostly its own program, sometimes one that another client may be acting on at this moment.
    fn target(&mut self, own: u64) -> String {
        let started = self.stage.shared.lock().started.clone();
        let recent = started.len().saturating_sub(8);
        let others = started.get(recent..).unwrap_or_default();
        if others.is_empty() || !self.caller.chance(4) {
            return self.load.workflow_id(own);
        }
        let place = self.caller.dice.random_range(0..others.len());
        self.load.workflow_id(others.get(place).copied().unwrap_or(own))
    }

    async fn act(&mut self, id: &str) {
        if self.caller.chance(self.load.mischief.cancels) {
            return self.cancel(id).await;
        }
        if self.caller.chance(self.load.mischief.terminates) {
            return self.terminate(id).await;
        }
        match self.caller.dice.random_range(0..100) {
            0..32 => drop(self.signal(id).await),
            32..58 => self.update(id).await,
            58..70 => self.query(id).await,
            70..78 => self.describe(id).await,
            78..88 => self.history(id).await,
            88..95 => self.outcome_again().await,
            _ => self.count().await,
        }
    }

    /// Journals how a call ended.
    fn end<T>(&mut self, op: OpId, told: &Told<T>, value: impl FnOnce(&T) -> Value) -> Came {
        match told {
            Told::Ok(answer) => {
                self.journal.ok(op, value(answer));
                Came::Ok
            }
            Told::Fail(status) => {
                self.journal.fail(op, &describe(status));
                Came::Refused
            }
            Told::Unknown(status) => self.unknown(op, &describe(status)),
        }
    }

    fn unknown(&mut self, op: OpId, error: &str) -> Came {
        self.journal.info(op, error);
        self.process = self.journal.new_process();
        Came::Unknown
    }

    fn identity(&self) -> String {
        format!("client-{}", self.number)
    }

    fn next_number(&mut self) -> i64 {
        self.sent += 1;
        (self.number as i64 + 1) * SIGNALS_PER_CLIENT + self.sent as i64
    }

    fn starts(&mut self, id: &str, input: &Input) -> StartWorkflowExecutionRequest {
        StartWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_id: id.to_owned(),
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
            task_queue: Some(normal_queue(&self.load.task_queue)),
            input: Some(payloads(input)),
            workflow_task_timeout: prost_types::Duration::try_from(self.load.timings.workflow_task_timeout).ok(),
            identity: self.identity(),
            request_id: self.caller.fresh_id(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
            ..Default::default()
        }
    }

    async fn start(&mut self, id: &str, input: &Input) -> Came {
        let request = self.starts(id, input);
        let op = self.journal.invoke(self.process, "start", id, json!({}));
        let told = self.caller.ask(request, |mut c, r| async move { c.start_workflow_execution(r).await }).await;
        self.end(op, &told, |answer| json!({ "run_id": answer.run_id }))
    }

    async fn signal_with_start(&mut self, id: &str, input: &Input) -> Came {
        let start = self.starts(id, input);
        let number = self.next_number();
        let request = SignalWithStartWorkflowExecutionRequest {
            namespace: start.namespace,
            workflow_id: start.workflow_id,
            workflow_type: start.workflow_type,
            task_queue: start.task_queue,
            input: start.input,
            workflow_task_timeout: start.workflow_task_timeout,
            identity: start.identity,
            request_id: start.request_id,
            workflow_id_reuse_policy: start.workflow_id_reuse_policy,
            signal_name: SIGNAL.into(),
            signal_input: Some(payloads(&number)),
            ..Default::default()
        };
        let op = self.journal.invoke(self.process, "start", id, json!({ "signal": number }));
        let call = |mut c: super::call::Client, r| async move { c.signal_with_start_workflow_execution(r).await };
        let told = self.caller.ask(request, call).await;
        let repeated = self.caller.repeated;
        let said = |answer: &SignalWithStartWorkflowExecutionResponse| json!({ "run_id": answer.run_id, "signal": number, "repeated": repeated });
        let came = self.end(op, &told, said);
        if came == Came::Ok {
            *self.acknowledged.entry(id.to_owned()).or_default() += 1;
        }
        came
    }

    async fn update_with_start(&mut self, id: &str, input: &Input) -> Came {
        let mut start = self.starts(id, input);
        // Update-with-start says for itself what becomes of a workflow that runs already: of its own first try, for one.
        start.workflow_id_conflict_policy = WorkflowIdConflictPolicy::UseExisting.into();
        let update_id = self.next_update_id();
        let number = self.next_number();
        let name = if number % 2 == 0 { "append" } else { "slow" };
        let request = ExecuteMultiOperationRequest {
            namespace: self.load.namespace.clone(),
            operations: vec![
                Operation { operation: Some(operation::Operation::StartWorkflow(start)) },
                Operation {
                    operation: Some(operation::Operation::UpdateWorkflow(self.updates_with(
                        id,
                        &update_id,
                        name,
                        payloads(&number),
                    ))),
                },
            ],
            ..Default::default()
        };
        let asked = json!({ "update": { "id": update_id, "name": name, "arg": number } });
        let op = self.journal.invoke(self.process, "start", id, asked);
        let within = self.load.timings.call;
        let call = |mut c: super::call::Client, r| async move { c.execute_multi_operation(r).await };
        match self.caller.ask_within(request, within, call).await {
            Told::Ok(answer) => {
                let mut run_id = String::new();
                let mut answered = None;
                for part in answer.responses {
                    match part.response {
                        Some(response::Response::StartWorkflow(started)) => run_id = started.run_id,
                        Some(response::Response::UpdateWorkflow(updated)) => answered = outcome(&updated),
                        None => {}
                    }
                }
                match answered {
                    Some(Outcome::Answer(answer)) => {
                        self.updates.push((id.to_owned(), update_id.clone()));
                        let update = json!({ "id": update_id, "name": name, "arg": number, "answer": answer });
                        self.journal.ok(op, json!({ "run_id": run_id, "update": update }));
                    }
                    // Started, and its update refused: that is an answer to both.
                    Some(Outcome::Rejected(why)) => {
                        let update = json!({ "id": update_id, "name": name, "arg": number, "rejected": why });
                        self.journal.ok(op, json!({ "run_id": run_id, "update": update }));
                    }
                    Some(Outcome::CutOff(_)) | None => self.journal.ok(op, json!({ "run_id": run_id })),
                }
                Came::Ok
            }
            // What is refused in the second part says nothing about the first.
            Told::Fail(status) | Told::Unknown(status) => self.unknown(op, &describe(&status)),
        }
    }

    /// Sends the next integer.
    pub async fn signal(&mut self, id: &str) -> Came {
        let number = self.next_number();
        let request = SignalWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_execution: Some(workflow(id)),
            signal_name: SIGNAL.into(),
            input: Some(payloads(&number)),
            identity: self.identity(),
            request_id: self.caller.fresh_id(),
            ..Default::default()
        };
        let op = self.journal.invoke(self.process, "signal", id, json!(number));
        let told = self.caller.ask(request, |mut c, r| async move { c.signal_workflow_execution(r).await }).await;
        let repeated = self.caller.repeated;
        let came = self.end(op, &told, |_| acknowledged(number, repeated));
        if came == Came::Ok {
            *self.acknowledged.entry(id.to_owned()).or_default() += 1;
        }
        came
    }

    fn next_update_id(&mut self) -> String {
        self.sent += 1;
        format!("{}-{}", self.number, self.sent)
    }

    fn updates_with(&self, id: &str, update_id: &str, name: &str, args: Payloads) -> UpdateWorkflowExecutionRequest {
        UpdateWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_execution: Some(workflow(id)),
            wait_policy: Some(wait()),
            request: Some(update::Request {
                meta: Some(update::Meta { update_id: update_id.to_owned(), identity: self.identity() }),
                input: Some(update::Input { name: name.to_owned(), args: Some(args), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    async fn update(&mut self, id: &str) {
        let update_id = self.next_update_id();
        let number = self.next_number();
        let (name, arg, args) = match self.caller.dice.random_range(0..10) {
            0..4 => ("append", json!(number), payloads(&number)),
            4..6 => ("slow", json!(number), payloads(&number)),
            _ => {
                let pair = (self.caller.dice.random_range(0..3_i64), self.caller.dice.random_range(0..3_i64));
                ("set", json!(pair), payloads(&pair))
            }
        };
        let request = self.updates_with(id, &update_id, name, args);
        let op = self.journal.invoke(self.process, "update", id, json!({ "id": update_id, "name": name, "arg": arg }));
        let mut unknown = None;
        // The server answers before it has an outcome where that takes long; the same request then asks for it again.
        for _ in 0..self.load.timings.tries.max(1) {
            let call = |mut c: super::call::Client, r| async move { c.update_workflow_execution(r).await };
            match self.caller.once(request.clone(), self.load.timings.call, call).await {
                Ok(answer) => match outcome(&answer) {
                    Some(Outcome::Answer(answer)) => {
                        self.updates.push((id.to_owned(), update_id.clone()));
                        self.journal.ok(op, json!({ "id": update_id, "name": name, "arg": arg, "answer": answer }));
                        return;
                    }
                    Some(Outcome::Rejected(why)) if unknown.is_none() => return self.journal.fail(op, &why),
                    Some(Outcome::Rejected(why) | Outcome::CutOff(why)) => {
                        self.unknown(op, &why);
                        return;
                    }
                    None => unknown = Some("no outcome yet".to_owned()),
                },
                Err(status) if status.code() == tonic::Code::ResourceExhausted => {}
                Err(status) if had_no_effect(&status) && unknown.is_none() => {
                    return self.journal.fail(op, &describe(&status));
                }
                Err(status) if had_no_effect(&status) => {
                    self.unknown(op, &describe(&status));
                    return;
                }
                Err(status) => unknown = Some(describe(&status)),
            }
            self.caller.elsewhere().await;
        }
        match unknown {
            Some(error) => {
                self.unknown(op, &error);
            }
            None => self.journal.fail(op, "always too busy"),
        }
    }

    /// Asks for an outcome that was told before.
    async fn outcome_again(&mut self) {
        if self.updates.is_empty() {
            return;
        }
        let place = self.caller.dice.random_range(0..self.updates.len());
        let Some((id, update_id)) = self.updates.get(place).cloned() else { return };
        let request = PollWorkflowExecutionUpdateRequest {
            namespace: self.load.namespace.clone(),
            update_ref: Some(update::UpdateRef {
                workflow_execution: Some(workflow(&id)),
                update_id: update_id.clone(),
            }),
            identity: self.identity(),
            wait_policy: Some(wait()),
        };
        let op = self.journal.invoke(self.process, "update-outcome", &id, json!({ "id": update_id }));
        let call = |mut c: super::call::Client, r| async move { c.poll_workflow_execution_update(r).await };
        let told = self.caller.ask(request, call).await;
        self.end(op, &told, |answer| {
            let answered = UpdateWorkflowExecutionResponse { outcome: answer.outcome.clone(), ..Default::default() };
            match outcome(&answered) {
                Some(Outcome::Answer(answer)) => json!({ "id": update_id, "answer": answer }),
                Some(Outcome::Rejected(why)) => json!({ "id": update_id, "rejected": why }),
                Some(Outcome::CutOff(_)) | None => json!({ "id": update_id }),
            }
        });
    }

    async fn query(&mut self, id: &str) {
        let request = QueryWorkflowRequest {
            namespace: self.load.namespace.clone(),
            execution: Some(workflow(id)),
            query: Some(WorkflowQuery { query_type: QUERY.into(), ..Default::default() }),
            ..Default::default()
        };
        self.caller.any_node();
        let op = self.journal.invoke(self.process, "query", id, Value::Null);
        let told = self.caller.ask(request, |mut c, r| async move { c.query_workflow(r).await }).await;
        match told {
            Told::Ok(answer) => match read_payload::<Value>(answer.query_result.as_ref()) {
                Ok(report) => self.journal.ok(op, report),
                Err(error) => self.journal.fail(op, &error),
            },
            // A query has no effect, whatever became of it.
            Told::Fail(status) | Told::Unknown(status) => self.journal.fail(op, &describe(&status)),
        }
    }

    async fn describe(&mut self, id: &str) {
        self.caller.any_node();
        let op = self.journal.invoke(self.process, "describe", id, Value::Null);
        match self.status(id).await {
            Told::Ok((status, run_id)) => self.journal.ok(op, json!({ "status": status, "run_id": run_id })),
            Told::Fail(status) | Told::Unknown(status) => self.journal.fail(op, &describe(&status)),
        }
    }

    /// Reads the history of the latest run.
    async fn history(&mut self, id: &str) {
        self.caller.any_node();
        let op = self.journal.invoke(self.process, "history", id, Value::Null);
        let namespace = self.load.namespace.clone();
        match fetch::history(&mut self.caller, &namespace, id, "", Vec::new()).await {
            Ok(events) => {
                let first = events.first().and_then(|event| match &event.attributes {
                    Some(Attributes::WorkflowExecutionStartedEventAttributes(a)) => Some(&a.original_execution_run_id),
                    _ => None,
                });
                self.journal.ok(op, json!({ "run_id": first, "events": events.len(), "tail": tail(&events) }));
            }
            // A read has no effect, whatever became of it.
            Err(error) => self.journal.fail(op, &describe(&error.status)),
        }
    }

    /// Status and run id of a workflow's latest run.
    pub async fn status(&mut self, id: &str) -> Told<(String, String)> {
        let request =
            DescribeWorkflowExecutionRequest { namespace: self.load.namespace.clone(), execution: Some(workflow(id)) };
        match self.caller.ask(request, |mut c, r| async move { c.describe_workflow_execution(r).await }).await {
            Told::Ok(answer) => {
                let info = answer.workflow_execution_info.unwrap_or_default();
                let run_id = info.execution.clone().unwrap_or_default().run_id;
                Told::Ok((info.status().as_str_name().to_owned(), run_id))
            }
            Told::Fail(status) => Told::Fail(status),
            Told::Unknown(status) => Told::Unknown(status),
        }
    }

    /// Workflows with an open run, as a list tells them.
    pub async fn open(&mut self) -> Result<Vec<(String, String)>, fetch::NotFetched> {
        let namespace = self.load.namespace.clone();
        fetch::list(&mut self.caller, &namespace, "ExecutionStatus = 'Running'").await
    }

    async fn count(&mut self) {
        let query = format!("WorkflowType = '{WORKFLOW_TYPE}'");
        let request = CountWorkflowExecutionsRequest { namespace: self.load.namespace.clone(), query };
        let op = self.journal.invoke(self.process, "count", "", Value::Null);
        match self.caller.ask(request, |mut c, r| async move { c.count_workflow_executions(r).await }).await {
            Told::Ok(answer) => self.journal.ok(op, json!(answer.count)),
            Told::Fail(status) | Told::Unknown(status) => self.journal.fail(op, &describe(&status)),
        }
    }

    async fn cancel(&mut self, id: &str) {
        let request = RequestCancelWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_execution: Some(workflow(id)),
            identity: self.identity(),
            request_id: self.caller.fresh_id(),
            reason: "on purpose".into(),
            ..Default::default()
        };
        let op = self.journal.invoke(self.process, "cancel", id, Value::Null);
        let call = |mut c: super::call::Client, r| async move { c.request_cancel_workflow_execution(r).await };
        let told = self.caller.ask(request, call).await;
        self.end(op, &told, |_| Value::Null);
    }

    async fn terminate(&mut self, id: &str) {
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_execution: Some(workflow(id)),
            identity: self.identity(),
            reason: "on purpose".into(),
            ..Default::default()
        };
        let op = self.journal.invoke(self.process, "terminate", id, Value::Null);
        let call = |mut c: super::call::Client, r| async move { c.terminate_workflow_execution(r).await };
        let told = self.caller.ask(request, call).await;
        self.end(op, &told, |_| Value::Null);
    }

    /// Waits, for the length of one poll, for the end of a workflow's latest run.
    async fn result(&mut self, id: &str) {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: self.load.namespace.clone(),
            execution: Some(workflow(id)),
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
            ..Default::default()
        };
        let op = self.journal.invoke(self.process, "result", id, Value::Null);
        let call = |mut c: super::call::Client, r| async move { c.get_workflow_execution_history(r).await };
        match self.caller.once(request, self.load.timings.call, call).await {
            Ok(page) => match fetch::decode(page.history.as_deref()) {
                Ok(events) if !events.is_empty() => {
                    let last = events.last().map(|event| (event.event_type(), event.event_id));
                    let (kind, event_id) = last.unwrap_or((EventType::Unspecified, 0));
                    self.journal.ok(op, json!({ "event": kind.as_str_name(), "event_id": event_id }));
                }
                Ok(_) => self.journal.fail(op, "still open"),
                Err(error) => self.journal.fail(op, &error.to_string()),
            },
            Err(status) => self.journal.fail(op, &describe(&status)),
        }
    }
}

/// What the journal says of an acknowledged signal. A server knows a repeated request within one run; the one after it, continued as new,
/// does not know what was asked of the first.
fn acknowledged(number: i64, repeated: bool) -> Value {
    if repeated { json!({ "signal": number, "repeated": true }) } else { json!(number) }
}

fn workflow(id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: id.to_owned(), run_id: String::new() }
}

fn wait() -> update::WaitPolicy {
    update::WaitPolicy { lifecycle_stage: Stage_::Completed.into() }
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// An update's outcome, once it has one.
enum Outcome {
    Answer(Value),
    /// By the workflow's own validator: it was not executed.
    Rejected(String),
    /// It was accepted, perhaps, and its run closed before it was done.
    CutOff(String),
}

fn outcome(answer: &UpdateWorkflowExecutionResponse) -> Option<Outcome> {
    Some(match answer.outcome.as_ref()?.value.as_ref()? {
        update::outcome::Value::Success(result) => match read_payload(Some(result)) {
            Ok(answer) => Outcome::Answer(answer),
            Err(error) => Outcome::CutOff(format!("an answer that is none: {error}")),
        },
        update::outcome::Value::Failure(failure) => match &failure.failure_info {
            Some(FailureInfo::ApplicationFailureInfo(info)) if info.r#type == FAILURE_TYPE => {
                Outcome::Rejected(failure.message.clone())
            }
            _ => Outcome::CutOff(failure.message.clone()),
        },
    })
}
