//! Ids that a command makes: run ids and request ids, derived from the command's random seed.
//!
//! Never: a source of randomness of its own. The n-th id of a command is the same on every replica.

use crate::types::ShardTime;

/// The ids of one command, in order of need.
pub struct IdSource {
    seed: [u8; 32],
    now: ShardTime,
    made: u64,
}

impl IdSource {
    pub fn new(seed: &[u8], now: ShardTime) -> Self {
        Self { seed: *blake3::hash(seed).as_bytes(), now, made: 0 }
    }

    /// A UUID of version 7: the command's time, then bits of the seed.
    pub fn uuid(&mut self) -> String {
        let hash = blake3::keyed_hash(&self.seed, &self.made.to_be_bytes());
        self.made += 1;
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        let millis = u64::try_from(self.now.0 / 1_000_000).unwrap_or(0);
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        hyphenated(&bytes)
    }

    /// A number of at least 0 and less than `bound`; 0 where the bound allows no other.
    pub fn below(&mut self, bound: i64) -> i64 {
        let hash = blake3::keyed_hash(&self.seed, &self.made.to_be_bytes());
        self.made += 1;
        let mut bytes = [0_u8; 8];
        bytes.copy_from_slice(&hash.as_bytes()[..8]);
        if bound <= 0 { 0 } else { i64::from_be_bytes(bytes).rem_euclid(bound) }
    }
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 0x0f)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_reproducible_and_distinct() {
        let mut a = IdSource::new(b"seed", ShardTime(1_700_000_000_000_000_000));
        let mut b = IdSource::new(b"seed", ShardTime(1_700_000_000_000_000_000));
        let (first, second) = (a.uuid(), a.uuid());
        assert_eq!((first.clone(), second.clone()), (b.uuid(), b.uuid()));
        assert_ne!(first, second);
        assert!(first.starts_with("018bcfe5-6800-7"), "{first}");
    }
}
