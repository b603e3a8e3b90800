//! Starting runs: by request, and as the next one of a chain (continue-as-new, retry).
//!
//! One open run per workflow id, one run per request id: the row of the newest run decides, in the command that writes the new one, or the row
//! that remembers which run a request id has made.
//!
//! Never: a rejected start that leaves a trace.

use bytes::Bytes;
use stanchion_proto::command::StartWorkflow;
use stanchion_proto::row::{
    CurrentRow, RequestIdRow, RunDetailRow, RunRow, ScheduledByRow, SenderRow, TimerQueueRow, timer_queue_row,
};
use stanchion_proto::temporal::common::v1::link::WorkflowEvent;
use stanchion_proto::temporal::common::v1::link::workflow_event::{EventReference, Reference, RequestIdReference};
use stanchion_proto::temporal::common::v1::{Link, link};
use stanchion_proto::temporal::enums::v1::{
    ContinueAsNewInitiator, EventType, TaskQueueKind, WorkflowExecutionStatus, WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
};
use stanchion_proto::temporal::history::v1::WorkflowExecutionStartedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::sdk::v1::UserMetadata;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::VersioningOverride;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;

use super::{Extra, Run, callbacks, close, cron, versioning, workflow_task};
use crate::reply::{Code, Detail, Rejection, Reply, WorkflowTaskStart};
use crate::state::Table;
use crate::time::{SECOND, duration, instant, nanos, timestamp};
use crate::transaction::{Outcome, Transaction};
use crate::types::{RunKey, ShardTime};
use crate::{keys, lookup, mutant, retry, timer_queue, validate};

/// Time-out of a workflow task when the start names none, and the longest that a start may name.
const TASK_TIMEOUT: i64 = 10 * SECOND;
const TASK_TIMEOUT_MAX: i64 = 120 * SECOND;

/// A run to be started, by whatever caused it.
pub(super) struct Beginning {
    pub key: RunKey,
    /// The first event, complete.
    pub attributes: WorkflowExecutionStartedEventAttributes,
    pub extra: Extra,
    /// Empty: the engine makes one.
    pub request_id: String,
}

/// StartWorkflow.
pub fn start(tx: &mut Transaction<'_>, command: &StartWorkflow) -> Outcome<Reply> {
    start_scheduled(tx, command, None)
}

/// A start, of a schedule's action if `scheduled_by` is given.
pub fn start_scheduled(
    tx: &mut Transaction<'_>,
    command: &StartWorkflow,
    scheduled_by: Option<ScheduledByRow>,
) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("StartWorkflow carries no request.").into());
    };
    let policies = Policies::of_start(request)?;
    check(tx, request)?;
    let current = lookup::current_or_made(tx, &request.workflow_id, &request.request_id)?;
    match decide(current.as_ref(), &request.workflow_id, &request.request_id, policies)? {
        Decision::Same { event } => same_request(tx, current.as_ref(), request, event),
        Decision::UseExisting => use_existing(tx, current.as_ref(), request),
        Decision::Start { terminate } => {
            let run_id = tx.ids.uuid();
            if let Some(existing) = terminate {
                close::terminate_for_successor(tx, &request.workflow_id, &existing, &run_id)?;
            }
            let mut run = begin(tx, by_request(tx, request, run_id, command.eager_poller.is_some()));
            if scheduled_by.is_none() {
                remember(tx, &run, &request.request_id);
            }
            run.row.scheduled_by = scheduled_by;
            let eager = match &command.eager_poller {
                Some(poller) if !run.row.backing_off => {
                    workflow_task::schedule_eager(tx, &mut run, &poller.identity, &request.request_id)
                }
                _ => {
                    workflow_task::schedule_if_none(tx, &mut run);
                    None
                }
            };
            let reply = started(tx, &run, eager);
            tx.finish(run)?;
            Ok(reply)
        }
    }
}

fn started(tx: &Transaction<'_>, run: &Run, eager: Option<WorkflowTaskStart>) -> Reply {
    Reply::Started {
        run_id: run.key.run_id.clone(),
        first_execution_run_id: run.row.first_execution_run_id.clone(),
        started: true,
        running: true,
        status: run.row.status,
        eager: eager.map(Box::new),
        link: Some(started_link(tx.namespace, &run.key.workflow_id, &run.key.run_id)),
    }
}

/// The request id has made or joined the current run before: the answer is the same again.
fn same_request(
    tx: &Transaction<'_>,
    current: Option<&CurrentRow>,
    request: &StartWorkflowExecutionRequest,
    event: EventType,
) -> Outcome<Reply> {
    let current = current.cloned().unwrap_or_default();
    let made = event == EventType::WorkflowExecutionStarted;
    let link = if made {
        started_link(tx.namespace, &request.workflow_id, &current.run_id)
    } else {
        request_link(tx.namespace, &request.workflow_id, &current.run_id, &request.request_id, event)
    };
    Ok(existing(current, made, link))
}

fn existing(current: CurrentRow, started: bool, link: Link) -> Reply {
    Reply::Started {
        running: current.status == WorkflowExecutionStatus::Running as i32,
        status: current.status,
        run_id: current.run_id,
        first_execution_run_id: current.first_execution_run_id,
        started,
        eager: None,
        link: Some(link),
    }
}

/// USE_EXISTING: the open run is the answer; what the options name is attached to it by an event.
fn use_existing(
    tx: &mut Transaction<'_>,
    current: Option<&CurrentRow>,
    request: &StartWorkflowExecutionRequest,
) -> Outcome<Reply> {
    let current = current.cloned().unwrap_or_default();
    if request
        .on_conflict_options
        .is_some_and(|options| options.attach_completion_callbacks && !options.attach_request_id)
    {
        return Err(Rejection::invalid("attaching request ID is required for attaching completion callbacks").into());
    }
    let Some(options) = request.on_conflict_options.filter(|options| options.attach_request_id) else {
        let link = started_link(tx.namespace, &request.workflow_id, &current.run_id);
        return Ok(existing(current, false, link));
    };
    let mut run = lookup::open_run(tx, &request.workflow_id, &current.run_id)?;
    let attached = if options.attach_completion_callbacks { request.completion_callbacks.clone() } else { Vec::new() };
    let attributes = stanchion_proto::temporal::history::v1::WorkflowExecutionOptionsUpdatedEventAttributes {
        attached_request_id: request.request_id.clone(),
        attached_completion_callbacks: attached.clone(),
        ..Default::default()
    };
    callbacks::attach(&mut run, &attached, tx.now);
    let extra = Extra {
        links: if options.attach_links { request.links.clone() } else { Vec::new() },
        worker_may_ignore: true,
        ..Default::default()
    };
    run.row.request_ids.push(RequestIdRow {
        request_id: request.request_id.clone(),
        event_type: EventType::WorkflowExecutionOptionsUpdated as i32,
        event_id: 0,
    });
    run.receive_with(tx.now, Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes), extra);
    tx.finish(run)?;
    let event = EventType::WorkflowExecutionOptionsUpdated;
    let link = request_link(tx.namespace, &request.workflow_id, &current.run_id, &request.request_id, event);
    Ok(existing(current, false, link))
}

/// Link to a run's first event.
pub fn started_link(namespace: &str, workflow_id: &str, run_id: &str) -> Link {
    let reference = EventReference { event_id: 1, event_type: EventType::WorkflowExecutionStarted as i32 };
    event_link(namespace, workflow_id, run_id, Reference::EventRef(reference))
}

/// Link to the event that a request caused, whatever its id.
pub fn request_link(namespace: &str, workflow_id: &str, run_id: &str, request_id: &str, event: EventType) -> Link {
    let reference = RequestIdReference { request_id: request_id.to_owned(), event_type: event as i32 };
    event_link(namespace, workflow_id, run_id, Reference::RequestIdRef(reference))
}

fn event_link(namespace: &str, workflow_id: &str, run_id: &str, reference: Reference) -> Link {
    Link {
        variant: Some(link::Variant::WorkflowEvent(WorkflowEvent {
            namespace: namespace.to_owned(),
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
            reference: Some(reference),
        })),
    }
}

// What the policies say ------------------------------------------------------------------------------------------------

/// Both policies, with defaults filled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policies {
    pub reuse: WorkflowIdReusePolicy,
    pub conflict: WorkflowIdConflictPolicy,
}

impl Policies {
    pub(super) fn of_start(request: &StartWorkflowExecutionRequest) -> Result<Self, Rejection> {
        Self::of(
            request.workflow_id_reuse_policy(),
            request.workflow_id_conflict_policy(),
            WorkflowIdConflictPolicy::Fail,
        )
    }

    #[allow(deprecated)]
    pub fn of(
        reuse: WorkflowIdReusePolicy,
        conflict: WorkflowIdConflictPolicy,
        default_conflict: WorkflowIdConflictPolicy,
    ) -> Result<Self, Rejection> {
        use WorkflowIdConflictPolicy as Conflict;
        use WorkflowIdReusePolicy as Reuse;
        check_policies(reuse, conflict)?;
        if reuse == Reuse::TerminateIfRunning {
            return Ok(Self { reuse: Reuse::AllowDuplicate, conflict: Conflict::TerminateExisting });
        }
        Ok(Self {
            reuse: if reuse == Reuse::Unspecified { Reuse::AllowDuplicate } else { reuse },
            conflict: if conflict == Conflict::Unspecified { default_conflict } else { conflict },
        })
    }
}

/// Whether the two policies go together. The frontend asks before it proposes a start.
#[allow(deprecated)]
pub fn check_policies(reuse: WorkflowIdReusePolicy, conflict: WorkflowIdConflictPolicy) -> Result<(), Rejection> {
    use WorkflowIdConflictPolicy as Conflict;
    if reuse == WorkflowIdReusePolicy::TerminateIfRunning && conflict != Conflict::Unspecified {
        return Err(Rejection::invalid(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_TERMINATE_IF_RUNNING cannot be used together with \
             a WorkflowIDConflictPolicy",
        ));
    }
    if reuse == WorkflowIdReusePolicy::RejectDuplicate && conflict == Conflict::TerminateExisting {
        return Err(Rejection::invalid(
            "Invalid WorkflowIDReusePolicy: WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE cannot be used together with \
             WorkflowIdConflictPolicy WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING",
        ));
    }
    Ok(())
}

pub(crate) enum Decision {
    /// The request id is known to the current run.
    Same {
        event: EventType,
    },
    UseExisting,
    /// Start a run; terminate the open one with this id first.
    Start {
        terminate: Option<String>,
    },
}

/// What becomes of a start, given the newest run of its workflow id.
pub(crate) fn decide(
    current: Option<&CurrentRow>,
    workflow_id: &str,
    request_id: &str,
    policies: Policies,
) -> Result<Decision, Rejection> {
    let Some(current) = current else { return Ok(Decision::Start { terminate: None }) };
    if !request_id.is_empty()
        && let Some(known) = current.request_ids.iter().find(|known| known.request_id == request_id)
    {
        return Ok(Decision::Same { event: EventType::try_from(known.event_type).unwrap_or_default() });
    }
    let status = WorkflowExecutionStatus::try_from(current.status).unwrap_or_default();
    if status == WorkflowExecutionStatus::Running {
        return match policies.conflict {
            WorkflowIdConflictPolicy::UseExisting => Ok(Decision::UseExisting),
            WorkflowIdConflictPolicy::TerminateExisting => {
                let terminate = (!mutant!(TwoRunsOneId)).then(|| current.run_id.clone());
                Ok(Decision::Start { terminate })
            }
            _ => Err(already_started(
                current,
                format!("Workflow execution is already running. WorkflowId: {workflow_id}, RunId: {}.", current.run_id),
            )),
        };
    }
    let run_id = &current.run_id;
    match policies.reuse {
        WorkflowIdReusePolicy::RejectDuplicate => Err(already_started(
            current,
            format!(
                "Workflow execution already finished. WorkflowId: {workflow_id}, RunId: {run_id}. Workflow Id reuse \
                 policy: reject duplicate workflow Id."
            ),
        )),
        WorkflowIdReusePolicy::AllowDuplicateFailedOnly if !ended_badly(status) => Err(already_started(
            current,
            format!(
                "Workflow execution already finished successfully. WorkflowId: {workflow_id}, RunId: {run_id}. \
                 Workflow Id reuse policy: allow duplicate workflow Id if last run failed."
            ),
        )),
        _ => Ok(Decision::Start { terminate: None }),
    }
}

fn ended_badly(status: WorkflowExecutionStatus) -> bool {
    use WorkflowExecutionStatus::*;
    matches!(status, Failed | Canceled | Terminated | TimedOut)
}

fn already_started(current: &CurrentRow, message: String) -> Rejection {
    let made_by = current.request_ids.iter().find(|id| id.event_type == EventType::WorkflowExecutionStarted as i32);
    Rejection::new(Code::AlreadyExists, message).with(Detail::WorkflowExecutionAlreadyStarted {
        start_request_id: made_by.map(|id| id.request_id.clone()).unwrap_or_default(),
        run_id: current.run_id.clone(),
        first_execution_run_id: current.first_execution_run_id.clone(),
    })
}

// What a start must satisfy --------------------------------------------------------------------------------------------

/// The rules of a start that do not depend on state.
pub(super) fn check(tx: &Transaction<'_>, request: &StartWorkflowExecutionRequest) -> Result<(), Rejection> {
    let timeouts = [
        ("WorkflowExecutionTimeoutSeconds", &request.workflow_execution_timeout),
        ("WorkflowRunTimeoutSeconds", &request.workflow_run_timeout),
        ("WorkflowTaskTimeoutSeconds", &request.workflow_task_timeout),
        ("WorkflowStartDelaySeconds", &request.workflow_start_delay),
    ];
    for (name, timeout) in timeouts {
        if nanos(timeout.as_ref()) < 0 {
            return Err(Rejection::invalid(format!("An invalid {name} is set on request. cause: negative duration")));
        }
    }
    validate::retry_policy::check(request.retry_policy.as_ref()).map_err(Rejection::invalid)?;
    cron::check(tx, &request.cron_schedule, nanos(request.workflow_start_delay.as_ref()))?;
    versioning_override(request)?;
    match request.time_skipping_config {
        Some(_) => Err(Rejection::new(Code::Unimplemented, "time skipping is not supported by this release")),
        None => Ok(()),
    }
}

/// In the form that the first event has it.
fn versioning_override(request: &StartWorkflowExecutionRequest) -> Result<Option<VersioningOverride>, Rejection> {
    let queue = request.task_queue.as_ref().map_or("", |queue| queue.name.as_str());
    request.versioning_override.as_ref().map(|asked| versioning::checked(asked, queue, None)).transpose()
}

// Beginning a run ------------------------------------------------------------------------------------------------------

/// The first event that a start request asks for.
pub(super) fn by_request(
    tx: &Transaction<'_>,
    request: &StartWorkflowExecutionRequest,
    run_id: String,
    eager: bool,
) -> Beginning {
    let retry_policy = request.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy)));
    let delay = nanos(request.workflow_start_delay.as_ref());
    let (backoff, initiator) = if request.cron_schedule.is_empty() {
        (delay, ContinueAsNewInitiator::Unspecified)
    } else {
        (cron::first_wait(tx, &request.cron_schedule), ContinueAsNewInitiator::CronSchedule)
    };
    let execution_timeout = nanos(request.workflow_execution_timeout.as_ref());
    let run_timeout = capped(nanos(request.workflow_run_timeout.as_ref()), execution_timeout);
    let queue = request.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
    let attributes = WorkflowExecutionStartedEventAttributes {
        workflow_type: request.workflow_type.clone(),
        task_queue: Some(normal_queue(queue)),
        input: request.input.clone(),
        workflow_execution_timeout: (execution_timeout > 0).then(|| duration(execution_timeout)),
        workflow_run_timeout: (run_timeout > 0).then(|| duration(run_timeout)),
        workflow_task_timeout: Some(duration(task_timeout(nanos(request.workflow_task_timeout.as_ref()), run_timeout))),
        original_execution_run_id: run_id.clone(),
        first_execution_run_id: run_id.clone(),
        identity: request.identity.clone(),
        retry_policy,
        attempt: 1,
        // The start delay counts into the execution, and not into the run.
        workflow_execution_expiration_time: (execution_timeout > 0).then(|| timestamp(tx.now.plus(execution_timeout))),
        initiator: initiator as i32,
        cron_schedule: request.cron_schedule.clone(),
        first_workflow_task_backoff: Some(duration(backoff)),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        workflow_id: request.workflow_id.clone(),
        priority: request.priority.clone(),
        continued_failure: request.continued_failure.clone(),
        last_completion_result: request.last_completion_result.clone(),
        eager_execution_accepted: eager && backoff == 0,
        // Checked before: one that is refused begins no run.
        versioning_override: versioning_override(request).unwrap_or_default(),
        completion_callbacks: request.completion_callbacks.clone(),
        ..Default::default()
    };
    Beginning {
        key: RunKey { namespace_id: tx.namespace_id.to_owned(), workflow_id: request.workflow_id.clone(), run_id },
        attributes,
        extra: Extra {
            user_metadata: request.user_metadata.clone(),
            links: request.links.clone(),
            ..Default::default()
        },
        request_id: request.request_id.clone(),
    }
}

pub(super) fn normal_queue(name: String) -> TaskQueue {
    TaskQueue { name, kind: TaskQueueKind::Normal as i32, ..Default::default() }
}

/// `value`, but at most `limit`; where 0 means "none" for both.
pub(super) fn capped(value: i64, limit: i64) -> i64 {
    match (value, limit) {
        (0, limit) => limit,
        (value, 0) => value,
        (value, limit) => value.min(limit),
    }
}

pub(super) fn task_timeout(asked: i64, run_timeout: i64) -> i64 {
    let timeout = if asked == 0 { TASK_TIMEOUT } else { asked.min(TASK_TIMEOUT_MAX) };
    capped(timeout, run_timeout)
}

/// Makes the run with its first event, its time-out, and its back-off if there is one. Scheduling the first workflow task is the
/// caller's.
pub(super) fn begin(tx: &mut Transaction<'_>, beginning: Beginning) -> Box<Run> {
    let Beginning { key, attributes, extra, mut request_id } = beginning;
    if request_id.is_empty() {
        request_id = tx.ids.uuid();
    }
    let (row, detail) = first_rows(tx.now, &attributes, extra.user_metadata.as_ref(), request_id);
    let mut run = Box::new(Run::new(key, RunRow { retention: tx.retention, ..row }, detail));
    run.record_with(tx.now, Attributes::WorkflowExecutionStartedEventAttributes(attributes), extra);
    if let Some((at, row)) = run_timeout_row(&run) {
        timer_queue::set(tx, run.slot, at, &row);
    }
    if let Some((at, row)) = backoff_row(&run) {
        timer_queue::set(tx, run.slot, at, &row);
    }
    run
}

/// A start with this request id is answered with the run from now on, also when another one has taken its place ([`lookup::current_or_made`]).
/// For callers who may repeat themselves; what comes through an outbox comes once.
pub(super) fn remember(tx: &mut Transaction<'_>, run: &Run, request_id: &str) {
    if !request_id.is_empty() {
        let key = keys::start_request(&run.key.namespace_id, &run.key.workflow_id, request_id);
        tx.put(run.slot, Table::StartRequest, key, Bytes::copy_from_slice(run.key.run_id.as_bytes()));
    }
}

/// A run's rows as its first event, written at `now`, makes them.
pub(super) fn first_rows(
    now: ShardTime,
    attributes: &WorkflowExecutionStartedEventAttributes,
    user_metadata: Option<&UserMetadata>,
    request_id: String,
) -> (RunRow, RunDetailRow) {
    let backoff = nanos(attributes.first_workflow_task_backoff.as_ref());
    let execution_at = now.plus(backoff);
    let run_timeout = nanos(attributes.workflow_run_timeout.as_ref());
    let execution_expires_at = attributes.workflow_execution_expiration_time.as_ref().map_or(0, |at| instant(at).0);
    let run_expires_at = if run_timeout > 0 { execution_at.plus(run_timeout).0 } else { 0 };
    let row = RunRow {
        workflow_type: attributes.workflow_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        task_queue: attributes.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        status: WorkflowExecutionStatus::Running as i32,
        next_event_id: 1,
        started_at: now.0,
        execution_at: execution_at.0,
        execution_timeout: nanos(attributes.workflow_execution_timeout.as_ref()),
        run_timeout,
        task_timeout: nanos(attributes.workflow_task_timeout.as_ref()),
        execution_expires_at,
        run_expires_at: capped(run_expires_at, execution_expires_at),
        retry_policy: attributes.retry_policy.clone(),
        attempt: attributes.attempt,
        cron_schedule: attributes.cron_schedule.clone(),
        first_execution_run_id: attributes.first_execution_run_id.clone(),
        original_execution_run_id: attributes.original_execution_run_id.clone(),
        continued_run_id: attributes.continued_execution_run_id.clone(),
        request_ids: vec![RequestIdRow {
            request_id,
            event_type: EventType::WorkflowExecutionStarted as i32,
            event_id: 1,
        }],
        backing_off: backoff > 0,
        workflow_task_attempt: 1,
        run_timeout_named: attributes.workflow_run_timeout.is_some(),
        priority: attributes.priority.clone(),
        reset_points: attributes.prev_auto_reset_points.clone(),
        ..Default::default()
    };
    let detail = RunDetailRow {
        memo: attributes.memo.clone(),
        search_attributes: attributes.search_attributes.clone(),
        user_metadata: user_metadata.cloned(),
        callbacks: callbacks::registered(&attributes.completion_callbacks, now),
        parent: parent_of(attributes),
        root: attributes.root_workflow_execution.clone(),
        versioning_info: versioning::info(attributes.versioning_override.as_ref()),
        ..Default::default()
    };
    (row, detail)
}

/// Whose child a run with this first event is.
fn parent_of(attributes: &WorkflowExecutionStartedEventAttributes) -> Option<SenderRow> {
    let parent = attributes.parent_workflow_execution.clone()?;
    Some(SenderRow {
        namespace_id: attributes.parent_workflow_namespace_id.clone(),
        namespace: attributes.parent_workflow_namespace.clone(),
        workflow_id: parent.workflow_id,
        run_id: parent.run_id,
        initiated_event_id: attributes.parent_initiated_event_id,
    })
}

/// The timer row of a run's time-out.
pub(super) fn run_timeout_row(run: &Run) -> Option<(ShardTime, TimerQueueRow)> {
    let at = ShardTime(run.row.run_expires_at);
    (at.0 > 0).then(|| (at, run_timer(run, timer_queue_row::Kind::RunTimeout)))
}

/// The timer row of a run that backs off before its first workflow task.
pub(super) fn backoff_row(run: &Run) -> Option<(ShardTime, TimerQueueRow)> {
    run.row
        .backing_off
        .then(|| (ShardTime(run.row.execution_at), run_timer(run, timer_queue_row::Kind::FirstWorkflowTask)))
}

pub(super) fn run_timer(run: &Run, kind: timer_queue_row::Kind) -> TimerQueueRow {
    TimerQueueRow {
        namespace_id: run.key.namespace_id.clone(),
        workflow_id: run.key.workflow_id.clone(),
        run_id: run.key.run_id.clone(),
        kind: kind as i32,
        ..Default::default()
    }
}

/// The run need not back off any longer.
pub(super) fn end_backoff(tx: &mut Transaction<'_>, run: &mut Run) {
    if let Some((at, row)) = backoff_row(run) {
        timer_queue::clear(tx, run.slot, at, &row);
        run.row.backing_off = false;
    }
}

/// The back-off has passed: now the first workflow task is due.
pub fn backoff_passed(tx: &mut Transaction<'_>, run: &mut Run) {
    run.row.backing_off = false;
    workflow_task::schedule_if_none(tx, run);
}
