//! Timers: runs start several of random length at once and close when all have fired. None is ever seen to have fired early, by the test's own
//! clock; all fire once, soon after they are due or the cluster is healed (F1, F2).
//!
//! A timer's operation is invoked before the command that starts it goes out, and acknowledged by the task whose history shows that it fired: a
//! span that contains the timer's, so that early means early whatever the nodes' clocks say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};
use stanchion_proof::check::{Verdict, histories, timers};
use stanchion_proof::history::RunHistory;
use stanchion_proof::journal::{Journal, OpId};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::decider::{Crew, Decision, Hired, Script, Task};
use super::reading::histories_of;
use super::starting::start;
use crate::client::{Client, from_payloads};
use crate::scene::Scene;

const LANES: usize = 3;
const TIMERS_A_RUN: usize = 5;
const TIMER_MS_MAX: u64 = 6_000;
const OPERATION_WITHIN: Duration = Duration::from_secs(8);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
const QUEUE: &str = "jepsen-timers";
/// On a healed cluster a due timer fires, leads to a task and is seen within this.
const LATE_MAX: Duration = Duration::from_secs(15);

#[derive(Default)]
pub struct Timers {
    pending: Pending,
    state: Mutex<State>,
    hired: Hired,
}

/// Timers that were asked for and not seen to have fired: by run and timer.
type Pending = Arc<Mutex<BTreeMap<(String, String), OpId>>>;

#[derive(Default)]
struct State {
    begun: u64,
    all: Vec<(String, String)>,
    healed: u64,
    histories: Vec<RunHistory>,
}

impl Workload for Timers {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut crew = Crew::begin();
            let (journal, pending) = (scene.journal.clone(), Arc::clone(&self.pending));
            let script: Script = Arc::new(move |task| script(task, &journal, &pending));
            crew.decide(scene, QUEUE, 4, &script)?;
            self.hired.hire(crew);
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            scene.lanes("timers", LANES, |client| self.lane(client, stop.clone())).await;
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.state.lock().healed = scene.now();
            let patience = Instant::now() + Duration::from_millis(TIMER_MS_MAX) + LATE_MAX * 2;
            while !self.pending.lock().is_empty() && Instant::now() < patience {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let all = self.state.lock().all.clone();
            let read = histories_of(&mut scene.client("timers last"), &all, FINAL_WITHIN).await?;
            self.state.lock().histories = read;
            self.hired.dismiss().await;
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        vec![
            timers::timers(&scene.journal.operations(), state.healed, LATE_MAX.as_nanos() as u64),
            histories::rules(&state.histories),
            histories::all_closed(&state.histories),
        ]
    }
}

/// Starts the timers that the input asks for, notes those that fired, and completes when all have.
fn script(task: &Task, journal: &Journal, pending: &Pending) -> Decision {
    let mut decision = Decision::default();
    let (mut wanted, mut started, mut fired) = (Vec::new(), 0, Vec::new());
    for event in &task.events {
        match &event.attributes {
            Some(Attributes::WorkflowExecutionStartedEventAttributes(begun)) => {
                wanted =
                    from_payloads(begun.input.as_ref()).and_then(|input| input.as_array().cloned()).unwrap_or_default();
            }
            Some(Attributes::TimerStartedEventAttributes(_)) => started += 1,
            Some(Attributes::TimerFiredEventAttributes(timer)) => fired.push(timer.timer_id.clone()),
            _ => {}
        }
    }
    let mut pending = pending.lock();
    for timer in &fired {
        if let Some(op) = pending.remove(&(task.run_id.clone(), timer.clone())) {
            journal.ok(op, Value::Null);
        }
    }
    if started == 0 {
        for (at, ms) in wanted.iter().enumerate() {
            let ms = ms.as_u64().unwrap_or_default();
            let timer = format!("t{at}");
            // Asked for a second time if the first answer did not count: the first asking is the one that no firing may be early by.
            let place = (task.run_id.clone(), timer.clone());
            pending.entry(place).or_insert_with(|| {
                journal.invoke(journal.new_process(), "timer", &task.workflow_id, json!({ "ms": ms }))
            });
            decision.timer(&timer, Duration::from_millis(ms));
        }
    } else if fired.len() == wanted.len() {
        decision.complete(&Value::Null);
    }
    decision
}

impl Timers {
    async fn lane(&self, mut client: Client, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let name = {
                let mut state = self.state.lock();
                state.begun += 1;
                format!("timers-{:05}", state.begun)
            };
            // Short ones for failures around their start, long ones that outlive a leader.
            let lengths: Vec<u64> = (0..TIMERS_A_RUN)
                .map(|_| {
                    let most = [50, 500, TIMER_MS_MAX][client.chance.random_range(0..3)];
                    client.chance.random_range(1..most)
                })
                .collect();
            if let Some(run_id) = start(&mut client, &name, "Timers", QUEUE, json!(lengths), OPERATION_WITHIN).await {
                self.state.lock().all.push((name, run_id));
            }
            let ms = client.chance.random_range(50..250);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}
