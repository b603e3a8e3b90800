//! Which slot a workflow id belongs to. Fixed for ever: stored keys depend on it.

use crate::types::Slot;

/// Slots of a cluster. More than any cluster will have groups; few enough that a map of them is small.
pub const SLOTS: u16 = 4096;

/// The slot that the meta group's rows stand under. Outside the range of [`slot_of`].
pub const META_SLOT: Slot = Slot(u16::MAX);

/// The slot of every run of this workflow id.
pub fn slot_of(namespace_id: &str, workflow_id: &str) -> Slot {
    let mut hasher = blake3::Hasher::new();
    hasher.update(namespace_id.as_bytes());
    hasher.update(&[0]);
    hasher.update(workflow_id.as_bytes());
    let hash = hasher.finalize();
    let bytes = hash.as_bytes();
    Slot(u16::from_be_bytes([bytes[0], bytes[1]]) % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_move() {
        assert_eq!([slot_of("ns", "wf").0, slot_of("", "").0, slot_of("ns", "Größe").0], [1758, 3386, 743]);
        assert_ne!(slot_of("ns", "a"), slot_of("n", "sa"), "the boundary of the two names counts");
    }
}
