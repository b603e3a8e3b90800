//! A pending activity, as `DescribeWorkflowExecution` shows it.

use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::common::v1::ActivityType;
use stanchion_proto::temporal::enums::v1::PendingActivityState;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::PendingActivityInfo;
use stanchion_proto::temporal::workflow::v1::pending_activity_info::PauseInfo;
use stanchion_proto::temporal::workflow::v1::pending_activity_info::pause_info::{Manual, PausedBy};

use crate::activity::options;
use crate::time::{duration, timestamp, timestamp_if_set};
use crate::types::ShardTime;

/// `now` decides between an attempt that waits for its back-off and one that is on offer.
pub fn pending_activity(row: &ActivityRow, now: ShardTime) -> PendingActivityInfo {
    let state = state_of(row, row.cancel_requested_event_id != 0);
    let backs_off = is_ahead(row, now);
    let expires_at = if row.schedule_to_close_timeout > 0 {
        ShardTime(row.scheduled_at).plus(row.schedule_to_close_timeout).0
    } else {
        0
    };
    PendingActivityInfo {
        activity_id: row.activity_id.clone(),
        activity_type: Some(ActivityType { name: row.activity_type.clone() }),
        state: state as i32,
        heartbeat_details: row.heartbeat_details.clone(),
        last_heartbeat_time: timestamp_if_set(row.last_heartbeat_at),
        last_started_time: timestamp_if_set(row.started_at),
        attempt: row.attempt,
        maximum_attempts: row.retry_policy.as_ref().map_or(0, |policy| policy.maximum_attempts),
        scheduled_time: Some(timestamp(ShardTime(row.attempt_scheduled_at))),
        expiration_time: timestamp_if_set(expires_at),
        last_failure: row.last_failure.clone(),
        last_worker_identity: row.worker_identity.clone(),
        current_retry_interval: backs_off
            .then(|| duration(row.attempt_scheduled_at.saturating_sub(row.last_attempt_completed_at))),
        last_attempt_complete_time: timestamp_if_set(row.last_attempt_completed_at),
        next_attempt_schedule_time: backs_off.then(|| timestamp(ShardTime(row.attempt_scheduled_at))),
        priority: row.priority.clone(),
        activity_options: Some(ActivityOptions {
            task_queue: Some(TaskQueue {
                name: row.task_queue.clone(),
                normal_name: row.task_queue.clone(),
                ..Default::default()
            }),
            ..options::of(row)
        }),
        paused: row.pause.is_some(),
        pause_info: row.pause.as_ref().map(|pause| PauseInfo {
            pause_time: Some(timestamp(ShardTime(pause.paused_at))),
            paused_by: Some(PausedBy::Manual(Manual {
                identity: pause.identity.clone(),
                reason: pause.reason.clone(),
            })),
        }),
        ..Default::default()
    }
}

/// What an open activity does at the moment.
pub(super) fn state_of(row: &ActivityRow, cancel_requested: bool) -> PendingActivityState {
    match (cancel_requested, row.pause.is_some(), row.started_at != 0) {
        (true, _, _) => PendingActivityState::CancelRequested,
        (false, true, true) => PendingActivityState::PauseRequested,
        (false, true, false) => PendingActivityState::Paused,
        (false, false, true) => PendingActivityState::Started,
        (false, false, false) => PendingActivityState::Scheduled,
    }
}

/// The attempt waits for its time.
pub(super) fn is_ahead(row: &ActivityRow, now: ShardTime) -> bool {
    row.started_at == 0 && row.pause.is_none() && ShardTime(row.attempt_scheduled_at) > now
}
