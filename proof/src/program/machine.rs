//! The interpreter: where a program stands after a history, and what it does next.
//!
//! ```text
//! events before a workflow task -> facts      updates of the task -> handlers, in order      then one advance: what to do next
//! ```
//!
//! The same function serves workers, which ask what comes next, and judges, which ask whether a history is one that the program can have
//! made. Where what the program does and what the history says differ, it is [`Nondeterminism`] (B7). A workflow task that failed or timed
//! out did nothing; its events count for the one that completed.
//!
//! Never guesses: an event that names what is unknown is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::enums::v1::TimeoutType;
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::update::v1 as update_proto;

use super::{Activity, Carried, Child, Ends, Input, OnCancel, Op, Program, child_workflow_id, cleanup, commands};

/// The history and the program disagree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("event {event_id}: {what}")]
pub struct Nondeterminism {
    pub event_id: i64,
    pub what: String,
}

/// How an activity or a child ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed(Value),
    Failed(String),
    /// With the type of the time-out.
    TimedOut(String),
    Canceled,
    Terminated,
}

/// What a run knows of one of its ops.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Timer { fired: bool },
    Recorded,
    Activity { cancel_requested: bool, ended: Option<Outcome> },
    Child(ToldOfChild),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToldOfChild {
    /// The run that was started first.
    pub run_id: Option<String>,
    pub failed_to_start: bool,
    /// Of each signal sent, in order.
    pub signals: Vec<Sent>,
    /// Of the request to cancel it, once it was sent.
    pub cancel: Option<Sent>,
    pub ended: Option<Outcome>,
}

/// What a run knows of a message to a child. No `Option` within an `Option`: in JSON, what is sent and what is not would read the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    OnItsWay,
    Reached,
    NotReached,
}

/// What a run closes with, and what it answers queries with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub chain: u32,
    #[serde(flatten)]
    pub carried: Carried,
    pub ops: BTreeMap<String, Told>,
}

/// An update as it was handed out with a workflow task, or as its acceptance stands in a history.
#[derive(Clone, Debug)]
pub struct Update {
    pub id: String,
    /// Of the message that asked; empty when read from a history.
    pub message_id: String,
    pub sequencing_event_id: i64,
    pub request: update_proto::Request,
}

/// What the workflow says to an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Accepted,
    Completed(Value),
    Rejected(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Close {
    Completed(Report),
    Failed(Report),
    Canceled(Report),
    ContinuedAsNew(Box<Input>),
}

/// Something that a workflow task does.
#[derive(Clone, Debug)]
pub enum Issue {
    Schedule {
        path: String,
        activity: Activity,
    },
    CancelActivity {
        path: String,
        scheduled_event_id: i64,
    },
    StartTimer {
        id: String,
        ms: u64,
    },
    CancelTimer {
        id: String,
    },
    Marker {
        path: String,
    },
    Memo {
        path: String,
    },
    StartChild {
        path: String,
        workflow_id: String,
        child: Box<Child>,
    },
    SignalChild {
        path: String,
        workflow_id: String,
        n: u32,
    },
    CancelChild {
        path: String,
        workflow_id: String,
    },
    /// Accepting an update, or completing it.
    Update {
        update: Box<Update>,
        reply: Reply,
    },
    Close(Close),
}

/// What an event's number stands for.
#[derive(Clone, Debug)]
enum Opened {
    Activity(String),
    Child(String),
    Signal(String, u32),
    Cancel(String),
}

#[derive(Clone, Debug)]
struct Slow {
    update: Update,
    answer: Value,
}

/// A run of a program.
#[derive(Clone, Debug)]
pub struct Machine {
    pub workflow_id: String,
    pub input: Input,
    pub carried: Carried,
    pub ops: BTreeMap<String, Told>,
    pub cancel_requested: bool,
    /// What the last workflow task did, when it closed the run.
    pub closing: Option<Close>,
    /// Updates that were accepted, with the outcomes of those that were completed.
    pub updates: BTreeMap<String, Option<Value>>,
    opened: BTreeMap<i64, Opened>,
    scheduled: BTreeMap<String, i64>,
    /// Timers beside those of timer ops: they are started, and fired once they are in here as well.
    timers: BTreeSet<String>,
    fired: BTreeSet<String>,
    slow: BTreeMap<String, Slow>,
    issued: Vec<Issue>,
}

/// The run after these events, which are its first ones without a gap. If the last of them is the start of a workflow task, then it is the
/// one to be decided: call [`Machine::decide`].
pub fn replay(workflow_id: &str, events: &[HistoryEvent]) -> Result<Machine, Nondeterminism> {
    let mut machine = Machine::begin(workflow_id, events.first())?;
    let mut at = 1;
    while let Some(event) = events.get(at) {
        at += 1;
        let completed = events.get(at).and_then(|next| next.attributes.as_ref());
        let (Some(Attributes::WorkflowTaskStartedEventAttributes(_)), Some(completed)) = (&event.attributes, completed)
        else {
            machine.take(event)?;
            continue;
        };
        if matches!(completed, Attributes::WorkflowTaskCompletedEventAttributes(_)) {
            at = machine.decided(events, at + 1)?;
        }
    }
    Ok(machine)
}

impl Machine {
    fn begin(workflow_id: &str, first: Option<&HistoryEvent>) -> Result<Self, Nondeterminism> {
        let Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) =
            first.and_then(|event| event.attributes.as_ref())
        else {
            return Err(Nondeterminism { event_id: 1, what: "the history does not begin with a start".into() });
        };
        let input: Input = read(started.input.as_ref())
            .map_err(|error| Nondeterminism { event_id: 1, what: format!("the input is no program: {error}") })?;
        Ok(Self {
            workflow_id: workflow_id.to_owned(),
            carried: input.carried.clone(),
            input,
            ops: BTreeMap::new(),
            cancel_requested: false,
            closing: None,
            updates: BTreeMap::new(),
            opened: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            timers: BTreeSet::new(),
            fired: BTreeSet::new(),
            slow: BTreeMap::new(),
            issued: Vec::new(),
        })
    }

    pub fn program(&self) -> &Program {
        &self.input.program
    }

    pub fn report(&self) -> Report {
        Report { chain: self.input.chain, carried: self.carried.clone(), ops: self.ops.clone() }
    }

    /// Plays one workflow task: the handlers of `updates`, then the program. Returns what to do, rejections of updates included.
    pub fn decide(&mut self, updates: &[Update]) -> Vec<Issue> {
        for update in updates {
            self.handle(update);
        }
        self.advance();
        std::mem::take(&mut self.issued)
    }

    /// Replays a completed workflow task whose effects begin at `at`. Returns the place after the last of them.
    fn decided(&mut self, events: &[HistoryEvent], mut at: usize) -> Result<usize, Nondeterminism> {
        let updates: Vec<Update> = events
            .iter()
            .skip(at)
            .take_while(|event| !begins_a_task(event))
            .filter_map(|event| match &event.attributes {
                Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(accepted)) => Some(Update {
                    id: accepted.protocol_instance_id.clone(),
                    message_id: accepted.accepted_request_message_id.clone(),
                    sequencing_event_id: accepted.accepted_request_sequencing_event_id,
                    request: accepted.accepted_request.clone().unwrap_or_default(),
                }),
                _ => None,
            })
            .collect();
        let issued = self.decide(&updates);
        for issue in issued {
            if let Issue::Update { reply: Reply::Rejected(why), update } = &issue {
                let event_id = events.get(at).map_or(0, |event| event.event_id);
                return Err(Nondeterminism {
                    event_id,
                    what: format!("update {} was accepted, not rejected: {why}", update.id),
                });
            }
            loop {
                let Some(event) = events.get(at).filter(|event| !begins_a_task(event)) else {
                    let event_id = events.last().map_or(0, |event| event.event_id);
                    return Err(Nondeterminism { event_id, what: format!("no event for {issue:?}") });
                };
                at += 1;
                if !commands::is_of_command(event) {
                    self.take(event)?;
                    continue;
                }
                if let Err(what) = commands::matches(&issue, event) {
                    return Err(Nondeterminism { event_id: event.event_id, what });
                }
                self.number(&issue, event.event_id);
                break;
            }
        }
        if let Some(event) = events.get(at).filter(|event| commands::is_of_command(event)) {
            return Err(Nondeterminism {
                event_id: event.event_id,
                what: "the program did nothing that makes this event".into(),
            });
        }
        Ok(at)
    }

    fn number(&mut self, issue: &Issue, event_id: i64) {
        let opened = match issue {
            Issue::Schedule { path, .. } => {
                self.scheduled.insert(path.clone(), event_id);
                Opened::Activity(path.clone())
            }
            Issue::StartChild { path, .. } => Opened::Child(path.clone()),
            Issue::SignalChild { path, n, .. } => Opened::Signal(path.clone(), *n),
            Issue::CancelChild { path, .. } => Opened::Cancel(path.clone()),
            Issue::CancelActivity { .. }
            | Issue::StartTimer { .. }
            | Issue::CancelTimer { .. }
            | Issue::Marker { .. }
            | Issue::Memo { .. }
            | Issue::Update { .. }
            | Issue::Close(_) => return,
        };
        self.opened.insert(event_id, opened);
    }

    /// Takes an event that no command made.
    fn take(&mut self, event: &HistoryEvent) -> Result<(), Nondeterminism> {
        use Attributes::*;
        let Some(attributes) = &event.attributes else { return Ok(()) };
        let broken = |what: String| Nondeterminism { event_id: event.event_id, what };
        match attributes {
            WorkflowExecutionSignaledEventAttributes(signal) => {
                let number = read(signal.input.as_ref()).map_err(|error| broken(format!("signal: {error}")))?;
                self.carried.signals.push(number);
            }
            WorkflowExecutionCancelRequestedEventAttributes(_) => self.cancel_requested = true,
            ActivityTaskCompletedEventAttributes(a) => {
                let result = read(a.result.as_ref()).map_err(|error| broken(format!("result: {error}")))?;
                self.activity_ended(event, a.scheduled_event_id, Outcome::Completed(result))?;
            }
            ActivityTaskFailedEventAttributes(a) => {
                self.activity_ended(event, a.scheduled_event_id, failed(a.failure.as_ref()))?;
            }
            ActivityTaskTimedOutEventAttributes(a) => {
                self.activity_ended(event, a.scheduled_event_id, timed_out(a.failure.as_ref()))?;
            }
            ActivityTaskCanceledEventAttributes(a) => {
                self.activity_ended(event, a.scheduled_event_id, Outcome::Canceled)?;
            }
            TimerFiredEventAttributes(a) => {
                if !self.timers.contains(&a.timer_id) {
                    return Err(broken(format!("no timer {:?} is running", a.timer_id)));
                }
                if !self.fired.insert(a.timer_id.clone()) {
                    return Err(broken(format!("timer {:?} fired before", a.timer_id)));
                }
                if let Some(Told::Timer { fired }) = self.ops.get_mut(&a.timer_id) {
                    *fired = true;
                }
            }
            ChildWorkflowExecutionStartedEventAttributes(a) => {
                let run_id = a.workflow_execution.as_ref().map(|run| run.run_id.clone());
                self.child(event, a.initiated_event_id)?.run_id = run_id;
            }
            StartChildWorkflowExecutionFailedEventAttributes(a) => {
                self.child(event, a.initiated_event_id)?.failed_to_start = true;
            }
            ChildWorkflowExecutionCompletedEventAttributes(a) => {
                let result = read(a.result.as_ref()).map_err(|error| broken(format!("child's result: {error}")))?;
                self.child(event, a.initiated_event_id)?.ended = Some(Outcome::Completed(result));
            }
            ChildWorkflowExecutionFailedEventAttributes(a) => {
                self.child(event, a.initiated_event_id)?.ended = Some(failed(a.failure.as_ref()));
            }
            ChildWorkflowExecutionCanceledEventAttributes(a) => {
                self.child(event, a.initiated_event_id)?.ended = Some(Outcome::Canceled);
            }
            ChildWorkflowExecutionTimedOutEventAttributes(a) => {
                self.child(event, a.initiated_event_id)?.ended = Some(Outcome::TimedOut("child".into()));
            }
            ChildWorkflowExecutionTerminatedEventAttributes(a) => {
                self.child(event, a.initiated_event_id)?.ended = Some(Outcome::Terminated);
            }
            ExternalWorkflowExecutionSignaledEventAttributes(a) => self.sent(event, a.initiated_event_id, true)?,
            SignalExternalWorkflowExecutionFailedEventAttributes(a) => self.sent(event, a.initiated_event_id, false)?,
            ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
                self.sent(event, a.initiated_event_id, true)?
            }
            RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
                self.sent(event, a.initiated_event_id, false)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn activity_ended(&mut self, event: &HistoryEvent, scheduled: i64, outcome: Outcome) -> Result<(), Nondeterminism> {
        let broken = |what: String| Nondeterminism { event_id: event.event_id, what };
        let Some(Opened::Activity(path)) = self.opened.get(&scheduled) else {
            return Err(broken(format!("event {scheduled} scheduled no activity")));
        };
        match self.ops.get_mut(path) {
            Some(Told::Activity { ended: ended @ None, .. }) => *ended = Some(outcome),
            _ => return Err(broken(format!("activity {path} ended before"))),
        }
        Ok(())
    }

    fn child(&mut self, event: &HistoryEvent, initiated: i64) -> Result<&mut ToldOfChild, Nondeterminism> {
        let broken = |what: String| Nondeterminism { event_id: event.event_id, what };
        let Some(Opened::Child(path)) = self.opened.get(&initiated) else {
            return Err(broken(format!("event {initiated} initiated no child")));
        };
        match self.ops.get_mut(path) {
            Some(Told::Child(told)) if told.ended.is_none() => Ok(told),
            _ => Err(broken(format!("child {path} ended before"))),
        }
    }

    fn sent(&mut self, event: &HistoryEvent, initiated: i64, reached: bool) -> Result<(), Nondeterminism> {
        let broken = |what: &str| Nondeterminism { event_id: event.event_id, what: what.to_owned() };
        let (path, place) = match self.opened.get(&initiated) {
            Some(Opened::Signal(path, n)) => (path, Some(*n as usize)),
            Some(Opened::Cancel(path)) => (path, None),
            _ => return Err(broken("it names no message to a child")),
        };
        let Some(Told::Child(told)) = self.ops.get_mut(path) else { return Err(broken("it names no child")) };
        let known = match place {
            Some(n) => told.signals.get_mut(n),
            None => told.cancel.as_mut(),
        };
        match known {
            Some(known @ Sent::OnItsWay) => *known = if reached { Sent::Reached } else { Sent::NotReached },
            _ => return Err(broken("the outcome of that message was known before")),
        }
        Ok(())
    }

    fn handle(&mut self, update: &Update) {
        let input = update.request.input.clone().unwrap_or_default();
        let reply = if self.updates.contains_key(&update.id) {
            // The server hands an update out once; that it did so twice shows in the history as two acceptances.
            Reply::Accepted
        } else {
            self.perform(&update.id, &input.name, input.args.as_ref())
        };
        let issue = |reply| Issue::Update { update: Box::new(update.clone()), reply };
        match reply {
            Reply::Completed(answer) => {
                self.updates.insert(update.id.clone(), Some(answer.clone()));
                self.issued.push(issue(Reply::Accepted));
                self.issued.push(issue(Reply::Completed(answer)));
            }
            Reply::Accepted => {
                self.updates.entry(update.id.clone()).or_insert(None);
                self.issued.push(issue(Reply::Accepted));
                if let Some(slow) = self.slow.get_mut(&update.id) {
                    slow.update = update.clone();
                    let id = format!("update {}", update.id);
                    self.timers.insert(id.clone());
                    self.issued.push(Issue::StartTimer { id, ms: 150 });
                }
            }
            Reply::Rejected(_) => self.issued.push(issue(reply)),
        }
    }

    /// The handlers. `append` rejects what 5 divides; `slow` is an append that answers later; `set` compares and sets the register.
    fn perform(&mut self, id: &str, name: &str, args: Option<&Payloads>) -> Reply {
        match name {
            "append" | "slow" => {
                let number: i64 = match read(args) {
                    Ok(number) => number,
                    Err(error) => return Reply::Rejected(error),
                };
                if number % 5 == 0 {
                    return Reply::Rejected(format!("5 divides {number}"));
                }
                self.carried.log.push(number);
                let answer = json!(self.carried.log.len());
                if name == "append" {
                    return Reply::Completed(answer);
                }
                let nothing = Update {
                    id: id.to_owned(),
                    message_id: String::new(),
                    sequencing_event_id: 0,
                    request: update_proto::Request::default(),
                };
                self.slow.insert(id.to_owned(), Slow { update: nothing, answer });
                Reply::Accepted
            }
            "set" => {
                let (from, to): (i64, i64) = match read(args) {
                    Ok(pair) => pair,
                    Err(error) => return Reply::Rejected(error),
                };
                let was = self.carried.register;
                if was == from {
                    self.carried.register = to;
                }
                Reply::Completed(json!({ "was": was, "set": was == from }))
            }
            other => Reply::Rejected(format!("no handler for {other:?}")),
        }
    }

    fn advance(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let answered: Vec<String> =
            self.slow.keys().filter(|id| self.fired.contains(&format!("update {id}"))).cloned().collect();
        for id in answered {
            if let Some(slow) = self.slow.remove(&id) {
                self.updates.insert(id, Some(slow.answer.clone()));
                self.issued.push(Issue::Update { update: Box::new(slow.update), reply: Reply::Completed(slow.answer) });
            }
        }
        let program = self.input.program.clone();
        let canceled = self.cancel_requested && program.on_cancel != OnCancel::Ignores;
        let done = if canceled { self.unwind(program.on_cancel) } else { self.walk(&program.body, "") };
        if !done || !self.slow.is_empty() {
            return;
        }
        let close = match program.ends {
            _ if canceled => Close::Canceled(self.report()),
            Ends::Completes => Close::Completed(self.report()),
            Ends::Fails => Close::Failed(self.report()),
            Ends::ContinuesAsNew(rest) => Close::ContinuedAsNew(Box::new(Input {
                program: *rest,
                chain: self.input.chain + 1,
                carried: self.carried.clone(),
            })),
        };
        self.closing = Some(close.clone());
        self.issued.push(Issue::Close(close));
    }

    /// In order: an op begins when the one before it is done. Returns whether all are.
    fn walk(&mut self, body: &[Op], prefix: &str) -> bool {
        body.iter().enumerate().all(|(place, op)| self.step(op, &format!("{prefix}{place}")))
    }

    fn step(&mut self, op: &Op, path: &str) -> bool {
        match op {
            Op::Activity(activity) => self.activity(path, activity),
            Op::Timer { ms } => {
                if !self.ops.contains_key(path) {
                    self.ops.insert(path.to_owned(), Told::Timer { fired: false });
                    self.start_timer(path.to_owned(), *ms);
                }
                self.fired.contains(path)
            }
            Op::Signals { at_least } => self.carried.signals.len() >= *at_least as usize,
            Op::Marker => self.record(path, |path| Issue::Marker { path }),
            Op::Memo => self.record(path, |path| Issue::Memo { path }),
            Op::Child(child) => self.run_child(path, child),
            Op::Parallel(branches) => {
                let mut done = true;
                for (place, branch) in branches.iter().enumerate() {
                    done &= self.walk(branch, &format!("{path}.{place}."));
                }
                done
            }
        }
    }

    fn record(&mut self, path: &str, issue: impl FnOnce(String) -> Issue) -> bool {
        if self.ops.insert(path.to_owned(), Told::Recorded).is_none() {
            self.issued.push(issue(path.to_owned()));
        }
        true
    }

    fn start_timer(&mut self, id: String, ms: u64) {
        self.timers.insert(id.clone());
        self.issued.push(Issue::StartTimer { id, ms });
    }

    fn activity(&mut self, path: &str, activity: &Activity) -> bool {
        let timer = format!("{path} cancel");
        let Some(told) = self.ops.get_mut(path) else {
            self.ops.insert(path.to_owned(), Told::Activity { cancel_requested: false, ended: None });
            self.issued.push(Issue::Schedule { path: path.to_owned(), activity: activity.clone() });
            if activity.cancel_after_ms > 0 {
                self.start_timer(timer, activity.cancel_after_ms);
            }
            return false;
        };
        let Told::Activity { cancel_requested, ended } = told else { return false };
        let fired = self.fired.contains(&timer);
        if ended.is_some() {
            if !fired && self.timers.remove(&timer) {
                self.issued.push(Issue::CancelTimer { id: timer });
            }
            return true;
        }
        if fired && !*cancel_requested {
            *cancel_requested = true;
            let scheduled_event_id = self.scheduled.get(path).copied().unwrap_or_default();
            self.issued.push(Issue::CancelActivity { path: path.to_owned(), scheduled_event_id });
        }
        false
    }

    fn run_child(&mut self, path: &str, child: &Child) -> bool {
        let workflow_id = child_workflow_id(&self.workflow_id, self.input.chain, path);
        let Some(Told::Child(told)) = self.ops.get_mut(path) else {
            self.ops.insert(path.to_owned(), Told::Child(ToldOfChild::default()));
            let child = Box::new(child.clone());
            self.issued.push(Issue::StartChild { path: path.to_owned(), workflow_id, child });
            return false;
        };
        if told.failed_to_start {
            return true;
        }
        if told.run_id.is_none() {
            return false;
        }
        // One message after the other, so that their order at the child is known.
        if told.signals.contains(&Sent::OnItsWay) || told.cancel == Some(Sent::OnItsWay) {
            return false;
        }
        if told.signals.len() < child.signals as usize {
            let n = told.signals.len() as u32;
            told.signals.push(Sent::OnItsWay);
            self.issued.push(Issue::SignalChild { path: path.to_owned(), workflow_id, n });
            return false;
        }
        if child.cancels && told.cancel.is_none() {
            told.cancel = Some(Sent::OnItsWay);
            self.issued.push(Issue::CancelChild { path: path.to_owned(), workflow_id });
            return false;
        }
        !child.waits || told.ended.is_some()
    }

    /// What a run does when it is to be canceled. Returns whether it may close.
    fn unwind(&mut self, how: OnCancel) -> bool {
        if how == OnCancel::Closes {
            return true;
        }
        let mut settled = true;
        let mut issued = Vec::new();
        for (path, told) in &mut self.ops {
            match told {
                Told::Activity { cancel_requested, ended: None } if path != "cleanup" => {
                    settled = false;
                    if !*cancel_requested {
                        *cancel_requested = true;
                        let scheduled_event_id = self.scheduled.get(path).copied().unwrap_or_default();
                        issued.push(Issue::CancelActivity { path: path.clone(), scheduled_event_id });
                    }
                }
                // A child that has not started yet cannot be asked; one that others asked already is left alone.
                Told::Child(told) if told.run_id.is_some() && told.ended.is_none() && told.cancel.is_none() => {
                    told.cancel = Some(Sent::OnItsWay);
                    let workflow_id = child_workflow_id(&self.workflow_id, self.input.chain, path);
                    issued.push(Issue::CancelChild { path: path.clone(), workflow_id });
                }
                Told::Timer { .. } | Told::Recorded | Told::Activity { .. } | Told::Child(_) => {}
            }
        }
        let idle: Vec<String> =
            self.timers.iter().filter(|id| !self.fired.contains(*id) && !id.starts_with("update ")).cloned().collect();
        for id in idle {
            self.timers.remove(&id);
            issued.push(Issue::CancelTimer { id });
        }
        self.issued.extend(issued);
        settled && self.activity("cleanup", &cleanup())
    }
}

fn begins_a_task(event: &HistoryEvent) -> bool {
    use Attributes::*;
    matches!(event.attributes, Some(WorkflowTaskScheduledEventAttributes(_) | WorkflowTaskStartedEventAttributes(_)))
}

/// The one JSON value of a payload.
pub(crate) fn read<T: DeserializeOwned>(payloads: Option<&Payloads>) -> Result<T, String> {
    let data = payloads.and_then(|payloads| payloads.payloads.first()).map(|payload| payload.data.clone());
    let data = data.ok_or("no payload")?;
    serde_json::from_slice(&data).map_err(|error| error.to_string())
}

/// A failure as the deepest cause tells it.
fn failed(failure: Option<&Failure>) -> Outcome {
    let mut failure = failure;
    while let Some(cause) = failure.and_then(|failure| failure.cause.as_deref()) {
        failure = Some(cause);
    }
    Outcome::Failed(failure.map(|failure| failure.message.clone()).unwrap_or_default())
}

fn timed_out(failure: Option<&Failure>) -> Outcome {
    let kind = match failure.and_then(|failure| failure.failure_info.as_ref()) {
        Some(FailureInfo::TimeoutFailureInfo(info)) => info.timeout_type(),
        _ => TimeoutType::Unspecified,
    };
    Outcome::TimedOut(kind.as_str_name().to_owned())
}
