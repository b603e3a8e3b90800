//! Events, effects and replies as a line of text each: what a scenario is about, nothing else.

use stanchion_engine::effects::{Effects, TaskKind, TaskStart};
use stanchion_engine::reply::Reply;
use stanchion_engine::run::events::event_type;
use stanchion_engine::time::{SECOND, nanos};
use stanchion_proto::temporal::common::v1::{Payloads, WorkflowExecution};
use stanchion_proto::temporal::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause, ContinueAsNewInitiator, ParentClosePolicy, RetryState,
    SignalExternalWorkflowExecutionFailedCause, StartChildWorkflowExecutionFailedCause, TaskQueueKind, TimeoutType,
    WorkflowTaskFailedCause,
};
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

pub fn event(event: &HistoryEvent) -> String {
    let attributes = event.attributes.as_ref().expect("attributes");
    assert_eq!(event.event_type, event_type(attributes) as i32);
    let mut said = Said(format!("{} {:?}", event.event_id, event_type(attributes)));
    use Attributes::*;
    match attributes {
        WorkflowExecutionStartedEventAttributes(a) => {
            said.add("input", text(&a.input)).add("attempt", above_one(a.attempt));
            said.add("execution-timeout", seconds(&a.workflow_execution_timeout));
            said.add("run-timeout", seconds(&a.workflow_run_timeout));
            said.add("task-timeout", seconds(&a.workflow_task_timeout));
            said.add("backoff", seconds(&a.first_workflow_task_backoff));
            said.add("continued", a.continued_execution_run_id.clone());
            said.add("initiator", named(ContinueAsNewInitiator::try_from(a.initiator).unwrap()));
            said.add("continued-failure", message(&a.continued_failure));
            said.add("parent", a.parent_workflow_execution.as_ref().map(execution).unwrap_or_default());
            said.add("initiated", nonzero(a.parent_initiated_event_id));
            said.add("root", a.root_workflow_execution.as_ref().map(execution).unwrap_or_default());
            said.add("last-result", text(&a.last_completion_result));
        }
        WorkflowExecutionCompletedEventAttributes(a) => {
            said.add("result", text(&a.result)).add("new-run", a.new_execution_run_id.clone());
        }
        WorkflowExecutionFailedEventAttributes(a) => {
            said.add("failure", message(&a.failure));
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
            said.add("new-run", a.new_execution_run_id.clone());
        }
        WorkflowExecutionTimedOutEventAttributes(a) => {
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
            said.add("new-run", a.new_execution_run_id.clone());
        }
        WorkflowExecutionContinuedAsNewEventAttributes(a) => {
            said.add("input", text(&a.input)).add("new-run", a.new_execution_run_id.clone());
        }
        WorkflowExecutionTerminatedEventAttributes(a) => {
            said.add("reason", quoted(&a.reason)).add("identity", a.identity.clone());
        }
        WorkflowTaskScheduledEventAttributes(a) => {
            said.add("queue", queue(&a.task_queue)).add("attempt", above_one(a.attempt));
        }
        WorkflowTaskStartedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id));
            said.add("suggest-continue-as-new", flag(a.suggest_continue_as_new));
        }
        WorkflowTaskCompletedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
        }
        WorkflowTaskFailedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
            said.add("cause", named(WorkflowTaskFailedCause::try_from(a.cause).unwrap()));
            said.add("failure", message(&a.failure)).add("identity", a.identity.clone());
            said.add("base-run", a.base_run_id.clone()).add("new-run", a.new_run_id.clone());
        }
        WorkflowTaskTimedOutEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
            said.add("kind", named(TimeoutType::try_from(a.timeout_type).unwrap()));
        }
        WorkflowExecutionSignaledEventAttributes(a) => {
            said.add("name", a.signal_name.clone());
            match &a.external_workflow_execution {
                Some(from) => said.add("from", execution(from)),
                None => said.add("request", a.request_id.clone()),
            };
        }
        WorkflowExecutionCancelRequestedEventAttributes(a) => {
            said.add("cause", a.cause.clone());
            said.add("from", a.external_workflow_execution.as_ref().map(execution).unwrap_or_default());
            said.add("initiated", nonzero(a.external_initiated_event_id));
        }
        StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
            said.add("child", a.workflow_id.clone()).add("input", text(&a.input));
            said.add("policy", named(ParentClosePolicy::try_from(a.parent_close_policy).unwrap()));
        }
        StartChildWorkflowExecutionFailedEventAttributes(a) => {
            let cause = StartChildWorkflowExecutionFailedCause::try_from(a.cause).unwrap();
            said.add("initiated", id(a.initiated_event_id)).add("cause", named(cause));
        }
        ChildWorkflowExecutionStartedEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id));
            said.add("child", a.workflow_execution.as_ref().map(execution).unwrap_or_default());
        }
        ChildWorkflowExecutionCompletedEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id)).add("started", id(a.started_event_id));
            said.add("child", a.workflow_execution.as_ref().map(execution).unwrap_or_default());
            said.add("result", text(&a.result));
        }
        ChildWorkflowExecutionFailedEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id)).add("started", id(a.started_event_id));
            said.add("failure", message(&a.failure));
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
        }
        ChildWorkflowExecutionCanceledEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id)).add("started", id(a.started_event_id));
        }
        ChildWorkflowExecutionTimedOutEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id)).add("started", id(a.started_event_id));
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
        }
        ChildWorkflowExecutionTerminatedEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id)).add("started", id(a.started_event_id));
        }
        SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            said.add("name", a.signal_name.clone());
            said.add("to", a.workflow_execution.as_ref().map(execution).unwrap_or_default());
        }
        SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
            let cause = SignalExternalWorkflowExecutionFailedCause::try_from(a.cause).unwrap();
            said.add("initiated", id(a.initiated_event_id)).add("cause", named(cause));
        }
        ExternalWorkflowExecutionSignaledEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id));
        }
        RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
            said.add("to", a.workflow_execution.as_ref().map(execution).unwrap_or_default());
        }
        RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
            let cause = CancelExternalWorkflowExecutionFailedCause::try_from(a.cause).unwrap();
            said.add("initiated", id(a.initiated_event_id)).add("cause", named(cause));
        }
        ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
            said.add("initiated", id(a.initiated_event_id));
        }
        WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
            said.add("attached", a.attached_request_id.clone());
            said.add("priority", a.priority.as_ref().map(|p| p.priority_key.to_string()).unwrap_or_default());
        }
        MarkerRecordedEventAttributes(a) => {
            said.add("name", a.marker_name.clone());
        }
        UpsertWorkflowSearchAttributesEventAttributes(a) => {
            let fields = a.search_attributes.clone().unwrap_or_default().indexed_fields;
            said.add("fields", fields.keys().cloned().collect::<Vec<_>>().join(","));
        }
        WorkflowPropertiesModifiedEventAttributes(a) => {
            let fields = a.upserted_memo.clone().unwrap_or_default().fields;
            said.add("fields", fields.keys().cloned().collect::<Vec<_>>().join(","));
        }
        TimerStartedEventAttributes(a) => {
            said.add("timer", a.timer_id.clone()).add("after", seconds(&a.start_to_fire_timeout));
        }
        WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
            let meta = a.request.clone().unwrap_or_default().meta.unwrap_or_default();
            said.add("update", meta.update_id).add("origin", format!("{:?}", a.origin()));
        }
        WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
            said.add("update", a.protocol_instance_id.clone());
            said.add("request", flag(a.accepted_request.is_some()));
        }
        WorkflowExecutionUpdateCompletedEventAttributes(a) => {
            said.add("update", a.meta.clone().unwrap_or_default().update_id).add("accepted", id(a.accepted_event_id));
        }
        TimerFiredEventAttributes(a) => {
            said.add("timer", a.timer_id.clone()).add("started", id(a.started_event_id));
        }
        TimerCanceledEventAttributes(a) => {
            said.add("timer", a.timer_id.clone()).add("started", id(a.started_event_id));
        }
        ActivityTaskScheduledEventAttributes(a) => {
            said.add("activity", a.activity_id.clone());
        }
        ActivityTaskStartedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("attempt", above_one(a.attempt));
            said.add("last-failure", message(&a.last_failure));
        }
        ActivityTaskCompletedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
            said.add("result", text(&a.result));
        }
        ActivityTaskFailedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
            said.add("failure", message(&a.failure));
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
        }
        ActivityTaskTimedOutEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
            said.add("failure", message(&a.failure));
            said.add("retry", named(RetryState::try_from(a.retry_state).unwrap()));
        }
        ActivityTaskCancelRequestedEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id));
        }
        ActivityTaskCanceledEventAttributes(a) => {
            said.add("scheduled", id(a.scheduled_event_id)).add("started", id(a.started_event_id));
        }
        _ => {}
    }
    said.0
}

pub fn effects(effects: &Effects, now: i64) -> String {
    let mut lines = Vec::new();
    let kind = |kind: &TaskKind| match kind {
        TaskKind::Workflow => "workflow",
        TaskKind::Activity => "activity",
    };
    for (of, task) in &effects.withdrawn {
        lines.push(format!("withdraw {} {} attempt {}", kind(of), task.scheduled_event_id.0, task.attempt));
    }
    for offer in &effects.offers {
        lines.push(format!(
            "offer {} {} attempt {} on {}{}",
            kind(&offer.kind),
            offer.task.scheduled_event_id.0,
            offer.task.attempt,
            offer.task_queue,
            if offer.sticky { " (sticky)" } else { "" }
        ));
    }
    for deadline in &effects.workflow_task_deadlines {
        let what = if deadline.start_to_close { "complete" } else { "start" };
        lines.push(format!("{what} by {}", after(deadline.at.0, now)));
    }
    for timer in &effects.timers_set {
        lines.push(format!("timer {}", after(timer.at.0, now)));
    }
    for timer in &effects.timers_cleared {
        lines.push(format!("clear timer {}", after(timer.at.0, now)));
    }
    for hand_over in &effects.hand_overs {
        let what = match hand_over.start {
            TaskStart::Workflow(_) => "workflow",
            TaskStart::Activity(_) => "activity",
        };
        lines.push(format!("hand over {what} to ticket {}", hand_over.ticket));
    }
    for key in &effects.outbox {
        lines.push(format!("message {}", key.sequence));
    }
    for change in &effects.changes {
        let closed = if change.closed { " closed" } else { "" };
        let idle = if change.idle { " idle" } else { "" };
        lines.push(format!("{} next event {}{closed}{idle}", change.run.run_id, change.next_event_id.0));
    }
    if lines.is_empty() {
        return "nothing".into();
    }
    lines.join("\n") + "\n"
}

pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".into(),
        Reply::Stale => "stale".into(),
        Reply::Started { run_id, started, running, .. } => {
            let how = match (started, running) {
                (true, _) => "started",
                (false, true) => "existing open",
                (false, false) => "existing closed",
            };
            format!("{how} {run_id}")
        }
        Reply::Signaled { .. } => "signaled".into(),
        Reply::WorkflowTaskStarted(start) => format!("task {} attempt {}", start.started_event_id.0, start.attempt),
        Reply::WorkflowTaskCompleted { next: None, .. } => "completed".into(),
        Reply::WorkflowTaskCompleted { next: Some(next), .. } => {
            format!("completed, next task {}", next.started_event_id.0)
        }
        Reply::Updated { status, .. } => format!("update {}", super::update::said(status)),
        Reply::Reset { run_id } => format!("reset to {run_id}"),
        Reply::Rejected(rejection) => format!("{:?}: {}", rejection.code, rejection.message),
        Reply::Delivered { marks } => {
            let marks: Vec<_> = marks.iter().map(|mark| mark.sequence.to_string()).collect();
            format!("delivered {}", marks.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn execution(of: &WorkflowExecution) -> String {
    match of.run_id.as_str() {
        "" => of.workflow_id.clone(),
        run_id => format!("{}/{run_id}", of.workflow_id),
    }
}

struct Said(String);

impl Said {
    fn add(&mut self, name: &str, value: String) -> &mut Self {
        if !value.is_empty() {
            self.0 += &format!(" {name}={value}");
        }
        self
    }
}

fn after(at: i64, now: i64) -> String {
    format!("+{}s", (at - now) as f64 / SECOND as f64)
}

fn nonzero(id: i64) -> String {
    if id == 0 { String::new() } else { id.to_string() }
}

fn id(id: i64) -> String {
    id.to_string()
}

fn flag(set: bool) -> String {
    if set { "yes".into() } else { String::new() }
}

fn above_one(attempt: i32) -> String {
    if attempt > 1 { attempt.to_string() } else { String::new() }
}

fn seconds(value: &Option<prost_types::Duration>) -> String {
    match nanos(value.as_ref()) {
        0 => String::new(),
        some => format!("{}s", some as f64 / SECOND as f64),
    }
}

fn named(value: impl std::fmt::Debug) -> String {
    match format!("{value:?}").as_str() {
        "Unspecified" => String::new(),
        name => name.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn message(failure: &Option<Failure>) -> String {
    failure.as_ref().map(|f| quoted(&f.message)).unwrap_or_default()
}

fn text(payloads: &Option<Payloads>) -> String {
    let Some(payloads) = payloads else { return String::new() };
    let texts: Vec<_> = payloads.payloads.iter().map(|p| String::from_utf8_lossy(&p.data).into_owned()).collect();
    texts.join(",")
}

fn queue(queue: &Option<TaskQueue>) -> String {
    let Some(queue) = queue else { return String::new() };
    if queue.kind == TaskQueueKind::Sticky as i32 {
        format!("{}(sticky of {})", queue.name, queue.normal_name)
    } else {
        queue.name.clone()
    }
}
