//! How far a log may be purged.

use super::*;

const STRETCH: u64 = 1024 * 1024;
const HALF: u64 = STRETCH / 2;

fn keeper() -> Keeper {
    let mut keeper = Keeper::new(STRETCH);
    for index in 1..=9 {
        let closed = keeper.append(index, HALF, 1000 + index as i64);
        assert_eq!(closed.is_some(), index % 2 == 0, "two halves make a stretch");
    }
    keeper
}

#[test]
fn purges_by_bytes_but_never_above_what_is_flushed() {
    let keeper = keeper();
    assert_eq!(keeper.bytes(), 9 * HALF);
    assert_eq!(keeper.candidate(4 * HALF, 600, 100, 1010), Some(6), "the open stretch and one closed one stay");
    assert_eq!(keeper.candidate(4 * HALF, 600, 5, 1010), Some(4));
    assert_eq!(keeper.candidate(9 * HALF, 600, 100, 1010), None);
}

#[test]
fn purges_by_age() {
    assert_eq!(keeper().candidate(u64::MAX, 5, 100, 1010), Some(4), "closed at 1004");
    assert_eq!(keeper().candidate(u64::MAX, 5, 100, 5000), Some(8), "what is open stays");
}

#[test]
fn cutting_keeps_stretches_contiguous() {
    let mut keeper = keeper();
    keeper.truncate_after(Some(5));
    assert_eq!((keeper.bytes(), keeper.closed_last()), (5 * HALF, Some(4)));
    keeper.purge(1);
    assert_eq!(keeper.bytes(), 4 * HALF);
    assert_eq!(keeper.append(6, HALF, 1020).map(|(last, _)| last), Some(6), "old enough and large enough to close");
    keeper.purge(6);
    assert_eq!(keeper.bytes(), 0);
    keeper.truncate_after(None);
    assert_eq!(keeper.candidate(0, 0, 100, 9999), None);
}

#[test]
fn age_closes_a_stretch() {
    let mut keeper = Keeper::new(STRETCH);
    assert_eq!(keeper.append(1, 1, 100), None);
    assert_eq!(keeper.append(2, 1, 110), Some((2, KeptRow { bytes: 2, closed_unix_seconds: 110 })));
}
