//! How long the disk under the servers takes to make a small write durable: the floor of every acknowledged call.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

const WRITES: usize = 200;
const WRITE_BYTES: usize = 4096;

/// The median of appends with fdatasync, in microseconds.
pub fn median_sync_micros(folder: &Path) -> Result<u64> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let block = [0x5a; WRITE_BYTES];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(u64::try_from(start.elapsed().as_micros())?);
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(times[WRITES / 2])
}
