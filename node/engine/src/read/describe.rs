//! `DescribeWorkflowExecution`, as the real server fills it.

use bytes::Bytes;
use prost_types::Timestamp;
use stanchion_proto::row::{RunDetailRow, RunRow, WorkflowTaskScheduledRow, run_row};
use stanchion_proto::temporal::common::v1::{Payload, Priority, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{PendingWorkflowTaskState, TaskQueueKind, WorkflowExecutionStatus};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::{
    PendingWorkflowTaskInfo, RequestIdInfo, WorkflowExecutionConfig, WorkflowExecutionExtendedInfo,
    WorkflowExecutionInfo,
};
use stanchion_proto::temporal::workflowservice::v1::DescribeWorkflowExecutionResponse;

use super::pending_activity::pending_activity;
use super::view::{resolve, run_row};
use crate::keys::{self, RunPart};

use crate::reply::Rejection;
use crate::state::{StateReader, StateResult, Table};
use crate::time::{duration, timestamp_if_set};
use crate::transaction::decode;
use crate::types::{EventId, RunKey, ShardTime};

/// Describes a run, where an empty run id means the newest one. `now` is only used for what is still ahead (retry times).
pub fn describe<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
    run_id: &str,
    now: ShardTime,
) -> StateResult<Result<DescribeWorkflowExecutionResponse, Rejection>> {
    let Some(key) = resolve(reader, namespace_id, workflow_id, run_id)? else {
        return Ok(Err(Rejection::not_found(format!("workflow not found for ID: {workflow_id}"))));
    };
    let Some(row) = run_row(reader, &key)?.filter(|row| !row.deleted) else {
        let message = format!("workflow execution not found for workflow ID \"{workflow_id}\" and run ID \"{run_id}\"");
        return Ok(Err(Rejection::not_found(message)));
    };
    let detail = reader.get(key.slot(), Table::Run, &keys::run_part(&key, RunPart::Detail))?;
    let detail: RunDetailRow = detail.map(|bytes| decode(Table::Run, bytes)).transpose()?.unwrap_or_default();

    Ok(Ok(DescribeWorkflowExecutionResponse {
        execution_config: Some(WorkflowExecutionConfig {
            task_queue: Some(TaskQueue {
                name: row.task_queue.clone(),
                kind: TaskQueueKind::Normal.into(),
                ..Default::default()
            }),
            workflow_execution_timeout: (row.execution_timeout > 0).then(|| duration(row.execution_timeout)),
            // Continued as new, the real server writes "none" as zero, and shows it so.
            workflow_run_timeout: (row.run_timeout > 0 || row.run_timeout_named).then(|| duration(row.run_timeout)),
            default_workflow_task_timeout: Some(duration(row.task_timeout)),
            user_metadata: detail.user_metadata.clone(),
        }),
        pending_activities: pending_activities(reader, &key, row.priority.as_ref(), now)?,
        pending_workflow_task: pending_workflow_task(&row),
        workflow_extended_info: Some(extended(&row)),
        workflow_execution_info: Some(info(&key, row, detail)),
        ..Default::default()
    }))
}

fn info(key: &RunKey, row: RunRow, detail: RunDetailRow) -> WorkflowExecutionInfo {
    let this = WorkflowExecution { workflow_id: key.workflow_id.clone(), run_id: key.run_id.clone() };
    let closed = row.status != WorkflowExecutionStatus::Running as i32;
    let mut search_attributes = detail.search_attributes.unwrap_or_default();
    if row.previous_started_event_id > 0 {
        search_attributes.indexed_fields.insert("BuildIds".to_owned(), build_ids(key, &row));
        if let Some(checksums) = binary_checksums(key, &row) {
            search_attributes.indexed_fields.insert("BinaryChecksums".to_owned(), checksums);
        }
    }
    WorkflowExecutionInfo {
        execution: Some(this.clone()),
        r#type: Some(WorkflowType { name: row.workflow_type }),
        start_time: timestamp_if_set(row.started_at),
        close_time: timestamp_if_set(row.closed_at),
        status: row.status,
        history_length: row.next_event_id - 1,
        execution_time: timestamp_if_set(row.execution_at),
        memo: Some(detail.memo.unwrap_or_default()),
        search_attributes: Some(search_attributes),
        auto_reset_points: Some(row.reset_points.unwrap_or_default()),
        task_queue: row.task_queue,
        state_transition_count: i64::try_from(row.transitions).unwrap_or(i64::MAX),
        history_size_bytes: i64::try_from(row.history_bytes).unwrap_or(i64::MAX),
        execution_duration: closed.then(|| duration((row.closed_at - row.execution_at).max(0))),
        root_execution: Some(this),
        first_run_id: row.first_execution_run_id,
        priority: row.priority,
        ..Default::default()
    }
}

/// The search attribute that the real server sets itself: which builds of workers have completed tasks of the run.
fn build_ids(key: &RunKey, row: &RunRow) -> Payload {
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.build_id.is_empty());
    let named: String = own.map(|point| format!(",\"unversioned:{}\"", point.build_id)).collect();
    keyword_list(format!("[\"unversioned\"{named}]"))
}

/// Likewise: the checksums that workers of the run have given. None if they gave none.
#[allow(deprecated)]
fn binary_checksums(key: &RunKey, row: &RunRow) -> Option<Payload> {
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.binary_checksum.is_empty());
    let named: Vec<String> = own.map(|point| format!("\"{}\"", point.binary_checksum)).collect();
    (!named.is_empty()).then(|| keyword_list(format!("[{}]", named.join(","))))
}

fn keyword_list(json: String) -> Payload {
    Payload {
        metadata: [("encoding", "json/plain"), ("type", "KeywordList")]
            .map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes())))
            .into(),
        data: json.into(),
        ..Default::default()
    }
}

fn extended(row: &RunRow) -> WorkflowExecutionExtendedInfo {
    WorkflowExecutionExtendedInfo {
        execution_expiration_time: timestamp_if_set(row.execution_expires_at),
        // The real server sends the zero time where there is none.
        run_expiration_time: Some(timestamp_if_set(row.run_expires_at).unwrap_or(ZERO_TIME)),
        cancel_requested: row.cancel_requested,
        original_start_time: timestamp_if_set(row.started_at),
        request_id_infos: row
            .request_ids
            .iter()
            .map(|seen| {
                let info = RequestIdInfo { event_type: seen.event_type, event_id: seen.event_id, ..Default::default() };
                (seen.request_id.clone(), info)
            })
            .collect(),
        ..Default::default()
    }
}

/// What Go's zero `time.Time` becomes on the wire.
const ZERO_TIME: Timestamp = Timestamp { seconds: -62_135_596_800, nanos: 0 };

fn pending_workflow_task(row: &RunRow) -> Option<PendingWorkflowTaskInfo> {
    let of = |task: &WorkflowTaskScheduledRow, state: PendingWorkflowTaskState, started_at| PendingWorkflowTaskInfo {
        state: state.into(),
        scheduled_time: timestamp_if_set(task.scheduled_at),
        original_scheduled_time: timestamp_if_set(task.original_scheduled_at),
        started_time: timestamp_if_set(started_at),
        attempt: task.attempt,
    };
    match row.workflow_task.as_ref()? {
        run_row::WorkflowTask::Scheduled(task) => Some(of(task, PendingWorkflowTaskState::Scheduled, 0)),
        run_row::WorkflowTask::Started(task) => {
            Some(of(task.scheduled.as_ref()?, PendingWorkflowTaskState::Started, task.started_at))
        }
    }
}

/// `inherited`: the run's own priority, which the real server does not show again with its activities.
fn pending_activities<R: StateReader>(
    reader: &R,
    key: &RunKey,
    inherited: Option<&Priority>,
    now: ShardTime,
) -> StateResult<Vec<stanchion_proto::temporal::workflow::v1::PendingActivityInfo>> {
    let from = keys::run_event(key, EventId(0));
    let to = keys::after(&keys::run(key));
    let rows = reader.range(key.slot(), Table::Activity, &from, &to, usize::MAX)?;
    let shown = rows.into_iter().map(|(_, row)| {
        let mut shown = pending_activity(&decode(Table::Activity, row)?, now);
        if shown.priority.as_ref() == inherited {
            shown.priority = None;
            if let Some(options) = &mut shown.activity_options {
                options.priority = None;
            }
        }
        Ok(shown)
    });
    shown.collect()
}
