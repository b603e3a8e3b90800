//! The record of a run: what a list shows of it, from the run as it stands.

use prost::Message;
use stanchion_proto::row::{AttributeRow, RunDetailRow, RunRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};

use super::{DIVISION, attributes};
use crate::types::RunKey;

/// Larger memos stay with the run alone, so that records are quick to walk over.
const MEMO_BYTES_MAX: usize = 1024;

/// See the module.
pub fn of_run(key: &RunKey, row: &RunRow, detail: &RunDetailRow) -> VisibilityRow {
    let closed = row.status != WorkflowExecutionStatus::Running as i32;
    let when_closed = |value: i64| if closed { value } else { 0 };
    let memo = detail.memo.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    let memo_with_run = memo.len() > MEMO_BYTES_MAX;
    VisibilityRow {
        workflow_id: key.workflow_id.clone(),
        run_id: key.run_id.clone(),
        workflow_type: row.workflow_type.clone(),
        task_queue: row.task_queue.clone(),
        status: row.status,
        started_at: row.started_at,
        execution_at: row.execution_at,
        closed_at: row.closed_at,
        history_length: when_closed(row.next_event_id - 1),
        history_bytes: when_closed(i64::try_from(row.history_bytes).unwrap_or(i64::MAX)),
        transitions: when_closed(i64::try_from(row.transitions).unwrap_or(i64::MAX)),
        parent_workflow_id: detail.parent.as_ref().map(|parent| parent.workflow_id.clone()).unwrap_or_default(),
        parent_run_id: detail.parent.as_ref().map(|parent| parent.run_id.clone()).unwrap_or_default(),
        root_workflow_id: detail.root.as_ref().map(|root| root.workflow_id.clone()).unwrap_or_default(),
        root_run_id: detail.root.as_ref().map(|root| root.run_id.clone()).unwrap_or_default(),
        memo: if memo_with_run { Default::default() } else { memo.into() },
        memo_with_run,
        attributes: attributes_of(key, row, detail),
        extra: Default::default(),
    }
}

fn attributes_of(key: &RunKey, row: &RunRow, detail: &RunDetailRow) -> Vec<AttributeRow> {
    let mut rows = attributes::rows(detail.search_attributes.as_ref());
    for (name, texts) in [("BuildIds", build_ids(key, row)), ("BinaryChecksums", binary_checksums(key, row))] {
        if !texts.is_empty() {
            rows.retain(|row| row.name != name);
            let r#type = IndexedValueType::KeywordList.into();
            rows.push(AttributeRow { name: name.to_owned(), r#type, texts, ..Default::default() });
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// The attribute that marks a thing as being in a division, for records of which only the place counts.
pub fn division() -> AttributeRow {
    AttributeRow { name: DIVISION.to_owned(), ..Default::default() }
}

/// The search attribute that the real server sets itself: which builds of workers have completed tasks of the run.
pub fn build_ids(key: &RunKey, row: &RunRow) -> Vec<String> {
    if row.previous_started_event_id == 0 {
        return Vec::new();
    }
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.build_id.is_empty());
    std::iter::once("unversioned".to_owned()).chain(own.map(|p| format!("unversioned:{}", p.build_id))).collect()
}

/// Likewise: the checksums that workers of the run have given.
#[allow(deprecated)]
pub fn binary_checksums(key: &RunKey, row: &RunRow) -> Vec<String> {
    if row.previous_started_event_id == 0 {
        return Vec::new();
    }
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.binary_checksum.is_empty());
    own.map(|point| point.binary_checksum.clone()).collect()
}
