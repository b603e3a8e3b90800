//! Makes a failing plan smaller for as long as it fails in the same way: fewer faults, shorter ones, less load.
//!
//! Cheap rather than minimal: what one pass does not remove stays.
//!
//! Called by `main`.

use crate::child;
use crate::plan::Plan;

/// Runs that are spent at most.
const RUNS_MAX: u32 = 80;

/// The smaller plan, and what it finds; none if the plan finds nothing.
///
/// # Errors
/// No process can be started.
pub fn shrink(plan: Plan) -> anyhow::Result<Option<(Plan, String)>> {
    let first = child::run(&plan)?;
    let (Some(kind), Some(finding)) = (first.kind(), first.finding()) else { return Ok(None) };
    let mut best = (plan, finding);
    let mut runs = 1;
    let mut attempt = |best: &mut (Plan, String), smaller: Plan| -> anyhow::Result<bool> {
        if runs >= RUNS_MAX || smaller == best.0 {
            return Ok(false);
        }
        runs += 1;
        let ended = child::run(&smaller)?;
        let same = ended.kind().is_some_and(|found| found == kind);
        if same {
            println!(
                "{} faults, {} programs, {} ms: still {kind}",
                smaller.faults.len(),
                smaller.programs,
                smaller.faulty_ms
            );
            *best = (smaller, ended.finding().unwrap_or_default());
        }
        Ok(same)
    };
    // Halves first, single ones after.
    let mut size = best.0.faults.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < best.0.faults.len() {
            let mut smaller = best.0.clone();
            smaller.faults.drain(at..(at + size).min(smaller.faults.len()));
            if !attempt(&mut best, smaller)? {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size / 2 };
    }
    while best.0.programs > 1 {
        let mut smaller = best.0.clone();
        smaller.programs /= 2;
        if !attempt(&mut best, smaller)? {
            break;
        }
    }
    let last = best.0.faults.iter().map(|timed| timed.at_ms + timed.for_ms).max().unwrap_or(0);
    let mut smaller = best.0.clone();
    smaller.faulty_ms = smaller.faulty_ms.min(last + 100);
    attempt(&mut best, smaller)?;
    Ok(Some(best))
}
