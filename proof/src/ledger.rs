//! The ledger: what workers really did, written down by themselves as they did it.
//!
//! A server's histories say what it believes; the ledger says what happened in the world: which attempt began with which details, which
//! outcome a worker reported and whether the server took it. A doubled step shows here and nowhere else.
//!
//! Append-only. Never judges; never reads a clock of its own. Written by `drive`'s workers; lines of workers in other processes are read in
//! with [`from_jsonl`].

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that a worker did or was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Nanoseconds since the start of the test. Never decreases from line to line.
    pub at: u64,
    pub worker: String,
    pub workflow_id: String,
    pub run_id: String,
    /// Empty for workflow tasks.
    #[serde(default)]
    pub activity_id: String,
    pub attempt: u32,
    /// Digest of the task token, so that two deliveries of one task can be told from two tasks.
    #[serde(default)]
    pub token: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// An attempt was handed out and its work began.
    Began {
        handed: Handed,
    },
    /// Heartbeat details, about to be sent. An unknown one was recorded or was not.
    Beats {
        details: Value,
    },
    BeatAcknowledged {
        details: Value,
        cancel_requested: bool,
    },
    /// The server says that the attempt is no longer the live one.
    BeatRefused {
        error: String,
    },
    /// The work is done; the outcome is about to be reported.
    Ended {
        outcome: Outcome,
    },
    /// The server took the outcome that the last `Ended` of this token reports.
    Acknowledged,
    /// The server certainly did not take it.
    Refused {
        error: String,
    },
    /// The worker gave up asking: it was taken or it was not.
    Unknown {
        error: String,
    },
    /// The attempt was left without an answer, as by a worker that died.
    Abandoned,
    /// A workflow task was handed out; its number is that of its Started event.
    Decides {
        started_event_id: i64,
    },
    /// The server took the commands of a workflow task.
    Decided {
        started_event_id: i64,
    },
    /// What the history says and what the program does differ (B7).
    Nondeterminism {
        difference: String,
    },
}

/// An attempt as it was handed out. Times are the server's, in nanoseconds since the epoch; timeouts in nanoseconds, 0 for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handed {
    pub scheduled_at: i64,
    pub attempt_scheduled_at: i64,
    pub started_at: i64,
    pub schedule_to_close: i64,
    pub start_to_close: i64,
    pub heartbeat: i64,
    /// Details of the last heartbeat of an earlier attempt; null for none.
    pub details: Value,
    pub eager: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed(Value),
    Failed { retryable: bool, message: String },
    Canceled,
}

/// A clone is the same ledger.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    now: Box<dyn Fn() -> u64 + Send + Sync>,
    lines: Mutex<Vec<Line>>,
}

impl Ledger {
    /// `now` tells the nanoseconds since the start of the test, as the journal's does.
    pub fn new(now: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { now: Box::new(now), lines: Mutex::default() }) }
    }

    /// Appends `line` with the time of now.
    pub fn note(&self, mut line: Line) {
        let mut lines = self.shared.lines.lock();
        let last = lines.last().map_or(0, |line| line.at);
        line.at = (self.shared.now)().max(last);
        lines.push(line);
    }

    /// Everything noted, in order of time.
    pub fn lines(&self) -> Vec<Line> {
        self.shared.lines.lock().clone()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger of {} lines", self.shared.lines.lock().len())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (millis, what) = (self.at / 1_000_000, serde_json::to_string(&self.what).unwrap_or_default());
        write!(f, "{millis} ms {}: {} {}", self.worker, self.workflow_id, self.run_id)?;
        if !self.activity_id.is_empty() {
            write!(f, " activity {}", self.activity_id)?;
        }
        write!(f, " attempt {} [{}] {what}", self.attempt, self.token)
    }
}

/// A short name for a task token: equal tokens have equal digests.
pub fn digest(token: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", token.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// One JSON object a line.
pub fn to_jsonl(lines: &[Line]) -> String {
    lines.iter().map(|line| serde_json::to_string(line).unwrap_or_default() + "\n").collect()
}

/// Reads what [`to_jsonl`] wrote.
pub fn from_jsonl(text: &str) -> Result<Vec<Line>, serde_json::Error> {
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}
