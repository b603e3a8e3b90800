//! Whether the fault tests find bugs that were planted: for each, the cell that ought to show it, and that cell once more without the bug.
//!
//! The nodes must be built with the feature `mutants` (`make mutants` says how); an ordinary binary refuses to start with a bug asked for,
//! which is told as a failure and never as a find. Called by `cli`.

use std::time::Duration;

use anyhow::{Result, anyhow};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::cell::{Conclusion, Ended};
use crate::cli::{Common, PlantedArgs};
use crate::suite::{self, CLEAN, NOTHING_SHOWN};
use crate::{faults, table};

const VARIABLE: &str = "STANCHION_MUTANT";

/// A planted bug, and the cell that ought to show it.
struct Planted {
    bug: &'static str,
    workload: &'static str,
    fault: &'static str,
    seconds: u64,
    /// Peace before each fault, where the bug needs more of it.
    peace: Option<Duration>,
    limits: &'static [(&'static str, &'static str)],
}

const fn planted(bug: &'static str, workload: &'static str, fault: &'static str, seconds: u64) -> Planted {
    Planted { bug, workload, fault, seconds, peace: None, limits: &[] }
}

/// A log piece is closed after ten seconds and let go of some seconds later: nobody is killed before.
const UNTIL_PURGED: Duration = Duration::from_secs(16);

const ALL: &[Planted] = &[
    planted("ack-before-commit", "signal-list", "isolate-leader", 20),
    planted("skip-fence", "activity-ledger", faults::NONE, 20),
    planted("fire-timer-twice", "timers", "hand-over", 10),
    planted("lose-buffered-signal", "random-program", faults::NONE, 15),
    planted("redeliver-completed-activity", "random-program", faults::NONE, 6),
    planted("stale-read-after-restart", "signal-list", "isolate-leader", 20),
    Planted {
        peace: Some(UNTIL_PURGED),
        limits: &[("log_keep_bytes", "4096"), ("log_keep_seconds", "2")],
        ..planted("purge-past-flushed", "signal-list", "kill-all", 36)
    },
    planted("forget-vote", "signal-list", "kill-all", 15),
    planted("drop-outbox-message", "families", "kill-leader", 20),
    planted("two-runs-one-id", "start-register", faults::NONE, 6),
    planted("no-fsync", "signal-list", "power-all", 15),
];

pub async fn run(arguments: &PlantedArgs) -> u8 {
    match search(arguments).await {
        Ok(code) => code,
        Err(error) => suite::failed(&error),
    }
}

/// 0: each was found, and no cell finds anything without it. Else nothing was shown.
async fn search(arguments: &PlantedArgs) -> Result<u8> {
    let first = suite::seed(&arguments.common);
    let mut chance = ChaCha8Rng::seed_from_u64(first);
    println!("seed {first}");
    if let Some(unknown) = arguments.only.iter().find(|name| !ALL.iter().any(|planted| planted.bug == *name)) {
        let names: Vec<&str> = ALL.iter().map(|planted| planted.bug).collect();
        return Err(anyhow!("there is no planted bug `{unknown}`; there are {}", names.join(", ")));
    }
    let mut lines = Vec::new();
    let mut shown = true;
    for planted in ALL.iter().filter(|p| arguments.only.is_empty() || arguments.only.iter().any(|name| name == p.bug)) {
        let (line, found) = one(planted, arguments, &mut chance).await;
        lines.push(line);
        shown &= found;
        print!("\n{} UTC\n{HEAD}{}", table::utc(), lines.concat());
    }
    Ok(if shown { CLEAN } else { NOTHING_SHOWN })
}

const HEAD: &str =
    "\n| planted bug | workload | fault | found after | as | the same cell without it |\n|---|---|---|---|---|---|\n";

/// A line of the table, and whether the bug was found and its absence not.
async fn one(planted: &Planted, arguments: &PlantedArgs, chance: &mut ChaCha8Rng) -> (String, bool) {
    let cell = |bug: Option<&str>, seed: u64| {
        let mut common = Common { peace: planted.peace, ..arguments.common.clone() };
        common.limit.extend(planted.limits.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        common.env.extend(bug.map(|bug| (VARIABLE.to_owned(), bug.to_owned())));
        async move { suite::cell(&common, planted.workload, planted.fault, planted.seconds, seed).await }
    };
    let begin = Instant::now();
    let (mut found, mut tries) = (None, 0);
    let mut trouble = String::new();
    while found.is_none() && tries < arguments.tries {
        tries += 1;
        match cell(Some(planted.bug), chance.random_range(0..1 << 31)).await {
            Ok(ended) if ended.conclusion() == Conclusion::Violation => found = Some(as_what(&ended)),
            Ok(_) => (),
            Err(error) => trouble = format!(", the harness failed: {error:#}"),
        }
    }
    let took = begin.elapsed().as_secs();
    let control = match cell(None, chance.random_range(0..1 << 31)).await {
        Ok(ended) if ended.conclusion() == Conclusion::Clean => "clean".to_owned(),
        Ok(ended) => format!("**not clean**: {}", as_what(&ended)),
        Err(error) => format!("the harness failed: {error:#}"),
    };
    let good = found.is_some() && control == "clean";
    let (after, what) = match found {
        Some(what) => (format!("{took} s, run {tries}"), what),
        None => (format!("not in {took} s, {tries} runs"), trouble),
    };
    let text = |text: &str| text.replace(['\n', '|'], " ");
    let line = format!(
        "| {} | {} | {} | {after} | {} | {} |\n",
        planted.bug,
        planted.workload,
        planted.fault,
        text(&what),
        text(&control)
    );
    (line, good)
}

/// Which rules are broken, and the first in full; that something did not come back or answer any more comes last.
fn as_what(ended: &Ended) -> String {
    let mut said: Vec<_> = ended.verdicts.iter().filter_map(|verdict| verdict.smallest()).collect();
    said.sort_by_key(|violation| violation.rule == "L5");
    let Some((first, others)) = said.split_first() else { return "a check had nothing to look at".into() };
    let more: Vec<&str> = others.iter().map(|violation| violation.rule.as_str()).collect();
    let more = if more.is_empty() { String::new() } else { format!("; also {}", more.join(", ")) };
    format!("{}: {}{more}", first.rule, first.what.chars().take(200).collect::<String>())
}
