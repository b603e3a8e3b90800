//! Lists that only grow: a run is a list, a signal appends a unique integer, and the run's history is the list as read.
//!
//! Appends go to any node and are repeated with the same request id; reads ask any node. What must hold: an acknowledged append is in the
//! list once, one of unknown outcome at most once, a refused one never (E1); one sender's acknowledged appends keep their order (E2);
//! and each list is linearizable: every read is a prefix of the last one, holds what was acknowledged before it began, and no later read
//! is shorter (B1, B3). There are no workers: signals are recorded whether or not anybody executes the run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::Verdict;
use stanchion_proof::journal::{Completion, Operation};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::SignalWorkflowExecutionRequest;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Workload;
use super::starting::{NOBODY, answer_of, end_unanswered, start};
use crate::client::{Client, Outcome, from_payloads, json_payloads};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 10;
const LISTS_AT_ONCE: usize = 4;
/// A list that has so many appends is left, and another one begun.
const APPENDS_A_LIST: u64 = 120;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
/// On a healed cluster everything answers.
const FINAL_READ_WITHIN: Duration = Duration::from_secs(30);
const SIGNAL: &str = "append";

#[derive(Default)]
pub struct SignalList {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lists: Vec<List>,
    begun: u64,
    next_value: u64,
    /// Every list whose start was acknowledged.
    all: Vec<(String, String)>,
    /// Final reads: list to node to what it read.
    last: BTreeMap<String, BTreeMap<u64, Vec<u64>>>,
}

#[derive(Clone)]
struct List {
    workflow_id: String,
    run_id: String,
    appends: u64,
}

impl Workload for SignalList {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut client = scene.client("signal-list setup");
            for _ in 0..LISTS_AT_ONCE {
                if !self.begin_list(&mut client, None).await {
                    bail!("a healthy cluster did not start a run within {OPERATION_WITHIN:?}");
                }
            }
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("signal-list", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let all = self.state.lock().all.clone();
            for number in scene.cluster.numbers() {
                let mut client = scene.client_of(number, "signal-list last");
                for (workflow_id, run_id) in &all {
                    let op = client.journal.invoke(client.process, "read", workflow_id, json!({ "last": true }));
                    match read(&mut client, workflow_id, run_id, FINAL_READ_WITHIN).await {
                        Outcome::Ok { reply, node } => {
                            self.state.lock().last.entry(workflow_id.clone()).or_default().insert(node, reply.clone());
                            client.journal.ok(op, json!(reply));
                        }
                        Outcome::Refused { status, .. } => client.journal.fail(op, status.message()),
                        Outcome::Unknown(why) => {
                            bail!("{workflow_id} cannot be read from n{number} on a healed cluster: {why}")
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        judge(&scene.journal.operations(), &state.last, scene.cluster.nodes.len())
    }
}

impl SignalList {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let lists = self.state.lock().lists.clone();
            let at = client.chance.random_range(0..lists.len());
            let list = &lists[at];
            if list.appends >= APPENDS_A_LIST {
                self.begin_list(&mut client, Some(&list.workflow_id)).await;
            } else if client.chance.random_range(0..100) < 65 {
                self.append(&mut client, list).await;
            } else {
                let op = client.journal.invoke(client.process, "read", &list.workflow_id, Value::Null);
                let told = read(&mut client, &list.workflow_id, &list.run_id, OPERATION_WITHIN).await;
                answer_of(&client, op, told, |reply| json!(reply));
            }
            tokio::time::sleep(Duration::from_millis(client.chance.random_range(5..40))).await;
        }
    }

    /// Starts a run that takes the place of `instead_of`. Whether it was acknowledged.
    async fn begin_list(&self, client: &mut Client, instead_of: Option<&str>) -> bool {
        let workflow_id = {
            let mut state = self.state.lock();
            if let Some(old) = instead_of {
                // Another lane was first.
                if !state.lists.iter().any(|list| list.workflow_id == old) {
                    return false;
                }
            }
            state.begun += 1;
            format!("list-{:05}", state.begun)
        };
        let Some(run_id) = start(client, &workflow_id, "List", NOBODY, Value::Null, OPERATION_WITHIN).await else {
            return false;
        };
        let list = List { workflow_id: workflow_id.clone(), run_id: run_id.clone(), appends: 0 };
        let mut state = self.state.lock();
        state.all.push((workflow_id, run_id));
        match state.lists.iter_mut().find(|list| Some(list.workflow_id.as_str()) == instead_of) {
            Some(place) => *place = list,
            None => state.lists.push(list),
        }
        true
    }

    async fn append(&self, client: &mut Client, list: &List) {
        let value = {
            let mut state = self.state.lock();
            state.next_value += 1;
            if let Some(list) = state.lists.iter_mut().find(|other| other.workflow_id == list.workflow_id) {
                list.appends += 1;
            }
            state.next_value
        };
        let request = SignalWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(WorkflowExecution {
                workflow_id: list.workflow_id.clone(),
                run_id: list.run_id.clone(),
            }),
            signal_name: SIGNAL.into(),
            input: Some(json_payloads(&json!(value))),
            request_id: Uuid::from_u128(client.chance.random()).to_string(),
            identity: "jepsen".into(),
            ..Default::default()
        };
        let op = client.journal.invoke(client.process, "append", &list.workflow_id, json!(value));
        let sent = client
            .call(OPERATION_WITHIN, |mut service| {
                let request = request.clone();
                async move { service.signal_workflow_execution(request).await.map(tonic::Response::into_inner) }
            })
            .await;
        match sent {
            Outcome::Ok { .. } => client.journal.ok(op, Value::Null),
            ended => end_unanswered(client, op, ended),
        }
    }
}

/// The list as a history tells it.
pub async fn read(client: &mut Client, workflow_id: &str, run_id: &str, within: Duration) -> Outcome<Vec<u64>> {
    let (node, events) = match client.history(workflow_id, run_id, within).await {
        Outcome::Ok { node, reply } => (node, reply),
        Outcome::Refused { status, certain } => return Outcome::Refused { status, certain },
        Outcome::Unknown(why) => return Outcome::Unknown(why),
    };
    let mut values = Vec::new();
    for event in events {
        if let Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) = event.attributes {
            // A payload that is not what was sent is a value that nobody appended.
            values.push(from_payloads(signal.input.as_ref()).and_then(|value| value.as_u64()).unwrap_or(u64::MAX));
        }
    }
    Outcome::Ok { node, reply: values }
}

/// See the module for the rules.
fn judge(operations: &[Operation], last: &BTreeMap<String, BTreeMap<u64, Vec<u64>>>, nodes: usize) -> Vec<Verdict> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    let mut exist = Verdict::new("acknowledged appends are in the list, once");
    let mut order = Verdict::new("appends stand in the order in which they were acknowledged");
    let mut prefixes = Verdict::new("every read is a prefix of the last one");
    let mut times = Verdict::new("reads see what was acknowledged before them, and never less than an earlier read");
    let mut equal = Verdict::new("all nodes read the same list at the end");
    let mut starts = Verdict::new("acknowledged starts exist");
    for (key, operations) in keys {
        let reads_at_end = last.get(key);
        let begun = operations.iter().find(|op| op.f == "start" && matches!(op.completion, Completion::Ok { .. }));
        if let Some(start) = begun {
            starts.looked_at += 1;
            if reads_at_end.is_none() {
                starts.violate(
                    "A1",
                    format!("{key}: its start was acknowledged and no node has it"),
                    vec![shown(start)],
                );
            }
        }
        let Some(reads_at_end) = reads_at_end else { continue };
        let Some(whole) = reads_at_end.values().max_by_key(|list| list.len()) else { continue };
        for (node, list) in reads_at_end {
            equal.looked_at += 1;
            if list != whole {
                let what = format!("{key}: n{node} reads another list than the others at the end");
                equal.violate("B2", what, vec![format!("n{node}: {list:?}"), format!("others: {whole:?}")]);
            }
        }
        if reads_at_end.len() < nodes {
            equal.violate("B2", format!("{key}: only {} of {nodes} nodes could read it", reads_at_end.len()), vec![]);
        }
        check_appends(key, &operations, whole, &mut exist, &mut order);
        check_reads(key, &operations, whole, &mut prefixes, &mut times);
    }
    vec![starts, exist, order, prefixes, times, equal]
}

fn check_appends(key: &str, operations: &[&Operation], whole: &[u64], exist: &mut Verdict, order: &mut Verdict) {
    let mut count: BTreeMap<u64, usize> = BTreeMap::new();
    for value in whole {
        *count.entry(*value).or_default() += 1;
    }
    let mut asked = BTreeSet::new();
    for operation in operations.iter().filter(|op| op.f == "append") {
        let Some(value) = operation.input.as_u64() else { continue };
        asked.insert(value);
        let times = count.get(&value).copied().unwrap_or(0);
        exist.looked_at += 1;
        let wrong = match &operation.completion {
            Completion::Ok { .. } => (times != 1).then_some("was acknowledged"),
            Completion::Fail { .. } => (times != 0).then_some("was refused"),
            Completion::Info { .. } | Completion::Pending => (times > 1).then_some("is of unknown outcome"),
        };
        if let Some(how) = wrong {
            exist.violate(
                "E1",
                format!("{key}: the append of {value} {how}, and is in the list {times} times"),
                vec![shown(operation)],
            );
        }
    }
    for value in count.keys().filter(|value| !asked.contains(value)) {
        exist.violate("E1", format!("{key}: {value} is in the list and nobody appended it"), vec![]);
    }
    check_order(key, operations, whole, order);
}

/// An append that was acknowledged before another was sent stands before it: one sender's appends above all, and anybody's.
fn check_order(key: &str, operations: &[&Operation], whole: &[u64], order: &mut Verdict) {
    let place: BTreeMap<u64, usize> = whole.iter().enumerate().map(|(at, value)| (*value, at)).collect();
    let appends = operations.iter().copied().filter(|op| op.f == "append");
    let placed: Vec<(usize, &Operation)> =
        appends.filter_map(|op| Some((*place.get(&op.input.as_u64()?)?, op))).collect();
    let mut acknowledged: Vec<(u64, usize, &Operation)> = placed
        .iter()
        .filter_map(|(place, op)| match op.completion {
            Completion::Ok { at, .. } => Some((at, *place, *op)),
            _ => None,
        })
        .collect();
    acknowledged.sort_by_key(|(at, ..)| *at);
    let mut furthest: Option<(usize, &Operation)> = None;
    let mut next = 0;
    // Operations come in the order of their invocations.
    for (place, second) in placed {
        while let Some((_, at, first)) = acknowledged.get(next).filter(|(at, ..)| *at < second.invoked) {
            if furthest.is_none_or(|(so_far, _)| *at > so_far) {
                furthest = Some((*at, first));
            }
            next += 1;
        }
        order.looked_at += 1;
        if let Some((_, first)) = furthest.filter(|(at, _)| *at > place) {
            let what = format!(
                "{key}: {} was acknowledged before {} was sent, and stands after it",
                first.input, second.input
            );
            order.violate("E2", what, vec![shown(first), shown(second)]);
        }
    }
}

fn check_reads(key: &str, operations: &[&Operation], whole: &[u64], prefixes: &mut Verdict, times: &mut Verdict) {
    let place: BTreeMap<u64, usize> = whole.iter().enumerate().map(|(at, value)| (*value, at)).collect();
    // What was certainly visible, with the moment from which: the end of an append or of a read.
    let mut visible: Vec<(u64, usize, &Operation)> = Vec::new();
    let mut reads: Vec<(u64, usize, &Operation)> = Vec::new();
    for operation in operations {
        let Completion::Ok { at, value } = &operation.completion else { continue };
        match operation.f.as_str() {
            "append" => {
                if let Some(place) = operation.input.as_u64().and_then(|value| place.get(&value)) {
                    visible.push((*at, place + 1, operation));
                }
            }
            "read" => {
                let Ok(list) = serde_json::from_value::<Vec<u64>>(value.clone()) else { continue };
                prefixes.looked_at += 1;
                if !whole.starts_with(&list) {
                    let at = list.iter().zip(whole).position(|(a, b)| a != b).unwrap_or(whole.len());
                    let what = format!(
                        "{key}: a read differs from the last one at place {at}: {:?} there, {:?} at the end",
                        list.get(at),
                        whole.get(at)
                    );
                    prefixes.violate("B1", what, vec![shown(operation)]);
                    continue;
                }
                visible.push((*at, list.len(), operation));
                reads.push((operation.invoked, list.len(), operation));
            }
            _ => (),
        }
    }
    visible.sort_by_key(|(at, ..)| *at);
    reads.sort_by_key(|(at, ..)| *at);
    let mut longest: Option<(usize, &Operation)> = None;
    let mut next = 0;
    for (invoked, length, read) in reads {
        while let Some((_, seen, operation)) = visible.get(next).filter(|(at, ..)| *at < invoked) {
            if longest.is_none_or(|(so_far, _)| *seen > so_far) {
                longest = Some((*seen, operation));
            }
            next += 1;
        }
        times.looked_at += 1;
        if let Some((seen, earlier)) = longest.filter(|(seen, _)| *seen > length) {
            let what = format!("{key}: a read returned {length} values, though {seen} were there before it began");
            times.violate("B3", what, vec![shown(earlier), shown(read)]);
        }
    }
}

/// One operation on one line.
fn shown(operation: &Operation) -> String {
    let text = format!(
        "process {} {} {} {}, invoked {:.6} s: {:?}",
        operation.process,
        operation.f,
        operation.key,
        operation.input,
        operation.invoked as f64 / 1e9,
        operation.completion
    );
    if text.chars().count() > 400 { format!("{}…", text.chars().take(400).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests;
