//! Lists and counts: a list sees what was acknowledged before it was asked for, a count is the number of rows, and at rest all nodes agree
//! (I1-I3).
//!
//! | f | key | asks | is answered |
//! |---|---|---|---|
//! | `start`, `close` | the workflow id, used once | | |
//! | `list` | | `{"which": "all"/"open"/"closed"}` | the workflow ids, as an array |
//! | `count` | | the same | `{"count": n}` |
//!
//! A run that was started and closed while a list was made may be in it or not; so may one whose start or close is of unknown outcome.
//!
//! Called by the visibility workload.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Verdict;
use crate::journal::{Completion, Operation};

/// When something certainly was so, and from when on it may have been.
#[derive(Clone, Copy)]
struct Change<'a> {
    operation: &'a Operation,
    /// Nanoseconds since the start of the test; none: never for certain.
    certain: Option<u64>,
}

impl<'a> Change<'a> {
    fn of(operation: &'a Operation) -> Option<Self> {
        let certain = match operation.completion {
            Completion::Ok { at, .. } => Some(at),
            Completion::Fail { .. } => return None,
            Completion::Info { .. } | Completion::Pending => None,
        };
        Some(Change { operation, certain })
    }

    fn before(&self, time: u64) -> bool {
        self.certain.is_some_and(|at| at < time)
    }

    fn possible(&self, time: u64) -> bool {
        self.operation.invoked <= time
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Open,
    Closed,
}

struct World<'a> {
    starts: BTreeMap<&'a str, Change<'a>>,
    closes: BTreeMap<&'a str, Change<'a>>,
}

impl<'a> World<'a> {
    fn of(operations: &'a [Operation]) -> Self {
        let named = |f: &str| {
            let changes = operations.iter().filter(|operation| operation.f == f).filter_map(Change::of);
            changes.map(|change| (change.operation.key.as_str(), change)).collect()
        };
        World { starts: named("start"), closes: named("close") }
    }

    /// Whether the run must be in an answer to a question asked at `asked` and answered at `answered`; whether it may be.
    fn belongs(&self, id: &str, which: Which, asked: u64, answered: u64) -> (bool, bool) {
        let Some(start) = self.starts.get(id) else { return (false, false) };
        let (there, maybe_there) = (start.before(asked), start.possible(answered));
        let close = self.closes.get(id);
        let (closed, maybe_closed) =
            (close.is_some_and(|close| close.before(asked)), close.is_some_and(|close| close.possible(answered)));
        match which {
            Which::All => (there, maybe_there),
            Which::Open => (there && !maybe_closed, maybe_there && !closed),
            Which::Closed => (closed, maybe_there && maybe_closed),
        }
    }

    fn shows(&self, id: &str) -> Vec<String> {
        let changes = self.starts.get(id).into_iter().chain(self.closes.get(id));
        changes.map(|change| change.operation.to_string()).collect()
    }
}

fn which(operation: &Operation) -> Which {
    match operation.input.get("which").and_then(Value::as_str) {
        Some("open") => Which::Open,
        Some("closed") => Which::Closed,
        _ => Which::All,
    }
}

/// I1: each list against what was acknowledged before it, and what was asked for until it.
pub fn lists(operations: &[Operation]) -> Verdict {
    let mut verdict = Verdict::new("lists see acknowledged starts and closes");
    let world = World::of(operations);
    for operation in operations.iter().filter(|operation| operation.f == "list") {
        let Completion::Ok { at, value } = &operation.completion else { continue };
        verdict.looked_at += 1;
        let rows: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let set: BTreeSet<&str> = rows.iter().copied().collect();
        let asked = format!("{} (a list of {} rows)", operation.input, rows.len());
        let mut broken = |what: String, id: &str| {
            let mut evidence = world.shows(id);
            evidence.push(format!(
                "[{}] {} {asked}, asked at {} ns, answered at {at} ns",
                operation.index, operation.f, operation.invoked
            ));
            verdict.violate("I1", what, evidence);
        };
        if set.len() != rows.len() {
            let twice =
                set.iter().find(|id| rows.iter().filter(|row| row == id).count() > 1).copied().unwrap_or_default();
            broken(format!("{twice} is in a list twice"), twice);
        }
        for id in world.starts.keys() {
            let (must, may) = world.belongs(id, which(operation), operation.invoked, *at);
            if must && !set.contains(id) {
                broken(format!("{id} is missing in a list"), id);
            } else if !may && set.contains(id) {
                broken(format!("{id} is in a list where it cannot be"), id);
            }
        }
        if let Some(id) = set.iter().find(|id| !world.starts.contains_key(*id)) {
            broken(format!("{id} is in a list, and its start was refused or never asked for"), id);
        }
    }
    verdict
}

/// I2: each count lies between the rows that a list must and may have had.
pub fn counts(operations: &[Operation]) -> Verdict {
    let mut verdict = Verdict::new("counts are the numbers of rows");
    let world = World::of(operations);
    for operation in operations.iter().filter(|operation| operation.f == "count") {
        let Completion::Ok { at, value } = &operation.completion else { continue };
        let Some(count) = value.get("count").and_then(Value::as_u64) else {
            verdict.violate("I2", "a count that is no number", vec![operation.to_string()]);
            continue;
        };
        verdict.looked_at += 1;
        let belong: Vec<(bool, bool)> =
            world.starts.keys().map(|id| world.belongs(id, which(operation), operation.invoked, *at)).collect();
        let least = belong.iter().filter(|(must, _)| *must).count() as u64;
        let most = belong.iter().filter(|(_, may)| *may).count() as u64;
        if count < least || count > most {
            let what = format!("a count of {count}, where there were at least {least} and at most {most}");
            verdict.violate("I2", what, vec![operation.to_string()]);
        }
    }
    verdict
}

/// I2, I3: at rest. `told` is node to (rows of a list, count), of one question.
pub fn at_rest(told: &BTreeMap<String, (Vec<String>, u64)>) -> Verdict {
    let mut verdict = Verdict::new("at rest all nodes list and count the same");
    let mut first: Option<(&String, BTreeSet<&String>)> = None;
    for (node, (rows, count)) in told {
        verdict.looked_at += 1;
        if rows.len() as u64 != *count {
            verdict.violate("I2", format!("{node} lists {} rows and counts {count}", rows.len()), Vec::new());
        }
        let set: BTreeSet<&String> = rows.iter().collect();
        match &first {
            None => first = Some((node, set)),
            Some((first_node, first_set)) => {
                let differ: Vec<String> =
                    first_set.symmetric_difference(&set).take(10).map(ToString::to_string).collect();
                if !differ.is_empty() {
                    verdict.violate("I3", format!("{first_node} and {node} list different runs"), differ);
                }
            }
        }
    }
    verdict
}
