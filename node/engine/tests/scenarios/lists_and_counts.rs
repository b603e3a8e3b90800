//! Lists and counts are served from rows that the apply of each change writes: whatever was acknowledged is in them, and the rows of an
//! index never say anything else than a walk over all records does.

use stanchion_engine::memory::MemoryState;
use stanchion_engine::read::visibility::{GATHERED_MAX, Query, count, homes, list};
use stanchion_engine::slot::{SLOTS, slot_of};
use stanchion_engine::time::SECOND;
use stanchion_engine::transaction::Transaction;
use stanchion_engine::types::{GroupId, Position, ShardTime, Slot};
use stanchion_engine::visibility::filter::{Condition, Field, Filter, System, Test, Value};
use stanchion_engine::visibility::{self, Entity};
use stanchion_proto::command::Command;
use stanchion_proto::row::{AttributeRow, VisibilityRow};
use stanchion_proto::temporal::common::v1::{Payload, SearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use crate::scenario::*;
use prost::Message;

fn everywhere() -> Vec<Slot> {
    homes([(Slot(0), Slot(SLOTS - 1))])
}

fn query<'a>(namespace_id: &'a str, filter: &'a Filter) -> Query<'a> {
    let gathered_max = GATHERED_MAX;
    Query { namespace_id, entity: Entity::Workflow, divisions: false, filter, gathered_max, keep_going: &|| true }
}

fn is(field: Field, test: Test) -> Filter {
    Filter::Is(Condition { field, test })
}

fn keyword(name: &str, value: &str) -> Filter {
    let field = Field::Named { name: name.into(), kind: IndexedValueType::Keyword };
    is(field, Test::Equal(Value::Text(value.into())))
}

fn system(field: System, test: Test) -> Filter {
    is(Field::System(field), test)
}

fn shown(w: &World, filter: &Filter) -> Vec<(String, i32)> {
    let entries = list(&w.state, &everywhere(), &query(NAMESPACE, filter), &[], 100).unwrap();
    let rows = entries.iter().map(|entry| VisibilityRow::decode(entry.row.clone()).unwrap());
    rows.map(|row| (row.workflow_id, row.status)).collect()
}

#[test]
fn a_run_is_listed_from_its_start_and_moves_when_it_closes() {
    let mut w = World::new();
    let red = Payload {
        metadata: [("type".to_owned(), "Keyword".into())].into(),
        data: "\"red\"".into(),
        ..Default::default()
    };
    let attributes = SearchAttributes { indexed_fields: [("Color".to_owned(), red)].into() };
    w.start_with(|r| r.search_attributes = Some(attributes));
    for filter in [Filter::All, keyword("Color", "red"), system(System::CloseTime, Test::IsNull)] {
        assert_eq!(shown(&w, &filter), [(WORKFLOW.to_owned(), 1)]);
    }
    assert!(shown(&w, &keyword("Color", "blue")).is_empty());
    w.pass(1);
    w.terminate();
    let terminated = [(WORKFLOW.to_owned(), 5)];
    assert_eq!(shown(&w, &keyword("Color", "red")), terminated);
    assert_eq!(shown(&w, &system(System::ExecutionStatus, Test::Equal(Value::Number(5)))), terminated);
    assert_eq!(shown(&w, &system(System::WorkflowId, Test::StartsWith("w".into()))), terminated);
    assert!(shown(&w, &system(System::CloseTime, Test::IsNull)).is_empty());
    let counts = count(&w.state, &everywhere(), &query(NAMESPACE, &Filter::All), true).unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(5, 1)]);
}

/// Records of every shape, some open, some closed, some changed, some removed; of these workflows, started at random times or one after
/// the other.
fn many(count: u64, workflows: &[String], in_order: bool) -> (MemoryState, Vec<VisibilityRow>) {
    let mut state = MemoryState::default();
    let mut kept = Vec::new();
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    for n in 0..count {
        let command = Command { namespace_id: "ns".into(), ..Default::default() };
        let at = Position { group: GroupId(1), index: n, offset: 0 };
        let mut tx = Transaction::new(&mut state, &command, at, ShardTime(SECOND));
        let workflow_id = workflows[next(workflows.len() as u64) as usize].clone();
        let slot = slot_of("ns", &workflow_id);
        let started_at = if in_order { n as i64 * 1000 / count as i64 } else { next(1000) as i64 } * SECOND;
        let mut row = VisibilityRow {
            run_id: format!("00000000-0000-7000-8000-{n:012x}"),
            workflow_type: format!("T{}", next(3)),
            task_queue: "tq".into(),
            status: 1,
            started_at,
            execution_at: started_at + (next(2) as i64) * SECOND,
            workflow_id,
            ..Default::default()
        };
        if next(2) == 0 {
            let name = "Color".to_owned();
            let texts = vec![["red", "green", ""][next(3) as usize].to_owned()];
            row.attributes.push(AttributeRow {
                name,
                r#type: IndexedValueType::Keyword.into(),
                texts,
                ..Default::default()
            });
        }
        if next(3) == 0 {
            row.attributes.push(AttributeRow {
                name: "Size".into(),
                r#type: IndexedValueType::Int.into(),
                number: next(20) as i64 - 10,
                ..Default::default()
            });
        }
        visibility::put(&mut tx, Entity::Workflow, "ns", slot, None, &row);
        tx.commit().unwrap();
        if next(5) > 0 {
            let open = row.clone();
            row.status = 2 + next(5) as i32;
            row.closed_at = row.execution_at + (next(if in_order { 3 } else { 100 }) as i64) * SECOND;
            row.history_length = next(30) as i64;
            let mut tx = Transaction::new(&mut state, &command, at, ShardTime(SECOND));
            visibility::put(&mut tx, Entity::Workflow, "ns", slot, Some(&open), &row);
            tx.commit().unwrap();
        }
        if next(10) == 0 {
            let mut tx = Transaction::new(&mut state, &command, at, ShardTime(SECOND));
            visibility::remove(&mut tx, Entity::Workflow, "ns", slot, &row);
            tx.commit().unwrap();
        } else {
            kept.push(row);
        }
    }
    kept.sort_by_key(visibility::keys::position);
    (state, kept)
}

#[test]
fn index_rows_find_what_a_walk_over_all_records_finds() {
    let workflows: Vec<String> = (0..60).map(|n| format!("w{n}")).collect();
    let (state, kept) = many(400, &workflows, false);
    assert_found(&state, &kept, GATHERED_MAX);
    assert_found(&state, &kept, 0);
}

#[test]
fn stretches_are_passed_over_only_if_nothing_in_them_can_be_selected() {
    let in_one_home = |id: &String| visibility::home(slot_of("ns", id)) == Slot(0);
    let workflows: Vec<String> = (0..3000).map(|n| format!("w{n}")).filter(in_one_home).collect();
    for in_order in [true, false] {
        let (state, kept) = many(2000, &workflows, in_order);
        assert_found(&state, &kept, 0);
    }
}

#[test]
fn a_walk_in_search_of_old_records_passes_over_younger_ones() {
    let in_one_home = |id: &String| visibility::home(slot_of("ns", id)) == Slot(0);
    let workflows: Vec<String> = (0..3000).map(|n| format!("w{n}")).filter(in_one_home).collect();
    let (state, _) = many(20_000, &workflows, true);
    let old = system(System::StartTime, Test::Less(Value::Number(100 * 1_000_000)));
    let looks = std::cell::Cell::new(0);
    let keep_going = || {
        looks.set(looks.get() + 512);
        true
    };
    let closed = Filter::And(vec![old, Filter::Not(Box::new(system(System::CloseTime, Test::IsNull)))]);
    let found = list(
        &state,
        &everywhere(),
        &Query { keep_going: &keep_going, gathered_max: 0, ..query("ns", &closed) },
        &[],
        50,
    );
    assert_eq!(found.unwrap().len(), 50);
    assert!(looks.get() < 2048, "looked at {} records or more", looks.get());
}

/// Pages and counts are what a look at every record gives.
fn assert_found(state: &MemoryState, kept: &[VisibilityRow], gathered_max: usize) {
    let size = |test| is(Field::Named { name: "Size".into(), kind: IndexedValueType::Int }, test);
    let number = Value::Number;
    let not = |filter| Filter::Not(Box::new(filter));
    let times = |n: i64| number(n * 1_000_000);
    let filters = [
        Filter::All,
        keyword("Color", "red"),
        keyword("Color", ""),
        not(keyword("Color", "red")),
        size(Test::Less(number(0))),
        size(Test::Between(number(-3), number(3))),
        not(size(Test::IsNull)),
        size(Test::IsNull),
        size(Test::In(vec![number(1), number(-1)])),
        system(System::WorkflowId, Test::Equal(Value::Text("w7".into()))),
        system(System::WorkflowId, Test::StartsWith("w1".into())),
        system(System::WorkflowType, Test::Greater(Value::Text("T0".into()))),
        system(System::RootWorkflowId, Test::Equal(Value::Text("w7".into()))),
        system(System::ExecutionTime, Test::GreaterOrEqual(times(500))),
        system(System::StartTime, Test::Less(times(300))),
        system(System::CloseTime, Test::Between(times(200), times(600))),
        not(system(System::CloseTime, Test::IsNull)),
        system(System::HistoryLength, Test::Greater(number(20))),
        not(system(System::HistoryLength, Test::Equal(number(3)))),
        system(System::ExecutionStatus, Test::In(vec![number(1), number(3)])),
        not(system(System::ExecutionStatus, Test::Equal(number(1)))),
        Filter::And(vec![keyword("Color", "green"), system(System::ExecutionStatus, Test::Equal(number(2)))]),
        Filter::And(vec![not(keyword("Color", "green")), size(Test::Greater(number(-5)))]),
        Filter::Or(vec![keyword("Color", "green"), system(System::WorkflowId, Test::Equal(Value::Text("w3".into())))]),
        Filter::Or(vec![keyword("Color", "green"), size(Test::Less(number(0)))]),
    ];
    for filter in &filters {
        let expected: Vec<_> = kept.iter().filter(|row| filter.selects(row)).cloned().collect();
        let query = Query { gathered_max, ..query("ns", filter) };
        let mut found = Vec::new();
        let mut after = Vec::new();
        loop {
            let page = list(state, &everywhere(), &query, &after, 1 + kept.len() / 50).unwrap();
            let Some(last) = page.last() else { break };
            after.clone_from(&last.position);
            found.extend(page.iter().map(|entry| VisibilityRow::decode(entry.row.clone()).unwrap()));
        }
        assert_eq!(found, expected, "{filter:?}");
        let counted = count(state, &everywhere(), &query, false).unwrap();
        assert_eq!(counted.values().sum::<u64>(), expected.len() as u64, "{filter:?}");
        let by_status = count(state, &everywhere(), &query, true).unwrap();
        for (status, count) in by_status {
            assert_eq!(count, expected.iter().filter(|row| row.status == status).count() as u64, "{filter:?}");
        }
    }
}
