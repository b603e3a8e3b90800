//! The log: readable at once, durable when called back, ordered, bounded, purged by its keeper, and stopped for good by a bad disk.

use std::io;

use stanchion_engine::GroupId;
use stanchion_store::{FaultPoint, Store};

use crate::support::{Alarm, Breaker, append, done, entries, entry, open, purge, small, truncate};

const G: GroupId = GroupId(7);

#[test]
fn entries_are_readable_before_they_are_durable_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    let (done, durable) = done();
    log.append(entries(7, 0..=99, 1000), done);
    assert_eq!(log.entries(0..100, usize::MAX).unwrap(), entries(7, 0..=99, 1000));
    durable.recv().unwrap().unwrap();
    assert_eq!(log.entries(0..100, usize::MAX).unwrap(), entries(7, 0..=99, 1000), "most have left the small cache");
    assert_eq!(log.last().unwrap().0, 99);
    assert_eq!(log.entries(90..500, usize::MAX).unwrap().len(), 10, "cut at the end");
    assert_eq!(log.entries(100..500, usize::MAX).unwrap(), []);
    assert_eq!(log.entries(0..100, 2500).unwrap().len(), 3, "no more once the bytes are reached");
    assert_eq!(log.entries(95..100, 1).unwrap().len(), 1, "but at least one");
    drop((log, store));

    let store = open(dir.path());
    assert_eq!(store.groups(), [G]);
    let log = store.log(G);
    assert_eq!(log.entries(0..100, usize::MAX).unwrap(), entries(7, 0..=99, 1000));
    append(&log, entries(7, 100..=100, 10)).unwrap();
    assert_eq!(log.entries(98..101, usize::MAX).unwrap().len(), 3, "from disk and cache together");
}

#[test]
fn votes_and_committed_ids_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    let (first, written) = done();
    log.save_vote("vote 1".into(), first);
    written.recv().unwrap().unwrap();
    let (second, written) = done();
    log.save_vote("vote 2".into(), second);
    written.recv().unwrap().unwrap();
    log.save_committed("committed 1".into());
    append(&log, entries(7, 0..=0, 10)).unwrap();
    log.save_committed("committed 2".into());
    drop((log, store));
    let log = open(dir.path()).log(G);
    assert_eq!(log.vote().unwrap(), "vote 2");
    assert_eq!(log.committed().unwrap(), "committed 2", "written at the end, too");
}

#[test]
fn a_truncated_tail_is_replaced_by_what_comes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    append(&log, entries(7, 0..=49, 500)).unwrap();
    truncate(&log, Some(29));
    assert_eq!(log.last().unwrap().0, 29);
    assert_eq!(log.last().unwrap().1, entry(7, 29, 0, 0).head);
    let replaced: Vec<_> = (30..40).map(|index| entry(7, index, 1, 500)).collect();
    append(&log, replaced.clone()).unwrap();
    let expected = [entries(7, 0..=29, 500), replaced].concat();
    assert_eq!(log.entries(0..100, usize::MAX).unwrap(), expected);
    drop((log, store));
    let store = open(dir.path());
    let log = store.log(G);
    assert_eq!(log.entries(0..100, usize::MAX).unwrap(), expected);
    truncate(&log, None);
    assert_eq!((log.last(), log.bytes()), (None, 0));
    append(&log, entries(7, 0..=3, 10)).unwrap();
    drop((log, store));
    assert_eq!(open(dir.path()).log(G).entries(0..100, usize::MAX).unwrap(), entries(7, 0..=3, 10));
}

#[test]
fn purged_entries_are_gone_and_a_purge_may_pass_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut state = store.group_state(G).unwrap();
    let log = store.log(G);
    append(&log, entries(7, 0..=49, 500)).unwrap();
    state.commit(100, "l100".into(), None).unwrap();
    store.checkpoint().unwrap();
    purge(&log, 19);
    assert_eq!((log.first_index(), log.purged_index()), (20, Some(19)));
    assert_eq!(log.entries(19..30, usize::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(log.entries(20..50, usize::MAX).unwrap(), entries(7, 20..=49, 500));
    drop((log, state, store));

    let store = open(dir.path());
    let log = store.log(G);
    assert_eq!((log.first_index(), log.purged().unwrap().as_ref()), (20, b"p19".as_slice()));
    assert_eq!(log.bytes(), log.entries(20..50, usize::MAX).unwrap().iter().map(|e| e.bytes() as u64).sum::<u64>());
    purge(&log, 80);
    assert_eq!((log.first_index(), log.last(), log.bytes()), (81, None, 0));
    assert!(append(&log, entries(7, 50..=50, 10)).is_err(), "must follow on what was purged");
    append(&log, entries(7, 81..=90, 10)).unwrap();
    drop((log, store));
    assert_eq!(open(dir.path()).log(G).entries(81..91, usize::MAX).unwrap(), entries(7, 81..=90, 10));
}

#[test]
fn entries_that_do_not_follow_are_refused_and_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let alarm = Alarm::default();
    let store = Store::open(alarm.install(small(dir.path()))).unwrap();
    let log = store.log(G);
    append(&log, entries(7, 5..=9, 10)).unwrap();
    for wrong in [entries(7, 11..=12, 10), entries(7, 9..=10, 10), vec![entry(7, 10, 0, 1), entry(7, 12, 0, 1)]] {
        assert_eq!(append(&log, wrong).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    append(&log, entries(7, 10..=11, 10)).unwrap();
    assert_eq!(alarm.calls(), 0);
}

#[test]
fn the_keeper_lets_go_of_old_entries_once_they_are_flushed_and_remembers_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    for index in 1..=64 {
        append(&log, entries(7, index..=index, 128 * 1024)).unwrap();
    }
    assert_eq!(log.purge_candidate(0, 0), None, "nothing is flushed");
    let mut state = store.group_state(G).unwrap();
    state.commit(40, "l40".into(), None).unwrap();
    assert_eq!(log.purge_candidate(0, 0), None, "committed is not flushed");
    store.checkpoint().unwrap();
    let candidate = log.purge_candidate(0, 0).unwrap();
    assert!((30..=40).contains(&candidate), "{candidate}");
    assert_eq!(log.purge_candidate(u64::MAX, 600), None);
    let bytes = log.bytes();
    let candidate = log.purge_candidate(bytes - 1024 * 1024, 600).unwrap();
    assert!((7..=9).contains(&candidate), "{candidate}");
    drop((log, state, store));

    let store = open(dir.path());
    let log = store.log(G);
    assert_eq!(log.bytes(), bytes);
    assert_eq!(log.purge_candidate(bytes - 1024 * 1024, 600), Some(candidate));
    purge(&log, candidate);
    assert!(log.bytes() < bytes - 1000 * 1024);
}

#[test]
fn all_groups_share_the_writer_and_nothing_is_mixed_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for group in 0..8u32 {
            let log = store.log(GroupId(group));
            scope.spawn(move || {
                for index in 0..100 {
                    append(&log, vec![entry(group, index, 0, 200)]).unwrap();
                    assert_eq!(log.entries(index..index + 1, usize::MAX).unwrap(), [entry(group, index, 0, 200)]);
                }
            });
        }
    });
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.groups().len(), 8);
    for group in 0..8 {
        assert_eq!(store.log(GroupId(group)).entries(0..100, usize::MAX).unwrap(), entries(group, 0..=99, 200));
    }
}

#[test]
fn a_failed_sync_is_never_tried_again_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (alarm, breaker) = (Alarm::default(), Breaker::default());
    let store = Store::open(breaker.install(alarm.install(small(dir.path())))).unwrap();
    let log = store.log(G);
    append(&log, entries(7, 0..=9, 100)).unwrap();
    breaker.set(Some((FaultPoint::LogWrite, io::ErrorKind::StorageFull)));
    let error = append(&log, entries(7, 10..=10, 100)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("no space left"), "{error}");
    breaker.set(None);
    assert!(append(&log, entries(7, 11..=11, 100)).is_err(), "the disk is well again, and nobody trusts it");
    assert!(append(&store.log(GroupId(8)), entries(8, 0..=0, 100)).is_err(), "for no group");
    assert!(log.entries(0..5, usize::MAX).is_err());
    assert!(store.checkpoint().is_err());
    assert_eq!(alarm.calls(), 1);
    assert!(alarm.reason().contains("no space left"), "{}", alarm.reason());
    drop((log, store));
    assert_eq!(open(dir.path()).log(G).entries(0..20, usize::MAX).unwrap(), entries(7, 0..=9, 100));
}

#[test]
fn nothing_is_appended_after_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let log = store.log(G);
    let (done, durable) = done();
    log.append(entries(7, 0..=9, 100), done);
    store.shutdown().unwrap();
    durable.recv().unwrap().unwrap();
    assert!(append(&log, entries(7, 10..=10, 100)).is_err());
}
