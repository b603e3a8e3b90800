//! One group's part of a list or a count, from its records, index rows and counters.
//!
//! A list has a fixed order (open first, then the latest close), so a page is the first records behind a position that the filter
//! selects. Open records are few and have no index: they are walked over. Closed ones are found by a [`plan`].
//!
//! Never: a wrong page to save work. A query that must look at everything looks at everything; `keep_going` ends it when its caller
//! has gone.
//!
//! Called by the server's visibility service, on a leader, behind a ReadIndex.

mod cursor;
mod plan;
mod stretches;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use stanchion_proto::row::{RunDetailRow, VisibilityRow};

use crate::keys::{self, RunPart};
use crate::state::{StateFault, StateReader, Table};
use crate::transaction::{decode, visible_count};
use crate::types::{RunKey, Slot};
use crate::visibility::filter::{Condition, Field, System, Test, Value};
use crate::visibility::keys::{closed_until, counted_status, first_closed};
use crate::visibility::{BLOCK, Entity, Filter, Position, Space, home};
use cursor::Merged;
use plan::Plan;
use stretches::Stretches;

/// What is asked for.
pub struct Query<'a> {
    pub namespace_id: &'a str,
    pub entity: Entity,
    /// What is in a division of the namespace is looked at too.
    pub divisions: bool,
    pub filter: &'a Filter,
    /// Rows of a range that are gathered and sorted rather than met in a walk over the records: [`GATHERED_MAX`].
    pub gathered_max: usize,
    /// Asked now and then; false ends the query.
    pub keep_going: &'a dyn Fn() -> bool,
}

/// A row that is gathered costs about as much as a record that is walked over.
pub const GATHERED_MAX: usize = 4_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryFault {
    #[error(transparent)]
    State(#[from] StateFault),
    #[error("the query was given up: its time was over")]
    OutOfTime,
}

type QueryResult<T> = Result<T, QueryFault>;

/// A record in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub position: Position,
    /// The encoded record.
    pub row: Bytes,
}

/// Records looked at between two questions whether to go on.
const LOOKS: usize = 512;

/// The index home slots among slots.
pub fn homes(slots: impl IntoIterator<Item = (Slot, Slot)>) -> Vec<Slot> {
    let mut homes: Vec<Slot> = Vec::new();
    for (first, last) in slots {
        let from = home(first).0;
        homes.extend((from..=last.0).step_by(usize::from(BLOCK)).map(Slot));
    }
    homes.dedup();
    homes
}

/// The first `limit` records behind `after` (empty: from the beginning), in order.
pub fn list<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    after: &[u8],
    limit: usize,
) -> QueryResult<Vec<Entry>> {
    let mut found = Vec::new();
    walk(reader, homes, query, after, limit, &mut |mut entry, row| {
        if row.memo_with_run {
            entry.row = with_memo(reader, query, row)?;
        }
        found.push(entry);
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// The record with the memo that was too large to stand in it.
fn with_memo<R: StateReader>(reader: &R, query: &Query<'_>, row: &VisibilityRow) -> QueryResult<Bytes> {
    let run = RunKey {
        namespace_id: query.namespace_id.to_owned(),
        workflow_id: row.workflow_id.clone(),
        run_id: row.run_id.clone(),
    };
    let detail = reader.get(run.slot(), Table::Run, &keys::run_part(&run, RunPart::Detail))?;
    let detail: RunDetailRow = detail.map(|bytes| decode(Table::Run, bytes)).transpose()?.unwrap_or_default();
    let memo = detail.memo.map(|memo| memo.encode_to_vec().into()).unwrap_or_default();
    Ok(VisibilityRow { memo, ..row.clone() }.encode_to_vec().into())
}

/// How many records the filter selects: by status, or all under 0.
pub fn count<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    by_status: bool,
) -> QueryResult<BTreeMap<i32, u64>> {
    let mut counts = BTreeMap::new();
    let mut add = |status: i32, more: u64| *counts.entry(if by_status { status } else { 0 }).or_default() += more;
    if let Some(statuses) = statuses_only(query.filter) {
        for (status, count) in counters(reader, homes, query)? {
            if statuses.as_ref().is_none_or(|wanted| wanted.contains(&status)) {
                add(status, count);
            }
        }
        return Ok(counts);
    }
    if !by_status && let Some(access) = plan::covering(query.filter) {
        // The index rows alone say how many closed ones there are.
        let open = Query { keep_going: query.keep_going, ..*query };
        walk_open(reader, homes, &open, &[], usize::MAX, &mut |_, _| {
            add(0, 1);
            Ok(true)
        })?;
        let mut keys = Merged::new(reader, plan::sources(homes, query, &access, &[], &[]));
        while keys.next()?.is_some() {
            add(0, 1);
            check(query, keys.taken())?;
        }
        return Ok(counts);
    }
    walk(reader, homes, query, &[], usize::MAX, &mut |_, row| {
        add(row.status, 1);
        Ok(true)
    })?;
    Ok(counts)
}

/// Takes a selected record; false when it has enough.
type Visit<'v> = dyn FnMut(Entry, &VisibilityRow) -> QueryResult<bool> + 'v;

fn walk<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    after: &[u8],
    limit: usize,
    visit: &mut Visit<'_>,
) -> QueryResult<()> {
    let extent = plan::extent(query.filter);
    if extent.open && *after < *first_closed() && !walk_open(reader, homes, query, after, limit, visit)? {
        return Ok(());
    }
    if !extent.closed {
        return Ok(());
    }
    let from = extent.closed_from().max(behind(after));
    let to = extent.closed_to();
    if from >= to {
        return Ok(());
    }
    match plan::choose(reader, homes, query, &from, &to)? {
        Plan::Scan(wanted) => {
            let mut records = plan::records(homes, query, &from, &to, limit);
            if !wanted.is_empty() {
                records.iter_mut().for_each(|source| source.passed_over = Some(Stretches::new(wanted.clone())));
            }
            scan(query, &mut Merged::new(reader, records), visit)?;
        }
        Plan::Gathered(candidates) => {
            for (looked, (position, slot, space)) in candidates.into_iter().enumerate() {
                check(query, looked)?;
                if !look(reader, query, slot, &space, position, visit)? {
                    break;
                }
            }
        }
        Plan::Streamed(access) => {
            let mut keys = Merged::new(reader, plan::sources(homes, query, &access, &from, &to));
            let mut last = Position::new();
            while let Some(item) = keys.next()? {
                check(query, keys.taken())?;
                // The same record under two values.
                if item.position == last {
                    continue;
                }
                last.clone_from(&item.position);
                if !look(reader, query, item.slot, &item.space, item.position, visit)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn walk_open<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    after: &[u8],
    limit: usize,
    visit: &mut Visit<'_>,
) -> QueryResult<bool> {
    let records = plan::records(homes, query, &behind(after), &first_closed(), limit);
    scan(query, &mut Merged::new(reader, records), visit)
}

/// False when the visitor has enough.
fn scan<R: StateReader>(query: &Query<'_>, records: &mut Merged<'_, R>, visit: &mut Visit<'_>) -> QueryResult<bool> {
    while let Some(item) = records.next()? {
        check(query, records.taken())?;
        let row: VisibilityRow = decode(Table::VisibilityRecord, item.value.clone())?;
        if query.filter.selects(&row) && !visit(Entry { position: item.position, row: item.value }, &row)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A candidate that an index row named.
fn look<R: StateReader>(
    reader: &R,
    query: &Query<'_>,
    slot: Slot,
    space: &Space,
    position: Position,
    visit: &mut Visit<'_>,
) -> QueryResult<bool> {
    let key = crate::visibility::keys::record(space, &position);
    // Gone between the two reads.
    let Some(bytes) = reader.get(slot, Table::VisibilityRecord, &key)? else { return Ok(true) };
    let row: VisibilityRow = decode(Table::VisibilityRecord, bytes.clone())?;
    if !query.filter.selects(&row) {
        return Ok(true);
    }
    visit(Entry { position, row: bytes }, &row)
}

fn check(query: &Query<'_>, looked: usize) -> QueryResult<()> {
    if looked % LOOKS == LOOKS - 1 && !(query.keep_going)() { Err(QueryFault::OutOfTime) } else { Ok(()) }
}

/// The least position behind this one.
fn behind(after: &[u8]) -> Position {
    if after.is_empty() { Position::new() } else { [after, &[0]].concat() }
}

fn counters<R: StateReader>(reader: &R, homes: &[Slot], query: &Query<'_>) -> QueryResult<Vec<(i32, u64)>> {
    let mut counts = Vec::new();
    for home in homes {
        for space in plan::spaces(query) {
            let from = space.bytes();
            let rows = reader.range(*home, Table::VisibilityCount, from, &keys::after(from), usize::MAX)?;
            for (key, value) in rows {
                counts.push((counted_status(&key).unwrap_or_default(), visible_count(Some(value))?));
            }
        }
    }
    Ok(counts)
}

/// The statuses that a filter wants if it looks at nothing else; `Some(None)` where it wants all.
fn statuses_only(filter: &Filter) -> Option<Option<Vec<i32>>> {
    let numbers = |values: &[Value]| -> Option<Vec<i32>> {
        let number = |value: &Value| match value {
            Value::Number(number) => i32::try_from(*number).ok(),
            _ => None,
        };
        values.iter().map(number).collect()
    };
    match filter {
        Filter::All => Some(None),
        Filter::Is(Condition { field: Field::System(System::ExecutionStatus), test }) => match test {
            Test::Equal(value) => numbers(std::slice::from_ref(value)).map(Some),
            Test::In(values) => numbers(values).map(Some),
            _ => None,
        },
        Filter::Is(Condition { field: Field::System(System::CloseTime), test: Test::IsNull }) => {
            Some(Some(plan::OPEN.to_vec()))
        }
        _ => None,
    }
}

/// For [`plan`]: positions of what closed at this microsecond or before.
fn closed_until_micros(micros: i64) -> Position {
    closed_until(micros.saturating_mul(1000).saturating_add(999))
}
