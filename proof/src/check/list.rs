//! Lists that only grow, of elements that are unique: acknowledged ones are there once, in order, and what was seen stays seen.
//!
//! An `append` asks for an element under its operation's key; a `read` is answered with the elements as an array. Because elements are
//! unique, the last list of a key gives the order of all of them, and judging is linear where a search over orders would not end.
//!
//! Called by workloads that append (signals, updates, chunks of a stream).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Verdict;
use crate::journal::{Completion, Operation};

/// How a workload calls its operations, and which rules of the reference its list stands for.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    pub append: &'a str,
    pub read: &'a str,
    /// An acknowledged element is there once, an unknown one at most once, a refused one never.
    pub once: &'a str,
    pub order: &'a str,
    /// What was read stays so, and a later read shows at least as much.
    pub reads: &'a str,
}

/// Signals of a run and the histories that show them.
pub const SIGNALS: Words<'_> = Words { append: "append", read: "read", once: "E1", order: "E2", reads: "B3" };

/// The lists as the final strong reads show them, by key.
pub type Finals = BTreeMap<String, Vec<Value>>;

/// An acknowledged element is in the final list once, one of unknown outcome at most once, a refused one never, and none that nobody
/// appended.
pub fn exactly_once(words: Words<'_>, operations: &[Operation], finals: &Finals) -> Verdict {
    let mut verdict = Verdict::new(format!("acknowledged elements are there once ({})", words.append));
    let mut counted: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (key, list) in finals {
        for element in list {
            *counted.entry((key, element.to_string())).or_default() += 1;
        }
    }
    let mut asked: BTreeSet<(&str, String)> = BTreeSet::new();
    for operation in operations.iter().filter(|operation| operation.f == words.append) {
        let place = (operation.key.as_str(), operation.input.to_string());
        let times = counted.get(&place).copied().unwrap_or(0);
        let (key, element) = &place;
        let what = match &operation.completion {
            Completion::Ok { .. } if !finals.contains_key(*key) => {
                Some(format!("{key}: {element} was acknowledged, and the list could not be read at the end"))
            }
            Completion::Ok { .. } if times != 1 => {
                Some(format!("{key}: acknowledged {element} is there {times} times"))
            }
            Completion::Fail { .. } if times != 0 => Some(format!("{key}: refused {element} is there {times} times")),
            Completion::Info { .. } | Completion::Pending if times > 1 => {
                Some(format!("{key}: {element}, whose outcome is unknown, is there {times} times"))
            }
            Completion::Ok { .. } | Completion::Fail { .. } | Completion::Info { .. } | Completion::Pending => None,
        };
        if let Some(what) = what {
            verdict.violate(words.once, what, vec![operation.to_string()]);
        }
        verdict.looked_at += u64::from(operation.ok().is_some());
        asked.insert(place);
    }
    for (key, element) in counted.keys().filter(|place| !asked.contains(*place)) {
        verdict.violate(words.once, format!("{key}: {element} is there, and nobody appended it"), Vec::new());
    }
    verdict
}

/// An element that was acknowledged before another was asked for stands before it; so one sender's elements keep their order.
pub fn order(words: Words<'_>, operations: &[Operation], finals: &Finals) -> Verdict {
    let mut verdict = Verdict::new(format!("acknowledged elements keep their order ({})", words.append));
    let places = places(finals);
    let mut keys: BTreeMap<&str, Vec<(u64, &Operation)>> = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.f == words.append && !operation.failed()) {
        if let Some(place) = places.get(&(operation.key.as_str(), operation.input.to_string())) {
            keys.entry(&operation.key).or_default().push((*place, operation));
        }
    }
    for (key, mut appends) in keys {
        // From the list's end to its start: the earliest acknowledgement of all that stand behind. Whoever was asked for after that one
        // must stand behind it.
        appends.sort_by_key(|(place, _)| *place);
        let mut earliest: Option<(u64, &Operation)> = None;
        for (_, operation) in appends.iter().rev() {
            if let Some((acknowledged, behind)) = earliest
                && acknowledged < operation.invoked
            {
                let what = format!(
                    "{key}: {} was acknowledged before {} was asked for, and stands behind it",
                    behind.input, operation.input
                );
                verdict.violate(words.order, what, vec![behind.to_string(), operation.to_string()]);
            }
            if let Completion::Ok { at, .. } = operation.completion {
                verdict.looked_at += 1;
                if earliest.is_none_or(|(before, _)| at < before) {
                    earliest = Some((at, operation));
                }
            }
        }
    }
    verdict
}

/// Each read is the beginning of the final list, shows what was acknowledged before it began, no element before it was asked for, and no
/// less than a read that had ended before it began.
pub fn reads(words: Words<'_>, operations: &[Operation], finals: &Finals) -> Verdict {
    let mut verdict = Verdict::new(format!("reads are prefixes and never go backwards ({})", words.read));
    let places = places(finals);
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in keys {
        let Some(last) = finals.get(key) else { continue };
        // How much of the list was there for certain from when on: acknowledged appends and ended reads.
        let mut certain: Vec<(u64, u64, &Operation)> = Vec::new();
        let mut found: Vec<(&Operation, u64)> = Vec::new();
        let mut asked: BTreeMap<String, &Operation> = BTreeMap::new();
        for operation in operations {
            if operation.f == words.append {
                asked.insert(operation.input.to_string(), operation);
                let place = places.get(&(key, operation.input.to_string()));
                if let (Completion::Ok { at, .. }, Some(place)) = (&operation.completion, place) {
                    certain.push((*at, place + 1, operation));
                }
            } else if operation.f == words.read
                && let Completion::Ok { at, value } = &operation.completion
            {
                verdict.looked_at += 1;
                let Some(seen) = value.as_array() else {
                    verdict.violate(words.reads, format!("{key}: a read that is no list"), vec![operation.to_string()]);
                    continue;
                };
                let common = seen.iter().zip(last).take_while(|(seen, last)| seen == last).count();
                if common < seen.len() {
                    let (was, is) = (&seen[common], last.get(common).map_or("nothing".to_owned(), Value::to_string));
                    let what = format!("{key}: element {} of a read was {was}, and is {is} in the end", common + 1);
                    verdict.violate("B1", what, vec![operation.to_string()]);
                }
                certain.push((*at, common as u64, operation));
                found.push((operation, seen.len() as u64));
                let unasked =
                    |element: &&Value| asked.get(&element.to_string()).is_some_and(|append| append.invoked > *at);
                if let Some(element) = seen.iter().find(unasked) {
                    let append = asked.get(&element.to_string()).map(|append| append.to_string()).unwrap_or_default();
                    let what = format!("{key}: {element} was read before anybody asked for it");
                    verdict.violate(words.reads, what, vec![operation.to_string(), append]);
                }
            }
        }
        certain.sort_by_key(|(at, ..)| *at);
        found.sort_by_key(|(read, _)| read.invoked);
        let mut most: Option<(u64, &Operation)> = None;
        let mut certain = certain.into_iter().peekable();
        for (read, length) in found {
            while let Some((_, so_many, by)) = certain.next_if(|(at, ..)| *at < read.invoked) {
                if most.is_none_or(|(most, _)| so_many > most) {
                    most = Some((so_many, by));
                }
            }
            if let Some((so_many, by)) = most.filter(|(so_many, _)| *so_many > length) {
                let what =
                    format!("{key}: a read returned {length} elements, though {so_many} were there before it began");
                verdict.violate(words.reads, what, vec![by.to_string(), read.to_string()]);
            }
        }
    }
    verdict
}

/// Where each element stands. Of one that is there twice, the first place.
fn places(finals: &Finals) -> BTreeMap<(&str, String), u64> {
    let mut places = BTreeMap::new();
    for (key, list) in finals {
        for (at, element) in list.iter().enumerate() {
            places.entry((key.as_str(), element.to_string())).or_insert(at as u64);
        }
    }
    places
}
