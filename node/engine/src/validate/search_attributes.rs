//! Search attributes given with a start, an upsert or a continue-as-new, against those that the namespace has.
//!
//! The attributes are known to the meta group, so this is called by the server before it proposes, never by `apply`. Values that pass
//! get their type as metadata, which is how they are recorded.

use std::collections::BTreeMap;

use serde_json::Value;
use stanchion_proto::temporal::common::v1::{Payload, SearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use crate::visibility::attributes::{row_of, type_name};

/// Attributes that the server sets itself.
pub const SYSTEM: [(&str, IndexedValueType); 16] = [
    ("CloseTime", IndexedValueType::Datetime),
    ("ExecutionDuration", IndexedValueType::Int),
    ("ExecutionStatus", IndexedValueType::Keyword),
    ("ExecutionTime", IndexedValueType::Datetime),
    ("HistoryLength", IndexedValueType::Int),
    ("HistorySizeBytes", IndexedValueType::Int),
    ("ParentRunId", IndexedValueType::Keyword),
    ("ParentWorkflowId", IndexedValueType::Keyword),
    ("RootRunId", IndexedValueType::Keyword),
    ("RootWorkflowId", IndexedValueType::Keyword),
    ("RunId", IndexedValueType::Keyword),
    ("StartTime", IndexedValueType::Datetime),
    ("StateTransitionCount", IndexedValueType::Int),
    ("TaskQueue", IndexedValueType::Keyword),
    ("WorkflowId", IndexedValueType::Keyword),
    ("WorkflowType", IndexedValueType::Keyword),
];

/// Attributes that exist in every namespace beside those of the system.
pub const PREDEFINED: [(&str, IndexedValueType); 17] = [
    ("BatcherNamespace", IndexedValueType::Keyword),
    ("BatcherUser", IndexedValueType::Keyword),
    ("BinaryChecksums", IndexedValueType::KeywordList),
    ("BuildIds", IndexedValueType::KeywordList),
    ("TemporalChangeVersion", IndexedValueType::KeywordList),
    ("TemporalExternalPayloadCount", IndexedValueType::Int),
    ("TemporalExternalPayloadSizeBytes", IndexedValueType::Int),
    ("TemporalNamespaceDivision", IndexedValueType::Keyword),
    ("TemporalPauseInfo", IndexedValueType::KeywordList),
    ("TemporalReportedProblems", IndexedValueType::KeywordList),
    ("TemporalSchedulePaused", IndexedValueType::Bool),
    ("TemporalScheduledById", IndexedValueType::Keyword),
    ("TemporalScheduledStartTime", IndexedValueType::Datetime),
    ("TemporalUsedWorkerDeploymentVersions", IndexedValueType::KeywordList),
    ("TemporalWorkerDeployment", IndexedValueType::Keyword),
    ("TemporalWorkerDeploymentVersion", IndexedValueType::Keyword),
    ("TemporalWorkflowVersioningBehavior", IndexedValueType::Keyword),
];

/// Predefined ones that clients may not set.
const OF_THE_SERVER: [&str; 3] =
    ["TemporalWorkerDeployment", "TemporalWorkerDeploymentVersion", "TemporalWorkflowVersioningBehavior"];

/// One value, in bytes.
const VALUE_BYTES_MAX: usize = 2048;
/// All values of a set, in bytes.
const SET_BYTES_MAX: usize = 40 * 1024;
/// Attributes in a set.
const SET_MAX: usize = 100;

/// The type of an attribute that every namespace has.
pub fn everywhere(name: &str) -> Option<IndexedValueType> {
    SYSTEM.iter().chain(&PREDEFINED).find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Checks names and values, and stamps each value's type; the server's words about the first thing wrong.
pub fn check(
    namespace: &str,
    known: &BTreeMap<String, i32>,
    given: Option<&mut SearchAttributes>,
) -> Result<(), String> {
    let Some(given) = given else { return Ok(()) };
    let count = given.indexed_fields.len();
    if count > SET_MAX {
        return Err(format!("number of search attributes {count} exceeds limit {SET_MAX}"));
    }
    let mut bytes = 0;
    for (name, payload) in &mut given.indexed_fields {
        let own = known.get(name).and_then(|kind| IndexedValueType::try_from(*kind).ok());
        let is_system = SYSTEM.iter().any(|(system, _)| system == name) || OF_THE_SERVER.contains(&name.as_str());
        if own.is_none() && is_system {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        }
        let Some(kind) = own.or_else(|| everywhere(name)) else {
            return Err(format!("Namespace {namespace} has no mapping defined for search attribute {name}"));
        };
        if !holds(payload, kind) {
            let shown = shown(payload);
            return Err(format!("invalid value for search attribute {name} of type {}: {shown}", type_name(kind)));
        }
        if payload.data.len() > VALUE_BYTES_MAX {
            let size = payload.data.len();
            return Err(format!("search attribute {name} value size {size} exceeds size limit {VALUE_BYTES_MAX}"));
        }
        bytes += name.len() + payload.data.len();
        payload.metadata.insert("type".into(), type_name(kind).into());
    }
    if bytes > SET_BYTES_MAX {
        return Err(format!("total size of search attributes {bytes} exceeds size limit {SET_BYTES_MAX}"));
    }
    Ok(())
}

/// The value is JSON of the type, or nothing (which unsets the attribute).
fn holds(payload: &Payload, kind: IndexedValueType) -> bool {
    match serde_json::from_slice::<Value>(&payload.data) {
        Ok(Value::Null) => true,
        Ok(Value::Array(values)) if values.is_empty() => true,
        // A keyword list is a list.
        Ok(Value::String(_)) if kind == IndexedValueType::KeywordList => false,
        Ok(value) => row_of("", kind, &value).is_some(),
        Err(_) => payload.data.is_empty(),
    }
}

/// The value as the real server's messages show it: Go's way to print what the JSON holds.
fn shown(payload: &Payload) -> String {
    match serde_json::from_slice::<Value>(&payload.data) {
        Ok(value) => printed(&value),
        Err(_) => {
            let bytes: Vec<String> = payload.data.iter().map(u8::to_string).collect();
            format!("[{}]", bytes.join(" "))
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(printed).collect::<Vec<_>>().join(" ")),
        value => value.to_string(),
    }
}
