//! Worker processes: the published Python SDK, one process for each node, connected to it through the workers' proxy and to no other.
//!
//! A worker finds its node again by itself: that is part of what is tested, so that only the nemesis restarts one, after it killed it. What
//! workers did is in their ledgers, files that they sync line by line; [`read_ledgers`] makes one ledger of them on the journal's clock.
//!
//! Called by `workloads::sdk_steps`, `faults::workers` and `scene`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use stanchion_proof::ledger::{Handed, Line, Outcome, What};
use tokio::time::Instant;

use crate::cluster::last_lines;
use crate::network::Link;
use crate::process::Process;
use crate::scene::Scene;

const READY_WITHIN: Duration = Duration::from_secs(60);
const READY: &str = "worker ready";

/// See the module.
#[derive(Clone, Default)]
pub struct Workers {
    processes: Arc<Mutex<Vec<Arc<Process>>>>,
}

impl Workers {
    /// One worker for each node, ready.
    pub async fn begin(&self, scene: &Scene, task_queue: &str) -> Result<()> {
        let python = python()?;
        for number in scene.cluster.numbers() {
            let name = format!("w{number}");
            let target = scene.cluster.network.address(Link::Workers(number)).context("no link for workers")?;
            let ledger = scene.out.join(format!("ledger-{name}.jsonl"));
            let arguments = [
                "-m",
                "stanchion_jepsen.worker",
                "--name",
                &name,
                "--target",
                &target.to_string(),
                "--task-queue",
                task_queue,
                "--ledger",
            ];
            let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
            arguments.push(ledger.to_string_lossy().into_owned());
            let process = Process::new(&name, &python, arguments, scene.out.join(format!("{name}.log")));
            process.set_env("PYTHONPATH", Some(&harness()?.to_string_lossy()));
            process.set_env("RUST_LOG", Some("warn"));
            process.start()?;
            self.processes.lock().push(Arc::new(process));
        }
        let begin = Instant::now();
        for process in self.all() {
            while !process.tail(100_000).contains(READY) {
                if !process.is_running() || begin.elapsed() > READY_WITHIN {
                    bail!("the worker {} did not come up: {}", process.name, last_lines(&process.tail(600)));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub fn all(&self) -> Vec<Arc<Process>> {
        self.processes.lock().clone()
    }

    /// Starts those that were killed.
    pub fn restart(&self) -> Result<()> {
        self.all().into_iter().filter(|process| !process.is_running()).try_for_each(|process| process.start())
    }

    pub fn kill_all(&self) {
        self.all().iter().for_each(|process| process.kill());
    }
}

/// The folder that has the workers' package: of this checkout, wherever the driver was built.
fn harness() -> Result<PathBuf> {
    let folders = [PathBuf::from("jepsen"), PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let found = folders.into_iter().find(|folder| folder.join("stanchion_jepsen/worker.py").exists());
    let found = found.context("no stanchion_jepsen/worker.py here or in jepsen/: run the driver in the checkout")?;
    Ok(std::path::absolute(found)?)
}

/// The interpreter of the project's environment (tools/bootstrap.sh makes it).
fn python() -> Result<PathBuf> {
    let venv = std::env::var_os("VENV").map(PathBuf::from);
    let venv = venv
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/stanchion/venv"));
    let python = venv.join("bin/python");
    if !python.exists() {
        bail!("no {}: SDK workers need it (tools/bootstrap.sh test makes it, VENV names another)", python.display());
    }
    Ok(python)
}

/// A line of a worker's own file.
#[derive(Deserialize)]
struct Noted {
    e: String,
    wf: String,
    run: String,
    attempt: u32,
    worker: String,
    step: u64,
    /// Seconds since the epoch.
    t: f64,
    #[serde(default)]
    token: String,
    #[serde(default)]
    activity_id: String,
    #[serde(default)]
    given: Value,
    #[serde(default)]
    details: Value,
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    status: String,
    #[serde(default)]
    why: String,
    #[serde(flatten)]
    times: Times,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Times {
    scheduled_at: i64,
    attempt_scheduled_at: i64,
    started_at: i64,
    schedule_to_close: i64,
    start_to_close: i64,
    heartbeat: i64,
}

/// All ledgers of a folder, in order of time, in nanoseconds since `epoch` (itself in nanoseconds since 1970).
pub fn read_ledgers(folder: &Path, epoch: u64) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ledger-") && name.ends_with(".jsonl") {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            lines.extend(lines_of(&text, epoch));
        }
    }
    lines.sort_by_key(|line| line.at);
    Ok(lines)
}

/// A torn last line (the worker was killed in the write) is left out.
fn lines_of(text: &str, epoch: u64) -> Vec<Line> {
    // What an attempt's first line says of it holds for its later ones.
    let mut known: std::collections::BTreeMap<(String, u64, u32), (String, String)> = std::collections::BTreeMap::new();
    let mut lines = Vec::new();
    for noted in text.lines().filter_map(|line| serde_json::from_str::<Noted>(line).ok()) {
        let Noted {
            e,
            wf,
            run,
            attempt,
            worker,
            step,
            t,
            token,
            activity_id,
            given,
            details,
            outcome,
            result,
            status,
            why,
            times,
        } = noted;
        let key = (run.clone(), step, attempt);
        if e == "start" {
            known.insert(key.clone(), (token, activity_id));
        }
        let Some((token, activity_id)) = known.get(&key).cloned() else { continue };
        let what = match (e.as_str(), outcome.as_str(), status.as_str()) {
            ("start", ..) => {
                let Times {
                    scheduled_at,
                    attempt_scheduled_at,
                    started_at,
                    schedule_to_close,
                    start_to_close,
                    heartbeat,
                } = times;
                What::Began {
                    handed: Handed {
                        scheduled_at,
                        attempt_scheduled_at,
                        started_at,
                        schedule_to_close,
                        start_to_close,
                        heartbeat,
                        details: given,
                        eager: false,
                    },
                }
            }
            ("beat", ..) => What::Beats { details },
            ("end", "returned", _) => What::Ended { outcome: Outcome::Completed(result) },
            ("end", "cancelled", _) => What::Ended { outcome: Outcome::Canceled },
            ("end", ..) => What::Ended { outcome: Outcome::Failed { retryable: true, message: "planned".into() } },
            ("ack", _, "acked") => What::Acknowledged,
            ("ack", _, "refused") => What::Refused { error: why },
            _ => What::Unknown { error: why },
        };
        let at = ((t * 1e9) as u64).saturating_sub(epoch);
        lines.push(Line { at, worker, workflow_id: wf, run_id: run, activity_id, attempt, token, what });
    }
    lines
}

#[cfg(test)]
mod tests;
