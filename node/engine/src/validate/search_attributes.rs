//! Search attributes given with a start, an upsert or a continue-as-new, against those that the namespace has.
//!
//! The attributes are known to the meta group, so this is called by the server before it proposes, never by `apply`. Values that pass
//! get their type as metadata, which is how they are recorded.

use std::collections::BTreeMap;

use bytes::Bytes;
use stanchion_proto::temporal::common::v1::{Payload, SearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

/// Attributes that the server sets itself.
const SYSTEM: [&str; 20] = [
    "WorkflowId",
    "RunId",
    "WorkflowType",
    "StartTime",
    "ExecutionTime",
    "CloseTime",
    "ExecutionStatus",
    "TaskQueue",
    "HistoryLength",
    "ExecutionDuration",
    "StateTransitionCount",
    "HistorySizeBytes",
    "ParentWorkflowId",
    "ParentRunId",
    "RootWorkflowId",
    "RootRunId",
    "TemporalWorkerDeploymentVersion",
    "TemporalWorkerDeployment",
    "TemporalWorkflowVersioningBehavior",
    "TemporalReportedProblems",
];

/// Attributes that exist in every namespace and that clients may set.
pub const PREDEFINED: [(&str, IndexedValueType); 7] = [
    ("BatcherUser", IndexedValueType::Keyword),
    ("BinaryChecksums", IndexedValueType::KeywordList),
    ("BuildIds", IndexedValueType::KeywordList),
    ("TemporalChangeVersion", IndexedValueType::KeywordList),
    ("TemporalNamespaceDivision", IndexedValueType::Keyword),
    ("TemporalPauseInfo", IndexedValueType::KeywordList),
    ("TemporalSchedulePaused", IndexedValueType::Bool),
];

/// Checks names and values, and stamps each value's type; the server's words about the first thing wrong.
pub fn check(
    namespace: &str,
    known: &BTreeMap<String, i32>,
    given: Option<&mut SearchAttributes>,
) -> Result<(), String> {
    let Some(given) = given else { return Ok(()) };
    for (name, payload) in &mut given.indexed_fields {
        if SYSTEM.contains(&name.as_str()) {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        }
        let own = known.get(name).and_then(|kind| IndexedValueType::try_from(*kind).ok());
        let predefined = PREDEFINED.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        let Some(kind) = own.or(predefined) else {
            return Err(format!("Namespace {namespace} has no mapping defined for search attribute {name}"));
        };
        if !holds(payload, kind) {
            let shown = shown(payload);
            return Err(format!("invalid value for search attribute {name} of type {}: {shown}", type_name(kind)));
        }
        payload.metadata.insert("type".into(), type_name(kind).into());
    }
    Ok(())
}

/// The type's name as payload metadata and messages carry it.
pub fn type_name(kind: IndexedValueType) -> &'static str {
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

/// The value is JSON of the type, or nothing (which unsets the attribute).
fn holds(payload: &Payload, kind: IndexedValueType) -> bool {
    let text = payload.data.trim_ascii();
    if text.is_empty() || text == b"null" || text == b"[]" {
        return true;
    }
    match kind {
        IndexedValueType::Unspecified => false,
        IndexedValueType::Text | IndexedValueType::Keyword => is_string(one(text)),
        IndexedValueType::Int => std::str::from_utf8(one(text)).is_ok_and(|t| t.parse::<i64>().is_ok()),
        IndexedValueType::Double => std::str::from_utf8(one(text)).is_ok_and(|t| t.parse::<f64>().is_ok()),
        IndexedValueType::Bool => matches!(one(text), b"true" | b"false"),
        IndexedValueType::Datetime => is_datetime(one(text)),
        IndexedValueType::KeywordList => is_string(text) || is_string_list(text),
    }
}

/// The only element of a list, or the value itself: clients may send a list of one.
fn one(text: &[u8]) -> &[u8] {
    let inner = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]"));
    inner.map_or(text, <[u8]>::trim_ascii)
}

fn is_string(text: &[u8]) -> bool {
    string_end(text) == Some(text.len())
}

fn is_string_list(text: &[u8]) -> bool {
    let Some(mut rest) = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")) else { return false };
    loop {
        rest = rest.trim_ascii_start();
        let Some(end) = string_end(rest) else { return false };
        rest = rest[end..].trim_ascii_start();
        match rest.split_first() {
            None => return true,
            Some((b',', more)) => rest = more,
            Some(_) => return false,
        }
    }
}

/// Length of the JSON string at the head of the text.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut bytes = text.iter().enumerate();
    if bytes.next()?.1 != &b'"' {
        return None;
    }
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(place + 1),
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    None
}

/// `"2006-01-02T15:04:05…"` in outline; the client's own library wrote it.
fn is_datetime(text: &[u8]) -> bool {
    let shape = b"\"0000-00-00T00:00:00";
    is_string(text)
        && text.len() > shape.len()
        && shape.iter().zip(text).all(|(s, t)| if *s == b'0' { t.is_ascii_digit() } else { s == t })
        && matches!(text[text.len() - 2], b'Z' | b'0'..=b'9')
}

/// The value as a message shows it: JSON without its quotes.
fn shown(payload: &Payload) -> String {
    let text: Bytes = payload.data.clone();
    let text = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(&text);
    String::from_utf8_lossy(text).into_owned()
}
