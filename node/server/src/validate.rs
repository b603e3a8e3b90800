//! What a request must look like before anything is asked of a run: the checks and the words of the real server.
//!
//! Rules that need a run's state are the engine's. The messages here are those that the real server was seen to send
//! (tests/differential/ERRORS.md); clients match on some of them.
//!
//! Called by the gRPC handlers, once, on the node that the client is connected to.

use prost::Message;
use stanchion_engine::Rejection;
use stanchion_engine::cron::Cron;
use stanchion_engine::limits::Limits;
use stanchion_engine::reply::{Code, Detail};
use stanchion_engine::run::start::check_policies;
use stanchion_engine::time::nanos;
use stanchion_engine::validate::fields;
use stanchion_proto::temporal::common::v1::{
    Callback, Header, Link, Memo, Payloads, Priority, RetryPolicy, WorkflowExecution, callback, link,
};
use stanchion_proto::temporal::enums::v1::{
    UpdateWorkflowExecutionLifecycleStage, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWorkflowExecutionRequest, StartActivityExecutionRequest,
    StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
};

use crate::shell::clock;

pub type Checked = Result<(), Rejection>;

const LINKS_MAX: usize = 10;
/// A payload that tells people in a line what something is, and one that tells more.
const SUMMARY_BYTES_MAX: usize = 400;
const DETAILS_BYTES_MAX: usize = 20_000;
const CALLBACK_URL_BYTES_MAX: usize = 1000;
const CALLBACK_HEADER_BYTES_MAX: usize = 8192;
const RESERVED_PREFIX: &str = "/_sys/";

fn refuse(message: impl Into<String>) -> Checked {
    Err(Rejection::invalid(message))
}

fn id_max(limits: &Limits) -> usize {
    usize::try_from(limits.id_bytes_max).unwrap_or(usize::MAX)
}

/// `Something length exceeds limit.`
pub fn short(text: &str, limits: &Limits, message: &str) -> Checked {
    if text.len() > id_max(limits) { refuse(message) } else { Ok(()) }
}

/// The run that a call names.
pub fn execution(execution: Option<&WorkflowExecution>) -> Checked {
    let Some(execution) = execution else { return refuse("Execution is not set on request.") };
    if execution.workflow_id.is_empty() {
        return refuse("WorkflowId is not set on request.");
    }
    run_id(&execution.run_id, "Invalid RunId.")
}

pub fn run_id(run_id: &str, message: &str) -> Checked {
    if run_id.is_empty() || uuid::Uuid::parse_str(run_id).is_ok() { Ok(()) } else { refuse(message) }
}

pub fn task_queue(queue: Option<&TaskQueue>, limits: &Limits) -> Checked {
    let Some(queue) = queue else { return refuse("taskQueue is not set") };
    if queue.name.is_empty() {
        return refuse("missing task queue name");
    }
    short(&queue.name, limits, "taskQueue length exceeds limit")?;
    if queue.name.starts_with(RESERVED_PREFIX) {
        return refuse(format!("task queue name cannot start with reserved prefix {RESERVED_PREFIX}"));
    }
    Ok(())
}

pub fn identity(identity: &str, limits: &Limits) -> Checked {
    short(identity, limits, "Identity length exceeds limit.")
}

/// Payloads of one field.
pub fn blob(payloads: Option<&Payloads>, limits: &Limits) -> Checked {
    blob_bytes(payloads.map_or(0, Message::encoded_len), limits)
}

pub fn blob_bytes(bytes: usize, limits: &Limits) -> Checked {
    if bytes as u64 > limits.payload_bytes_max { refuse("Blob data size exceeds limit.") } else { Ok(()) }
}

pub fn header_bytes(header: Option<&Header>) -> usize {
    header.map_or(0, Message::encoded_len)
}

pub fn memo(memo: Option<&Memo>, limits: &Limits) -> Checked {
    if memo.map_or(0, Message::encoded_len) as u64 > limits.memo_bytes_max {
        return refuse("Memo size exceeds limit.");
    }
    Ok(())
}

fn links(links: &[Link]) -> Checked {
    if links.len() > LINKS_MAX {
        return refuse(format!("cannot attach more than {LINKS_MAX} links per request, got {}", links.len()));
    }
    for link in links {
        if let Some(link::Variant::WorkflowEvent(event)) = &link.variant {
            let fields =
                [("namespace", &event.namespace), ("workflow ID", &event.workflow_id), ("run ID", &event.run_id)];
            if let Some((name, _)) = fields.iter().find(|(_, value)| value.is_empty()) {
                return refuse(format!("workflow event link must not have an empty {name} field"));
            }
        }
    }
    Ok(())
}

pub fn priority(priority: Option<&Priority>) -> Checked {
    fields::priority(priority).map_err(Rejection::invalid)
}

fn callback_url(url: &str) -> Checked {
    if url.len() > CALLBACK_URL_BYTES_MAX {
        return refuse(format!("invalid url: url length longer than max length allowed of {CALLBACK_URL_BYTES_MAX}"));
    }
    if matches!(url, "temporal://system" | "temporal://internal") {
        return Ok(());
    }
    match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => refuse("invalid url: missing host"),
        Some(_) => refuse(format!("invalid url: url does not match any configured callback address: {url}")),
        None => refuse(format!("invalid url: unknown scheme: {url}")),
    }
}

/// No address outside is configured for callbacks, as on the real development server.
fn callbacks(callbacks: &[Callback]) -> Checked {
    for callback in callbacks {
        match &callback.variant {
            Some(callback::Variant::Nexus(nexus)) => {
                callback_url(&nexus.url)?;
                let header_bytes: usize = nexus.header.iter().map(|(name, value)| name.len() + value.len()).sum();
                if header_bytes > CALLBACK_HEADER_BYTES_MAX {
                    return refuse(format!(
                        "invalid header: header size longer than max allowed size of {CALLBACK_HEADER_BYTES_MAX}"
                    ));
                }
            }
            Some(callback::Variant::Internal(_)) => {
                return refuse("unsupported callback variant: *common.Callback_Internal_");
            }
            Some(callback::Variant::NexusHandler(_)) => {
                return refuse("unsupported callback variant: *common.Callback_NexusHandler_");
            }
            None => return Err(Rejection::new(Code::Unimplemented, "unknown callback variant: <nil>")),
        }
    }
    Ok(())
}

fn negative(duration: Option<&prost_types::Duration>) -> bool {
    duration.is_some_and(|duration| duration.seconds < 0 || duration.nanos < 0)
}

fn timeout(duration: Option<&prost_types::Duration>, name: &str) -> Checked {
    if negative(duration) {
        return refuse(format!("An invalid {name} is set on request. cause: negative duration"));
    }
    Ok(())
}

fn cron_or_delay(spec: &str, start_delay: Option<&prost_types::Duration>) -> Checked {
    if !spec.is_empty() && nanos(start_delay) != 0 {
        return refuse("CronSchedule and WorkflowStartDelay may not be used together.");
    }
    Ok(())
}

/// By this node's clock; the engine asks again by the shard's.
fn cron(spec: &str) -> Checked {
    if spec.is_empty() {
        return Ok(());
    }
    Cron::check(spec, clock::wall()).map(|_| ()).map_err(|error| Rejection::invalid(error.to_string()))
}

pub fn retry_policy(policy: Option<&RetryPolicy>) -> Checked {
    stanchion_engine::validate::retry_policy::check(policy).map_err(Rejection::invalid)
}

pub fn workflow_id(id: &str, limits: &Limits) -> Checked {
    if id.is_empty() {
        return refuse("WorkflowId is not set on request.");
    }
    let max = id_max(limits);
    if id.len() > max {
        return refuse(format!("WorkflowId exceeds maximum allowed length ({}/{max})", id.len()));
    }
    Ok(())
}

pub fn start(request: &StartWorkflowExecutionRequest, limits: &Limits) -> Checked {
    workflow_id(&request.workflow_id, limits)?;
    retry_policy(request.retry_policy.as_ref())?;
    cron_or_delay(&request.cron_schedule, request.workflow_start_delay.as_ref())?;
    timeout(request.workflow_start_delay.as_ref(), "WorkflowStartDelaySeconds")?;
    cron(&request.cron_schedule)?;
    let workflow_type = request.workflow_type.as_ref().map_or("", |kind| kind.name.as_str());
    if workflow_type.is_empty() {
        return refuse("WorkflowType is not set on request.");
    }
    short(workflow_type, limits, "WorkflowType length exceeds limit.")?;
    task_queue(request.task_queue.as_ref(), limits)?;
    timeout(request.workflow_execution_timeout.as_ref(), "WorkflowExecutionTimeoutSeconds")?;
    timeout(request.workflow_run_timeout.as_ref(), "WorkflowRunTimeoutSeconds")?;
    timeout(request.workflow_task_timeout.as_ref(), "WorkflowTaskTimeoutSeconds")?;
    short(&request.request_id, limits, "RequestId length exceeds limit.")?;
    check_policies(request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy())?;
    links(&request.links)?;
    callbacks(&request.completion_callbacks)?;
    priority(request.priority.as_ref())?;
    blob(request.input.as_ref(), limits)?;
    memo(request.memo.as_ref(), limits)
}

/// Fills in the id and the wait stage where they are left out.
pub fn update(request: &mut UpdateWorkflowExecutionRequest, limits: &Limits) -> Checked {
    execution(request.workflow_execution.as_ref())?;
    let inner = request.request.get_or_insert_default();
    let Some(meta) = &mut inner.meta else { return refuse("Update meta is not set on request.") };
    short(&meta.update_id, limits, "UpdateId length exceeds limit.")?;
    if meta.update_id.is_empty() {
        meta.update_id = uuid::Uuid::new_v4().to_string();
    }
    let Some(input) = &inner.input else { return refuse("Update input is not set on request.") };
    if input.name.is_empty() {
        return refuse("Update name is not set on request.");
    }
    if !inner.completion_callbacks.is_empty() {
        let message = "completion callbacks of updates are not supported by this release";
        return Err(Rejection::new(Code::Unimplemented, message));
    }
    use UpdateWorkflowExecutionLifecycleStage as Stage;
    let wait = request.wait_policy.get_or_insert_default();
    match wait.lifecycle_stage() {
        Stage::Unspecified => wait.lifecycle_stage = Stage::Completed as i32,
        Stage::Admitted => {
            let message =
                "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported.";
            return Err(Rejection::new(Code::PermissionDenied, message).with(Detail::PermissionDenied));
        }
        Stage::Accepted | Stage::Completed => {}
    }
    Ok(())
}

/// What a schedule starts.
pub fn scheduled_action(action: &NewWorkflowExecutionInfo, limits: &Limits) -> Checked {
    // The nominal time stands behind the id of each run.
    workflow_id(&format!("{}-2009-11-10T23:00:00Z", action.workflow_id), limits)?;
    let workflow_type = action.workflow_type.as_ref().map_or("", |kind| kind.name.as_str());
    if workflow_type.is_empty() {
        return refuse("WorkflowType is not set on request.");
    }
    short(workflow_type, limits, "WorkflowType length exceeds limit.")?;
    task_queue(action.task_queue.as_ref(), limits)?;
    timeout(action.workflow_execution_timeout.as_ref(), "WorkflowExecutionTimeoutSeconds")?;
    timeout(action.workflow_run_timeout.as_ref(), "WorkflowRunTimeoutSeconds")?;
    timeout(action.workflow_task_timeout.as_ref(), "WorkflowTaskTimeoutSeconds")?;
    if !action.cron_schedule.is_empty() {
        return refuse("Scheduled workflow must not contain CronSchedule");
    }
    let allowed = [WorkflowIdReusePolicy::Unspecified, WorkflowIdReusePolicy::AllowDuplicate];
    if !allowed.contains(&action.workflow_id_reuse_policy()) {
        return refuse("Scheduled workflow must not contain WorkflowIDReusePolicy");
    }
    Ok(())
}

pub fn signal(request: &SignalWorkflowExecutionRequest, limits: &Limits) -> Checked {
    execution(request.workflow_execution.as_ref())?;
    if request.signal_name.is_empty() {
        return refuse("SignalName is not set on request.");
    }
    short(&request.signal_name, limits, "SignalName length exceeds limit.")?;
    short(&request.request_id, limits, "RequestId length exceeds limit.")?;
    links(&request.links)?;
    blob(request.input.as_ref(), limits)
}

pub fn signal_with_start(request: &SignalWithStartWorkflowExecutionRequest, limits: &Limits) -> Checked {
    let max = id_max(limits);
    cron(&request.cron_schedule)?;
    workflow_id(&request.workflow_id, limits)?;
    if request.signal_name.is_empty() {
        return refuse("signal not set");
    }
    if request.signal_name.len() > max {
        return refuse(format!("signal name exceeds maximum allowed length ({}/{max})", request.signal_name.len()));
    }
    let workflow_type = request.workflow_type.as_ref().map_or("", |kind| kind.name.as_str());
    if workflow_type.is_empty() {
        return refuse("workflow type not set");
    }
    if workflow_type.len() > max {
        return refuse(format!("workflow type exceeds maximum allowed length ({}/{max})", workflow_type.len()));
    }
    if request.task_queue.is_none() {
        return refuse("missing task queue name");
    }
    task_queue(request.task_queue.as_ref(), limits)?;
    if request.request_id.len() > max {
        return refuse(format!("Request ID exceeds maximum allowed length ({}/{max})", request.request_id.len()));
    }
    timeout(request.workflow_execution_timeout.as_ref(), "WorkflowExecutionTimeoutSeconds")?;
    timeout(request.workflow_run_timeout.as_ref(), "WorkflowRunTimeoutSeconds")?;
    timeout(request.workflow_task_timeout.as_ref(), "WorkflowTaskTimeoutSeconds")?;
    timeout(request.workflow_start_delay.as_ref(), "WorkflowStartDelaySeconds")?;
    retry_policy(request.retry_policy.as_ref())?;
    cron_or_delay(&request.cron_schedule, request.workflow_start_delay.as_ref())?;
    check_policies(request.workflow_id_reuse_policy(), request.workflow_id_conflict_policy())?;
    if request.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::Fail {
        return refuse(format!(
            "Invalid WorkflowIDConflictPolicy: {} is not supported for this operation.",
            WorkflowIdConflictPolicy::Fail.as_str_name()
        ));
    }
    links(&request.links)?;
    priority(request.priority.as_ref())?;
    blob(request.signal_input.as_ref(), limits)?;
    blob(request.input.as_ref(), limits)?;
    memo(request.memo.as_ref(), limits)
}

/// A standalone activity's start. The time-outs' own rules and words are those of an activity that a workflow schedules.
pub fn start_activity(request: &StartActivityExecutionRequest, limits: &Limits) -> Checked {
    let within = |what: &str, text: &str| {
        let limit = limits.id_bytes_max;
        if text.len() as u64 > limit {
            return refuse(format!("{what} exceeds length limit. Length={} Limit={limit}", text.len()));
        }
        Ok(())
    };
    let named = |what: &str, text: &str| {
        if text.is_empty() { refuse(format!("{what} is not set")) } else { within(what, text) }
    };
    let kind = request.activity_type.as_ref().map_or("", |kind| kind.name.as_str());
    named("activityId", &request.activity_id)?;
    named("activityType", kind)?;
    task_queue(request.task_queue.as_ref(), limits)?;
    retry_policy(request.retry_policy.as_ref())?;
    let timeouts = [
        ("ScheduleToCloseTimeout", &request.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &request.schedule_to_start_timeout),
        ("StartToCloseTimeout", &request.start_to_close_timeout),
        ("HeartbeatTimeout", &request.heartbeat_timeout),
        ("StartDelay", &request.start_delay),
    ];
    if let Some((name, _)) = timeouts.iter().find(|(_, value)| negative(value.as_ref())) {
        return refuse(format!("invalid {name}: negative duration"));
    }
    if request.priority.as_ref().is_some_and(|priority| priority.priority_key < 0) {
        return refuse("invalid priorities: priority key can't be negative");
    }
    if nanos(request.schedule_to_close_timeout.as_ref()) == 0 && nanos(request.start_to_close_timeout.as_ref()) == 0 {
        return refuse(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={kind}",
            request.activity_id
        ));
    }
    within("request ID", &request.request_id)?;
    within("identity", &request.identity)?;
    if request.input.as_ref().map_or(0, Message::encoded_len) as u64 > limits.payload_bytes_max {
        return refuse("input exceeds length limit");
    }
    let metadata = request.user_metadata.as_ref();
    let summary = metadata.and_then(|metadata| metadata.summary.as_ref()).map_or(0, Message::encoded_len);
    if summary > SUMMARY_BYTES_MAX {
        return refuse(format!("user_metadata.summary exceeds size limit. Length={summary} Limit={SUMMARY_BYTES_MAX}"));
    }
    let details = metadata.and_then(|metadata| metadata.details.as_ref()).map_or(0, Message::encoded_len);
    if details > DETAILS_BYTES_MAX {
        return refuse(format!("user_metadata.details exceeds size limit. Length={details} Limit={DETAILS_BYTES_MAX}"));
    }
    if !request.completion_callbacks.is_empty() {
        return refuse("completion callbacks are not enabled for this namespace");
    }
    links(&request.links)?;
    if request.on_conflict_options.as_ref().is_some_and(|options| options.attach_request_id) && request.links.is_empty()
    {
        return refuse("on_conflict_options: attach_request_id requires at least one completion callback or link");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(policy: RetryPolicy) -> Option<String> {
        retry_policy(Some(&policy)).err().map(|rejection| rejection.message)
    }

    #[test]
    fn retry_policies_are_checked_unless_there_is_one_attempt() {
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        let bad = RetryPolicy { initial_interval: negative, ..Default::default() };
        assert!(refused(bad.clone()).is_some());
        assert_eq!(refused(RetryPolicy { maximum_attempts: 1, ..bad }), None);
        assert_eq!(refused(RetryPolicy::default()), None);
        let below_one = RetryPolicy { backoff_coefficient: 0.5, ..Default::default() };
        assert_eq!(refused(below_one), Some("BackoffCoefficient cannot be less than 1 on retry policy.".into()));
    }

    #[test]
    fn run_ids_are_uuids_or_nothing() {
        assert!(run_id("", "no").is_ok());
        assert!(run_id("0193a1a0-0000-7000-8000-000000000000", "no").is_ok());
        assert_eq!(run_id("x", "no").unwrap_err().message, "no");
    }
}
