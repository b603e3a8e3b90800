//! A world for engine scenarios: one shard in memory, a clock that the scenario moves, and text of what happened.
//!
//! A scenario gives commands and compares [`World::news`] and [`World::effects`] with text in the test. Ids that the engine makes are
//! shown by order of appearance.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

use stanchion_engine::effects::{Effects, Offer, OutboxKey, TaskStart, TimerKey, WorkflowTaskDeadline};
use stanchion_engine::memory::MemoryState;
use stanchion_engine::reply::{Reply, WorkflowTaskStart};
use stanchion_engine::time::{SECOND, duration};
use stanchion_engine::{Features, GroupId, Position, RunKey, StateReader, Table, apply, keys};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{Bounds, Command, OutboxDelivery, Poller, Reservation};
use stanchion_proto::row::BufferedRow;
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::common::v1::{Payload, Payloads, RetryPolicy, WorkflowExecution};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};

pub use activity::*;
#[allow(unused_imports)]
pub use alone::*;
pub use commands::*;
#[allow(unused_imports)]
pub use schedule::*;
#[allow(unused_imports)]
pub use update::*;

mod activity;
mod alone;
mod between;
mod caller;
mod check;
mod commands;
mod reset;
mod schedule;
mod show;
mod update;
mod worker;

pub const NAMESPACE: &str = "ns";
pub const WORKFLOW: &str = "wf";
pub const QUEUE: &str = "tq";

/// See the module.
pub struct World {
    pub state: MemoryState,
    /// A replica that keeps no decoded run: every command finds it cold, and it must end with the same bytes.
    cold: MemoryState,
    /// Nanoseconds; starts at a round number of seconds.
    pub now: i64,
    pub bounds: Option<Bounds>,
    /// Of the namespace, in nanoseconds.
    pub retention: i64,
    /// Held for tasks of the next command.
    pub reservations: Vec<Reservation>,
    /// Of the last command.
    pub effects: Effects,
    commands: u64,
    /// Given to the worker with the answer to its last completion.
    pub eager_activities: Vec<ActivityTask>,
    /// Every command so far, in order.
    pub log: Vec<Command>,
    last_delivery: Vec<OutboxDelivery>,
    /// The workflow task that the worker holds.
    pub task: Option<WorkflowTaskStart>,
    /// Those that it holds by workflow id, where a scenario has several.
    pub tasks: BTreeMap<String, WorkflowTaskStart>,
    /// Tasks on offer, in order.
    pub offers: Vec<Offer>,
    timers: Vec<TimerKey>,
    deadlines: Vec<WorkflowTaskDeadline>,
    /// Deadlines that had nothing to do: a speculative task that has become an ordinary one keeps its row, and may wait.
    pub idle_deadlines: Vec<WorkflowTaskDeadline>,
    runs: Vec<RunKey>,
    /// Runs of standalone activities.
    alone: BTreeSet<RunKey>,
    /// Messages that wait, as the leader knows them.
    pub outbox: BTreeSet<OutboxKey>,
    /// What [`World::news`] has shown of each run.
    shown: BTreeMap<usize, String>,
}

pub const T0: i64 = 1_700_000_000 * SECOND;

impl World {
    pub fn new() -> Self {
        Self {
            state: MemoryState::default(),
            cold: MemoryState::new(0),
            now: T0,
            bounds: None,
            retention: 0,
            reservations: Vec::new(),
            effects: Effects::default(),
            commands: 0,
            eager_activities: Vec::new(),
            log: Vec::new(),
            last_delivery: Vec::new(),
            task: None,
            tasks: BTreeMap::new(),
            offers: Vec::new(),
            timers: Vec::new(),
            deadlines: Vec::new(),
            idle_deadlines: Vec::new(),
            runs: Vec::new(),
            alone: BTreeSet::new(),
            outbox: BTreeSet::new(),
            shown: BTreeMap::new(),
        }
    }

    /// One run, whose first workflow task is with the worker. [`World::news`] goes on from there.
    pub fn at_work() -> Self {
        let mut world = Self::new();
        assert_eq!(world.start(), "started run-1");
        assert_eq!(world.poll_of(WORKFLOW), "task 3 attempt 1");
        assert_eq!(
            world.news(),
            "1 WorkflowExecutionStarted task-timeout=10s\n\
             2 WorkflowTaskScheduled queue=tq\n\
             3 WorkflowTaskStarted scheduled=2\n"
        );
        world
    }

    /// One run, whose first workflow task gave these commands. [`World::news`] goes on behind that task.
    pub fn after(commands: Vec<cmd::Command>) -> Self {
        let mut world = Self::at_work();
        assert_eq!(world.complete(commands), "completed");
        let completed = "4 WorkflowTaskCompleted scheduled=2 started=3\n";
        assert!(world.history_of(1).strip_prefix(&world.shown[&1]).unwrap().starts_with(completed));
        *world.shown.get_mut(&1).unwrap() += completed;
        world
    }

    /// One run, whose first workflow task gave no commands.
    pub fn idle() -> Self {
        Self::after(Vec::new())
    }

    /// Moves the clock.
    pub fn pass(&mut self, seconds: i64) -> &mut Self {
        self.now += seconds * SECOND;
        self
    }

    /// Applies a command and keeps book as a leader would.
    pub fn apply(&mut self, kind: Kind) -> Reply {
        self.commands += 1;
        let command = Command {
            now_unix_nanos: self.now,
            seed: self.commands.to_be_bytes().to_vec().into(),
            bounds: self.bounds,
            namespace_id: NAMESPACE.into(),
            namespace: NAMESPACE.into(),
            retention_nanos: self.retention,
            kind: Some(kind),
            meta: None,
        };
        let at = Position { group: GroupId(1), index: self.commands, offset: 0 };
        let (reply, effects) = apply(&mut self.state, &command, at, Features::default()).expect("no fault");
        let cold = apply(&mut self.cold, &command, at, Features::default()).expect("no fault");
        assert_eq!((&reply, &effects), (&cold.0, &cold.1), "a replica with a cold cache decides otherwise");
        assert_eq!(self.state.hash(), self.cold.hash(), "a replica with a cold cache has other rows");
        self.log.push(command);
        for (_, task) in &effects.withdrawn {
            self.offers.retain(|offer| offer.task != *task);
        }
        self.offers.extend(effects.offers.iter().cloned());
        self.timers.extend(effects.timers_set.iter().cloned());
        self.timers.retain(|timer| !effects.timers_cleared.contains(timer));
        self.deadlines.extend(effects.workflow_task_deadlines.iter().cloned());
        for change in &effects.changes {
            let stands_alone = keys::standalone_part(&change.run, keys::StandalonePart::State);
            if self.state.get(change.run.slot(), Table::StandaloneActivity, &stands_alone).unwrap().is_some() {
                self.alone.insert(change.run.clone());
            }
            if self.alone.contains(&change.run) {
                continue;
            }
            if !self.runs.contains(&change.run) {
                self.runs.push(change.run.clone());
            }
        }
        for hand_over in &effects.hand_overs {
            if let TaskStart::Workflow(start) = &hand_over.start {
                self.task = Some((**start).clone());
            }
        }
        self.outbox.extend(effects.outbox.iter().copied());
        self.reservations.clear();
        self.effects = effects;
        // Long histories are left to the properties: each look reads all of it.
        for change in self.effects.changes.iter().filter(|change| change.next_event_id.0 < 200) {
            if let Some(n) = self.runs.iter().position(|run| *run == change.run) {
                self.check_rebuilt(n + 1);
            }
        }
        reply
    }

    /// The n-th run that was started, from 1.
    pub fn run_id(&self, n: usize) -> String {
        self.runs[n - 1].run_id.clone()
    }

    /// A run's events that wait for their ids.
    pub fn buffered_of(&self, run_id: &str) -> Vec<HistoryEvent> {
        let run = self.runs.iter().find(|run| run.run_id == run_id).unwrap();
        let row = self.state.get(run.slot(), Table::Run, &keys::run_part(run, keys::RunPart::Buffered)).unwrap();
        row.map(|row| BufferedRow::decode(row).unwrap().events).unwrap_or_default()
    }

    pub fn all_run_ids(&self) -> Vec<String> {
        self.runs.iter().map(|run| run.run_id.clone()).collect()
    }

    /// The stored history of the newest run.
    pub fn history(&self) -> String {
        self.history_of(self.runs.len())
    }

    /// The stored history of the n-th run that was started, from 1.
    pub fn history_of(&self, n: usize) -> String {
        self.events_of(n).iter().map(|event| self.ids(&show::event(event)) + "\n").collect()
    }

    /// What was added to the newest run's history since this was last asked.
    pub fn news(&mut self) -> String {
        self.news_of(self.runs.len())
    }

    /// What was added to the n-th run's history since this was last asked. What was there then must be there still.
    pub fn news_of(&mut self, n: usize) -> String {
        let now = self.history_of(n);
        let before = self.shown.insert(n, now.clone()).unwrap_or_default();
        let Some(new) = now.strip_prefix(&before) else { panic!("run {n} had\n{before}and has\n{now}") };
        new.to_owned()
    }

    pub fn events_of(&self, n: usize) -> Vec<HistoryEvent> {
        let key = &self.runs[n - 1];
        let prefix = keys::run(key);
        let rows = self.state.range(key.slot(), Table::History, &prefix, &keys::after(&prefix), 100_000).unwrap();
        rows.into_iter().flat_map(|(_, batch)| History::decode(batch).unwrap().events).collect()
    }

    pub fn events_of_current(&self) -> Vec<HistoryEvent> {
        if self.runs.is_empty() { Vec::new() } else { self.events_of(self.runs.len()) }
    }

    /// Events of all runs, with the run's id.
    pub fn all_events(&self) -> Vec<(String, HistoryEvent)> {
        let runs = 1..=self.runs.len();
        runs.flat_map(|n| self.events_of(n).into_iter().map(move |event| (self.run_id(n), event))).collect()
    }

    /// What the last command asks of the leader.
    pub fn effects(&self) -> String {
        self.ids(&show::effects(&self.effects, self.now))
    }

    /// What the worker got: from which event its history begins, and the events that are not stored.
    pub fn given(&self) -> String {
        let Some(task) = &self.task else { return "nothing".into() };
        let first = if task.sticky { task.previous_started_event_id.0 + 1 } else { 1 };
        let mut text = format!(
            "attempt {}, history {}..{}, started {}\n",
            task.attempt,
            first,
            task.next_event_id.0 - 1,
            task.started_event_id.0
        );
        for event in &task.transient_events {
            text += &(self.ids(&show::event(event)) + " (not stored)\n");
        }
        text
    }

    /// A reply as text.
    pub fn shown(&self, reply: &Reply) -> String {
        self.answer(reply)
    }

    fn answer(&self, reply: &Reply) -> String {
        self.ids(&show::reply(reply))
    }

    /// Run ids by order of appearance.
    fn ids(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (place, run) in self.runs.iter().enumerate() {
            text = text.replace(&run.run_id, &format!("run-{}", place + 1));
        }
        text
    }
}

pub fn poller(identity: &str) -> Poller {
    Poller { identity: identity.into(), request_id: format!("poll-{identity}"), ..Default::default() }
}

pub fn execution(run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: WORKFLOW.into(), run_id: run_id.into() }
}

pub fn execution_of(workflow_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }
}

pub fn failure(message: &str) -> Failure {
    Failure {
        message: message.into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
            r#type: "Error".into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

pub fn payloads(text: &str) -> Payloads {
    Payloads { payloads: vec![payload(text)] }
}

pub fn payload(text: &str) -> Payload {
    Payload { data: text.as_bytes().to_vec().into(), ..Default::default() }
}

pub fn retries(maximum_attempts: i32) -> RetryPolicy {
    RetryPolicy { initial_interval: Some(duration(SECOND)), maximum_attempts, ..Default::default() }
}

pub fn sticky(queue: &str) -> StickyExecutionAttributes {
    StickyExecutionAttributes {
        worker_task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
        schedule_to_start_timeout: Some(duration(5 * SECOND)),
    }
}
