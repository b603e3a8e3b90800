//! Which index rows a closed record has: one for each attribute and value, in the order of lists within each value.
//!
//! What can be seen from another row is not written: the root of a run that is its own root, an execution time that is the start time,
//! the close time (the records themselves are in its order). [`super::filter`] knows which rows answer for those.

use stanchion_proto::row::VisibilityRow;
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use super::attributes;
use super::filter::{System, micros};
use super::keys::{self, Space};

/// Calls `each` with every key. Equal records give equal keys, which is how removal finds them.
pub fn each_key(space: &Space, row: &VisibilityRow, position: &[u8], mut each: impl FnMut(Vec<u8>)) {
    each_value(row, |field, value| each([space.bytes(), field, value, position].concat()));
}

/// Calls `put` with the key of every attribute and its encoded value, or with each of its values.
pub fn each_value(row: &VisibilityRow, mut put: impl FnMut(&[u8], &[u8])) {
    let mut number = |field: System, value: i64| put(&[field as u8], &keys::number_value(value));
    number(System::ExecutionStatus, row.status.into());
    number(System::StartTime, micros(row.started_at));
    if row.execution_at != row.started_at {
        number(System::ExecutionTime, micros(row.execution_at));
    }
    number(System::ExecutionDuration, duration(row));
    number(System::HistoryLength, row.history_length);
    number(System::HistorySizeBytes, row.history_bytes);
    number(System::StateTransitionCount, row.transitions);
    for (field, text) in [
        (System::WorkflowId, &row.workflow_id),
        (System::RunId, &row.run_id),
        (System::WorkflowType, &row.workflow_type),
        (System::TaskQueue, &row.task_queue),
        (System::ParentWorkflowId, &row.parent_workflow_id),
        (System::ParentRunId, &row.parent_run_id),
        (System::RootWorkflowId, &row.root_workflow_id),
        (System::RootRunId, &row.root_run_id),
    ] {
        if !text.is_empty() {
            put(&[field as u8], &keys::text_value(text));
        }
    }
    for attribute in &row.attributes {
        let field = keys::named_field(&attribute.name, attribute.r#type);
        match IndexedValueType::try_from(attribute.r#type).unwrap_or_default() {
            IndexedValueType::Text => {
                let mut words: Vec<String> = attribute.texts.iter().flat_map(|text| attributes::words(text)).collect();
                words.sort_unstable();
                words.dedup();
                words.iter().for_each(|word| put(&field, &keys::text_value(word)));
            }
            IndexedValueType::Keyword | IndexedValueType::KeywordList => {
                attribute.texts.iter().for_each(|text| put(&field, &keys::text_value(text)));
            }
            IndexedValueType::Double => put(&field, &keys::double_value(attribute.double)),
            IndexedValueType::Int | IndexedValueType::Bool | IndexedValueType::Datetime => {
                put(&field, &keys::number_value(attribute.number));
            }
            IndexedValueType::Unspecified => {}
        }
    }
}

/// How long it ran, in nanoseconds; 0 while it is open.
pub fn duration(row: &VisibilityRow) -> i64 {
    if row.closed_at == 0 { 0 } else { (row.closed_at - row.execution_at).max(0) }
}
