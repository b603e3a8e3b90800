//! A world for engine scenarios: one shard in memory, a clock that the scenario moves, and text of what happened.
//!
//! A scenario gives commands and compares [`World::history`] and [`World::effects`] with text in the test. Ids that the engine makes are
//! shown by order of appearance.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

use stanchion_engine::effects::{Effects, OutboxKey, TaskKind, TaskStart};
use stanchion_engine::memory::MemoryState;
use stanchion_engine::reply::{Reply, WorkflowTaskStart};
use stanchion_engine::time::{SECOND, duration};
use stanchion_engine::{Features, GroupId, Position, RunKey, StateReader, Table, apply, keys};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    self, Bounds, Command, CompleteWorkflowTask, DeliverOutbox, FailWorkflowTask, FireTimers, OutboxDelivery, Poller,
    RequestCancelWorkflow, Reservation, RunRef, SignalWithStartWorkflow, SignalWorkflow, StartWorkflow,
    StartWorkflowTask, TerminateWorkflow, TimeoutWorkflowTask, WorkflowTaskToken,
};
use stanchion_proto::row::BufferedRow;
use stanchion_proto::temporal::command::v1 as cmd;
use stanchion_proto::temporal::command::v1::command::Attributes as A;
use stanchion_proto::temporal::common::v1::{Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::CommandType;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use stanchion_proto::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskFailedRequest,
    SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
};

pub use activity::*;
#[allow(unused_imports)]
pub use alone::*;
#[allow(unused_imports)]
pub use schedule::*;
#[allow(unused_imports)]
pub use update::*;

mod activity;
mod alone;
mod check;
mod schedule;
mod show;
mod update;

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
    pub offers: Vec<stanchion_engine::effects::Offer>,
    timers: Vec<stanchion_engine::effects::TimerKey>,
    deadlines: Vec<stanchion_engine::effects::WorkflowTaskDeadline>,
    runs: Vec<RunKey>,
    /// Runs of standalone activities.
    alone: BTreeSet<RunKey>,
    /// Messages that wait, as the leader knows them.
    pub outbox: BTreeSet<OutboxKey>,
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
            runs: Vec::new(),
            alone: BTreeSet::new(),
            outbox: BTreeSet::new(),
        }
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

    // --- callers ---

    pub fn start(&mut self) -> String {
        self.start_with(|_| {})
    }

    pub fn start_with(&mut self, change: impl FnOnce(&mut StartWorkflowExecutionRequest)) -> String {
        let mut request = StartWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: WORKFLOW.into(),
            workflow_type: Some(WorkflowType { name: "Demo".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            identity: "starter".into(),
            request_id: format!("start-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let eager = request.request_eager_execution.then(|| poller("starter"));
        let reservation = self.reservations.pop();
        let reply =
            self.apply(Kind::StartWorkflow(StartWorkflow { request: Some(request), eager_poller: eager, reservation }));
        if let Reply::Started { eager: Some(start), .. } = &reply {
            self.task = Some((**start).clone());
        }
        self.answer(&reply)
    }

    pub fn signal(&mut self, name: &str) -> String {
        self.signal_with(name, |_| {})
    }

    pub fn signal_with(&mut self, name: &str, change: impl FnOnce(&mut SignalWorkflowExecutionRequest)) -> String {
        let mut request = SignalWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            signal_name: name.into(),
            identity: "caller".into(),
            ..Default::default()
        };
        change(&mut request);
        let reservation = self.reservations.pop();
        let reply = self.apply(Kind::SignalWorkflow(SignalWorkflow { request: Some(request), reservation }));
        self.answer(&reply)
    }

    pub fn signal_with_start(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut SignalWithStartWorkflowExecutionRequest),
    ) -> String {
        let mut request = SignalWithStartWorkflowExecutionRequest {
            workflow_id: WORKFLOW.into(),
            workflow_type: Some(WorkflowType { name: "Demo".into() }),
            task_queue: Some(TaskQueue { name: QUEUE.into(), ..Default::default() }),
            signal_name: name.into(),
            identity: "caller".into(),
            request_id: format!("sws-{}", self.commands),
            ..Default::default()
        };
        change(&mut request);
        let command = SignalWithStartWorkflow { request: Some(request), reservation: None };
        let reply = self.apply(Kind::SignalWithStartWorkflow(command));
        self.answer(&reply)
    }

    pub fn request_cancel(&mut self) -> String {
        let request = RequestCancelWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            identity: "caller".into(),
            reason: "enough".into(),
            ..Default::default()
        };
        let command = RequestCancelWorkflow { request: Some(request), reservation: None };
        let reply = self.apply(Kind::RequestCancelWorkflow(command));
        self.answer(&reply)
    }

    pub fn terminate(&mut self) -> String {
        self.terminate_with(|_| {})
    }

    pub fn terminate_with(&mut self, change: impl FnOnce(&mut TerminateWorkflowExecutionRequest)) -> String {
        let mut request = TerminateWorkflowExecutionRequest {
            workflow_execution: Some(execution("")),
            identity: "caller".into(),
            reason: "because".into(),
            ..Default::default()
        };
        change(&mut request);
        let reply = self.apply(Kind::TerminateWorkflow(TerminateWorkflow { request: Some(request) }));
        self.answer(&reply)
    }

    // --- the worker ---

    /// Holds a poller of a queue for the next command's task.
    pub fn hold_poller(&mut self, task_queue: &str) -> &mut Self {
        self.reservations.push(Reservation {
            task_queue: task_queue.into(),
            is_activity: false,
            poller: Some(poller("worker")),
            ticket: 7,
        });
        self
    }

    /// As [`World::poll`], of one workflow id. The worker keeps the tasks of other ids: [`World::work_on`] turns to one of them.
    pub fn poll_of(&mut self, workflow_id: &str) -> String {
        let of = |offer: &&stanchion_engine::effects::Offer| {
            offer.kind == TaskKind::Workflow && offer.task.run.workflow_id == workflow_id
        };
        let Some(offer) = self.offers.iter().find(of).cloned() else { return "nothing on offer".into() };
        let said = self.poll_offer(&offer, &offer.task_queue.clone());
        if let Some(task) = self.task.clone() {
            self.tasks.insert(workflow_id.into(), task);
        }
        said
    }

    /// The next answer of the worker is about the task of this workflow id.
    pub fn work_on(&mut self, workflow_id: &str) -> &mut Self {
        self.task = self.tasks.get(workflow_id).cloned();
        self
    }

    /// Takes the first workflow task on offer, from the queue that it is offered on.
    pub fn poll(&mut self) -> String {
        let Some(offer) = self.offers.iter().find(|offer| offer.kind == TaskKind::Workflow).cloned() else {
            return "nothing on offer".into();
        };
        self.poll_offer(&offer, &offer.task_queue.clone())
    }

    pub fn poll_offer(&mut self, offer: &stanchion_engine::effects::Offer, queue: &str) -> String {
        let run = &offer.task.run;
        let reply = self.apply(Kind::StartWorkflowTask(StartWorkflowTask {
            run: Some(RunRef { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() }),
            scheduled_event_id: offer.task.scheduled_event_id.0,
            attempt: offer.task.attempt,
            stamp: offer.task.stamp,
            poller: Some(Poller { request_id: format!("poll-{}", self.commands), ..poller("worker") }),
            polled_task_queue: queue.into(),
        }));
        if let Reply::WorkflowTaskStarted(start) = &reply {
            self.task = Some((**start).clone());
        }
        self.answer(&reply)
    }

    pub fn complete(&mut self, commands: Vec<cmd::Command>) -> String {
        self.complete_with(commands, |_| {})
    }

    pub fn complete_with(
        &mut self,
        commands: Vec<cmd::Command>,
        change: impl FnOnce(&mut RespondWorkflowTaskCompletedRequest),
    ) -> String {
        let mut request =
            RespondWorkflowTaskCompletedRequest { identity: "worker".into(), commands, ..Default::default() };
        change(&mut request);
        let reservations = std::mem::take(&mut self.reservations);
        let token = self.token();
        let reply = self.apply(Kind::CompleteWorkflowTask(CompleteWorkflowTask {
            token: Some(token),
            request: Some(request),
            reservations,
            has_pending_queries: false,
        }));
        self.eager_activities = match &reply {
            Reply::WorkflowTaskCompleted { eager_activities, .. } => eager_activities.clone(),
            _ => Vec::new(),
        };
        if let Reply::WorkflowTaskCompleted { next: Some(next), .. } = &reply {
            self.task = Some((**next).clone());
        }
        self.answer(&reply)
    }

    pub fn fail_task(&mut self) -> String {
        let request = RespondWorkflowTaskFailedRequest {
            cause: 14,
            failure: Some(failure("bug")),
            identity: "worker".into(),
            ..Default::default()
        };
        let token = self.token();
        let reply = self.apply(Kind::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request) }));
        self.answer(&reply)
    }

    pub fn token(&self) -> WorkflowTaskToken {
        self.task.as_ref().expect("a workflow task").token.clone()
    }

    // --- time ---

    /// Fires the rows of the timer queue that are due.
    pub fn fire_timers(&mut self) -> String {
        let (mut due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.timers).into_iter().partition(|timer| {
            // A schedule's is the leader's to answer, by looking.
            timer.at.0 <= self.now && stanchion_engine::timer_queue::schedule_to_wake(&timer.key).is_none()
        });
        due.sort();
        self.timers = later;
        let keys = due
            .iter()
            .map(|timer| command::TimerKey { slot: timer.slot.0.into(), key: timer.key.clone().into() })
            .collect();
        let reply = self.apply(Kind::FireTimers(FireTimers { keys }));
        self.answer(&reply)
    }

    /// Sends the deadlines of workflow tasks that have passed.
    pub fn fire_deadlines(&mut self) -> String {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.deadlines).into_iter().partition(|deadline| deadline.at.0 <= self.now);
        self.deadlines = later;
        let mut said = Vec::new();
        for deadline in due {
            let reply = self.apply(Kind::TimeoutWorkflowTask(TimeoutWorkflowTask {
                run: Some(RunRef {
                    workflow_id: deadline.task.run.workflow_id.clone(),
                    run_id: deadline.task.run.run_id.clone(),
                }),
                scheduled_event_id: deadline.task.scheduled_event_id.0,
                attempt: deadline.task.attempt,
                stamp: deadline.task.stamp,
                start_to_close: deadline.start_to_close,
            }));
            said.push(self.answer(&reply));
        }
        said.join("; ")
    }

    // --- between runs ---

    /// Delivers the messages that wait, and those that they cause, until none is left. Each delivery comes twice, as it may.
    pub fn deliver(&mut self) -> String {
        let mut said = Vec::new();
        while !self.outbox.is_empty() {
            let (reply, _) = (self.deliver_once(), self.redeliver());
            said.push(reply);
        }
        said.join("; ")
    }

    /// Delivers the messages that wait now.
    pub fn deliver_once(&mut self) -> String {
        let keys: Vec<_> = self.outbox.iter().copied().collect();
        self.deliver_these(&keys)
    }

    /// Delivers some of the messages that wait.
    pub fn deliver_these(&mut self, keys: &[OutboxKey]) -> String {
        let deliveries: Vec<_> = keys.iter().map(|key| self.delivery(*key)).collect();
        self.last_delivery = deliveries.clone();
        let reservations = std::mem::take(&mut self.reservations);
        let reply = self.apply(Kind::DeliverOutbox(DeliverOutbox { deliveries, acknowledge: true, reservations }));
        let Reply::Delivered { marks } = &reply else { panic!("a delivery was answered with {reply:?}") };
        let is_marked = |key: &OutboxKey| {
            let same = |mark: &&OutboxKey| (mark.source, mark.destination) == (key.source, key.destination);
            marks.iter().find(same).is_some_and(|mark| key.sequence <= mark.sequence)
        };
        self.outbox.retain(|key| !is_marked(key));
        self.answer(&reply)
    }

    /// The last delivery once more, as after a lost answer: nothing may change.
    pub fn redeliver(&mut self) {
        // The clock moves even by a command that does nothing.
        self.fire(&[]);
        let deliveries = self.last_delivery.clone();
        let before = self.state.hash();
        let deliver = DeliverOutbox { deliveries, acknowledge: true, ..Default::default() };
        self.apply(Kind::DeliverOutbox(deliver));
        assert_eq!(self.effects, Effects::default(), "a message was applied twice");
        assert_eq!(before, self.state.hash(), "a message was applied twice");
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

    fn delivery(&self, key: OutboxKey) -> OutboxDelivery {
        OutboxDelivery {
            source_slot: key.source.0.into(),
            destination_slot: key.destination.0.into(),
            sequence: key.sequence,
            row: stanchion_engine::outbox::message(&self.state, key).unwrap(),
        }
    }

    // --- what there is to see ---

    /// The stored history of the newest run.
    pub fn history(&self) -> String {
        self.history_of(self.runs.len())
    }

    /// The stored history of the n-th run that was started, from 1.
    pub fn history_of(&self, n: usize) -> String {
        self.events_of(n).iter().map(|event| self.ids(&show::event(event)) + "\n").collect()
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

// --- commands of a workflow ---

pub fn command(kind: CommandType, attributes: A) -> cmd::Command {
    cmd::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() }
}

pub fn complete_workflow(result: &str) -> cmd::Command {
    command(
        CommandType::CompleteWorkflowExecution,
        A::CompleteWorkflowExecutionCommandAttributes(cmd::CompleteWorkflowExecutionCommandAttributes {
            result: Some(payloads(result)),
        }),
    )
}

pub fn fail_workflow(message: &str) -> cmd::Command {
    command(
        CommandType::FailWorkflowExecution,
        A::FailWorkflowExecutionCommandAttributes(cmd::FailWorkflowExecutionCommandAttributes {
            failure: Some(failure(message)),
        }),
    )
}

pub fn cancel_workflow() -> cmd::Command {
    command(CommandType::CancelWorkflowExecution, A::CancelWorkflowExecutionCommandAttributes(Default::default()))
}

pub fn continue_as_new(input: &str) -> cmd::Command {
    command(
        CommandType::ContinueAsNewWorkflowExecution,
        A::ContinueAsNewWorkflowExecutionCommandAttributes(cmd::ContinueAsNewWorkflowExecutionCommandAttributes {
            input: Some(payloads(input)),
            ..Default::default()
        }),
    )
}

pub fn marker(name: &str) -> cmd::Command {
    command(
        CommandType::RecordMarker,
        A::RecordMarkerCommandAttributes(cmd::RecordMarkerCommandAttributes {
            marker_name: name.into(),
            ..Default::default()
        }),
    )
}

pub fn start_child(workflow_id: &str) -> cmd::Command {
    start_child_with(workflow_id, |_| {})
}

pub fn start_child_with(
    workflow_id: &str,
    change: impl FnOnce(&mut cmd::StartChildWorkflowExecutionCommandAttributes),
) -> cmd::Command {
    let mut attributes = cmd::StartChildWorkflowExecutionCommandAttributes {
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "Child".into() }),
        ..Default::default()
    };
    change(&mut attributes);
    command(CommandType::StartChildWorkflowExecution, A::StartChildWorkflowExecutionCommandAttributes(attributes))
}

pub fn signal_external(workflow_id: &str, name: &str) -> cmd::Command {
    command(
        CommandType::SignalExternalWorkflowExecution,
        A::SignalExternalWorkflowExecutionCommandAttributes(cmd::SignalExternalWorkflowExecutionCommandAttributes {
            execution: Some(WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }),
            signal_name: name.into(),
            ..Default::default()
        }),
    )
}

pub fn cancel_external(workflow_id: &str) -> cmd::Command {
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(
            cmd::RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: workflow_id.into(),
                reason: "enough".into(),
                ..Default::default()
            },
        ),
    )
}

pub fn cancel_child(workflow_id: &str) -> cmd::Command {
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(
            cmd::RequestCancelExternalWorkflowExecutionCommandAttributes {
                workflow_id: workflow_id.into(),
                child_workflow_only: true,
                ..Default::default()
            },
        ),
    )
}

pub fn start_timer(id: &str, seconds: i64) -> cmd::Command {
    command(
        CommandType::StartTimer,
        A::StartTimerCommandAttributes(cmd::StartTimerCommandAttributes {
            timer_id: id.into(),
            start_to_fire_timeout: Some(duration(seconds * SECOND)),
        }),
    )
}
