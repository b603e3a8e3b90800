//! Linearizability: can the operations on one object be put in an order, each at some moment between its invocation and its end, in which a
//! sequential object gives the answers that were seen?
//!
//! Wing and Gong's search in the form of Lowe's just-in-time linearization, breadth first. Keys are judged apart (linearizability is
//! local). The search walks over invocations and ends in order of time and keeps every *configuration* that explains what was seen so far:
//! the object's state, and which of the operations that are not over have taken effect already.
//!
//! ```text
//! process 0  |--- write 1 ---------------|
//! process 1        |--- read -> 1 ---|
//!                                    ^ the read ends: it must have taken effect. From the state "nothing", only "write 1, read" does it;
//!                                      the configuration goes on as (1, {write 1}), and the end of the write finds it done.
//! ```
//!
//! At the end of an operation, each configuration in which it has not taken effect yet is advanced by every sequence of operations under way
//! that ends with it; one that cannot be advanced is dropped. When none is left, the history up to this end is the smallest prefix that is not
//! linearizable. An operation of unknown outcome has no end: it may take effect at any later time or never. Two things keep these from
//! doubling the work each: a configuration that used more of them than another with the same state is dropped, for the other can
//! do all that it can; and of several equal ones the oldest is used first.
//!
//! Never takes longer than its bound, in steps and not in seconds so that a verdict repeats: past it the key is undecided, which is no pass.
//! Called by workloads through [`check`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::Verdict;
use crate::journal::Operation;

/// A sequential object.
pub trait Model {
    /// What was asked and what was answered, in the model's words. An operation of unknown outcome is one without an answer.
    type Call: Clone + PartialEq;
    type State: Clone + Ord + Display;

    fn initial(&self, key: &str) -> Self::State;

    /// None: it says nothing about the object (certainly no effect, nothing learned). An error: an answer that makes no sense.
    fn call(&self, operation: &Operation) -> Result<Option<Self::Call>, String>;

    /// The state after `call` took effect in `state` with the answer that was seen; none if it would have been answered differently.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// Whether it never changes the state. Such operations can be left out of the evidence.
    fn reads(&self, call: &Self::Call) -> bool;
}

/// Steps of the model for one key. About ten seconds of an unoptimised build.
pub const STEPS_MAX: u64 = 3_000_000;

/// Judges the operations of each key against `model`.
pub fn check<M: Model>(name: &str, rule: &str, model: &M, operations: &[Operation]) -> Verdict {
    check_within(name, rule, model, operations, STEPS_MAX)
}

/// As [`check`], with a bound of its own for the work on each key.
pub fn check_within<M: Model>(name: &str, rule: &str, model: &M, operations: &[Operation], steps_max: u64) -> Verdict {
    let mut verdict = Verdict::new(name);
    let mut keys: BTreeMap<&str, Vec<Entry<'_, M>>> = BTreeMap::new();
    for operation in operations {
        match model.call(operation) {
            Ok(None) => {}
            Ok(Some(call)) => {
                keys.entry(&operation.key).or_default().push(Entry { operation, call });
                verdict.looked_at += 1;
            }
            Err(what) => verdict.violate(rule, format!("{}: {what}", operation.key), vec![operation.to_string()]),
        }
    }
    for (key, entries) in keys {
        let initial = model.initial(key);
        match Search::new(model, &entries, steps_max).run(initial.clone()) {
            Found::Linearizable => {}
            Found::GaveUp { at } => verdict.undecided.push(format!(
                "{key}: gave up after {steps_max} steps, at the end of operation {} of {}",
                at + 1,
                entries.len()
            )),
            Found::Stuck(stuck) => {
                let (what, evidence) = explain(model, key, initial, &entries, stuck, steps_max);
                verdict.violate(rule, what, evidence);
            }
        }
    }
    verdict
}

struct Entry<'a, M: Model> {
    operation: &'a Operation,
    call: M::Call,
}

impl<M: Model> Clone for Entry<'_, M> {
    fn clone(&self) -> Self {
        Entry { operation: self.operation, call: self.call.clone() }
    }
}

enum Found<S> {
    Linearizable,
    Stuck(Stuck<S>),
    GaveUp { at: usize },
}

/// No order explains the end of `entry`.
struct Stuck<S> {
    entry: usize,
    /// What the object could have been just before, with nothing more than necessary having taken effect.
    states: BTreeSet<S>,
    /// The last moment before at which nothing was under way and the object could be in one state only: without the entries that ended
    /// before it, the rest is as impossible.
    since: Option<Since<S>>,
}

struct Since<S> {
    time: u64,
    state: S,
    /// Entries of unknown outcome that must have taken effect by then.
    used: BTreeSet<usize>,
}

/// Which of the entries that are not over have taken effect: of those that will end, and, as an antichain, of those of unknown outcome.
type Configurations<S> = BTreeMap<(S, BTreeSet<usize>), Vec<BTreeSet<usize>>>;

struct Search<'a, 'b, M: Model> {
    model: &'a M,
    entries: &'a [Entry<'b, M>],
    steps_left: u64,
    /// Invoked, and not ended yet.
    open: BTreeSet<usize>,
    unknown: BTreeSet<usize>,
    /// An entry of unknown outcome to the one before it with the same call, which is used first.
    twin: BTreeMap<usize, usize>,
}

impl<'a, 'b, M: Model> Search<'a, 'b, M> {
    fn new(model: &'a M, entries: &'a [Entry<'b, M>], steps_max: u64) -> Self {
        Search {
            model,
            entries,
            steps_left: steps_max,
            open: BTreeSet::new(),
            unknown: BTreeSet::new(),
            twin: BTreeMap::new(),
        }
    }

    fn run(mut self, initial: M::State) -> Found<M::State> {
        let mut configurations: Configurations<M::State> = BTreeMap::new();
        configurations.insert((initial, BTreeSet::new()), vec![BTreeSet::new()]);
        let mut since = None;
        for moment in moments(self.entries) {
            match moment {
                Moment::Invoked(entry) => self.invoke(entry),
                Moment::Ended(entry, time) => {
                    let Some(after) = self.end(entry, &configurations) else { return Found::GaveUp { at: entry } };
                    if after.is_empty() {
                        let states = configurations.into_keys().map(|(state, _)| state).collect();
                        return Found::Stuck(Stuck { entry, states, since });
                    }
                    configurations = after;
                    self.open.remove(&entry);
                    if self.open.is_empty()
                        && configurations.len() == 1
                        && let Some(((state, _), antichain)) = configurations.iter().next()
                        && let [used] = &antichain[..]
                    {
                        since = Some(Since { time, state: state.clone(), used: used.clone() });
                    }
                }
            }
        }
        Found::Linearizable
    }

    fn invoke(&mut self, entry: usize) {
        if self.entries[entry].operation.settled().is_some() {
            self.open.insert(entry);
            return;
        }
        // A read of unknown outcome says nothing and does nothing.
        if self.model.reads(&self.entries[entry].call) {
            return;
        }
        let equal = |other: &&usize| self.entries[**other].call == self.entries[entry].call;
        if let Some(before) = self.unknown.iter().rev().find(equal) {
            self.twin.insert(entry, *before);
        }
        self.unknown.insert(entry);
    }

    /// The configurations in which `ending` has taken effect, with it taken out: it is over. None: out of steps.
    fn end(&mut self, ending: usize, configurations: &Configurations<M::State>) -> Option<Configurations<M::State>> {
        let mut after = Configurations::new();
        let mut seen = Configurations::new();
        let mut work: Vec<(M::State, BTreeSet<usize>, BTreeSet<usize>)> = Vec::new();
        for ((state, live), antichain) in configurations {
            for unknown in antichain {
                if live.contains(&ending) {
                    let mut live = live.clone();
                    live.remove(&ending);
                    keep(&mut after, state.clone(), live, unknown.clone());
                } else if keep(&mut seen, state.clone(), live.clone(), unknown.clone()) {
                    work.push((state.clone(), live.clone(), unknown.clone()));
                }
            }
        }
        while let Some((state, live, unknown)) = work.pop() {
            for &next in self.open.iter().filter(|next| !live.contains(next)) {
                self.steps_left = self.steps_left.checked_sub(1)?;
                let Some(state) = self.model.step(&state, &self.entries[next].call) else { continue };
                if next == ending {
                    keep(&mut after, state, live.clone(), unknown.clone());
                    continue;
                }
                let mut live = live.clone();
                live.insert(next);
                if keep(&mut seen, state.clone(), live.clone(), unknown.clone()) {
                    work.push((state, live, unknown.clone()));
                }
            }
            for &next in self.unknown.iter().filter(|next| !unknown.contains(next)) {
                if self.twin.get(&next).is_some_and(|before| !unknown.contains(before)) {
                    continue;
                }
                self.steps_left = self.steps_left.checked_sub(1)?;
                let Some(after_it) = self.model.step(&state, &self.entries[next].call) else { continue };
                // Without effect here, it is better kept for later.
                if after_it == state {
                    continue;
                }
                let mut unknown = unknown.clone();
                unknown.insert(next);
                if keep(&mut seen, after_it.clone(), live.clone(), unknown.clone()) {
                    work.push((after_it, live.clone(), unknown));
                }
            }
        }
        Some(after)
    }
}

/// Adds a configuration unless one is there that can do all that it can; drops those that can do no more than it. Whether it was added.
fn keep<S: Ord>(to: &mut Configurations<S>, state: S, live: BTreeSet<usize>, unknown: BTreeSet<usize>) -> bool {
    let antichain = to.entry((state, live)).or_default();
    if antichain.iter().any(|used| used.is_subset(&unknown)) {
        return false;
    }
    antichain.retain(|used| !unknown.is_subset(used));
    antichain.push(unknown);
    true
}

enum Moment {
    Invoked(usize),
    Ended(usize, u64),
}

/// Invocations and ends in order of time. At one time invocations come first: operations that touch overlap.
fn moments<M: Model>(entries: &[Entry<'_, M>]) -> Vec<Moment> {
    let mut moments: Vec<((u64, bool, usize), Moment)> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        moments.push(((entry.operation.invoked, false, at), Moment::Invoked(at)));
        if let Some(ended) = entry.operation.settled() {
            moments.push(((ended, true, at), Moment::Ended(at, ended)));
        }
    }
    moments.sort_by_key(|(order, _)| *order);
    moments.into_iter().map(|(_, moment)| moment).collect()
}

/// The smallest part that shows it: what was begun before the end that nothing explains and was not over when the state was last certain,
/// without the reads that it is as impossible without.
fn explain<M: Model>(
    model: &M,
    key: &str,
    initial: M::State,
    entries: &[Entry<'_, M>],
    stuck: Stuck<M::State>,
    steps_max: u64,
) -> (String, Vec<String>) {
    let last = entries[stuck.entry].operation;
    let end = last.settled().unwrap_or(u64::MAX);
    let begun = entries.iter().enumerate().filter(|(_, entry)| entry.operation.invoked <= end);
    let (initial, mut part): (M::State, Vec<Entry<'_, M>>) = match stuck.since {
        Some(Since { time, state, used }) => {
            let after = |(at, entry): &(usize, &Entry<'_, M>)| {
                entry.operation.settled().is_none_or(|ended| ended > time) && !used.contains(at)
            };
            (state, begun.filter(after).map(|(_, entry)| entry.clone()).collect())
        }
        None => (initial, begun.map(|(_, entry)| entry.clone()).collect()),
    };
    let stuck_still = |part: &[Entry<'_, M>], steps_max| match Search::new(model, part, steps_max).run(initial.clone())
    {
        Found::Stuck(stuck) => Some(stuck),
        Found::Linearizable | Found::GaveUp { .. } => None,
    };
    let mut at = 0;
    while part.len() <= PART_SHRUNK_MAX && at < part.len() {
        let mut less = part.clone();
        let out = less.remove(at);
        let can_go = model.reads(&out.call) && out.operation.index != last.index;
        if can_go && stuck_still(&less, steps_max / PART_SHRUNK_MAX as u64).is_some() {
            part = less;
        } else {
            at += 1;
        }
    }
    let states = stuck_still(&part, steps_max).map_or(stuck.states, |stuck| stuck.states);
    let mut evidence = vec![format!("at first: {initial}")];
    let left_out = part.len().saturating_sub(OPERATIONS_SHOWN_MAX);
    if left_out > 0 {
        evidence.push(format!("({left_out} earlier operations of {key} belong to it)"));
    }
    evidence.extend(part.iter().skip(left_out).map(|entry| entry.operation.to_string()));
    let shown: Vec<String> = states.iter().take(STATES_SHOWN_MAX).map(ToString::to_string).collect();
    evidence.push(format!("before the end of [{}] it could have been: {}", last.index, shown.join(" | ")));
    (format!("{key}: no order explains the answer of operation [{}] {}", last.index, last.f), evidence)
}

/// Trying each operation out costs a search each.
const PART_SHRUNK_MAX: usize = 400;
const OPERATIONS_SHOWN_MAX: usize = 60;
const STATES_SHOWN_MAX: usize = 8;
