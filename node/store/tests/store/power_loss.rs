//! Power loss: what was synced is there, and of what was not, any part may be missing, torn or garbage.

use std::fs;
use std::path::Path;

use stanchion_engine::GroupId;
use stanchion_store::Store;

use crate::support::{append, copy_dir, entries, entry, files, open, payload, small, truncate};

const G: GroupId = GroupId(1);

/// The newest write-ahead log, and its size.
fn wal(dir: &Path) -> (std::ffi::OsString, u64) {
    let sizes =
        files(&dir.join("log"), "log").into_iter().map(|path| (path.metadata().unwrap().modified().unwrap(), path));
    let (_, path) = sizes.max().unwrap();
    (path.file_name().unwrap().to_owned(), path.metadata().unwrap().len())
}

/// The folder as it was at `synced`, with the newest write-ahead log cut or overwritten behind `keep` bytes.
fn lose(synced: &Path, wal: &std::ffi::OsStr, full: &[u8], keep: usize, garbage: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(synced, dir.path());
    let mut bytes = full[..keep].to_vec();
    if garbage {
        bytes.extend_from_slice(&payload(keep as u64, full.len() - keep));
    }
    fs::write(dir.path().join("log").join(wal), bytes).unwrap();
    dir
}

#[test]
fn an_unsynced_tail_may_be_torn_anywhere_and_nothing_synced_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    append(&log, entries(1, 0..=19, 200)).unwrap();
    let (name, synced_bytes) = wal(dir.path());
    let synced = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), synced.path());
    // Not synced: a truncation. Synced later, but not yet at the moment of the loss: an append.
    truncate(&log, Some(15));
    append(&log, (16..26).map(|index| entry(1, index, 1, 200)).collect()).unwrap();
    let full = fs::read(dir.path().join("log").join(&name)).unwrap();
    assert!(full.len() as u64 > synced_bytes + 2000);

    let mut seen = std::collections::BTreeSet::new();
    for keep in (synced_bytes as usize..=full.len()).step_by(37) {
        for garbage in [false, true] {
            let dir = lose(synced.path(), &name, &full, keep, garbage);
            let log = open(dir.path()).log(G);
            let (last, _) = log.last().unwrap();
            seen.insert(last);
            let found = log.entries(0..100, usize::MAX).unwrap();
            assert_eq!(found.len() as u64, last + 1);
            assert_eq!(found[..16], entries(1, 0..=15, 200));
            match last {
                15 => {}
                19 => assert_eq!(found[16..], entries(1, 16..=19, 200)),
                25 => assert_eq!(found[16], entry(1, 16, 1, 200)),
                _ => panic!("the log ends at {last}, within a batch"),
            }
        }
    }
    assert!(seen.contains(&19) && seen.contains(&15), "{seen:?}");
}

#[test]
fn a_log_that_lost_what_was_synced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    for index in 0..20 {
        append(&log, entries(1, index..=index, 200)).unwrap();
    }
    let (name, bytes) = wal(dir.path());
    let synced = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), synced.path());
    let full = fs::read(dir.path().join("log").join(&name)).unwrap();
    assert_eq!(full.len() as u64, bytes);
    let whole = lose(synced.path(), &name, &full, full.len(), false);
    assert_eq!(open(whole.path()).log(G).last().unwrap().0, 19);
    for keep in (0..full.len() - 1).step_by(101) {
        let dir = lose(synced.path(), &name, &full, keep, false);
        let error =
            Store::open(small(dir.path())).err().unwrap_or_else(|| panic!("opened with {keep} of {bytes} bytes"));
        assert!(error.to_string().contains("acknowledged entries are lost"), "{keep}: {error}");
    }
}
