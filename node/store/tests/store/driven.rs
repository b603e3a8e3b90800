//! A log writer that is driven: nothing is written but in a turn, and a store that is dropped without a shutdown leaves what a crash would.

use std::path::Path;
use std::pin::pin;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use stanchion_engine::{GroupId, ShardState, Slot, StateReader, Table};
use stanchion_store::{GroupLog, LogWriter, Store, StoreOptions, Turns};

use crate::support::{done, entries};

const G: GroupId = GroupId(1);

fn open(dir: &Path) -> (Store, Turns) {
    let given = Arc::new(Mutex::new(None));
    let taken = given.clone();
    let driven = LogWriter::Driven(Arc::new(move |turns| *taken.lock().unwrap() = Some(turns)));
    let store = Store::open(StoreOptions { log_writer: driven, ..StoreOptions::small(dir) }).unwrap();
    let turns = given.lock().unwrap().take().unwrap();
    (store, turns)
}

fn queue(log: &GroupLog, range: std::ops::RangeInclusive<u64>) -> Receiver<std::io::Result<()>> {
    let (done, result) = done();
    log.append(entries(1, range, 100), done);
    result
}

fn last(store: &Store) -> Option<u64> {
    store.log(G).last().map(|(index, _)| index)
}

fn is_waiting(turns: &Turns) -> bool {
    pin!(turns.wait()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn nothing_is_durable_before_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut turns) = open(dir.path());
    assert!(is_waiting(&turns));
    let log = store.log(G);
    let (first, second) = (queue(&log, 1..=3), queue(&log, 4..=4));
    assert!(!is_waiting(&turns));
    assert_eq!(log.entries(1..5, usize::MAX).unwrap().len(), 4, "readable at once");
    assert_eq!(first.try_recv().unwrap_err(), TryRecvError::Empty);
    assert!(turns.turn());
    first.try_recv().unwrap().unwrap();
    second.try_recv().unwrap().unwrap();
    assert!(is_waiting(&turns) && turns.turn(), "a turn with nothing to write");
    let third = queue(&log, 5..=5);
    store.shutdown().unwrap();
    third.try_recv().unwrap().unwrap();
    assert!(!is_waiting(&turns) && !turns.turn(), "there is no more");
    queue(&log, 6..=6).try_recv().unwrap().unwrap_err();
    drop((log, store, turns));
    assert_eq!(last(&open(dir.path()).0), Some(5));
}

#[test]
fn whoever_drives_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let (store, turns) = open(dir.path());
    let (sender, woken) = sync_channel(8);
    struct Tell(std::sync::mpsc::SyncSender<()>);
    impl std::task::Wake for Tell {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
        }
    }
    let waker = Waker::from(Arc::new(Tell(sender)));
    let mut wait = pin!(turns.wait());
    assert_eq!(wait.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
    let _result = queue(&store.log(G), 1..=1);
    woken.try_recv().unwrap();
    assert_eq!(wait.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
}

#[test]
fn a_crash_loses_what_had_no_turn_and_what_no_checkpoint_covered() {
    let dir = tempfile::tempdir().unwrap();
    for store_goes_first in [false, true] {
        let (store, mut turns) = open(dir.path());
        let (log, before) = (store.log(G), last(&store).unwrap_or(0));
        let written = queue(&log, before + 1..=before + 2);
        turns.turn();
        written.try_recv().unwrap().unwrap();
        let mut state = store.group_state(G).unwrap();
        state.set_owned_slots(&[0..=9]).unwrap();
        state.put(Slot(1), Table::Run, b"kept", "x".into());
        state.commit(before + 1, "l".into(), None).unwrap();
        store.checkpoint().unwrap();
        state.put(Slot(1), Table::Run, b"lost", "x".into());
        state.commit(before + 2, "l".into(), None).unwrap();
        let lost = queue(&log, before + 3..=before + 3);
        match store_goes_first {
            true => {
                drop((log, state, store));
                assert!(!turns.turn());
                drop(turns);
            }
            false => {
                drop(turns);
                queue(&log, before + 4..=before + 4).try_recv().unwrap().unwrap_err();
                drop((log, state, store));
            }
        }
        assert_eq!(lost.try_recv().unwrap_err(), TryRecvError::Disconnected, "nobody is told");

        let (store, _turns) = open(dir.path());
        assert_eq!(last(&store), Some(before + 2));
        assert_eq!(store.reader(G).applied().index, before + 1);
        assert!(store.reader(G).get(Slot(1), Table::Run, b"kept").unwrap().is_some());
        assert!(store.reader(G).get(Slot(1), Table::Run, b"lost").unwrap().is_none());
    }
}

#[test]
fn a_group_is_removed_and_a_snapshot_read_without_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let (store, turns) = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    for row in 0..200_u64 {
        state.put(Slot(1), Table::History, &row.to_be_bytes(), crate::support::payload(row, 20_000));
    }
    state.commit(7, "l".into(), None).unwrap();
    let mut receiver = store.snapshot_receiver(G).unwrap();
    for chunk in store.snapshot(G).unwrap() {
        receiver.chunk(&chunk.unwrap()).unwrap();
    }
    let received = receiver.finish().unwrap();
    assert_eq!(received.applied().index, 7);
    state.install(received).unwrap();
    assert_eq!(store.reader(G).range(Slot(1), Table::History, b"", b"", 1000).unwrap().len(), 200);
    drop(state);
    store.remove_group(G).unwrap();
    drop(turns);
    store.shutdown().unwrap();
}
