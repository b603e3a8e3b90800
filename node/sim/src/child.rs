//! A run in a process of its own: a panic, an abort or a hang is then a finding of that run and of no other, and nothing that one run
//! left in memory reaches the next.
//!
//! Called by `soak` and `shrink`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use stanchion_engine::mutants::Mutant;

use crate::os;
use crate::plan::Plan;
use crate::seed::Outcome;

/// Real time for one run; far more than any needs.
const WITHIN: Duration = Duration::from_secs(180);

/// How a run ended.
pub enum Ended {
    Clean(Outcome),
    Violated(Outcome),
    /// The process died, or hung: as much a finding as a violation.
    Died(String),
    /// The harness itself failed.
    Failed(String),
}

impl Ended {
    /// What was found, in a line or more; none if nothing.
    pub fn finding(&self) -> Option<String> {
        match self {
            Self::Clean(_) | Self::Failed(_) => None,
            Self::Violated(outcome) => Some(outcome.violations.join("; ")),
            Self::Died(how) => Some(how.clone()),
        }
    }

    /// What stands before the first colon of the finding: two findings of one kind are taken for the same.
    pub fn kind(&self) -> Option<String> {
        self.finding().map(|finding| finding.split(':').next().unwrap_or_default().to_owned())
    }
}

/// Runs a plan.
///
/// # Errors
/// No process could be started.
pub fn run(plan: &Plan) -> anyhow::Result<Ended> {
    run_with(plan, None)
}

/// Runs a plan with a bug planted.
///
/// # Errors
/// As [`run`].
pub fn run_with(plan: &Plan, bug: Option<Mutant>) -> anyhow::Result<Ended> {
    let mut child = Command::new(os::SELF)
        .arg("run")
        .arg("--plan")
        .arg(serde_json::to_string(plan)?)
        .envs(bug.map(|bug| ("STANCHION_MUTANT", bug.name())))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a process for the run")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        let (sender, text) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(mut pipe) = pipe {
                // What cannot be read is not there.
                let _ = pipe.read_to_string(&mut text);
            }
            // Nobody waits for it any more if the run was given up.
            let _ = sender.send(text);
        });
        text
    };
    let stdout = drain(stdout.map(|pipe| Box::new(pipe) as _));
    let stderr = drain(stderr.map(|pipe| Box::new(pipe) as _));
    // The pipe ends with the process.
    let (status, stdout) = match stdout.recv_timeout(WITHIN) {
        Ok(text) => (Some(child.wait()?), text),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            (None, String::new())
        }
    };
    let stderr = stderr.recv().unwrap_or_default();
    let Some(status) = status else {
        return Ok(Ended::Died(format!("hang: no end after {WITHIN:?} of real time")));
    };
    let outcome = stdout.lines().last().and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    let last = stderr.lines().rev().take(12).collect::<Vec<_>>();
    let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
    Ok(match (status.code(), outcome) {
        (Some(0), Some(outcome)) => Ended::Clean(outcome),
        (Some(1), Some(outcome)) => Ended::Violated(outcome),
        (Some(2), _) => Ended::Failed(last),
        _ => Ended::Died(format!("died: {status}: {last}")),
    })
}
