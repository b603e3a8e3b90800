//! The evidence, put in order: runs, the chains that they form, and what was asked of each workflow.

use std::collections::BTreeMap;
use std::fmt;

use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{HistoryEvent, WorkflowExecutionStartedEventAttributes};

use crate::drive::Load;
use crate::history::RunHistory;
use crate::journal::Operation;
use crate::ledger::Line;
use crate::program::machine::read;
use crate::program::{Child, Evidence, Input, Machine, Nondeterminism, Op, replay};

pub struct Scene<'a> {
    pub load: &'a Load,
    pub evidence: Evidence,
    /// By run id.
    pub runs: BTreeMap<&'a str, Run<'a>>,
    /// By workflow id: its first run and those that continue it. Of a workflow with two first runs, the one that an acknowledged start
    /// names, or any.
    pub chains: BTreeMap<&'a str, Vec<Run<'a>>>,
    /// Run ids of first runs, by workflow id.
    pub first_runs: BTreeMap<&'a str, Vec<&'a str>>,
    /// By workflow id, in order of invocation.
    pub asked: BTreeMap<&'a str, Vec<&'a Operation>>,
}

#[derive(Clone)]
pub struct Run<'a> {
    pub history: &'a RunHistory,
    pub machine: Result<Machine, Nondeterminism>,
    input: Option<Input>,
}

impl<'a> Scene<'a> {
    pub fn of(load: &'a Load, operations: &'a [Operation], ledger: &[Line], histories: &'a [RunHistory]) -> Self {
        let prefix = load.prefix();
        let mut runs = BTreeMap::new();
        for history in histories.iter().filter(|history| history.workflow_id.starts_with(&prefix)) {
            let machine = replay(&history.workflow_id, &history.events);
            let input = started(history).and_then(|started| read(started.input.as_ref()).ok());
            runs.insert(&*history.run_id, Run { history, machine, input });
        }
        let mut asked: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in operations.iter().filter(|operation| operation.key.starts_with(&prefix)) {
            asked.entry(&*operation.key).or_default().push(operation);
        }
        let mut first_runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for run in runs.values() {
            if run.started().is_some_and(|started| started.continued_execution_run_id.is_empty()) {
                first_runs.entry(&*run.history.workflow_id).or_default().push(&*run.history.run_id);
            }
        }
        let mut chains = BTreeMap::new();
        for (id, firsts) in &first_runs {
            let mut chain: Vec<Run<'a>> = Vec::new();
            let mut next = firsts.first().copied();
            while let Some(run) = next.and_then(|run_id| runs.get(run_id)) {
                if chain.len() > runs.len() {
                    break;
                }
                chain.push(run.clone());
                next = run.next_run_id();
            }
            chains.insert(*id, chain);
        }
        Self { load, evidence: Evidence::of(ledger), runs, chains, first_runs, asked }
    }

    pub fn chain(&self, workflow_id: &str) -> &[Run<'a>] {
        self.chains.get(workflow_id).map_or(&[], Vec::as_slice)
    }

    pub fn asked(&self, workflow_id: &str, f: &str) -> impl Iterator<Item = &'a Operation> {
        let all = self.asked.get(workflow_id).cloned().unwrap_or_default();
        let f = f.to_owned();
        all.into_iter().filter(move |operation| operation.f == f)
    }

    /// Whether an operation of this kind may have had an effect on a workflow.
    pub fn maybe(&self, workflow_id: &str, f: &str) -> bool {
        self.asked(workflow_id, f).any(|operation| !operation.failed())
    }

    /// Whether one was acknowledged.
    pub fn acknowledged(&self, workflow_id: &str, f: &str) -> bool {
        self.asked(workflow_id, f).any(|operation| operation.ok().is_some())
    }

    /// The run that started a child, and what its program says of it.
    pub fn child_op(&self, run: &Run<'a>) -> Option<(&Run<'a>, Child)> {
        let parent = run.started()?.parent_workflow_execution.as_ref()?;
        let parent = self.runs.get(&*parent.run_id)?;
        let (_, path) = run.history.workflow_id.strip_prefix(&*parent.history.workflow_id)?.split_once('.')?;
        match parent.input()?.program.op(path)? {
            Op::Child(child) => Some((parent, (**child).clone())),
            _ => None,
        }
    }

    /// An operation that shows that a workflow was open once another one had been answered.
    pub fn open_after(&self, workflow_id: &str, before: &Operation) -> Option<&'a Operation> {
        let answered = before.settled()?;
        let mut taken = self.asked(workflow_id, "signal").chain(self.asked(workflow_id, "update"));
        taken.find(|taken| taken.ok().is_some() && taken.invoked > answered)
    }

    /// Every signal of a workflow, in the order of its events.
    pub fn signals(&self, workflow_id: &str) -> Vec<i64> {
        self.chain(workflow_id).iter().flat_map(Run::signals).collect()
    }
}

impl<'a> Run<'a> {
    pub fn started(&self) -> Option<&'a WorkflowExecutionStartedEventAttributes> {
        started(self.history)
    }

    pub fn input(&self) -> Option<&Input> {
        self.input.as_ref()
    }

    /// Every signal that it took itself, in the order of its events.
    pub fn signals(&self) -> Vec<i64> {
        let of = |event: &HistoryEvent| match &event.attributes {
            Some(Attributes::WorkflowExecutionSignaledEventAttributes(signal)) => read(signal.input.as_ref()).ok(),
            _ => None,
        };
        self.history.events.iter().filter_map(of).collect()
    }

    /// The event that closed it.
    pub fn close(&self) -> Option<&'a HistoryEvent> {
        self.history.events.last().filter(|event| {
            matches!(
                event.event_type(),
                EventType::WorkflowExecutionCompleted
                    | EventType::WorkflowExecutionFailed
                    | EventType::WorkflowExecutionTimedOut
                    | EventType::WorkflowExecutionCanceled
                    | EventType::WorkflowExecutionTerminated
                    | EventType::WorkflowExecutionContinuedAsNew
            )
        })
    }

    pub fn closed_as(&self) -> Option<EventType> {
        self.close().map(HistoryEvent::event_type)
    }

    fn next_run_id(&self) -> Option<&'a str> {
        match &self.close()?.attributes {
            Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) => Some(&a.new_execution_run_id),
            _ => None,
        }
    }

    /// What it gave to the run that continues it.
    pub fn next_input(&self) -> Option<Input> {
        match &self.close()?.attributes {
            Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) => read(a.input.as_ref()).ok(),
            _ => None,
        }
    }

    /// Its events, a line each: long ones by their last part.
    pub fn show(&self) -> Vec<String> {
        let events = &self.history.events;
        let skipped = events.len().saturating_sub(24);
        let head = (skipped > 0).then(|| format!("… {skipped} events before"));
        head.into_iter().chain(events.iter().skip(skipped).map(line)).collect()
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} run {}", self.history.workflow_id, self.history.run_id)
    }
}

/// An event, to show: what it says, without the names of fields that say nothing.
pub fn line(event: &HistoryEvent) -> String {
    let text = format!("{:?}", event.attributes);
    let mut text = text.split_once('{').map_or("", |(_, rest)| rest).replace("..Default::default()", "");
    for empty in ["None", "\"\"", "0", "false", "{}", "[]"] {
        while let Some((begin, end)) = field_with(&text, empty) {
            text.replace_range(begin..end, "");
        }
    }
    if text.len() > 240 {
        let end = (0..=240).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    format!(
        "{:>4} {}: {}",
        event.event_id,
        event.event_type().as_str_name().trim_start_matches("EVENT_TYPE_"),
        text.trim()
    )
}

/// Where a field `name: value, ` of an empty value stands.
fn field_with(text: &str, empty: &str) -> Option<(usize, usize)> {
    let value = text.find(&format!(": {empty}, "))?;
    let begin = text.get(..value)?.rfind(' ').map_or(0, |space| space + 1);
    Some((begin, value + empty.len() + 4))
}

fn started(history: &RunHistory) -> Option<&WorkflowExecutionStartedEventAttributes> {
    match &history.events.first()?.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => Some(started),
        _ => None,
    }
}
