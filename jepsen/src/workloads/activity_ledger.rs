//! Activities on a ledger: runs of several steps whose attempts fail, hang, beat and are reported twice, by raw workers that write down what
//! they were handed, what they reported and what they were told (D1-D6, H1).
//!
//! The ledger is outside of the cluster: a step that ran again after its result was acknowledged shows there and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::{Verdict, attempts, histories};
use stanchion_proof::history::RunHistory;
use stanchion_proof::ledger::{Handed, Ledger, Line, Outcome as Reported, What, digest, to_jsonl};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, RecordActivityTaskHeartbeatRequest, RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::Workload;
use super::decider::{CALL_WITHIN, Crew, Decision, Hired, Lane, Limits, Performer, Script, Task};
use super::reading::history_once_closed;
use super::starting::start;
use crate::client::{Client, from_payloads, is_refusal, json_payloads};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 3;
const STEPS: u64 = 3;
/// Runs that are open at once, so that steps are worked on while faults are done and the last ones end soon after.
const OPEN_MAX: u64 = 12;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
/// Each hanging attempt costs its time from start to close, and there may be some in a row.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const QUEUE: &str = "jepsen-activities";

/// The first step has one attempt, so that what becomes of an attempt that hangs is told by the history too.
fn limits(step: u64) -> Limits {
    Limits {
        start_to_close: Duration::from_secs(3),
        heartbeat: Duration::from_secs(1),
        back_off: Duration::from_millis(100),
        attempts_max: if step == 0 { 1 } else { 6 },
    }
}

#[derive(Default)]
pub struct ActivityLedger {
    state: Mutex<State>,
    hired: Hired,
}

#[derive(Default)]
struct State {
    ledger: Option<Ledger>,
    begun: u64,
    all: Vec<(String, String)>,
    histories: Vec<RunHistory>,
    closed: Arc<Mutex<u64>>,
}

impl Workload for ActivityLedger {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let clock = scene.journal.clone();
            let ledger = Ledger::new(move || clock.now());
            let closed = Arc::clone(&self.state.lock().closed);
            let mut crew = Crew::begin();
            let script: Script = Arc::new(move |task| script(task, &closed));
            let noted = ledger.clone();
            let performer: Performer = Arc::new(move |lane, task| {
                let ledger = noted.clone();
                Box::pin(async move { perform(lane, task, &ledger).await })
            });
            crew.decide(scene, QUEUE, 3, &script)?;
            crew.perform(scene, QUEUE, 10, &performer)?;
            self.hired.hire(crew);
            self.state.lock().ledger = Some(ledger);
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("activity-ledger", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let all = self.state.lock().all.clone();
            let mut client = scene.client("activity-ledger last");
            let patience = Instant::now() + CLOSED_WITHIN;
            for (name, run) in &all {
                // What is still open after that is judged as it is: C4.
                let last = history_once_closed(&mut client, name, run, FINAL_WITHIN, patience).await?;
                self.state.lock().histories.push(last);
            }
            self.hired.dismiss().await;
            let lines = self.state.lock().ledger.as_ref().map(Ledger::lines).unwrap_or_default();
            std::fs::write(scene.out.join("ledger.jsonl"), to_jsonl(&lines))?;
            Ok(())
        })
    }

    fn check(&self, _: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        let lines = state.ledger.as_ref().map(Ledger::lines).unwrap_or_default();
        let mut verdicts = attempts::ledger(&lines);
        // Of runs whose start was never acknowledged there is a ledger and no history.
        let known = |line: &Line| state.all.iter().any(|(_, run)| *run == line.run_id);
        let of_known: Vec<Line> = lines.iter().filter(|line| known(line)).cloned().collect();
        verdicts.push(attempts::ledger_matches_histories(&of_known, &state.histories));
        verdicts.push(attempts::policies(&lines, &state.histories));
        verdicts.push(attempts::timeouts(&state.histories));
        verdicts.push(histories::rules(&state.histories));
        verdicts.push(histories::all_closed(&state.histories));
        verdicts
    }
}

/// One step after the other, whatever came of the one before.
fn script(task: &Task, closed: &Mutex<u64>) -> Decision {
    let (mut scheduled, mut ended) = (0, 0);
    for event in &task.events {
        match &event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(_)) => scheduled += 1,
            Some(
                Attributes::ActivityTaskCompletedEventAttributes(_)
                | Attributes::ActivityTaskFailedEventAttributes(_)
                | Attributes::ActivityTaskTimedOutEventAttributes(_),
            ) => ended += 1,
            _ => {}
        }
    }
    let mut decision = Decision::default();
    if ended == STEPS {
        *closed.lock() += 1;
        decision.complete(&json!(ended));
    } else if scheduled == ended {
        decision.activity(&format!("step-{scheduled}"), QUEUE, &json!({ "step": scheduled }), &limits(scheduled));
    }
    decision
}

impl ActivityLedger {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = Duration::from_millis(client.chance.random_range(20..120));
            tokio::time::sleep(pause).await;
            let name = {
                let mut state = self.state.lock();
                let closed = *state.closed.lock();
                if state.begun >= closed + OPEN_MAX {
                    continue;
                }
                state.begun += 1;
                format!("steps-{:05}", state.begun)
            };
            if let Some(run_id) = start(&mut client, &name, "Steps", QUEUE, Value::Null, OPERATION_WITHIN).await {
                self.state.lock().all.push((name, run_id));
            }
        }
    }
}

/// One attempt: beats for a while, and then completes, fails or is never heard of again.
async fn perform(lane: &mut Lane, task: PollActivityTaskQueueResponse, ledger: &Ledger) {
    let execution = task.workflow_execution.clone().unwrap_or_default();
    let attempt = u32::try_from(task.attempt).unwrap_or_default();
    let worker = lane.name.clone();
    let line = |what| Line {
        at: 0,
        worker: worker.clone(),
        workflow_id: execution.workflow_id.clone(),
        run_id: execution.run_id.clone(),
        activity_id: task.activity_id.clone(),
        attempt,
        token: digest(&task.task_token),
        what,
    };
    let nanos = |wait: Option<&prost_types::Duration>| {
        wait.map_or(0, |wait| wait.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(wait.nanos)))
    };
    let epoch = |at: Option<&prost_types::Timestamp>| {
        at.map_or(0, |at| at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos)))
    };
    let handed = Handed {
        scheduled_at: epoch(task.scheduled_time.as_ref()),
        attempt_scheduled_at: epoch(task.current_attempt_scheduled_time.as_ref()),
        started_at: epoch(task.started_time.as_ref()),
        schedule_to_close: nanos(task.schedule_to_close_timeout.as_ref()),
        start_to_close: nanos(task.start_to_close_timeout.as_ref()),
        heartbeat: nanos(task.heartbeat_timeout.as_ref()),
        details: from_payloads(task.heartbeat_details.as_ref()).unwrap_or(Value::Null),
        ..Handed::default()
    };
    ledger.note(line(What::Began { handed }));
    let beats = if lane.chance.random_bool(0.4) { lane.chance.random_range(1..6) } else { 0 };
    for beat in 0..beats {
        let pause = Duration::from_millis(lane.chance.random_range(10..250));
        tokio::time::sleep(pause).await;
        let details = json!([attempt, beat]);
        ledger.note(line(What::Beats { details: details.clone() }));
        let request = RecordActivityTaskHeartbeatRequest {
            task_token: task.task_token.clone(),
            details: Some(json_payloads(&details)),
            identity: worker.clone(),
            namespace: NAMESPACE.into(),
            ..Default::default()
        };
        match lane
            .once(CALL_WITHIN, |mut service| async move { service.record_activity_task_heartbeat(request).await })
            .await
        {
            Ok(reply) => {
                let cancel_requested = reply.into_inner().cancel_requested;
                ledger.note(line(What::BeatAcknowledged { details, cancel_requested }));
            }
            Err(status) if status.code() == Code::NotFound => {
                ledger.note(line(What::BeatRefused { error: status.message().to_owned() }));
            }
            Err(_) => (),
        }
    }
    match lane.chance.random_range(0..100) {
        // A worker that dies: its attempt ends by its deadline.
        0..6 => return ledger.note(line(What::Abandoned)),
        // One that is so slow that it may be superseded meanwhile, and reports all the same.
        6..10 => tokio::time::sleep(Duration::from_millis(lane.chance.random_range(800..4_000))).await,
        _ => tokio::time::sleep(Duration::from_millis(lane.chance.random_range(1..60))).await,
    }
    let outcome = if lane.chance.random_bool(0.2) {
        Reported::Failed { retryable: lane.chance.random_bool(0.9), message: "as it was told to".into() }
    } else {
        Reported::Completed(json!({ "attempt": attempt, "by": worker }))
    };
    let reports = if lane.chance.random_bool(0.05) { 2 } else { 1 };
    for _ in 0..reports {
        ledger.note(line(What::Ended { outcome: outcome.clone() }));
        let told = report(lane, &task, &outcome).await;
        ledger.note(line(told));
    }
}

async fn report(lane: &mut Lane, task: &PollActivityTaskQueueResponse, outcome: &Reported) -> What {
    let (task_token, identity, namespace) = (task.task_token.clone(), lane.name.clone(), NAMESPACE.to_owned());
    let (told, unknown) = match outcome {
        Reported::Completed(value) => {
            let request = RespondActivityTaskCompletedRequest {
                task_token,
                result: Some(json_payloads(value)),
                identity,
                namespace,
                ..Default::default()
            };
            lane.ask(|mut service| {
                let request = request.clone();
                async move { service.respond_activity_task_completed(request).await.map(|_| ()) }
            })
            .await
        }
        Reported::Failed { retryable, message } => {
            let info =
                ApplicationFailureInfo { r#type: "Planned".into(), non_retryable: !retryable, ..Default::default() };
            let failure = Failure {
                message: message.clone(),
                failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
                ..Default::default()
            };
            let request = RespondActivityTaskFailedRequest {
                task_token,
                failure: Some(failure),
                identity,
                namespace,
                ..Default::default()
            };
            lane.ask(|mut service| {
                let request = request.clone();
                async move { service.respond_activity_task_failed(request).await.map(|_| ()) }
            })
            .await
        }
        // No run of this workload is ever canceled.
        Reported::Canceled => (Err(Status::unimplemented("nobody cancels")), false),
    };
    let error = |status: &Status| format!("{:?}: {}", status.code(), status.message());
    match told {
        Ok(()) => What::Acknowledged,
        Err(status) if is_refusal(&status) && !unknown => What::Refused { error: error(&status) },
        Err(status) => What::Unknown { error: error(&status) },
    }
}
