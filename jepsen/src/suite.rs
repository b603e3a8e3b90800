//! From the command line to cells: which ones, where their results go, and one exit code for all.
//!
//! Called by `main`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::cell::{Cell, Conclusion, Ended, Lacking};
use crate::cli::{Common, FullArgs, QuickArgs, RunArgs};
use crate::cluster::Shape;
use crate::faults::nemesis::Plan;
use crate::table::{Table, utc};
use crate::{faults, results, workloads};

/// Exit codes. A violation outranks a failure of the harness.
pub const CLEAN: u8 = 0;
pub const VIOLATION: u8 = 1;
pub const NOTHING_SHOWN: u8 = 2;

/// What CI runs: workload, fault, seconds. The first is the control run.
const QUICK: &[(&str, &str, u64)] = &[
    ("signal-list", faults::NONE, 6),
    ("signal-list", "kill-all", 12),
    ("start-register", "isolate-leader", 12),
    ("activity-ledger", "kill-leader", 12),
    ("random-program", "ring", 12),
    ("sdk-steps", "power-all", 15),
];

/// The run that must be found out, with which the suite shows that it can fail: the disks say that they have synced and have not, and then
/// all nodes lose their power.
const MUST_FAIL: (&str, &str, u64) = ("signal-list", "power-loss-lying", 10);

pub async fn run(arguments: RunArgs) -> u8 {
    match cell(&arguments.common, &arguments.workload, &arguments.fault, arguments.seconds, seed(&arguments.common))
        .await
    {
        Ok(ended) => code(ended.conclusion()),
        Err(error) => failed(&error),
    }
}

pub async fn quick(arguments: &QuickArgs) -> u8 {
    let begin = Instant::now();
    let first = seed(&arguments.common);
    println!("seed {first}");
    let mut lines = Vec::new();
    let mut worst = CLEAN;
    for (at, (workload, fault, seconds)) in QUICK.iter().enumerate() {
        let (said, code) = match cell(&arguments.common, workload, fault, *seconds, first.wrapping_add(at as u64)).await
        {
            Ok(ended) => (format!("{:?}", ended.conclusion()).to_lowercase(), code(ended.conclusion())),
            Err(error) => (format!("harness failed: {error:#}"), failed(&error)),
        };
        lines.push(format!("{workload} under {fault}: {said}"));
        worst = outranking(worst, code);
    }
    let (workload, fault, seconds) = MUST_FAIL;
    let (said, code) = match cell(&arguments.common, workload, fault, seconds, first).await {
        Ok(ended) if ended.conclusion() == Conclusion::Violation => ("found out, as it must be".to_owned(), CLEAN),
        Ok(_) => ("NOT found out: this suite cannot be trusted".to_owned(), NOTHING_SHOWN),
        Err(error) => (format!("harness failed: {error:#}"), failed(&error)),
    };
    lines.push(format!("{workload} under {fault}, which must fail: {said}"));
    worst = outranking(worst, code);
    println!("\nquick, {:.0} s:\n  {}", begin.elapsed().as_secs_f64(), lines.join("\n  "));
    worst
}

pub async fn full(arguments: &FullArgs) -> u8 {
    match every_cell(arguments).await {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn every_cell(arguments: &FullArgs) -> Result<u8> {
    let stop = Instant::now() + arguments.length;
    let first = seed(&arguments.common);
    let mut chance = ChaCha8Rng::seed_from_u64(first);
    let workloads = chosen(workloads::ALL.iter().map(|kind| kind.name), &arguments.workload, "workload")?;
    // What must fail has its own place.
    let faults =
        faults::ALL.iter().filter(|kind| !kind.must_fail || arguments.fault.iter().any(|name| name == kind.name));
    let faults = chosen(faults.map(|kind| kind.name), &arguments.fault, "fault")?;
    let path = arguments.table.clone().unwrap_or_else(|| arguments.common.out.join("table.md"));
    let table = Table::open(&path)?;
    println!("seed {first}; {} workloads under {} faults; table in {}", workloads.len(), faults.len(), path.display());
    let mut worst = CLEAN;
    let (mut clean, mut violated, mut nothing, mut lacking) = (0, 0, 0, 0);
    'rounds: for _ in 0..arguments.rounds {
        let cells = spread(workloads.clone(), faults.clone(), &mut chance);
        let mut possible = false;
        for (at, (workload, fault)) in (1_u64..).zip(cells) {
            if Instant::now() >= stop {
                break 'rounds;
            }
            let seed = chance.random_range(0..1 << 31);
            let five = arguments.five_of > 0 && at.is_multiple_of(arguments.five_of);
            let common = Common { nodes: if five { 5 } else { arguments.common.nodes }, ..arguments.common.clone() };
            let mut ended = cell(&common, workload, fault, arguments.seconds, seed).await;
            if let Some(error) = ended.as_ref().err().filter(|error| !error.is::<Lacking>()) {
                // A machine that was too busy for a moment must not leave a hole. What failed stays in the table.
                worst = outranking(worst, failed(error));
                table.not_done(workload, fault, seed, "harness failed, tried again", &format!("{error:#}"))?;
                ended = cell(&common, workload, fault, arguments.seconds, seed).await;
            }
            match ended {
                Ok(ended) => {
                    possible = true;
                    table.cell(&ended)?;
                    worst = outranking(worst, code(ended.conclusion()));
                    match ended.conclusion() {
                        Conclusion::Clean => clean += 1,
                        Conclusion::Violation => violated += 1,
                        Conclusion::Vacuous => nothing += 1,
                    }
                }
                Err(error) => match error.downcast::<Lacking>() {
                    Ok(Lacking(what)) => {
                        lacking += 1;
                        table.not_done(workload, fault, seed, "not possible", &what)?;
                    }
                    Err(error) => {
                        possible = true;
                        nothing += 1;
                        worst = outranking(worst, failed(&error));
                        table.not_done(workload, fault, seed, "harness failed", &format!("{error:#}"))?;
                    }
                },
            }
            table.summarize()?;
        }
        if !possible {
            break;
        }
    }
    println!("\n{}", table.summarize()?);
    println!(
        "{} UTC: {clean} cells clean, {violated} violated, {nothing} showed nothing, {lacking} not possible; {}",
        utc(),
        path.display()
    );
    Ok(worst)
}

/// All cells, in an order in which each fault has had its turn before any has a second one, and workloads take turns as evenly: a run that
/// is shorter than a round has still seen all of them.
fn spread<'a>(
    mut workloads: Vec<&'a str>,
    mut faults: Vec<&'a str>,
    chance: &mut ChaCha8Rng,
) -> Vec<(&'a str, &'a str)> {
    workloads.shuffle(chance);
    faults.shuffle(chance);
    let count = workloads.len();
    (0..count)
        .flat_map(|turn| faults.iter().enumerate().map(move |(at, fault)| (at + turn, *fault)))
        .map(|(at, fault)| (workloads[at % count], fault))
        .collect()
}

/// The named ones, or all.
fn chosen<'a>(all: impl Iterator<Item = &'a str>, named: &[String], what: &str) -> Result<Vec<&'a str>> {
    let all: Vec<&str> = all.collect();
    if let Some(unknown) = named.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(anyhow!("there is no {what} `{unknown}` (stanchion-jepsen list)"));
    }
    Ok(all.into_iter().filter(|name| named.is_empty() || named.iter().any(|other| other == name)).collect())
}

/// Runs one cell and tells its verdict.
pub async fn cell(common: &Common, workload: &str, fault: &str, seconds: u64, seed: u64) -> Result<Ended> {
    let workload = workloads::find(workload)
        .with_context(|| format!("there is no workload `{workload}` (stanchion-jepsen list)"))?;
    let fault = faults::find(fault).with_context(|| format!("there is no fault `{fault}` (stanchion-jepsen list)"))?;
    let out = folder(&common.out, &format!("{}-{}", workload.name, fault.name))?;
    let plan = Plan::Seeded { peace: common.peace, lasts: common.lasts };
    let mut shape = shape(common, seed)?;
    for (name, value) in fault.limits {
        shape.limits.entry((*name).to_owned()).or_insert(*value);
    }
    let cell = Cell { workload, fault, plan, seconds, shape, out: out.clone() };
    let ended = match cell.run().await {
        Ok(ended) => ended,
        Err(error) => {
            if error.is::<Lacking>() {
                // There is nothing in it.
                let _ = std::fs::remove_dir_all(&out);
            }
            return Err(error);
        }
    };
    println!("{}", results::shown(&ended));
    Ok(ended)
}

pub fn shape(common: &Common, seed: u64) -> Result<Shape> {
    let limits = common.limit.iter().map(|(name, value)| {
        let value = value
            .parse()
            .map_err(|_| anyhow!("limit {name} is `{value}`: a limit is a whole number that is not negative"))?;
        Ok((name.clone(), value))
    });
    Ok(Shape {
        binary: common.binary(),
        nodes: common.nodes,
        groups: common.groups,
        limits: limits.collect::<Result<_>>()?,
        environment: common.env.iter().cloned().collect(),
        data_in: common.data_in.clone(),
        seed,
    })
}

pub fn seed(common: &Common) -> u64 {
    common.seed.unwrap_or_else(|| rand::rng().random_range(0..1 << 31))
}

/// A folder that is not there yet, named after when and what.
pub fn folder(base: &Path, what: &str) -> Result<PathBuf> {
    let when = utc().replace([' ', ':'], "-");
    for number in 0.. {
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        let path = base.join(format!("{when}-{what}{again}"));
        if !path.exists() {
            std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
            return Ok(path);
        }
    }
    Err(anyhow!("no free name in {}", base.display()))
}

pub fn code(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Clean => CLEAN,
        Conclusion::Violation => VIOLATION,
        Conclusion::Vacuous => NOTHING_SHOWN,
    }
}

/// A violation outranks a failure, and that outranks nothing found.
pub fn outranking(one: u8, other: u8) -> u8 {
    match (one, other) {
        (VIOLATION, _) | (_, VIOLATION) => VIOLATION,
        _ => one.max(other),
    }
}

pub fn failed(error: &anyhow::Error) -> u8 {
    eprintln!("stanchion-jepsen: the harness failed, nothing was shown: {error:#}");
    NOTHING_SHOWN
}

pub fn list() {
    println!("workloads:");
    for kind in workloads::ALL {
        println!("  {:<18} {}", kind.name, kind.what);
    }
    println!("\nfaults:");
    for kind in faults::ALL {
        println!("  {:<18} {}", kind.name, kind.what);
    }
}

#[cfg(test)]
mod tests;
