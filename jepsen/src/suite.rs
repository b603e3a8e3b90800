//! From the command line to cells: which ones, where their results go, and one exit code for all.
//!
//! Called by `main`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use rand::Rng as _;

use crate::cell::{Cell, Conclusion, Ended};
use crate::cli::{Common, RunArgs};
use crate::cluster::Shape;
use crate::{faults, results, workloads};

/// Exit codes.
pub const CLEAN: u8 = 0;
pub const VIOLATION: u8 = 1;
pub const NOTHING_SHOWN: u8 = 2;

pub async fn run(arguments: RunArgs) -> u8 {
    let seed = arguments.common.seed.unwrap_or_else(|| rand::rng().random_range(0..1 << 31));
    match cell(&arguments.common, &arguments.workload, &arguments.fault, arguments.seconds, seed).await {
        Ok(ended) => code(ended.conclusion()),
        Err(error) => {
            eprintln!("stanchion-jepsen: the harness failed, nothing was shown: {error:#}");
            NOTHING_SHOWN
        }
    }
}

/// Runs one cell and tells its verdict.
async fn cell(common: &Common, workload: &str, fault: &str, seconds: u64, seed: u64) -> Result<Ended> {
    let workload = workloads::find(workload)
        .with_context(|| format!("there is no workload `{workload}` (stanchion-jepsen list)"))?;
    let fault = faults::find(fault).with_context(|| format!("there is no fault `{fault}` (stanchion-jepsen list)"))?;
    let out = folder(&common.out, workload.name, fault.name)?;
    let cell = Cell { workload, fault, seconds, shape: shape(common, seed)?, out };
    let ended = cell.run().await?;
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

/// A folder that is not there yet, named after when and what.
fn folder(base: &Path, workload: &str, fault: &str) -> Result<PathBuf> {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    for number in 0.. {
        let again = if number == 0 { String::new() } else { format!("-{number}") };
        let path = base.join(format!("{seconds}-{workload}-{fault}{again}"));
        if !path.exists() {
            std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
            return Ok(path);
        }
    }
    Err(anyhow!("no free name in {}", base.display()))
}

fn code(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Clean => CLEAN,
        Conclusion::Violation => VIOLATION,
        Conclusion::Vacuous => NOTHING_SHOWN,
    }
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
