//! Runs on a cron schedule: when the first one begins its work, and when the next one follows a run that is over.
//!
//! ```text
//!  start --wait--> works --completed, or failed and timed out without another attempt--> closed, next run waits for its time
//!                        --canceled, terminated, continued as new------------------------> the schedule is over (or the new run's own)
//! ```
//!
//! A run is over inside any command, so the engine computes the next time itself, from [`crate::cron`], which is a pure function.
//!
//! Called by `start` and `close`.

use super::Run;
use crate::cron::Cron;
use crate::reply::Rejection;
use crate::transaction::Transaction;
use crate::types::ShardTime;

/// Refuses a schedule that cannot be understood or is never due, and one together with a start delay.
pub(super) fn check(tx: &Transaction<'_>, spec: &str, start_delay: i64) -> Result<(), Rejection> {
    if spec.is_empty() {
        return Ok(());
    }
    if start_delay != 0 {
        return Err(Rejection::invalid("CronSchedule and WorkflowStartDelay may not be used together."));
    }
    Cron::check(spec, tx.now).map(|_| ()).map_err(|error| Rejection::invalid(error.to_string()))
}

/// How long a run that starts now waits. The schedule has passed [`check`].
pub(super) fn first_wait(tx: &Transaction<'_>, spec: &str) -> i64 {
    Cron::parse(spec).ok().and_then(|cron| cron.backoff(tx.now, tx.now)).unwrap_or(0)
}

/// How long the run waits that follows this one, which is over now. None without a schedule, or with one that nobody checked (a
/// continue-as-new may carry any text) and that means nothing.
pub(super) fn next_wait(tx: &Transaction<'_>, run: &Run) -> Option<i64> {
    if run.row.cron_schedule.is_empty() {
        return None;
    }
    Cron::parse(&run.row.cron_schedule).ok()?.backoff(ShardTime(run.row.execution_at), tx.now)
}
