//! Whole nodes in one process: a simulated clock, network and disk, from a seed.
//!
//! Called by people and by CI.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod child;
mod cluster;
mod host;
mod load;
mod mutants;
mod net;
mod node;
mod os;
mod plan;
mod seed;
mod shrink;
mod soak;
mod state;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser, Subcommand};

use crate::plan::Plan;
use crate::seed::Outcome;
use crate::soak::Tally;

/// Where past failures are kept, from the root of the checkout.
const PAST: &str = "node/sim/regressions.jsonl";

#[derive(Parser)]
#[command(name = "stanchion-sim", about = "Runs whole clusters in one process, from a seed")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Which {
    #[arg(long, required_unless_present = "plan")]
    seed: Option<u64>,
    /// A plan as JSON, instead of the one that a seed means.
    #[arg(long)]
    plan: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// One seed, in this process. Prints the outcome as JSON.
    Run {
        #[command(flatten)]
        which: Which,
        /// Print what happens, with simulated times. RUST_LOG filters it.
        #[arg(long)]
        trace: bool,
    },
    /// What a seed means, as JSON.
    Plan {
        #[arg(long)]
        seed: u64,
    },
    /// Many seeds, each in a process of its own; without a bound, until stopped.
    Soak {
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long)]
        seeds: Option<u64>,
        /// For how long: 90s, 10m, 1h.
        #[arg(long = "for", value_parser = duration)]
        lasts: Option<Duration>,
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// New failures are appended to this file.
        #[arg(long, default_value = PAST)]
        past: PathBuf,
    },
    /// All past failures again.
    Replay {
        #[arg(long, default_value = PAST)]
        past: PathBuf,
    },
    /// Each seed twice: everything observable must be equal.
    CheckDeterminism {
        #[arg(long, default_value_t = 1)]
        from: u64,
        #[arg(long, default_value_t = 5)]
        seeds: u64,
    },
    /// Whether each planted bug is found, and how soon: a table. Needs a build with the feature `mutants`.
    Mutants {
        /// All of them, if none is named.
        names: Vec<String>,
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// For each bug, at most.
        #[arg(long, default_value_t = 2000)]
        seeds: u64,
        /// For each bug, at most: 90s, 10m, 1h.
        #[arg(long = "for", value_parser = duration)]
        lasts: Option<Duration>,
    },
    /// Makes a failing plan smaller, and prints it.
    Shrink {
        #[command(flatten)]
        which: Which,
    },
}

/// 0: nothing found. 1: a violation. 2: the harness failed.
fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stanchion-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run { which, trace } => {
            os::fix_addresses().context("cannot start anew with fixed addresses")?;
            if trace {
                show();
            }
            // For tests of this test: a build with planted bugs must find them.
            if let Ok(name) = std::env::var("STANCHION_MUTANT") {
                stanchion_engine::mutants::plant(&name).map_err(|why| anyhow!("STANCHION_MUTANT: {why}"))?;
            }
            let outcome = run_here(which.plan()?)?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Plan { seed } => {
            println!("{}", serde_json::to_string_pretty(&Plan::of(seed))?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Soak { from, seeds, lasts, jobs, past } => {
            Ok(verdict(&soak::soak(from, seeds, lasts, jobs, Some(&past))?))
        }
        Command::Replay { past } => Ok(verdict(&soak::replay(&past)?)),
        Command::CheckDeterminism { from, seeds } => Ok(verdict(&soak::check_determinism(from, seeds)?)),
        Command::Mutants { names, from, seeds, lasts } => {
            let missed = mutants::search(&names, from, seeds, lasts)?;
            Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Shrink { which } => match shrink::shrink(which.plan()?)? {
            Some((plan, finding)) => {
                println!("{}\n{finding}", serde_json::to_string(&plan)?);
                Ok(ExitCode::FAILURE)
            }
            None => {
                println!("the plan finds nothing");
                Ok(ExitCode::SUCCESS)
            }
        },
    }
}

impl Which {
    fn plan(self) -> anyhow::Result<Plan> {
        match (self.plan, self.seed) {
            (Some(plan), _) => serde_json::from_str(&plan).context("the plan cannot be read"),
            (None, Some(seed)) => Ok(Plan::of(seed)),
            (None, None) => Err(anyhow!("a seed or a plan is needed")),
        }
    }
}

fn verdict(tally: &Tally) -> ExitCode {
    match (tally.found, tally.failed) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// On a thread of its own, whose thread-local generators nobody has used before.
fn run_here(plan: Plan) -> anyhow::Result<Outcome> {
    let thread = std::thread::Builder::new().name("simulation".into()).stack_size(64 << 20);
    let run = thread.spawn(move || {
        let shm = std::path::Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("stanchion-sim-").tempdir_in(base)?;
        let panics = seed::collect_panics();
        os::simulate(plan.seed);
        seed::run(&plan, folder.path(), &panics)
    })?;
    run.join().map_err(|_| anyhow!("the simulation itself panicked"))?
}

/// `90s`, `10m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) =
        text.split_at_checked(text.len().saturating_sub(1)).ok_or("a duration is like 90s, 10m or 1h")?;
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not like 90s, 10m or 1h"))?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        _ => Err(format!("`{text}` is not like 90s, 10m or 1h")),
    }
}

/// Messages with simulated times, of whichever machine runs.
fn show() {
    struct Clock;
    impl tracing_subscriber::fmt::time::FormatTime for Clock {
        fn format_time(&self, to: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
            let machine = match os::machine() {
                usize::MAX => "-".to_owned(),
                machine => (machine + 1).to_string(),
            };
            write!(to, "{:>10.3} {machine}", os::now().as_secs_f64())
        }
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Clock)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
