//! Which parts of a walk over closed records are worth it, by the bounds that stretches of them have.
//!
//! Called by [`super::cursor`]; the bounds are kept by [`crate::visibility::stretch`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use stanchion_proto::row::StretchRow;

use super::plan::Access;
use crate::keys::after as next_prefix;
use crate::state::{StateReader, StateResult, Table};
use crate::transaction::decode;
use crate::types::Slot;
use crate::visibility::Space;
use crate::visibility::stretch::may_hold;

const CHUNK_MIN: usize = 4;
const CHUNK_MAX: usize = 256;

/// Keys of records: from (inclusive) and to (exclusive).
pub(super) struct Part {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

/// The stretches of one home and space, read as the walk goes on.
pub(super) struct Stretches {
    /// All of these must be possible in a stretch.
    wanted: Arc<[Access]>,
    rows: VecDeque<(Bytes, Bytes)>,
    chunk: usize,
    /// Behind the last stretch, where all is read.
    at_end: bool,
    /// How far the walk may read before it asks again.
    until: Vec<u8>,
}

impl Stretches {
    pub fn new(wanted: Arc<[Access]>) -> Self {
        Self { wanted, rows: VecDeque::new(), chunk: CHUNK_MIN, at_end: false, until: Vec::new() }
    }

    /// The next keys worth reading at `from` or behind; none if there are none before `to`.
    pub fn next_part<R: StateReader>(
        &mut self,
        reader: &R,
        home: Slot,
        space: &Space,
        from: &[u8],
        to: &[u8],
    ) -> StateResult<Option<Part>> {
        let mut from = from.to_vec();
        while self.until <= from {
            if &*from >= to {
                return Ok(None);
            }
            match self.next_stretch(reader, home, space, &from)? {
                None => self.until = to.to_vec(),
                Some((key, row)) => {
                    // Records of a stretch end with its oldest close.
                    let end = next_prefix(&key).min(to.to_vec());
                    if self.wanted.iter().all(|access| is_possible(access, &row)) {
                        self.until = end;
                    } else {
                        from = from.max(end);
                    }
                }
            }
        }
        Ok(Some(Part { from, to: self.until.clone() }))
    }

    fn next_stretch<R: StateReader>(
        &mut self,
        reader: &R,
        home: Slot,
        space: &Space,
        from: &[u8],
    ) -> StateResult<Option<(Bytes, StretchRow)>> {
        const TABLE: Table = Table::VisibilityStretch;
        if self.rows.is_empty() && !self.at_end {
            // The stretch that holds a place is the first one whose key is not before the close in it.
            let first = &from[..from.len().min(space.bytes().len() + 8)];
            let rows = reader.range(home, TABLE, first, &next_prefix(space.bytes()), self.chunk)?;
            self.at_end = rows.len() < self.chunk;
            self.chunk = (self.chunk * 4).min(CHUNK_MAX);
            self.rows = rows.into();
        }
        self.rows.pop_front().map(|(key, row)| Ok((key, decode(TABLE, row)?))).transpose()
    }
}

fn is_possible(access: &Access, row: &StretchRow) -> bool {
    match access {
        Access::Exact(values) => values.iter().any(|(field, value)| may_hold(row, field, value, &next_prefix(value))),
        Access::Ranges(ranges) => ranges.iter().any(|(field, low, high)| may_hold(row, field, low, high)),
    }
}
