//! What holds of the events of one run, from its first to its last: a state machine for each thing that events open and end.
//!
//! Times are compared only where a rule is about them: events that waited for a workflow task to end keep the time at which they
//! happened, so the times of a history need not rise.
//!
//! Called by engine tests after each scenario and by `stanchion verify`.

use std::collections::{BTreeMap, BTreeSet};

use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::Violation;
use crate::time;

/// What an event opens and others end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    WorkflowTask,
    Activity,
    Timer,
    Child,
    ExternalSignal,
    ExternalCancel,
    Update,
}

/// What an event does to what is open.
enum Role {
    Begins,
    Opens(Kind),
    /// Once in the life of what the event with this id opened.
    Starts(Kind, i64),
    /// The last word on it.
    Ends(Kind, i64),
    /// Of the run.
    Closes,
    /// Says nothing about anything open.
    Other,
}

struct Open {
    kind: Kind,
    started: i64,
    /// Timers: when it may fire, in nanoseconds since the epoch.
    due_at: Option<i64>,
}

/// Every rule that these events, which are a whole history so far, break.
pub fn check(workflow_id: &str, run_id: &str, events: &[HistoryEvent]) -> Vec<Violation> {
    let mut state = State { workflow_id, run_id, ..Default::default() };
    for (place, event) in events.iter().enumerate() {
        state.take(place, event);
    }
    state.violations
}

#[derive(Default)]
struct State<'a> {
    workflow_id: &'a str,
    run_id: &'a str,
    open: BTreeMap<i64, Open>,
    /// Events with which workflow tasks were completed.
    completed_tasks: BTreeSet<i64>,
    update_ids: BTreeSet<String>,
    closed_by: i64,
    violations: Vec<Violation>,
}

impl State<'_> {
    fn broken(&mut self, rule: &'static str, event: &HistoryEvent, what: String) {
        let (workflow_id, run_id) = (self.workflow_id.to_owned(), self.run_id.to_owned());
        self.violations.push(Violation { rule, workflow_id, run_id, event_id: event.event_id, what });
    }

    fn take(&mut self, place: usize, event: &HistoryEvent) {
        let expected = place as i64 + 1;
        if event.event_id != expected {
            self.broken("B1", event, format!("event number {expected} has the id {}", event.event_id));
        }
        let Some(attributes) = &event.attributes else {
            return self.broken("B1", event, "the event has no attributes".into());
        };
        if self.closed_by != 0 {
            self.broken("B5", event, format!("the run was closed by event {}", self.closed_by));
        }
        if (place == 0) != matches!(attributes, Attributes::WorkflowExecutionStartedEventAttributes(_)) {
            self.broken("B1", event, "the first event, and no other, says that the run was started".into());
        }
        let cause = caused_by(attributes);
        if cause != 0 && !self.completed_tasks.contains(&cause) {
            self.broken("B4", event, format!("it names event {cause} as the completed task that it comes from"));
        }
        match role(attributes) {
            Role::Begins | Role::Other => {}
            Role::Opens(kind) => self.opens(kind, event, attributes),
            Role::Starts(kind, id) => self.starts(kind, id, event),
            Role::Ends(kind, id) => self.ends(kind, id, event, attributes),
            Role::Closes => self.closed_by = event.event_id,
        }
    }

    fn opens(&mut self, kind: Kind, event: &HistoryEvent, attributes: &Attributes) {
        let other = self.open.iter().find(|(_, open)| kind == Kind::WorkflowTask && open.kind == kind);
        if let Some(other) = other.map(|(id, _)| *id) {
            self.broken("C1", event, format!("the workflow task of event {other} is open still"));
        }
        let mut due_at = None;
        match attributes {
            Attributes::TimerStartedEventAttributes(timer) => {
                let wait = time::nanos(timer.start_to_fire_timeout.as_ref());
                due_at = Some(event_nanos(event).saturating_add(wait));
            }
            Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(update)
                if !self.update_ids.insert(update.protocol_instance_id.clone()) =>
            {
                self.broken("E3", event, format!("update {:?} was accepted before", update.protocol_instance_id));
            }
            _ => {}
        }
        self.open.insert(event.event_id, Open { kind, started: 0, due_at });
    }

    fn starts(&mut self, kind: Kind, id: i64, event: &HistoryEvent) {
        match self.open.get_mut(&id) {
            Some(open) if open.kind == kind && open.started == 0 => open.started = event.event_id,
            Some(open) if open.kind == kind => {
                let before = open.started;
                self.broken(
                    started_twice(kind),
                    event,
                    format!("what event {id} opened was started by event {before}"),
                );
            }
            _ => self.broken("B4", event, format!("event {id} opened no {kind:?} that is open")),
        }
    }

    fn ends(&mut self, kind: Kind, id: i64, event: &HistoryEvent, attributes: &Attributes) {
        let open = match self.open.remove(&id) {
            Some(open) if open.kind == kind => open,
            found => {
                if let Some(other) = found {
                    self.open.insert(id, other);
                }
                return self.broken("B4", event, format!("event {id} opened no {kind:?} that is open"));
            }
        };
        let started = started_by(attributes);
        if started.is_some_and(|started| started != open.started) {
            let (said, was) = (started.unwrap_or_default(), open.started);
            self.broken("B4", event, format!("it says that event {said} started what event {was} did"));
        }
        match attributes {
            Attributes::WorkflowTaskCompletedEventAttributes(_) => {
                self.completed_tasks.insert(event.event_id);
            }
            Attributes::TimerFiredEventAttributes(_) => {
                let early = open.due_at.map_or(0, |due| due - event_nanos(event));
                if early > 0 {
                    self.broken("F1", event, format!("the timer of event {id} fired {early} ns early"));
                }
            }
            _ => {}
        }
    }
}

fn event_nanos(event: &HistoryEvent) -> i64 {
    let time = event.event_time.as_ref();
    time.map_or(0, |at| at.seconds.saturating_mul(time::SECOND).saturating_add(i64::from(at.nanos)))
}

fn started_twice(kind: Kind) -> &'static str {
    match kind {
        Kind::Activity => "H1",
        Kind::Child => "G1",
        _ => "C1",
    }
}

fn role(attributes: &Attributes) -> Role {
    use Attributes::*;
    match attributes {
        WorkflowExecutionStartedEventAttributes(_) => Role::Begins,
        WorkflowTaskScheduledEventAttributes(_) => Role::Opens(Kind::WorkflowTask),
        WorkflowTaskStartedEventAttributes(a) => Role::Starts(Kind::WorkflowTask, a.scheduled_event_id),
        WorkflowTaskCompletedEventAttributes(a) => Role::Ends(Kind::WorkflowTask, a.scheduled_event_id),
        WorkflowTaskFailedEventAttributes(a) => Role::Ends(Kind::WorkflowTask, a.scheduled_event_id),
        WorkflowTaskTimedOutEventAttributes(a) => Role::Ends(Kind::WorkflowTask, a.scheduled_event_id),
        ActivityTaskScheduledEventAttributes(_) => Role::Opens(Kind::Activity),
        ActivityTaskStartedEventAttributes(a) => Role::Starts(Kind::Activity, a.scheduled_event_id),
        ActivityTaskCompletedEventAttributes(a) => Role::Ends(Kind::Activity, a.scheduled_event_id),
        ActivityTaskFailedEventAttributes(a) => Role::Ends(Kind::Activity, a.scheduled_event_id),
        ActivityTaskTimedOutEventAttributes(a) => Role::Ends(Kind::Activity, a.scheduled_event_id),
        ActivityTaskCanceledEventAttributes(a) => Role::Ends(Kind::Activity, a.scheduled_event_id),
        TimerStartedEventAttributes(_) => Role::Opens(Kind::Timer),
        TimerFiredEventAttributes(a) => Role::Ends(Kind::Timer, a.started_event_id),
        TimerCanceledEventAttributes(a) => Role::Ends(Kind::Timer, a.started_event_id),
        StartChildWorkflowExecutionInitiatedEventAttributes(_) => Role::Opens(Kind::Child),
        ChildWorkflowExecutionStartedEventAttributes(a) => Role::Starts(Kind::Child, a.initiated_event_id),
        StartChildWorkflowExecutionFailedEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        ChildWorkflowExecutionCompletedEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        ChildWorkflowExecutionFailedEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        ChildWorkflowExecutionCanceledEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        ChildWorkflowExecutionTimedOutEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        ChildWorkflowExecutionTerminatedEventAttributes(a) => Role::Ends(Kind::Child, a.initiated_event_id),
        SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => Role::Opens(Kind::ExternalSignal),
        SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
            Role::Ends(Kind::ExternalSignal, a.initiated_event_id)
        }
        ExternalWorkflowExecutionSignaledEventAttributes(a) => Role::Ends(Kind::ExternalSignal, a.initiated_event_id),
        RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => Role::Opens(Kind::ExternalCancel),
        RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
            Role::Ends(Kind::ExternalCancel, a.initiated_event_id)
        }
        ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
            Role::Ends(Kind::ExternalCancel, a.initiated_event_id)
        }
        WorkflowExecutionUpdateAcceptedEventAttributes(_) => Role::Opens(Kind::Update),
        WorkflowExecutionUpdateCompletedEventAttributes(a) => Role::Ends(Kind::Update, a.accepted_event_id),
        WorkflowExecutionCompletedEventAttributes(_)
        | WorkflowExecutionFailedEventAttributes(_)
        | WorkflowExecutionTimedOutEventAttributes(_)
        | WorkflowExecutionCanceledEventAttributes(_)
        | WorkflowExecutionTerminatedEventAttributes(_)
        | WorkflowExecutionContinuedAsNewEventAttributes(_) => Role::Closes,
        _ => Role::Other,
    }
}

/// The event that an end says started the thing; none where it does not say, 0 where it says that nothing did.
fn started_by(attributes: &Attributes) -> Option<i64> {
    use Attributes::*;
    Some(match attributes {
        WorkflowTaskCompletedEventAttributes(a) => a.started_event_id,
        ActivityTaskCompletedEventAttributes(a) => a.started_event_id,
        ActivityTaskFailedEventAttributes(a) => a.started_event_id,
        ActivityTaskTimedOutEventAttributes(a) => a.started_event_id,
        ActivityTaskCanceledEventAttributes(a) => a.started_event_id,
        ChildWorkflowExecutionCompletedEventAttributes(a) => a.started_event_id,
        ChildWorkflowExecutionFailedEventAttributes(a) => a.started_event_id,
        ChildWorkflowExecutionCanceledEventAttributes(a) => a.started_event_id,
        ChildWorkflowExecutionTimedOutEventAttributes(a) => a.started_event_id,
        ChildWorkflowExecutionTerminatedEventAttributes(a) => a.started_event_id,
        _ => return None,
    })
}

/// The completed workflow task that an event says it comes from; 0 where it comes from none.
fn caused_by(attributes: &Attributes) -> i64 {
    use Attributes::*;
    match attributes {
        WorkflowExecutionCompletedEventAttributes(a) => a.workflow_task_completed_event_id,
        WorkflowExecutionContinuedAsNewEventAttributes(a) => a.workflow_task_completed_event_id,
        WorkflowExecutionCanceledEventAttributes(a) => a.workflow_task_completed_event_id,
        WorkflowExecutionFailedEventAttributes(a) => a.workflow_task_completed_event_id,
        ActivityTaskScheduledEventAttributes(a) => a.workflow_task_completed_event_id,
        ActivityTaskCancelRequestedEventAttributes(a) => a.workflow_task_completed_event_id,
        TimerStartedEventAttributes(a) => a.workflow_task_completed_event_id,
        TimerCanceledEventAttributes(a) => a.workflow_task_completed_event_id,
        MarkerRecordedEventAttributes(a) => a.workflow_task_completed_event_id,
        StartChildWorkflowExecutionInitiatedEventAttributes(a) => a.workflow_task_completed_event_id,
        SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => a.workflow_task_completed_event_id,
        RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => a.workflow_task_completed_event_id,
        UpsertWorkflowSearchAttributesEventAttributes(a) => a.workflow_task_completed_event_id,
        WorkflowPropertiesModifiedEventAttributes(a) => a.workflow_task_completed_event_id,
        _ => 0,
    }
}
