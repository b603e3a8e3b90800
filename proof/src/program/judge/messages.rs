//! Signals, updates and queries: each acknowledged message once, each unknown one at most once, each refused one not at all.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::update::v1::outcome;

use super::scene::{Run, Scene};
use crate::check::Verdict;
use crate::drive::SIGNALS_PER_CLIENT;
use crate::journal::Operation;
use crate::program::machine::read;

pub fn signals(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: signals");
    let nowhere: Vec<&&str> = scene.asked.keys().filter(|id| !scene.chains.contains_key(*id)).collect();
    for id in scene.chains.keys().chain(nowhere) {
        let got = scene.signals(id);
        let mut times: BTreeMap<i64, usize> = BTreeMap::new();
        for number in &got {
            *times.entry(*number).or_default() += 1;
        }
        let mut sent: BTreeMap<i64, &Operation> = BTreeMap::new();
        for operation in scene.asked(id, "signal") {
            if let Some(number) = operation.input.as_i64() {
                sent.insert(number, operation);
            }
        }
        for operation in scene.asked(id, "start") {
            if let Some(number) = operation.input.get("signal").and_then(Value::as_i64) {
                sent.insert(number, operation);
            }
        }
        for (number, operation) in &sent {
            verdict.looked_at += 1;
            let there = times.get(number).copied().unwrap_or(0);
            let shown = || vec![operation.to_string(), format!("{id} got {got:?}")];
            if operation.ok().is_some() && there == 0 {
                verdict.violate("E1", format!("the acknowledged signal {number} is in no history of {id}"), shown());
            } else if operation.failed() && there > 0 {
                verdict.violate("E1", format!("the signal {number} was refused, and {id} has it"), shown());
            } else if most_in_a_run(scene, id, *number) > 1 || there > 1 && !repeated(operation) {
                verdict.violate("E1", format!("{id} has the signal {number} {there} times"), shown());
            }
        }
        for (number, there) in times.iter().filter(|(number, _)| !sent.contains_key(*number)) {
            // A parent's; what it sent is judged with the children.
            if *number >= 0 {
                verdict.violate(
                    "E1",
                    format!("nobody sent {id} the signal {number}"),
                    vec![format!("{id} got {got:?}")],
                );
            } else if *there > 1 {
                verdict.violate(
                    "G3",
                    format!("{id} got its parent's signal {number} {there} times"),
                    vec![format!("{id} got {got:?}")],
                );
            }
        }
        order(id, &got, &sent, &mut verdict);
    }
    verdict
}

/// Whether it may have been asked for more than once: a repeat is known by its request id to the run that took the first, and to no other.
fn repeated(operation: &Operation) -> bool {
    let said = operation.ok().and_then(|value| value.get("repeated")).and_then(Value::as_bool);
    operation.unknown() || said.unwrap_or(false)
}

fn most_in_a_run(scene: &Scene<'_>, id: &str, number: i64) -> usize {
    let in_run = |run: &Run<'_>| run.signals().into_iter().filter(|got| *got == number).count();
    scene.chain(id).iter().map(in_run).max().unwrap_or(0)
}

/// One sender's acknowledged signals, in order.
fn order(id: &str, got: &[i64], sent: &BTreeMap<i64, &Operation>, verdict: &mut Verdict) {
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for number in got {
        let is_acknowledged =
            sent.get(number).is_some_and(|operation| operation.ok().is_some() && !repeated(operation));
        if *number >= 0 && !is_acknowledged {
            continue;
        }
        // A parent counts down from -1.
        let (sender, place) = if *number < 0 { (-1, -number) } else { (number / SIGNALS_PER_CLIENT, *number) };
        if let Some(before) = last.insert(sender, place).filter(|before| *before > place) {
            let what = format!("{id}: {place} came after {before}, and one sender sent it before");
            verdict.violate("E2", what, vec![format!("{id} got {got:?}")]);
        }
    }
}

/// An update, as histories tell it.
#[derive(Default)]
struct Executed {
    accepted: usize,
    /// Of all runs of a chain, the most times in one: a repeat that meets the next run is new to it.
    accepted_in_a_run: usize,
    completed_in_a_run: usize,
    outcomes: Vec<Value>,
}

pub fn updates(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: updates");
    for id in scene.asked.keys() {
        let executed = executed(scene.chain(id));
        let none = Executed::default();
        for operation in
            scene.asked(id, "update").chain(scene.asked(id, "start")).chain(scene.asked(id, "update-outcome"))
        {
            let input = operation.input.get("update").unwrap_or(&operation.input);
            let Some(update_id) = input.get("id").and_then(Value::as_str) else { continue };
            verdict.looked_at += 1;
            let found = executed.get(update_id).unwrap_or(&none);
            let shown = || {
                let said = format!("accepted {} times, outcomes {}", found.accepted, json!(found.outcomes));
                vec![operation.to_string(), said]
            };
            if found.accepted_in_a_run > 1 || found.completed_in_a_run > 1 {
                verdict.violate("E3", format!("{id}: update {update_id} was executed more than once"), shown());
            }
            // Of an update that came with a start, a refusal is told with the start's success.
            let told = operation.ok().map(|value| value.get("update").unwrap_or(value));
            let answer = told.and_then(|told| told.get("answer"));
            if let Some(answer) = answer
                && !found.outcomes.contains(answer)
            {
                verdict.violate("E3", format!("{id}: update {update_id} was told to be {answer}"), shown());
            }
            let refused = operation.failed() && operation.f == "update"
                || told.is_some_and(|told| told.get("rejected").is_some());
            if refused && found.accepted > 0 {
                verdict.violate("E3", format!("{id}: update {update_id} was refused, and it was executed"), shown());
            }
        }
        let mut known: Vec<&str> = Vec::new();
        for operation in scene.asked.get(id).into_iter().flatten() {
            let input = operation.input.get("update").unwrap_or(&operation.input);
            known.extend(input.get("id").and_then(Value::as_str));
        }
        for update_id in executed.keys().filter(|update_id| !known.contains(&update_id.as_str())) {
            verdict.violate("E3", format!("{id}: nobody asked for update {update_id}"), Vec::new());
        }
    }
    verdict
}

fn executed(chain: &[Run<'_>]) -> BTreeMap<String, Executed> {
    let mut executed: BTreeMap<String, Executed> = BTreeMap::new();
    for run in chain {
        for (update_id, found) in executed_in(run) {
            let all = executed.entry(update_id).or_default();
            all.accepted += found.accepted;
            all.accepted_in_a_run = all.accepted_in_a_run.max(found.accepted);
            all.completed_in_a_run = all.completed_in_a_run.max(found.outcomes.len());
            all.outcomes.extend(found.outcomes);
        }
    }
    executed
}

fn executed_in(run: &Run<'_>) -> BTreeMap<String, Executed> {
    let mut executed: BTreeMap<String, Executed> = BTreeMap::new();
    for event in &run.history.events {
        match &event.attributes {
            Some(Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(a)) => {
                executed.entry(a.protocol_instance_id.clone()).or_default().accepted += 1;
            }
            Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => {
                let update_id = a.meta.clone().unwrap_or_default().update_id;
                let value = match a.outcome.as_ref().and_then(|outcome| outcome.value.as_ref()) {
                    Some(outcome::Value::Success(payloads)) => read(Some(payloads)).unwrap_or(Value::Null),
                    Some(outcome::Value::Failure(failure)) => json!({ "failure": failure.message }),
                    None => Value::Null,
                };
                executed.entry(update_id).or_default().outcomes.push(value);
            }
            _ => {}
        }
    }
    executed
}

pub fn queries(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: queries");
    for (id, operations) in &scene.asked {
        let all = scene.signals(id);
        let log = log(scene.chain(id));
        for query in scene.asked(id, "query") {
            let Some(report) = query.ok() else { continue };
            verdict.looked_at += 1;
            let seen = numbers(report.get("signals"));
            let seen_log = numbers(report.get("log"));
            if !all.starts_with(&seen) {
                let shown = vec![query.to_string(), format!("{id} got {all:?}")];
                verdict.violate("E4", format!("{id}: a query saw signals that never were, or in another order"), shown);
            }
            if log.as_ref().is_some_and(|log| !log.starts_with(&seen_log)) {
                let shown = vec![query.to_string(), format!("{id} has the log {log:?}")];
                verdict.violate("E4", format!("{id}: a query saw updates that never were, or in another order"), shown);
            }
            for write in operations.iter().filter(|write| write.settled().is_some_and(|at| at < query.invoked)) {
                let Some(acknowledged) = write.ok() else { continue };
                let signal = match &*write.f {
                    "signal" => acknowledged.as_i64().or(acknowledged.get("signal").and_then(Value::as_i64)),
                    "start" => acknowledged.get("signal").and_then(Value::as_i64),
                    _ => None,
                };
                let update = acknowledged.get("update").unwrap_or(acknowledged);
                let appended = update
                    .get("answer")
                    .filter(|answer| answer.is_u64())
                    .and(update.get("arg"))
                    .and_then(Value::as_i64);
                let unseen_signal = signal.filter(|number| !seen.contains(number));
                let unseen_update = appended.filter(|number| !seen_log.contains(number));
                if let Some(number) = unseen_signal.or(unseen_update) {
                    let shown = vec![write.to_string(), query.to_string()];
                    verdict.violate("E4", format!("{id}: a query did not see {number}, acknowledged before it"), shown);
                }
            }
        }
    }
    verdict
}

/// What updates appended in all runs of a chain, as far as replays tell.
fn log(chain: &[Run<'_>]) -> Option<Vec<i64>> {
    chain.last()?.machine.as_ref().ok().map(|machine| machine.carried.log.clone())
}

fn numbers(list: Option<&Value>) -> Vec<i64> {
    list.and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_i64).collect()).unwrap_or_default()
}
