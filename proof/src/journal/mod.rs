//! The journal: every operation that a client tried, what came of it, and every fault that was done meanwhile.
//!
//! An operation is invoked by a process and ends in one of three ways: `ok` (acknowledged), `fail` (certainly had no effect) or `info`
//! (unknown: it happened zero times or once). One that was dropped before its end, because its task was stopped, is as unknown as one
//! that got `info`. A process whose operation is unknown never acts again, as in Jepsen: its client goes on under a new number.
//!
//! Never judges: that is [`crate::check`]'s work. Never reads a clock of its own: the time comes from whoever runs the test, simulated or
//! real. Called by workloads and by `drive`; written to files by the simulator and by the fault tests.

mod edn;
mod operations;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use edn::to_edn;
pub use operations::{Completion, Operation, operations};

/// Who acted: a client's process, or the one that does the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    Client(u64),
    Nemesis(Nemesis),
}

/// The process that does faults has a name instead of a number, as in Jepsen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Nemesis {
    #[serde(rename = "nemesis")]
    Nemesis,
}

impl Process {
    pub const NEMESIS: Process = Process::Nemesis(Nemesis::Nemesis);
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Client(number) => write!(f, "process {number}"),
            Process::Nemesis(_) => write!(f, "nemesis"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Position in the journal, from 0.
    pub index: u64,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub f: String,
    /// What it acts on (a workflow id, an account): checkers look at each key alone. Empty where there is no such thing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    pub value: Value,
    pub process: Process,
    /// Nanoseconds since the start of the test. Never decreases from line to line.
    pub time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An operation that was invoked and not ended yet. It can be ended once, which the compiler sees to.
#[derive(Debug)]
#[must_use = "an operation that is never ended counts as unknown"]
pub struct OpId {
    invoked: u64,
}

/// Append-only. A clone is the same journal.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    now: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Sees each line right after it was appended, in order: writes it to a file.
    watch: Box<dyn Fn(&Line) + Send + Sync>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    lines: Vec<Line>,
    processes: u64,
}

impl Journal {
    /// `now` tells the nanoseconds since the start of the test.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self::watched(now, |_| {})
    }

    /// As [`Journal::new`]; `watch` sees every line before the call that appended it returns, so that a crash of the test loses no evidence.
    pub fn watched(
        now: impl Fn() -> u64 + Send + Sync + 'static,
        watch: impl Fn(&Line) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { now: Box::new(now), watch: Box::new(watch), book: Mutex::default() };
        Journal { shared: Arc::new(shared) }
    }

    /// A process number that nobody else has. Numbers are given out from 0; whoever chooses numbers by hand must not mix the two.
    pub fn new_process(&self) -> u64 {
        let mut book = self.shared.book.lock();
        book.processes += 1;
        book.processes - 1
    }

    /// The time that a line appended now would get.
    pub fn now(&self) -> u64 {
        (self.shared.now)()
    }

    /// Call it before the request goes out.
    pub fn invoke(&self, process: u64, f: &str, key: &str, value: Value) -> OpId {
        let line = Line {
            index: 0,
            kind: Kind::Invoke,
            f: f.to_owned(),
            key: key.to_owned(),
            value,
            process: Process::Client(process),
            time: 0,
            error: None,
        };
        OpId { invoked: self.push(&mut self.shared.book.lock(), line) }
    }

    /// Acknowledged. `value` is what was learned; `Null` repeats what was asked.
    pub fn ok(&self, op: OpId, value: Value) {
        self.end(op, Kind::Ok, Some(value), None);
    }

    /// Certainly without effect.
    pub fn fail(&self, op: OpId, error: &str) {
        self.end(op, Kind::Fail, None, Some(error));
    }

    /// Unknown: it happened zero times or once.
    pub fn info(&self, op: OpId, error: &str) {
        self.end(op, Kind::Info, None, Some(error));
    }

    /// Notes a fault that was done or undone.
    pub fn fault(&self, f: &str, value: Value) {
        let line = Line {
            index: 0,
            kind: Kind::Info,
            f: f.to_owned(),
            key: String::new(),
            value,
            process: Process::NEMESIS,
            time: 0,
            error: None,
        };
        self.push(&mut self.shared.book.lock(), line);
    }

    /// Every invocation, completion and fault, in order of time.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.book.lock().lines.clone()
    }

    /// Invocations with what came of them, in order of invocation.
    pub fn operations(&self) -> Vec<Operation> {
        operations(&self.shared.book.lock().lines)
    }

    fn end(&self, op: OpId, kind: Kind, value: Option<Value>, error: Option<&str>) {
        let mut book = self.shared.book.lock();
        let Some(invoked) = book.lines.get(op.invoked as usize).cloned() else { return };
        let value = value.filter(|value| !value.is_null()).unwrap_or(invoked.value);
        let line = Line { kind, value, error: error.map(str::to_owned), ..invoked };
        self.push(&mut book, line);
    }

    /// Stamps position and time under the lock, so that the order of lines is the order of times.
    fn push(&self, book: &mut Book, mut line: Line) -> u64 {
        let last = book.lines.last().map_or(0, |line| line.time);
        line.index = book.lines.len() as u64;
        line.time = (self.shared.now)().max(last);
        (self.shared.watch)(&line);
        let index = line.index;
        book.lines.push(line);
        index
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal of {} lines", self.shared.book.lock().lines.len())
    }
}

/// One JSON object a line.
pub fn to_jsonl(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        // A line holds strings, numbers and JSON values: there is nothing in it that JSON has no form for.
        out.push_str(&serde_json::to_string(line).unwrap_or_default());
        out.push('\n');
    }
    out
}

/// Reads what [`to_jsonl`] wrote.
pub fn from_jsonl(text: &str) -> Result<Vec<Line>, serde_json::Error> {
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}
