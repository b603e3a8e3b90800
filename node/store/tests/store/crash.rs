//! Kill -9 at random points, under load, again and again on one folder: a child process writes and says what was acknowledged; after
//! its end everything acknowledged is there, no log has a hole, and the state is what replaying the log gives.
//!
//! The child is this test once more, in a process of its own, with the folder in its environment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use stanchion_engine::memory::MemoryState;
use stanchion_engine::{GroupId, ShardState, ShardTime, Slot, Table};
use stanchion_store::{LogEntry, Store};

use crate::support::{append, entry, open, payload, purge, small};

const GROUPS: u32 = 4;
const TEST: &str = "crash::nothing_acknowledged_is_lost_whenever_the_process_is_killed";
/// Set for the child only: the folder that it writes to.
const DIR: &str = "STANCHION_STORE_CRASH_DIR";
const ROUNDS: u64 = 12;

/// A round that a log's entry was written in does not matter to the state; the index alone does.
fn apply(state: &mut impl ShardState, group: u32, index: u64) {
    let slot = Slot(group as u16 * 10 + (index % 10) as u16);
    state.put(slot, Table::Run, &(index % 50).to_be_bytes(), Bytes::from(index.to_be_bytes().to_vec()));
    state.put(slot, Table::History, &index.to_be_bytes(), payload(index, (index % 7 * 1000) as usize));
    if index >= 100 {
        let slot = Slot(group as u16 * 10 + ((index - 100) % 10) as u16);
        state.delete(slot, Table::History, &(index - 100).to_be_bytes());
    }
    state.set_clock(ShardTime(index as i64));
}

fn entries_of(group: u32, from: u64) -> Vec<LogEntry> {
    (from..from + 1 + from % 4).map(|index| entry(group, index, 0, (index % 9 * 300) as usize)).collect()
}

/// What the child does, until it is killed.
fn write_and_purge(dir: &Path) {
    let store = open(dir);
    std::thread::scope(|scope| {
        for group in 1..=GROUPS {
            let store = store.clone();
            scope.spawn(move || write_for_ever(&store, group));
        }
        scope.spawn(|| {
            loop {
                store.checkpoint().unwrap();
                for group in 1..=GROUPS {
                    let log = store.log(GroupId(group));
                    if let Some(upto) = log.purge_candidate(256 * 1024, 600) {
                        purge(&log, upto);
                    }
                }
            }
        });
    });
}

fn write_for_ever(store: &Store, group: u32) {
    let log = store.log(GroupId(group));
    let mut state = store.group_state(GroupId(group)).unwrap();
    if state.owned_slots().is_empty() {
        state.set_owned_slots(&[group as u16 * 10..=group as u16 * 10 + 9]).unwrap();
    }
    // What a crash has undone in the state is applied again.
    let mut next = state.applied().log_id.map_or(0, |_| state.applied().index + 1);
    let mut last = log.last().map_or_else(|| log.purged_index().map_or(0, |purged| purged + 1), |(last, _)| last + 1);
    loop {
        for index in next..last {
            apply(&mut state, group, index);
            if index % 5 == 4 || index + 1 == last {
                state.commit(index, format!("l{index}").into(), None).unwrap();
            }
        }
        next = last;
        let entries = entries_of(group, last);
        let upto = entries.last().unwrap().index;
        append(&log, entries).unwrap();
        last = upto + 1;
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {group} {upto}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_and_purge(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u32, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Kills are spread over the work, from the first acknowledgements of a run to some thousand later.
        let kill_after = 1 + round * round * 23 % 1900;
        let mut count = 0;
        for line in lines {
            let line = line.unwrap();
            let Some(said) = line.split("acknowledged ").nth(1) else { continue };
            // The last line may be torn.
            if let Some((group, index)) = said.split_once(' ')
                && let (Ok(group), Ok(index)) = (group.parse(), index.parse())
                && !(count > kill_after && index < acknowledged.get(&group).copied().unwrap_or(0))
            {
                acknowledged.insert(group, index);
            }
            count += 1;
            if count == kill_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= kill_after, "the child ended by itself after {count} acknowledgements");
        check(dir.path(), &acknowledged);
    }
    assert_eq!(acknowledged.len() as u32, GROUPS);
}

fn check(dir: &Path, acknowledged: &BTreeMap<u32, u64>) {
    let store = Store::open(small(dir)).unwrap();
    for (group, upto) in acknowledged {
        let log = store.log(GroupId(*group));
        let last = log.last().map_or_else(|| log.purged_index().unwrap_or(0), |(last, _)| last);
        assert!(last >= *upto, "group {group}: {upto} was acknowledged, the log ends at {last}");
        let first = log.first_index();
        let found = log.entries(first..last + 1, usize::MAX).unwrap();
        assert_eq!(found.len() as u64, last + 1 - first, "group {group}");
        for (index, found) in (first..).zip(found) {
            assert_eq!(found, entry(*group, index, 0, (index % 9 * 300) as usize), "group {group}");
        }
        let reader = store.reader(GroupId(*group));
        let applied = reader.applied();
        if applied.log_id.is_none() {
            assert_eq!(first, 0, "group {group}: nothing is applied, so nothing may be purged");
            continue;
        }
        assert!(applied.index + 1 >= first, "group {group}: applied to {}, purged below {first}", applied.index);
        let mut replayed = MemoryState::default();
        (0..=applied.index).for_each(|index| apply(&mut replayed, *group, index));
        assert_eq!(
            reader.snapshot().hash().unwrap(),
            replayed.hash(),
            "group {group}: the state is not that of entry {}",
            applied.index
        );
    }
}
