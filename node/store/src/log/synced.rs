//! How far the log was synced, noted beside it, so that a log which lost more than an unsynced tail is not taken for a shorter one.
//!
//! RocksDB's recovery ends at the first record that does not check, be it torn by a power loss (never acknowledged, rightly dropped)
//! or flipped in the middle (acknowledged entries would silently be gone). After each sync the writer notes the sequence number that
//! is now durable. The note is not synced itself: after a crash of the process it is exact, after a power loss it is at most as old as
//! the kernel's write-back, and never ahead of the log.
//!
//! Called by the log's writer, and at open.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) struct SyncedMark {
    file: File,
}

impl SyncedMark {
    /// The mark in `dir`, and the sequence number it holds. One that does not check counts as none: it was torn by a power loss.
    pub fn open(dir: &Path) -> io::Result<(Self, Option<u64>)> {
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(dir.join("log.synced"))?;
        let mut bytes = [0; 12];
        let mark = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(e) => return Err(e),
        };
        Ok((Self { file }, mark))
    }

    /// Everything up to `sequence` is on the disk.
    pub fn note(&self, sequence: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(sequence), 0)
    }
}

fn encode(sequence: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    bytes[8..].copy_from_slice(&crc32c::crc32c(&sequence.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; 12]) -> Option<u64> {
    let sequence = u64::from_le_bytes(*bytes.first_chunk()?);
    (encode(sequence) == *bytes).then_some(sequence)
}
