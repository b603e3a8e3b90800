//! What a workflow task does, as Temporal's commands and messages; and which event each of them must have become.
//!
//! Called by workers to answer a task, and by the machine to compare a history with what the program does.

use bytes::Bytes;
use prost::Message as _;
use serde::Serialize;
use serde_json::json;
use stanchion_proto::temporal::command::v1::command::Attributes as CommandAttributes;
use stanchion_proto::temporal::command::v1::{
    CancelTimerCommandAttributes, CancelWorkflowExecutionCommandAttributes, Command,
    CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes,
    ProtocolMessageCommandAttributes, RecordMarkerCommandAttributes, RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes, StartChildWorkflowExecutionCommandAttributes,
    StartTimerCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{
    ActivityType, Memo, Payload, Payloads, RetryPolicy, WorkflowExecution, WorkflowType,
};
use stanchion_proto::temporal::enums::v1::{CommandType, ParentClosePolicy, TaskQueueKind, WorkflowIdReusePolicy};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::protocol::v1::{Message, message};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::update::v1::{Acceptance, Outcome, Rejection, Response, outcome};

use super::read_payload as read;
use super::{
    ACTIVITY_TYPE, Activity, Attempt, Child, Close, Input, Issue, ParentCloses, Reply, Report, SIGNAL, Update,
    WORKFLOW_TYPE, parent_signal,
};

/// How the wait between two attempts grows, and how far.
pub const BACKOFF_PERCENT: u64 = 150;
pub const BACKOFF_MAX_MS: u64 = 1_000;

/// What an activity's worker is told.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct ActivityInput {
    pub path: String,
    pub activity: Activity,
}

/// The answer to a workflow task.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub commands: Vec<Command>,
    pub messages: Vec<Message>,
}

/// All that a task does, in order.
pub fn answer(issues: &[Issue], task_queue: &str, workflow_task_timeout_ms: u64) -> Answer {
    let mut answer = Answer::default();
    for issue in issues {
        if let Issue::Update { update, reply } = issue {
            let message = message(update, reply);
            if !matches!(reply, Reply::Rejected(_)) {
                let attributes = ProtocolMessageCommandAttributes { message_id: message.id.clone() };
                answer.commands.push(command(
                    CommandType::ProtocolMessage,
                    CommandAttributes::ProtocolMessageCommandAttributes(attributes),
                ));
            }
            answer.messages.push(message);
        } else if let Some(command) = plain(issue, task_queue, workflow_task_timeout_ms) {
            answer.commands.push(command);
        }
    }
    answer
}

fn plain(issue: &Issue, task_queue: &str, workflow_task_timeout_ms: u64) -> Option<Command> {
    use CommandAttributes as A;
    let (kind, attributes) = match issue {
        Issue::Schedule { path, activity } => (
            CommandType::ScheduleActivityTask,
            A::ScheduleActivityTaskCommandAttributes(schedule(path, activity, task_queue)),
        ),
        Issue::CancelActivity { scheduled_event_id, .. } => (
            CommandType::RequestCancelActivityTask,
            A::RequestCancelActivityTaskCommandAttributes(RequestCancelActivityTaskCommandAttributes {
                scheduled_event_id: *scheduled_event_id,
            }),
        ),
        Issue::StartTimer { id, ms } => (
            CommandType::StartTimer,
            A::StartTimerCommandAttributes(StartTimerCommandAttributes {
                timer_id: id.clone(),
                start_to_fire_timeout: Some(millis(*ms)),
            }),
        ),
        Issue::CancelTimer { id } => (
            CommandType::CancelTimer,
            A::CancelTimerCommandAttributes(CancelTimerCommandAttributes { timer_id: id.clone() }),
        ),
        Issue::Marker { path } => (
            CommandType::RecordMarker,
            A::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
                marker_name: path.clone(),
                ..Default::default()
            }),
        ),
        Issue::Memo { path } => (
            CommandType::ModifyWorkflowProperties,
            A::ModifyWorkflowPropertiesCommandAttributes(ModifyWorkflowPropertiesCommandAttributes {
                upserted_memo: Some(Memo { fields: [(path.clone(), payload(path))].into() }),
            }),
        ),
        Issue::StartChild { workflow_id, child, .. } => (
            CommandType::StartChildWorkflowExecution,
            A::StartChildWorkflowExecutionCommandAttributes(start_child(
                workflow_id,
                child,
                task_queue,
                workflow_task_timeout_ms,
            )),
        ),
        Issue::SignalChild { workflow_id, n, .. } => (
            CommandType::SignalExternalWorkflowExecution,
            A::SignalExternalWorkflowExecutionCommandAttributes(SignalExternalWorkflowExecutionCommandAttributes {
                execution: Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: String::new() }),
                signal_name: SIGNAL.into(),
                input: Some(payloads(&parent_signal(*n))),
                child_workflow_only: true,
                ..Default::default()
            }),
        ),
        Issue::CancelChild { workflow_id, .. } => (
            CommandType::RequestCancelExternalWorkflowExecution,
            A::RequestCancelExternalWorkflowExecutionCommandAttributes(
                RequestCancelExternalWorkflowExecutionCommandAttributes {
                    workflow_id: workflow_id.clone(),
                    child_workflow_only: true,
                    ..Default::default()
                },
            ),
        ),
        Issue::Close(close) => return Some(closes(close, task_queue, workflow_task_timeout_ms)),
        Issue::Update { .. } => return None,
    };
    Some(command(kind, attributes))
}

fn command(kind: CommandType, attributes: CommandAttributes) -> Command {
    Command { command_type: kind.into(), attributes: Some(attributes), ..Default::default() }
}

fn schedule(path: &str, activity: &Activity, task_queue: &str) -> ScheduleActivityTaskCommandAttributes {
    let input = ActivityInput { path: path.to_owned(), activity: activity.clone() };
    let optional = |ms: u64| (ms > 0).then(|| millis(ms));
    ScheduleActivityTaskCommandAttributes {
        activity_id: path.to_owned(),
        activity_type: Some(ActivityType { name: ACTIVITY_TYPE.into() }),
        task_queue: Some(normal_queue(task_queue)),
        input: Some(payloads(&input)),
        schedule_to_close_timeout: optional(activity.schedule_to_close_ms),
        start_to_close_timeout: optional(activity.start_to_close_ms),
        heartbeat_timeout: optional(activity.heartbeat_ms),
        retry_policy: Some(RetryPolicy {
            initial_interval: Some(millis(activity.backoff_ms.max(1))),
            backoff_coefficient: BACKOFF_PERCENT as f64 / 100.0,
            maximum_interval: Some(millis(BACKOFF_MAX_MS)),
            maximum_attempts: i32::try_from(activity.max_attempts).unwrap_or(i32::MAX),
            ..Default::default()
        }),
        request_eager_execution: activity.eager,
        ..Default::default()
    }
}

fn start_child(
    workflow_id: &str,
    child: &Child,
    task_queue: &str,
    workflow_task_timeout_ms: u64,
) -> StartChildWorkflowExecutionCommandAttributes {
    let input = Input { program: child.program.clone(), chain: 0, carried: Default::default() };
    let policy = match child.parent_closes {
        ParentCloses::Terminate => ParentClosePolicy::Terminate,
        ParentCloses::Abandon => ParentClosePolicy::Abandon,
        ParentCloses::RequestCancel => ParentClosePolicy::RequestCancel,
    };
    StartChildWorkflowExecutionCommandAttributes {
        workflow_id: workflow_id.to_owned(),
        workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
        task_queue: Some(normal_queue(task_queue)),
        input: Some(payloads(&input)),
        workflow_task_timeout: Some(millis(workflow_task_timeout_ms)),
        parent_close_policy: policy.into(),
        workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
        ..Default::default()
    }
}

fn closes(close: &Close, task_queue: &str, workflow_task_timeout_ms: u64) -> Command {
    use CommandAttributes as A;
    match close {
        Close::Completed(report) => command(
            CommandType::CompleteWorkflowExecution,
            A::CompleteWorkflowExecutionCommandAttributes(CompleteWorkflowExecutionCommandAttributes {
                result: Some(payloads(report)),
            }),
        ),
        Close::Failed(report) => command(
            CommandType::FailWorkflowExecution,
            A::FailWorkflowExecutionCommandAttributes(FailWorkflowExecutionCommandAttributes {
                failure: Some(failure("the program fails", true, Some(payloads(report)))),
            }),
        ),
        Close::Canceled(report) => command(
            CommandType::CancelWorkflowExecution,
            A::CancelWorkflowExecutionCommandAttributes(CancelWorkflowExecutionCommandAttributes {
                details: Some(payloads(report)),
            }),
        ),
        Close::ContinuedAsNew(input) => command(
            CommandType::ContinueAsNewWorkflowExecution,
            A::ContinueAsNewWorkflowExecutionCommandAttributes(ContinueAsNewWorkflowExecutionCommandAttributes {
                workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
                task_queue: Some(normal_queue(task_queue)),
                input: Some(payloads(input.as_ref())),
                workflow_task_timeout: Some(millis(workflow_task_timeout_ms)),
                ..Default::default()
            }),
        ),
    }
}

fn message(update: &Update, reply: &Reply) -> Message {
    let request = update.request.clone();
    let (name, type_name, body) = match reply {
        Reply::Accepted => {
            let body = Acceptance {
                accepted_request_message_id: update.message_id.clone(),
                accepted_request_sequencing_event_id: update.sequencing_event_id,
                accepted_request: Some(request),
            };
            ("accept", "Acceptance", body.encode_to_vec())
        }
        Reply::Rejected(why) => {
            let body = Rejection {
                rejected_request_message_id: update.message_id.clone(),
                rejected_request_sequencing_event_id: update.sequencing_event_id,
                rejected_request: Some(request),
                failure: Some(failure(why, true, None)),
            };
            ("reject", "Rejection", body.encode_to_vec())
        }
        Reply::Completed(value) => {
            let outcome = Outcome { value: Some(outcome::Value::Success(payloads(value))) };
            ("complete", "Response", Response { meta: request.meta, outcome: Some(outcome) }.encode_to_vec())
        }
    };
    Message {
        id: format!("{}/{name}", update.id),
        protocol_instance_id: update.id.clone(),
        body: Some(prost_types::Any {
            type_url: format!("type.googleapis.com/temporal.api.update.v1.{type_name}"),
            value: body,
        }),
        sequencing_id: None::<message::SequencingId>,
    }
}

/// Whether an event comes of a command (or of a message that a command points to), and not from outside the run.
pub fn is_of_command(event: &HistoryEvent) -> bool {
    use Attributes::*;
    matches!(
        event.attributes,
        Some(
            ActivityTaskScheduledEventAttributes(_)
                | ActivityTaskCancelRequestedEventAttributes(_)
                | TimerStartedEventAttributes(_)
                | TimerCanceledEventAttributes(_)
                | MarkerRecordedEventAttributes(_)
                | WorkflowPropertiesModifiedEventAttributes(_)
                | StartChildWorkflowExecutionInitiatedEventAttributes(_)
                | SignalExternalWorkflowExecutionInitiatedEventAttributes(_)
                | RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_)
                | WorkflowExecutionUpdateAcceptedEventAttributes(_)
                | WorkflowExecutionUpdateCompletedEventAttributes(_)
                | WorkflowExecutionCompletedEventAttributes(_)
                | WorkflowExecutionFailedEventAttributes(_)
                | WorkflowExecutionCanceledEventAttributes(_)
                | WorkflowExecutionContinuedAsNewEventAttributes(_)
        )
    )
}

/// Whether the event is what `issue` makes. The error says how they differ.
pub fn matches(issue: &Issue, event: &HistoryEvent) -> Result<(), String> {
    use Attributes::*;
    let Some(attributes) = &event.attributes else { return Err("the event has no attributes".into()) };
    let same = match (issue, attributes) {
        (Issue::Schedule { path, activity }, ActivityTaskScheduledEventAttributes(a)) => {
            let input: ActivityInput = read(a.input.as_ref())?;
            a.activity_id == *path && input.activity == *activity
        }
        (Issue::CancelActivity { scheduled_event_id, .. }, ActivityTaskCancelRequestedEventAttributes(a)) => {
            a.scheduled_event_id == *scheduled_event_id
        }
        (Issue::StartTimer { id, ms }, TimerStartedEventAttributes(a)) => {
            a.timer_id == *id && a.start_to_fire_timeout == Some(millis(*ms))
        }
        (Issue::CancelTimer { id }, TimerCanceledEventAttributes(a)) => a.timer_id == *id,
        (Issue::Marker { path }, MarkerRecordedEventAttributes(a)) => a.marker_name == *path,
        (Issue::Memo { path }, WorkflowPropertiesModifiedEventAttributes(a)) => {
            a.upserted_memo.as_ref().is_some_and(|memo| memo.fields.contains_key(path))
        }
        (Issue::StartChild { workflow_id, child, .. }, StartChildWorkflowExecutionInitiatedEventAttributes(a)) => {
            let input: Input = read(a.input.as_ref())?;
            a.workflow_id == *workflow_id && input.program == child.program
        }
        (Issue::SignalChild { workflow_id, n, .. }, SignalExternalWorkflowExecutionInitiatedEventAttributes(a)) => {
            let number: i64 = read(a.input.as_ref())?;
            let target = a.workflow_execution.as_ref().map(|run| &run.workflow_id);
            target == Some(workflow_id) && number == parent_signal(*n)
        }
        (Issue::CancelChild { workflow_id, .. }, RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a)) => {
            a.workflow_execution.as_ref().is_some_and(|run| run.workflow_id == *workflow_id)
        }
        (Issue::Update { update, reply: Reply::Accepted }, WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
            a.protocol_instance_id == update.id
        }
        (
            Issue::Update { update, reply: Reply::Completed(value) },
            WorkflowExecutionUpdateCompletedEventAttributes(a),
        ) => {
            let said = match a.outcome.as_ref().and_then(|outcome| outcome.value.as_ref()) {
                Some(outcome::Value::Success(payloads)) => read(Some(payloads))?,
                Some(outcome::Value::Failure(failure)) => json!({ "failure": failure.message }),
                None => json!(null),
            };
            let id = a.meta.as_ref().map(|meta| &meta.update_id);
            if id == Some(&update.id) && said != *value {
                return Err(format!("update {} has the outcome {said}, and the program answers {value}", update.id));
            }
            id == Some(&update.id)
        }
        (Issue::Close(Close::Completed(report)), WorkflowExecutionCompletedEventAttributes(a)) => {
            same_report(report, a.result.as_ref())?
        }
        (Issue::Close(Close::Failed(report)), WorkflowExecutionFailedEventAttributes(a)) => {
            let info = a.failure.as_ref().and_then(|failure| failure.failure_info.as_ref());
            match info {
                Some(FailureInfo::ApplicationFailureInfo(info)) => same_report(report, info.details.as_ref())?,
                _ => false,
            }
        }
        (Issue::Close(Close::Canceled(report)), WorkflowExecutionCanceledEventAttributes(a)) => {
            same_report(report, a.details.as_ref())?
        }
        (Issue::Close(Close::ContinuedAsNew(input)), WorkflowExecutionContinuedAsNewEventAttributes(a)) => {
            let said: Input = read(a.input.as_ref())?;
            said == **input
        }
        _ => false,
    };
    if same { Ok(()) } else { Err(format!("it does not come of {issue:?}")) }
}

fn same_report(report: &Report, said: Option<&Payloads>) -> Result<bool, String> {
    let said: Report = read(said)?;
    if said == *report {
        return Ok(true);
    }
    Err(format!("the run closed with {said:?}, and its events make {report:?}"))
}

/// The type of every failure that a program or its activities end with.
pub const FAILURE_TYPE: &str = "program";

/// A failure of the application's own.
pub fn failure(message: &str, non_retryable: bool, details: Option<Payloads>) -> Failure {
    let info = ApplicationFailureInfo { r#type: FAILURE_TYPE.into(), non_retryable, details, ..Default::default() };
    Failure {
        message: message.to_owned(),
        source: "stanchion-proof".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Default::default()
    }
}

/// One JSON payload.
pub fn payloads(value: &impl Serialize) -> Payloads {
    Payloads { payloads: vec![payload(value)] }
}

fn payload(value: &(impl Serialize + ?Sized)) -> Payload {
    let metadata = [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into();
    // What is sent consists of numbers, strings, lists and maps by strings: all of it has a form in JSON.
    let data = serde_json::to_vec(value).unwrap_or_default();
    Payload { metadata, data: data.into(), ..Default::default() }
}

pub fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Normal.into(), ..Default::default() }
}

pub fn millis(ms: u64) -> prost_types::Duration {
    prost_types::Duration { seconds: (ms / 1_000) as i64, nanos: (ms % 1_000) as i32 * 1_000_000 }
}

/// What an attempt that neither hangs nor is canceled ends with: its result, or the message of its failure and whether it may be retried.
pub fn attempt_ends(input: &ActivityInput, attempt: u32) -> Result<serde_json::Value, (String, bool)> {
    let ActivityInput { path, activity } = input;
    if attempt <= activity.hangs + activity.fails {
        return Err((format!("attempt {attempt} of {path} fails"), true));
    }
    match activity.ends {
        Attempt::Completes => Ok(json!({ "path": path, "attempt": attempt })),
        Attempt::FailsForGood => Err((format!("attempt {attempt} of {path} fails for good"), false)),
    }
}
