//! How much work was done before, during and after a fault, from the workers' ledgers and the clients' journal.

use anyhow::{Context as _, Result};
use serde_json::Value;
use stanchion_proof::journal::{Completion, Process, from_jsonl, operations};
use stanchion_proof::ledger::{Line, What};

use crate::cell::Ended;
use crate::workers::read_ledgers;

/// One stretch of the test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stretch {
    pub seconds: f64,
    pub runs_started: u64,
    pub runs_closed: u64,
    pub attempts_begun: u64,
    /// Attempts that were not a step's first.
    pub attempts_again: u64,
    pub steps_acknowledged: u64,
}

#[derive(Clone, Debug)]
pub struct Figures {
    pub before: Stretch,
    pub during: Stretch,
    pub after: Stretch,
    /// Seconds from the undoing of the fault until all nodes served.
    pub nodes_ready: f64,
    /// Seconds from the undoing of the fault until a worker began a step.
    pub first_step: Option<f64>,
    /// Seconds from the undoing of the fault until a client's call was acknowledged.
    pub first_call: Option<f64>,
    /// Steps that were acknowledged before the fault's end and attempted after it.
    pub acknowledged_steps_done_again: u64,
}

impl Figures {
    pub fn of(ended: &Ended) -> Result<Self> {
        let span = ended.done.spans.first().context("the fault was not done")?;
        let ledger = read_ledgers(&ended.out, ended.epoch)?;
        let journal = lines(ended)?;
        let operations = operations(&journal);
        let first = journal.first().map_or(0, |line| line.time);
        let last = journal.last().map_or(0, |line| line.time);
        let stretch = |from: u64, to: u64| {
            let within = |at: u64| (from..to).contains(&at);
            let closed_of = |f: &str| {
                let ends = operations.iter().filter(|op| op.f == f).filter_map(|op| match op.completion {
                    Completion::Ok { at, .. } => Some(at),
                    _ => None,
                });
                ends.filter(|at| within(*at)).count() as u64
            };
            let count = |wanted: &dyn Fn(&Line) -> bool| {
                ledger.iter().filter(|line| within(line.at) && wanted(line)).count() as u64
            };
            Stretch {
                seconds: to.saturating_sub(from) as f64 / 1e9,
                runs_started: closed_of("start"),
                runs_closed: closed_of("run"),
                attempts_begun: count(&|line| matches!(line.what, What::Began { .. })),
                attempts_again: count(&|line| matches!(line.what, What::Began { .. }) && line.attempt > 1),
                steps_acknowledged: count(&|line| matches!(line.what, What::Acknowledged)),
            }
        };
        let after_healing = |at: u64| (at >= span.healed).then(|| (at - span.healed) as f64 / 1e9);
        let begun = ledger.iter().filter(|line| matches!(line.what, What::Began { .. }));
        let acknowledged = operations.iter().filter_map(|op| match op.completion {
            Completion::Ok { at, .. } if op.invoked >= span.healed => Some(at),
            _ => None,
        });
        let done: std::collections::BTreeSet<(&str, &str)> = ledger
            .iter()
            .filter(|line| line.at < span.healed && line.what == What::Acknowledged)
            .map(|line| (line.run_id.as_str(), line.activity_id.as_str()))
            .collect();
        let again = ledger
            .iter()
            .filter(|line| line.at >= span.healed && matches!(line.what, What::Began { .. }))
            .filter(|line| done.contains(&(line.run_id.as_str(), line.activity_id.as_str())));
        Ok(Self {
            before: stretch(first, span.from),
            during: stretch(span.from, span.healed),
            after: stretch(span.healed, last),
            nodes_ready: span.to.saturating_sub(span.healed) as f64 / 1e9,
            first_step: begun.filter_map(|line| after_healing(line.at)).reduce(f64::min),
            first_call: acknowledged.filter_map(after_healing).reduce(f64::min),
            acknowledged_steps_done_again: again.count() as u64,
        })
    }
}

/// What the nemesis noted.
pub fn told(ended: &Ended) -> Result<Vec<(f64, String, Value)>> {
    let lines = lines(ended)?.into_iter().filter(|line| line.process == Process::NEMESIS);
    Ok(lines.map(|line| (line.time as f64 / 1e9, line.f, line.value)).collect())
}

fn lines(ended: &Ended) -> Result<Vec<stanchion_proof::journal::Line>> {
    let path = ended.out.join("history.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(from_jsonl(&text)?)
}
