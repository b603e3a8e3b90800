//! Strong reads for the end of a workload: whole histories of runs.
//!
//! Called by workloads on a healed cluster, where everything answers: what does not is an error of the run, not a verdict.

use std::time::Duration;

use anyhow::{Result, bail};
use stanchion_proof::check::histories;
use stanchion_proof::history::RunHistory;
use tokio::time::Instant;

use crate::client::{Client, Outcome};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// All events of a run; of the newest one with this id where `run_id` is empty.
pub async fn history(client: &mut Client, workflow_id: &str, run_id: &str, within: Duration) -> Result<RunHistory> {
    match client.history(workflow_id, run_id, within).await {
        Outcome::Ok { reply: events, .. } => {
            Ok(RunHistory { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned(), events })
        }
        // An acknowledged start without a history is judged by the rules: an empty history breaks B1.
        Outcome::Refused { status, .. } if status.code() == tonic::Code::NotFound => {
            Ok(RunHistory { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned(), events: Vec::new() })
        }
        Outcome::Refused { status, .. } => bail!("{workflow_id} cannot be read on a healed cluster: {status}"),
        Outcome::Unknown(why) => bail!("{workflow_id} cannot be read on a healed cluster: {why}"),
    }
}

/// As [`history`], once the run has closed; what is still open at `until` as it is then.
pub async fn history_once_closed(
    client: &mut Client,
    workflow_id: &str,
    run_id: &str,
    within: Duration,
    until: Instant,
) -> Result<RunHistory> {
    loop {
        let read = history(client, workflow_id, run_id, within).await?;
        if read.events.last().is_some_and(histories::closes) || Instant::now() > until {
            return Ok(read);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The whole histories of these runs, by workflow id and run id.
pub async fn histories_of(client: &mut Client, runs: &[(String, String)], within: Duration) -> Result<Vec<RunHistory>> {
    let mut histories = Vec::with_capacity(runs.len());
    for (workflow_id, run_id) in runs {
        histories.push(history(client, workflow_id, run_id, within).await?);
    }
    Ok(histories)
}
