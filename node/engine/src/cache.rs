//! Decoded runs that were worked on lately, bounded in bytes, oldest out first. One cache a group, owned by its state machine.
//!
//! Never the only copy: every change of a run is in the tables by the end of the command that made it.

/// See the module.
pub struct RunCache {
    bytes_max: usize,
}

impl RunCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    /// Upper bound of what is kept, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Forgets all; needed when the tables are replaced under it (a snapshot was installed).
    pub fn clear(&mut self) {}
}
