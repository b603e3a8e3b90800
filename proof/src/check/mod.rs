//! Judges what a run left behind. Every check is a pure function: evidence in, a [`Verdict`] out.
//!
//! ```text
//! linearizable  histories of one object: could they have happened one after another? Its models are in `model/`
//! list          elements acknowledged to be appended: there once, in order, never unseen again
//! attempts      the ledger of workers: at most one live attempt, policies kept, superseded ones refused (D1-D6, H1)
//! timers        timers and schedules: never early, always, once (F1-F3)
//! histories     histories by themselves, between runs, and as several reads and nodes told them (A-G)
//! visibility    lists and counts against what was acknowledged (I1-I3)
//! bank          a total that must be conserved
//! ```
//!
//! A verdict names the rule of the reference's list of invariants that is broken and carries the smallest part of the evidence that
//! shows it. A check that looked at nothing proves nothing, and says so: that is a failure of the harness, never a pass. So is a
//! search that was given up.
//!
//! Never talks to a node, never waits, never repairs, never iterates in an order that is not fixed. Called by the simulator and by the
//! fault tests; shown to bite in `tests/`.

pub mod attempts;
pub mod bank;
pub mod histories;
pub mod linearizable;
pub mod list;
pub mod model;
pub mod timers;
pub mod visibility;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub name: String,
    /// How much evidence there was: operations, events, attempts.
    pub looked_at: u64,
    pub violations: Vec<Violation>,
    /// Evidence about which the check could not decide, and why. Not a pass.
    #[serde(default)]
    pub undecided: Vec<String>,
}

/// A rule that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Letter and number in the reference's list of invariants.
    pub rule: String,
    pub what: String,
    /// The smallest part of the evidence that shows it, a line each.
    pub evidence: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Holds,
    /// There was nothing to look at.
    Vacuous,
    /// The check gave up on a part of the evidence.
    Undecided,
    Violated,
}

impl Verdict {
    pub fn new(name: impl Into<String>) -> Self {
        Verdict { name: name.into(), looked_at: 0, violations: Vec::new(), undecided: Vec::new() }
    }

    pub fn violate(&mut self, rule: &str, what: impl Into<String>, evidence: Vec<String>) {
        self.violations.push(Violation { rule: rule.to_owned(), what: what.into(), evidence });
    }

    pub fn standing(&self) -> Standing {
        if !self.violations.is_empty() {
            Standing::Violated
        } else if !self.undecided.is_empty() {
            Standing::Undecided
        } else if self.looked_at == 0 {
            Standing::Vacuous
        } else {
            Standing::Holds
        }
    }

    pub fn holds(&self) -> bool {
        self.standing() == Standing::Holds
    }

    /// The violation that is shown by the fewest lines.
    pub fn smallest(&self) -> Option<&Violation> {
        self.violations.iter().min_by_key(|violation| violation.evidence.len())
    }
}

/// 0: everything was looked at and holds. 1: a rule is broken. 2: nothing is known to be broken, and not everything was shown to hold.
pub fn exit_code(verdicts: &[Verdict]) -> i32 {
    match verdicts.iter().map(Verdict::standing).max() {
        Some(Standing::Holds) => 0,
        Some(Standing::Violated) => 1,
        Some(Standing::Vacuous | Standing::Undecided) | None => 2,
    }
}

/// For people: a line a check, and of each that is violated its smallest violation with its evidence.
pub fn report(verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for verdict in verdicts {
        let Verdict { name, looked_at, violations, undecided } = verdict;
        let _ = match verdict.standing() {
            Standing::Holds => writeln!(out, "ok         {name} ({looked_at})"),
            Standing::Vacuous => writeln!(out, "VACUOUS    {name}: there was nothing to look at"),
            Standing::Undecided => writeln!(out, "UNDECIDED  {name} ({looked_at}): {}", undecided.join("; ")),
            Standing::Violated => writeln!(out, "VIOLATED   {name} ({looked_at}): {} violations", violations.len()),
        };
        if let Some(Violation { rule, what, evidence }) = verdict.smallest() {
            let _ = writeln!(out, "           {rule}: {what}");
            for line in evidence {
                let _ = writeln!(out, "             {line}");
            }
        }
    }
    out
}
