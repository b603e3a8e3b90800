//! The checks bite: histories with one fault each.

use super::*;

fn op(index: u64, process: u64, f: &str, input: Value, invoked: u64, completion: Completion) -> Operation {
    Operation { index, process, f: f.into(), key: "list".into(), input, invoked, completion }
}

fn ok(at: u64, value: Value) -> Completion {
    Completion::Ok { at, value }
}

fn broken(operations: &[Operation], whole: &[u64]) -> Vec<String> {
    let last = BTreeMap::from([("list".to_owned(), BTreeMap::from([(1, whole.to_vec())]))]);
    let verdicts = judge(operations, &last, 1);
    verdicts.into_iter().flat_map(|verdict| verdict.violations).map(|violation| violation.rule.to_string()).collect()
}

fn clean() -> Vec<Operation> {
    vec![
        op(0, 0, "start", Value::Null, 0, ok(1, Value::Null)),
        op(1, 0, "append", json!(1), 2, ok(3, Value::Null)),
        op(2, 1, "append", json!(2), 2, Completion::Info { at: 9, error: String::new() }),
        op(3, 2, "read", Value::Null, 4, ok(5, json!([1]))),
        op(4, 0, "append", json!(3), 6, ok(7, Value::Null)),
        op(5, 3, "append", json!(4), 6, Completion::Fail { at: 8, error: String::new() }),
        op(6, 2, "read", Value::Null, 10, ok(11, json!([1, 2, 3]))),
    ]
}

#[test]
fn a_clean_history_passes_with_the_unknown_append_there_or_not() {
    assert!(broken(&clean(), &[1, 2, 3]).is_empty());
    assert!(broken(&clean()[..6], &[1, 3]).is_empty());
}

#[test]
fn lost_doubled_and_refused_appends_are_found() {
    let mut operations = clean();
    operations.pop();
    assert!(broken(&operations, &[1]).contains(&"E1".to_owned()));
    assert!(broken(&operations, &[1, 3, 3]).contains(&"E1".to_owned()));
    assert!(broken(&operations, &[1, 2, 2, 3]).contains(&"E1".to_owned()));
    assert!(broken(&operations, &[1, 3, 4]).contains(&"E1".to_owned()));
    assert!(broken(&operations, &[1, 3, 17]).contains(&"E1".to_owned()));
}

#[test]
fn appends_out_of_their_order_are_found() {
    let operations =
        [op(0, 0, "append", json!(1), 1, ok(2, Value::Null)), op(1, 1, "append", json!(2), 3, ok(4, Value::Null))];
    assert!(broken(&operations, &[1, 2]).is_empty());
    assert_eq!(broken(&operations, &[2, 1]), ["E2"]);
}

#[test]
fn a_stale_read_and_a_read_of_another_past_are_found() {
    let mut operations = clean();
    operations.push(op(7, 2, "read", Value::Null, 12, ok(13, json!([1]))));
    assert_eq!(broken(&operations, &[1, 2, 3]), ["B3"]);
    operations.pop();
    operations.push(op(7, 2, "read", Value::Null, 12, ok(13, json!([2, 1, 3]))));
    assert_eq!(broken(&operations, &[1, 2, 3]), ["B1"]);
}
