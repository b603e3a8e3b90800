//! Flipped bits: whatever is read is what was written, or an error that stops the store; never less than was written.

use std::path::Path;

use bytes::Bytes;
use stanchion_engine::{GroupId, ShardState, Slot, StateReader, Table};
use stanchion_store::{LogEntry, Store};

use crate::support::{Alarm, append, copy_dir, entries, files, open, payload, small};

const G: GroupId = GroupId(1);
const FLIPS_PER_FILE: u64 = 40;

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Flips one bit after another, evenly over each file of `folder` with `extension`, in a copy of `dir` each time. `read` must answer as
/// on the good folder, or fail; how often it failed.
fn flips<T: PartialEq + std::fmt::Debug>(
    dir: &Path,
    folder: &str,
    extension: &str,
    read: impl Fn(&Store) -> Result<T, String>,
) -> (u64, u64) {
    let scratch = tempfile::tempdir().unwrap();
    let good = scratch.path().join("good");
    copy_dir(dir, &good);
    let expected = read(&open(&good)).unwrap();
    let (mut errors, mut tried) = (0, 0);
    for file in files(&dir.join(folder), extension) {
        let length = file.metadata().unwrap().len();
        for flipped in 0..FLIPS_PER_FILE.min(length) {
            let copy = scratch.path().join(format!("{tried}"));
            copy_dir(dir, &copy);
            flip(&copy.join(folder).join(file.file_name().unwrap()), flipped * length / FLIPS_PER_FILE);
            tried += 1;
            let alarm = Alarm::default();
            match Store::open(alarm.install(small(&copy))) {
                Err(_) => errors += 1,
                Ok(store) => match read(&store) {
                    Ok(found) => assert_eq!(found, expected, "{} at {flipped}", file.display()),
                    Err(_) => {
                        errors += 1;
                        assert_eq!(alarm.calls(), 1, "the store must stop");
                        assert!(store.check().is_err());
                    }
                },
            }
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
    (errors, tried)
}

fn read_log(store: &Store) -> Result<Vec<LogEntry>, String> {
    let log = store.log(G);
    let last = log.last().map_or(0, |(last, _)| last);
    log.entries(log.first_index()..last + 1, usize::MAX).map_err(|e| e.to_string())
}

fn read_state(store: &Store) -> Result<Vec<(Bytes, Bytes)>, String> {
    let reader = store.reader(G);
    let mut rows = reader.range(Slot(1), Table::Run, b"", b"", usize::MAX).map_err(|e| e.to_string())?;
    rows.extend(reader.range(Slot(1), Table::History, b"", b"", usize::MAX).map_err(|e| e.to_string())?);
    Ok(rows)
}

#[test]
fn a_flipped_bit_in_the_logs_write_ahead_log_is_no_shorter_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for index in 0..60 {
        append(&store.log(G), entries(1, index..=index, 1000)).unwrap();
    }
    // A copy of the open folder: closing it would flush.
    let crashed = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), crashed.path());
    let (errors, tried) = flips(crashed.path(), "log", "log", read_log);
    assert!(tried >= FLIPS_PER_FILE && errors * 10 >= tried * 9, "{errors} of {tried} flips noticed");
}

#[test]
fn a_flipped_bit_in_the_logs_files_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..3 {
        // Opening writes into files what was recovered.
        let store = open(dir.path());
        append(&store.log(G), entries(1, index * 100..=index * 100 + 99, 1000)).unwrap();
        let crashed = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), crashed.path());
        drop(store);
        std::fs::remove_dir_all(dir.path()).unwrap();
        copy_dir(crashed.path(), dir.path());
    }
    drop(open(dir.path()));
    let (errors, tried) = flips(dir.path(), "log", "sst", read_log);
    assert!(tried > 0 && errors * 2 > tried, "{errors} of {tried} flips noticed");
}

#[test]
fn a_flipped_bit_in_the_states_files_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    for row in 0..100u64 {
        state.put(Slot(1), Table::Run, &row.to_be_bytes(), payload(row, 1000));
        state.put(Slot(1), Table::History, &row.to_be_bytes(), payload(row, if row % 2 == 0 { 5000 } else { 500 }));
    }
    state.commit(1, "l1".into(), None).unwrap();
    store.checkpoint().unwrap();
    drop((state, store));
    let (errors, tried) = flips(dir.path(), "state", "sst", read_state);
    assert!(tried > 0 && errors * 2 > tried, "{errors} of {tried} flips in tables noticed");
    let (errors, tried) = flips(dir.path(), "state", "blob", read_state);
    assert!(tried > 0 && errors * 2 > tried, "{errors} of {tried} flips in blobs noticed");
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    state.put(Slot(1), Table::Run, b"a", payload(1, 100));
    state.commit(1, "l1".into(), None).unwrap();
    store.checkpoint().unwrap();
    drop((state, store));
    std::fs::remove_file(&files(&dir.path().join("state"), "sst")[0]).unwrap();
    assert!(Store::open(small(dir.path())).is_err());
}

#[test]
fn an_entry_missing_in_the_middle_is_an_error() {
    // As if another release had written with a hole: the log is fed by hand.
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("log");
    let db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, ["entries", "meta"]).unwrap();
    let source = tempfile::tempdir().unwrap();
    let store = open(source.path());
    append(&store.log(G), entries(1, 0..=9, 100)).unwrap();
    drop(store);
    let copy =
        rocksdb::DB::open_cf(&rocksdb::Options::default(), source.path().join("log"), ["entries", "meta"]).unwrap();
    for row in copy.iterator_cf(copy.cf_handle("entries").unwrap(), rocksdb::IteratorMode::Start) {
        let (key, value) = row.unwrap();
        if key[11] != 5 {
            db.put_cf(db.cf_handle("entries").unwrap(), key, value).unwrap();
        }
    }
    drop(db);
    let error = Store::open(small(dir.path())).err().unwrap();
    assert!(error.to_string().contains("entry 5"), "{error}");
}
