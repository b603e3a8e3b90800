//! Families: parents that start children, all at once, and end with the sum of what the children say. Every start, every answer to it and
//! every result is a message between runs, most of them between groups: what a lost or doubled one leaves is a family that never ends, a
//! child that was started twice, or a sum that is wrong (G1, C4).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::{Verdict, histories};
use stanchion_proof::history::RunHistory;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::decider::{Crew, Decision, Hired, Script, Task};
use super::reading::{history, history_once_closed};
use super::starting::start;
use crate::client::{Client, from_payloads};
use crate::scene::Scene;

const LANES: usize = 3;
const CHILDREN: u64 = 6;
/// Families that have not ended, at once.
const OPEN_MAX: u64 = 10;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const PARENT: &str = "Parent";
const CHILD: &str = "Child";
const QUEUE: &str = "jepsen-families";

#[derive(Default)]
pub struct Families {
    state: Mutex<State>,
    hired: Hired,
}

#[derive(Default)]
struct State {
    begun: u64,
    closed: Arc<Mutex<u64>>,
    parents: Vec<(String, String)>,
    histories: Vec<RunHistory>,
}

impl Workload for Families {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut crew = Crew::begin();
            let closed = Arc::clone(&self.state.lock().closed);
            let script: Script = Arc::new(move |task| script(task, &closed));
            crew.decide(scene, QUEUE, 8, &script)?;
            self.hired.hire(crew);
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("families", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let parents = self.state.lock().parents.clone();
            let mut client = scene.client("families last");
            let patience = Instant::now() + CLOSED_WITHIN;
            for (name, run) in &parents {
                // What is still open after that is judged as it is: C4.
                let last = history_once_closed(&mut client, name, run, FINAL_WITHIN, patience).await?;
                let children = started_children(&last);
                self.state.lock().histories.push(last);
                for (child, run) in children {
                    let read = history(&mut client, &child, &run, FINAL_WITHIN).await?;
                    self.state.lock().histories.push(read);
                }
            }
            self.hired.dismiss().await;
            Ok(())
        })
    }

    fn check(&self, _: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        vec![families(&state.histories), histories::rules(&state.histories), histories::all_closed(&state.histories)]
    }
}

/// A child says its number; a parent starts all at once and adds up what they say.
fn script(task: &Task, closed: &Mutex<u64>) -> Decision {
    let (mut decision, mut kind, mut input) = (Decision::default(), String::new(), Value::Null);
    let (mut initiated, mut ended, mut sum) = (0, 0, 0);
    for event in &task.events {
        match &event.attributes {
            Some(Attributes::WorkflowExecutionStartedEventAttributes(begun)) => {
                kind = begun.workflow_type.as_ref().map(|kind| kind.name.clone()).unwrap_or_default();
                input = from_payloads(begun.input.as_ref()).unwrap_or_default();
            }
            Some(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(_)) => initiated += 1,
            Some(Attributes::ChildWorkflowExecutionCompletedEventAttributes(child)) => {
                ended += 1;
                sum += from_payloads(child.result.as_ref()).and_then(|value| value.as_u64()).unwrap_or_default();
            }
            _ => {}
        }
    }
    if kind == CHILD {
        decision.complete(&input);
    } else if initiated == 0 {
        for number in 1..=CHILDREN {
            decision.child(&format!("{}-child-{number}", task.workflow_id), CHILD, QUEUE, &json!(number));
        }
    } else if ended == CHILDREN {
        *closed.lock() += 1;
        decision.complete(&json!(sum));
    }
    decision
}

/// The children that a parent was told of, with the runs that it was told.
fn started_children(parent: &RunHistory) -> Vec<(String, String)> {
    let told = parent.events.iter().filter_map(|event| match &event.attributes {
        Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(child)) => child.workflow_execution.clone(),
        _ => None,
    });
    told.map(|child| (child.workflow_id, child.run_id)).collect()
}

/// G1: each child once, in one run, with its own result, and the sum of all.
fn families(all: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("each child is started once, and its result is told to its parent once");
    let expected: u64 = (1..=CHILDREN).sum();
    for parent in all {
        let mut initiated: BTreeMap<&str, u64> = BTreeMap::new();
        let mut started: BTreeMap<String, u64> = BTreeMap::new();
        let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
        let mut sum = None;
        for event in &parent.events {
            match &event.attributes {
                Some(Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(child)) => {
                    *initiated.entry(&child.workflow_id).or_default() += 1;
                }
                Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(child)) => {
                    let child = child.workflow_execution.clone().unwrap_or_default();
                    *started.entry(child.workflow_id).or_default() += 1;
                }
                Some(Attributes::ChildWorkflowExecutionCompletedEventAttributes(child)) => {
                    let name = child.workflow_execution.as_ref().map_or("", |child| child.workflow_id.as_str());
                    *ended.entry(name).or_default() += 1;
                }
                Some(Attributes::WorkflowExecutionCompletedEventAttributes(end)) => {
                    sum = from_payloads(end.result.as_ref()).and_then(|value| value.as_u64());
                }
                _ => {}
            }
        }
        for (child, times) in &initiated {
            verdict.looked_at += 1;
            let (started, ended) = (started.get(*child).copied().unwrap_or(0), ended.get(child).copied().unwrap_or(0));
            if *times != 1 || started > 1 || ended > 1 {
                let what =
                    format!("{child} was asked for {times} times, started {started} times and ended {ended} times");
                verdict.violate("G1", what, vec![parent.workflow_id.clone()]);
            }
        }
        if !initiated.is_empty() && sum.is_some_and(|sum| sum != expected) {
            let what = format!("{}: its children's results come to {sum:?}, not to {expected}", parent.workflow_id);
            verdict.violate("G1", what, Vec::new());
        }
    }
    verdict
}

impl Families {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = Duration::from_millis(client.chance.random_range(10..80));
            tokio::time::sleep(pause).await;
            let name = {
                let mut state = self.state.lock();
                let closed = *state.closed.lock();
                if state.begun >= closed + OPEN_MAX {
                    continue;
                }
                state.begun += 1;
                format!("family-{:05}", state.begun)
            };
            if let Some(run) = start(&mut client, &name, PARENT, QUEUE, Value::Null, OPERATION_WITHIN).await {
                self.state.lock().parents.push((name, run));
            }
        }
    }
}

#[cfg(test)]
mod tests;
