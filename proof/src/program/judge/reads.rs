//! Reads: a description or a history that was asked for knows of everything that was acknowledged, or read, before it was asked for.
//!
//! What is known of a workflow only grows: the run of its chain that is the latest, the events of that run, and whether it is closed. Each
//! answer says that at least so much is known; a later one that says less was stale.
//!
//! One thing is shown that may be gone later: a workflow task whose events are not stored yet, at the very end of a history, which is an
//! attempt after the first, or one that was made for an update only ("speculative"). Such events count once they are stored.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::HistoryEvent;

use super::scene::{Run, Scene};
use crate::check::Verdict;
use crate::history::TailEvent;
use crate::journal::{Completion, Operation};

/// How far a workflow has come at least: the place of a run in its chain, and how many events of that run there are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Known {
    run: usize,
    events: usize,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of run {}", self.events, self.run + 1)
    }
}

pub fn check(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: reads");
    for (id, operations) in &scene.asked {
        let chain = scene.chain(id);
        if chain.is_empty() {
            continue;
        }
        // What was said, in the order in which it was.
        let mut said: Vec<(u64, Known, &Operation)> = Vec::new();
        for operation in operations {
            if let (Some(at), Some(known)) = (operation.settled(), shown_by(chain, operations, operation)) {
                said.push((at, known, operation));
            }
        }
        said.sort_by_key(|(at, ..)| *at);
        let mut reads: Vec<&Operation> = operations.iter().copied().filter(|read| is_read(read)).collect();
        reads.sort_by_key(|read| read.invoked);
        let mut said = said.into_iter().peekable();
        let mut most: Option<(Known, &Operation)> = None;
        for read in reads {
            while let Some((_, known, by)) = said.next_if(|(at, ..)| *at < read.invoked) {
                if most.is_none_or(|(most, _)| known > most) {
                    most = Some((known, by));
                }
            }
            let Some(seen) = most_seen(chain, operations, read) else { continue };
            verdict.looked_at += 1;
            if let Some((known, by)) = most.filter(|(known, _)| *known > seen) {
                let what =
                    format!("{id}: a {} saw {seen} at most, and {known} was known before it was asked for", read.f);
                verdict.violate("B3", what, vec![by.to_string(), read.to_string()]);
            }
        }
    }
    verdict
}

fn is_read(operation: &Operation) -> bool {
    matches!(&*operation.f, "describe" | "history")
}

fn place(chain: &[Run<'_>], run_id: &str) -> Option<usize> {
    chain.iter().position(|run| run.history.run_id == run_id)
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// How far the workflow had come at least when the operation was answered.
fn shown_by(chain: &[Run<'_>], asked: &[&Operation], operation: &Operation) -> Option<Known> {
    let answer = operation.ok()?;
    match &*operation.f {
        // Signals say nothing: one that came while a workflow task was with a worker is in no history until that task is over.
        "start" => place(chain, text(answer, "run_id")).map(|run| Known { run, events: 1 }),
        "describe" => {
            let run = place(chain, text(answer, "run_id"))?;
            let is_open = text(answer, "status").ends_with("_RUNNING");
            Some(Known { run, events: if is_open { 1 } else { chain.get(run)?.history.events.len() } })
        }
        "history" => {
            let run = place(chain, text(answer, "run_id"))?;
            let shown = answer.get("events").and_then(Value::as_u64).and_then(|events| usize::try_from(events).ok())?;
            let passing = passing(&chain.get(run)?.history.events, asked, operation);
            Some(Known { run, events: shown.saturating_sub(passing) })
        }
        // One that closed it is the last thing that happens to a workflow.
        "terminate" => {
            let last = chain.last().filter(|last| last.closed_as() == Some(EventType::WorkflowExecutionTerminated))?;
            Some(Known { run: chain.len() - 1, events: last.history.events.len() })
        }
        _ => None,
    }
}

/// How many events at the end of a history that was read need not have stayed, and did not: those of a workflow task, both or none.
fn passing(events: &[HistoryEvent], asked: &[&Operation], read: &Operation) -> usize {
    let tail: Vec<TailEvent> =
        read.ok().and_then(|answer| Vec::deserialize(answer.get("tail")?).ok()).unwrap_or_default();
    let for_update = asked.iter().any(|other| is_update(other) && Some(other.invoked) < read.settled());
    let may_pass = tail.first().is_some_and(|scheduled| scheduled.attempt > 1 || for_update);
    let stays = tail
        .first()
        .is_some_and(|scheduled| events.iter().any(|event| TailEvent::of(event).as_ref() == Some(scheduled)));
    if may_pass && !stays { tail.len() } else { 0 }
}

fn is_update(operation: &Operation) -> bool {
    operation.f == "update" || operation.input.get("update").is_some()
}

/// How far it can have come at most for a read to be answered so; none where the read says nothing.
fn most_seen(chain: &[Run<'_>], asked: &[&Operation], read: &Operation) -> Option<Known> {
    let Some(answer) = read.ok() else {
        let error = match &read.completion {
            Completion::Fail { error, .. } => error,
            _ => return None,
        };
        // No run: nothing was known of it.
        return error.starts_with("NotFound").then(Known::default);
    };
    let run = place(chain, text(answer, "run_id"))?;
    let events = chain.get(run)?.history.events.len();
    match &*read.f {
        "history" => shown_by(chain, asked, read),
        // Open: its last event was not there yet, if it has since closed.
        _ if text(answer, "status").ends_with("_RUNNING") && chain.get(run)?.close().is_some() => {
            Some(Known { run, events: events.saturating_sub(1) })
        }
        _ => Some(Known { run, events }),
    }
}
