//! How fast lists and counts are over many closed and ten thousand open runs in one group of one store.
//!
//! No server takes part: records go through the engine's own `visibility::put` into a store, and are read as a server reads them: all 64
//! index homes, committed state.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use stanchion_engine::read::visibility::{GATHERED_MAX, Query, count, homes, list};
use stanchion_engine::slot::{SLOTS, slot_of};
use stanchion_engine::time::SECOND;
use stanchion_engine::transaction::Transaction;
use stanchion_engine::types::Position;
use stanchion_engine::visibility::filter::{Condition, Field, Filter, System, Test, Value};
use stanchion_engine::visibility::{self, Entity};
use stanchion_engine::{GroupId, ShardTime, Slot};
use stanchion_proto::command::Command;
use stanchion_proto::row::{AttributeRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::IndexedValueType;
use stanchion_store::{CommittedReader, Store, StoreOptions};

const GROUP: GroupId = GroupId(1);
const OPEN: u64 = 10_000;
const NS: &str = "0193a1a0-0000-7000-8000-000000000001";

fn row(n: u64, closed: bool) -> VisibilityRow {
    let started_at = 1_700_000_000 * SECOND + (n as i64) * SECOND / 10;
    let keyword = |name: &str, text: String| AttributeRow {
        name: name.into(),
        r#type: IndexedValueType::Keyword.into(),
        texts: vec![text],
        ..Default::default()
    };
    VisibilityRow {
        workflow_id: format!("order-{n:08}"),
        run_id: format!("0193a1a0-0000-7000-8000-{n:012x}"),
        workflow_type: if n % 50_000 == 17 { "RareWorkflow".into() } else { format!("Workflow{}", n % 5) },
        task_queue: "orders".into(),
        status: if closed { [2, 2, 2, 2, 2, 2, 2, 3, 5, 7][(n % 10) as usize] } else { 1 },
        started_at,
        execution_at: started_at,
        closed_at: if closed { started_at + (1 + (n % 600) as i64) * SECOND } else { 0 },
        history_length: if closed { 11 + (n % 40) as i64 } else { 0 },
        history_bytes: if closed { 1500 + (n * 7919 % 5000) as i64 } else { 0 },
        transitions: if closed { 7 } else { 0 },
        attributes: vec![
            keyword("Customer", format!("c{}", n * 7919 % 20_000)),
            keyword("Region", format!("r{}", n % 4)),
        ],
        ..Default::default()
    }
}

/// Writes `closed` closed runs and the open ones, then reads pages and counts by each kind of filter.
pub fn measure(folder: &Path, closed: u64) -> Result<String> {
    let store = Store::open(StoreOptions { sync: false, ..StoreOptions::new(folder) })?;
    let mut lines = vec![write(&store, closed)?];
    let reader = store.reader(GROUP);
    let homes = homes([(Slot(0), Slot(SLOTS - 1))]);
    for (name, filter) in filters(closed) {
        let query = query(&filter);
        let hundred = Pages::read(&reader, &homes, &query, 100)?;
        let thousand = Pages::read(&reader, &homes, &query, 1000)?;
        lines.push(format!(
            "  {name:34} page of 100: {:4} first {:>10.2?} then {:>10.2?}; of 1000: {:4} {:>10.2?}",
            hundred.found, hundred.first, hundred.best, thousand.found, thousand.best
        ));
    }
    let begun = Instant::now();
    let counts = count(&reader, &homes, &query(&Filter::All), true)?;
    lines.push(format!("  counts by status {counts:?}: {:.2?}", begun.elapsed()));
    let begun = Instant::now();
    let counts = count(&reader, &homes, &query(&keyword_is("Customer", "c77")), false)?;
    lines.push(format!("  count of one customer {counts:?}: {:.2?}", begun.elapsed()));
    Ok(lines.join("\n"))
}

fn write(store: &Store, closed: u64) -> Result<String> {
    let mut state = store.group_state(GROUP)?;
    state.set_owned_slots(&[0..=SLOTS - 1])?;
    let command = Command { namespace_id: NS.into(), ..Default::default() };
    let (begun, records) = (Instant::now(), closed + OPEN);
    for n in 0..records {
        let at = Position { group: GROUP, index: n + 1, offset: 0 };
        let mut tx = Transaction::new(&mut state, &command, at, ShardTime(SECOND));
        let now = row(n, n < closed);
        visibility::put(&mut tx, Entity::Workflow, NS, slot_of(NS, &now.workflow_id), None, &now);
        tx.commit()?;
        // Rows are written in batches, as those of an entry with many commands.
        if n % 64 == 63 || n + 1 == records {
            state.commit(n + 1, "l".into(), None)?;
        }
    }
    let took = begun.elapsed();
    store.checkpoint()?;
    Ok(format!(
        "{closed} closed and {OPEN} open runs, written in {took:.1?}, {:.1?} each; {} MiB on disk",
        took.div_f64(records as f64),
        store.disk_bytes() >> 20
    ))
}

/// One page, read three times.
struct Pages {
    found: usize,
    first: Duration,
    best: Duration,
}

impl Pages {
    fn read(reader: &CommittedReader, homes: &[Slot], query: &Query<'_>, limit: usize) -> Result<Self> {
        let read = || {
            let begun = Instant::now();
            anyhow::Ok((list(reader, homes, query, &[], limit)?.len(), begun.elapsed()))
        };
        let (found, first) = read()?;
        let best = first.min(read()?.1).min(read()?.1);
        Ok(Self { found, first, best })
    }
}

fn query(filter: &Filter) -> Query<'_> {
    Query {
        namespace_id: NS,
        entity: Entity::Workflow,
        divisions: false,
        filter,
        gathered_max: GATHERED_MAX,
        keep_going: &|| true,
    }
}

fn keyword_is(name: &str, value: &str) -> Filter {
    let field = Field::Named { name: name.into(), kind: IndexedValueType::Keyword };
    Filter::Is(Condition { field, test: Test::Equal(Value::Text(value.into())) })
}

/// One of each kind: found early, late, often, seldom, never.
fn filters(closed: u64) -> Vec<(&'static str, Filter)> {
    let system = |field, test| Filter::Is(Condition { field: Field::System(field), test });
    let text = |text: &str| Value::Text(text.into());
    let number = Value::Number;
    let micros = |n: u64| number((1_700_000_000 + n as i64 / 10) * 1_000_000);
    vec![
        ("no filter", Filter::All),
        ("ExecutionStatus = 'Running'", system(System::ExecutionStatus, Test::Equal(number(1)))),
        ("ExecutionStatus = 'Failed'", system(System::ExecutionStatus, Test::Equal(number(3)))),
        ("WorkflowType = common", system(System::WorkflowType, Test::Equal(text("Workflow1")))),
        ("WorkflowType = rare", system(System::WorkflowType, Test::Equal(text("RareWorkflow")))),
        ("WorkflowId = one", system(System::WorkflowId, Test::Equal(text("order-00012345")))),
        ("WorkflowId STARTS_WITH few", system(System::WorkflowId, Test::StartsWith("order-000123".into()))),
        ("WorkflowId STARTS_WITH all", system(System::WorkflowId, Test::StartsWith("order-".into()))),
        ("WorkflowId STARTS_WITH old tenth", system(System::WorkflowId, Test::StartsWith("order-000".into()))),
        ("Customer = one of 20,000", keyword_is("Customer", "c77")),
        ("Region = common", keyword_is("Region", "r1")),
        ("Region != common", Filter::Not(Box::new(keyword_is("Region", "r1")))),
        ("nothing has it", keyword_is("Customer", "nobody")),
        ("StartTime > latest tenth", system(System::StartTime, Test::Greater(micros(closed / 10 * 9)))),
        ("StartTime < oldest tenth", system(System::StartTime, Test::Less(micros(closed / 10)))),
        ("CloseTime < oldest tenth", system(System::CloseTime, Test::Less(micros(closed / 10)))),
        ("HistoryLength > 45", system(System::HistoryLength, Test::Greater(number(45)))),
        ("ExecutionDuration > 599s", system(System::ExecutionDuration, Test::Greater(number(599 * SECOND)))),
        ("HistorySizeBytes = 1507", system(System::HistorySizeBytes, Test::Equal(number(1507)))),
    ]
}
