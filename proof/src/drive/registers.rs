//! Registers: workflow ids that several clients start, describe and terminate at the same time, each call at another node; nobody works on
//! their runs. What every answer says must be true of one order of all calls (`check::model::start`): a second open run of an id, or a
//! read that does not know of a write that was acknowledged before it, is none.
//!
//! Each start carries its number in the run's memo, so that histories tell which run is of which start. These clients send nothing twice; what
//! the server repeats over a failover must not make a second run (docs/decisions/17).
//!
//! Called by `drive::run` where a load has registers; judged by [`judge`].

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use rand::Rng;
use serde_json::{Value, json};
use stanchion_proto::temporal::common::v1::{Memo, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{
    WorkflowExecutionStatus, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use stanchion_proto::temporal::errordetails::v1::WorkflowExecutionAlreadyStartedFailure;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, StartWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};
use tonic::{Code, Status};

use super::call::{Caller, Client, had_no_effect};
use super::{Load, Nodes};
use crate::check::model::start::{StartRegister, numbers_match_runs};
use crate::check::{Verdict, linearizable};
use crate::history::RunHistory;
use crate::journal::{Completion, Journal, OpId, Operation};
use crate::program::commands::{normal_queue, payloads};
use crate::program::named;

/// Ids that are played on at one time.
const AT_ONCE: u64 = 2;
/// After so many operations an id is left for a new one: the search for an order stays small.
const OPERATIONS_AN_ID: u64 = 24;

/// What the clients of registers share.
#[derive(Clone, Default)]
pub struct Board {
    shared: Arc<Mutex<Begun>>,
}

#[derive(Default)]
struct Begun {
    operations: u64,
    starts: u64,
    /// The run that a start was last told of.
    last: BTreeMap<String, (u64, String)>,
}

pub struct Registrar<N> {
    load: Arc<Load>,
    journal: Journal,
    board: Board,
    caller: Caller<N>,
    process: u64,
}

impl Load {
    fn register_prefix(&self) -> String {
        format!("register-{:x}-", self.seed)
    }
}

impl<N: Nodes> Registrar<N> {
    pub fn new(load: &Arc<Load>, nodes: &N, journal: &Journal, board: &Board, number: usize) -> Self {
        let dice = named(load.seed, &format!("registrar {number}"));
        Self {
            load: load.clone(),
            journal: journal.clone(),
            board: board.clone(),
            caller: Caller::new(nodes, dice, &load.timings),
            process: journal.new_process(),
        }
    }

    /// Plays until it is dropped.
    pub async fn play(mut self) {
        loop {
            let id = self.some_id();
            self.caller.any_node();
            match self.caller.dice.random_range(0..100) {
                0..30 => self.start(&id).await,
                30..85 => self.describe(&id).await,
                _ => self.terminate(&id).await,
            }
            self.caller.pause(self.load.timings.think).await;
        }
    }

    fn some_id(&mut self) -> String {
        let operations = {
            let mut begun = self.board.shared.lock();
            begun.operations += 1;
            begun.operations
        };
        let number = operations / (AT_ONCE * OPERATIONS_AN_ID) * AT_ONCE + self.caller.dice.random_range(0..AT_ONCE);
        format!("{}{number}", self.load.register_prefix())
    }

    async fn start(&mut self, id: &str) {
        let n = {
            let mut begun = self.board.shared.lock();
            begun.starts += 1;
            begun.starts
        };
        let (name, conflict) = match self.caller.dice.random_range(0..4) {
            0 => ("fail", Conflict::Fail),
            1 => ("use", Conflict::UseExisting),
            _ => ("terminate", Conflict::TerminateExisting),
        };
        let memo = payloads(&n).payloads.into_iter().map(|payload| ("n".to_owned(), payload)).collect();
        let request = StartWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_id: id.to_owned(),
            workflow_type: Some(WorkflowType { name: "register".into() }),
            task_queue: Some(normal_queue("registers")),
            request_id: self.caller.fresh_id(),
            identity: "registrar".into(),
            workflow_id_reuse_policy: Reuse::AllowDuplicate.into(),
            workflow_id_conflict_policy: conflict.into(),
            memo: Some(Memo { fields: memo }),
            ..Default::default()
        };
        let input = json!({ "n": n, "reuse": "allow", "conflict": name });
        let op = self.journal.invoke(self.process, "start", id, input);
        let within = self.load.timings.call;
        let call = |mut c: Client, r| async move { c.start_workflow_execution(r).await };
        match self.caller.once(request, within, call).await {
            Ok(answer) => {
                if answer.started {
                    self.board.shared.lock().last.insert(id.to_owned(), (n, answer.run_id.clone()));
                }
                self.journal.ok(op, json!({ "run": answer.run_id, "started": answer.started }));
            }
            Err(status) => match run_in_the_way(&status) {
                Some(run) => self.journal.ok(op, json!({ "refused": run })),
                None => self.ended(op, &status),
            },
        }
    }

    async fn describe(&mut self, id: &str) {
        let op = self.journal.invoke(self.process, "describe", id, Value::Null);
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            execution: Some(WorkflowExecution { workflow_id: id.to_owned(), run_id: String::new() }),
        };
        // Less than a write has: whoever waits at a node that is cut off reads nothing elsewhere.
        let within = self.load.timings.call / 4;
        let call = |mut c: Client, r| async move { c.describe_workflow_execution(r).await };
        match self.caller.once(request, within, call).await {
            Ok(answer) => self.journal.ok(op, described(&answer.workflow_execution_info.unwrap_or_default())),
            Err(status) if status.code() == Code::NotFound => self.journal.ok(op, json!({ "none": true })),
            // A read has no effect, answered or not.
            Err(status) => self.journal.fail(op, &format!("{:?}: {}", status.code(), status.message())),
        }
    }

    async fn terminate(&mut self, id: &str) {
        let last = self.board.shared.lock().last.get(id).cloned();
        let named = last.filter(|_| self.caller.chance(2));
        let (input, run_id) = match named {
            Some((n, run)) => (json!({ "n": n }), run),
            None => (json!({}), String::new()),
        };
        let op = self.journal.invoke(self.process, "terminate", id, input);
        let request = TerminateWorkflowExecutionRequest {
            namespace: self.load.namespace.clone(),
            workflow_execution: Some(WorkflowExecution { workflow_id: id.to_owned(), run_id }),
            identity: "registrar".into(),
            ..Default::default()
        };
        let within = self.load.timings.call;
        let call = |mut c: Client, r| async move { c.terminate_workflow_execution(r).await };
        match self.caller.once(request, within, call).await {
            Ok(_) => self.journal.ok(op, json!({})),
            Err(status) if status.code() == Code::NotFound => self.journal.ok(op, json!({ "refused": true })),
            Err(status) => self.ended(op, &status),
        }
    }

    fn ended(&mut self, op: OpId, status: &Status) {
        let said = format!("{:?}: {}", status.code(), status.message());
        if had_no_effect(status) {
            return self.journal.fail(op, &said);
        }
        self.journal.info(op, &said);
        self.process = self.journal.new_process();
    }
}

fn described(info: &WorkflowExecutionInfo) -> Value {
    let status = match info.status() {
        WorkflowExecutionStatus::Running => "running",
        WorkflowExecutionStatus::Terminated => "terminated",
        other => other.as_str_name(),
    };
    json!({ "n": number_of(info.memo.as_ref()), "status": status })
}

/// The number that a start of these registers put into its run's memo.
pub fn number_of(memo: Option<&Memo>) -> Option<u64> {
    serde_json::from_slice(&memo?.fields.get("n")?.data).ok()
}

/// google.rpc.Status, which carries the details of an error.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The run that a start was refused for.
pub fn run_in_the_way(status: &Status) -> Option<String> {
    let details = ErrorStatus::decode(status.details()).ok()?.details;
    let detail = details.iter().find(|detail| detail.type_url.ends_with("WorkflowExecutionAlreadyStartedFailure"))?;
    Some(WorkflowExecutionAlreadyStartedFailure::decode(&*detail.value).ok()?.run_id)
}

/// What registers showed, against every history that there is.
pub fn judge(load: &Load, operations: &[Operation], histories: &[RunHistory]) -> Vec<Verdict> {
    let prefix = load.register_prefix();
    let started = |run: &RunHistory| match &run.events.first()?.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => number_of(started.memo.as_ref()),
        _ => None,
    };
    let ours = histories.iter().filter(|run| run.workflow_id.starts_with(&prefix));
    let runs: BTreeMap<&str, u64> = ours.filter_map(|run| Some((&*run.run_id, started(run)?))).collect();
    let mut there = Verdict::new("registers: acknowledged starts are in a history");
    let mut numbered = Vec::new();
    for operation in operations.iter().filter(|operation| operation.key.starts_with(&prefix)) {
        let mut operation = operation.clone();
        let shown = operation.to_string();
        if let Completion::Ok { value, .. } = &mut operation.completion {
            let name = if value.get("refused").is_some_and(Value::is_string) { "refused" } else { "run" };
            if let Some(run) = value.get(name).and_then(Value::as_str).map(str::to_owned) {
                there.looked_at += 1;
                match runs.get(&*run) {
                    Some(n) if name == "run" => value["n"] = json!(n),
                    Some(n) => value[name] = json!(n),
                    None => {
                        there.violate("A1", format!("run {run} was told of, and is in no history"), vec![shown]);
                        continue;
                    }
                }
            }
        }
        numbered.push(operation);
    }
    vec![
        there,
        linearizable::check("registers: each id is linearizable", "A3", &StartRegister, &numbered),
        numbers_match_runs(runs.iter().map(|(run, n)| (*n, *run))),
    ]
}
