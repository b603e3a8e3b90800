//! One group's log as openraft wants it, over the node's shared log.
//!
//! openraft asks that an appended entry can be read at once and be durable later; the store's entry cache and its one writer thread
//! give exactly that, so this file only translates. Votes go through the same queue as entries, because their order is a matter of
//! safety. The committed id is advice (it shortens recovery): it rides with the next append and costs no write of its own.
//!
//! Never: an entry read back that was not verified; a write that goes around the queue.
//!
//! Called by openraft alone.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use stanchion_engine::mutant;
use stanchion_store::{Done, GroupLog, LogEntry};
use tokio::sync::oneshot;

use crate::error::corrupt;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::wire;

/// Bytes that one step of applying or of recovery reads at a time.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// See the module. Clones are handles to the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<GroupLog>,
    /// Bound of one AppendEntries request.
    append_bytes_max: usize,
}

impl LogStore {
    pub fn new(log: Arc<GroupLog>, append_bytes_max: usize) -> Self {
        Self { log, append_bytes_max }
    }

    /// The part of `range` that the log holds.
    fn held(&self, range: impl RangeBounds<u64>) -> io::Result<Range<u64>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let first = self.log.first_index();
        let next = self.log.last().map_or(first, |(last, _)| last + 1);
        Ok(start.max(first)..end.min(next))
    }

    /// Entries from the start of `range`: at least one unless it is empty, and no more than about `bytes_max`.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let start = range.start;
        let rows = self.log.entries(range, bytes_max)?;
        if rows.is_empty() {
            return Err(corrupt("the log", format!("entry {start} is missing")));
        }
        rows.into_iter().map(|row| wire::decode_entry(Some(row.index), &row.head, row.payload)).collect()
    }
}

/// A callback for the store's writer, and what to await for it.
fn flushed() -> (Done, impl Future<Output = io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    let done = Box::new(move |result| {
        // The waiter has gone: nobody is left who would act on the result.
        let _ = sender.send(result);
    });
    let wait = async { receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log writer has stopped"))) };
    (done, wait)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + openraft::OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend,
    {
        // Read in pieces: what is to be applied after a long absence need not fit into memory.
        let this = self.clone();
        stream::unfold(Some((this, self.held(range))), |state| async move {
            let (log, range) = state?;
            let range = match range {
                Ok(range) if range.is_empty() => return None,
                Ok(range) => range,
                Err(error) => return Some((vec![Err(error)], None)),
            };
            match log.read(range.clone(), READ_BYTES) {
                Ok(entries) => {
                    let next = range.start + entries.len() as u64..range.end;
                    Some((entries.into_iter().map(Ok).collect::<Vec<_>>(), Some((log, Ok(next)))))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        })
        .flat_map(stream::iter)
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut range = self.held(range)?;
        let mut entries = Vec::new();
        while !range.is_empty() {
            let more = self.read(range.clone(), READ_BYTES)?;
            range.start += more.len() as u64;
            entries.extend(more);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.vote().map(|bytes| wire::decode_vote(&bytes)).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, self.append_bytes_max)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.log.purged().map(|bytes| wire::decode_log_id(&bytes)).transpose()?;
        let last = self.log.last().map(|(_, head)| wire::head_log_id(&head)).transpose()?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if mutant!(ForgetVote) {
            return Ok(());
        }
        let (done, wait) = flushed();
        self.log.save_vote(wire::encode_vote(vote), done);
        wait.await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(wire::encode_log_id(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.committed().map(|bytes| wire::decode_log_id(&bytes)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + openraft::OptionalSend,
        I::IntoIter: openraft::OptionalSend,
    {
        let rows = entries
            .into_iter()
            .map(|entry| {
                let (head, payload) = wire::encode_entry(&entry);
                LogEntry { index: entry.log_id.index, head, payload }
            })
            .collect();
        self.log.append(rows, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (done, wait) = flushed();
        self.log.truncate_after(last.map(|id| id.index), done);
        wait.await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (done, wait) = flushed();
        self.log.purge(upto.index, wire::encode_log_id(&upto), done);
        wait.await
    }
}
