use super::*;
use crate::model::Undo;

fn state(durable: u64, undo: Vec<(u64, &[u8])>) -> FileState {
    let undo = undo.into_iter().zip(1..).map(|((at, bytes), ticket)| Undo { ticket, at, bytes: bytes.to_vec() });
    FileState { durable, undo: undo.collect(), ..FileState::default() }
}

#[test]
fn what_was_synced_is_made_of_what_is_there_and_the_notes() {
    assert_eq!(as_synced(b"abcdef", &state(3, vec![])), b"abc");
    assert_eq!(as_synced(b"XXcdYYYY", &state(6, vec![(0, b"ab"), (4, b"ef")])), b"abcdef");
    // Cut off, and the newest note was taken of bytes that were not the oldest.
    assert_eq!(as_synced(b"a", &state(4, vec![(1, b"bcd"), (1, b"xx")])), b"abcd");
}

#[test]
fn synced_bytes_that_were_not_written_since_are_never_touched() {
    let synced: Vec<u8> = (0..10_000u32).map(|i| i as u8 | 1).collect();
    let mut written = synced.clone();
    written[5_000..5_600].fill(0xee);
    written.extend(std::iter::repeat_n(0xdd, 9_000));
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let (after, _) = mix(&synced, &written, &mut Choices::of(seed, "file"));
        assert_eq!(after[..4_608], synced[..4_608]);
        assert_eq!(after[5_632..10_000], synced[5_632..]);
        assert!(after[5_000..5_600].iter().zip(&synced[5_000..5_600]).all(|(a, s)| a == s || *a == 0xee));
        assert!(after.len() <= written.len());
        lengths.insert(after.len());
        assert_eq!(after, mix(&synced, &written, &mut Choices::of(seed, "file")).0, "a seed repeats its choices");
    }
    assert!(lengths.contains(&10_000) && lengths.contains(&19_000) && lengths.len() > 50, "{}", lengths.len());
}
