//! Search attributes of a start, against what the namespace has: known names, values of the right type.
//!
//! Called by the handlers that start runs, and by the operator service (which lists and adds them).

use std::collections::BTreeMap;
use std::sync::Arc;

use stanchion_engine::Rejection;
use stanchion_proto::temporal::common::v1::SearchAttributes;
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::CallError;

/// Attributes that every namespace has and that only the server sets.
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

/// Attributes that every namespace has and that SDKs set.
pub const PREDEFINED: [(&str, IndexedValueType); 8] = [
    ("BatcherUser", IndexedValueType::Keyword),
    ("BinaryChecksums", IndexedValueType::KeywordList),
    ("BuildIds", IndexedValueType::KeywordList),
    ("TemporalChangeVersion", IndexedValueType::KeywordList),
    ("TemporalNamespaceDivision", IndexedValueType::Keyword),
    ("TemporalScheduledById", IndexedValueType::Keyword),
    ("TemporalScheduledStartTime", IndexedValueType::Datetime),
    ("TemporalSchedulePaused", IndexedValueType::Bool),
];

/// Refuses names that the namespace does not have and values of another type; notes the type in each value, as the real server does.
pub async fn check(
    node: &Arc<Node>,
    namespace: &Namespace,
    attributes: Option<&mut SearchAttributes>,
) -> Result<(), CallError> {
    let Some(attributes) = attributes.filter(|attributes| !attributes.indexed_fields.is_empty()) else { return Ok(()) };
    let mut known = custom(node, namespace);
    let is_known = |known: &BTreeMap<String, i32>, name: &str| {
        known.contains_key(name)
            || [&SYSTEM[..], &PREDEFINED[..]].concat().iter().any(|(predefined, _)| *predefined == name)
    };
    if !attributes.indexed_fields.keys().all(|name| is_known(&known, name)) {
        // It may have been added on another node a moment ago.
        node.meta.refresh(node).await?;
        known = custom(node, namespace);
    }
    for (name, payload) in &mut attributes.indexed_fields {
        if SYSTEM.iter().any(|(system, _)| system == name) {
            return Err(Rejection::invalid(format!("{name} attribute can't be set in SearchAttributes")).into());
        }
        let predefined = PREDEFINED.iter().find(|(predefined, _)| predefined == name).map(|(_, kind)| *kind);
        let added = known.get(name).and_then(|kind| IndexedValueType::try_from(*kind).ok());
        let Some(kind) = predefined.or(added) else {
            let message = format!("Namespace {} has no mapping defined for search attribute {name}", namespace.name);
            return Err(Rejection::invalid(message).into());
        };
        payload.metadata.insert("type".to_owned(), type_name(kind).into());
        let value: serde_json::Value = match serde_json::from_slice(&payload.data) {
            Ok(value) => value,
            // Not JSON: encrypted or of another encoding. Nothing can be said of it here.
            Err(_) => continue,
        };
        if !fits(kind, &value) {
            return Err(Rejection::invalid(format!(
                "invalid value for search attribute {name} of type {}: {}",
                type_name(kind),
                plain(&value)
            ))
            .into());
        }
    }
    Ok(())
}

/// The namespace's own attributes.
pub fn custom(node: &Node, namespace: &Namespace) -> BTreeMap<String, i32> {
    let view = node.meta.view();
    view.namespace(&namespace.name).map(|found| found.search_attributes.clone()).unwrap_or_default()
}

fn fits(kind: IndexedValueType, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    if let Value::Array(values) = value {
        return values.iter().all(|value| fits(kind, value));
    }
    match kind {
        _ if value.is_null() => true,
        IndexedValueType::Text
        | IndexedValueType::Keyword
        | IndexedValueType::KeywordList
        | IndexedValueType::Datetime => value.is_string(),
        IndexedValueType::Int => value.is_i64() || value.is_u64(),
        IndexedValueType::Double => value.is_number(),
        IndexedValueType::Bool => value.is_boolean(),
        IndexedValueType::Unspecified => true,
    }
}

fn type_name(kind: IndexedValueType) -> &'static str {
    match kind {
        IndexedValueType::Unspecified => "Unspecified",
        IndexedValueType::Text => "Text",
        IndexedValueType::Keyword => "Keyword",
        IndexedValueType::Int => "Int",
        IndexedValueType::Double => "Double",
        IndexedValueType::Bool => "Bool",
        IndexedValueType::Datetime => "Datetime",
        IndexedValueType::KeywordList => "KeywordList",
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
