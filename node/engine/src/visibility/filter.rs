//! The filter of a list or a count: a tree of conditions over a record's attributes, evaluated with SQL's three values (true, false,
//! unknown), as the real server's database does.
//!
//! Pure: parsing is the frontend's. Times count in microseconds, as the real server's do.

use std::cmp::Ordering;

use stanchion_proto::row::{AttributeRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use super::{attributes, index, keys};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    All,
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Is(Condition),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub field: Field,
    pub test: Test,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    System(System),
    /// Custom attributes, and those of the server that not every record has.
    Named {
        name: String,
        kind: IndexedValueType,
    },
}

/// Attributes that the server keeps itself. Part of stored keys and of messages between nodes: never renumber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum System {
    WorkflowId = 1,
    RunId = 2,
    WorkflowType = 3,
    ExecutionStatus = 4,
    StartTime = 5,
    ExecutionTime = 6,
    CloseTime = 7,
    ExecutionDuration = 8,
    HistoryLength = 9,
    HistorySizeBytes = 10,
    StateTransitionCount = 11,
    TaskQueue = 12,
    ParentWorkflowId = 13,
    ParentRunId = 14,
    RootWorkflowId = 15,
    RootRunId = 16,
}

impl System {
    pub const ALL: [System; 16] = [
        Self::WorkflowId,
        Self::RunId,
        Self::WorkflowType,
        Self::ExecutionStatus,
        Self::StartTime,
        Self::ExecutionTime,
        Self::CloseTime,
        Self::ExecutionDuration,
        Self::HistoryLength,
        Self::HistorySizeBytes,
        Self::StateTransitionCount,
        Self::TaskQueue,
        Self::ParentWorkflowId,
        Self::ParentRunId,
        Self::RootWorkflowId,
        Self::RootRunId,
    ];

    /// A record that is open has none of these.
    pub fn only_when_closed(self) -> bool {
        use System::*;
        matches!(self, CloseTime | ExecutionDuration | HistoryLength | HistorySizeBytes | StateTransitionCount)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Equal(Value),
    Less(Value),
    LessOrEqual(Value),
    Greater(Value),
    GreaterOrEqual(Value),
    In(Vec<Value>),
    Between(Value, Value),
    IsNull,
    StartsWith(String),
    /// Any of these phrases, each a row of words that follow one another.
    Contains(Vec<Vec<String>>),
}

/// A value, of the type that its field has.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    /// Whole numbers, truth values, microseconds, nanoseconds of durations, status numbers.
    Number(i64),
    /// Ordered bits, as `AttributeRow.double`.
    Double(u64),
}

enum Cell<'a> {
    Null,
    Text(&'a str),
    Number(i64),
    Double(u64),
    /// Of a keyword list, or the texts of a Text.
    Texts(&'a [String]),
}

/// Microseconds of a time in nanoseconds.
pub fn micros(nanos: i64) -> i64 {
    nanos.div_euclid(1000)
}

impl Filter {
    /// Whether the record is among those asked for: what is unknown is not.
    pub fn selects(&self, row: &VisibilityRow) -> bool {
        self.holds(row) == Some(true)
    }

    fn holds(&self, row: &VisibilityRow) -> Option<bool> {
        match self {
            Self::All => Some(true),
            Self::Not(part) => part.holds(row).map(|holds| !holds),
            Self::Is(condition) => condition.holds(row),
            Self::And(parts) => {
                let mut all = Some(true);
                for part in parts {
                    match part.holds(row) {
                        Some(true) => {}
                        Some(false) => return Some(false),
                        None => all = None,
                    }
                }
                all
            }
            Self::Or(parts) => {
                let mut any = Some(false);
                for part in parts {
                    match part.holds(row) {
                        Some(false) => {}
                        Some(true) => return Some(true),
                        None => any = None,
                    }
                }
                any
            }
        }
    }

    /// The conditions of which all must hold.
    pub fn conjuncts(&self) -> &[Filter] {
        match self {
            Self::And(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }
}

impl Condition {
    fn holds(&self, row: &VisibilityRow) -> Option<bool> {
        let cell = self.field.of(row);
        if self.test == Test::IsNull {
            return Some(matches!(cell, Cell::Null));
        }
        match cell {
            // What has no words contains none; everything else about nothing is unknown.
            Cell::Null => self.field.is_many().then_some(false),
            Cell::Texts(texts) => Some(self.test.holds_for_any(texts)),
            cell => Some(self.test.holds_for(&cell)),
        }
    }
}

impl Field {
    /// Several values, or words: tested one by one, and never unknown.
    pub fn is_many(&self) -> bool {
        matches!(self, Self::Named { kind: IndexedValueType::KeywordList | IndexedValueType::Text, .. })
    }

    /// What index rows of this field have behind the space.
    pub fn key(&self) -> keys::FieldKey {
        match self {
            Self::System(system) => keys::system_field(*system as u8),
            Self::Named { name, kind } => keys::named_field(name, (*kind).into()),
        }
    }

    fn of<'a>(&self, row: &'a VisibilityRow) -> Cell<'a> {
        match self {
            Self::System(system) => system_cell(*system, row),
            Self::Named { name, kind } => {
                let found = row.attributes.iter().find(|a| a.name == *name && a.r#type == i32::from(*kind));
                found.map_or(Cell::Null, |attribute| named_cell(*kind, attribute))
            }
        }
    }
}

fn system_cell(system: System, row: &VisibilityRow) -> Cell<'_> {
    let or_own = |text, own| Cell::Text(if str::is_empty(text) { own } else { text });
    if system.only_when_closed() && row.closed_at == 0 {
        return Cell::Null;
    }
    match system {
        System::WorkflowId => Cell::Text(&row.workflow_id),
        System::RunId => Cell::Text(&row.run_id),
        System::WorkflowType => Cell::Text(&row.workflow_type),
        System::TaskQueue => Cell::Text(&row.task_queue),
        System::RootWorkflowId => or_own(row.root_workflow_id.as_str(), row.workflow_id.as_str()),
        System::RootRunId => or_own(row.root_run_id.as_str(), row.run_id.as_str()),
        System::ParentWorkflowId if row.parent_workflow_id.is_empty() => Cell::Null,
        System::ParentWorkflowId => Cell::Text(&row.parent_workflow_id),
        System::ParentRunId if row.parent_run_id.is_empty() => Cell::Null,
        System::ParentRunId => Cell::Text(&row.parent_run_id),
        System::ExecutionStatus => Cell::Number(row.status.into()),
        System::StartTime => Cell::Number(micros(row.started_at)),
        System::ExecutionTime => Cell::Number(micros(row.execution_at)),
        System::CloseTime => Cell::Number(micros(row.closed_at)),
        System::ExecutionDuration => Cell::Number(index::duration(row)),
        System::HistoryLength => Cell::Number(row.history_length),
        System::HistorySizeBytes => Cell::Number(row.history_bytes),
        System::StateTransitionCount => Cell::Number(row.transitions),
    }
}

fn named_cell(kind: IndexedValueType, attribute: &AttributeRow) -> Cell<'_> {
    match kind {
        IndexedValueType::KeywordList | IndexedValueType::Text => Cell::Texts(&attribute.texts),
        IndexedValueType::Keyword => attribute.texts.first().map_or(Cell::Null, |text| Cell::Text(text)),
        IndexedValueType::Double => Cell::Double(attribute.double),
        IndexedValueType::Int | IndexedValueType::Bool | IndexedValueType::Datetime => Cell::Number(attribute.number),
        IndexedValueType::Unspecified => Cell::Null,
    }
}

impl Test {
    fn holds_for(&self, cell: &Cell<'_>) -> bool {
        let is = |value: &Value, wanted: &[Ordering]| order(cell, value).is_some_and(|order| wanted.contains(&order));
        match self {
            Self::Equal(value) => is(value, &[Ordering::Equal]),
            Self::Less(value) => is(value, &[Ordering::Less]),
            Self::LessOrEqual(value) => is(value, &[Ordering::Less, Ordering::Equal]),
            Self::Greater(value) => is(value, &[Ordering::Greater]),
            Self::GreaterOrEqual(value) => is(value, &[Ordering::Greater, Ordering::Equal]),
            Self::In(values) => values.iter().any(|value| is(value, &[Ordering::Equal])),
            Self::Between(from, to) => {
                is(from, &[Ordering::Greater, Ordering::Equal]) && is(to, &[Ordering::Less, Ordering::Equal])
            }
            Self::StartsWith(prefix) => matches!(cell, Cell::Text(text) if text.starts_with(prefix.as_str())),
            Self::IsNull | Self::Contains(_) => false,
        }
    }

    fn holds_for_any(&self, texts: &[String]) -> bool {
        match self {
            Self::Contains(phrases) => {
                let words: Vec<Vec<String>> = texts.iter().map(|text| attributes::words(text).collect()).collect();
                phrases.iter().any(|phrase| words.iter().any(|words| follow_one_another(words, phrase)))
            }
            test => texts.iter().any(|text| test.holds_for(&Cell::Text(text))),
        }
    }
}

fn follow_one_another(words: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && words.windows(phrase.len()).any(|window| window == phrase)
}

fn order(cell: &Cell<'_>, value: &Value) -> Option<Ordering> {
    match (cell, value) {
        (Cell::Text(text), Value::Text(value)) => Some((*text).cmp(value.as_str())),
        (Cell::Number(number), Value::Number(value)) => Some(number.cmp(value)),
        (Cell::Double(double), Value::Double(value)) => Some(double.cmp(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
