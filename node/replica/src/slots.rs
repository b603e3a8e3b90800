//! Which group owns each slot.
//!
//! The truth is the slot map in the meta group's tables; this is a node's copy of it. Until one has been heard of, the slots are split
//! evenly, which is also what a new cluster starts with.
//!
//! Never: two groups for one slot; a slot without a group. Called by the leader shell for every call, so a look-up is an index.

use std::ops::RangeInclusive;

use stanchion_engine::slot::{META_SLOT, SLOTS};
use stanchion_engine::visibility::BLOCK;
use stanchion_engine::{GroupId, Slot};

/// Every slot's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    epoch: u64,
    groups: Box<[u32]>,
}

impl SlotMap {
    /// Epoch 0: blocks of slots in even ranges over the groups `1..=groups`, of which there are at most as many as blocks.
    pub fn even(groups: u32) -> Self {
        let groups = groups.max(1);
        let blocks = u32::from(SLOTS / BLOCK);
        let of = |slot: u32| 1 + slot / u32::from(BLOCK) * groups / blocks;
        Self { epoch: 0, groups: (0..u32::from(SLOTS)).map(of).collect() }
    }

    /// A map from ranges (first slot, last slot, group). None unless they cover every slot once, and keep each block of slots whose
    /// index rows stand together in one group.
    pub fn from_ranges(epoch: u64, ranges: &[(u16, u16, GroupId)]) -> Option<Self> {
        let mut groups = vec![None; usize::from(SLOTS)];
        for (first, last, group) in ranges {
            if first % BLOCK != 0 || (last.wrapping_add(1)) % BLOCK != 0 {
                return None;
            }
            for slot in *first..=*last {
                let place = groups.get_mut(usize::from(slot))?;
                if place.replace(group.0).is_some() {
                    return None;
                }
            }
        }
        Some(Self { epoch, groups: groups.into_iter().collect::<Option<Vec<u32>>>()?.into() })
    }

    /// The groups that own slots, in order.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<u32> = self.groups.to_vec();
        groups.sort_unstable();
        groups.dedup();
        groups.into_iter().map(GroupId).collect()
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The group of a slot. Whatever is not a run's slot belongs to the meta group.
    pub fn group_of(&self, slot: Slot) -> GroupId {
        match self.groups.get(usize::from(slot.0)) {
            Some(group) => GroupId(*group),
            None => GroupId::META,
        }
    }

    /// The slots of a group, as ranges in order.
    pub fn slots_of(&self, group: GroupId) -> Vec<RangeInclusive<u16>> {
        if group == GroupId::META {
            return vec![META_SLOT.0..=META_SLOT.0];
        }
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for (slot, _) in (0u16..).zip(self.groups.iter()).filter(|(_, owner)| **owner == group.0) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == slot => *last = *last.start()..=slot,
                _ => ranges.push(slot..=slot),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_map_covers_every_slot_once() {
        for groups in [1, 2, 7, 8, 16] {
            let map = SlotMap::even(groups);
            let ranges: Vec<(u16, u16, GroupId)> = (1..=groups)
                .flat_map(|g| map.slots_of(GroupId(g)).into_iter().map(move |r| (*r.start(), *r.end(), GroupId(g))))
                .collect();
            assert_eq!(ranges.len() as u32, groups, "one range a group");
            assert_eq!(SlotMap::from_ranges(0, &ranges), Some(map));
        }
        assert_eq!(SlotMap::even(8).group_of(META_SLOT), GroupId::META);
    }

    #[test]
    fn a_map_with_a_gap_or_an_overlap_is_refused() {
        let g = GroupId(1);
        assert_eq!(SlotMap::from_ranges(1, &[(0, 4094, g)]), None);
        assert_eq!(SlotMap::from_ranges(1, &[(0, 4095, g), (7, 7, g)]), None);
        assert_eq!(SlotMap::from_ranges(1, &[(0, 100, g), (101, 4095, GroupId(2))]), None, "a block is cut");
        assert_eq!(SlotMap::from_ranges(1, &[(0, 4096, g)]), None);
    }
}
