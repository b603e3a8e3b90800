//! Pages of a run's history: slices of the stored batches, cut at the borders of events by walking their length prefixes.
//!
//! Never: decodes an event; returns part of one; goes back behind `from`.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};

use crate::keys;
use crate::state::{StateFault, StateReader, StateResult, Table};
use crate::types::{EventId, RunKey};

/// Whole events, as the repeated field 1 of an encoded `History`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryPage {
    pub bytes: Bytes,
    /// Lowest id in the page; of an empty page, the id that was asked for.
    pub first: EventId,
    /// Forwards: the id behind the last event of the page, from which the next page goes on. Backwards: the lowest id of the page, which
    /// is the (exclusive) bound of the next one.
    pub next: EventId,
}

/// Batches read in one go.
const CHUNK: usize = 32;

/// Events `from <= id < to` in order: at most `events_max` and about `bytes_max` bytes, but at least one if there is one.
pub fn history<R: StateReader + ?Sized>(
    reader: &R,
    run: &RunKey,
    from: EventId,
    to: EventId,
    events_max: usize,
    bytes_max: usize,
) -> StateResult<HistoryPage> {
    let mut page = Page::new(events_max, bytes_max);
    let from = from.max(EventId(1));
    let mut next = from;
    if from < to {
        let slot = run.slot();
        let end = keys::run_event(run, to);
        let mut start = batch_of(reader, run, from)?;
        'read: loop {
            let batches = reader.range(slot, Table::History, &start, &end, CHUNK)?;
            let full = batches.len() == CHUNK;
            for (key, batch) in batches {
                let mut id = first_event(&key)?;
                // From here on, whole frames of this batch that belong to the page.
                let (mut begin, mut at) = (None, 0);
                while at < batch.len() && id < to {
                    let frame = frame_bytes(&batch[at..])?;
                    if id >= next {
                        if !page.has_room(frame) {
                            page.take(&batch, begin, at);
                            break 'read;
                        }
                        begin.get_or_insert(at);
                        next = EventId(id.0 + 1);
                    }
                    at += frame;
                    id.0 += 1;
                }
                page.take(&batch, begin, at);
                start = key.to_vec();
            }
            if !full {
                break;
            }
            start.push(0);
        }
    }
    Ok(HistoryPage { bytes: page.into_bytes(), first: from, next })
}

/// One event of the run, decoded. That it is not there is a fault: whoever asks has its id from a row.
pub fn event<R: StateReader + ?Sized>(reader: &R, run: &RunKey, id: EventId) -> StateResult<HistoryEvent> {
    let page = history(reader, run, id, EventId(id.0 + 1), 1, usize::MAX)?;
    let events = History::decode(page.bytes).map_err(|e| corrupt(&e.to_string()))?.events;
    events.into_iter().next().ok_or_else(|| corrupt("an event that a row names is not there"))
}

/// Events with an id below `below`, the newest first, bounded as in [`history`].
pub fn history_reverse<R: StateReader + ?Sized>(
    reader: &R,
    run: &RunKey,
    below: EventId,
    events_max: usize,
    bytes_max: usize,
) -> StateResult<HistoryPage> {
    let slot = run.slot();
    let mut page = Page::new(events_max, bytes_max);
    let mut next = below;
    let start = keys::run(run);
    let mut end = keys::run_event(run, below);
    'read: loop {
        let batches = reader.range_reverse(slot, Table::History, &start, &end, CHUNK)?;
        let full = batches.len() == CHUNK;
        for (key, batch) in batches {
            let first = first_event(&key)?;
            let mut frames = Vec::new();
            let mut at = 0;
            while at < batch.len() {
                let frame = frame_bytes(&batch[at..])?;
                frames.push((at, frame));
                at += frame;
            }
            for (place, (at, frame)) in frames.into_iter().enumerate().rev() {
                let id = EventId(first.0 + place as i64);
                if id >= next {
                    continue;
                }
                if !page.has_room(frame) {
                    break 'read;
                }
                page.take(&batch, Some(at), at + frame);
                next = id;
            }
            end = key.to_vec();
        }
        if !full {
            break;
        }
    }
    Ok(HistoryPage { bytes: page.into_bytes(), first: next, next })
}

/// Key of the batch that holds the event, or of where it would begin.
fn batch_of<R: StateReader + ?Sized>(reader: &R, run: &RunKey, event: EventId) -> StateResult<Vec<u8>> {
    let own = keys::run_event(run, event);
    let behind = keys::run_event(run, EventId(event.0.saturating_add(1)));
    let found = reader.range_reverse(run.slot(), Table::History, &keys::run(run), &behind, 1)?;
    Ok(found.into_iter().next().map_or(own, |(key, _)| key.to_vec()))
}

/// The id at the end of a batch's key.
fn first_event(key: &[u8]) -> StateResult<EventId> {
    let id = key.last_chunk::<8>().ok_or_else(|| corrupt("a batch's key is too short"))?;
    Ok(EventId(i64::from_be_bytes(*id)))
}

/// One event out of a batch whose first event is `first`; its payloads stay slices of the batch.
pub(crate) fn event_of(batch: &Bytes, first: EventId, id: EventId) -> StateResult<HistoryEvent> {
    let mut at = 0;
    for _ in first.0..id.0 {
        at += frame_bytes(&batch[at..])?;
    }
    let end = at + frame_bytes(&batch[at..])?;
    let mut frame = batch.slice(at + 1..end);
    HistoryEvent::decode_length_delimited(&mut frame).map_err(|e| corrupt(&e.to_string()))
}

/// Length of the frame at the head of `bytes`: its tag, its length and its event.
fn frame_bytes(bytes: &[u8]) -> StateResult<usize> {
    const FRAME: u8 = 0x0a;
    if bytes.first() != Some(&FRAME) {
        return Err(corrupt("a batch holds something other than events"));
    }
    let mut rest = &bytes[1..];
    let event = prost::decode_length_delimiter(&mut rest).map_err(|e| corrupt(&e.to_string()))?;
    if rest.remaining() < event {
        return Err(corrupt("a batch ends within an event"));
    }
    Ok(bytes.len() - rest.len() + event)
}

fn corrupt(reason: &str) -> StateFault {
    StateFault::Corrupt { table: Table::History, reason: reason.to_owned() }
}

/// What has been gathered: a page of one slice copies nothing.
struct Page {
    events_left: usize,
    bytes_left: usize,
    events: usize,
    slices: Vec<Bytes>,
}

impl Page {
    fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events_left: events_max.max(1), bytes_left: bytes_max, events: 0, slices: Vec::new() }
    }

    /// Counts one more event, or says that it does not fit. The first always does.
    fn has_room(&mut self, frame: usize) -> bool {
        if self.events > 0 && (self.events_left == 0 || self.bytes_left < frame) {
            return false;
        }
        self.events += 1;
        self.events_left = self.events_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(frame);
        true
    }

    fn take(&mut self, batch: &Bytes, begin: Option<usize>, end: usize) {
        if let Some(begin) = begin.filter(|begin| *begin < end) {
            self.slices.push(batch.slice(begin..end));
        }
    }

    fn into_bytes(mut self) -> Bytes {
        if self.slices.len() == 1 {
            return self.slices.swap_remove(0);
        }
        let mut all = BytesMut::with_capacity(self.slices.iter().map(Bytes::len).sum());
        for slice in &self.slices {
            all.extend_from_slice(slice);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
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
}
