//! Search attributes between their three forms: payloads (what clients send and see), rows (what is stored), words (of texts).
//!
//! Never: an attribute that does not fit its type; such a value is as good as none, and was refused before it got here.

use bytes::Bytes;
use prost_types::Timestamp;
use serde_json::Value as Json;
use stanchion_proto::row::AttributeRow;
use stanchion_proto::temporal::common::v1::{Payload, SearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use super::keys::{double_of, ordered_bits};

/// The rows of all attributes that have a value, in order of name. The type is the one that the payload carries.
pub fn rows(attributes: Option<&SearchAttributes>) -> Vec<AttributeRow> {
    let Some(attributes) = attributes else { return Vec::new() };
    attributes.indexed_fields.iter().filter_map(|(name, payload)| row(name, payload)).collect()
}

fn row(name: &str, payload: &Payload) -> Option<AttributeRow> {
    let kind = payload.metadata.get("type").and_then(|name| kind_of(name))?;
    row_of(name, kind, &serde_json::from_slice(&payload.data).ok()?)
}

/// The value of a keyword or text; none if it is absent.
pub fn text_of(payload: &Payload) -> Option<String> {
    row("", payload)?.texts.pop()
}

/// None where the value is absent or of another type.
pub fn row_of(name: &str, kind: IndexedValueType, value: &Json) -> Option<AttributeRow> {
    // A list of one stands for its element.
    let one = match value {
        Json::Array(values) if values.len() == 1 => &values[0],
        value => value,
    };
    let mut row = AttributeRow { name: name.to_owned(), r#type: kind.into(), ..Default::default() };
    match kind {
        IndexedValueType::Text | IndexedValueType::Keyword => row.texts.push(one.as_str()?.to_owned()),
        IndexedValueType::KeywordList => match value {
            Json::Array(values) if values.is_empty() => return None,
            Json::Array(values) => {
                row.texts = values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            }
            value => row.texts.push(value.as_str()?.to_owned()),
        },
        IndexedValueType::Int => row.number = one.as_i64()?,
        IndexedValueType::Double => row.double = ordered_bits(one.as_f64()?),
        IndexedValueType::Bool => row.number = i64::from(one.as_bool()?),
        IndexedValueType::Datetime => (row.number, row.nanos) = micros(one.as_str()?)?,
        IndexedValueType::Unspecified => return None,
    }
    Some(row)
}

/// A row as lists show it.
pub fn payload(row: &AttributeRow) -> Payload {
    let kind = IndexedValueType::try_from(row.r#type).unwrap_or_default();
    let json = match kind {
        IndexedValueType::KeywordList => Json::from(row.texts.clone()),
        IndexedValueType::Int => Json::from(row.number),
        IndexedValueType::Bool => Json::from(row.number != 0),
        IndexedValueType::Datetime => Json::from(datetime(row.number, row.nanos)),
        IndexedValueType::Double => {
            let double = double_of(row.double);
            // Go writes whole numbers without a fraction.
            match double as i64 {
                whole if whole as f64 == double && double.abs() < 1e15 => Json::from(whole),
                _ => Json::from(double),
            }
        }
        _ => Json::from(row.texts.first().cloned().unwrap_or_default()),
    };
    typed(kind, json.to_string().into())
}

/// A JSON value with its type beside it.
pub fn typed(kind: IndexedValueType, json: Bytes) -> Payload {
    let metadata = [("encoding", "json/plain"), ("type", type_name(kind))];
    Payload {
        metadata: metadata.map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes()))).into(),
        data: json,
        ..Default::default()
    }
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

/// The inverse of [`type_name`].
pub fn kind_of(name: &[u8]) -> Option<IndexedValueType> {
    use IndexedValueType::*;
    [Text, Keyword, Int, Double, Bool, Datetime, KeywordList]
        .into_iter()
        .find(|kind| type_name(*kind).as_bytes() == name)
}

/// Microseconds since the epoch of an RFC 3339 time, and the nanoseconds beyond them.
pub fn micros(text: &str) -> Option<(i64, u32)> {
    // The library's parser is more lenient than the protocol's clients are: the shape is checked first.
    let shape = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    let fits = bytes.len() > shape.len()
        && shape.iter().zip(bytes).all(|(s, b)| if *s == b'0' { b.is_ascii_digit() } else { s == b });
    let time: Timestamp = text.parse().ok().filter(|_| fits)?;
    let (nanos, seconds) = (u32::try_from(time.nanos).ok()?, time.seconds);
    Some((seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))?, nanos % 1000))
}

fn datetime(micros: i64, nanos: u32) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let nanos = micros.rem_euclid(1_000_000) * 1000 + i64::from(nanos);
    let whole = Timestamp { seconds, nanos: 0 }.to_string();
    if nanos == 0 {
        return whole;
    }
    let fraction = format!("{nanos:09}");
    format!("{}.{}Z", whole.trim_end_matches('Z'), fraction.trim_end_matches('0'))
}

/// The words of a text, as filters look for them: letters and digits, in lower case as far as ASCII goes, so that no table of
/// characters, which could differ between releases, decides about stored bytes.
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_went_in() {
        use IndexedValueType::*;
        for (kind, json) in [
            (Text, r#""hello world""#),
            (Keyword, r#""red""#),
            (Int, "-7"),
            (Double, "1.5"),
            (Double, "2"),
            (Bool, "true"),
            (Datetime, r#""2024-01-02T03:04:05.123456789Z""#),
            (Datetime, r#""9999-12-31T23:59:59Z""#),
            (KeywordList, r#"["a","b"]"#),
        ] {
            let row = row_of("x", kind, &serde_json::from_str(json).unwrap()).unwrap();
            assert_eq!(payload(&row).data, json.as_bytes(), "{kind:?}");
        }
        assert_eq!(row_of("x", Int, &Json::from("5")), None);
        assert_eq!(row_of("x", Datetime, &Json::from("yesterday")), None);
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(words("Hello small-world, größe 7").collect::<Vec<_>>(), ["hello", "small", "world", "größe", "7"]);
    }
}
