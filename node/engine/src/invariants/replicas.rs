//! Whether replicas hold the same rows (B2), a part at a time: rows from one on, in the order of slots, tables and keys, up to a
//! number of bytes. Equal states have equal parts and equal hashes of them, on every replica.
//!
//! Batches of events are left out, which are most of the bytes: each run's row carries the chain over its events.
//!
//! Never: a read of more than one batch of rows beyond the bound.
//!
//! Called by `replica` when a `CheckHash` is applied.

use crate::state::{StateReader, StateResult, Table};
use crate::types::Slot;

/// Rows read in one go.
const CHUNK: usize = 128;
/// What looking for a table's rows counts: most tables of most slots are empty, and looking takes time all the same.
const SEEK_BYTES: u64 = 256;

/// Where a part begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub slot: Slot,
    pub table: Table,
    pub key: Vec<u8>,
}

impl Place {
    /// The first row of a slot.
    pub fn start_of(slot: Slot) -> Self {
        Self { slot, table: Table::ALL[0], key: Vec::new() }
    }

    /// From a command's numbers; none if there is no such slot or table.
    pub fn of(slot: u32, table: u32, key: &[u8]) -> Option<Self> {
        let table = Table::ALL.into_iter().find(|known| *known as u32 == table)?;
        Some(Self { slot: Slot(u16::try_from(slot).ok()?), table, key: key.to_vec() })
    }
}

/// A part as one replica holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub hash: [u8; 32],
    pub rows: u64,
    pub bytes: u64,
    /// Where the rows go on; none behind the last slot.
    pub next: Option<Place>,
}

/// Hashes the rows from `from` on to the end of slot `last`, or until `bytes_max` are reached.
pub fn part<R: StateReader + ?Sized>(state: &R, from: &Place, last: Slot, bytes_max: u64) -> StateResult<Part> {
    let mut part = Hashing { hasher: blake3::Hasher::new(), rows: 0, bytes: 0, cost: 0, cost_max: bytes_max };
    for slot in from.slot.0..=last.0 {
        for table in Table::ALL.into_iter().filter(|table| *table != Table::History) {
            let at = Place { slot: Slot(slot), table, key: Vec::new() };
            let at = match (at.slot, at.table).cmp(&(from.slot, from.table)) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => from.clone(),
                std::cmp::Ordering::Greater => at,
            };
            if let Some(next) = part.table(state, at)? {
                return Ok(part.done(Some(next)));
            }
        }
    }
    Ok(part.done(None))
}

struct Hashing {
    hasher: blake3::Hasher,
    rows: u64,
    bytes: u64,
    /// Bytes, and what looking for them is worth.
    cost: u64,
    cost_max: u64,
}

impl Hashing {
    /// Takes in a table's rows. Where to go on, if that was too much.
    fn table<R: StateReader + ?Sized>(&mut self, state: &R, mut at: Place) -> StateResult<Option<Place>> {
        if self.cost >= self.cost_max {
            return Ok(Some(at));
        }
        self.cost += SEEK_BYTES;
        loop {
            let chunk = state.range(at.slot, at.table, &at.key, &[], CHUNK)?;
            let full = chunk.len() == CHUNK;
            for (key, value) in chunk {
                at.key = key.to_vec();
                if self.cost >= self.cost_max && self.rows > 0 {
                    return Ok(Some(at));
                }
                self.row(&at, &value);
            }
            if !full {
                return Ok(None);
            }
            at.key.push(0);
        }
    }

    fn row(&mut self, at: &Place, value: &[u8]) {
        self.hasher.update(&at.slot.0.to_be_bytes());
        self.hasher.update(&[at.table as u8]);
        self.hasher.update(&(at.key.len() as u64).to_be_bytes());
        self.hasher.update(&at.key);
        self.hasher.update(&(value.len() as u64).to_be_bytes());
        self.hasher.update(value);
        let bytes = (at.key.len() + value.len()) as u64;
        self.rows += 1;
        self.bytes += bytes;
        self.cost += bytes;
    }

    fn done(self, next: Option<Place>) -> Part {
        Part { hash: *self.hasher.finalize().as_bytes(), rows: self.rows, bytes: self.bytes, next }
    }
}
