//! Many seeds, one after the other or a few at a time; what they found goes into the file of past failures, which can be played again.
//!
//! A line of that file holds the whole plan: what a seed means changes with this program, a plan does not.
//!
//! Called by `main`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::child::{self, Ended};
use crate::plan::Plan;

/// A failure as the file keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Past {
    pub seed: u64,
    /// Of the code that failed.
    pub commit: String,
    pub what: String,
    pub plan: Plan,
}

/// What a batch of runs came to.
#[derive(Default)]
pub struct Tally {
    pub runs: u64,
    pub found: u64,
    /// The harness failed.
    pub failed: u64,
}

/// Runs seeds from `from` on, until `count` are done or the time is over.
///
/// # Errors
/// The file of failures cannot be written, or no process can be started.
pub fn soak(
    from: u64,
    count: Option<u64>,
    lasts: Option<Duration>,
    jobs: usize,
    past: Option<&Path>,
) -> anyhow::Result<Tally> {
    let started = Instant::now();
    let next = AtomicU64::new(from);
    let tally = Mutex::new(Tally::default());
    let said = Mutex::new(Instant::now());
    let simulated_ms = AtomicU64::new(0);
    let work = || -> anyhow::Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let done = count.is_some_and(|count| seed >= from.saturating_add(count));
            if done || lasts.is_some_and(|lasts| started.elapsed() >= lasts) {
                return Ok(());
            }
            let plan = Plan::of(seed);
            let ended = child::run(&plan)?;
            let mut tally = tally.lock();
            tally.runs += 1;
            match &ended {
                Ended::Clean(outcome) => {
                    simulated_ms.fetch_add(outcome.simulated_ms, Ordering::Relaxed);
                }
                Ended::Failed(why) => {
                    tally.failed += 1;
                    println!("seed {seed}: the harness failed: {why}");
                }
                Ended::Violated(_) | Ended::Died(_) => {
                    tally.found += 1;
                    let what = ended.finding().unwrap_or_default();
                    println!("seed {seed}: {what}");
                    if let Some(path) = past {
                        append(path, &Past { seed, commit: commit(), what, plan })?;
                    }
                }
            }
            let mut said = said.lock();
            if said.elapsed() >= Duration::from_secs(30) {
                *said = Instant::now();
                say(&tally, started, simulated_ms.load(Ordering::Relaxed));
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker of the soak panicked")))
        })
    })?;
    let tally = tally.into_inner();
    say(&tally, started, simulated_ms.load(Ordering::Relaxed));
    Ok(tally)
}

fn say(tally: &Tally, started: Instant, simulated_ms: u64) {
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    println!(
        "{} seeds in {seconds:.0} s ({:.0} an hour, {:.1} hours simulated), {} with findings, {} failed runs",
        tally.runs,
        tally.runs as f64 * 3600.0 / seconds,
        simulated_ms as f64 / 3_600_000.0,
        tally.found,
        tally.failed
    );
}

fn append(path: &Path, past: &Past) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().create(true).append(true).open(path).with_context(|| path.display().to_string())?;
    writeln!(file, "{}", serde_json::to_string(past)?)?;
    Ok(())
}

/// The failures that the file holds. Lines that begin with `#` are for people.
///
/// # Errors
/// The file cannot be read, or a line is none of ours.
pub fn read(path: &Path) -> anyhow::Result<Vec<Past>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut past = Vec::new();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line?;
        if !line.trim().is_empty() && !line.starts_with('#') {
            past.push(serde_json::from_str(&line).with_context(|| format!("{}, line {}", path.display(), at + 1))?);
        }
    }
    Ok(past)
}

/// Runs every past failure again.
///
/// # Errors
/// As [`read`], or no process can be started.
pub fn replay(path: &Path) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for past in read(path)? {
        tally.runs += 1;
        let ended = child::run(&past.plan)?;
        match &ended {
            Ended::Clean(_) => println!("seed {} of {}: clean (was: {})", past.seed, past.commit, past.what),
            Ended::Failed(why) => {
                tally.failed += 1;
                println!("seed {}: the harness failed: {why}", past.seed);
            }
            Ended::Violated(_) | Ended::Died(_) => {
                tally.found += 1;
                println!("seed {} of {}: {}", past.seed, past.commit, ended.finding().unwrap_or_default());
            }
        }
    }
    Ok(tally)
}

/// Runs each seed twice and compares everything observable.
///
/// # Errors
/// No process can be started.
pub fn check_determinism(from: u64, count: u64) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for seed in from..from.saturating_add(count) {
        let plan = Plan::of(seed);
        let traces: Vec<_> = [child::run(&plan)?, child::run(&plan)?].into_iter().map(trace).collect();
        tally.runs += 1;
        match &traces[..] {
            [Ok(one), Ok(two)] if one == two => println!("seed {seed}: {one}"),
            [Ok(one), Ok(two)] => {
                tally.found += 1;
                println!("seed {seed}: two runs differ: {one} and {two}");
            }
            others => {
                tally.failed += 1;
                println!("seed {seed}: {others:?}");
            }
        }
    }
    Ok(tally)
}

fn trace(ended: Ended) -> Result<String, String> {
    match ended {
        Ended::Clean(outcome) | Ended::Violated(outcome) => Ok(outcome.trace),
        Ended::Died(why) | Ended::Failed(why) => Err(why),
    }
}

/// Of the checkout that this runs in.
pub fn commit() -> String {
    let said = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = said.ok().filter(|said| said.status.success());
    said.map_or_else(|| "unknown".to_owned(), |said| String::from_utf8_lossy(&said.stdout).trim().to_owned())
}
