//! Bytes of this crate's own: what the log and the group rows keep for it, and what it sends to its peers.
//!
//! These formats belong to us and not to openraft, so that another version of it is no migration of data. A field number, once
//! released, is never reused or retyped.
//!
//! Never: a default that stands for "absent" where absence matters (an absent log id is an absent message).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, EntryPayload};
use prost::Message;
use stanchion_engine::ShardTime;

use crate::clock::Told;
use crate::error::corrupt;
use crate::types::{Data, Entry, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, TypeConfig, Vote};

// ------------------------------------------------------------------------------------------------------------- messages

#[derive(Clone, PartialEq, Message)]
struct LogIdRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct VoteRow {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VotersRow {
    #[prost(uint64, repeated, tag = "1")]
    nodes: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeRow {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    address: String,
}

/// More than one set of voters while a change of membership is under way.
#[derive(Clone, PartialEq, Message)]
struct MembershipRow {
    #[prost(message, repeated, tag = "1")]
    voters: Vec<VotersRow>,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<NodeRow>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredMembershipRow {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdRow>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipRow>,
}

/// All of an entry but its data. Exactly one of the last three says what kind it is; none means blank.
#[derive(Clone, PartialEq, Message)]
struct HeadRow {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdRow>,
    #[prost(bool, tag = "2")]
    normal: bool,
    #[prost(message, optional, tag = "3")]
    membership: Option<MembershipRow>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryRow {
    #[prost(bytes = "bytes", tag = "1")]
    head: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ClockRow {
    /// Of the leader whose clock it is.
    #[prost(uint64, tag = "1")]
    term: u64,
    /// Nanoseconds since the epoch.
    #[prost(sfixed64, tag = "2")]
    clock: i64,
}

#[derive(Clone, PartialEq, Message)]
struct AppendRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    previous: Option<LogIdRow>,
    #[prost(message, optional, tag = "3")]
    commit: Option<LogIdRow>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<EntryRow>,
    /// What the sender knows of the group's clock.
    #[prost(message, optional, tag = "5")]
    clock: Option<ClockRow>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendReplyRow {
    /// 0 done, 1 done up to `log_id`, 2 conflict, 3 higher vote.
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(message, optional, tag = "2")]
    log_id: Option<LogIdRow>,
    #[prost(message, optional, tag = "3")]
    vote: Option<VoteRow>,
}

#[derive(Clone, PartialEq, Message)]
struct VoteRequestRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRow>,
    #[prost(bool, tag = "3")]
    transfer: bool,
}

#[derive(Clone, PartialEq, Message)]
struct VoteReplyRow {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdRow>,
    #[prost(bool, tag = "3")]
    granted: bool,
    /// As in an append.
    #[prost(message, optional, tag = "4")]
    clock: Option<ClockRow>,
}

#[derive(Clone, PartialEq, Message)]
struct TransferRow {
    #[prost(message, optional, tag = "1")]
    from: Option<VoteRow>,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRow>,
}

#[derive(Clone, PartialEq, Message)]
struct TransferReplyRow {
    /// 0 accepted, 1 the vote has changed, 2 the log is not flushed.
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(message, optional, tag = "2")]
    expected_vote: Option<VoteRow>,
    #[prost(message, optional, tag = "3")]
    actual_vote: Option<VoteRow>,
    #[prost(message, optional, tag = "4")]
    expected_log: Option<LogIdRow>,
    #[prost(message, optional, tag = "5")]
    actual_log: Option<LogIdRow>,
}

#[derive(Clone, PartialEq, Message)]
struct SnapshotHeaderRow {
    #[prost(uint32, tag = "1")]
    group: u32,
    #[prost(message, optional, tag = "2")]
    vote: Option<VoteRow>,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdRow>,
    #[prost(bytes = "bytes", tag = "4")]
    membership: Bytes,
}

// --------------------------------------------------------------------------------------------------------- log and vote

fn log_id_row(id: &LogId) -> LogIdRow {
    LogIdRow { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

fn log_id_of(row: &LogIdRow) -> LogId {
    LogId::new(LeaderId { term: row.term, node_id: row.node }, row.index)
}

fn vote_row(vote: &Vote) -> VoteRow {
    VoteRow { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

fn vote_of(row: Option<VoteRow>, what: &str) -> io::Result<Vote> {
    let row = row.ok_or_else(|| corrupt(what, "the vote is missing"))?;
    Ok(Vote { leader_id: LeaderId { term: row.term, node_id: row.node }, committed: row.committed })
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    log_id_row(id).encode_to_vec().into()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    LogIdRow::decode(bytes).map(|row| log_id_of(&row)).map_err(|e| corrupt("a log id", e))
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    vote_row(vote).encode_to_vec().into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let row = VoteRow::decode(bytes).map_err(|e| corrupt("a vote", e))?;
    vote_of(Some(row), "a vote")
}

// ----------------------------------------------------------------------------------------------------------- membership

fn membership_row(membership: &Membership) -> MembershipRow {
    MembershipRow {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| VotersRow { nodes: set.iter().copied().collect() })
            .collect(),
        nodes: membership.nodes().map(|(id, node)| NodeRow { node: *id, address: node.addr.clone() }).collect(),
    }
}

fn membership_of(row: MembershipRow) -> io::Result<Membership> {
    let voters: Vec<BTreeSet<u64>> = row.voters.into_iter().map(|set| set.nodes.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        row.nodes.into_iter().map(|n| (n.node, BasicNode { addr: n.address })).collect();
    if voters.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, nodes).map_err(|e| corrupt("a membership", e))
}

pub(crate) fn encode_membership(stored: &StoredMembership) -> Bytes {
    StoredMembershipRow {
        log_id: stored.log_id().as_ref().map(log_id_row),
        membership: Some(membership_row(stored.membership())),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<StoredMembership> {
    let row = StoredMembershipRow::decode(bytes).map_err(|e| corrupt("a membership", e))?;
    let membership = membership_of(row.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(row.log_id.as_ref().map(log_id_of), membership))
}

// -------------------------------------------------------------------------------------------------------------- entries

/// Head and data of an entry, as the log keeps them.
pub(crate) fn encode_entry(entry: &Entry) -> (Bytes, Bytes) {
    let mut head = HeadRow { log_id: Some(log_id_row(&entry.log_id)), ..HeadRow::default() };
    let data = match &entry.payload {
        EntryPayload::Blank => Bytes::new(),
        EntryPayload::Normal(data) => {
            head.normal = true;
            data.0.clone()
        }
        EntryPayload::Membership(membership) => {
            head.membership = Some(membership_row(membership));
            Bytes::new()
        }
    };
    (head.encode_to_vec().into(), data)
}

/// Reads back what [`encode_entry`] made, checking it against the index that it is kept under.
pub(crate) fn decode_entry(index: Option<u64>, head: &[u8], data: Bytes) -> io::Result<Entry> {
    let head = HeadRow::decode(head).map_err(|e| corrupt("the head of a log entry", e))?;
    let log_id = head.log_id.as_ref().map(log_id_of).ok_or_else(|| corrupt("the head of a log entry", "no log id"))?;
    if let Some(index) = index.filter(|index| *index != log_id.index) {
        return Err(corrupt("the head of a log entry", format!("kept under index {index}, it says {}", log_id.index)));
    }
    let payload = match head.membership {
        Some(row) => EntryPayload::Membership(membership_of(row)?),
        None if head.normal => EntryPayload::Normal(Data(data)),
        None => EntryPayload::Blank,
    };
    Ok(Entry { log_id, payload })
}

/// The log id in an entry's head.
pub(crate) fn head_log_id(head: &[u8]) -> io::Result<LogId> {
    let head = HeadRow::decode(head).map_err(|e| corrupt("the head of a log entry", e))?;
    head.log_id.as_ref().map(log_id_of).ok_or_else(|| corrupt("the head of a log entry", "no log id"))
}

// ------------------------------------------------------------------------------------------------------------- messages

fn clock_row(told: Told) -> ClockRow {
    ClockRow { term: told.term, clock: told.clock.0 }
}

fn told_of(row: ClockRow) -> Told {
    Told { term: row.term, clock: ShardTime(row.clock) }
}

pub(crate) fn encode_append(request: &AppendEntriesRequest<TypeConfig>, clock: Option<Told>) -> Bytes {
    AppendRow {
        vote: Some(vote_row(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_row),
        commit: request.leader_commit.as_ref().map(log_id_row),
        entries: request
            .entries
            .iter()
            .map(|entry| {
                let (head, data) = encode_entry(entry);
                EntryRow { head, data }
            })
            .collect(),
        clock: clock.map(clock_row),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_append(bytes: Bytes) -> io::Result<(AppendEntriesRequest<TypeConfig>, Option<Told>)> {
    let row = AppendRow::decode(bytes).map_err(|e| corrupt("an append request", e))?;
    let request = AppendEntriesRequest {
        vote: vote_of(row.vote, "an append request")?,
        prev_log_id: row.previous.as_ref().map(log_id_of),
        leader_commit: row.commit.as_ref().map(log_id_of),
        entries: row
            .entries
            .into_iter()
            .map(|entry| decode_entry(None, &entry.head, entry.data))
            .collect::<io::Result<_>>()?,
    };
    Ok((request, row.clock.map(told_of)))
}

pub(crate) fn encode_append_reply(reply: &AppendEntriesResponse<TypeConfig>) -> Bytes {
    let row = match reply {
        AppendEntriesResponse::Success => AppendReplyRow::default(),
        AppendEntriesResponse::PartialSuccess(id) => {
            AppendReplyRow { outcome: 1, log_id: id.as_ref().map(log_id_row), vote: None }
        }
        AppendEntriesResponse::Conflict => AppendReplyRow { outcome: 2, ..AppendReplyRow::default() },
        AppendEntriesResponse::HigherVote(vote) => {
            AppendReplyRow { outcome: 3, log_id: None, vote: Some(vote_row(vote)) }
        }
    };
    row.encode_to_vec().into()
}

pub(crate) fn decode_append_reply(bytes: Bytes) -> io::Result<AppendEntriesResponse<TypeConfig>> {
    let row = AppendReplyRow::decode(bytes).map_err(|e| corrupt("an append reply", e))?;
    Ok(match row.outcome {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(row.log_id.as_ref().map(log_id_of)),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(vote_of(row.vote, "an append reply")?),
        other => return Err(corrupt("an append reply", format!("outcome {other}"))),
    })
}

pub(crate) fn encode_stream_reply(reply: &StreamAppendResult<TypeConfig>) -> Bytes {
    let row = match reply {
        Ok(id) => AppendReplyRow { outcome: 0, log_id: id.as_ref().map(log_id_row), vote: None },
        Err(StreamAppendError::Conflict(id)) => AppendReplyRow { outcome: 2, log_id: Some(log_id_row(id)), vote: None },
        Err(StreamAppendError::HigherVote(vote)) => {
            AppendReplyRow { outcome: 3, log_id: None, vote: Some(vote_row(vote)) }
        }
    };
    row.encode_to_vec().into()
}

pub(crate) fn decode_stream_reply(bytes: Bytes) -> io::Result<StreamAppendResult<TypeConfig>> {
    let row = AppendReplyRow::decode(bytes).map_err(|e| corrupt("a stream reply", e))?;
    Ok(match (row.outcome, row.log_id.as_ref().map(log_id_of)) {
        (0, id) => Ok(id),
        (2, Some(id)) => Err(StreamAppendError::Conflict(id)),
        (3, _) => Err(StreamAppendError::HigherVote(vote_of(row.vote, "a stream reply")?)),
        (other, _) => return Err(corrupt("a stream reply", format!("outcome {other}"))),
    })
}

pub(crate) fn encode_vote_request(request: &VoteRequest<TypeConfig>) -> Bytes {
    VoteRequestRow {
        vote: Some(vote_row(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_row),
        transfer: request.leadership_transfer,
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_vote_request(bytes: Bytes) -> io::Result<VoteRequest<TypeConfig>> {
    let row = VoteRequestRow::decode(bytes).map_err(|e| corrupt("a vote request", e))?;
    let mut request = VoteRequest::new(vote_of(row.vote, "a vote request")?, row.last.as_ref().map(log_id_of));
    request.leadership_transfer = row.transfer;
    Ok(request)
}

pub(crate) fn encode_vote_reply(reply: &VoteResponse<TypeConfig>, clock: Option<Told>) -> Bytes {
    VoteReplyRow {
        vote: Some(vote_row(&reply.vote)),
        last: reply.last_log_id.as_ref().map(log_id_row),
        granted: reply.vote_granted,
        clock: clock.map(clock_row),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_vote_reply(bytes: Bytes) -> io::Result<(VoteResponse<TypeConfig>, Option<Told>)> {
    let row = VoteReplyRow::decode(bytes).map_err(|e| corrupt("a vote reply", e))?;
    let vote = vote_of(row.vote, "a vote reply")?;
    Ok((VoteResponse::new(vote, row.last.as_ref().map(log_id_of), row.granted), row.clock.map(told_of)))
}

pub(crate) fn encode_transfer(request: &TransferLeaderRequest<TypeConfig>) -> Bytes {
    TransferRow {
        from: Some(vote_row(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id_row),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_transfer(bytes: Bytes) -> io::Result<TransferLeaderRequest<TypeConfig>> {
    let row = TransferRow::decode(bytes).map_err(|e| corrupt("a transfer request", e))?;
    let from = vote_of(row.from, "a transfer request")?;
    Ok(TransferLeaderRequest::new(from, row.to, row.last.as_ref().map(log_id_of)))
}

pub(crate) fn encode_transfer_reply(reply: &TransferLeaderResponse<TypeConfig>) -> Bytes {
    let row = match reply {
        Ok(()) => TransferReplyRow::default(),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => TransferReplyRow {
            outcome: 1,
            expected_vote: Some(vote_row(expected)),
            actual_vote: Some(vote_row(actual)),
            ..TransferReplyRow::default()
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => TransferReplyRow {
            outcome: 2,
            expected_log: expected.as_ref().map(log_id_row),
            actual_log: actual.as_ref().map(log_id_row),
            ..TransferReplyRow::default()
        },
    };
    row.encode_to_vec().into()
}

pub(crate) fn decode_transfer_reply(bytes: Bytes) -> io::Result<TransferLeaderResponse<TypeConfig>> {
    let row = TransferReplyRow::decode(bytes).map_err(|e| corrupt("a transfer reply", e))?;
    Ok(match row.outcome {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged {
            expected: vote_of(row.expected_vote, "a transfer reply")?,
            actual: vote_of(row.actual_vote, "a transfer reply")?,
        }),
        2 => Err(TransferLeaderError::LogNotFlushed {
            expected: row.expected_log.as_ref().map(log_id_of),
            actual: row.actual_log.as_ref().map(log_id_of),
        }),
        other => return Err(corrupt("a transfer reply", format!("outcome {other}"))),
    })
}

/// What goes before the chunks of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SnapshotHeader {
    pub group: u32,
    pub vote: Vote,
    pub meta: SnapshotMeta,
}

pub(crate) fn encode_snapshot_header(header: &SnapshotHeader) -> Bytes {
    SnapshotHeaderRow {
        group: header.group,
        vote: Some(vote_row(&header.vote)),
        last: header.meta.last_log_id.as_ref().map(log_id_row),
        membership: encode_membership(&header.meta.last_membership),
    }
    .encode_to_vec()
    .into()
}

pub(crate) fn decode_snapshot_header(bytes: &[u8]) -> io::Result<SnapshotHeader> {
    let row = SnapshotHeaderRow::decode(bytes).map_err(|e| corrupt("a snapshot header", e))?;
    Ok(SnapshotHeader {
        group: row.group,
        vote: vote_of(row.vote, "a snapshot header")?,
        meta: SnapshotMeta {
            last_log_id: row.last.as_ref().map(log_id_of),
            last_membership: decode_membership(&row.membership)?,
        },
    })
}

#[cfg(test)]
mod tests;
