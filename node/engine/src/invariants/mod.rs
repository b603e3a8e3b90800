//! What must never be otherwise, as functions without side effects: the same ones are called after each command, by tests, by fault
//! tests and by whoever verifies a live cluster.
//!
//! ```text
//! run      a run between two commands, as it is in memory
//! rows     a run's rows between two commands, as they are stored
//! history  one run's events
//! between  what runs say of one another: successors, children, open runs of one id
//! replicas whether two replicas hold the same rows
//! ```
//!
//! Letters and numbers (B1, F1 …) are those of ARCHITECTURE.md. The functions on histories know nothing of this engine: any server of
//! Temporal's API must pass them.

pub mod between;
pub mod history;
pub mod replicas;
pub mod rows;
mod run;
#[cfg(test)]
mod tests;

pub use run::{check, validate};

/// A rule that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule's letter and number.
    pub rule: &'static str,
    pub workflow_id: String,
    pub run_id: String,
    /// Where it is seen; 0: in no single event.
    pub event_id: i64,
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rule, workflow_id, run_id, event_id, what } = self;
        write!(f, "{rule}: workflow {workflow_id:?}, run {run_id}")?;
        if *event_id != 0 {
            write!(f, ", event {event_id}")?;
        }
        write!(f, ": {what}")
    }
}
