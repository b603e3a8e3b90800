//! What holds between the runs of a namespace: each has one successor at most, each child one parent that knows how it ended, and of each
//! workflow one run is open.
//!
//! A run that is not among those looked at (deleted, or past its retention) breaks nothing.
//!
//! Called by `stanchion verify`.

use std::collections::{BTreeMap, BTreeSet};

use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::Violation;

/// What others say of a run, and it of them.
#[derive(Clone, Default, Debug)]
pub struct Outline {
    pub workflow_id: String,
    pub run_id: String,
    /// The run whose first events it has; another one than itself if it was begun anew from that one's history.
    original: String,
    first_run_id: String,
    continued_from: String,
    parent: Option<(String, i64)>,
    closed: Option<Ending>,
    next: String,
    /// By the event that initiated it.
    children: BTreeMap<i64, Child>,
}

#[derive(Clone, Default, Debug)]
struct Child {
    run_id: String,
    ended: Option<(i64, Ending)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Completed,
    Failed,
    Canceled,
    TimedOut,
    Terminated,
    ContinuedAsNew,
}

impl Outline {
    /// From a run's whole history.
    pub fn of(workflow_id: &str, run_id: &str, events: &[HistoryEvent]) -> Self {
        let mut outline = Self { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned(), ..Default::default() };
        for event in events {
            if let Some(attributes) = &event.attributes {
                outline.take(event.event_id, attributes);
            }
        }
        outline
    }

    /// How it ended; none while it is open.
    pub fn closed(&self) -> Option<Ending> {
        self.closed
    }

    fn take(&mut self, event_id: i64, attributes: &Attributes) {
        use Attributes::*;
        let mut close = |ending, next: &str| {
            self.closed = Some(ending);
            next.clone_into(&mut self.next);
        };
        match attributes {
            WorkflowExecutionStartedEventAttributes(a) => {
                self.original.clone_from(&a.original_execution_run_id);
                self.first_run_id.clone_from(&a.first_execution_run_id);
                self.continued_from.clone_from(&a.continued_execution_run_id);
                let parent = a.parent_workflow_execution.as_ref();
                self.parent = parent.map(|parent| (parent.run_id.clone(), a.parent_initiated_event_id));
            }
            WorkflowExecutionCompletedEventAttributes(a) => close(Ending::Completed, &a.new_execution_run_id),
            WorkflowExecutionFailedEventAttributes(a) => close(Ending::Failed, &a.new_execution_run_id),
            WorkflowExecutionTimedOutEventAttributes(a) => close(Ending::TimedOut, &a.new_execution_run_id),
            WorkflowExecutionCanceledEventAttributes(_) => close(Ending::Canceled, ""),
            WorkflowExecutionTerminatedEventAttributes(_) => close(Ending::Terminated, ""),
            WorkflowExecutionContinuedAsNewEventAttributes(a) => close(Ending::ContinuedAsNew, &a.new_execution_run_id),
            ChildWorkflowExecutionStartedEventAttributes(a) => {
                let run = a.workflow_execution.as_ref().map(|run| run.run_id.clone()).unwrap_or_default();
                self.children.insert(a.initiated_event_id, Child { run_id: run, ended: None });
            }
            ChildWorkflowExecutionCompletedEventAttributes(a) => {
                self.child_ended(a.initiated_event_id, event_id, Ending::Completed);
            }
            ChildWorkflowExecutionFailedEventAttributes(a) => {
                self.child_ended(a.initiated_event_id, event_id, Ending::Failed);
            }
            ChildWorkflowExecutionCanceledEventAttributes(a) => {
                self.child_ended(a.initiated_event_id, event_id, Ending::Canceled);
            }
            ChildWorkflowExecutionTimedOutEventAttributes(a) => {
                self.child_ended(a.initiated_event_id, event_id, Ending::TimedOut);
            }
            ChildWorkflowExecutionTerminatedEventAttributes(a) => {
                self.child_ended(a.initiated_event_id, event_id, Ending::Terminated);
            }
            _ => {}
        }
    }

    fn child_ended(&mut self, initiated: i64, event_id: i64, ending: Ending) {
        if let Some(child) = self.children.get_mut(&initiated) {
            child.ended = Some((event_id, ending));
        }
    }

    fn is_reset(&self) -> bool {
        self.original != self.run_id
    }

    fn broken(&self, rule: &'static str, event_id: i64, what: String) -> Violation {
        Violation { rule, workflow_id: self.workflow_id.clone(), run_id: self.run_id.clone(), event_id, what }
    }
}

/// Every rule that these runs of one namespace, seen at one moment, break together.
pub fn check(runs: &[Outline]) -> Vec<Violation> {
    let by_id: BTreeMap<&str, &Outline> = runs.iter().map(|run| (&*run.run_id, run)).collect();
    let resets: BTreeSet<&str> = runs.iter().filter(|run| run.is_reset()).map(|run| &*run.original).collect();
    let mut broken = Vec::new();
    let mut open: BTreeMap<&str, &Outline> = BTreeMap::new();
    let mut successors: BTreeMap<&str, &Outline> = BTreeMap::new();
    let mut started_by: BTreeMap<(&str, i64), &Outline> = BTreeMap::new();
    for run in runs {
        if run.closed.is_none()
            && let Some(other) = open.insert(&run.workflow_id, run)
        {
            broken.push(run.broken("A3", 0, format!("run {} of the workflow is open too", other.run_id)));
        }
        // What a reset run says of where it comes from, it says in the words of the run that was reset.
        if run.is_reset() {
            continue;
        }
        if !run.continued_from.is_empty() {
            if let Some(other) = successors.insert(&run.continued_from, run) {
                let what = format!("run {} continues run {} too", other.run_id, run.continued_from);
                broken.push(run.broken("B6", 1, what));
            }
        } else if let Some((parent, initiated)) = &run.parent
            && let Some(other) = started_by.insert((parent, *initiated), run)
        {
            broken.push(run.broken(
                "G1",
                1,
                format!("run {} was started by the same event of run {parent}", other.run_id),
            ));
        }
    }
    for run in runs {
        if let Some(next) = by_id.get(&*run.next) {
            if !next.is_reset() && next.continued_from != run.run_id {
                let what = format!("its successor {} says that it continues {:?}", next.run_id, next.continued_from);
                broken.push(run.broken("B6", 0, what));
            }
            if next.first_run_id != run.first_run_id {
                let what =
                    format!("its successor {} names {} as the first of the chain", next.run_id, next.first_run_id);
                broken.push(run.broken("B6", 0, what));
            }
        }
        for (initiated, child) in &run.children {
            // Of a child that was reset, its parent hears from one of the runs that came of it.
            let chain = chain(&child.run_id, &by_id);
            if !chain.iter().any(|run| resets.contains(&*run.original)) {
                check_child(run, *initiated, child, &chain, &mut broken);
            }
        }
    }
    broken
}

/// A run and those that came after it.
fn chain<'a>(run_id: &str, by_id: &BTreeMap<&str, &'a Outline>) -> Vec<&'a Outline> {
    let mut chain: Vec<&Outline> = Vec::new();
    let mut next = run_id;
    while let Some(run) = by_id.get(next) {
        // A run that comes after itself is broken, and reported where its successor is looked at.
        if chain.iter().any(|earlier| earlier.run_id == run.run_id) {
            break;
        }
        chain.push(run);
        next = &run.next;
    }
    chain
}

fn check_child(parent: &Outline, initiated: i64, child: &Child, chain: &[&Outline], broken: &mut Vec<Violation>) {
    // The result is that of the last run of the child's chain.
    let (Some(last), Some((event_id, said))) = (chain.last(), child.ended) else { return };
    let is_so = match last.closed {
        Some(ending) => ending == said || !last.next.is_empty(),
        None => false,
    };
    if !is_so {
        let is = last.closed.map_or("is open".to_owned(), |ending| format!("ended as {ending:?}"));
        let what = format!("the child of event {initiated} ended as {said:?}, but run {} {is}", last.run_id);
        broken.push(parent.broken("G1", event_id, what));
    }
}
