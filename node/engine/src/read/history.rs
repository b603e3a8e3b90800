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
mod tests;
