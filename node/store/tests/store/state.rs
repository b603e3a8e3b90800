//! The state of a group: like a map to the engine, committed in one piece, read by others only once committed.

use bytes::Bytes;
use proptest::prelude::*;
use stanchion_engine::memory::MemoryState;
use stanchion_engine::slot::META_SLOT;
use stanchion_engine::{GroupId, ShardState, ShardTime, Slot, StateReader, Table};
use stanchion_store::{FaultPoint, Store, StoreError, StoreOptions};

use crate::support::{Alarm, Breaker, append, entries, open, purge, small};

const G: GroupId = GroupId(3);

fn all(reader: &impl StateReader, slot: Slot, table: Table) -> Vec<(Bytes, Bytes)> {
    reader.range(slot, table, b"", b"", usize::MAX).unwrap()
}

fn row(key: &'static str, value: &'static str) -> (Bytes, Bytes) {
    (key.into(), value.into())
}

#[test]
fn a_batch_sees_its_own_writes_and_readers_only_committed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=99]).unwrap();
    let reader = store.reader(G);
    let slot = Slot(5);
    state.put(slot, Table::Run, b"a", "1".into());
    state.put(slot, Table::Run, b"b", "2".into());
    state.put(slot, Table::History, b"a", "history".into());
    state.set_clock(ShardTime(10));
    assert_eq!(all(&state, slot, Table::Run), [row("a", "1"), row("b", "2")]);
    assert_eq!(all(&reader, slot, Table::Run), []);
    state.commit(1, "l1".into(), Some("m1".into())).unwrap();
    assert_eq!(all(&reader, slot, Table::Run), [row("a", "1"), row("b", "2")]);
    assert_eq!(reader.clock(), ShardTime(10));

    let before = reader.snapshot();
    state.delete(slot, Table::Run, b"a");
    state.put(slot, Table::Run, b"b", "3".into());
    state.put(slot, Table::Run, b"ab", "4".into());
    state.set_clock(ShardTime(20));
    assert_eq!(all(&state, slot, Table::Run), [row("ab", "4"), row("b", "3")]);
    assert_eq!(state.range_reverse(slot, Table::Run, b"", b"", 1).unwrap(), [row("b", "3")]);
    assert_eq!(state.range(slot, Table::Run, b"a", b"ab", 9).unwrap(), []);
    state.commit(2, "l2".into(), None).unwrap();
    assert_eq!(all(&reader, slot, Table::Run), [row("ab", "4"), row("b", "3")]);
    assert_eq!(all(&before, slot, Table::Run), [row("a", "1"), row("b", "2")]);
    assert_eq!((before.clock(), before.applied().unwrap().index), (ShardTime(10), 1));
    let applied = state.applied();
    assert_eq!((applied.index, applied.log_id.unwrap(), applied.membership.unwrap()), (2, "l2".into(), "m1".into()));
    assert_eq!(all(&reader, slot, Table::History), [row("a", "history")], "a family of its own");
}

#[test]
fn neighbouring_slots_and_tables_do_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=1, META_SLOT.0..=META_SLOT.0]).unwrap();
    for slot in [Slot(0), Slot(1), META_SLOT] {
        for table in [Table::Pending, Table::TimerQueue, Table::History, Table::Meta] {
            state.put(slot, table, &[0xff; 3], Bytes::from(vec![slot.0 as u8, table as u8]));
        }
    }
    for committed in [false, true] {
        for slot in [Slot(0), Slot(1), META_SLOT] {
            for table in [Table::Pending, Table::TimerQueue, Table::History, Table::Meta] {
                let expected = Bytes::from(vec![slot.0 as u8, table as u8]);
                assert_eq!(all(&state, slot, table), [(Bytes::from_static(&[0xff; 3]), expected)], "{committed}");
            }
        }
        state.commit(1, "l1".into(), None).unwrap();
    }
}

#[test]
fn a_slot_of_another_group_is_neither_read_nor_written() {
    let dir = tempfile::tempdir().unwrap();
    let alarm = Alarm::default();
    let store = Store::open(alarm.install(small(dir.path()))).unwrap();
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    assert!(state.get(Slot(10), Table::Run, b"a").is_err());
    assert!(store.reader(G).get(Slot(10), Table::Run, b"a").is_err());
    state.put(Slot(9), Table::Run, b"a", "1".into());
    state.put(Slot(10), Table::Run, b"a", "1".into());
    assert!(state.get(Slot(9), Table::Run, b"a").is_err(), "nothing after a write that was refused");
    assert!(state.commit(1, "l1".into(), None).is_err());
    state.discard();
    assert_eq!(state.get(Slot(9), Table::Run, b"a").unwrap(), None);
    state.commit(1, "l1".into(), None).unwrap();
    assert_eq!(alarm.calls(), 0, "a group's bug, not the disk's");
    assert!(store.group_state(G).is_err(), "a group has one state machine");
    drop(state);
    assert_eq!(store.group_state(G).unwrap().owned_slots(), [0..=9]);
}

#[test]
fn what_a_checkpoint_covered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=9]).unwrap();
    state.put(Slot(1), Table::Run, b"a", "1".into());
    state.put(Slot(1), Table::History, b"a", Bytes::from(vec![7; 100_000]));
    state.commit(8, "l8".into(), Some("m".into())).unwrap();
    assert_eq!(store.flushed(G).log_id, None);
    assert!(store.bytes_since_checkpoint() > 100_000);
    assert_eq!(store.checkpoint().unwrap(), [(G, 8)].into());
    assert_eq!(store.bytes_since_checkpoint(), 0);
    assert_eq!((store.flushed(G).index, store.flushed(G).log_id), (8, Some("l8".into())));
    state.commit(9, "l9".into(), None).unwrap();
    assert_eq!(store.flushed(G).index, 8);
    drop((state, store));
    let store = open(dir.path());
    assert!(store.flushed(G).index >= 8);
    let reader = store.reader(G);
    assert_eq!(reader.get(Slot(1), Table::Run, b"a").unwrap().unwrap(), "1");
    assert_eq!(reader.get(Slot(1), Table::History, b"a").unwrap().unwrap().len(), 100_000, "from a blob file");
}

#[test]
fn a_log_purged_further_than_the_state_reaches_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    append(&log, entries(3, 0..=20, 10)).unwrap();
    let mut state = store.group_state(G).unwrap();
    state.commit(5, "l5".into(), None).unwrap();
    store.checkpoint().unwrap();
    purge(&log, 10);
    drop((state, log, store));
    let error = Store::open(small(dir.path())).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }));
    assert!(error.to_string().contains("purged up to 10") && error.to_string().contains('5'), "{error}");
}

#[test]
fn a_commit_or_checkpoint_that_fails_stops_the_store() {
    for point in [FaultPoint::StateWrite, FaultPoint::Checkpoint] {
        let dir = tempfile::tempdir().unwrap();
        let (alarm, breaker) = (Alarm::default(), Breaker::default());
        let store = Store::open(breaker.install(alarm.install(small(dir.path())))).unwrap();
        let mut state = store.group_state(G).unwrap();
        state.set_owned_slots(&[0..=9]).unwrap();
        state.commit(1, "l1".into(), None).unwrap();
        store.checkpoint().unwrap();
        breaker.set(Some((point, std::io::ErrorKind::StorageFull)));
        let failed = state.commit(2, "l2".into(), None).and_then(|()| store.checkpoint().map(drop));
        assert!(matches!(failed, Err(StoreError::DiskFull { .. })), "{failed:?}");
        assert_eq!(store.flushed(G).index, 1, "nothing is called flushed that is not");
        breaker.set(None);
        assert!(state.commit(3, "l3".into(), None).is_err());
        assert!(store.checkpoint().is_err());
        assert!(store.check().is_err());
        assert_eq!(alarm.calls(), 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16, Table, Vec<u8>, Vec<u8>),
    Delete(u16, Table, Vec<u8>),
    Commit,
    Flush,
    Compare(u16, Table, Vec<u8>, Vec<u8>, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0u16..3;
    let table = || prop_oneof![Just(Table::Run), Just(Table::TimerQueue), Just(Table::History)];
    let key = || prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..4);
    prop_oneof![
        6 => (slot.clone(), table(), key(), prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(s, t, k, v)| Step::Put(s, t, k, v)),
        3 => (slot.clone(), table(), key()).prop_map(|(s, t, k)| Step::Delete(s, t, k)),
        1 => Just(Step::Commit),
        1 => Just(Step::Flush),
        4 => (slot, table(), key(), key(), 0usize..6).prop_map(|(s, t, from, to, n)| Step::Compare(s, t, from, to, n)),
    ]
}

fn ordered(from: &[u8], to: &[u8]) -> bool {
    to.is_empty() || from <= to
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the batch cuts, the store and the BTreeMap of the simulator answer alike, row by row and as a whole.
    #[test]
    fn the_store_and_the_memory_state_are_alike(steps in prop::collection::vec(step(), 1..120)) {
        let store = Store::open(StoreOptions { block_cache_bytes: 1 << 20, ..StoreOptions::ephemeral() }).unwrap();
        let mut state = store.group_state(G).unwrap();
        state.set_owned_slots(&[0..=2]).unwrap();
        let mut memory = MemoryState::default();
        let mut index = 0;
        for step in steps {
            match step {
                Step::Put(slot, table, key, value) => {
                    state.put(Slot(slot), table, &key, value.clone().into());
                    memory.put(Slot(slot), table, &key, value.into());
                }
                Step::Delete(slot, table, key) => {
                    state.delete(Slot(slot), table, &key);
                    memory.delete(Slot(slot), table, &key);
                }
                Step::Commit => {
                    index += 1;
                    state.set_clock(ShardTime(index));
                    memory.set_clock(ShardTime(index));
                    state.commit(index as u64, "l".into(), None).unwrap();
                    prop_assert_eq!(store.reader(G).snapshot().hash().unwrap(), memory.hash());
                }
                Step::Flush => drop(store.checkpoint().unwrap()),
                Step::Compare(slot, table, from, to, limit) if ordered(&from, &to) => {
                    let slot = Slot(slot);
                    prop_assert_eq!(
                        state.range(slot, table, &from, &to, limit).unwrap(),
                        memory.range(slot, table, &from, &to, limit).unwrap()
                    );
                    prop_assert_eq!(
                        state.range_reverse(slot, table, &from, &to, limit).unwrap(),
                        memory.range_reverse(slot, table, &from, &to, limit).unwrap()
                    );
                    prop_assert_eq!(state.get(slot, table, &from).unwrap(), memory.get(slot, table, &from).unwrap());
                }
                Step::Compare(slot, table, from, to, limit) => {
                    prop_assert_eq!(state.range(Slot(slot), table, &from, &to, limit).unwrap(), vec![]);
                }
            }
        }
        store.shutdown().unwrap();
    }
}
