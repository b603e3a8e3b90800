//! Keys of records, index rows and counters, and how values are encoded so that bytes sort as values do. Part of the format on disk.
//!
//! ```text
//! Table::VisibilityRecord  space, position                      -> the record
//! Table::Index             space, attribute, value, position    -> nothing
//! Table::VisibilityCount   space, status                        -> how many, 8 bytes
//! ```
//!
//! The order of lists: open before closed, then the latest close, then the latest start, then the run id.

use stanchion_proto::row::VisibilityRow;

use super::{DIVISION, Entity};

/// Longer texts are cut in index rows; whoever reads them looks at the record too.
pub const TEXT_BYTES_MAX: usize = 160;

const IN_DIVISION: u8 = 0x80;

/// What all rows of one kind in one namespace begin with. Things in a division of the namespace have a space of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space([u8; 17]);

impl Space {
    fn new(namespace_id: &str, entity: Entity, in_division: bool) -> Self {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&blake3::hash(namespace_id.as_bytes()).as_bytes()[..16]);
        bytes[16] = entity as u8 | if in_division { IN_DIVISION } else { 0 };
        Self(bytes)
    }

    /// The space that a record belongs to.
    pub fn of(namespace_id: &str, entity: Entity, row: &VisibilityRow) -> Self {
        Self::new(namespace_id, entity, row.attributes.iter().any(|attribute| attribute.name == DIVISION))
    }

    /// What is shown when nobody asks for divisions.
    pub fn plain(namespace_id: &str, entity: Entity) -> Self {
        Self::new(namespace_id, entity, false)
    }

    pub fn all(namespace_id: &str, entity: Entity) -> [Self; 2] {
        [Self::new(namespace_id, entity, false), Self::new(namespace_id, entity, true)]
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A place in the order of lists.
pub type Position = Vec<u8>;

/// Where a record stands.
pub fn position(row: &VisibilityRow) -> Position {
    position_of(row.closed_at, row.started_at, &row.run_id)
}

/// `closed_at` is 0 for what is open.
pub fn position_of(closed_at: i64, started_at: i64, run_id: &str) -> Position {
    let mut key = Vec::with_capacity(33);
    key.extend_from_slice(&latest_first(if closed_at == 0 { i64::MAX } else { closed_at }));
    key.extend_from_slice(&latest_first(started_at));
    match uuid_bytes(run_id) {
        Some(bytes) => {
            key.push(0);
            key.extend_from_slice(&bytes);
        }
        None => {
            key.push(1);
            key.extend_from_slice(run_id.as_bytes());
        }
    }
    key
}

/// Positions of closed things begin here; what is before is open.
pub fn first_closed() -> Position {
    latest_first(i64::MAX - 1).to_vec()
}

/// Positions of what closed at this time or before begin here.
pub fn closed_until(nanos: i64) -> Position {
    latest_first(nanos).to_vec()
}

fn latest_first(nanos: i64) -> [u8; 8] {
    (!number_bits(nanos)).to_be_bytes()
}

fn number_bits(number: i64) -> u64 {
    number as u64 ^ (1 << 63)
}

/// The bytes of a UUID in its usual lower-case form; other forms would not come back as they were.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut nibbles = 0;
    for (place, byte) in text.iter().enumerate() {
        let nibble = match byte {
            b'-' if matches!(place, 8 | 13 | 18 | 23) => continue,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        let at = bytes.get_mut(nibbles / 2)?;
        *at = *at << 4 | nibble;
        nibbles += 1;
    }
    (nibbles == 32).then_some(bytes)
}

/// Key of a record.
pub fn record(space: &Space, position: &[u8]) -> Vec<u8> {
    [space.bytes(), position].concat()
}

/// Key of a counter.
pub fn count(space: &Space, status: i32) -> Vec<u8> {
    [space.bytes(), &status.to_be_bytes()].concat()
}

/// Status of a counter's key.
pub fn counted_status(key: &[u8]) -> Option<i32> {
    key.last_chunk::<4>().map(|status| i32::from_be_bytes(*status))
}

/// What the index rows of an attribute have behind the space: a system attribute's number, or the type and name of another.
pub type FieldKey = Vec<u8>;

pub fn system_field(number: u8) -> FieldKey {
    vec![number]
}

/// `kind` is a temporal.api.enums.v1.IndexedValueType.
pub fn named_field(name: &str, kind: i32) -> FieldKey {
    let mut key = Vec::with_capacity(name.len() + 4);
    key.push(0x80 | u8::try_from(kind).unwrap_or(0));
    key.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

pub fn number_value(number: i64) -> Vec<u8> {
    number_bits(number).to_be_bytes().to_vec()
}

/// `ordered` as in `AttributeRow.double`.
pub fn double_value(ordered: u64) -> Vec<u8> {
    ordered.to_be_bytes().to_vec()
}

/// A text and its end: no text's bytes begin another's.
pub fn text_value(text: &str) -> Vec<u8> {
    let mut value = text_prefix(text);
    value.extend_from_slice(&[0, 0]);
    value
}

/// What all texts with this beginning begin with.
pub fn text_prefix(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)];
    let mut value = Vec::with_capacity(text.len() + 2);
    for byte in text {
        value.push(*byte);
        if *byte == 0 {
            value.push(0xff);
        }
    }
    value
}

/// Doubles as unsigned numbers that sort alike.
pub fn ordered_bits(double: f64) -> u64 {
    // Both zeros are one value.
    let bits = if double == 0.0 { 0 } else { double.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The inverse of [`ordered_bits`].
pub fn double_of(ordered: u64) -> f64 {
    f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sort_as_values_do() {
        let numbers = [i64::MIN, -5, -1, 0, 1, 7, i64::MAX];
        assert!(numbers.windows(2).all(|pair| number_value(pair[0]) < number_value(pair[1])));
        let doubles = [f64::NEG_INFINITY, -2.5, -0.1, 0.0, 1e-9, 3.0, f64::INFINITY];
        assert!(doubles.windows(2).all(|pair| ordered_bits(pair[0]) < ordered_bits(pair[1])));
        assert!(doubles.iter().all(|double| double_of(ordered_bits(*double)) == *double));
        let texts = ["", "\0", "a", "a\0", "a\0b", "ab", "b"];
        assert!(texts.windows(2).all(|pair| text_value(pair[0]) < text_value(pair[1])), "{texts:?}");
    }

    #[test]
    fn lists_begin_with_what_is_open_and_then_what_closed_last() {
        let run = |n: u8| format!("00000000-0000-7000-8000-0000000000{n:02x}");
        let order = [
            position_of(0, 9, &run(1)),
            position_of(0, 8, &run(1)),
            position_of(0, 8, &run(2)),
            position_of(70, 5, &run(1)),
            position_of(60, 6, &run(1)),
            position_of(60, 5, &run(1)),
        ];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(order[2] < first_closed() && first_closed() < order[3]);
    }
}
