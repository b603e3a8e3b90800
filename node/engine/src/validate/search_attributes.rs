//! Search attributes given with a start, an upsert or a continue-as-new, against those that the namespace has.
//!
//! The attributes are known to the meta group, so this is called by the server before it proposes, never by `apply`. Values that pass
//! get their type as metadata, which is how they are recorded.

use std::collections::BTreeMap;

use bytes::Bytes;
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

/// Checks names and values, and stamps each value's type; the server's words about the first thing wrong. Sizes are [`check_sizes`]'s.
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
    for (name, payload) in &mut given.indexed_fields {
        let own = known.get(name).and_then(|kind| IndexedValueType::try_from(*kind).ok());
        let is_system = SYSTEM.iter().any(|(system, _)| system == name) || OF_THE_SERVER.contains(&name.as_str());
        if own.is_none() && is_system {
            return Err(format!("{name} attribute can't be set in SearchAttributes"));
        }
        let Some(kind) = own.or_else(|| everywhere(name)) else {
            return Err(format!("Namespace {namespace} has no mapping defined for search attribute {name}"));
        };
        let decoded = decode(payload);
        if !decoded.as_ref().is_some_and(|value| holds(value, kind)) {
            let shown = decoded.map_or_else(|| format!("value from <{}>", text_form(payload)), |value| value.shown());
            return Err(format!("invalid value for search attribute {name} of type {}: {shown}", type_name(kind)));
        }
        payload.metadata.insert("type".into(), type_name(kind).into());
    }
    Ok(())
}

/// Checks that no value is too large and not all of them together; the server's words about the first thing wrong.
pub fn check_sizes(given: Option<&SearchAttributes>) -> Result<(), String> {
    let Some(given) = given else { return Ok(()) };
    let mut bytes = 0;
    for (name, payload) in &given.indexed_fields {
        let size = payload.data.len();
        if size > VALUE_BYTES_MAX {
            return Err(format!("search attribute {name} value size {size} exceeds size limit {VALUE_BYTES_MAX}"));
        }
        bytes += name.len() + size;
    }
    if bytes > SET_BYTES_MAX {
        return Err(format!("total size of search attributes {bytes} exceeds size limit {SET_BYTES_MAX}"));
    }
    Ok(())
}

/// What a payload holds by its encoding.
enum Decoded {
    Json(Value),
    Bytes(Bytes),
}

/// None where the encoding is not one of values, or the data is not of the encoding.
fn decode(payload: &Payload) -> Option<Decoded> {
    match payload.metadata.get("encoding").map(AsRef::as_ref) {
        Some(b"json/plain") => serde_json::from_slice(&payload.data).ok().map(Decoded::Json),
        Some(b"binary/null") => Some(Decoded::Json(Value::Null)),
        Some(b"binary/plain") => Some(Decoded::Bytes(payload.data.clone())),
        _ => None,
    }
}

/// The value is of the type, or nothing (which unsets the attribute).
fn holds(decoded: &Decoded, kind: IndexedValueType) -> bool {
    match decoded {
        Decoded::Bytes(_) => false,
        Decoded::Json(Value::Null) => true,
        Decoded::Json(Value::Array(values)) if values.is_empty() => true,
        // A keyword list is a list.
        Decoded::Json(Value::String(_)) if kind == IndexedValueType::KeywordList => false,
        Decoded::Json(value) => row_of("", kind, value).is_some(),
    }
}

impl Decoded {
    /// As the real server's messages show it: Go's way to print what the JSON holds.
    fn shown(&self) -> String {
        match self {
            Self::Json(value) => printed(value),
            Self::Bytes(bytes) => format!("[{}]", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")),
        }
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), printed_number),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields = sorted.into_iter().map(|(name, value)| format!("{name}:{}", printed(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
    }
}

/// The fewest digits that stand for the number; with an exponent of at least two digits where it is very large or very small.
fn printed_number(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

/// A payload in the text form of protocol buffers, on one line.
fn text_form(payload: &Payload) -> String {
    let metadata = payload
        .metadata
        .iter()
        .map(|(key, value)| format!("metadata:{{key:{} value:{}}}", quoted(key.as_bytes()), quoted(value)));
    let data = (!payload.data.is_empty()).then(|| format!("data:{}", quoted(&payload.data)));
    metadata.chain(data).collect::<Vec<_>>().join(" ")
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii().to_string().replace("\\'", "'"))
}
