//! What all tests of the store share: opening one with small bounds, entries that say where they belong, waiting for durability.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stanchion_store::{Done, FaultPoint, GroupLog, LogEntry, Store, StoreOptions};

/// Small memtables and caches, so that tests reach the files.
pub fn small(dir: &Path) -> StoreOptions {
    StoreOptions {
        block_cache_bytes: 1024 * 1024,
        state_memtables_bytes: 1024 * 1024,
        log_memtables_bytes: 1024 * 1024,
        entry_cache_bytes_per_group: 4096,
        ..StoreOptions::new(dir)
    }
}

pub fn open(dir: &Path) -> Store {
    Store::open(small(dir)).unwrap()
}

/// Deterministic bytes that do not compress away.
pub fn payload(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect::<Vec<u8>>().into()
}

/// The entry that belongs at `index` of `group`, as written in `round`.
pub fn entry(group: u32, index: u64, round: u64, length: usize) -> LogEntry {
    let head = format!("g{group} i{index} r{round}");
    LogEntry { index, head: head.into(), payload: payload(u64::from(group) << 48 ^ index << 16 ^ round, length) }
}

pub fn entries(group: u32, range: std::ops::RangeInclusive<u64>, length: usize) -> Vec<LogEntry> {
    range.map(|index| entry(group, index, 0, length)).collect()
}

/// A callback and what it will be called with.
pub fn done() -> (Done, Receiver<io::Result<()>>) {
    let (sender, receiver) = sync_channel(1);
    (Box::new(move |result| sender.send(result).unwrap()), receiver)
}

/// Appends, and waits until the entries are durable.
pub fn append(log: &GroupLog, entries: Vec<LogEntry>) -> io::Result<()> {
    let (done, result) = done();
    log.append(entries, done);
    result.recv().unwrap()
}

pub fn purge(log: &GroupLog, upto: u64) {
    let (done, result) = done();
    log.purge(upto, format!("p{upto}").into(), done);
    result.recv().unwrap().unwrap();
}

pub fn truncate(log: &GroupLog, last: Option<u64>) {
    let (done, result) = done();
    log.truncate_after(last, done);
    result.recv().unwrap().unwrap();
}

/// Counts the calls of a fatal hook and keeps the last reason.
#[derive(Clone, Default)]
pub struct Alarm {
    calls: Arc<AtomicU64>,
    reason: Arc<Mutex<String>>,
}

impl Alarm {
    pub fn install(&self, options: StoreOptions) -> StoreOptions {
        let alarm = self.clone();
        let hook = move |reason: &str| {
            alarm.calls.fetch_add(1, Ordering::SeqCst);
            *alarm.reason.lock().unwrap() = reason.to_owned();
        };
        StoreOptions { fatal: Some(Arc::new(hook)), ..options }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn reason(&self) -> String {
        self.reason.lock().unwrap().clone()
    }
}

/// Makes the disk fail at a point, from when it is switched on.
#[derive(Clone, Default)]
pub struct Breaker(Arc<Mutex<Option<(FaultPoint, io::ErrorKind)>>>);

impl Breaker {
    pub fn install(&self, options: StoreOptions) -> StoreOptions {
        let breaker = self.clone();
        let faults = move |point| match *breaker.0.lock().unwrap() {
            Some((broken, kind)) if broken == point => Err(io::Error::from(kind)),
            _ => Ok(()),
        };
        StoreOptions { faults: Some(Arc::new(faults)), ..options }
    }

    pub fn set(&self, fault: Option<(FaultPoint, io::ErrorKind)>) {
        *self.0.lock().unwrap() = fault;
    }
}

/// Copies a folder with all that is in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Files of a folder with this extension.
pub fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}
