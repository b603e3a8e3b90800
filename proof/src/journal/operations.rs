//! Pairs the lines of a journal: an invocation with what came of it.
//!
//! Called by `Journal` and by whoever reads a journal back from its file.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Kind, Line, Process};

/// One operation from its invocation to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// The invocation's position in the journal.
    pub index: u64,
    pub process: u64,
    pub f: String,
    pub key: String,
    pub input: Value,
    /// Nanoseconds since the start of the test.
    pub invoked: u64,
    pub completion: Completion,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// Acknowledged.
    Ok { at: u64, value: Value },
    /// Certainly without effect.
    Fail { at: u64, error: String },
    /// Unknown, and the client was told so: it happened zero times or once, perhaps later than `at`.
    Info { at: u64, error: String },
    /// Never ended, because the test was over: as unknown as `Info`.
    Pending,
}

impl Operation {
    /// What was acknowledged, if it was.
    pub fn ok(&self) -> Option<&Value> {
        match &self.completion {
            Completion::Ok { value, .. } => Some(value),
            Completion::Fail { .. } | Completion::Info { .. } | Completion::Pending => None,
        }
    }

    pub fn failed(&self) -> bool {
        matches!(self.completion, Completion::Fail { .. })
    }

    /// It happened zero times or once.
    pub fn unknown(&self) -> bool {
        matches!(self.completion, Completion::Info { .. } | Completion::Pending)
    }

    /// When its outcome was known for certain. An unknown one may take effect at any later time.
    pub fn settled(&self) -> Option<u64> {
        match &self.completion {
            Completion::Ok { at, .. } | Completion::Fail { at, .. } => Some(*at),
            Completion::Info { .. } | Completion::Pending => None,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] process {} {}", self.index, self.process, self.f)?;
        if !self.key.is_empty() {
            write!(f, " {}", self.key)?;
        }
        if !self.input.is_null() {
            write!(f, " {}", self.input)?;
        }
        write!(f, " at {}", Millis(self.invoked))?;
        match &self.completion {
            Completion::Ok { at, value } if *value == self.input => write!(f, " -> ok at {}", Millis(*at)),
            Completion::Ok { at, value } => write!(f, " -> ok {value} at {}", Millis(*at)),
            Completion::Fail { at, error } => write!(f, " -> fail ({error}) at {}", Millis(*at)),
            Completion::Info { at, error } => write!(f, " -> unknown ({error}) at {}", Millis(*at)),
            Completion::Pending => write!(f, " -> never ended"),
        }
    }
}

/// Nanoseconds, shown as milliseconds.
struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03} ms", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// Invocations with their ends, in order of invocation. A process has one operation at a time, so a completion ends the one that its
/// process invoked last; lines of faults are left out.
pub fn operations(lines: &[Line]) -> Vec<Operation> {
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    let mut found: Vec<Operation> = Vec::new();
    for line in lines {
        let Process::Client(process) = line.process else { continue };
        if line.kind == Kind::Invoke {
            open.insert(process, found.len());
            found.push(Operation {
                index: line.index,
                process,
                f: line.f.clone(),
                key: line.key.clone(),
                input: line.value.clone(),
                invoked: line.time,
                completion: Completion::Pending,
            });
            continue;
        }
        let Some(operation) = open.remove(&process).and_then(|at| found.get_mut(at)) else { continue };
        let at = line.time;
        let error = || line.error.clone().unwrap_or_default();
        operation.completion = match line.kind {
            Kind::Ok => Completion::Ok { at, value: line.value.clone() },
            Kind::Fail => Completion::Fail { at, error: error() },
            Kind::Invoke | Kind::Info => Completion::Info { at, error: error() },
        };
    }
    found
}
