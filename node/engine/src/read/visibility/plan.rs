//! How the closed records that a filter selects are found.
//!
//! ```text
//! one condition names values (=, IN, a word)   its index rows, which stand in the order of lists: streamed
//! … and another one is rarer                   the rarer one's rows, gathered and sorted
//! a range (<, BETWEEN, STARTS_WITH, !=)        its rows if they are at most `gathered_max`: gathered and sorted
//! else                                         the records themselves, in order: what a range with many rows selects is met soon,
//!                                              and stretches that have nothing in the range are passed over
//! ```
//!
//! Whatever the plan, the whole filter is asked of each record, so a plan decides about time only.

use std::sync::Arc;

use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};

use super::cursor::{Merged, Source};
use super::{Query, QueryResult, check, closed_until_micros};
use crate::keys::after as next_prefix;
use crate::state::{StateReader, Table};
use crate::types::Slot;
use crate::visibility::filter::{Condition, Field, Filter, System, Test, Value};
use crate::visibility::keys::{self, FieldKey, TEXT_BYTES_MAX, closed_until, first_closed};
use crate::visibility::{Position, Space};

/// Rows of a value up to which it is taken before another one.
const RARE_MAX: usize = 2_000;

/// Statuses of what is open.
pub(super) const OPEN: [i32; 2] = [WorkflowExecutionStatus::Running as i32, WorkflowExecutionStatus::Paused as i32];

pub(super) enum Plan {
    /// Walk over the records, but for stretches in which one of these cannot be.
    Scan(Arc<[Access]>),
    /// Index rows of exact values, in order.
    Streamed(Access),
    /// These candidates, in order.
    Gathered(Vec<(Position, Slot, Space)>),
}

/// Index rows that name every record that a condition selects.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// Each with a field and a value: their rows are in the order of lists.
    Exact(Vec<(FieldKey, Vec<u8>)>),
    /// Each with a field and from (inclusive) and to (exclusive; empty: no end) of its values.
    Ranges(Vec<(FieldKey, Vec<u8>, Vec<u8>)>),
}

/// Which part of the order a filter can select from at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub open: bool,
    pub closed: bool,
    /// Close times in microseconds, both inclusive.
    oldest: i64,
    latest: i64,
}

const EVERYWHERE: Extent = Extent { open: true, closed: true, oldest: i64::MIN, latest: i64::MAX };

impl Extent {
    fn and(self, other: Self) -> Self {
        Self {
            open: self.open && other.open,
            closed: self.closed && other.closed,
            oldest: self.oldest.max(other.oldest),
            latest: self.latest.min(other.latest),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            open: self.open || other.open,
            closed: self.closed || other.closed,
            oldest: self.oldest.min(other.oldest),
            latest: self.latest.max(other.latest),
        }
    }

    /// The first position of closed records in it.
    pub fn closed_from(&self) -> Position {
        if self.latest == i64::MAX { first_closed() } else { closed_until_micros(self.latest).max(first_closed()) }
    }

    /// The first position behind it.
    pub fn closed_to(&self) -> Position {
        match self.oldest {
            i64::MIN => vec![0xff; 9],
            oldest => closed_until(oldest.saturating_mul(1000).saturating_sub(1)),
        }
    }
}

pub(super) fn extent(filter: &Filter) -> Extent {
    match filter {
        Filter::All => EVERYWHERE,
        Filter::And(parts) => parts.iter().map(extent).fold(EVERYWHERE, Extent::and),
        Filter::Or(parts) => parts.iter().map(extent).reduce(Extent::or).unwrap_or(EVERYWHERE),
        Filter::Not(part) => match &**part {
            // Unknown for what is open, and its negation too; and "is not null" is for the closed ones.
            Filter::Is(Condition { field: Field::System(system), .. }) if system.only_when_closed() => {
                Extent { open: false, ..EVERYWHERE }
            }
            Filter::Is(condition) => statuses(condition).map_or(EVERYWHERE, |(open, closed)| Extent {
                // A filter of only open ones, negated, has the closed ones and the other way round.
                open: !open || closed,
                closed: true,
                ..EVERYWHERE
            }),
            _ => EVERYWHERE,
        },
        Filter::Is(condition) => {
            if let Some((open, closed)) = statuses(condition) {
                return Extent { open, closed, ..EVERYWHERE };
            }
            match (&condition.field, &condition.test) {
                (Field::System(system), Test::IsNull) if system.only_when_closed() => {
                    Extent { closed: false, ..EVERYWHERE }
                }
                (Field::System(System::CloseTime), test) => close_times(test),
                (Field::System(system), _) if system.only_when_closed() => Extent { open: false, ..EVERYWHERE },
                _ => EVERYWHERE,
            }
        }
    }
}

fn close_times(test: &Test) -> Extent {
    let closed = Extent { open: false, ..EVERYWHERE };
    match test {
        Test::Equal(Value::Number(at)) => Extent { oldest: *at, latest: *at, ..closed },
        Test::Less(Value::Number(at)) => Extent { latest: at.saturating_sub(1), ..closed },
        Test::LessOrEqual(Value::Number(at)) => Extent { latest: *at, ..closed },
        Test::Greater(Value::Number(at)) => Extent { oldest: at.saturating_add(1), ..closed },
        Test::GreaterOrEqual(Value::Number(at)) => Extent { oldest: *at, ..closed },
        Test::Between(Value::Number(from), Value::Number(to)) => Extent { oldest: *from, latest: *to, ..closed },
        _ => closed,
    }
}

/// Whether a condition on the status lets open and closed ones through; none for other conditions.
fn statuses(condition: &Condition) -> Option<(bool, bool)> {
    if condition.field != Field::System(System::ExecutionStatus) {
        return None;
    }
    let values = match &condition.test {
        Test::Equal(value) => std::slice::from_ref(value),
        Test::In(values) => values,
        _ => return None,
    };
    let is_open = |value: &Value| OPEN.iter().any(|status| *value == Value::Number(i64::from(*status)));
    Some((values.iter().any(is_open), values.iter().any(|value| !is_open(value))))
}

/// The spaces that a query looks at.
pub(super) fn spaces(query: &Query<'_>) -> Vec<Space> {
    match query.divisions {
        true => Space::all(query.namespace_id, query.entity).to_vec(),
        false => vec![Space::plain(query.namespace_id, query.entity)],
    }
}

/// Records between two positions.
pub(super) fn records(homes: &[Slot], query: &Query<'_>, from: &[u8], to: &[u8], limit: usize) -> Vec<Source> {
    let spaces = spaces(query);
    let likely = limit.min(1 << 20) / homes.len().max(1) + 1;
    let source = |slot: &Slot, space: &Space| Source {
        slot: *slot,
        space: space.clone(),
        table: Table::VisibilityRecord,
        prefix_bytes: space.bytes().len(),
        from: keys::record(space, from),
        to: keys::record(space, to),
        first_chunk: likely,
        passed_over: None,
    };
    homes.iter().flat_map(|slot| spaces.iter().map(move |space| source(slot, space))).collect()
}

/// Index rows of an access; of exact ones, those between two positions (an empty `to`: to the end).
pub(super) fn sources(homes: &[Slot], query: &Query<'_>, access: &Access, from: &[u8], to: &[u8]) -> Vec<Source> {
    let mut sources = Vec::new();
    for slot in homes {
        for space in spaces(query) {
            let mut add = |prefix: Vec<u8>, from: Vec<u8>, to: Vec<u8>| {
                let (slot, space, prefix_bytes) = (*slot, space.clone(), prefix.len());
                sources.push(Source {
                    slot,
                    space,
                    table: Table::Index,
                    prefix_bytes,
                    from,
                    to,
                    first_chunk: 0,
                    passed_over: None,
                });
            };
            match access {
                Access::Exact(values) => values.iter().for_each(|(field, value)| {
                    let prefix = [space.bytes(), field, value].concat();
                    let end = if to.is_empty() { next_prefix(&prefix) } else { [&prefix, to].concat() };
                    add(prefix.clone(), [&prefix, from].concat(), end);
                }),
                Access::Ranges(ranges) => ranges.iter().for_each(|(field, low, high)| {
                    let prefix = [space.bytes(), field].concat();
                    let end = if high.is_empty() { next_prefix(&prefix) } else { [&prefix[..], high].concat() };
                    add(prefix.clone(), [&prefix[..], low].concat(), end);
                }),
            }
        }
    }
    sources
}

/// Decides how to go about the closed records between two positions.
pub(super) fn choose<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    from: &[u8],
    to: &[u8],
) -> QueryResult<Plan> {
    let accesses: Vec<Access> = query.filter.conjuncts().iter().filter_map(access).collect();
    if let [only @ Access::Exact(_)] = accesses.as_slice() {
        return Ok(Plan::Streamed(only.clone()));
    }
    // A lone range is gathered as far as it may be at once.
    let lone = accesses.len() == 1;
    let mut most = if lone { query.gathered_max } else { RARE_MAX.min(query.gathered_max) };
    let mut rarest = None;
    for access in &accesses {
        if let Some(candidates) = gather(reader, homes, query, access, from, to, most)? {
            most = candidates.len();
            rarest = Some(candidates);
        }
    }
    if let Some(candidates) = rarest {
        return Ok(Plan::Gathered(candidates));
    }
    if let Some(exact) = accesses.iter().find(|access| matches!(access, Access::Exact(_))) {
        return Ok(Plan::Streamed(exact.clone()));
    }
    for access in accesses.iter().filter(|_| !lone) {
        if let Some(candidates) = gather(reader, homes, query, access, from, to, query.gathered_max)? {
            return Ok(Plan::Gathered(candidates));
        }
    }
    Ok(Plan::Scan(accesses.into()))
}

/// All candidates of an access in order, unless they are more than `most`.
fn gather<R: StateReader>(
    reader: &R,
    homes: &[Slot],
    query: &Query<'_>,
    access: &Access,
    from: &[u8],
    to: &[u8],
    most: usize,
) -> QueryResult<Option<Vec<(Position, Slot, Space)>>> {
    let mut candidates = Vec::new();
    let mut seen = 0;
    for source in sources(homes, query, access, &[], &[]) {
        let (slot, space) = (source.slot, source.space.clone());
        let is_exact = matches!(access, Access::Exact(_));
        let mut rows = Merged::new(reader, vec![source]);
        while let Some(item) = rows.next()? {
            seen += 1;
            check(query, seen)?;
            if seen > most {
                return Ok(None);
            }
            let position = if is_exact { item.position } else { position_behind(access, item.position) };
            if *position >= *from && *position < *to {
                candidates.push((position, slot, space.clone()));
            }
        }
    }
    candidates.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    candidates.dedup_by(|a, b| a.0 == b.0);
    Ok(Some(candidates))
}

/// The position behind the value in what follows the field of an index row's key.
fn position_behind(access: &Access, rest: Vec<u8>) -> Position {
    let is_text = match access {
        Access::Ranges(ranges) => ranges.first().is_some_and(|(field, ..)| is_text_field(field)),
        Access::Exact(_) => false,
    };
    if !is_text {
        return rest.get(8..).unwrap_or_default().to_vec();
    }
    // A text ends with two zeros; a zero within is followed by 0xff.
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            (0, 0) => return rest[at + 2..].to_vec(),
            (0, _) => at += 2,
            _ => at += 1,
        }
    }
    Position::new()
}

fn is_text_field(field: &[u8]) -> bool {
    match field.first() {
        Some(kind) if kind & 0x80 != 0 => matches!(
            IndexedValueType::try_from(i32::from(kind & 0x7f)),
            Ok(IndexedValueType::Text | IndexedValueType::Keyword | IndexedValueType::KeywordList)
        ),
        Some(number) => {
            let system = System::ALL.into_iter().find(|system| *system as u8 == *number);
            system.is_some_and(|system| is_text(&Field::System(system)))
        }
        None => false,
    }
}

fn is_text(field: &Field) -> bool {
    use System::*;
    match field {
        Field::Named { kind, .. } => {
            matches!(kind, IndexedValueType::Text | IndexedValueType::Keyword | IndexedValueType::KeywordList)
        }
        Field::System(system) => matches!(
            system,
            WorkflowId | RunId | WorkflowType | TaskQueue | ParentWorkflowId | ParentRunId | RootWorkflowId | RootRunId
        ),
    }
}

/// The index rows that answer a whole filter by themselves: each selected record has one, and no other record has.
pub(super) fn covering(filter: &Filter) -> Option<Access> {
    let Filter::Is(Condition { field, test: Test::Equal(value) }) = filter else { return None };
    match access(filter)? {
        Access::Exact(values) if values.len() == 1 && !is_cut(value) && !shown_elsewhere(field) => {
            Some(Access::Exact(values))
        }
        _ => None,
    }
}

/// Records whose value is that of another attribute have no row of this one.
fn shown_elsewhere(field: &Field) -> bool {
    use System::*;
    matches!(field, Field::System(ExecutionTime | RootWorkflowId | RootRunId))
}

/// Fields whose index rows have the field's values.
fn fields(field: &Field) -> Vec<FieldKey> {
    let own = field.key();
    let other = match field {
        Field::System(System::ExecutionTime) => System::StartTime,
        Field::System(System::RootWorkflowId) => System::WorkflowId,
        Field::System(System::RootRunId) => System::RunId,
        _ => return vec![own],
    };
    vec![own, keys::system_field(other as u8)]
}

/// None where no index rows name all that the filter selects.
fn access(filter: &Filter) -> Option<Access> {
    match filter {
        Filter::All => None,
        Filter::Is(condition) => of_condition(condition),
        Filter::Not(part) => match &**part {
            Filter::Is(condition) => of_negation(condition),
            _ => None,
        },
        Filter::And(parts) => {
            let mut accesses: Vec<Access> = parts.iter().filter_map(access).collect();
            let exact = accesses.iter().position(|access| matches!(access, Access::Exact(_))).unwrap_or(0);
            (!accesses.is_empty()).then(|| accesses.swap_remove(exact))
        }
        Filter::Or(parts) => {
            let mut all = Vec::new();
            for part in parts {
                match access(part)? {
                    Access::Exact(values) => all.extend(values),
                    Access::Ranges(_) => return None,
                }
            }
            Some(Access::Exact(all))
        }
    }
}

fn of_condition(condition: &Condition) -> Option<Access> {
    let Condition { field, test } = condition;
    if *field == Field::System(System::CloseTime) {
        // The records are in its order.
        return None;
    }
    let exact = |values: &[Value]| {
        let pairs = fields(field)
            .into_iter()
            .flat_map(|field| values.iter().filter_map(move |value| Some((field.clone(), encoded(value)?))));
        Some(Access::Exact(pairs.collect()))
    };
    let range = |low: Option<&Value>, high: Option<Vec<u8>>| {
        let low = low.and_then(encoded).unwrap_or_default();
        let high = high.unwrap_or_default();
        Some(Access::Ranges(fields(field).into_iter().map(|f| (f, low.clone(), high.clone())).collect()))
    };
    match test {
        Test::Equal(value) => exact(std::slice::from_ref(value)),
        Test::In(values) => exact(values),
        // Of a text that is cut in index rows, those that share its beginning may be less.
        Test::Less(value) if is_cut(value) => range(None, encoded(value).map(|value| next_prefix(&value))),
        Test::Less(value) => range(None, encoded(value)),
        Test::LessOrEqual(value) => range(None, encoded(value).map(|value| next_prefix(&value))),
        Test::Greater(value) | Test::GreaterOrEqual(value) => range(Some(value), None),
        Test::Between(from, to) => range(Some(from), encoded(to).map(|value| next_prefix(&value))),
        Test::StartsWith(prefix) if prefix.is_empty() => range(None, None),
        Test::StartsWith(prefix) => {
            let low = keys::text_prefix(prefix);
            let high = next_prefix(&low);
            Some(Access::Ranges(fields(field).into_iter().map(|f| (f, low.clone(), high.clone())).collect()))
        }
        Test::Contains(phrases) => {
            let first = phrases.iter().map(|phrase| phrase.first().map(|word| Value::Text(word.clone())));
            exact(&first.collect::<Option<Vec<_>>>()?)
        }
        Test::IsNull => None,
    }
}

/// What is not so, where that cannot be what has no value.
fn of_negation(condition: &Condition) -> Option<Access> {
    let Condition { field, test } = condition;
    if *field == Field::System(System::CloseTime) || shown_elsewhere(field) {
        return None;
    }
    let whole = (field.key(), Vec::new(), Vec::new());
    match test {
        Test::IsNull => Some(Access::Ranges(vec![whole])),
        // What has no words, or is in no list, is selected too.
        _ if field.is_many() => None,
        Test::Equal(value) if is_cut(value) => None,
        Test::Equal(value) => {
            let value = encoded(value)?;
            let behind = next_prefix(&value);
            let low = (field.key(), Vec::new(), value);
            if behind.is_empty() {
                return Some(Access::Ranges(vec![low]));
            }
            // A range with an empty end has no end, so nothing is below the least value.
            Some(Access::Ranges(vec![low, (field.key(), behind, Vec::new())]))
        }
        _ => None,
    }
}

/// Too long to stand in index rows whole.
fn is_cut(value: &Value) -> bool {
    matches!(value, Value::Text(text) if text.len() >= TEXT_BYTES_MAX)
}

fn encoded(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        // A longer text shares the rows of its beginning.
        Value::Text(text) => keys::text_value(text),
        Value::Number(number) => keys::number_value(*number),
        Value::Double(double) => keys::double_value(*double),
    })
}
