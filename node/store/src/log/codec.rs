//! Keys and values of the log instance.
//!
//! ```text
//! entries   group u32, index u64 (both big-endian)         ->  crc32c u32, head length u32 (little-endian), head, payload
//! meta      group u32, 'c'                                 ->  last known committed id
//!           group u32, 'k', index u64                      ->  KeptRow: a stretch of the log that ends at index
//!           group u32, 'p'                                 ->  PurgedRow
//!           group u32, 'v'                                 ->  vote
//! ```
//!
//! The checksum covers the key too: an entry that turns up under another's key is as wrong as one with a flipped bit.

use bytes::Bytes;
use stanchion_engine::GroupId;

use super::LogEntry;

pub(super) const COMMITTED: u8 = b'c';
pub(super) const KEPT: u8 = b'k';
pub(super) const PURGED: u8 = b'p';
pub(super) const VOTE: u8 = b'v';

const HEADER_BYTES: usize = 8;

pub(super) fn entry_key(group: GroupId, index: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Group and index of an entry's key.
pub(super) fn entry_of(key: &[u8]) -> Option<(GroupId, u64)> {
    let (group, index) = key.split_first_chunk::<4>()?;
    Some((GroupId(u32::from_be_bytes(*group)), u64::from_be_bytes(index.try_into().ok()?)))
}

pub(super) fn meta_key(group: GroupId, name: u8) -> [u8; 5] {
    let mut key = [0; 5];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4] = name;
    key
}

pub(super) fn kept_key(group: GroupId, last: u64) -> [u8; 13] {
    let mut key = [0; 13];
    key[..5].copy_from_slice(&meta_key(group, KEPT));
    key[5..].copy_from_slice(&last.to_be_bytes());
    key
}

/// Group, name and, for a stretch, index of a key of `meta`.
pub(super) fn meta_of(key: &[u8]) -> Option<(GroupId, u8, Option<u64>)> {
    let (group, rest) = key.split_first_chunk::<4>()?;
    let (name, index) = rest.split_first()?;
    let index = match index.is_empty() {
        true => None,
        false => Some(u64::from_be_bytes(index.try_into().ok()?)),
    };
    Some((GroupId(u32::from_be_bytes(*group)), *name, index))
}

/// Appends the stored form of `entry` to `out`, which is cleared first.
pub(super) fn encode_entry(group: GroupId, entry: &LogEntry, out: &mut Vec<u8>) {
    out.clear();
    let length = (entry.head.len() as u32).to_le_bytes();
    let sum = checksum(group, entry.index, &length, &entry.head, &entry.payload);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(&entry.head);
    out.extend_from_slice(&entry.payload);
}

/// The entry in `value`, or what is wrong with it.
pub(super) fn decode_entry(group: GroupId, index: u64, value: Bytes) -> Result<LogEntry, String> {
    let parts = value.split_first_chunk::<4>().and_then(|(sum, rest)| Some((sum, rest.first_chunk::<4>()?)));
    let Some((stored, length)) = parts else {
        return Err(format!("entry {index} of group {group} has {} bytes, too few for its header", value.len()));
    };
    let (stored, head_bytes) = (u32::from_le_bytes(*stored), u32::from_le_bytes(*length) as usize);
    let actual = crc32c::crc32c_append(key_checksum(group, index), &value[4..]);
    if stored != actual {
        return Err(format!(
            "entry {index} of group {group} has checksum {actual:08x}, but was written with {stored:08x}"
        ));
    }
    if value.len() < HEADER_BYTES + head_bytes {
        return Err(format!("entry {index} of group {group} ends within its head"));
    }
    let head = value.slice(HEADER_BYTES..HEADER_BYTES + head_bytes);
    Ok(LogEntry { index, head, payload: value.slice(HEADER_BYTES + head_bytes..) })
}

fn checksum(group: GroupId, index: u64, length: &[u8; 4], head: &[u8], payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(key_checksum(group, index), length);
    crc32c::crc32c_append(crc32c::crc32c_append(sum, head), payload)
}

fn key_checksum(group: GroupId, index: u64) -> u32 {
    crc32c::crc32c(&entry_key(group, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_every_flipped_bit_is_noticed() {
        let entry = LogEntry { index: 7, head: Bytes::from_static(b"head"), payload: Bytes::from_static(b"payload") };
        let mut stored = Vec::new();
        encode_entry(GroupId(3), &entry, &mut stored);
        assert_eq!(decode_entry(GroupId(3), 7, stored.clone().into()).unwrap(), entry);
        assert!(decode_entry(GroupId(3), 8, stored.clone().into()).is_err(), "the key counts");
        assert!(decode_entry(GroupId(4), 7, stored.clone().into()).is_err(), "the group counts");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(GroupId(3), 7, flipped.into()).is_err(), "bit {bit}");
        }
        for length in 0..stored.len() {
            assert!(decode_entry(GroupId(3), 7, stored[..length].to_vec().into()).is_err(), "cut to {length}");
        }
    }
}
