use super::*;

fn events() -> Vec<Event> {
    let change = |ticket, what| Event::Entry { directory: b"log".to_vec(), change: Change { ticket, what } };
    vec![
        Event::Known { inode: 7, durable: 9 },
        Event::Undo { inode: 7, undo: Undo { ticket: 1, at: 3, bytes: b"old".to_vec() } },
        Event::Synced { inode: 7, durable: 12, upto: 0 },
        Event::Frozen { inode: 8 },
        change(2, Entry::Made { name: b"a".to_vec(), inode: 7 }),
        change(3, Entry::MadeDirectory { name: b"d".to_vec() }),
        change(4, Entry::Gone { name: b"b".to_vec(), kept: Some(4) }),
        change(5, Entry::Gone { name: b"c".to_vec(), kept: None }),
        change(6, Entry::GoneDirectory { name: b"e".to_vec() }),
        change(7, Entry::Moved { from: b"x".to_vec(), to: b"y".to_vec(), inode: 5, replaced: Some(7) }),
        Event::DirectorySynced { directory: b"log".to_vec(), upto: 5 },
    ]
}

#[test]
fn what_is_written_is_read_again() {
    for event in events() {
        assert_eq!(decode(&encode(&event)[4..]), Some(event));
    }
}

#[test]
fn a_torn_end_is_dropped_and_no_more() {
    let whole: Vec<u8> = events().iter().flat_map(encode).collect();
    let model = replay(&whole);
    assert_eq!(model.files[&7].undo.len(), 1);
    assert_eq!(model.directories[b"log".as_slice()].len(), 2);
    assert_eq!(model.ticket, 7);
    let torn = replay(&whole[..whole.len() - 1]);
    assert_eq!(torn.directories[b"log".as_slice()].len(), 6);
}
