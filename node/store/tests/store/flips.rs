//! Flipped bits in each kind of small file of a folder, byte by byte: the store opens with what was written, or says that it is corrupt.
//!
//! `corruption.rs` does the large files, bit by bit over a sample. The folder here is one as a killed node leaves it: several generations
//! of tables, a manifest with edits behind its snapshot, a write-ahead log that was not flushed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use stanchion_engine::{GroupId, ShardState, Slot, StateReader, Table};
use stanchion_store::{Identity, LogEntry, Store};

use crate::support::{append, copy_dir, entries, open, payload, purge, small};

const G: GroupId = GroupId(1);

/// Everything that a folder holds, for a caller.
#[derive(PartialEq, Debug)]
struct Held {
    identity: Identity,
    vote: Option<Bytes>,
    first: u64,
    entries: Vec<LogEntry>,
    applied: u64,
    rows: Vec<(Bytes, Bytes)>,
}

fn held(dir: &Path) -> Result<Held, String> {
    let store = Store::open(small(dir)).map_err(|e| e.to_string())?;
    let log = store.log(G);
    let last = log.last().map_or(0, |(last, _)| last);
    let reader = store.reader(G);
    let mut rows = reader.range(Slot(1), Table::Run, b"", b"", usize::MAX).map_err(|e| e.to_string())?;
    rows.extend(reader.range(Slot(1), Table::History, b"", b"", usize::MAX).map_err(|e| e.to_string())?);
    Ok(Held {
        identity: store.identity(),
        vote: log.vote(),
        first: log.first_index(),
        entries: log.entries(log.first_index()..last + 1, usize::MAX).map_err(|e| e.to_string())?,
        applied: reader.applied().index,
        rows,
    })
}

/// A folder of a node that was killed; opened and killed again in between, so that old tables and logs were flushed and left behind.
fn killed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let store = open(dir.path());
        store.adopt("cluster", 7).unwrap();
        let log = store.log(G);
        let mut state = store.group_state(G).unwrap();
        if state.owned_slots().is_empty() {
            state.set_owned_slots(&[0..=9]).unwrap();
        }
        // Larger than the memtables: flushed while it runs.
        let first = round * 400;
        for index in (first..first + 400).step_by(50) {
            // The last one of the round before is there already.
            let from = if round > 0 && index == first { index + 1 } else { index };
            append(&log, entries(1, from..=index + 49, 2500)).unwrap();
        }
        for row in first..first + 400 {
            state.put(Slot(1), Table::Run, &row.to_be_bytes(), payload(row, 100));
            state.put(Slot(1), Table::History, &row.to_be_bytes(), payload(row, 500));
            state.commit(row, format!("l{row}").into(), None).unwrap();
        }
        store.checkpoint().unwrap();
        purge(&log, first + 200);
        // A purge alone is not synced.
        append(&log, entries(1, first + 400..=first + 400, 2500)).unwrap();
        // The folder as it is now: closing the store would flush.
        let killed = tempfile::tempdir().unwrap();
        copy_as_one(dir.path(), killed.path());
        drop((state, log, store));
        std::fs::remove_dir_all(dir.path()).unwrap();
        copy_dir(killed.path(), dir.path());
    }
    dir
}

/// Copies a folder that is open, once RocksDB's background work has left it alone for as long as that took.
fn copy_as_one(from: &Path, to: &Path) {
    let look = || {
        let mut all: Vec<_> = ["", "log", "state"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(from.join(folder)).unwrap())
            .map(|entry| entry.unwrap())
            .filter_map(|entry| {
                Some((entry.path(), entry.metadata().ok()?.len(), entry.metadata().ok()?.modified().ok()?))
            })
            .collect();
        all.sort();
        all
    };
    loop {
        let before = look();
        let copied = std::panic::catch_unwind(|| copy_dir(from, to)).is_ok();
        if copied && look() == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn find(dir: &Path, folder: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join(folder)).unwrap().map(|entry| entry.unwrap());
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = named.map(|entry| Path::new(folder).join(entry.file_name())).collect();
    found.sort();
    found
}

/// Bytes at a file's end that are all flipped: a damage there looks like a file that was not written to its end.
const END: usize = 48;
/// Flips in the rest of a file.
const SAMPLE: usize = 40;

/// Flips a bit of one byte after another, evenly over the file and in each of its last bytes. How many were refused, of how many.
fn flips(file: &Path, dir: &Path, expected: &Held) -> (usize, usize) {
    let bytes = std::fs::read(dir.join(file)).unwrap();
    let (mut refused, mut tried) = (0, 0);
    let scratch = tempfile::tempdir().unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let end = used.saturating_sub(END);
    for at in (0..end).step_by(end.div_ceil(SAMPLE).max(1)).chain(end..used) {
        let copy = scratch.path().join("copy");
        copy_dir(dir, &copy);
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(copy.join(file), flipped).unwrap();
        match held(&copy) {
            Ok(found) => {
                assert!(found == *expected, "{} with byte {at} flipped: {}", file.display(), differ(&found, expected));
            }
            Err(error) => {
                refused += 1;
                assert!(!error.is_empty());
            }
        }
        tried += 1;
        std::fs::remove_dir_all(&copy).unwrap();
    }
    (refused, tried)
}

fn differ(found: &Held, expected: &Held) -> String {
    let of = |held: &Held| {
        let last = held.entries.last().map(|entry| entry.index);
        format!(
            "entries {}..{last:?}, applied {}, {} rows, {:?}",
            held.first,
            held.applied,
            held.rows.len(),
            held.identity
        )
    };
    format!("{} instead of {}", of(found), of(expected))
}

/// What the folder holds undamaged.
fn good(dir: &Path) -> Held {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    let held = held(copy.path()).unwrap();
    assert_eq!((held.first, held.entries.len(), held.rows.len()), (1001, 200, 2400));
    held
}

fn in_files(folder: &str, prefix: &str) -> Vec<(usize, usize)> {
    let dir = killed();
    let expected = good(dir.path());
    let files = find(dir.path(), folder, prefix);
    assert!(!files.is_empty(), "no {folder}/{prefix}");
    let counts = files.iter().map(|file| flips(file, dir.path(), &expected)).collect();
    println!("{folder}/{prefix}: {files:?}: refused, of tried: {counts:?}");
    counts
}

#[test]
fn in_the_logs_manifest() {
    let counts = in_files("log", "MANIFEST");
    assert!(counts.iter().any(|(refused, tried)| refused * 10 > tried * 9), "{counts:?}");
}

#[test]
fn in_the_states_manifest() {
    let counts = in_files("state", "MANIFEST");
    assert!(counts.iter().any(|(refused, tried)| refused * 10 > tried * 9), "{counts:?}");
}

#[test]
fn in_current() {
    for folder in ["log", "state"] {
        let counts = in_files(folder, "CURRENT");
        assert!(counts.iter().all(|(refused, tried)| refused == tried), "{counts:?}");
    }
}

#[test]
fn in_the_identity() {
    let counts = in_files("", "identity");
    assert!(counts.iter().all(|(refused, tried)| refused == tried), "{counts:?}");
    let dir = killed();
    let whole = std::fs::read(dir.path().join("identity")).unwrap();
    for length in 0..whole.len() {
        std::fs::write(dir.path().join("identity"), &whole[..length]).unwrap();
        assert!(held(dir.path()).is_err(), "cut to {length} of {} bytes", whole.len());
    }
}

#[test]
fn in_the_mark_of_what_was_synced() {
    // Taken for one that a power loss tore: the next sync writes it anew.
    let counts = in_files("", "log.synced");
    assert_eq!(counts, [(0, 12)]);
}

#[test]
fn in_the_write_ahead_log() {
    // Those below are tables.
    let dir = killed();
    let files: Vec<PathBuf> = find(dir.path(), "log", "0")
        .into_iter()
        .filter(|file| file.extension().is_some_and(|found| found == "log"))
        .collect();
    let expected = good(dir.path());
    let counts: Vec<_> = files.iter().map(|file| flips(file, dir.path(), &expected)).collect();
    println!("{files:?}: refused, of tried: {counts:?}");
    assert!(counts.iter().any(|(refused, tried)| refused * 10 > tried * 9), "{counts:?}");
}
