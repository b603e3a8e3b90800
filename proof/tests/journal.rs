//! The journal: pairing, order, and the forms that others read.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use stanchion_proof::journal::{Completion, Journal, Process, from_jsonl, operations, to_edn, to_jsonl};

fn journal() -> (Journal, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(0));
    let now = clock.clone();
    (Journal::new(move || now.load(Ordering::SeqCst)), clock)
}

#[test]
fn an_operation_is_paired_with_its_end() {
    let (journal, clock) = journal();
    let first = journal.invoke(0, "start", "wf", json!({"run": 1}));
    clock.store(5, Ordering::SeqCst);
    let second = journal.invoke(1, "signal", "wf", json!(7));
    journal.fault("kill", json!(["n1"]));
    clock.store(9, Ordering::SeqCst);
    journal.info(second, "deadline exceeded");
    journal.ok(first, json!("run-a"));
    let refused = journal.invoke(0, "start", "wf", Value::Null);
    journal.fail(refused, "already started");
    let _never_ended = journal.invoke(2, "read", "", Value::Null);

    let found = journal.operations();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].completion, Completion::Ok { at: 9, value: json!("run-a") });
    assert_eq!(found[1].completion, Completion::Info { at: 9, error: "deadline exceeded".into() });
    assert_eq!((found[1].invoked, found[1].settled()), (5, None));
    assert!(found[2].failed());
    assert_eq!(found[3].completion, Completion::Pending);
    assert!(journal.lines().iter().any(|line| line.process == Process::NEMESIS));
}

#[test]
fn an_acknowledgement_without_a_value_repeats_what_was_asked() {
    let (journal, _) = journal();
    let op = journal.invoke(0, "signal", "wf", json!(7));
    journal.ok(op, Value::Null);
    assert_eq!(journal.operations()[0].ok(), Some(&json!(7)));
}

#[test]
fn time_never_runs_backwards_from_line_to_line() {
    let (journal, clock) = journal();
    clock.store(100, Ordering::SeqCst);
    journal.fault("a", Value::Null);
    clock.store(50, Ordering::SeqCst);
    journal.fault("b", Value::Null);
    let times: Vec<u64> = journal.lines().iter().map(|line| line.time).collect();
    assert_eq!(times, [100, 100]);
}

#[test]
fn json_lines_read_back_as_they_were() {
    let (journal, _) = journal();
    let op = journal.invoke(3, "start", "wf", json!({"a": [1, null, "x\n"]}));
    journal.fail(op, "no");
    journal.fault("heal", json!({}));
    let lines = journal.lines();
    let read = from_jsonl(&to_jsonl(&lines)).unwrap();
    assert_eq!(read, lines);
    assert_eq!(operations(&read), journal.operations());
}

#[test]
fn edn_is_what_jepsen_reads() {
    let (journal, clock) = journal();
    let op =
        journal.invoke(3, "signal with start", "wf-1", json!({"run": "a\"b", "7": [1, null, true, 1.5, u64::MAX]}));
    clock.store(1_000, Ordering::SeqCst);
    journal.info(op, "lost\n");
    journal.fault("kill", json!(["n1"]));
    let expected = concat!(
        r#"{:index 0, :type :invoke, :f :signal-with-start, :key "wf-1", :value {"7" [1 nil true 1.5 18446744073709551615N], :run "a\"b"}, :process 3, :time 0}"#,
        "\n",
        r#"{:index 1, :type :info, :f :signal-with-start, :key "wf-1", :value {"7" [1 nil true 1.5 18446744073709551615N], :run "a\"b"}, :process 3, :time 1000, :error "lost\n"}"#,
        "\n",
        r#"{:index 2, :type :info, :f :kill, :value ["n1"], :process :nemesis, :time 1000}"#,
        "\n",
    );
    assert_eq!(to_edn(&journal.lines()), expected);
}

#[test]
fn whoever_watches_sees_each_line_at_once() {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let journal = Journal::watched(|| 0, move |line| counter.store(line.index + 1, Ordering::SeqCst));
    journal.fault("a", Value::Null);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    assert_eq!((journal.new_process(), journal.new_process()), (0, 1));
}
