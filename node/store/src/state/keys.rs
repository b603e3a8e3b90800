//! Keys of the state instance: slot u16 and generation u32 (both big-endian), table u8, and the engine's key.
//!
//! The slot comes before everything else, so that a slot can move between groups as one range of keys. The generation comes next: an
//! installed snapshot is written under a new one beside what is live, and one write makes it the live one.

use std::ops::RangeInclusive;

use stanchion_engine::{GroupId, Slot, Table};
use stanchion_proto::row::OwnedSlots;

use crate::db::{HISTORY, STATE};

pub(crate) const PREFIX_BYTES: usize = 7;
const TABLE_AT: usize = 6;

/// The column family that holds a table.
pub(crate) fn family_of(table: Table) -> &'static str {
    match table {
        Table::History => HISTORY,
        Table::Current
        | Table::Run
        | Table::Activity
        | Table::Timer
        | Table::Pending
        | Table::TimerQueue
        | Table::Outbox
        | Table::Index
        | Table::Dedup
        | Table::Meta
        | Table::Child
        | Table::External
        | Table::Schedule
        | Table::Batch
        | Table::Inbox
        | Table::StandaloneActivity
        | Table::VisibilityRecord
        | Table::VisibilityCount
        | Table::VisibilityStretch
        | Table::StartRequest
        | Table::Update => STATE,
    }
}

/// The column family of a stored key.
pub(crate) fn family_of_key(key: &[u8]) -> &'static str {
    match key.get(TABLE_AT) {
        Some(table) if *table == Table::History as u8 => HISTORY,
        _ => STATE,
    }
}

pub(crate) fn row_key(slot: Slot, generation: u32, table: Table, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + key.len());
    out.extend_from_slice(&slot.0.to_be_bytes());
    out.extend_from_slice(&generation.to_be_bytes());
    out.push(table as u8);
    out.extend_from_slice(key);
    out
}

/// First key behind a table's rows.
pub(crate) fn table_end(slot: Slot, generation: u32, table: Table) -> Vec<u8> {
    let mut key = row_key(slot, generation, table, &[]);
    key[TABLE_AT] += 1;
    key
}

/// First key of a slot's generation.
pub(crate) fn generation_start(slot: Slot, generation: u32) -> Vec<u8> {
    row_key(slot, generation, Table::Current, &[])[..TABLE_AT].to_vec()
}

/// First key behind a slot's generation. All-ones behind the last one there can be: longer than any prefix, above any table.
pub(crate) fn generation_end(slot: Slot, generation: u32) -> Vec<u8> {
    match (generation.checked_add(1), slot.0.checked_add(1)) {
        (Some(next), _) => generation_start(slot, next),
        (None, Some(next)) => next.to_be_bytes().to_vec(),
        (None, None) => vec![0xff; PREFIX_BYTES],
    }
}

/// Slot and generation of a stored key.
pub(crate) fn generation_of(key: &[u8]) -> Option<(Slot, u32)> {
    let (slot, rest) = key.split_first_chunk::<2>()?;
    Some((Slot(u16::from_be_bytes(*slot)), u32::from_be_bytes(*rest.first_chunk::<4>()?)))
}

pub(crate) fn group_key(group: GroupId) -> [u8; 4] {
    group.0.to_be_bytes()
}

/// The slots that a group has, each with its live generation.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Ownership {
    /// In order, without overlap.
    ranges: Vec<(RangeInclusive<u16>, u32)>,
}

impl Ownership {
    pub fn decode(rows: &[OwnedSlots]) -> Option<Self> {
        let mut ranges: Vec<(RangeInclusive<u16>, u32)> = Vec::with_capacity(rows.len());
        for row in rows {
            let (first, last) = (u16::try_from(row.first).ok()?, u16::try_from(row.last).ok()?);
            if first > last || ranges.last().is_some_and(|(before, _)| *before.end() >= first) {
                return None;
            }
            ranges.push((first..=last, row.generation));
        }
        Some(Self { ranges })
    }

    pub fn encode(&self) -> Vec<OwnedSlots> {
        let row = |(slots, generation): &(RangeInclusive<u16>, u32)| OwnedSlots {
            first: (*slots.start()).into(),
            last: (*slots.end()).into(),
            generation: *generation,
        };
        self.ranges.iter().map(row).collect()
    }

    /// The live generation of a slot, if the group has it.
    pub fn generation(&self, slot: Slot) -> Option<u32> {
        let at = self.ranges.partition_point(|(slots, _)| *slots.end() < slot.0);
        self.ranges.get(at).filter(|(slots, _)| slots.contains(&slot.0)).map(|(_, generation)| *generation)
    }

    /// The same slots, all under one generation.
    pub fn under(&self, generation: u32) -> Self {
        Self { ranges: self.ranges.iter().map(|(slots, _)| (slots.clone(), generation)).collect() }
    }

    /// These slots (in any order): those that the group has keep their generation, the others get `fresh`.
    pub fn with_slots(&self, slots: &[RangeInclusive<u16>], fresh: u32) -> Self {
        let mut wanted: Vec<u16> = slots.iter().flat_map(|range| range.clone()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut ranges: Vec<(RangeInclusive<u16>, u32)> = Vec::new();
        for slot in wanted {
            let generation = self.generation(Slot(slot)).unwrap_or(fresh);
            match ranges.last_mut() {
                Some((range, same)) if *same == generation && range.end() + 1 == slot => *range = *range.start()..=slot,
                _ => ranges.push((slot..=slot, generation)),
            }
        }
        Self { ranges }
    }

    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
        for (slots, _) in &self.ranges {
            match joined.last_mut() {
                Some(before) if before.end().checked_add(1) == Some(*slots.start()) => {
                    *before = *before.start()..=*slots.end();
                }
                _ => joined.push(slots.clone()),
            }
        }
        joined
    }

    /// Stretches of slots with their live generations, in order.
    pub fn live(&self) -> &[(RangeInclusive<u16>, u32)] {
        &self.ranges
    }

    /// Every slot with its live generation, in order.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        self.ranges.iter().flat_map(|(slots, generation)| slots.clone().map(|slot| (Slot(slot), *generation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ownership_keeps_generations_of_slots_that_stay() {
        let old = Ownership::default().with_slots(&[0..=9], 3);
        let new = old.with_slots(&[12..=13, 5..=11], 7);
        assert_eq!(new.generation(Slot(5)), Some(3));
        assert_eq!(new.generation(Slot(9)), Some(3));
        assert_eq!(new.generation(Slot(10)), Some(7));
        assert_eq!(new.generation(Slot(13)), Some(7));
        assert_eq!((new.generation(Slot(4)), new.generation(Slot(14))), (None, None));
        assert_eq!(new.ranges(), [5..=13]);
        assert_eq!(Ownership::decode(&new.encode()), Some(new.clone()));
        assert_eq!(
            new.under(8).encode(),
            [OwnedSlots { first: 5, last: 9, generation: 8 }, OwnedSlots { first: 10, last: 13, generation: 8 }]
        );
    }

    #[test]
    fn keys_order_by_slot_then_generation_then_table() {
        let meta = stanchion_engine::slot::META_SLOT;
        let key = |slot, generation, table| row_key(slot, generation, table, b"x");
        assert!(key(Slot(1), 9, Table::Meta) < key(Slot(2), 0, Table::Current));
        assert!(key(Slot(1), 1, Table::Meta) < key(Slot(1), 2, Table::Current));
        assert!(key(Slot(1), 1, Table::Run) < table_end(Slot(1), 1, Table::Run));
        assert!(key(meta, u32::MAX, Table::Meta) < generation_end(meta, u32::MAX));
        assert!(generation_end(Slot(1), 1) <= generation_start(Slot(1), 2));
        assert_eq!(generation_of(&key(Slot(7), 8, Table::Run)), Some((Slot(7), 8)));
        assert_eq!(family_of_key(&key(Slot(7), 8, Table::History)), HISTORY);
    }
}
