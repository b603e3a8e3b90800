//! Steps done by real SDK workers: runs of activities one after another, each fed with the result of the one before.
//!
//! Workers are processes of the published Python SDK that keep a ledger of what they really did (`stanchion_jepsen/worker.py`). What must hold:
//! every acknowledged start is there and its run ends with the right result; an acknowledged step never runs again and no two attempts of
//! one are live at once (D1-D6, H1); what was acknowledged is in the histories; and histories keep the rules of durable execution.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stanchion_proof::check::{Verdict, attempts, histories};
use stanchion_proof::history::RunHistory;
use stanchion_proof::ledger::Line;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::starting::start;
use crate::client::{Client, Outcome, from_payloads};
use crate::scene::Scene;
use crate::workers::read_ledgers;

const TASK_QUEUE: &str = "jepsen-sdk-steps";
/// Runs open at the same time.
const LANES: usize = 8;
const STEPS: u64 = 10;
const SLEEP_MS: u64 = 60;
const START_WITHIN: Duration = Duration::from_secs(10);
const READ_WITHIN: Duration = Duration::from_secs(30);
/// On a healed cluster some run closes at least this often, or none ever will: an attempt that nobody ended times out after eight seconds.
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
pub struct SdkSteps {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: u64,
    /// Acknowledged starts: workflow id to run id.
    started: BTreeMap<String, String>,
    histories: Vec<RunHistory>,
    missing: Vec<String>,
    ledger: Vec<Line>,
}

impl Workload for SdkSteps {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { scene.workers.begin(scene, TASK_QUEUE).await })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            join_all((0..LANES).map(|lane| self.lane(scene.client(&format!("sdk-steps {lane}")), stop.clone()))).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut client = scene.client("sdk-steps last");
            let started = self.state.lock().started.clone();
            let mut last_progress = Instant::now();
            for (workflow_id, run_id) in &started {
                loop {
                    match client.history(workflow_id, run_id, READ_WITHIN).await {
                        Outcome::Ok { reply, .. } => {
                            let closed = reply.last().is_some_and(histories::closes);
                            if closed || last_progress.elapsed() > PROGRESS_WITHIN {
                                if closed {
                                    last_progress = Instant::now();
                                }
                                let run = RunHistory {
                                    workflow_id: workflow_id.clone(),
                                    run_id: run_id.clone(),
                                    events: reply,
                                };
                                self.state.lock().histories.push(run);
                                break;
                            }
                        }
                        Outcome::Refused { status, .. } => {
                            self.state.lock().missing.push(format!("{workflow_id} {run_id}: {}", status.message()));
                            break;
                        }
                        Outcome::Unknown(why) => bail!("{workflow_id} cannot be read on a healed cluster: {why}"),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // Workers write until they end.
            scene.workers.kill_all();
            self.state.lock().ledger = read_ledgers(&scene.out, scene.epoch)?;
            Ok(())
        })
    }

    fn check(&self, _: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        let mut starts = Verdict::new("acknowledged starts exist");
        starts.looked_at = state.started.len() as u64;
        for missing in &state.missing {
            starts.violate("A1", format!("its start was acknowledged, and it is not there: {missing}"), Vec::new());
        }
        let mut verdicts = vec![starts, histories::all_closed(&state.histories), right_results(&state.histories)];
        verdicts.extend(attempts::ledger(&state.ledger));
        verdicts
            .push(attempts::ledger_matches_histories(&known_only(&state.ledger, &state.histories), &state.histories));
        verdicts.push(histories::rules(&state.histories));
        verdicts
    }
}

impl SdkSteps {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Some((workflow_id, run_id)) = self.start(&mut client).await else { continue };
            let op = client.journal.invoke(client.process, "run", &workflow_id, Value::Null);
            loop {
                if let Outcome::Ok { reply, .. } = client.history(&workflow_id, &run_id, START_WITHIN).await
                    && reply.last().is_some_and(histories::closes)
                {
                    client.journal.ok(op, json!({ "events": reply.len() }));
                    break;
                }
                if stop.is_cancelled() {
                    client.journal.info(op, "still open when the load ended");
                    client.go_on_as_another();
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn start(&self, client: &mut Client) -> Option<(String, String)> {
        let workflow_id = {
            let mut state = self.state.lock();
            state.begun += 1;
            format!("steps-{:05}", state.begun)
        };
        let input = json!({ "steps": STEPS, "sleep_ms": SLEEP_MS });
        let run_id = start(client, &workflow_id, "LedgerRun", TASK_QUEUE, input, START_WITHIN).await?;
        self.state.lock().started.insert(workflow_id.clone(), run_id.clone());
        Some((workflow_id, run_id))
    }
}

/// Lines of the runs that were read: a start of unknown outcome may have made a run that nobody asked for.
fn known_only(ledger: &[Line], histories: &[RunHistory]) -> Vec<Line> {
    let known: std::collections::BTreeSet<&str> = histories.iter().map(|history| history.run_id.as_str()).collect();
    ledger.iter().filter(|line| known.contains(line.run_id.as_str())).cloned().collect()
}

/// Each step was given the result of the one before it, and the run ended with that of the last: C2, D1 as a user sees them.
fn right_results(histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("each step got the result before it, and the run ended with the last");
    for history in histories {
        let mut state = json!("begin");
        let mut steps = 0;
        for event in &history.events {
            match &event.attributes {
                Some(Attributes::ActivityTaskScheduledEventAttributes(a)) => {
                    steps += 1;
                    verdict.looked_at += 1;
                    let input = from_payloads(a.input.as_ref()).unwrap_or_default();
                    if input["state"] != state || input["step"] != steps {
                        wrong(
                            &mut verdict,
                            history,
                            event,
                            &format!("step {steps} was given {input}, and the state was {state}"),
                        );
                    }
                }
                Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => {
                    state = from_payloads(a.result.as_ref()).unwrap_or_default();
                }
                Some(Attributes::WorkflowExecutionCompletedEventAttributes(a)) => {
                    let result = from_payloads(a.result.as_ref()).unwrap_or_default();
                    if result != state || steps != STEPS {
                        wrong(
                            &mut verdict,
                            history,
                            event,
                            &format!("it ended with {result} after {steps} steps, and the state was {state}"),
                        );
                    }
                }
                Some(
                    Attributes::WorkflowExecutionFailedEventAttributes(_)
                    | Attributes::WorkflowExecutionTimedOutEventAttributes(_)
                    | Attributes::WorkflowExecutionTerminatedEventAttributes(_)
                    | Attributes::WorkflowExecutionCanceledEventAttributes(_),
                ) => wrong(&mut verdict, history, event, "it did not complete"),
                _ => (),
            }
        }
    }
    verdict
}

fn wrong(verdict: &mut Verdict, history: &RunHistory, event: &HistoryEvent, what: &str) {
    verdict.violate("D1", format!("{}: {what}", history.workflow_id), vec![histories::show(event)]);
}
