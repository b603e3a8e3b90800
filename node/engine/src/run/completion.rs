//! A worker's answer to a workflow task: its commands, applied all or nothing.
//!
//! The commands change the run in memory. If one of them breaks a rule, the run is dropped and loaded again, and the failure of the
//! workflow task is recorded instead: nothing of the other commands is left.
//!
//! Never: half of a completion; a closing command past something that came in while the worker had the task.

use std::collections::{BTreeMap, BTreeSet};

use stanchion_proto::command::{CompleteWorkflowTask, WorkflowTaskToken};
use stanchion_proto::row::{StickyRow, WorkflowTaskStartedRow, outbox_message};
use stanchion_proto::temporal::command::v1::Command;
use stanchion_proto::temporal::command::v1::command::Attributes as CommandAttributes;
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes};
use stanchion_proto::temporal::enums::v1::{CommandType, WorkflowTaskFailedCause};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, ServerFailureInfo};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    MarkerRecordedEventAttributes, UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowPropertiesModifiedEventAttributes, WorkflowTaskCompletedEventAttributes,
};
use stanchion_proto::temporal::workflow::v1::{ResetPointInfo, ResetPoints};
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
};

use super::close::{self, Successor};
use super::updates::messages::{Messages, Provisional};
use super::workflow_task::{self, End, Make, TaskFailure};
use super::{Extra, Run, activities, children, external, speculative, start, timers, updates};
use crate::lookup;
use crate::outbox::{self, Destination};
use crate::reply::{Rejection, Reply};
use crate::state::StateResult;
use crate::time::{SECOND, nanos, timestamp};
use crate::transaction::{Halt, Outcome, Transaction};
use crate::types::{EventId, ShardTime};
use crate::validate::{self, Refusal, words};

/// Reset points that are kept of a run.
const RESET_POINTS_MAX: usize = 20;

/// A chain of forced tasks without commands may last this long; then its worker is taken to be stuck.
const HEARTBEAT_MAX: i64 = 1800 * SECOND;

/// The completion whose commands are being applied.
pub struct Completion<'c> {
    /// The WorkflowTaskCompleted event.
    pub completed_event_id: EventId,
    pub identity: &'c str,
    pub worker_instance_key: &'c str,
    /// Started at once for the worker that completes, and part of the answer to it.
    pub eager_activities: Vec<PollActivityTaskQueueResponse>,
    /// Scheduled by a command of this completion, with whether the worker asked to have it at once: they are offered, handed over or
    /// started when all commands are applied ([`super::activities::dispatch`]), because a later command may cancel them.
    pub scheduled_activities: Vec<(i64, bool)>,
    /// A command had a result on the spot (an activity that nobody had started was canceled): schedule another workflow task.
    pub needs_workflow_task: bool,
    /// What updates have become by this completion.
    pub updates: BTreeMap<String, Provisional>,
    /// Workflow ids of children that a command of this completion starts: it may not cancel them as well.
    pub started_children: BTreeSet<String>,
    /// For other runs. They leave when all commands are applied, if the run is open then: what is still to be sent when a run closes is
    /// not sent.
    messages: Vec<(Destination, outbox_message::Kind)>,
}

impl Completion<'_> {
    /// A message to another run, see [`Completion::messages`].
    pub fn send(&mut self, to: Destination, message: outbox_message::Kind) {
        self.messages.push((to, message));
    }
}

/// A command that breaks a rule: the whole completion is dropped and the workflow task fails with this.
#[derive(Clone, PartialEq, Debug)]
pub struct CommandFailure {
    pub cause: WorkflowTaskFailedCause,
    /// What is wrong; the cause's name is put in front of it. Empty: the cause says all.
    pub message: String,
    /// A payload over its limit: the run is terminated behind the failed workflow task.
    pub ends_run: bool,
}

impl CommandFailure {
    pub fn new(cause: WorkflowTaskFailedCause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), ends_run: false }
    }

    /// As events and answers carry it.
    fn words(&self) -> String {
        match self.message.as_str() {
            "" => words(self.cause).to_owned(),
            message => format!("{}: {message}", words(self.cause)),
        }
    }
}

impl From<Refusal> for CommandFailure {
    fn from(refusal: Refusal) -> Self {
        Self { cause: refusal.cause, message: refusal.reason, ends_run: refusal.ends_run }
    }
}

/// Why the commands did not go through.
pub(super) enum Stop {
    Command(CommandFailure),
    Halt(Halt),
}

impl From<CommandFailure> for Stop {
    fn from(failure: CommandFailure) -> Self {
        Self::Command(failure)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Command(refusal.into())
    }
}

impl From<crate::StateFault> for Stop {
    fn from(fault: crate::StateFault) -> Self {
        Self::Halt(fault.into())
    }
}

/// CompleteWorkflowTask.
pub fn complete<'c>(tx: &mut Transaction<'c>, command: &'c CompleteWorkflowTask) -> Outcome<Reply> {
    let (Some(token), Some(request)) = (&command.token, &command.request) else {
        return Err(Rejection::invalid("Task token not set on request.").into());
    };
    check_sequence(&request.commands)?;
    tx.reserve(&command.reservations);
    let mut run = lookup::run(tx, &token.workflow_id, &token.run_id)?;
    let Some(started) = workflow_task::take_started(&mut run, token) else {
        tx.release(run);
        return Err(workflow_task::not_found().into());
    };
    match apply(tx, run, started, request) {
        Ok(reply) => Ok(reply),
        Err(Stop::Halt(halt)) => Err(halt),
        Err(Stop::Command(failure)) => refuse(tx, token, request, &failure),
    }
}

/// Commands that no worker can mean are refused before the task is touched.
fn check_sequence(commands: &[Command]) -> Result<(), Rejection> {
    for command in commands {
        if command.command_type() == CommandType::Unspecified {
            return Err(Rejection::invalid("unknown command type: Unspecified"));
        }
    }
    let closing = commands.iter().position(|command| closes(command.command_type()));
    match closing {
        Some(place) if place + 1 < commands.len() => {
            let names: Vec<_> = commands.iter().map(|command| format!("{:?}", command.command_type())).collect();
            Err(Rejection::invalid(format!(
                "invalid command sequence: [{}], command {:?} must be the last command.",
                names.join(", "),
                commands[place].command_type()
            )))
        }
        _ => Ok(()),
    }
}

fn closes(kind: CommandType) -> bool {
    use CommandType::*;
    matches!(
        kind,
        CompleteWorkflowExecution | FailWorkflowExecution | CancelWorkflowExecution | ContinueAsNewWorkflowExecution
    )
}

fn apply(
    tx: &mut Transaction<'_>,
    mut run: Box<Run>,
    mut started: WorkflowTaskStartedRow,
    request: &RespondWorkflowTaskCompletedRequest,
) -> Result<Reply, Stop> {
    let original_scheduled_at = started.scheduled.as_ref().map_or(0, |task| task.original_scheduled_at);
    let heartbeat =
        request.force_create_new_workflow_task && request.commands.is_empty() && request.messages.is_empty();
    if heartbeat && tx.now.0 - original_scheduled_at > HEARTBEAT_MAX {
        return Ok(stuck(tx, run, started)?);
    }
    if let Some(task) = &started.scheduled {
        workflow_task::remove_row(tx, &run, task);
    }
    let discarded = speculative::is_discarded(&run, started.scheduled.as_ref(), request);
    let completed_event_id = if discarded {
        EventId(0)
    } else {
        workflow_task::store_transient(&mut run, &mut started, &request.identity);
        record_completed(tx, &mut run, &started, request)
    };
    run.row.sticky = request.sticky_attributes.as_ref().and_then(|sticky| {
        let task_queue = sticky.worker_task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
        (!task_queue.is_empty()).then(|| StickyRow {
            task_queue,
            schedule_to_start_timeout: nanos(sticky.schedule_to_start_timeout.as_ref()),
        })
    });
    let mut completion = Completion {
        completed_event_id,
        identity: &request.identity,
        worker_instance_key: &request.worker_instance_key,
        eager_activities: Vec::new(),
        scheduled_activities: Vec::new(),
        needs_workflow_task: false,
        updates: BTreeMap::new(),
        started_children: BTreeSet::new(),
        messages: Vec::new(),
    };
    let mut unseen = run.has_buffered();
    let mut successor = None;
    let mut messages = Messages::of(&request.messages);
    for command in &request.commands {
        successor = one(tx, &mut run, &mut completion, &mut unseen, &mut messages, command)?;
    }
    for message in messages.rest() {
        updates::messages::receive(tx, &mut run, &mut completion, message)?;
    }
    if run.is_open() && !request.force_create_new_workflow_task {
        updates::reject_unprocessed(tx, &mut run);
    }
    if run.is_open() {
        for (to, message) in std::mem::take(&mut completion.messages) {
            outbox::send(tx, run.slot, to, message);
        }
        activities::dispatch(tx, &mut run, &mut completion)?;
    }
    let mut next = None;
    if let Some(make) = next_task(&run, &completion, request, unseen) {
        let returned_to = request.return_new_workflow_task.then_some(request.identity.as_str());
        let original = heartbeat.then_some(original_scheduled_at);
        next = workflow_task::schedule_next(tx, &mut run, original, returned_to, make);
    }
    let reset_history_event_id = if discarded { run.row.previous_started_event_id } else { 0 };
    close::finish_chain(tx, run, successor)?;
    Ok(Reply::WorkflowTaskCompleted {
        next: next.map(Box::new),
        eager_activities: completion.eager_activities,
        reset_history_event_id,
    })
}

/// What kind of workflow task follows at once, if one does.
fn next_task(
    run: &Run,
    completion: &Completion<'_>,
    request: &RespondWorkflowTaskCompletedRequest,
    unseen: bool,
) -> Option<Make> {
    if !run.is_open() {
        None
    } else if request.force_create_new_workflow_task || unseen || completion.needs_workflow_task {
        Some(Make::Ordinary)
    } else if updates::any_waiting(run) {
        // Only a task that this worker takes along need not be recorded.
        Some(if request.return_new_workflow_task { Make::Speculative } else { Make::Ordinary })
    } else {
        None
    }
}

/// A worker that only ever asks for more time loses the task.
fn stuck(tx: &mut Transaction<'_>, mut run: Box<Run>, started: WorkflowTaskStartedRow) -> StateResult<Reply> {
    workflow_task::end_attempt(tx, &mut run, started, End::TimedOut);
    workflow_task::schedule(tx, &mut run);
    tx.finish(run)?;
    Ok(Reply::WorkflowTaskCompleted { next: None, eager_activities: Vec::new(), reset_history_event_id: 0 })
}

#[allow(deprecated)]
fn record_completed(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    started: &WorkflowTaskStartedRow,
    request: &RespondWorkflowTaskCompletedRequest,
) -> EventId {
    let options = request.deployment_options.as_ref();
    let versioned = request.versioning_behavior != 0;
    let event = WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: started.scheduled.as_ref().map_or(0, |task| task.scheduled_event_id),
        started_event_id: started.started_event_id,
        identity: request.identity.clone(),
        binary_checksum: request.binary_checksum.clone(),
        worker_version: request.worker_version_stamp.clone(),
        sdk_metadata: request.sdk_metadata.clone(),
        metering_metadata: request.metering_metadata,
        versioning_behavior: request.versioning_behavior,
        worker_deployment_name: match options {
            Some(options) if versioned => options.deployment_name.clone(),
            _ => String::new(),
        },
        ..Default::default()
    };
    let id = run.record(tx.now, Attributes::WorkflowTaskCompletedEventAttributes(event));
    let build_id = request.worker_version_stamp.as_ref().map(|stamp| stamp.build_id.clone()).unwrap_or_default();
    if request.worker_version_stamp.is_some() {
        run.row.worker_version.clone_from(&request.worker_version_stamp);
    }
    add_reset_point(tx.now, run, &request.binary_checksum, &build_id, id);
    run.row.workflow_task_attempt = 1;
    run.row.workflow_task_failed_cause = 0;
    run.row.close_attempted = false;
    run.row.previous_started_event_id = started.started_event_id;
    run.row.last_completed_event_id = id.0;
    // An update may have had a worker at work before the run's start was due.
    start::end_backoff(tx, run);
    id
}

/// The first completion of each worker build is a place to reset to.
#[allow(deprecated)]
pub(super) fn add_reset_point(
    now: ShardTime,
    run: &mut Run,
    binary_checksum: &str,
    build_id: &str,
    completed: EventId,
) {
    let points = &mut run.row.reset_points.get_or_insert_with(ResetPoints::default).points;
    let known = points.iter().any(|point| {
        (build_id.is_empty() || point.build_id == build_id)
            && (binary_checksum.is_empty() || point.binary_checksum == binary_checksum)
    });
    if known {
        return;
    }
    if points.len() >= RESET_POINTS_MAX {
        points.remove(0);
    }
    points.push(ResetPointInfo {
        build_id: build_id.to_owned(),
        binary_checksum: binary_checksum.to_owned(),
        run_id: run.key.run_id.clone(),
        first_workflow_task_completed_id: completed.0,
        create_time: Some(timestamp(now)),
        expire_time: None,
        resettable: true,
    });
}

/// One command. `unseen`: something came in while the worker had the task.
fn one(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    unseen: &mut bool,
    messages: &mut Messages<'_>,
    command: &Command,
) -> Result<Successor, Stop> {
    let extra = Extra {
        user_metadata: command.user_metadata.clone(),
        event_group_markers: command.event_group_markers.clone(),
        ..Default::default()
    };
    let bounds = tx.bounds;
    let kind = command.command_type();
    let given = command.attributes.as_ref();
    macro_rules! attributes {
        ($variant:ident) => {
            match given {
                Some(CommandAttributes::$variant(attributes)) => Some(attributes),
                _ => None,
            }
        };
    }
    match kind {
        CommandType::ScheduleActivityTask => {
            let attributes = attributes!(ScheduleActivityTaskCommandAttributes);
            activities::schedule(tx, run, completion, extra, attributes)?;
        }
        CommandType::RequestCancelActivityTask => {
            let attributes = attributes!(RequestCancelActivityTaskCommandAttributes);
            activities::request_cancel(tx, run, completion, extra, attributes)?;
        }
        CommandType::StartTimer => {
            timers::start(tx, run, completion, extra, attributes!(StartTimerCommandAttributes))?;
        }
        CommandType::CancelTimer => {
            timers::cancel(tx, run, completion, extra, attributes!(CancelTimerCommandAttributes))?;
            // A firing that was taken back was perhaps all that had come in.
            *unseen = *unseen && run.has_buffered();
        }
        CommandType::RecordMarker => {
            let attributes = attributes!(RecordMarkerCommandAttributes);
            let marker = validate::marker::record(attributes, bounds.payload_bytes_max)?;
            let event = MarkerRecordedEventAttributes {
                marker_name: marker.marker_name.clone(),
                details: marker.details.clone(),
                workflow_task_completed_event_id: completion.completed_event_id.0,
                header: marker.header.clone(),
                failure: marker.failure.clone(),
            };
            run.record_with(tx.now, Attributes::MarkerRecordedEventAttributes(event), extra);
        }
        CommandType::UpsertWorkflowSearchAttributes => {
            let attributes = attributes!(UpsertWorkflowSearchAttributesCommandAttributes);
            let upserted = validate::properties::upsert_search_attributes(attributes, bounds.payload_bytes_max)?;
            upsert_search_attributes(tx, run, completion, extra, upserted);
        }
        CommandType::ModifyWorkflowProperties => {
            let attributes = attributes!(ModifyWorkflowPropertiesCommandAttributes);
            let memo = validate::properties::modify(attributes, bounds.memo_bytes_max)?;
            modify_memo(tx, run, completion, extra, memo);
        }
        CommandType::CompleteWorkflowExecution => {
            let attributes = attributes!(CompleteWorkflowExecutionCommandAttributes);
            seen(*unseen)?;
            let attributes = validate::close::complete(attributes, bounds.payload_bytes_max)?;
            return Ok(close::complete(tx, run, completion, extra, attributes)?);
        }
        CommandType::CancelWorkflowExecution => {
            let attributes = attributes!(CancelWorkflowExecutionCommandAttributes);
            seen(*unseen)?;
            let attributes = validate::close::cancel(attributes, bounds.payload_bytes_max)?;
            close::cancel(tx, run, completion, extra, attributes);
        }
        CommandType::FailWorkflowExecution => {
            let attributes = attributes!(FailWorkflowExecutionCommandAttributes);
            seen(*unseen)?;
            let attributes = validate::close::fail(attributes, bounds.payload_bytes_max)?;
            return Ok(close::fail(tx, run, completion, extra, attributes)?);
        }
        CommandType::ContinueAsNewWorkflowExecution => {
            let attributes = attributes!(ContinueAsNewWorkflowExecutionCommandAttributes);
            seen(*unseen)?;
            let (workflow_type, task_queue) = (run.row.workflow_type.clone(), run.row.task_queue.clone());
            let (payload, memo) = (bounds.payload_bytes_max, bounds.memo_bytes_max);
            let plan = validate::close::continue_as_new(attributes, &workflow_type, &task_queue, payload, memo)?;
            return Ok(Some(close::continue_as_new(tx, run, completion, extra, &plan)));
        }
        CommandType::StartChildWorkflowExecution => {
            let attributes = attributes!(StartChildWorkflowExecutionCommandAttributes);
            children::initiate(tx, run, completion, extra, attributes)?;
        }
        CommandType::SignalExternalWorkflowExecution => {
            let attributes = attributes!(SignalExternalWorkflowExecutionCommandAttributes);
            external::signal(tx, run, completion, extra, attributes)?;
        }
        CommandType::RequestCancelExternalWorkflowExecution => {
            let attributes = attributes!(RequestCancelExternalWorkflowExecutionCommandAttributes);
            external::request_cancel(tx, run, completion, extra, attributes)?;
        }
        CommandType::ProtocolMessage => {
            let message = messages.take(attributes!(ProtocolMessageCommandAttributes))?;
            updates::messages::receive(tx, run, completion, message)?;
        }
        CommandType::ScheduleNexusOperation => {
            return Err(unsupported(
                WorkflowTaskFailedCause::BadScheduleNexusOperationAttributes,
                "ScheduleNexusOperationCommand",
            ));
        }
        CommandType::RequestCancelNexusOperation => {
            return Err(unsupported(
                WorkflowTaskFailedCause::BadRequestCancelNexusOperationAttributes,
                "RequestCancelNexusOperationCommand",
            ));
        }
        CommandType::Unspecified => {}
    }
    Ok(None)
}

/// A run must not close past what its worker has not seen.
fn seen(unseen: bool) -> Result<(), CommandFailure> {
    if unseen { Err(CommandFailure::new(WorkflowTaskFailedCause::UnhandledCommand, "")) } else { Ok(()) }
}

fn unsupported(cause: WorkflowTaskFailedCause, what: &str) -> Stop {
    Stop::Command(CommandFailure::new(cause, format!("{what} is not supported by this release.")))
}

fn upsert_search_attributes(
    tx: &Transaction<'_>,
    run: &mut Run,
    completion: &Completion<'_>,
    extra: Extra,
    upserted: &SearchAttributes,
) {
    let event = UpsertWorkflowSearchAttributesEventAttributes {
        workflow_task_completed_event_id: completion.completed_event_id.0,
        search_attributes: Some(upserted.clone()),
    };
    run.record_with(tx.now, Attributes::UpsertWorkflowSearchAttributesEventAttributes(event), extra);
    let fields = &mut run.detail_mut().search_attributes.get_or_insert_with(SearchAttributes::default).indexed_fields;
    merge(fields, &upserted.indexed_fields);
}

fn modify_memo(tx: &Transaction<'_>, run: &mut Run, completion: &Completion<'_>, extra: Extra, upserted: &Memo) {
    let event = WorkflowPropertiesModifiedEventAttributes {
        workflow_task_completed_event_id: completion.completed_event_id.0,
        upserted_memo: Some(upserted.clone()),
    };
    run.record_with(tx.now, Attributes::WorkflowPropertiesModifiedEventAttributes(event), extra);
    merge(&mut run.detail_mut().memo.get_or_insert_with(Memo::default).fields, &upserted.fields);
}

type Fields = std::collections::BTreeMap<String, stanchion_proto::temporal::common::v1::Payload>;

/// Upserts fields; a null or empty payload removes its field.
pub(super) fn merge(fields: &mut Fields, upserted: &Fields) {
    for (name, payload) in upserted {
        if validate::absent::is_absent(payload) {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), payload.clone());
        }
    }
}

/// Records that the workflow task failed by a bad command, and tells the worker.
fn refuse(
    tx: &mut Transaction<'_>,
    token: &WorkflowTaskToken,
    request: &RespondWorkflowTaskCompletedRequest,
    failure: &CommandFailure,
) -> Outcome<Reply> {
    tx.start_over();
    let message = failure.words();
    let rejection = Rejection::invalid(message.clone());
    let repeated = token.attempt > 1 && failure.cause != WorkflowTaskFailedCause::UnhandledCommand && !failure.ends_run;
    if repeated {
        // The attempt is left to its time-out, so that code which keeps sending the same is not asked at once again.
        let mut run = lookup::run(tx, &token.workflow_id, &token.run_id)?;
        updates::abort_sent(tx, &mut run);
        run.keep_speculative();
        tx.finish(run)?;
        return Ok(Reply::Rejected(rejection));
    }
    let mut run = lookup::run(tx, &token.workflow_id, &token.run_id)?;
    updates::abort_sent(tx, &mut run);
    let Some(started) = workflow_task::take_started(&mut run, token) else {
        return Err(workflow_task::not_found().into());
    };
    let why = TaskFailure {
        cause: failure.cause as i32,
        failure: Some(Failure {
            message: message.clone(),
            failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable: false })),
            ..Default::default()
        }),
        identity: request.identity.clone(),
        binary_checksum: String::new(),
        worker_version: None,
    };
    workflow_task::end_attempt(tx, &mut run, started, End::Failed(why));
    if failure.ends_run {
        close::terminate_by_engine(tx, &mut run, &message);
    } else {
        workflow_task::schedule(tx, &mut run);
    }
    tx.finish(run)?;
    Ok(Reply::Rejected(rejection))
}
