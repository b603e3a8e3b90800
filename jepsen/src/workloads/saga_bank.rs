//! A bank: transfers are runs that take from one account and give to another, or give back; accounts are runs whose updates book. At the end
//! each transfer is booked whole and once, and the total is what it was (E1, E3, D1).
//!
//! A leg's activity is retried for ever and books under an update id of its own, so a leg that ran twice, an update that executed twice and a
//! result that was lost all show as money made or lost. Whether a transfer is given up is decided before its second leg: an outcome that is
//! not known is never taken for a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion_proof::check::bank::{self, Accounts, Booking, Ended, Leg};
use stanchion_proof::check::{Verdict, histories};
use stanchion_proof::history::RunHistory;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, RespondActivityTaskCompletedRequest, RespondActivityTaskFailedRequest,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::decider::{Crew, Decision, Hired, Lane, Limits, Performer, Script, Task};
use super::reading::history;
use super::starting::start;
use super::update_register::{told, update_request};
use crate::client::{Client, from_payloads, json_payloads};
use crate::scene::{NAMESPACE, Scene};

const LANES: usize = 3;
const ACCOUNTS: u64 = 6;
const HELD_AT_FIRST: i64 = 1_000;
const AMOUNT_MAX: i64 = 50;
/// Each booking reads its account's whole history: a longer load does not make more of them than this.
const TRANSFERS_MAX: u64 = 500;
const OPEN_MAX: u64 = 16;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
const QUEUE: &str = "jepsen-bank";
const BOOK: &str = "book";

#[derive(Default)]
pub struct SagaBank {
    state: Mutex<State>,
    hired: Hired,
}

#[derive(Default)]
struct State {
    asked: BTreeMap<String, Asked>,
    closed: Arc<Mutex<u64>>,
    accounts: Vec<RunHistory>,
    transfers: Vec<RunHistory>,
}

/// What a transfer's run is told.
#[derive(Clone, Serialize, Deserialize)]
struct Asked {
    from: String,
    to: String,
    amount: i64,
    give_up: bool,
}

/// What an account is told to book.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    account: String,
    transfer: String,
    leg: String,
    amount: i64,
}

impl Workload for SagaBank {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut crew = Crew::begin();
            let closed = Arc::clone(&self.state.lock().closed);
            let script: Script = Arc::new(move |task| script(task, &closed));
            let performer: Performer = Arc::new(|lane, task| Box::pin(perform(lane, task)));
            crew.decide(scene, QUEUE, 4, &script)?;
            crew.perform(scene, QUEUE, 6, &performer)?;
            self.hired.hire(crew);
            let mut client = scene.client("saga-bank setup");
            for number in 0..ACCOUNTS {
                if !begin(&mut client, &account(number), "Account", Value::Null).await {
                    bail!("a healthy cluster did not start a run within {OPERATION_WITHIN:?}");
                }
            }
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("saga-bank", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let asked: Vec<String> = self.state.lock().asked.keys().cloned().collect();
            let mut client = scene.client("saga-bank last");
            let patience = Instant::now() + CLOSED_WITHIN;
            for transfer in &asked {
                // What is still open after that is judged as it is: C4. Without any event it was never begun.
                let last = loop {
                    let read = history(&mut client, transfer, "", FINAL_WITHIN).await?;
                    if read.events.last().is_none_or(histories::closes) || Instant::now() > patience {
                        break read;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                };
                self.state.lock().transfers.push(last);
            }
            for number in 0..ACCOUNTS {
                let last = history(&mut client, &account(number), "", FINAL_WITHIN).await?;
                self.state.lock().accounts.push(last);
            }
            self.hired.dismiss().await;
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        let before: BTreeMap<String, i64> = (0..ACCOUNTS).map(|number| (account(number), HELD_AT_FIRST)).collect();
        let read = state.accounts.iter().filter(|account| !account.events.is_empty());
        let accounts: Accounts = read.map(|account| (account.workflow_id.clone(), books(&account.events))).collect();
        let mut begun = Verdict::new("acknowledged transfers exist");
        let acknowledged = scene.journal.operations().into_iter().filter(|op| op.f == "start" && op.ok().is_some());
        for operation in acknowledged.filter(|op| state.asked.contains_key(&op.key)) {
            begun.looked_at += 1;
            if state.transfers.iter().any(|run| run.workflow_id == operation.key && run.events.is_empty()) {
                begun.violate(
                    "A1",
                    format!("{} was acknowledged and has no history", operation.key),
                    vec![operation.to_string()],
                );
            }
        }
        let transfers = state
            .transfers
            .iter()
            .filter_map(|run| Some((run.workflow_id.clone(), transfer(run, state.asked.get(&run.workflow_id)?))));
        let exist: Vec<RunHistory> = state.transfers.iter().filter(|run| !run.events.is_empty()).cloned().collect();
        let all: Vec<RunHistory> = exist.iter().chain(&state.accounts).cloned().collect();
        vec![
            begun,
            bank::conserved(&before, &accounts, &transfers.collect()),
            histories::all_closed(&exist),
            // Runs are read by their workflow ids here, so that those of lost starts are found: the run ids are their events'.
            histories::rules(&all.into_iter().map(named).collect::<Vec<_>>()),
        ]
    }
}

fn account(number: u64) -> String {
    format!("account-{number}")
}

/// A history with the run id that its first event tells.
fn named(mut run: RunHistory) -> RunHistory {
    if let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
        run.events.first().and_then(|event| event.attributes.as_ref())
    {
        run.run_id = started.original_execution_run_id.clone();
    }
    run
}

fn transfer(run: &RunHistory, asked: &Asked) -> bank::Transfer {
    let Asked { from, to, amount, .. } = asked.clone();
    let result = run.events.last().and_then(|event| match &event.attributes {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(done)) => from_payloads(done.result.as_ref()),
        _ => None,
    });
    let ended = match result.as_ref().and_then(Value::as_str) {
        Some("done") => Ended::Done,
        Some(_) => Ended::GivenUp,
        None if run.events.is_empty() => Ended::NeverBegun,
        // Open still, which is reported as that; in the books it can be at any point, and is taken for one that was given up.
        None => Ended::GivenUp,
    };
    bank::Transfer { from, to, amount, ended }
}

/// What an account has booked, in order: each accepted update that its holdings allowed.
fn books(events: &[HistoryEvent]) -> Vec<Booking> {
    let mut books = Vec::new();
    for event in events {
        if let Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(accepted)) = &event.attributes
            && let Some(input) = accepted.accepted_request.as_ref().and_then(|request| request.input.as_ref())
        {
            book(&mut books, from_payloads(input.args.as_ref()));
        }
    }
    books
}

/// Whether it was booked.
fn book(books: &mut Vec<Booking>, order: Option<Value>) -> bool {
    let Some(Order { transfer, leg, amount, .. }) = order.and_then(|order| serde_json::from_value(order).ok()) else {
        return false;
    };
    let (leg, amount) = match leg.as_str() {
        "take" => (Leg::Take, -amount),
        "give" => (Leg::Give, amount),
        _ => (Leg::GiveBack, amount),
    };
    let held = HELD_AT_FIRST + books.iter().map(|booking| booking.amount).sum::<i64>();
    let allowed = held + amount >= 0;
    if allowed {
        books.push(Booking { transfer, leg, amount });
    }
    allowed
}

fn script(task: &Task, closed: &Mutex<u64>) -> Decision {
    let mut decision = Decision::default();
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
        task.events.first().and_then(|event| event.attributes.as_ref())
    else {
        return decision;
    };
    let Some(asked) =
        from_payloads(started.input.as_ref()).and_then(|input| serde_json::from_value::<Asked>(input).ok())
    else {
        let mut books = books(&task.events);
        for update in &task.updates {
            let booked = book(&mut books, from_payloads(update.arguments()));
            decision.answer(update, &json!({ "booked": booked }));
        }
        return decision;
    };
    let mut scheduled = 0;
    let mut results: Vec<bool> = Vec::new();
    for event in &task.events {
        match &event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(_)) => scheduled += 1,
            Some(Attributes::ActivityTaskCompletedEventAttributes(done)) => {
                let booked = from_payloads(done.result.as_ref())
                    .and_then(|result| result.get("booked").and_then(Value::as_bool));
                results.push(booked.unwrap_or(false));
            }
            _ => {}
        }
    }
    if scheduled > results.len() {
        return decision;
    }
    let mut ends = |how: &str| {
        *closed.lock() += 1;
        decision.complete(&json!(how));
    };
    let (leg, account) = match (&results[..], asked.give_up) {
        ([], _) => ("take", &asked.from),
        ([true], false) => ("give", &asked.to),
        ([true], true) => ("give-back", &asked.from),
        ([true, ..], false) => {
            ends("done");
            return decision;
        }
        // Nothing was taken, or it was given back.
        ([false, ..], _) | ([true, ..], true) => {
            ends("given up");
            return decision;
        }
    };
    let order =
        Order { account: account.clone(), transfer: task.workflow_id.clone(), leg: leg.into(), amount: asked.amount };
    let limits = Limits {
        start_to_close: Duration::from_secs(2),
        heartbeat: Duration::ZERO,
        back_off: Duration::from_millis(100),
        attempts_max: 0,
    };
    decision.activity(leg, QUEUE, &serde_json::to_value(order).unwrap_or_default(), &limits);
    decision
}

/// One leg: books at its account, under an id that is the leg's own.
async fn perform(lane: &mut Lane, task: PollActivityTaskQueueResponse) {
    let input = from_payloads(task.input.as_ref()).unwrap_or_default();
    let Ok(order) = serde_json::from_value::<Order>(input.clone()) else { return };
    // A worker that dies before it did anything, and one that dies before it said so.
    if lane.chance.random_ratio(1, 40) {
        return;
    }
    let request = update_request(&order.account, "", BOOK, &input, &format!("{}/{}", order.transfer, order.leg));
    let (booked, _) = lane
        .ask(|mut service| {
            let request = request.clone();
            async move { told(service.update_workflow_execution(request).await?.into_inner().outcome) }
        })
        .await;
    if lane.chance.random_ratio(1, 40) {
        return;
    }
    let (task_token, identity, namespace) = (task.task_token, lane.name.clone(), NAMESPACE.to_owned());
    match booked {
        Ok(result) => {
            let request = RespondActivityTaskCompletedRequest {
                task_token,
                result: Some(json_payloads(&result)),
                identity,
                namespace,
                ..Default::default()
            };
            let _ = lane
                .ask(|mut service| {
                    let request = request.clone();
                    async move { service.respond_activity_task_completed(request).await }
                })
                .await;
        }
        Err(_) => {
            let request = RespondActivityTaskFailedRequest { task_token, identity, namespace, ..Default::default() };
            let _ = lane
                .ask(|mut service| {
                    let request = request.clone();
                    async move { service.respond_activity_task_failed(request).await }
                })
                .await;
        }
    }
}

async fn begin(client: &mut Client, name: &str, kind: &str, input: Value) -> bool {
    start(client, name, kind, QUEUE, input, OPERATION_WITHIN).await.is_some()
}

impl SagaBank {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = Duration::from_millis(client.chance.random_range(20..150));
            tokio::time::sleep(pause).await;
            let from = client.chance.random_range(0..ACCOUNTS);
            let to = (from + client.chance.random_range(1..ACCOUNTS)) % ACCOUNTS;
            let asked = Asked {
                from: account(from),
                to: account(to),
                amount: client.chance.random_range(1..=AMOUNT_MAX),
                give_up: client.chance.random_ratio(1, 4),
            };
            let name = {
                let mut state = self.state.lock();
                let (begun, closed) = (state.asked.len() as u64, *state.closed.lock());
                if begun >= TRANSFERS_MAX || begun >= closed + OPEN_MAX {
                    continue;
                }
                let name = format!("transfer-{begun:05}");
                state.asked.insert(name.clone(), asked.clone());
                name
            };
            begin(&mut client, &name, "Transfer", serde_json::to_value(asked).unwrap_or_default()).await;
        }
    }
}
