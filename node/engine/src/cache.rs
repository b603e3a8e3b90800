//! Decoded runs that were worked on lately, bounded in bytes, oldest out first. One cache a group, owned by its state machine.
//!
//! A run is taken out to be worked on and put back when its changes are written, so there is never a second copy.
//!
//! Never: the only copy of anything. Every change of a run is in the tables by the end of the command that made it.

use std::collections::BTreeMap;

use crate::run::Run;
use crate::types::RunKey;

/// See the module.
pub struct RunCache {
    bytes_max: usize,
    bytes: usize,
    runs: BTreeMap<RunKey, Entry>,
    /// Order of use; the first is the one to go.
    ages: BTreeMap<u64, RunKey>,
    next_age: u64,
}

struct Entry {
    run: Box<Run>,
    age: u64,
    bytes: usize,
}

impl RunCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, runs: BTreeMap::new(), ages: BTreeMap::new(), next_age: 0 }
    }

    /// Upper bound of what is kept, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Estimated size of what is kept, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all; needed when the tables are replaced under it (a snapshot was installed).
    pub fn clear(&mut self) {
        self.runs.clear();
        self.ages.clear();
        self.bytes = 0;
    }

    /// Takes the run out, to be put back once its changes are written.
    pub fn take(&mut self, key: &RunKey) -> Option<Box<Run>> {
        let entry = self.runs.remove(key)?;
        self.ages.remove(&entry.age);
        self.bytes -= entry.bytes;
        Some(entry.run)
    }

    /// Keeps the run, and lets go of the ones unused for longest if that is too much.
    pub fn put(&mut self, run: Box<Run>) {
        let bytes = run.memory_bytes();
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max {
            let Some((_, key)) = self.ages.pop_first() else { break };
            if let Some(entry) = self.runs.remove(&key) {
                self.bytes -= entry.bytes;
            }
        }
        let age = self.next_age;
        self.next_age += 1;
        self.take(&run.key);
        self.ages.insert(age, run.key.clone());
        self.bytes += bytes;
        self.runs.insert(run.key.clone(), Entry { run, age, bytes });
    }
}
