//! One workflow id at a time: starts under every policy, signals with start, describes, terminations and completions race on few ids, and each
//! id must behave as if they had come one after another (A1-A5).
//!
//! A start carries its number in the run's memo, so that every answer can be told by it, whatever run id the server chose. An id is left
//! after some operations and another one begun: the search for an order stays small. Ids are described on every node at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::model::start::{StartRegister as Model, numbers_match_runs};
use stanchion_proof::check::{Verdict, linearizable};
use stanchion_proof::drive::{number_of, run_in_the_way};
use stanchion_proof::journal::{Completion, OpId, Operation};
use stanchion_proto::temporal::common::v1::{Memo, WorkflowType};
use stanchion_proto::temporal::enums::v1::{
    WorkflowExecutionStatus, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use super::Workload;
use super::decider::{Crew, Decision, Hired, Script, Task, execution};
use super::starting::{answer_of, end_unanswered};
use crate::client::{Client, Outcome, json_payloads};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 6;
const IDS_AT_ONCE: usize = 3;
const OPERATIONS_AN_ID: u64 = 60;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_READ_WITHIN: Duration = Duration::from_secs(30);
const QUEUE: &str = "jepsen-starts";
const FINISH: &str = "finish";

#[derive(Default)]
pub struct StartRegister {
    state: Mutex<State>,
    hired: Hired,
}

#[derive(Default)]
struct State {
    ids: Vec<Id>,
    begun: u64,
    starts: u64,
}

#[derive(Clone)]
struct Id {
    name: String,
    operations: u64,
    /// The last start that somebody was told of: its number and run.
    last: Option<(u64, String)>,
}

impl Workload for StartRegister {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut crew = Crew::begin();
            let script: Script = Arc::new(script);
            crew.decide(scene, QUEUE, 3, &script)?;
            self.hired.hire(crew);
            let mut state = self.state.lock();
            for _ in 0..IDS_AT_ONCE {
                let id = state.new_id();
                state.ids.push(id);
            }
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("start-register", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.hired.dismiss().await;
            let operations = scene.journal.operations();
            let names: BTreeSet<&str> =
                operations.iter().map(|op| op.key.as_str()).filter(|key| !key.is_empty()).collect();
            for number in scene.cluster.numbers() {
                let mut client = scene.client_of(number, "start-register last");
                for name in &names {
                    if !describe(&mut client, name, "", FINAL_READ_WITHIN).await {
                        bail!("{name} cannot be described by n{number} on a healed cluster");
                    }
                }
            }
            // Runs of which nothing but the id was told: their own memo says of which start they are.
            let known: BTreeSet<String> = pairs(&scene.journal.operations()).into_iter().map(|(_, run)| run).collect();
            let mut client = scene.client("start-register runs");
            for (name, run) in operations.iter().filter_map(|op| Some((op.key.as_str(), other_run(op)?))) {
                if !known.contains(&run) && !describe(&mut client, name, &run, FINAL_READ_WITHIN).await {
                    bail!("run {run} of {name} cannot be described on a healed cluster");
                }
            }
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        judge(&scene.journal.operations())
    }
}

/// Completes a run once it was told to; else it stays as it is.
fn script(task: &Task) -> Decision {
    let mut decision = Decision::default();
    let told = task.events.iter().any(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) => signal.signal_name == FINISH,
        _ => false,
    });
    let memo = task.events.first().and_then(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => number_of(started.memo.as_ref()),
        _ => None,
    });
    if let (true, Some(n)) = (told, memo) {
        decision.complete(&Value::Null);
        decision.noted = Some(("complete", task.workflow_id.clone(), json!({ "n": n })));
    }
    decision
}

impl State {
    fn new_id(&mut self) -> Id {
        self.begun += 1;
        Id { name: format!("id-{:05}", self.begun), operations: 0, last: None }
    }

    fn told(&mut self, name: &str, n: u64, run: &str) {
        if let Some(id) = self.ids.iter_mut().find(|id| id.name == name) {
            id.last = Some((n, run.to_owned()));
        }
    }
}

impl StartRegister {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let id = self.some_id(&mut client);
            match client.chance.random_range(0..100) {
                0..30 => self.start(&mut client, &id, false).await,
                30..40 => self.start(&mut client, &id, true).await,
                40..65 => {
                    describe(&mut client, &id.name, "", OPERATION_WITHIN).await;
                }
                65..80 => terminate(&mut client, &id).await,
                _ => signal(&mut client, &id).await,
            }
            let ms = client.chance.random_range(2..30);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    fn some_id(&self, client: &mut Client) -> Id {
        let mut state = self.state.lock();
        let at = client.chance.random_range(0..state.ids.len());
        if state.ids[at].operations >= OPERATIONS_AN_ID {
            state.ids[at] = state.new_id();
        }
        state.ids[at].operations += 1;
        state.ids[at].clone()
    }

    async fn start(&self, client: &mut Client, id: &Id, with_signal: bool) {
        let n = {
            let mut state = self.state.lock();
            state.starts += 1;
            state.starts
        };
        // What goes together: the deprecated policy stands for both; a rejected duplicate terminates nothing; signals find what is open.
        let choices: &[(&str, Reuse, &str, Conflict)] = &[
            ("allow", Reuse::AllowDuplicate, "fail", Conflict::Fail),
            ("allow", Reuse::AllowDuplicate, "use", Conflict::UseExisting),
            ("allow", Reuse::AllowDuplicate, "terminate", Conflict::TerminateExisting),
            ("failed-only", Reuse::AllowDuplicateFailedOnly, "fail", Conflict::Fail),
            ("failed-only", Reuse::AllowDuplicateFailedOnly, "use", Conflict::UseExisting),
            ("failed-only", Reuse::AllowDuplicateFailedOnly, "terminate", Conflict::TerminateExisting),
            ("reject", Reuse::RejectDuplicate, "fail", Conflict::Fail),
            ("reject", Reuse::RejectDuplicate, "use", Conflict::UseExisting),
            #[allow(deprecated)]
            ("terminate", Reuse::TerminateIfRunning, "", Conflict::Unspecified),
        ];
        let choices: Vec<_> =
            choices.iter().filter(|(.., conflict)| !with_signal || *conflict != Conflict::Fail).collect();
        let (reuse_name, reuse, conflict_name, conflict) = *choices[client.chance.random_range(0..choices.len())];
        let f = if with_signal { "signal-with-start" } else { "start" };
        let input = json!({ "n": n, "reuse": reuse_name, "conflict": conflict_name });
        let op = client.journal.invoke(client.process, f, &id.name, input);
        let memo = Memo {
            fields: json_payloads(&json!(n)).payloads.into_iter().map(|payload| ("n".to_owned(), payload)).collect(),
        };
        let request = StartWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: id.name.clone(),
            workflow_type: Some(WorkflowType { name: "Register".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            request_id: Uuid::from_u128(client.chance.random()).to_string(),
            identity: "jepsen".into(),
            workflow_id_reuse_policy: reuse as i32,
            workflow_id_conflict_policy: conflict as i32,
            memo: Some(memo),
            ..Default::default()
        };
        // Not repeated when its outcome is not known: a signal with start that was sent again after its run had closed would start a second one.
        // The server itself repeats starts over a failover (docs/decisions/17). Repeated starts are what all other workloads send.
        let outcome = if with_signal {
            let request = SignalWithStartWorkflowExecutionRequest {
                namespace: request.namespace,
                workflow_id: request.workflow_id,
                workflow_type: request.workflow_type,
                task_queue: request.task_queue,
                request_id: request.request_id,
                identity: request.identity,
                workflow_id_reuse_policy: request.workflow_id_reuse_policy,
                workflow_id_conflict_policy: request.workflow_id_conflict_policy,
                memo: request.memo,
                signal_name: "note".into(),
                ..Default::default()
            };
            client
                .once(|mut service| async move {
                    service.signal_with_start_workflow_execution(request).await.map(|reply| reply.into_inner())
                })
                .await
                .map(|reply| (reply.run_id, reply.started))
        } else {
            client
                .once(|mut service| async move {
                    service.start_workflow_execution(request).await.map(|reply| reply.into_inner())
                })
                .await
                .map(|reply| (reply.run_id, reply.started))
        };
        match outcome {
            Outcome::Ok { reply: (run, started), .. } => {
                if started {
                    self.state.lock().told(&id.name, n, &run);
                }
                client.journal.ok(op, json!({ "run": run, "started": started }));
            }
            Outcome::Refused { status, certain: true, .. } if status.code() == Code::AlreadyExists => {
                match run_in_the_way(&status) {
                    Some(run) => client.journal.ok(op, json!({ "refused": run })),
                    None => client.journal.fail(op, &format!("AlreadyExists without details: {}", status.message())),
                }
            }
            ended => end_unanswered(client, op, ended),
        }
    }
}

async fn terminate(client: &mut Client, id: &Id) {
    let named = id.last.clone().filter(|_| client.chance.random_bool(0.5));
    let (input, run) = match &named {
        Some((n, run)) => (json!({ "n": n }), run.clone()),
        None => (json!({}), String::new()),
    };
    let op = client.journal.invoke(client.process, "terminate", &id.name, input);
    let request = TerminateWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: Some(execution(&id.name, &run)),
        identity: "jepsen".into(),
        ..Default::default()
    };
    let call = |mut service: crate::client::Service| {
        let request = request.clone();
        async move { service.terminate_workflow_execution(request).await.map(|_| ()) }
    };
    // Whatever is open: repeated, it could end a run that was started meanwhile. A named run can be ended once.
    let outcome = if named.is_some() { client.call(OPERATION_WITHIN, call).await } else { client.once(call).await };
    end_refusable(client, op, outcome);
}

async fn signal(client: &mut Client, id: &Id) {
    let name = if client.chance.random_bool(0.5) { FINISH } else { "note" };
    let op = client.journal.invoke(client.process, "signal", &id.name, json!({ "name": name }));
    let request = SignalWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: Some(execution(&id.name, "")),
        signal_name: name.into(),
        request_id: Uuid::from_u128(client.chance.random()).to_string(),
        identity: "jepsen".into(),
        ..Default::default()
    };
    let outcome = client
        .call(OPERATION_WITHIN, |mut service| {
            let request = request.clone();
            async move { service.signal_workflow_execution(request).await.map(|_| ()) }
        })
        .await;
    end_refusable(client, op, outcome);
}

/// Journals a call that is refused when nothing is open, which is an answer.
fn end_refusable(client: &mut Client, op: OpId, outcome: Outcome<()>) {
    match outcome {
        Outcome::Ok { .. } => client.journal.ok(op, json!({})),
        Outcome::Refused { status, certain: true, .. } if status.code() == Code::NotFound => {
            client.journal.ok(op, json!({ "refused": true, "why": status.message() }));
        }
        ended => end_unanswered(client, op, ended),
    }
}

/// Whether it was answered. With a run named it says of which start that run is, and nothing about the id.
async fn describe(client: &mut Client, name: &str, run: &str, within: Duration) -> bool {
    let f = if run.is_empty() { "describe" } else { "describe-run" };
    let op = client.journal.invoke(client.process, f, name, json!({ "run": run }));
    let request =
        DescribeWorkflowExecutionRequest { namespace: NAMESPACE.into(), execution: Some(execution(name, run)) };
    let outcome = client
        .call(within, |mut service| {
            let request = request.clone();
            async move { service.describe_workflow_execution(request).await.map(|reply| reply.into_inner()) }
        })
        .await;
    if let Outcome::Refused { status, .. } = &outcome
        && status.code() == Code::NotFound
    {
        client.journal.ok(op, json!({ "none": true }));
        return true;
    }
    let told = outcome.map(|reply| described(&reply.workflow_execution_info.unwrap_or_default()));
    answer_of(client, op, told, Value::clone).is_some()
}

fn described(info: &WorkflowExecutionInfo) -> Value {
    let status = match info.status() {
        WorkflowExecutionStatus::Running => "running".to_owned(),
        WorkflowExecutionStatus::Completed => "completed".to_owned(),
        WorkflowExecutionStatus::Terminated => "terminated".to_owned(),
        other => format!("{other:?}"),
    };
    let run = info.execution.as_ref().map(|execution| execution.run_id.clone()).unwrap_or_default();
    json!({ "n": number_of(info.memo.as_ref()), "run": run, "status": status })
}

/// A run that a start was told of and that was not its own: the one in its way, or the one that it found open.
fn other_run(operation: &Operation) -> Option<String> {
    let answer = operation.ok()?;
    let found = || answer.get("run").filter(|_| answer.get("started").is_some());
    answer.get("refused").or_else(found)?.as_str().map(str::to_owned)
}

/// Which run is of which start, as any answer told it.
fn pairs(operations: &[Operation]) -> Vec<(u64, String)> {
    let told = |operation: &Operation| {
        let answer = operation.ok()?;
        let run = answer.get("run")?.as_str()?.to_owned();
        let n = match operation.f.as_str() {
            "describe" | "describe-run" => answer.get("n")?.as_u64()?,
            _ if answer.get("started")?.as_bool()? => operation.input.get("n")?.as_u64()?,
            _ => return None,
        };
        Some((n, run))
    };
    operations.iter().filter_map(told).collect()
}

/// Answers name runs; the model knows them by their starts' numbers.
fn by_number(operation: &Operation, runs: &BTreeMap<String, u64>) -> Operation {
    let mut operation = operation.clone();
    if let Completion::Ok { value, .. } = &mut operation.completion {
        let number = |run: &Value| run.as_str().and_then(|run| runs.get(run)).map_or(Value::Null, |n| json!(n));
        if let Some(run) = value.get("refused").filter(|run| run.is_string()).cloned() {
            value["refused"] = number(&run);
        }
        if value.get("started").is_some() {
            value["n"] = number(&value["run"]);
        }
    }
    operation
}

fn judge(operations: &[Operation]) -> Vec<Verdict> {
    let pairs = pairs(operations);
    let runs: BTreeMap<String, u64> = pairs.iter().map(|(n, run)| (run.clone(), *n)).collect();
    let operations: Vec<Operation> = operations.iter().map(|operation| by_number(operation, &runs)).collect();
    vec![
        linearizable::check("each workflow id is linearizable under all policies", "A3", &Model, &operations),
        numbers_match_runs(pairs.iter().map(|(n, run)| (*n, run.as_str()))),
    ]
}
