//! Pages of a history of every size, from batches of every size.

use super::*;
use crate::memory::MemoryState;
use crate::state::ShardState;

fn run(id: &str) -> RunKey {
    RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: id.into() }
}

/// Batches of the given sizes for run `r`, and a neighbour run before and behind it.
fn state(batches: &[i64]) -> MemoryState {
    let mut state = MemoryState::default();
    for id in ["q", "r", "s"] {
        let mut next = 1;
        for size in batches {
            let events = (next..next + size)
                .map(|event_id| HistoryEvent { event_id, task_id: 1 << event_id.min(60), ..Default::default() })
                .collect();
            let batch = Bytes::from(History { events }.encode_to_vec());
            state.put(run(id).slot(), Table::History, &keys::run_event(&run(id), EventId(next)), batch);
            next += size;
        }
    }
    state
}

fn ids(page: &HistoryPage) -> Vec<i64> {
    History::decode(page.bytes.clone()).unwrap().events.iter().map(|e| e.event_id).collect()
}

#[test]
fn pages_of_every_size_join_to_the_whole() {
    let batches: Vec<i64> = (0..80).map(|i| 1 + i % 3).collect();
    let state = state(&batches);
    let last: i64 = batches.iter().sum();
    for events_max in [1, 2, 3, 7, 64, 1000] {
        for bytes_max in [0, 20, 100, 1 << 20] {
            let (mut next, mut seen) = (EventId(1), Vec::new());
            loop {
                let page = history(&state, &run("r"), next, EventId(last + 1), events_max, bytes_max).unwrap();
                assert_eq!(page.first, next);
                if page.bytes.is_empty() {
                    break;
                }
                let ids = ids(&page);
                assert!(ids.len() <= events_max);
                assert!(page.bytes.len() <= bytes_max || ids.len() == 1);
                seen.extend(ids);
                next = page.next;
            }
            assert_eq!(seen, (1..=last).collect::<Vec<_>>());

            let (mut below, mut seen) = (EventId(i64::MAX), Vec::new());
            loop {
                let page = history_reverse(&state, &run("r"), below, events_max, bytes_max).unwrap();
                if page.bytes.is_empty() {
                    break;
                }
                seen.extend(ids(&page));
                below = page.next;
            }
            assert_eq!(seen, (1..=last).rev().collect::<Vec<_>>());
        }
    }
}

#[test]
fn bounds_within_a_batch_are_kept() {
    let state = state(&[3, 5, 2]);
    let page = |from, to| history(&state, &run("r"), EventId(from), EventId(to), 100, 1 << 20).unwrap();
    assert_eq!(ids(&page(5, 8)), [5, 6, 7]);
    assert_eq!(page(5, 8).next, EventId(8));
    assert_eq!(ids(&page(2, 10)), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(ids(&page(10, i64::MAX)), [10]);
    assert_eq!(page(11, i64::MAX).next, EventId(11));
    assert!(page(5, 5).bytes.is_empty());
    let unknown = history(&state, &run("x"), EventId(1), EventId(9), 100, 100).unwrap();
    assert!(unknown.bytes.is_empty());
    let reverse = history_reverse(&state, &run("r"), EventId(6), 3, 1 << 20).unwrap();
    assert_eq!(ids(&reverse), [5, 4, 3]);
}

#[test]
fn a_page_within_one_batch_is_not_copied() {
    let state = state(&[4]);
    let run = run("r");
    let stored = state.get(run.slot(), Table::History, &keys::run_event(&run, EventId(1))).unwrap().unwrap();
    let page = history(&state, &run, EventId(1), EventId(5), 100, 1 << 20).unwrap();
    assert_eq!(page.bytes.as_ptr(), stored.as_ptr());
}

#[test]
fn a_torn_batch_is_a_fault() {
    let mut state = MemoryState::default();
    let run = run("r");
    state.put(run.slot(), Table::History, &keys::run_event(&run, EventId(1)), Bytes::from_static(&[0x0a, 9, 1]));
    assert!(history(&state, &run, EventId(1), EventId(5), 100, 100).is_err());
}
