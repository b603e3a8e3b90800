//! Rows of several ranges, merged into the order of lists. Each range is read in chunks that grow, so that a page costs a few rows of
//! each and a long walk few seeks. Of records that stretches summarise, those that cannot be wanted are passed over.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;

use super::stretches::Stretches;
use crate::state::{StateReader, StateResult, Table};
use crate::types::Slot;
use crate::visibility::{Position, Space};

const CHUNK_MIN: usize = 8;
const CHUNK_MAX: usize = 1024;

/// One range of rows whose keys end with a position, in the order of positions.
pub(super) struct Source {
    pub slot: Slot,
    pub space: Space,
    pub table: Table,
    /// Where the position begins in the keys.
    pub prefix_bytes: usize,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    /// Rows that are likely to be wanted.
    pub first_chunk: usize,
    /// What of the range need not be read.
    pub passed_over: Option<Stretches>,
}

pub(super) struct Item {
    pub position: Position,
    pub slot: Slot,
    pub space: Space,
    pub value: Bytes,
}

struct Cursor {
    source: Source,
    rows: VecDeque<(Bytes, Bytes)>,
    chunk: usize,
    at_end: bool,
}

impl Cursor {
    fn read<R: StateReader>(&mut self, reader: &R) -> StateResult<()> {
        let Source { slot, space, table, from, to, passed_over, .. } = &mut self.source;
        let until = match passed_over {
            None => to.clone(),
            Some(stretches) => match stretches.next_part(reader, *slot, space, from, to)? {
                None => {
                    self.at_end = true;
                    return Ok(());
                }
                Some(part) => {
                    *from = part.from;
                    part.to
                }
            },
        };
        let rows = reader.range(*slot, *table, from, &until, self.chunk)?;
        let is_whole = rows.len() < self.chunk;
        self.at_end = is_whole && until == *to;
        self.chunk = (self.chunk * 2).min(CHUNK_MAX);
        match rows.last() {
            _ if is_whole => *from = until,
            Some((last, _)) => *from = [last, &[0][..]].concat(),
            None => {}
        }
        self.rows = rows.into();
        Ok(())
    }
}

/// See the module.
pub(super) struct Merged<'r, R> {
    reader: &'r R,
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Reverse<(Bytes, usize)>>,
    is_begun: bool,
    taken: usize,
}

impl<'r, R: StateReader> Merged<'r, R> {
    pub fn new(reader: &'r R, sources: Vec<Source>) -> Self {
        let cursor = |source: Source| Cursor {
            chunk: source.first_chunk.clamp(CHUNK_MIN, CHUNK_MAX),
            source,
            rows: VecDeque::new(),
            at_end: false,
        };
        let cursors = sources.into_iter().map(cursor).collect();
        Self { reader, cursors, heads: BinaryHeap::new(), is_begun: false, taken: 0 }
    }

    /// How many rows were given so far.
    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn next(&mut self) -> StateResult<Option<Item>> {
        if !std::mem::replace(&mut self.is_begun, true) {
            for at in 0..self.cursors.len() {
                self.show_head(at)?;
            }
        }
        let Some(Reverse((position, at))) = self.heads.pop() else { return Ok(None) };
        let cursor = &mut self.cursors[at];
        let value = cursor.rows.pop_front().map(|(_, value)| value).unwrap_or_default();
        let (slot, space) = (cursor.source.slot, cursor.source.space.clone());
        self.show_head(at)?;
        self.taken += 1;
        Ok(Some(Item { position: position.to_vec(), slot, space, value }))
    }

    fn show_head(&mut self, at: usize) -> StateResult<()> {
        let cursor = &mut self.cursors[at];
        while cursor.rows.is_empty() && !cursor.at_end {
            cursor.read(self.reader)?;
        }
        if let Some((key, _)) = cursor.rows.front() {
            self.heads.push(Reverse((key.slice(cursor.source.prefix_bytes..), at)));
        }
        Ok(())
    }
}
