//! Summaries of stretches of closed records: the least and the largest value of each attribute in about [`RECORDS`] records that stand
//! together, so that a walk in search of old or rare ones passes over those that cannot match.
//!
//! ```text
//! Table::VisibilityStretch   space, time of its oldest close (latest first) -> StretchRow
//! ```
//!
//! A record belongs to the stretch with the latest beginning that is not after its close. Things close in the order of the group's
//! clock, so a stretch grows at its young end until it is full, and then the next one begins. A record that is taken out does not
//! narrow its stretch; the last one takes the stretch along.
//!
//! Never: a value of a record outside the bounds of its stretch. Bounds may be wider than needed: that costs time only.
//!
//! Called by [`super::put`] and [`super::remove`] by way of [`crate::transaction::Transaction`]; read by [`crate::read::visibility`].

use bytes::Bytes;
use prost::Message;
use stanchion_proto::row::{StretchBounds, StretchRow, VisibilityRow};

use super::filter::System;
use super::index;
use super::keys::{self, Space, closed_until};
use crate::keys::after as next_prefix;
use crate::state::{ShardState, StateResult, Table};
use crate::transaction::decode;
use crate::types::Slot;

/// Records after which the next stretch begins.
pub const RECORDS: u32 = 256;
/// Bounds are cut to this: a lower one is then below what it was, an upper one stands for all that begin with it.
const BOUND_BYTES: usize = 24;
/// Attributes with bounds; of a stretch whose records have more, nothing is known about the others.
const FIELDS_MAX: usize = 48;
/// Made at random, so that bounds would say nothing.
const WITHOUT_BOUNDS: [u8; 3] = [System::RunId as u8, System::ParentRunId as u8, System::RootRunId as u8];

/// What happens to the stretch that a place in the order of lists belongs to.
#[derive(Debug)]
pub(crate) struct Change {
    space: Space,
    closed_at: i64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A record with these values takes its place, or had it already and has other values now.
    Holds {
        values: StretchRow,
        is_new: bool,
    },
    Loses,
}

impl Change {
    /// The record, which is closed, stands in its place from now on.
    pub fn holds(space: Space, row: &VisibilityRow, is_new: bool) -> Self {
        let mut values = StretchRow { latest: row.closed_at, records: 1, ..Default::default() };
        index::each_value(row, |field, value| {
            let bound = Bytes::copy_from_slice(cut(value));
            widen(&mut values, StretchBounds { field: field.to_vec().into(), least: bound.clone(), most: bound });
        });
        Self { space, closed_at: row.closed_at, kind: Kind::Holds { values, is_new } }
    }

    /// A record that closed then is taken out.
    pub fn loses(space: Space, closed_at: i64) -> Self {
        Self { space, closed_at, kind: Kind::Loses }
    }

    pub fn apply(self, state: &mut dyn ShardState, home: Slot) -> StateResult<()> {
        const TABLE: Table = Table::VisibilityStretch;
        let own = keys::record(&self.space, &closed_until(self.closed_at));
        let found = state.range(home, TABLE, &own, &next_prefix(self.space.bytes()), 1)?.pop();
        let found = found.map(|(key, row)| Ok((key, decode::<StretchRow>(TABLE, row)?))).transpose()?;
        match (self.kind, found) {
            (Kind::Holds { values, is_new }, Some((key, mut row)))
                if !is_new || row.records < RECORDS || self.closed_at <= row.latest =>
            {
                row.records += u32::from(is_new);
                row.latest = row.latest.max(values.latest);
                row.is_cut |= values.is_cut;
                values.bounds.into_iter().for_each(|bounds| widen(&mut row, bounds));
                state.put(home, TABLE, &key, row.encode_to_vec().into());
            }
            (Kind::Holds { values, is_new: true }, _) => state.put(home, TABLE, &own, values.encode_to_vec().into()),
            (Kind::Loses, Some((key, mut row))) if row.records > 1 => {
                row.records -= 1;
                state.put(home, TABLE, &key, row.encode_to_vec().into());
            }
            (Kind::Loses, Some((key, _))) => state.delete(home, TABLE, &key),
            // A record in no stretch, which walks always look at.
            (Kind::Holds { .. } | Kind::Loses, _) => {}
        }
        Ok(())
    }
}

/// Whether a record of the stretch may have a value of this attribute that is `low` or more and below `high` (empty: no end).
pub(crate) fn may_hold(row: &StretchRow, field: &[u8], low: &[u8], high: &[u8]) -> bool {
    if matches!(field, [system] if WITHOUT_BOUNDS.contains(system)) {
        return true;
    }
    match row.bounds.binary_search_by(|bounds| (*bounds.field).cmp(field)) {
        Ok(place) => {
            let StretchBounds { least, most, .. } = &row.bounds[place];
            cut(low) <= most && (high.is_empty() || **least <= *cut(high))
        }
        Err(_) => row.is_cut,
    }
}

fn widen(row: &mut StretchRow, more: StretchBounds) {
    if matches!(*more.field, [system] if WITHOUT_BOUNDS.contains(&system)) {
        return;
    }
    match row.bounds.binary_search_by(|bounds| bounds.field.cmp(&more.field)) {
        Ok(place) => {
            let bounds = &mut row.bounds[place];
            bounds.least = std::mem::take(&mut bounds.least).min(more.least);
            bounds.most = std::mem::take(&mut bounds.most).max(more.most);
        }
        Err(place) if row.bounds.len() < FIELDS_MAX => row.bounds.insert(place, more),
        Err(_) => row.is_cut = true,
    }
}

fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(BOUND_BYTES)]
}
