//! A standalone activity is started, or an existing run is the answer, by the policies for its id.

use stanchion_proto::command::StartStandaloneActivity;
use stanchion_proto::row::{ActivityRow, StandaloneCurrentRow, StandaloneDetailRow, StandaloneRow};
use stanchion_proto::temporal::enums::v1::{ActivityIdConflictPolicy, ActivityIdReusePolicy};
use stanchion_proto::temporal::workflowservice::v1::StartActivityExecutionRequest;

use super::{Alone, Status, attempt, current};
use crate::activity::{self, Worker, options};
use crate::effects::TaskStart;
use crate::reply::{Code, Detail, Rejection, Reply};
use crate::retry;
use crate::time::nanos;
use crate::transaction::{Outcome, Transaction};
use crate::types::RunKey;
use crate::validate::activity::Timeouts;

/// StartStandaloneActivity.
pub fn start<'c>(tx: &mut Transaction<'c>, command: &'c StartStandaloneActivity) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("StartStandaloneActivity carries no request.").into());
    };
    tx.reserve(command.reservation.as_ref());
    if let Some(existing) = current(tx, tx.namespace_id, &request.activity_id)? {
        match decide(&existing, request)? {
            Decision::Start => {}
            Decision::Existing => {
                let run_id = existing.run_id.clone();
                attach(tx, existing, request)?;
                return Ok(Reply::ActivityExecution { run_id, started: false });
            }
        }
    }
    let run_id = begin(tx, request)?;
    Ok(Reply::ActivityExecution { run_id, started: true })
}

enum Decision {
    Start,
    Existing,
}

fn decide(existing: &StandaloneCurrentRow, request: &StartActivityExecutionRequest) -> Result<Decision, Rejection> {
    let id = &request.request_id;
    if !id.is_empty() && (existing.request_id == *id || existing.attached_request_ids.contains(id)) {
        return Ok(Decision::Existing);
    }
    let status = Status::try_from(existing.status).unwrap_or_default();
    let start = match status {
        Status::Unspecified | Status::Running | Status::Paused => match request.id_conflict_policy() {
            ActivityIdConflictPolicy::UseExisting => return Ok(Decision::Existing),
            ActivityIdConflictPolicy::Unspecified | ActivityIdConflictPolicy::Fail => false,
        },
        Status::Completed => matches!(
            request.id_reuse_policy(),
            ActivityIdReusePolicy::Unspecified | ActivityIdReusePolicy::AllowDuplicate
        ),
        Status::Failed | Status::Canceled | Status::Terminated | Status::TimedOut => {
            request.id_reuse_policy() != ActivityIdReusePolicy::RejectDuplicate
        }
    };
    if start {
        return Ok(Decision::Start);
    }
    Err(Rejection::new(Code::AlreadyExists, "activity execution already started").with(
        Detail::ActivityExecutionAlreadyStarted {
            start_request_id: existing.request_id.clone(),
            run_id: existing.run_id.clone(),
        },
    ))
}

/// What a start leaves with the run that it was answered with, where it asks for that.
fn attach(
    tx: &mut Transaction<'_>,
    mut existing: StandaloneCurrentRow,
    request: &StartActivityExecutionRequest,
) -> Outcome<()> {
    let Some(conflict) = &request.on_conflict_options else { return Ok(()) };
    let known =
        existing.request_id == request.request_id || existing.attached_request_ids.contains(&request.request_id);
    if known || existing.status != Status::Running as i32 {
        return Ok(());
    }
    let mut alone = Alone::find(tx, &request.activity_id, &existing.run_id)?;
    if conflict.attach_request_id {
        existing.attached_request_ids.push(request.request_id.clone());
        alone.put_current(tx, &existing);
    }
    if conflict.attach_links && !request.links.is_empty() {
        let mut detail = alone.detail(tx)?;
        detail.links.extend(request.links.iter().cloned());
        alone.put_detail(tx, &detail);
    }
    alone.save(tx)?;
    Ok(())
}

fn begin(tx: &mut Transaction<'_>, request: &StartActivityExecutionRequest) -> Outcome<String> {
    let timeouts = Timeouts {
        schedule_to_close: nanos(request.schedule_to_close_timeout.as_ref()),
        schedule_to_start: nanos(request.schedule_to_start_timeout.as_ref()),
        start_to_close: nanos(request.start_to_close_timeout.as_ref()),
        heartbeat: nanos(request.heartbeat_timeout.as_ref()),
    };
    let kind = request.activity_type.as_ref().map(|kind| kind.name.clone()).unwrap_or_default();
    let Some(timeouts) = timeouts.filled_in(0) else {
        return Err(Rejection::invalid(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={kind}",
            request.activity_id
        ))
        .into());
    };
    let run_id = tx.ids.uuid();
    let key = RunKey {
        namespace_id: tx.namespace_id.to_owned(),
        workflow_id: request.activity_id.clone(),
        run_id: run_id.clone(),
    };
    let slot = key.slot();
    let start_delay = nanos(request.start_delay.as_ref()).max(0);
    let activity = ActivityRow {
        activity_id: request.activity_id.clone(),
        activity_type: kind,
        task_queue: request.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        scheduled_at: tx.now.0,
        schedule_to_close_timeout: timeouts.schedule_to_close,
        schedule_to_start_timeout: timeouts.schedule_to_start,
        start_to_close_timeout: timeouts.start_to_close,
        heartbeat_timeout: timeouts.heartbeat,
        retry_policy: Some(retry::with_defaults(request.retry_policy.as_ref())),
        priority: request.priority.clone(),
        start_delay,
        ..Default::default()
    };
    let row = StandaloneRow {
        status: Status::Running as i32,
        request_id: request.request_id.clone(),
        retention: tx.retention,
        ..Default::default()
    };
    let mut alone = Alone { key, slot, row, activity, listed_as: None, listed_delay: 0 };
    let detail = StandaloneDetailRow {
        input: request.input.clone(),
        header: request.header.clone(),
        search_attributes: request.search_attributes.clone(),
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
        original: Some(options::of(&alone.activity)),
    };
    alone.put_detail(tx, &detail);
    alone.list(tx, &detail);
    let current = StandaloneCurrentRow {
        run_id: run_id.clone(),
        status: Status::Running as i32,
        request_id: request.request_id.clone(),
        ..Default::default()
    };
    alone.put_current(tx, &current);
    let stamp = alone.next_stamp();
    let at = tx.now.plus(start_delay);
    let (place, activity) = alone.parts();
    activity::deadlines::whole(tx, &place, activity);
    match tx.take_reservation(&activity.task_queue, true).filter(|_| start_delay == 0) {
        Some(reservation) => {
            activity.attempt = 1;
            activity.stamp = stamp;
            activity.attempt_scheduled_at = at.0;
            let poller = reservation.poller.clone().unwrap_or_default();
            let made = tx.ids.uuid();
            let request_id = if poller.request_id.is_empty() { &made } else { &poller.request_id };
            activity::begin(tx, &place, activity, &Worker { identity: &poller.identity, request_id });
            alone.row.last_started_at = tx.now.0;
            let task = attempt::task(tx, &alone, detail);
            tx.hand_over(reservation, TaskStart::Activity(Box::new(task)));
        }
        None => activity::wait(tx, &place, activity, stamp, 1, at),
    }
    alone.save(tx)?;
    Ok(run_id)
}
