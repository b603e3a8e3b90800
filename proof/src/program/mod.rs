//! Programs: a small deterministic language that a workflow interprets, so that random workflows can be made whose outcome is known.
//!
//! ```text
//! generate   seed -> Program
//! machine    Program + history -> what the workflow does next; the same function replays and judges
//! commands   what it does next -> Temporal's commands
//! model      Program + evidence -> which outcomes are allowed
//! judge      every run against the model, every acknowledged call against the histories
//! ```
//!
//! A program travels as the input of its workflow: whoever holds a history can judge it without knowing who started it. Nothing here does
//! I/O or reads a clock.

pub mod commands;
mod generate;
mod judge;
mod machine;
mod model;

use serde::{Deserialize, Serialize};

pub use generate::{Dice, generate, named};
pub use judge::judge_programs;
pub(crate) use machine::read as read_payload;
pub use machine::{
    Close, Issue, Machine, Nondeterminism, Outcome, Reply, Report, Sent, Told, ToldOfChild, Update, replay,
};
pub use model::Evidence;

/// The type of every workflow that is a program.
pub const WORKFLOW_TYPE: &str = "program";
/// The type of every activity of a program.
pub const ACTIVITY_TYPE: &str = "step";
/// The name of every signal; its input is an integer that no other signal carries.
pub const SIGNAL: &str = "number";
/// The query that answers with a [`Report`].
pub const QUERY: &str = "report";

/// What a run is started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    pub program: Program,
    /// How many runs of this workflow continued as new before this one.
    #[serde(default)]
    pub chain: u32,
    #[serde(default)]
    pub carried: Carried,
}

/// What a run hands to the one that continues it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Every signal, in the order of arrival.
    pub signals: Vec<i64>,
    /// What updates appended.
    pub log: Vec<i64>,
    /// What updates compare and set.
    pub register: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub body: Vec<Op>,
    pub ends: Ends,
    pub on_cancel: OnCancel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    Completes,
    Fails,
    ContinuesAsNew(Box<Program>),
}

/// What a run does once its cancellation is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCancel {
    /// Goes on as if nothing had been asked.
    Ignores,
    /// Closes as canceled with its next workflow task.
    Closes,
    /// Cancels what is pending, waits for its activities, runs one more activity, and closes as canceled.
    CleansUp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Activity(Activity),
    Timer {
        ms: u64,
    },
    /// Waits until the workflow has got so many signals, those of earlier runs of its chain included.
    Signals {
        at_least: u32,
    },
    Marker,
    /// Puts an entry into the memo.
    Memo,
    Child(Box<Child>),
    /// All branches at the same time; done when each is.
    Parallel(Vec<Vec<Op>>),
}

/// An activity, and how its attempts go: the first `hangs` never answer, the next `fails` fail retryably, and all others do as `ends` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    pub hangs: u32,
    pub fails: u32,
    pub ends: Attempt,
    /// 0: no limit.
    pub max_attempts: u32,
    pub backoff_ms: u64,
    pub start_to_close_ms: u64,
    /// 0: none.
    pub heartbeat_ms: u64,
    /// 0: none.
    pub schedule_to_close_ms: u64,
    /// Heartbeats that an attempt sends before it ends or falls silent.
    pub beats: u32,
    pub beat_every_ms: u64,
    /// Heartbeats that an attempt which hangs sends all the same, from when its time is up: a worker that does not know that it was given up.
    pub late_beats: u32,
    /// The workflow asks for the cancellation of the activity after so long. 0: never.
    pub cancel_after_ms: u64,
    pub eager: bool,
}

/// How an attempt that neither hangs nor fails ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    #[default]
    Completes,
    /// With a failure that must not be retried.
    FailsForGood,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Child {
    pub program: Program,
    pub parent_closes: ParentCloses,
    /// Signals that the parent sends once the child has started.
    pub signals: u32,
    /// Whether the parent then requests its cancellation.
    pub cancels: bool,
    /// Whether the parent then waits for its end.
    pub waits: bool,
}

/// What becomes of a child that is open when its parent closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentCloses {
    Terminate,
    Abandon,
    RequestCancel,
}

impl Program {
    /// How many signals the workflow waits for, all runs of its chain together.
    pub fn signals_needed(&self) -> u32 {
        let rest = match &self.ends {
            Ends::ContinuesAsNew(rest) => rest.signals_needed(),
            Ends::Completes | Ends::Fails => 0,
        };
        signals_in(&self.body).max(rest)
    }

    /// The op at a path, and none for what no op of the body stands at.
    pub fn op(&self, path: &str) -> Option<&Op> {
        let mut steps = path.split('.').map(|step| step.parse::<usize>().ok());
        let mut op = self.body.get(steps.next()??)?;
        while let Some(branch) = steps.next() {
            let Op::Parallel(branches) = op else { return None };
            op = branches.get(branch?)?.get(steps.next()??)?;
        }
        Some(op)
    }
}

fn signals_in(body: &[Op]) -> u32 {
    let of = |op: &Op| match op {
        Op::Signals { at_least } => *at_least,
        Op::Parallel(branches) => branches.iter().map(|branch| signals_in(branch)).max().unwrap_or(0),
        Op::Activity(_) | Op::Timer { .. } | Op::Marker | Op::Memo | Op::Child(_) => 0,
    };
    body.iter().map(of).max().unwrap_or(0)
}

/// The activity that a run cleans up with.
pub fn cleanup() -> Activity {
    Activity { backoff_ms: 100, start_to_close_ms: 2_000, ..Activity::default() }
}

/// The workflow id of a child: no two ops of a workflow's chain of runs share one.
pub fn child_workflow_id(parent: &str, chain: u32, path: &str) -> String {
    format!("{parent}/{chain}.{path}")
}

/// The integer that a parent's n-th signal to its child carries: negative, so that no client's can be equal.
pub fn parent_signal(n: u32) -> i64 {
    -1 - i64::from(n)
}
