//! The record of a run: what a list shows of it, from the run as it stands.

use prost::Message;
use stanchion_proto::row::{AttributeRow, RunDetailRow, RunRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};

use super::{DIVISION, attributes};
use crate::run::versioning;
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
    for own in by_the_server(key, row, detail) {
        rows.retain(|row| row.name != own.name);
        rows.push(own);
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// The search attributes that the real server sets itself on a run.
pub fn by_the_server(key: &RunKey, row: &RunRow, detail: &RunDetailRow) -> Vec<AttributeRow> {
    let behavior = versioning::behavior_shown(detail);
    // A run with a versioning behaviour shows the builds of its deployment, and no others.
    let builds = if behavior.is_some() { Vec::new() } else { build_ids(key, row) };
    let of = |name: &str, r#type: IndexedValueType, texts: Vec<String>| {
        let r#type = r#type.into();
        (!texts.is_empty()).then(|| AttributeRow { name: name.to_owned(), r#type, texts, ..Default::default() })
    };
    let behavior = behavior.map(str::to_owned).into_iter().collect();
    let all = [
        of("BuildIds", IndexedValueType::KeywordList, builds),
        of("BinaryChecksums", IndexedValueType::KeywordList, binary_checksums(key, row)),
        of("TemporalWorkflowVersioningBehavior", IndexedValueType::Keyword, behavior),
    ];
    all.into_iter().flatten().collect()
}

/// The attribute that marks a thing as being in a division, for records of which only the place counts.
pub fn division() -> AttributeRow {
    AttributeRow { name: DIVISION.to_owned(), ..Default::default() }
}

/// Which builds of workers have completed tasks of the run.
fn build_ids(key: &RunKey, row: &RunRow) -> Vec<String> {
    if row.previous_started_event_id == 0 {
        return Vec::new();
    }
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.build_id.is_empty());
    std::iter::once("unversioned".to_owned()).chain(own.map(|p| format!("unversioned:{}", p.build_id))).collect()
}

/// The checksums that workers of the run have given.
#[allow(deprecated)]
fn binary_checksums(key: &RunKey, row: &RunRow) -> Vec<String> {
    if row.previous_started_event_id == 0 {
        return Vec::new();
    }
    let points = row.reset_points.iter().flat_map(|points| &points.points);
    let own = points.filter(|point| point.run_id == key.run_id && !point.binary_checksum.is_empty());
    own.map(|point| point.binary_checksum.clone()).collect()
}
