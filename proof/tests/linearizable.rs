//! The search for an order: hand-made histories that have one and that have none, and random ones held against a search by brute force.

#![allow(clippy::unwrap_used)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use stanchion_proof::check::linearizable::{Model, check, check_within};
use stanchion_proof::check::model::counter::Counter;
use stanchion_proof::check::model::register::Register;
use stanchion_proof::check::model::start::{StartRegister, numbers_match_runs};
use stanchion_proof::check::{Standing, Verdict, exit_code, report};
use stanchion_proof::journal::{Completion, Operation};

/// An operation of key "k" from `invoked` on. How it ended is told by [`ok`], [`lost`] or [`failed`].
fn op(index: u64, f: &str, input: Value, invoked: u64) -> Operation {
    let completion = Completion::Pending;
    Operation { index, process: index, f: f.into(), key: "k".into(), input, invoked, completion }
}

fn ok(operation: Operation, at: u64, value: Value) -> Operation {
    Operation { completion: Completion::Ok { at, value }, ..operation }
}

fn lost(operation: Operation, at: u64) -> Operation {
    Operation { completion: Completion::Info { at, error: "lost".into() }, ..operation }
}

fn failed(operation: Operation, at: u64) -> Operation {
    Operation { completion: Completion::Fail { at, error: "refused".into() }, ..operation }
}

fn write(index: u64, value: u64, from: u64, to: u64) -> Operation {
    ok(op(index, "write", json!(value), from), to, json!(value))
}

fn read(index: u64, seen: Value, from: u64, to: u64) -> Operation {
    ok(op(index, "read", Value::Null, from), to, seen)
}

fn cas(index: u64, from_to: [u64; 2], swapped: bool, from: u64, to: u64) -> Operation {
    ok(op(index, "cas", json!(from_to), from), to, json!(swapped))
}

fn register(operations: &[Operation]) -> Verdict {
    check("register", "B3", &Register { initial: Value::Null }, operations)
}

#[test]
fn overlapping_operations_may_take_effect_in_any_order() {
    let verdict =
        register(&[write(0, 1, 0, 10), write(1, 2, 0, 10), read(2, json!(1), 11, 12), read(3, json!(1), 13, 14)]);
    assert_eq!(verdict.standing(), Standing::Holds, "{}", report(&[verdict]));
}

#[test]
fn a_stale_read_is_shown_with_the_write_it_missed() {
    let history = [
        write(0, 7, 0, 1),
        read(1, json!(7), 2, 3),
        write(2, 1, 10, 11),
        read(3, json!(1), 12, 13),
        write(4, 2, 14, 15),
        read(5, json!(2), 16, 17),
        read(6, json!(1), 18, 19),
        read(7, json!(2), 20, 21),
    ];
    let verdict = register(&history);
    assert_eq!((verdict.standing(), exit_code(std::slice::from_ref(&verdict))), (Standing::Violated, 1));
    let violation = verdict.smallest().unwrap();
    assert_eq!(violation.rule, "B3");
    assert!(violation.what.contains("[6] read"), "{violation:?}");
    // Where it was last certain, the read that cannot be, and what it could have been: nothing else is needed.
    assert_eq!(violation.evidence.len(), 3, "{violation:#?}");
    assert!(violation.evidence[0].ends_with("at first: 2"), "{violation:#?}");
    assert!(violation.evidence[2].ends_with("it could have been: 2"), "{violation:#?}");
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let verdict = register(&[write(0, 1, 0, 1), read(1, Value::Null, 2, 3)]);
    assert_eq!(verdict.standing(), Standing::Violated);
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_twice() {
    let unknown = lost(op(0, "write", json!(1), 0), 1);
    let late =
        [unknown.clone(), write(1, 2, 2, 3), read(2, json!(2), 4, 5), read(3, json!(1), 6, 7), read(4, json!(1), 8, 9)];
    assert_eq!(register(&late).standing(), Standing::Holds);
    let never = [unknown.clone(), write(1, 2, 2, 3), read(2, json!(2), 4, 5)];
    assert_eq!(register(&never).standing(), Standing::Holds);
    let twice =
        [unknown, read(2, json!(1), 4, 5), write(1, 2, 6, 7), read(3, json!(2), 8, 9), read(4, json!(1), 10, 11)];
    assert_eq!(register(&twice).standing(), Standing::Violated);
}

#[test]
fn a_failed_write_that_is_seen_is_a_violation() {
    let refused = failed(op(0, "write", json!(1), 0), 1);
    assert_eq!(register(&[refused, read(1, json!(1), 2, 3)]).standing(), Standing::Violated);
}

#[test]
fn of_two_swaps_from_one_value_one_wins() {
    let both = [write(0, 1, 0, 1), cas(1, [1, 2], true, 2, 9), cas(2, [1, 3], true, 2, 9)];
    assert_eq!(register(&both).standing(), Standing::Violated);
    let one = [write(0, 1, 0, 1), cas(1, [1, 2], true, 2, 9), cas(2, [1, 3], false, 2, 9), read(3, json!(2), 10, 11)];
    assert_eq!(register(&one).standing(), Standing::Holds);
}

#[test]
fn keys_are_judged_apart() {
    let mut other = read(1, Value::Null, 2, 3);
    other.key = "another".into();
    assert_eq!(register(&[write(0, 1, 0, 1), other]).standing(), Standing::Holds);
}

#[test]
fn nothing_looked_at_is_no_pass_and_neither_is_giving_up() {
    assert_eq!((register(&[]).standing(), exit_code(&[register(&[])])), (Standing::Vacuous, 2));
    let many: Vec<Operation> = (0..12).map(|n| write(n, n, 0, 100)).collect();
    let verdict = check_within("register", "B3", &Register { initial: Value::Null }, &many, 1_000);
    assert_eq!((verdict.standing(), exit_code(&[verdict])), (Standing::Undecided, 2));
}

#[test]
fn many_unknown_operations_do_not_double_the_work_each() {
    // Two hundred writes of unknown outcome with five values, and reads between: without a canonical order, 2^200 configurations.
    let mut chance = ChaCha8Rng::seed_from_u64(1);
    let mut history = Vec::new();
    let mut held = Value::Null;
    for n in 0..200 {
        let value: u64 = chance.random_range(0..5);
        history.push(lost(op(2 * n, "write", json!(value), 10 * n), 10 * n + 5));
        if chance.random_bool(0.3) {
            held = json!(value);
        }
        history.push(read(2 * n + 1, held.clone(), 10 * n + 6, 10 * n + 7));
    }
    let verdict = register(&history);
    assert_eq!(verdict.standing(), Standing::Holds, "{}", report(&[verdict]));
}

#[test]
fn a_counter_counts_each_addition_once() {
    let add = |index, much: i64, from, to| ok(op(index, "add", json!(much), from), to, json!(much));
    let counts = |history: &[Operation]| check("counter", "E1", &Counter, history).standing();
    assert_eq!(counts(&[add(0, 2, 0, 1), add(1, 3, 0, 1), read(2, json!(5), 2, 3)]), Standing::Holds);
    assert_eq!(counts(&[add(0, 2, 0, 1), add(1, 3, 0, 1), read(2, json!(8), 2, 3)]), Standing::Violated);
}

fn start(index: u64, n: u64, policies: [&str; 2], answer: Value, from: u64, to: u64) -> Operation {
    let [reuse, conflict] = policies;
    ok(op(index, "start", json!({"n": n, "reuse": reuse, "conflict": conflict}), from), to, answer)
}

fn anew(n: u64) -> Value {
    json!({"n": n, "started": true})
}

fn starts(operations: &[Operation]) -> Standing {
    check("starts", "A3", &StartRegister, operations).standing()
}

#[test]
fn policies_decide_by_the_state_of_the_id() {
    let plain = ["allow", "fail"];
    let terminate = |index, n: u64, from| ok(op(index, "terminate", json!({"n": n}), from), from + 1, json!({}));
    let complete = |index, n: u64, from| ok(op(index, "complete", json!({"n": n}), from), from + 1, json!({}));
    let describe = |index, answer: Value, from| ok(op(index, "describe", Value::Null, from), from + 1, answer);
    let history = [
        describe(0, json!({"none": true}), 0),
        start(1, 1, plain, anew(1), 10, 11),
        start(2, 2, plain, json!({"refused": 1}), 20, 21),
        start(3, 3, ["allow", "use"], json!({"n": 1, "started": false}), 30, 31),
        start(4, 4, ["allow", "terminate"], anew(4), 40, 41),
        terminate(5, 4, 50),
        start(6, 6, ["reject", "fail"], json!({"refused": 4}), 60, 61),
        start(7, 7, ["failed-only", "fail"], anew(7), 70, 71),
        complete(8, 7, 80),
        describe(9, json!({"n": 7, "status": "completed"}), 85),
        start(10, 10, ["failed-only", "fail"], json!({"refused": 7}), 90, 91),
        start(11, 11, ["terminate", ""], anew(11), 100, 101),
        start(12, 12, ["terminate", ""], anew(12), 110, 111),
        ok(op(13, "signal", Value::Null, 120), 121, json!({})),
        describe(14, json!({"n": 12, "status": "running"}), 130),
    ];
    assert_eq!(starts(&history), Standing::Holds);
    // Each answer matters: with any other one the history is refused.
    for at in [1, 2, 3, 4, 6, 7, 10, 11, 12] {
        let mut other = history.to_vec();
        let refused = history[at].ok().unwrap().get("refused").is_some();
        let value = if refused { anew(other[at].index) } else { json!({"refused": 99}) };
        other[at] = ok(other[at].clone(), history[at].settled().unwrap(), value);
        assert_eq!(starts(&other), Standing::Violated, "{}", other[at]);
    }
}

#[test]
fn two_open_runs_of_one_id_are_found() {
    let plain = ["allow", "fail"];
    assert_eq!(starts(&[start(0, 1, plain, anew(1), 0, 5), start(1, 2, plain, anew(2), 0, 5)]), Standing::Violated);
}

#[test]
fn a_start_whose_answer_was_lost_explains_what_was_seen_once() {
    let unknown = lost(op(0, "start", json!({"n": 1, "reuse": "allow", "conflict": "fail"}), 0), 1);
    let refused = start(1, 2, ["allow", "fail"], json!({"refused": 1}), 2, 3);
    assert_eq!(starts(&[unknown.clone(), refused.clone()]), Standing::Holds);
    assert_eq!(starts(std::slice::from_ref(&refused)), Standing::Violated);
    // After its run ended, it does not come to life again.
    let ended = ok(op(2, "terminate", json!({}), 4), 5, json!({}));
    let again = ok(op(3, "describe", Value::Null, 6), 7, json!({"n": 1, "status": "running"}));
    assert_eq!(starts(&[unknown, refused, ended, again]), Standing::Violated);
}

#[test]
fn a_repeated_request_may_find_the_run_that_it_started_itself() {
    let found = start(0, 1, ["allow", "use"], json!({"n": 1, "started": false}), 0, 9);
    let seen = ok(op(1, "describe", Value::Null, 2), 3, json!({"n": 1, "status": "running"}));
    assert_eq!(starts(&[found, seen]), Standing::Holds);
}

#[test]
fn a_start_with_two_runs_and_a_run_of_two_starts_are_found() {
    assert!(numbers_match_runs([(1, "a"), (2, "b"), (1, "a")]).holds());
    assert_eq!(numbers_match_runs([(1, "a"), (1, "b")]).standing(), Standing::Violated);
    assert_eq!(numbers_match_runs([(1, "a"), (2, "a")]).standing(), Standing::Violated);
}

// --- random histories ---------------------------------------------------------------------------------------------------------------

/// A history of a real register: each operation takes effect at a moment between its invocation and its end, or, when its outcome is unknown,
/// at any later moment or never.
fn atomic(chance: &mut ChaCha8Rng, processes: u64, operations: u64) -> Vec<Operation> {
    struct Planned {
        operation: Operation,
        effect: Option<u64>,
        ends: Option<u64>,
    }
    let mut planned: Vec<Planned> = Vec::new();
    let mut clocks = vec![0_u64; processes as usize];
    for index in 0..operations {
        let process = chance.random_range(0..processes) as usize;
        let invoked = clocks[process] + chance.random_range(1..6);
        let ended = invoked + chance.random_range(2..12);
        clocks[process] = ended;
        let (a, b): (u64, u64) = (chance.random_range(0..3), chance.random_range(0..3));
        let operation = match chance.random_range(0..3) {
            0 => op(index, "read", Value::Null, invoked),
            1 => op(index, "write", json!(a), invoked),
            _ => op(index, "cas", json!([a, b]), invoked),
        };
        let unknown = chance.random_bool(0.15);
        let effect = match (unknown, chance.random_bool(0.5)) {
            (false, _) => Some(chance.random_range(invoked..=ended)),
            (true, true) => Some(invoked + chance.random_range(0..60)),
            (true, false) => None,
        };
        planned.push(Planned { operation, effect, ends: (!unknown).then_some(ended) });
    }
    let mut order: Vec<usize> = (0..planned.len()).filter(|at| planned[*at].effect.is_some()).collect();
    order.sort_by_key(|at| planned[*at].effect);
    let mut held = Value::Null;
    for at in order {
        let input = planned[at].operation.input.clone();
        let answer = match planned[at].operation.f.as_str() {
            "read" => held.clone(),
            "write" => {
                held = input.clone();
                input
            }
            _ => {
                let swaps = held == input[0];
                if swaps {
                    held = input[1].clone();
                }
                json!(swaps)
            }
        };
        if let Some(ended) = planned[at].ends {
            planned[at].operation.completion = Completion::Ok { at: ended, value: answer };
        }
    }
    let mut history: Vec<Operation> = planned.into_iter().map(|planned| planned.operation).collect();
    history.sort_by_key(|operation| operation.invoked);
    history
}

/// Whether any order at all explains it, tried one by one.
fn brute_force(model: &Register, history: &[Operation]) -> bool {
    fn go(model: &Register, history: &[Operation], left: &mut Vec<usize>, state: &<Register as Model>::State) -> bool {
        if left.iter().all(|at| history[*at].settled().is_none()) {
            return true;
        }
        for place in 0..left.len() {
            let at = left[place];
            let after_another =
                left.iter().any(|other| history[*other].settled().is_some_and(|ended| ended < history[at].invoked));
            if after_another {
                continue;
            }
            left.remove(place);
            let call = model.call(&history[at]).unwrap().unwrap();
            let found = model.step(state, &call).is_some_and(|state| go(model, history, left, &state));
            left.insert(place, at);
            if found {
                return true;
            }
        }
        false
    }
    go(model, history, &mut (0..history.len()).collect(), &model.initial("k"))
}

#[test]
fn histories_of_a_real_register_are_accepted() {
    for seed in 0..400 {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let history = atomic(&mut chance, 5, 60);
        let verdict = register(&history);
        assert_eq!(verdict.standing(), Standing::Holds, "seed {seed}\n{}", report(&[verdict]));
    }
}

#[test]
fn falsified_histories_are_judged_as_brute_force_judges_them() {
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..1_500 {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut history = atomic(&mut chance, 3, 8);
        for _ in 0..chance.random_range(1..3) {
            let at = chance.random_range(0..history.len());
            let other = json!(chance.random_range(0..3_u64));
            let swapped = json!(chance.random_bool(0.5));
            let is_cas = history[at].f == "cas";
            match &mut history[at].completion {
                Completion::Ok { value, .. } if is_cas => *value = swapped,
                Completion::Ok { value, .. } => *value = other,
                Completion::Fail { .. } | Completion::Info { .. } | Completion::Pending => {}
            }
        }
        let model = Register { initial: Value::Null };
        let expected = if brute_force(&model, &history) { Standing::Holds } else { Standing::Violated };
        let verdict = register(&history);
        assert_eq!(verdict.standing(), expected, "seed {seed}\n{history:#?}\n{}", report(&[verdict]));
        if expected == Standing::Holds { accepted += 1 } else { refused += 1 }
    }
    // The comparison means something only if both happen often.
    assert!(refused > 300 && accepted > 300, "{refused} refused, {accepted} accepted");
}
