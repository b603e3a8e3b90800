//! Registers held by runs: updates read, write and compare-and-set a run's value, and each register must behave as if they had come one after
//! another (E3).
//!
//! The worker keeps nothing: at each task it computes the value from the updates that the history has accepted, so a lost, doubled or
//! re-ordered update shows in the next answer. An update is repeated with the same id until its outcome is told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::model::register::Register;
use stanchion_proof::check::{Verdict, histories, linearizable};
use stanchion_proof::history::RunHistory;
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::update::v1::{Input, Meta, Request as UpdateRequest, WaitPolicy, outcome};
use stanchion_proto::temporal::workflowservice::v1::UpdateWorkflowExecutionRequest;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use super::Workload;
use super::decider::{Crew, Decision, Hired, Script, Task, execution};
use super::reading::histories_of;
use super::starting::{end_unanswered, start};
use crate::client::{Client, Outcome, from_payloads, json_payloads};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 6;
const REGISTERS_AT_ONCE: usize = 3;
const OPERATIONS_A_REGISTER: u64 = 80;
const OPERATION_WITHIN: Duration = Duration::from_secs(10);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
const QUEUE: &str = "jepsen-registers";
const VALUES: u64 = 4;

#[derive(Default)]
pub struct UpdateRegister {
    state: Mutex<State>,
    hired: Hired,
}

#[derive(Default)]
struct State {
    registers: Vec<(String, String, u64)>,
    begun: u64,
    all: Vec<(String, String)>,
    histories: Vec<RunHistory>,
}

impl Workload for UpdateRegister {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut crew = Crew::begin();
            let script: Script = Arc::new(script);
            crew.decide(scene, QUEUE, 4, &script)?;
            self.hired.hire(crew);
            let mut client = scene.client("update-register setup");
            for _ in 0..REGISTERS_AT_ONCE {
                match self.begin(&mut client).await {
                    Some((name, run)) => self.state.lock().registers.push((name, run, 0)),
                    None => bail!("a healthy cluster did not start a run within {OPERATION_WITHIN:?}"),
                }
            }
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("update-register", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let all = self.state.lock().all.clone();
            for number in scene.cluster.numbers() {
                let mut client = scene.client_of(number, "update-register last");
                for (name, run) in &all {
                    if !operate(&mut client, name, run, "read", Value::Null, FINAL_WITHIN).await {
                        bail!("{name} does not answer at n{number} on a healed cluster");
                    }
                }
            }
            let read = histories_of(&mut scene.client("update-register histories"), &all, FINAL_WITHIN).await?;
            self.state.lock().histories = read;
            self.hired.dismiss().await;
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        vec![
            linearizable::check(
                "each register of updates is linearizable",
                "E3",
                &Register { initial: json!(0) },
                &scene.journal.operations(),
            ),
            histories::rules(&self.state.lock().histories),
        ]
    }
}

/// The value after the updates that were accepted, and the answers to those that wait.
fn script(task: &Task) -> Decision {
    let mut value = json!(0);
    for event in &task.events {
        if let Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(accepted)) = &event.attributes
            && let Some(input) = accepted.accepted_request.as_ref().and_then(|request| request.input.as_ref())
        {
            apply(&mut value, &input.name, input.args.as_ref());
        }
    }
    let mut decision = Decision::default();
    for update in &task.updates {
        let answer = apply(&mut value, update.name(), update.arguments());
        decision.answer(update, &answer);
    }
    decision
}

/// Does one operation and says what it answers.
fn apply(held: &mut Value, name: &str, arguments: Option<&Payloads>) -> Value {
    let arguments = from_payloads(arguments).unwrap_or(Value::Null);
    match name {
        "write" => *held = arguments,
        "cas" => {
            let swaps = arguments.get(0) == Some(held);
            if let (true, Some(to)) = (swaps, arguments.get(1)) {
                *held = to.clone();
            }
            return json!(swaps);
        }
        _ => {}
    }
    held.clone()
}

impl UpdateRegister {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let at = client.chance.random_range(0..REGISTERS_AT_ONCE);
            let (name, run, operations) = {
                let mut state = self.state.lock();
                state.registers[at].2 += 1;
                state.registers[at].clone()
            };
            if operations == OPERATIONS_A_REGISTER
                && let Some((name, run)) = self.begin(&mut client).await
            {
                self.state.lock().registers[at] = (name, run, 0);
                continue;
            }
            let (a, b) = (client.chance.random_range(0..VALUES), client.chance.random_range(0..VALUES));
            match client.chance.random_range(0..10) {
                0..3 => operate(&mut client, &name, &run, "read", Value::Null, OPERATION_WITHIN).await,
                3..6 => operate(&mut client, &name, &run, "write", json!(a), OPERATION_WITHIN).await,
                _ => operate(&mut client, &name, &run, "cas", json!([a, b]), OPERATION_WITHIN).await,
            };
            let ms = client.chance.random_range(5..40);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    async fn begin(&self, client: &mut Client) -> Option<(String, String)> {
        let name = {
            let mut state = self.state.lock();
            state.begun += 1;
            format!("register-{:05}", state.begun)
        };
        let run_id = start(client, &name, "Register", QUEUE, Value::Null, OPERATION_WITHIN).await?;
        self.state.lock().all.push((name.clone(), run_id.clone()));
        Some((name, run_id))
    }
}

/// Whether it was answered.
async fn operate(client: &mut Client, name: &str, run: &str, f: &str, input: Value, within: Duration) -> bool {
    let op = client.journal.invoke(client.process, f, name, input.clone());
    let update_id = Uuid::from_u128(client.chance.random()).to_string();
    let outcome = update(client, name, run, f, &input, &update_id, within).await;
    match outcome {
        Outcome::Ok { reply, .. } => {
            client.journal.ok(op, if f == "write" { Value::Null } else { reply });
            true
        }
        ended => {
            end_unanswered(client, op, ended);
            false
        }
    }
}

/// Updates a run and waits for the outcome. An answer that tells no outcome yet is asked for again, by the same id.
pub async fn update(
    client: &mut Client,
    workflow_id: &str,
    run_id: &str,
    name: &str,
    argument: &Value,
    update_id: &str,
    within: Duration,
) -> Outcome<Value> {
    let request = update_request(workflow_id, run_id, name, argument, update_id);
    client
        .call(within, |mut service| {
            let request = request.clone();
            async move { told(service.update_workflow_execution(request).await?.into_inner().outcome) }
        })
        .await
}

pub fn update_request(
    workflow_id: &str,
    run_id: &str,
    name: &str,
    argument: &Value,
    update_id: &str,
) -> UpdateWorkflowExecutionRequest {
    UpdateWorkflowExecutionRequest {
        namespace: NAMESPACE.into(),
        workflow_execution: Some(execution(workflow_id, run_id)),
        wait_policy: Some(WaitPolicy { lifecycle_stage: Stage::Completed as i32 }),
        request: Some(UpdateRequest {
            meta: Some(Meta { update_id: update_id.to_owned(), identity: "jepsen".into() }),
            input: Some(Input { name: name.to_owned(), args: Some(json_payloads(argument)), ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The value of an outcome. One that is not told yet is an answer that did not come; a failure is the server's refusal.
pub fn told(outcome: Option<stanchion_proto::temporal::update::v1::Outcome>) -> Result<Value, Status> {
    match outcome.and_then(|outcome| outcome.value) {
        Some(outcome::Value::Success(payloads)) => Ok(from_payloads(Some(&payloads)).unwrap_or(Value::Null)),
        Some(outcome::Value::Failure(failure)) => Err(Status::failed_precondition(failure.message)),
        None => Err(Status::unavailable("the outcome is not known yet")),
    }
}
