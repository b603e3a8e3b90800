//! Lists and counts that race with starts and closes: each sees what was acknowledged before it was asked for, and at rest all nodes tell the
//! same (I1-I3).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::{Verdict, visibility};
use stanchion_proto::temporal::workflowservice::v1::{
    CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest, TerminateWorkflowExecutionRequest,
};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::decider::execution;
use super::starting::{NOBODY, answer_of, end_unanswered, start};
use crate::client::{Client, Outcome};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 6;
/// All rows fit a page: a list of several pages is no single read.
const STARTS_MAX: u64 = 600;
const PAGE: i32 = 1_000;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
const TYPE: &str = "JepsenListed";

#[derive(Default)]
pub struct Visibility {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: u64,
    open: Vec<(String, String)>,
    at_rest: BTreeMap<&'static str, BTreeMap<String, (Vec<String>, u64)>>,
}

const QUESTIONS: [&str; 3] = ["all", "open", "closed"];

fn query(which: &str) -> String {
    match which {
        "open" => format!("WorkflowType = '{TYPE}' AND ExecutionStatus = 'Running'"),
        "closed" => format!("WorkflowType = '{TYPE}' AND ExecutionStatus = 'Terminated'"),
        _ => format!("WorkflowType = '{TYPE}'"),
    }
}

impl Workload for Visibility {
    fn setup<'a>(&'a self, _: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Ok(()) })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("visibility", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for number in scene.cluster.numbers() {
                let mut client = scene.client_of(number, "visibility last");
                for which in QUESTIONS {
                    let (Some(rows), Some(count)) =
                        (list(&mut client, which, FINAL_WITHIN).await, count(&mut client, which, FINAL_WITHIN).await)
                    else {
                        bail!("n{number} does not list and count on a healed cluster");
                    };
                    self.state.lock().at_rest.entry(which).or_default().insert(format!("n{number}"), (rows, count));
                }
            }
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        let operations = scene.journal.operations();
        let mut verdicts = vec![visibility::lists(&operations), visibility::counts(&operations)];
        for (which, told) in &self.state.lock().at_rest {
            let mut verdict = visibility::at_rest(told);
            verdict.name = format!("{} ({which})", verdict.name);
            verdicts.push(verdict);
        }
        verdicts
    }
}

impl Visibility {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let which = QUESTIONS[client.chance.random_range(0..QUESTIONS.len())];
            match client.chance.random_range(0..100) {
                0..35 => self.start(&mut client).await,
                35..60 => self.close(&mut client).await,
                60..85 => {
                    list(&mut client, which, OPERATION_WITHIN).await;
                }
                _ => {
                    count(&mut client, which, OPERATION_WITHIN).await;
                }
            }
            let ms = client.chance.random_range(10..80);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn start(&self, client: &mut Client) {
        let name = {
            let mut state = self.state.lock();
            if state.begun >= STARTS_MAX {
                return;
            }
            state.begun += 1;
            format!("listed-{:05}", state.begun)
        };
        if let Some(run_id) = start(client, &name, TYPE, NOBODY, Value::Null, OPERATION_WITHIN).await {
            self.state.lock().open.push((name, run_id));
        }
    }

    async fn close(&self, client: &mut Client) {
        let (name, run) = {
            let mut state = self.state.lock();
            if state.open.is_empty() {
                return;
            }
            let at = client.chance.random_range(0..state.open.len());
            state.open.swap_remove(at)
        };
        let request = TerminateWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(execution(&name, &run)),
            identity: "jepsen".into(),
            ..Default::default()
        };
        let op = client.journal.invoke(client.process, "close", &name, Value::Null);
        let closed = client
            .call(OPERATION_WITHIN, |mut service| {
                let request = request.clone();
                async move { service.terminate_workflow_execution(request).await.map(|_| ()) }
            })
            .await;
        match closed {
            Outcome::Ok { .. } => client.journal.ok(op, Value::Null),
            ended => end_unanswered(client, op, ended),
        }
    }
}

async fn list(client: &mut Client, which: &str, within: Duration) -> Option<Vec<String>> {
    let request = ListWorkflowExecutionsRequest {
        namespace: NAMESPACE.into(),
        page_size: PAGE,
        query: query(which),
        ..Default::default()
    };
    let op = client.journal.invoke(client.process, "list", "", json!({ "which": which }));
    let listed = client
        .call(within, |mut service| {
            let request = request.clone();
            async move { service.list_workflow_executions(request).await.map(|reply| reply.into_inner()) }
        })
        .await;
    let listed = listed.map(|reply| {
        let ids = reply.executions.into_iter().filter_map(|info| Some(info.execution?.workflow_id));
        ids.collect::<Vec<String>>()
    });
    answer_of(client, op, listed, |rows| json!(rows))
}

async fn count(client: &mut Client, which: &str, within: Duration) -> Option<u64> {
    let request = CountWorkflowExecutionsRequest { namespace: NAMESPACE.into(), query: query(which) };
    let op = client.journal.invoke(client.process, "count", "", json!({ "which": which }));
    let counted = client
        .call(within, |mut service| {
            let request = request.clone();
            async move { service.count_workflow_executions(request).await.map(|reply| reply.into_inner()) }
        })
        .await;
    answer_of(client, op, counted.map(|reply| reply.count.unsigned_abs()), |count| json!({ "count": count }))
}
