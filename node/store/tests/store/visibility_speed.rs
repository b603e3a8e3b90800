//! How fast lists and counts are over a million closed and ten thousand open runs in one group of one store.
//!
//! ```text
//! cargo nextest run --workspace --run-ignored only -E 'test(visibility_speed)' --no-capture
//! ```
//!
//! `STANCHION_RUNS` sets another number of closed runs. Records go through the engine's own `visibility::put`, and are read as the server
//! reads them: all 64 index homes, committed state.

use std::time::{Duration, Instant};

use stanchion_engine::read::visibility::{Query, count, homes, list};
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
use stanchion_store::{Store, StoreOptions};

const G: GroupId = GroupId(1);
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

#[test]
#[ignore = "a measurement: minutes, and a gigabyte of disk"]
fn visibility_speed() {
    let closed: u64 = std::env::var("STANCHION_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions { sync: false, ..StoreOptions::new(dir.path()) }).unwrap();
    let mut state = store.group_state(G).unwrap();
    state.set_owned_slots(&[0..=SLOTS - 1]).unwrap();
    let command = Command { namespace_id: NS.into(), ..Default::default() };
    let begun = Instant::now();
    for n in 0..closed + OPEN {
        let at = Position { group: G, index: n + 1, offset: 0 };
        let mut tx = Transaction::new(&mut state, &command, at, ShardTime(SECOND));
        let now = row(n, n < closed);
        visibility::put(&mut tx, Entity::Workflow, NS, slot_of(NS, &now.workflow_id), None, &now);
        tx.commit().unwrap();
        if n % 64 == 63 || n + 1 == closed + OPEN {
            state.commit(n + 1, "l".into(), None).unwrap();
        }
    }
    println!(
        "wrote {} records in {:?}: {:?} each",
        closed + OPEN,
        begun.elapsed(),
        begun.elapsed() / (closed + OPEN) as u32
    );
    store.checkpoint().unwrap();
    println!("{} MiB on disk", store.disk_bytes() / 1024 / 1024);

    let reader = store.reader(G);
    let homes = homes([(Slot(0), Slot(SLOTS - 1))]);
    let system = |field, test| Filter::Is(Condition { field: Field::System(field), test });
    let text = |text: &str| Value::Text(text.into());
    let custom = |name: &str, test| {
        Filter::Is(Condition { field: Field::Named { name: name.into(), kind: IndexedValueType::Keyword }, test })
    };
    let number = Value::Number;
    let micros = |n: u64| number((1_700_000_000 + n as i64 / 10) * 1_000_000);
    let cases: Vec<(&str, Filter)> = vec![
        ("no filter", Filter::All),
        ("ExecutionStatus = 'Running'", system(System::ExecutionStatus, Test::Equal(number(1)))),
        ("ExecutionStatus = 'Failed'", system(System::ExecutionStatus, Test::Equal(number(3)))),
        ("WorkflowType = common", system(System::WorkflowType, Test::Equal(text("Workflow1")))),
        ("WorkflowType = rare", system(System::WorkflowType, Test::Equal(text("RareWorkflow")))),
        ("WorkflowId = one", system(System::WorkflowId, Test::Equal(text("order-00012345")))),
        ("WorkflowId STARTS_WITH few", system(System::WorkflowId, Test::StartsWith("order-000123".into()))),
        ("WorkflowId STARTS_WITH all", system(System::WorkflowId, Test::StartsWith("order-".into()))),
        ("WorkflowId STARTS_WITH old tenth", system(System::WorkflowId, Test::StartsWith("order-000".into()))),
        ("Customer = one of 20,000", custom("Customer", Test::Equal(text("c77")))),
        ("Region = common", custom("Region", Test::Equal(text("r1")))),
        ("Region != common", Filter::Not(Box::new(custom("Region", Test::Equal(text("r1")))))),
        ("nothing has it", custom("Customer", Test::Equal(text("nobody")))),
        ("StartTime > latest tenth", system(System::StartTime, Test::Greater(micros(closed / 10 * 9)))),
        ("StartTime < oldest tenth", system(System::StartTime, Test::Less(micros(closed / 10)))),
        ("CloseTime < oldest tenth", system(System::CloseTime, Test::Less(micros(closed / 10)))),
        ("HistoryLength > 45", system(System::HistoryLength, Test::Greater(number(45)))),
        ("ExecutionDuration > 599s", system(System::ExecutionDuration, Test::Greater(number(599 * SECOND)))),
        ("HistorySizeBytes = 1507", system(System::HistorySizeBytes, Test::Equal(number(1507)))),
    ];
    for (name, filter) in &cases {
        let query =
            Query { namespace_id: NS, entity: Entity::Workflow, divisions: false, filter, keep_going: &|| true };
        let time = |run: &dyn Fn() -> usize| {
            let mut best = Duration::MAX;
            let (mut first, mut found) = (Duration::ZERO, 0);
            for n in 0..3 {
                let begun = Instant::now();
                found = run();
                best = best.min(begun.elapsed());
                if n == 0 {
                    first = begun.elapsed();
                }
            }
            (first, best, found)
        };
        let (first, best, found) = time(&|| list(&reader, &homes, &query, &[], 100).unwrap().len());
        let (_, thousand, more) = time(&|| list(&reader, &homes, &query, &[], 1000).unwrap().len());
        println!(
            "{name:34} page of 100: {found:4} first {first:>10.2?} then {best:>10.2?}; of 1000: {more:4} {thousand:>10.2?}"
        );
    }
    let all = Query {
        namespace_id: NS,
        entity: Entity::Workflow,
        divisions: false,
        filter: &Filter::All,
        keep_going: &|| true,
    };
    let begun = Instant::now();
    let counts = count(&reader, &homes, &all, true).unwrap();
    println!("counts by status {counts:?}: {:?}", begun.elapsed());
    let rare = Query { filter: &cases[9].1, ..all };
    let begun = Instant::now();
    println!("count of one customer {:?}: {:?}", count(&reader, &homes, &rare, false).unwrap(), begun.elapsed());
}
