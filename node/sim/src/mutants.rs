//! Planted bugs: does the simulation find each of them, and how soon? A tool that finds nothing in a sound system has shown little.
//!
//! Only a build with the feature `mutants` has them (`stanchion_engine::mutants`). Each seed runs in a process of its own with one bug
//! planted; what it finds counts if the same seed finds nothing without the bug, and the first such seed ends the search.
//!
//! Called by `main`.

use std::time::{Duration, Instant};

use stanchion_engine::mutants::Mutant;

use crate::child::{self, Ended};
use crate::plan::Plan;

/// Searches for every planted bug, or for those named; prints a table row for each. How many were not found.
///
/// # Errors
/// A name is no planted bug's, or no process can be started.
pub fn search(names: &[String], from: u64, seeds: u64, lasts: Option<Duration>) -> anyhow::Result<usize> {
    for name in names {
        let known = Mutant::ALL.iter().any(|mutant| mutant.name() == name);
        anyhow::ensure!(known, "there is no planted bug `{name}`");
    }
    let wanted = |mutant: &Mutant| names.is_empty() || names.iter().any(|name| name == mutant.name());
    println!("| planted bug | found by seed | seeds | seconds | as |\n|---|---|---|---|---|");
    let mut missed = 0;
    for mutant in Mutant::ALL.into_iter().filter(wanted) {
        missed += usize::from(!search_one(mutant, from, seeds, lasts)?);
    }
    Ok(missed)
}

fn search_one(mutant: Mutant, from: u64, seeds: u64, lasts: Option<Duration>) -> anyhow::Result<bool> {
    let started = Instant::now();
    let mut ran = 0;
    for seed in from..from.saturating_add(seeds) {
        if lasts.is_some_and(|lasts| started.elapsed() >= lasts) {
            break;
        }
        ran += 1;
        let ended = child::run_with(&Plan::of(seed), Some(mutant))?;
        if let Ended::Failed(why) = &ended {
            anyhow::bail!("{}: seed {seed}: the harness failed: {why}", mutant.name());
        }
        if let Some(what) = ended.finding() {
            // Something else may be wrong with this seed.
            if !matches!(child::run(&Plan::of(seed))?, Ended::Clean(_)) {
                continue;
            }
            let what: String = what.replace(['|', '\n'], " ").chars().take(240).collect();
            println!("| {} | {seed} | {ran} | {:.0} | {what} |", mutant.name(), started.elapsed().as_secs_f64());
            return Ok(true);
        }
    }
    println!("| {} | not found | {ran} | {:.0} | |", mutant.name(), started.elapsed().as_secs_f64());
    Ok(false)
}
