//! The command line: what `stanchion-jepsen` can be told. `--help` of each command is its documentation. Called by `main`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// All workloads and all faults, with what they are.
    List,
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
