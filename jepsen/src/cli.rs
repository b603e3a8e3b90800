//! The command line: what `stanchion-jepsen` can be told. `--help` of each command is its documentation. Called by `main`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser, Debug)]
#[command(
    name = "stanchion-jepsen",
    version,
    about = "Hurts real stanchion processes and judges from what clients and workers were told",
    after_help = "Exit codes: 0 nothing found; 1 a violation; 2 the harness failed, or a check had nothing to look at, so nothing was shown."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// One workload under one fault.
    Run(RunArgs),
    /// A chosen few cells in about three minutes, the control run and a run that must fail among them: for CI.
    Quick(QuickArgs),
    /// Every workload under every fault, in an order of chance, round after round, until the time is over; a line a cell in a table.
    Full(FullArgs),
    /// A failure test that security reviewers ask for, with a report as text and as a page.
    Reviewer(ReviewerArgs),
    /// A flipped bit in each kind of file of one node, one after another, under load; prints a table of what the node did.
    BitFlips(BitFlipsArgs),
    /// Whether each bug that can be planted in a binary with the feature `mutants` is found, and how soon; prints a table.
    Planted(PlantedArgs),
    /// All workloads and all faults, with what they are.
    List,
}

#[derive(Args, Debug)]
pub struct QuickArgs {
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Debug)]
pub struct FullArgs {
    /// No cell is begun after this: 30s, 20m, 2h.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = length)]
    pub length: Duration,
    /// Rounds over all cells, if there is time for more than one.
    #[arg(long, default_value_t = u32::MAX)]
    pub rounds: u32,
    /// How long the load of a cell runs.
    #[arg(long, default_value_t = 25)]
    pub seconds: u64,
    /// Of so many cells one has five nodes, whatever `--nodes` says; 0 for none.
    #[arg(long, default_value_t = 5)]
    pub five_of: u64,
    /// Only this workload; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub workload: Vec<String>,
    /// Only this fault; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub fault: Vec<String>,
    /// Gets a line after each cell, so that an interrupted run shows what was done. In the folder of `--out` when not given.
    #[arg(long, value_name = "FILE")]
    pub table: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Debug)]
pub struct ReviewerArgs {
    #[arg(value_enum)]
    pub test: ReviewerTest,
    #[command(flatten)]
    pub common: Common,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReviewerTest {
    /// Worker processes are killed in mid-run.
    KillWorkers,
    /// Workers are cut off from the cluster.
    CutWorkers,
    /// Credentials expire in mid-run.
    ExpireCredentials,
    /// The whole control plane is taken away and brought back.
    WholePlane,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[arg(long, value_name = "NAME")]
    pub workload: String,
    #[arg(long, value_name = "NAME", default_value = crate::faults::NONE)]
    pub fault: String,
    /// How long the load runs under faults; setting up, healing and reading come on top.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Debug)]
pub struct PlantedArgs {
    /// Only this bug; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Runs of its cell before a bug counts as not found.
    #[arg(long, default_value_t = 3)]
    pub tries: u32,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Debug)]
pub struct BitFlipsArgs {
    /// Only files whose name in the table has this in it.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args, Debug, Clone)]
pub struct Common {
    /// The node binary.
    #[arg(long, env = "STANCHION_BIN", value_name = "FILE")]
    pub binary: Option<PathBuf>,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: u64,
    /// Raft groups besides the meta group.
    #[arg(long, default_value_t = 4)]
    pub groups: u32,
    /// Repeats every choice of the harness; the timing of real processes never repeats. From the clock when not given, and told.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where result folders are made.
    #[arg(long, value_name = "DIR", default_value = "jepsen/out")]
    pub out: PathBuf,
    /// Where the nodes' data folders are made, each run in one of its own.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub data_in: PathBuf,
    /// A bound for the nodes' configuration; may be given many times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub limit: Vec<(String, String)>,
    /// Peace before each fault, instead of the seed's one to four seconds.
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub peace: Option<Duration>,
    /// How long each fault lasts, instead of its own few seconds.
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub lasts: Option<Duration>,
    /// A variable of the nodes' environment; may be given many times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| format!("`{text}` is not a number with s, m or h behind it"))?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("`{text}` ends in none of s, m and h")),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

impl Common {
    /// The binary that was named, or the one that `cargo build --workspace` makes.
    pub fn binary(&self) -> PathBuf {
        self.binary.clone().unwrap_or_else(|| {
            let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).unwrap_or_else(|| {
                PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/stanchion/target")
            });
            target.join("debug/stanchion")
        })
    }
}
