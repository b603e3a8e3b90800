//! What a watched disk is told to do, and what it has done: one page of atomics, in the process itself or shared with the test that
//! started it.
//!
//! Every field may be changed at any time and is read at the next call. Called by tests, and by the interposed calls.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a file of a data folder is, by its name. Faults can be kept to some kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// RocksDB's write-ahead log (`000123.log`).
    Wal = 1,
    /// A sorted table (`.sst`).
    Table = 2,
    /// A blob file (`.blob`).
    Blob = 4,
    /// `MANIFEST-…`, `CURRENT`, `OPTIONS-…` and RocksDB's own `IDENTITY`.
    Manifest = 8,
    /// `log.synced`.
    SyncedMark = 16,
    /// `identity`, and the file that becomes it.
    Identity = 32,
    /// A directory: its sync.
    Directory = 64,
    /// Everything else.
    Other = 128,
}

impl Kind {
    pub const ALL: u32 = 255;

    /// By the last part of the path.
    pub fn of(path: &[u8]) -> Self {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let named = |prefix: &[u8]| name.starts_with(prefix);
        match () {
            () if name == b"log.synced" => Self::SyncedMark,
            () if named(b"identity") => Self::Identity,
            () if name.ends_with(b".log") => Self::Wal,
            () if name.ends_with(b".sst") => Self::Table,
            () if name.ends_with(b".blob") => Self::Blob,
            () if named(b"MANIFEST-") || named(b"CURRENT") || named(b"OPTIONS-") || named(b"IDENTITY") => {
                Self::Manifest
            }
            () if name.ends_with(b".dbtmp") => Self::Manifest,
            () => Self::Other,
        }
    }
}

/// See the module. All zeroes is not a valid one: [`Control::reset`] makes a disk that works.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    /// Kinds of files ([`Kind`] as bits) that faults other than a cut and a full disk are kept to.
    pub kinds: AtomicU32,
    /// Not 0: every call that would change anything fails with `EIO`. Reads go on.
    pub cut: AtomicU32,
    /// Bytes by which files may still grow before `ENOSPC`; negative for no limit.
    pub space: AtomicI64,
    /// Writes until one fails with `EIO`: 1 is the next; 0 for none.
    pub fail_write_in: AtomicU32,
    /// Not 0: every write from then on fails as well.
    pub fail_writes_on: AtomicU32,
    /// fsyncs (of files; fdatasync too) until one fails with `EIO`: 1 is the next; 0 for none.
    pub fail_sync_in: AtomicU32,
    /// Not 0: every fsync from then on fails as well. Else the next one succeeds, as Linux has it, and what it should have covered is
    /// still not durable.
    pub fail_syncs_on: AtomicU32,
    /// Not 0: a disk that lies. Syncs succeed at once, and make nothing durable.
    pub lying: AtomicU32,
    /// Of so many writes one is short, by half; 0 for none.
    pub short_write_every: AtomicU32,
    /// Microseconds that each write takes longer.
    pub slow_write_us: AtomicU64,
    /// Microseconds that each fsync takes longer.
    pub slow_sync_us: AtomicU64,
    /// Not 0: nobody sleeps; slowness is added to `owed_us` instead, and a simulator makes what it likes of that.
    pub simulated: AtomicU32,

    /// Calls of watched files, and faults that were served: a fault that never struck proves nothing.
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    pub failed_writes: AtomicU64,
    pub failed_syncs: AtomicU64,
    pub lied: AtomicU64,
    pub refused_for_space: AtomicU64,
    pub short_writes: AtomicU64,
    pub slowed: AtomicU64,
    pub owed_us: AtomicU64,
    /// Watched files that could not be noted (no memory for it, or the state folder failed): a power loss after that is not honest.
    pub lost_track: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        let control = Self {
            kinds: AtomicU32::new(0),
            cut: AtomicU32::new(0),
            space: AtomicI64::new(0),
            fail_write_in: AtomicU32::new(0),
            fail_writes_on: AtomicU32::new(0),
            fail_sync_in: AtomicU32::new(0),
            fail_syncs_on: AtomicU32::new(0),
            lying: AtomicU32::new(0),
            short_write_every: AtomicU32::new(0),
            slow_write_us: AtomicU64::new(0),
            slow_sync_us: AtomicU64::new(0),
            simulated: AtomicU32::new(0),
            writes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failed_writes: AtomicU64::new(0),
            failed_syncs: AtomicU64::new(0),
            lied: AtomicU64::new(0),
            refused_for_space: AtomicU64::new(0),
            short_writes: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
            owed_us: AtomicU64::new(0),
            lost_track: AtomicU64::new(0),
        };
        control.reset();
        control
    }
}

impl Control {
    /// No fault from now on. Counters stay.
    pub fn reset(&self) {
        self.kinds.store(Kind::ALL, Relaxed);
        self.space.store(-1, Relaxed);
        for off in [&self.fail_write_in, &self.fail_writes_on, &self.fail_sync_in, &self.fail_syncs_on] {
            off.store(0, Relaxed);
        }
        self.lying.store(0, Relaxed);
        self.short_write_every.store(0, Relaxed);
        self.slow_write_us.store(0, Relaxed);
        self.slow_sync_us.store(0, Relaxed);
        self.cut.store(0, Relaxed);
    }

    /// Keeps faults to these kinds of files.
    pub fn confine_to(&self, kinds: &[Kind]) {
        self.kinds.store(kinds.iter().fold(0, |bits, kind| bits | *kind as u32), Relaxed);
    }

    fn concerns(&self, kind: Kind) -> bool {
        self.kinds.load(Relaxed) & kind as u32 != 0
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed) != 0
    }

    /// Before a write: how many of its bytes may be written, or the error that it is to fail with. `growth` is by how much the file
    /// would grow.
    pub(crate) fn before_write(&self, kind: Kind, bytes: u64, growth: u64) -> Result<u64, libc::c_int> {
        let nth = self.writes.fetch_add(1, Relaxed) + 1;
        let mut bytes = bytes;
        if self.concerns(kind) {
            self.slow(&self.slow_write_us);
            if struck(&self.fail_write_in, &self.fail_writes_on) {
                self.failed_writes.fetch_add(1, Relaxed);
                return Err(libc::EIO);
            }
            let every = u64::from(self.short_write_every.load(Relaxed));
            if every > 0 && nth.is_multiple_of(every) && bytes > 1 {
                self.short_writes.fetch_add(1, Relaxed);
                bytes /= 2;
            }
        }
        let space = self.space.load(Relaxed);
        if space >= 0 && growth > 0 {
            let over = (growth as i64).saturating_sub(space).max(0) as u64;
            if over >= bytes {
                self.refused_for_space.fetch_add(1, Relaxed);
                return Err(libc::ENOSPC);
            }
            if over > 0 {
                self.refused_for_space.fetch_add(1, Relaxed);
                bytes -= over;
            }
            self.space.fetch_sub(growth.saturating_sub(over).min(space as u64) as i64, Relaxed);
        }
        Ok(bytes)
    }

    /// Before a sync: whether it is to be done, or only said to be.
    pub(crate) fn before_sync(&self, kind: Kind) -> Result<bool, libc::c_int> {
        self.syncs.fetch_add(1, Relaxed);
        if self.concerns(kind) {
            self.slow(&self.slow_sync_us);
            if struck(&self.fail_sync_in, &self.fail_syncs_on) {
                self.failed_syncs.fetch_add(1, Relaxed);
                return Err(libc::EIO);
            }
        }
        let lies = self.lying.load(Relaxed) != 0;
        self.lied.fetch_add(u64::from(lies), Relaxed);
        Ok(!lies)
    }

    fn slow(&self, us: &AtomicU64) {
        let us = us.load(Relaxed);
        if us == 0 {
            return;
        }
        self.slowed.fetch_add(1, Relaxed);
        match self.simulated.load(Relaxed) {
            0 => crate::raw::sleep_us(us),
            _ => drop(self.owed_us.fetch_add(us, Relaxed)),
        }
    }
}

/// Counts down, and says whether this call is the one, or one behind it where they all fail.
fn struck(countdown: &AtomicU32, on: &AtomicU32) -> bool {
    let before = countdown.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
    match before {
        Ok(1) => {
            if on.load(Relaxed) != 0 {
                on.store(2, Relaxed);
            }
            true
        }
        Ok(_) => false,
        // 2: the first has struck.
        Err(_) => on.load(Relaxed) == 2,
    }
}
