//! What is sent between nodes comes back the same.

use super::*;

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId { term: 7, node_id: 2 }, index)
}

#[test]
fn entries_of_every_kind_read_back_as_written() {
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    let nodes: BTreeMap<u64, BasicNode> = (1..=4).map(|n| (n, BasicNode::new(format!("10.0.0.{n}:9")))).collect();
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Data(Bytes::from_static(b"data"))),
        EntryPayload::Normal(Data(Bytes::new())),
        EntryPayload::Membership(Membership::new(voters, nodes).unwrap()),
    ];
    for payload in payloads {
        let entry = Entry { log_id: log_id(0), payload };
        let (head, data) = encode_entry(&entry);
        assert_eq!(decode_entry(Some(0), &head, data.clone()).unwrap(), entry);
        assert_eq!(head_log_id(&head).unwrap(), entry.log_id);
        assert!(decode_entry(Some(9), &head, data).is_err(), "an entry under another's index is refused");
    }
}

#[test]
fn the_clock_travels_with_appends_and_votes() {
    let request = AppendEntriesRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(log_id(4)),
        leader_commit: None,
        entries: Vec::new(),
    };
    let vote = VoteResponse::new(Vote::new(3, 1), Some(log_id(4)), true);
    let told = |clock| Told { term: 7, clock: ShardTime(clock) };
    for clock in [None, Some(told(0)), Some(told(1_700_000_000_000_000_001))] {
        assert_eq!(decode_append(encode_append(&request, clock)).unwrap().1, clock);
        assert_eq!(decode_vote_reply(encode_vote_reply(&vote, clock)).unwrap().1, clock);
    }
}

#[test]
fn replies_of_every_kind_read_back_as_written() {
    let vote = Vote::new_committed(3, 1);
    for reply in [
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(None),
        AppendEntriesResponse::PartialSuccess(Some(log_id(4))),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(vote),
    ] {
        assert_eq!(decode_append_reply(encode_append_reply(&reply)).unwrap(), reply);
    }
    let replies: [StreamAppendResult<TypeConfig>; 4] = [
        Ok(None),
        Ok(Some(log_id(4))),
        Err(StreamAppendError::Conflict(log_id(5))),
        Err(StreamAppendError::HigherVote(vote)),
    ];
    for reply in replies {
        assert_eq!(decode_stream_reply(encode_stream_reply(&reply)).unwrap(), reply);
    }
}
