//! Snapshots: one state, whole or not at all, whatever happens on the way and in the middle of an install.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use stanchion_engine::{GroupId, ShardState, ShardTime, Slot, StateReader, Table};
use stanchion_store::{FaultPoint, GroupState, ReceivedSnapshot, Store, StoreError};

use crate::support::{Breaker, open, payload, small};

const G: GroupId = GroupId(4);
const SLOTS: u16 = 20;

/// A state that says in each row which round wrote it.
fn fill(state: &mut GroupState, round: u64, rows: u64, length: usize) {
    state.set_owned_slots(&[0..=SLOTS - 1]).unwrap();
    for row in 0..rows {
        let (slot, key) = (Slot((row % u64::from(SLOTS)) as u16), row.to_be_bytes());
        state.put(slot, Table::Run, &key, Bytes::from(round.to_be_bytes().to_vec()));
        state.put(slot, Table::History, &key, payload(row ^ round << 32, length));
    }
    state.set_clock(ShardTime(round as i64 * 1000));
    state.commit(round * 100, format!("l{round}").into(), Some(format!("m{round}").into())).unwrap();
}

fn chunks(store: &Store) -> Vec<Bytes> {
    store.snapshot(G).unwrap().map(Result::unwrap).collect()
}

fn receive(store: &Store, chunks: &[Bytes]) -> Result<ReceivedSnapshot, StoreError> {
    let mut receiver = store.snapshot_receiver(G)?;
    for chunk in chunks {
        receiver.chunk(chunk)?;
    }
    receiver.finish()
}

fn hash(store: &Store) -> [u8; 32] {
    store.reader(G).snapshot().hash().unwrap()
}

#[test]
fn a_snapshot_carries_the_whole_state_and_replaces_what_was_there() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (open(from.path()), open(to.path()));
    let mut source = sender.group_state(G).unwrap();
    fill(&mut source, 2, 500, 20_000);
    let mut target = receiver.group_state(G).unwrap();
    fill(&mut target, 1, 900, 100);

    let mut snapshot = sender.snapshot(G).unwrap();
    assert_eq!((snapshot.applied.index, snapshot.applied.log_id.clone()), (200, Some("l2".into())));
    let expected = hash(&sender);
    fill(&mut source, 3, 600, 100);
    let chunks: Vec<Bytes> = snapshot.by_ref().map(Result::unwrap).collect();
    assert!(chunks.len() > 8, "10 MB in chunks of about 1 MB");
    assert_ne!(hash(&sender), expected, "the sender went on meanwhile");

    let received = receive(&receiver, &chunks).unwrap();
    assert_eq!(received.applied().index, 200);
    assert_eq!(receiver.reader(G).applied().index, 100, "nothing is live before the install");
    target.install(received).unwrap();
    assert_eq!(hash(&receiver), expected);
    assert_eq!(receiver.flushed(G).index, 200);
    assert_eq!((target.applied().index, target.applied().membership), (200, Some("m2".into())));
    assert_eq!((target.clock(), target.owned_slots()), (ShardTime(2000), vec![0..=SLOTS - 1]));
    target.put(Slot(0), Table::Run, b"more", "x".into());
    target.commit(201, "l201".into(), None).unwrap();
    drop((target, receiver));

    let receiver = open(to.path());
    assert_eq!(receiver.reader(G).get(Slot(0), Table::Run, b"more").unwrap().unwrap(), "x");
    assert_eq!(
        receiver.reader(G).range(Slot(0), Table::Run, b"", b"", 10_000).unwrap().len(),
        500 / usize::from(SLOTS) + 1
    );
    assert!(!to.path().join("staging").exists() || std::fs::read_dir(to.path().join("staging")).unwrap().count() == 0);
}

#[test]
fn a_group_without_rows_can_be_sent_too() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (open(from.path()), open(to.path()));
    fill(&mut sender.group_state(G).unwrap(), 1, 0, 0);
    let mut target = receiver.group_state(G).unwrap();
    target.install(receive(&receiver, &chunks(&sender)).unwrap()).unwrap();
    assert_eq!(hash(&receiver), hash(&sender));
    assert_eq!(target.applied().index, 100);
}

#[test]
fn a_stream_that_is_not_whole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&mut store.group_state(G).unwrap(), 1, 300, 10_000);
    let good = chunks(&store);
    assert!(receive(&store, &good).is_ok());
    let refused = |chunks: &[Bytes], why: &str| {
        let error = receive(&store, chunks).err().unwrap_or_else(|| panic!("accepted, although {why}"));
        assert!(matches!(error, StoreError::Misuse(_)) || why == "rows out of order", "{why}: {error}");
    };
    refused(&good[..good.len() - 1], "it has no end");
    refused(&good[1..], "it has no head");
    refused(&[], "it is empty");
    let mut missing = good.clone();
    missing.remove(2);
    refused(&missing, "a chunk is missing");
    let mut swapped = good.clone();
    swapped.swap(2, 3);
    refused(&swapped, "rows out of order");
    refused(&[good.clone(), vec![good[1].clone()]].concat(), "it goes on behind its end");
    for bit in [0, 33, 8000] {
        let mut flipped = good.clone();
        let mut chunk = flipped[1].to_vec();
        chunk[bit / 8] ^= 1 << (bit % 8);
        flipped[1] = chunk.into();
        refused(&flipped, "a bit is flipped");
    }
    let mut other = store.snapshot_receiver(GroupId(9)).unwrap();
    assert!(other.chunk(&good[0]).unwrap_err().to_string().contains("group 4"));
    assert!(store.check().is_ok(), "a bad stream is not a bad disk");
}

#[test]
fn readers_see_the_old_state_or_the_new_one_while_it_is_installed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (open(from.path()), open(to.path()));
    let mut source = sender.group_state(G).unwrap();
    let mut target = receiver.group_state(G).unwrap();
    fill(&mut target, 1, 200, 10);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ender = Ender(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = receiver.reader(G);
                while !over.load(Ordering::Relaxed) {
                    let view = reader.snapshot();
                    let round = view.applied().unwrap().index / 100;
                    let rows = view.range(Slot(3), Table::Run, b"", b"", 1000).unwrap();
                    assert_eq!(rows.len(), 200 / usize::from(SLOTS));
                    assert!(rows.iter().all(|(_, value)| **value == round.to_be_bytes()), "round {round}");
                    let live = reader.range(Slot(3), Table::Run, b"", b"", 1000).unwrap();
                    assert!(live.len() == rows.len() && live.iter().all(|(_, value)| *value == live[0].1));
                    assert!(reader.get(Slot(3), Table::Run, &3u64.to_be_bytes()).unwrap().is_some());
                }
            });
        }
        for round in 2..8 {
            fill(&mut source, round, 200, 10);
            let received = receive(&receiver, &chunks(&sender)).unwrap();
            target.install(received).unwrap();
        }
    });
}

/// Ends the readers also when the test fails.
struct Ender<'a>(&'a AtomicBool);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_install_cut_off_leaves_the_old_state_and_nothing_of_the_new_one() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = open(from.path());
    fill(&mut sender.group_state(G).unwrap(), 2, 300, 5000);
    let breaker = Breaker::default();
    let receiver = Store::open(breaker.install(small(to.path()))).unwrap();
    let mut target = receiver.group_state(G).unwrap();
    fill(&mut target, 1, 300, 5000);
    receiver.checkpoint().unwrap();
    let old = hash(&receiver);
    let received = receive(&receiver, &chunks(&sender)).unwrap();
    breaker.set(Some((FaultPoint::StateWrite, std::io::ErrorKind::Other)));
    assert!(target.install(received).is_err());
    drop((target, receiver));

    let receiver = open(to.path());
    assert_eq!(hash(&receiver), old);
    let mut target = receiver.group_state(G).unwrap();
    target.install(receive(&receiver, &chunks(&sender)).unwrap()).unwrap();
    assert_eq!(hash(&receiver), hash(&sender), "rows left by the first try do not show");
}

#[test]
fn a_transfer_given_up_leaves_no_files() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (open(from.path()), open(to.path()));
    fill(&mut sender.group_state(G).unwrap(), 1, 300, 20_000);
    let mut transfer = receiver.snapshot_receiver(G).unwrap();
    let mut snapshot = sender.snapshot(G).unwrap();
    for chunk in snapshot.by_ref().take(4) {
        transfer.chunk(&chunk.unwrap()).unwrap();
    }
    let staging = to.path().join("staging");
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 1);
    drop((transfer, snapshot));
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);
    std::fs::write(staging.join("left-by-a-crash.sst"), b"half").unwrap();
    drop(receiver);
    open(to.path());
    assert!(!staging.exists());
}
