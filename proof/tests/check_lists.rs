//! Lists, visibility, timers, schedules and the bank: evidence as it should be passes, and each rule bites on evidence made to break it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stanchion_proof::check::bank::{self, Booking, Leg, Transfer};
use stanchion_proof::check::list::{self, Finals, SIGNALS};
use stanchion_proof::check::timers::{self, Action, Schedule};
use stanchion_proof::check::{Standing, Verdict, report, visibility};
use stanchion_proof::history::RunHistory;
use stanchion_proof::journal::{Completion, Operation};
use stanchion_proof::ledger::{Line, What};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::*;

const MS: u64 = 1_000_000;

fn op(index: u64, f: &str, key: &str, input: Value, invoked: u64, completion: Completion) -> Operation {
    Operation { index, process: index, f: f.into(), key: key.into(), input, invoked, completion }
}

fn ok(at: u64, value: Value) -> Completion {
    Completion::Ok { at, value }
}

fn lost(at: u64) -> Completion {
    Completion::Info { at, error: "lost".into() }
}

fn failed(at: u64) -> Completion {
    Completion::Fail { at, error: "refused".into() }
}

fn append(index: u64, n: u64, invoked: u64, completion: Completion) -> Operation {
    op(index, "append", "k", json!(n), invoked, completion)
}

fn read(index: u64, seen: Value, invoked: u64, at: u64) -> Operation {
    op(index, "read", "k", Value::Null, invoked, ok(at, seen))
}

fn finals(last: Value) -> Finals {
    [("k".to_owned(), last.as_array().unwrap().clone())].into_iter().collect()
}

/// The rules that are broken, in the order in which they were found.
fn broken(verdict: &Verdict) -> Vec<&str> {
    verdict.violations.iter().map(|violation| violation.rule.as_str()).collect()
}

#[track_caller]
fn holds(verdict: Verdict) {
    assert_eq!(verdict.standing(), Standing::Holds, "{}", report(&[verdict]));
}

#[test]
fn lists_as_they_should_be() {
    let operations = [
        append(0, 1, 0, ok(2, json!(1))),
        append(1, 2, 1, ok(3, json!(2))),
        append(2, 3, 4, lost(5)),
        append(3, 4, 4, failed(5)),
        read(4, json!([2, 1]), 6, 7),
        append(5, 5, 8, lost(9)),
        read(6, json!([2, 1, 3]), 10, 11),
    ];
    let last = finals(json!([2, 1, 3]));
    holds(list::exactly_once(SIGNALS, &operations, &last));
    holds(list::order(SIGNALS, &operations, &last));
    holds(list::reads(SIGNALS, &operations, &last));
}

#[test]
fn lost_doubled_refused_and_foreign_elements_are_found() {
    let operations = [
        append(0, 1, 0, ok(1, json!(1))),
        append(1, 2, 2, ok(3, json!(2))),
        append(2, 3, 4, lost(5)),
        append(3, 4, 4, failed(5)),
    ];
    let verdict = list::exactly_once(SIGNALS, &operations, &finals(json!([2, 2, 3, 3, 4, 9])));
    let whats: Vec<&str> = verdict.violations.iter().map(|violation| violation.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "k: acknowledged 1 is there 0 times",
            "k: acknowledged 2 is there 2 times",
            "k: 3, whose outcome is unknown, is there 2 times",
            "k: refused 4 is there 1 times",
            "k: 9 is there, and nobody appended it",
        ]
    );
    assert_eq!(broken(&list::exactly_once(SIGNALS, &operations[..1], &Finals::new())), ["E1"]);
}

#[test]
fn an_element_before_one_that_was_acknowledged_earlier_is_found() {
    let operations = [append(0, 1, 0, ok(1, json!(1))), append(1, 2, 2, ok(3, json!(2)))];
    let verdict = list::order(SIGNALS, &operations, &finals(json!([2, 1])));
    assert_eq!(broken(&verdict), ["E2"]);
    assert_eq!(verdict.smallest().unwrap().evidence.len(), 2);
}

#[test]
fn reads_that_change_go_back_or_see_the_future_are_found() {
    let last = finals(json!([1, 2]));
    let appends = [append(0, 1, 0, ok(1, json!(1))), append(1, 2, 2, ok(3, json!(2)))];
    let with = |read: Operation| -> Vec<Operation> { appends.iter().cloned().chain([read]).collect() };
    assert_eq!(broken(&list::reads(SIGNALS, &with(read(2, json!([7]), 4, 5)), &last)), ["B1", "B3"]);
    assert_eq!(broken(&list::reads(SIGNALS, &with(read(2, json!([1]), 4, 5)), &last)), ["B3"]);
    assert_eq!(broken(&list::reads(SIGNALS, &with(read(2, json!([1, 2]), 0, 1)), &last)), ["B3"]);
    // Two reads, one after the other, of what nobody was told yet.
    let unknown = append(1, 2, 2, lost(3));
    let operations = [appends[0].clone(), unknown, read(2, json!([1, 2]), 4, 5), read(3, json!([1]), 6, 7)];
    assert_eq!(broken(&list::reads(SIGNALS, &operations, &last)), ["B3"]);
    holds(list::reads(SIGNALS, &with(read(2, json!([1]), 2, 5)), &last));
}

#[test]
fn timers_are_neither_early_nor_forgotten() {
    let timer = |completion| op(0, "timer", "wf", json!({"ms": 100}), 10 * MS, completion);
    let judge = |completion| timers::timers(&[timer(completion)], 0, 50 * MS);
    holds(judge(ok(110 * MS, json!({}))));
    assert_eq!(broken(&judge(ok(109 * MS, json!({})))), ["F1"]);
    assert_eq!(broken(&judge(ok(161 * MS, json!({})))), ["F2"]);
    assert_eq!(broken(&judge(Completion::Pending)), ["F2"]);
    assert_eq!(judge(failed(1)).standing(), Standing::Vacuous);
    // Late because of a fault: the bound counts from healing.
    holds(timers::timers(&[timer(ok(500 * MS, json!({})))], 460 * MS, 50 * MS));
}

/// A run with one timer of 100 ms, asked for in the task that was handed out at 10 ms and seen to have fired in the next.
fn run_with_a_timer() -> RunHistory {
    let attributes = [
        Attributes::WorkflowTaskStartedEventAttributes(Default::default()),
        Attributes::WorkflowTaskCompletedEventAttributes(WorkflowTaskCompletedEventAttributes {
            started_event_id: 1,
            ..Default::default()
        }),
        Attributes::TimerStartedEventAttributes(TimerStartedEventAttributes {
            start_to_fire_timeout: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
            workflow_task_completed_event_id: 2,
            ..Default::default()
        }),
        Attributes::TimerFiredEventAttributes(TimerFiredEventAttributes { started_event_id: 3, ..Default::default() }),
        Attributes::WorkflowTaskStartedEventAttributes(Default::default()),
    ];
    let events = (1..).zip(attributes).map(|(event_id, attributes)| HistoryEvent {
        event_id,
        attributes: Some(attributes),
        ..Default::default()
    });
    RunHistory { workflow_id: "wf".into(), run_id: "run".into(), events: events.collect() }
}

fn handed_out(at: u64, started_event_id: i64) -> Line {
    Line {
        at,
        worker: "w".into(),
        workflow_id: "wf".into(),
        run_id: "run".into(),
        activity_id: String::new(),
        attempt: 1,
        token: String::new(),
        what: What::Decides { started_event_id },
    }
}

#[test]
fn a_timer_that_a_worker_sees_too_soon_is_early() {
    let judge = |seen| timers::never_early(&[handed_out(10 * MS, 1), handed_out(seen, 5)], &[run_with_a_timer()]);
    holds(judge(110 * MS));
    // As much as two clocks that are right may differ.
    holds(judge(110 * MS - MS / 20));
    assert_eq!(broken(&judge(110 * MS - MS / 10)), ["F1"]);
    let nobody_saw = timers::never_early(&[handed_out(10 * MS, 1)], &[run_with_a_timer()]);
    assert_eq!(nobody_saw.standing(), Standing::Vacuous);
}

fn schedule() -> Schedule {
    Schedule { id: "s".into(), interval: 10, from: 12, until: 45, not_before: 8, not_after: 52 }
}

fn action(nominal: i64, started: i64) -> Action {
    Action { schedule_id: "s".into(), workflow_id: format!("s-{nominal}"), run_id: "r".into(), nominal, started }
}

#[test]
fn schedules_act_at_each_time_once() {
    let judge = |actions: &[Action]| timers::schedules(&[schedule()], actions);
    let right = [action(20, 21), action(30, 30), action(40, 77)];
    holds(judge(&right));
    // Around its creation and its end an action may be there or not.
    holds(judge(&[&right[..], &[action(10, 11), action(50, 50)]].concat()));
    assert_eq!(broken(&judge(&right[..2])), ["F3"]);
    assert_eq!(broken(&judge(&[&right[..], &[action(20, 22)]].concat())), ["F3"]);
    assert_eq!(broken(&judge(&[&right[..], &[action(25, 26)]].concat())), ["F3"]);
    assert_eq!(broken(&judge(&[&right[..], &[action(60, 61)]].concat())), ["F3"]);
    assert_eq!(broken(&judge(&[action(20, 19), right[1].clone(), right[2].clone()])), ["F3"]);
    let foreign = Action { schedule_id: "other".into(), ..action(20, 21) };
    assert_eq!(broken(&judge(&[&right[..], &[foreign]].concat())), ["F3"]);
}

#[test]
fn lists_and_counts_lie_between_what_was_certain_and_what_was_possible() {
    let change = |index, f: &str, id: &str, invoked, completion| op(index, f, id, Value::Null, invoked, completion);
    let base = [
        change(0, "start", "a", 0, ok(1, json!({}))),
        change(1, "start", "b", 0, lost(1)),
        change(2, "start", "c", 0, failed(1)),
        change(3, "close", "a", 10, ok(11, json!({}))),
    ];
    let ask = |f: &str, which: &str, invoked, answer: Value| -> Vec<Operation> {
        let question = op(9, f, "", json!({"which": which}), invoked, ok(invoked + 1, answer));
        base.iter().cloned().chain([question]).collect()
    };
    holds(visibility::lists(&ask("list", "all", 5, json!(["a"]))));
    holds(visibility::lists(&ask("list", "all", 5, json!(["a", "b"]))));
    holds(visibility::lists(&ask("list", "open", 10, json!([]))));
    holds(visibility::lists(&ask("list", "closed", 20, json!(["a"]))));
    for (which, answer) in [
        ("all", json!([])),
        ("all", json!(["a", "a"])),
        ("all", json!(["a", "c"])),
        ("all", json!(["a", "nobody"])),
        ("closed", json!(["a", "b"])),
        ("closed", json!([])),
        ("open", json!(["a"])),
    ] {
        let verdict = visibility::lists(&ask("list", which, 20, answer.clone()));
        assert_eq!(broken(&verdict), ["I1"], "{which} {answer}");
    }
    holds(visibility::counts(&ask("count", "all", 5, json!({"count": 2}))));
    assert_eq!(broken(&visibility::counts(&ask("count", "all", 5, json!({"count": 0})))), ["I2"]);
    assert_eq!(broken(&visibility::counts(&ask("count", "all", 5, json!({"count": 3})))), ["I2"]);
}

#[test]
fn nodes_that_disagree_at_rest_are_found() {
    let told = |rows: &[&str], count| (rows.iter().map(ToString::to_string).collect::<Vec<_>>(), count);
    let of =
        |two: (Vec<String>, u64)| BTreeMap::from([("n1".to_owned(), told(&["a", "b"], 2)), ("n2".to_owned(), two)]);
    holds(visibility::at_rest(&of(told(&["b", "a"], 2))));
    assert_eq!(broken(&visibility::at_rest(&of(told(&["a"], 1)))), ["I3"]);
    assert_eq!(broken(&visibility::at_rest(&of(told(&["a", "b"], 3)))), ["I2"]);
}

#[test]
fn money_is_neither_made_nor_lost() {
    let before = BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 100)]);
    let line = |leg, amount| Booking { transfer: "t".into(), leg, amount };
    let judge = |ended, a: &[Booking], b: &[Booking]| {
        let transfer = Transfer { from: "a".into(), to: "b".into(), amount: 5, ended };
        let accounts = BTreeMap::from([("a".to_owned(), a.to_vec()), ("b".to_owned(), b.to_vec())]);
        bank::conserved(&before, &accounts, &BTreeMap::from([("t".to_owned(), transfer)]))
    };
    let (take, give, back) = (line(Leg::Take, -5), line(Leg::Give, 5), line(Leg::GiveBack, 5));
    holds(judge(bank::Ended::Done, std::slice::from_ref(&take), std::slice::from_ref(&give)));
    holds(judge(bank::Ended::GivenUp, &[take.clone(), back.clone()], &[]));
    holds(judge(bank::Ended::GivenUp, &[], &[]));
    // Doubled, half done, and done though it was given up: the last one keeps the total and is found all the same.
    assert_eq!(
        broken(&judge(bank::Ended::Done, std::slice::from_ref(&take), &[give.clone(), give.clone()])),
        ["E1", "E1"]
    );
    assert_eq!(broken(&judge(bank::Ended::Done, std::slice::from_ref(&take), &[])), ["E1", "E1"]);
    assert_eq!(broken(&judge(bank::Ended::GivenUp, std::slice::from_ref(&take), std::slice::from_ref(&give))), ["E1"]);
    assert_eq!(broken(&judge(bank::Ended::NeverBegun, &[take], &[give])), ["E1"]);
}
