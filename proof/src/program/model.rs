//! The model: which ends of an activity, a child and a run a program and the evidence allow.
//!
//! Where nothing is lost there is one. Where a worker died or a call's outcome is unknown there may be more, and the ledger says so: a
//! time-out is allowed only of an attempt whose end no server acknowledged, or that was made to hang.

use std::collections::BTreeMap;

use serde_json::json;

use super::commands::{ActivityInput, attempt_ends};
use super::{Activity, Outcome};
use crate::ledger::{self, Line, What};

/// What workers wrote down, by attempt.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    attempts: BTreeMap<(String, String, u32), Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    ended: Option<ledger::Outcome>,
    acknowledged: bool,
    lines: Vec<String>,
}

impl Evidence {
    pub fn of(lines: &[Line]) -> Self {
        let mut evidence = Self::default();
        // Of the deliveries of one attempt (there should be one), the outcome acknowledged is that of the same token and worker.
        let mut by_worker: BTreeMap<(String, String), ledger::Outcome> = BTreeMap::new();
        for line in lines.iter().filter(|line| !line.activity_id.is_empty()) {
            let key = (line.run_id.clone(), line.activity_id.clone(), line.attempt);
            let seen = evidence.attempts.entry(key).or_default();
            seen.lines.push(line.to_string());
            let whose = (line.worker.clone(), line.token.clone());
            match &line.what {
                What::Ended { outcome } => {
                    by_worker.insert(whose, outcome.clone());
                }
                What::Acknowledged => {
                    seen.acknowledged = true;
                    seen.ended = by_worker.get(&whose).cloned();
                }
                _ => {}
            }
        }
        evidence
    }

    fn acknowledged(&self, run_id: &str, path: &str, attempt: u32) -> Option<&ledger::Outcome> {
        let seen = self.attempts.get(&(run_id.to_owned(), path.to_owned(), attempt))?;
        seen.ended.as_ref().filter(|_| seen.acknowledged)
    }

    /// Everything noted of one activity, to show.
    pub fn lines(&self, run_id: &str, path: &str) -> Vec<String> {
        let of = self.attempts.iter().filter(|((run, id, _), _)| run == run_id && id == path);
        of.flat_map(|(_, seen)| seen.lines.clone()).collect()
    }
}

/// Whether an activity may have ended so. `attempt` is the last one that was started, 0 if none was; `canceled` whether its cancellation was
/// requested before it ended.
pub fn activity_allows(
    evidence: &Evidence,
    run_id: &str,
    path: &str,
    activity: &Activity,
    attempt: u32,
    canceled: bool,
    outcome: &Outcome,
) -> Result<(), String> {
    let input = ActivityInput { path: path.to_owned(), activity: activity.clone() };
    let last = activity.max_attempts > 0 && attempt == activity.max_attempts;
    if activity.max_attempts > 0 && attempt > activity.max_attempts {
        return Err(format!("attempt {attempt} began, and {} are allowed", activity.max_attempts));
    }
    for earlier in 1..attempt {
        if let Some(ledger::Outcome::Completed(_) | ledger::Outcome::Failed { retryable: false, .. }) =
            evidence.acknowledged(run_id, path, earlier)
        {
            return Err(format!("attempt {attempt} began after the end of attempt {earlier} was acknowledged"));
        }
    }
    let acknowledged = evidence.acknowledged(run_id, path, attempt);
    match (acknowledged, outcome) {
        (Some(ledger::Outcome::Completed(value)), Outcome::Completed(said)) if value == said => {}
        (Some(ledger::Outcome::Completed(value)), _) => {
            return Err(format!("attempt {attempt} was acknowledged to have completed with {value}"));
        }
        (Some(ledger::Outcome::Failed { retryable: false, message }), said)
            if *said != Outcome::Failed(message.clone()) =>
        {
            return Err(format!("attempt {attempt} was acknowledged to have failed for good: {message}"));
        }
        (Some(ledger::Outcome::Canceled), said) if *said != Outcome::Canceled => {
            return Err(format!("attempt {attempt} was acknowledged to have been canceled"));
        }
        _ => {}
    }
    let expires = activity.schedule_to_close_ms > 0;
    match outcome {
        Outcome::Completed(value) => {
            if attempt <= activity.hangs + activity.fails {
                return Err(format!("attempt {attempt} does not complete"));
            }
            match attempt_ends(&input, attempt) {
                Ok(result) if result == *value => Ok(()),
                Ok(result) => Err(format!("attempt {attempt} completes with {result}")),
                Err((message, _)) => Err(format!("attempt {attempt} fails: {message}")),
            }
        }
        Outcome::Failed(message) => {
            if attempt <= activity.hangs && !last && !expires && !canceled {
                return Err(format!("attempt {attempt} never answers"));
            }
            // With an expiry or a cancellation, the failure told is that of the last attempt that failed.
            let failed = (1..=attempt).rev().find_map(|n| match attempt_ends(&input, n) {
                Err((said, retryable)) if said == *message => Some((n, retryable)),
                _ => None,
            });
            match failed {
                Some((_, false)) => Ok(()),
                Some((n, true)) if n == attempt && (last || expires || canceled) => Ok(()),
                Some((n, true)) => Err(format!("attempt {n} of {attempt} is retried")),
                None => Err(format!("no attempt up to {attempt} fails so")),
            }
        }
        // Where nothing else is said, the time until it starts is the time until it closes: what nobody took ends as the former.
        Outcome::TimedOut(kind)
            if kind == "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE" || kind == "TIMEOUT_TYPE_SCHEDULE_TO_START" =>
        {
            if expires {
                Ok(())
            } else {
                Err("it has no schedule-to-close time-out".into())
            }
        }
        Outcome::TimedOut(kind) => {
            if kind == "TIMEOUT_TYPE_HEARTBEAT" && activity.heartbeat_ms == 0 {
                return Err("it has no heartbeat time-out".into());
            }
            if acknowledged.is_some() {
                return Err(format!("the end of attempt {attempt} was acknowledged"));
            }
            if last || expires || canceled {
                Ok(())
            } else {
                Err(format!("after a time-out of attempt {attempt} it is retried"))
            }
        }
        Outcome::Canceled => {
            if canceled {
                Ok(())
            } else {
                Err("nobody asked for its cancellation".into())
            }
        }
        Outcome::Terminated => Err(json!("activities are not terminated").to_string()),
    }
}
