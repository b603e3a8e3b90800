//! A standalone activity, as `DescribeActivityExecution` shows it.

use prost::Message;
use stanchion_proto::row::{
    ActivityRow, StandaloneCurrentRow, StandaloneDetailRow, StandaloneOutcomeRow, StandaloneRow,
};
use stanchion_proto::temporal::activity::v1::activity_execution_outcome::Value;
use stanchion_proto::temporal::activity::v1::{ActivityExecutionInfo, ActivityExecutionOutcome};
use stanchion_proto::temporal::common::v1::ActivityType;
use stanchion_proto::temporal::enums::v1::{ActivityExecutionStatus, PendingActivityState};
use stanchion_proto::temporal::failure::v1::Failure;

use super::pending_activity::{is_ahead, state_of};
use crate::keys::{self, StandalonePart};
use crate::slot::slot_of;
use crate::state::{StateReader, StateResult, Table};
use crate::time::{duration, timestamp, timestamp_if_set};
use crate::transaction::decode;
use crate::types::{EventId, RunKey, ShardTime};

/// One run of a standalone activity.
pub struct StandaloneView {
    pub key: RunKey,
    row: StandaloneRow,
    activity: ActivityRow,
    pub detail: StandaloneDetailRow,
    /// Once it is closed.
    pub outcome: Option<ActivityExecutionOutcome>,
}

/// The run, where an empty run id means the newest one. None if there is no such run.
pub fn standalone<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    activity_id: &str,
    run_id: &str,
) -> StateResult<Option<StandaloneView>> {
    let slot = slot_of(namespace_id, activity_id);
    let get = |key: &[u8]| reader.get(slot, Table::StandaloneActivity, key);
    let run_id = match run_id {
        "" => match get(&keys::standalone_current(namespace_id, activity_id))? {
            Some(bytes) => decode::<StandaloneCurrentRow>(Table::StandaloneActivity, bytes)?.run_id,
            None => return Ok(None),
        },
        named => named.to_owned(),
    };
    let key = RunKey { namespace_id: namespace_id.to_owned(), workflow_id: activity_id.to_owned(), run_id };
    let Some(row) = get(&keys::standalone_part(&key, StandalonePart::State))? else { return Ok(None) };
    let mut row: StandaloneRow = decode(Table::StandaloneActivity, row)?;
    let detail = get(&keys::standalone_part(&key, StandalonePart::Detail))?;
    let outcome = get(&keys::standalone_part(&key, StandalonePart::Outcome))?;
    let outcome: Option<StandaloneOutcomeRow> =
        outcome.map(|bytes| decode(Table::StandaloneActivity, bytes)).transpose()?;
    Ok(Some(StandaloneView {
        activity: row.activity.take().unwrap_or_default(),
        row,
        detail: detail.map(|bytes| decode(Table::StandaloneActivity, bytes)).transpose()?.unwrap_or_default(),
        outcome: outcome.and_then(|row| row.outcome),
        key,
    }))
}

impl StandaloneView {
    pub fn is_closed(&self) -> bool {
        self.row.status != ActivityExecutionStatus::Running as i32
    }

    /// The number that its next change will have, as waiters count.
    pub fn next_change(&self) -> EventId {
        EventId(i64::try_from(self.row.transitions).unwrap_or(i64::MAX).saturating_add(1))
    }

    /// `now` decides what is still ahead. Heartbeat details and the last failure are in it; who did not ask for them takes them out.
    pub fn info(&self, now: ShardTime) -> ActivityExecutionInfo {
        let (row, activity) = (&self.row, &self.activity);
        let closed = self.is_closed();
        let run_state =
            if closed { PendingActivityState::Unspecified } else { state_of(activity, row.cancel_requested) };
        let paused = run_state == PendingActivityState::Paused;
        let status = if paused { ActivityExecutionStatus::Paused as i32 } else { row.status };
        let execution_at = ShardTime(activity.scheduled_at).plus(activity.start_delay);
        let ahead = !closed && is_ahead(activity, now);
        let retries = ahead && activity.last_attempt_completed_at != 0;
        let expires_at = (activity.schedule_to_close_timeout > 0)
            .then(|| timestamp(execution_at.plus(activity.schedule_to_close_timeout)));
        let size = row.encoded_len() + activity.encoded_len() + self.outcome.as_ref().map_or(0, Message::encoded_len);
        ActivityExecutionInfo {
            activity_id: self.key.workflow_id.clone(),
            run_id: self.key.run_id.clone(),
            activity_type: Some(ActivityType { name: activity.activity_type.clone() }),
            status,
            run_state: run_state as i32,
            task_queue: activity.task_queue.clone(),
            schedule_to_close_timeout: Some(duration(activity.schedule_to_close_timeout)),
            schedule_to_start_timeout: Some(duration(activity.schedule_to_start_timeout)),
            start_to_close_timeout: Some(duration(activity.start_to_close_timeout)),
            heartbeat_timeout: Some(duration(activity.heartbeat_timeout)),
            retry_policy: activity.retry_policy.clone(),
            heartbeat_details: activity.heartbeat_details.clone(),
            last_heartbeat_time: timestamp_if_set(activity.last_heartbeat_at),
            last_started_time: timestamp_if_set(row.last_started_at),
            attempt: activity.attempt,
            execution_duration: closed.then(|| duration((row.closed_at - execution_at.0).max(0))),
            schedule_time: Some(timestamp(ShardTime(activity.scheduled_at))),
            expiration_time: expires_at,
            close_time: timestamp_if_set(row.closed_at),
            last_failure: self.last_failure(),
            last_worker_identity: activity.worker_identity.clone(),
            current_retry_interval: retries
                .then(|| duration(activity.attempt_scheduled_at.saturating_sub(activity.last_attempt_completed_at))),
            last_attempt_complete_time: timestamp_if_set(activity.last_attempt_completed_at),
            next_attempt_schedule_time: ahead.then(|| timestamp(ShardTime(activity.attempt_scheduled_at))),
            priority: activity.priority.clone(),
            state_transition_count: i64::try_from(row.transitions).unwrap_or(i64::MAX),
            state_size_bytes: i64::try_from(size as u64 + row.detail_bytes).unwrap_or(i64::MAX),
            search_attributes: Some(self.detail.search_attributes.clone().unwrap_or_default()),
            header: self.detail.header.clone(),
            user_metadata: self.detail.user_metadata.clone(),
            canceled_reason: row.cancel_reason.clone(),
            links: self.detail.links.clone(),
            total_heartbeat_count: i64::try_from(row.heartbeats).unwrap_or(i64::MAX),
            start_delay: (activity.start_delay != 0).then(|| duration(activity.start_delay)),
            execution_time: Some(timestamp(execution_at)),
            ..Default::default()
        }
    }

    fn last_failure(&self) -> Option<Failure> {
        match &self.outcome {
            Some(ActivityExecutionOutcome { value: Some(Value::Failure(failure)), .. }) if self.row.failed_for_good => {
                Some(failure.clone())
            }
            _ => self.activity.last_failure.clone(),
        }
    }
}
