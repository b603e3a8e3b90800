//! `DescribeWorkflowExecution`, as the real server fills it.

use std::collections::BTreeSet;

use prost_types::Timestamp;
use stanchion_proto::row::{ChildRow, RunDetailRow, RunRow, WorkflowTaskScheduledRow, run_row};
use stanchion_proto::temporal::common::v1::{Payload, Priority, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{
    IndexedValueType, PendingWorkflowTaskState, TaskQueueKind, WorkflowExecutionStatus,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflow::v1::{
    PendingActivityInfo, PendingChildExecutionInfo, PendingWorkflowTaskInfo, RequestIdInfo, WorkflowExecutionConfig,
    WorkflowExecutionExtendedInfo, WorkflowExecutionInfo,
};
use stanchion_proto::temporal::workflowservice::v1::DescribeWorkflowExecutionResponse;

use super::pending_activity::pending_activity;
use super::view::{resolve, run_row};
use crate::keys::{self, RunPart};

use crate::reply::Rejection;
use crate::run::{callbacks, versioning};
use crate::state::{StateReader, StateResult, Table};
use crate::time::{duration, timestamp_if_set};
use crate::transaction::decode;
use crate::types::{EventId, RunKey, ShardTime};
use crate::visibility::{attributes, record};

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
    let mut detail: RunDetailRow = detail.map(|bytes| decode(Table::Run, bytes)).transpose()?.unwrap_or_default();
    let pending_activities = pending_activities(reader, &key, row.priority.as_ref(), now)?;
    let paused = paused_types(&pending_activities);
    if !paused.is_empty() {
        let attributes = detail.search_attributes.get_or_insert_default();
        attributes.indexed_fields.insert("TemporalPauseInfo".to_owned(), keyword_list(&paused));
    }

    Ok(Ok(DescribeWorkflowExecutionResponse {
        execution_config: Some(WorkflowExecutionConfig {
            task_queue: Some(TaskQueue {
                name: row.task_queue.clone(),
                kind: TaskQueueKind::Normal.into(),
                ..Default::default()
            }),
            workflow_execution_timeout: (row.execution_timeout > 0).then(|| duration(row.execution_timeout)),
            // Continued as new and of children, the real server writes "none" as zero, and shows it so.
            workflow_run_timeout: (row.run_timeout > 0 || row.run_timeout_named).then(|| duration(row.run_timeout)),
            default_workflow_task_timeout: Some(duration(row.task_timeout)),
            user_metadata: detail.user_metadata.clone(),
        }),
        pending_activities,
        pending_children: pending_children(reader, &key)?,
        pending_workflow_task: pending_workflow_task(&row),
        callbacks: callbacks::described(detail.callbacks.clone()),
        workflow_extended_info: Some(extended(&row)),
        workflow_execution_info: Some(info(&key, row, detail)),
        ..Default::default()
    }))
}

/// What the real server says of a run with paused activities in a search attribute: their types.
fn paused_types(activities: &[PendingActivityInfo]) -> Vec<String> {
    let paused = activities.iter().filter(|activity| activity.paused);
    let types: BTreeSet<&str> =
        paused.filter_map(|a| a.activity_type.as_ref()).map(|kind| kind.name.as_str()).collect();
    types.into_iter().map(|kind| format!("property:activityType={kind}")).collect()
}

#[allow(deprecated)]
fn info(key: &RunKey, row: RunRow, detail: RunDetailRow) -> WorkflowExecutionInfo {
    let this = WorkflowExecution { workflow_id: key.workflow_id.clone(), run_id: key.run_id.clone() };
    let closed = row.status != WorkflowExecutionStatus::Running as i32;
    let by_the_server = record::by_the_server(key, &row, &detail);
    let mut search_attributes = detail.search_attributes.unwrap_or_default();
    let own = by_the_server.into_iter().map(|own| (own.name.clone(), attributes::payload(&own)));
    search_attributes.indexed_fields.extend(own);
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
        parent_namespace_id: detail.parent.as_ref().map(|parent| parent.namespace_id.clone()).unwrap_or_default(),
        parent_execution: detail
            .parent
            .map(|parent| WorkflowExecution { workflow_id: parent.workflow_id, run_id: parent.run_id }),
        root_execution: Some(detail.root.unwrap_or(this)),
        most_recent_worker_version_stamp: row.worker_version,
        first_run_id: row.first_execution_run_id,
        priority: row.priority,
        versioning_info: versioning::shown(detail.versioning_info),
        ..Default::default()
    }
}

fn keyword_list(texts: &[String]) -> Payload {
    attributes::typed(IndexedValueType::KeywordList, serde_json::Value::from(texts).to_string().into())
}

fn extended(row: &RunRow) -> WorkflowExecutionExtendedInfo {
    WorkflowExecutionExtendedInfo {
        execution_expiration_time: timestamp_if_set(row.execution_expires_at),
        // The real server sends the zero time where there is none.
        run_expiration_time: Some(timestamp_if_set(row.run_expires_at).unwrap_or(ZERO_TIME)),
        cancel_requested: row.cancel_requested,
        original_start_time: timestamp_if_set(match row.original_started_at {
            0 => row.started_at,
            original => original,
        }),
        last_reset_time: timestamp_if_set(row.reset_at),
        reset_run_id: row.reset_run_id.clone(),
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

fn pending_children<R: StateReader>(reader: &R, key: &RunKey) -> StateResult<Vec<PendingChildExecutionInfo>> {
    let from = keys::run_event(key, EventId(0));
    let to = keys::after(&keys::run(key));
    let rows = reader.range(key.slot(), Table::Child, &from, &to, usize::MAX)?;
    let shown = rows.into_iter().map(|(at, row)| {
        let row: ChildRow = decode(Table::Child, row)?;
        let initiated_id = at.last_chunk::<8>().map_or(0, |id| i64::from_be_bytes(*id));
        Ok(PendingChildExecutionInfo {
            workflow_id: row.workflow_id,
            run_id: row.run_id,
            workflow_type_name: row.workflow_type,
            initiated_id,
            parent_close_policy: row.parent_close_policy,
        })
    });
    shown.collect()
}

/// `inherited`: the run's own priority, which the real server does not show again with its activities.
fn pending_activities<R: StateReader>(
    reader: &R,
    key: &RunKey,
    inherited: Option<&Priority>,
    now: ShardTime,
) -> StateResult<Vec<PendingActivityInfo>> {
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
