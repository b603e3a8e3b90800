//! The load generator: workflows of a few sequential activities, driven by workers in this process that speak Temporal's gRPC directly.
//!
//! It says how many runs a second a server completes, how long one takes from start to result as its client sees it, with nothing else
//! going on and under load, and what CPU and memory the servers' processes use for it. Servers are its own children, or given by
//! address and process id. One workload, `lists`, needs none: it measures the engine's reads on a store of its own.
//!
//! Never: counts a run whose result did not arrive; ends a process that it did not start.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod big_run;
mod disk;
mod lists;
mod load;
mod process;
mod report;
mod servers;
mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use big_run::BigRun;
use load::Load;
use report::Report;
use servers::Servers;
use stanchion_client::Nodes;
use worker::{Plan, Workers};

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Workload {
    /// One activity, then the result.
    OneActivity,
    /// `--n` activities, one after the other, then the result.
    Steps,
    /// One run that grows to `--n` events: what its first and its last steps cost.
    LongHistory,
    /// One run with `--n` pending activities: what each costs.
    ManyPending,
    /// Pages and counts over `--n` closed runs: what each kind of filter costs in the store itself, without a server.
    Lists,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum On {
    /// Starts `stanchion dev`.
    Dev,
    /// Starts three `stanchion node`s.
    Three,
    /// Uses servers that run already: `--address`, `--pid`.
    External,
}

/// Measures a Stanchion (or Temporal) server under a load of workflows.
#[derive(Parser, Debug)]
#[command(name = "stanchion-bench", version)]
struct Args {
    #[arg(long, value_enum, default_value = "one-activity")]
    workload: Workload,
    /// Activities of a run of the workload `steps` [default: 10]; events of `long-history` [50000]; activities of `many-pending` [2000];
    /// closed runs of `lists` [1000000].
    #[arg(long)]
    n: Option<u32>,
    #[arg(long, value_enum, default_value = "dev")]
    on: On,
    /// gRPC addresses of running servers.
    #[arg(long, value_delimiter = ',')]
    address: Vec<String>,
    /// Process ids of running servers, for CPU and memory.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Runs in flight under load.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Polls held open for workflow tasks, and as many for activities.
    #[arg(long, default_value_t = 64)]
    pollers: usize,
    /// Measured time under load, in seconds.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Time under load before that, in seconds.
    #[arg(long, default_value_t = 3.0)]
    warm_up: f64,
    /// Runs made one at a time, for the latency without load.
    #[arg(long, default_value_t = 200)]
    unloaded: usize,
    /// Time without a call in flight but the open polls, in seconds.
    #[arg(long, default_value_t = 5.0)]
    idle: f64,
    /// Bytes of every input and result.
    #[arg(long, default_value_t = 16)]
    payload_bytes: usize,
    /// Workers ask for the activities that they schedule at once (fewer calls a step).
    #[arg(long)]
    eager: bool,
    /// Workers keep no workflow in memory: no sticky queue, whole histories.
    #[arg(long)]
    no_sticky: bool,
    /// Keeps the data of `dev` in memory.
    #[arg(long)]
    ephemeral: bool,
    /// The server's binary; by default STANCHION_BIN, or `stanchion` next to this one.
    #[arg(long, env = "STANCHION_BIN")]
    binary: Option<PathBuf>,
    /// Where started servers keep their data, by default a folder next to this binary; removed afterwards.
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// Shard groups of a three-node cluster; 0 is the server's default.
    #[arg(long, default_value_t = 0)]
    groups: u32,
    /// A bound of started servers, as `stanchion dev --limit`.
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
    /// Also writes the figures to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Prints the figures as a row of a Markdown table.
    #[arg(long)]
    row: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if args.workload == Workload::Lists {
        println!("{}", measure_lists(&args)?);
        return Ok(());
    }
    let servers = start_servers(&args).await?;
    if matches!(args.workload, Workload::LongHistory | Workload::ManyPending) {
        let outcome = measure_big_run(&args, &servers).await;
        servers.stop().await;
        println!("{}", outcome?);
        return Ok(());
    }
    let outcome = measure(&args, &servers).await;
    servers.stop().await;
    let report = outcome?;
    if let Some(path) = &args.json {
        std::fs::write(path, format!("{:#}\n", report.to_json())).with_context(|| path.display().to_string())?;
    }
    println!("{}", if args.row { report.to_row() } else { report.to_text() });
    Ok(())
}

fn data_root(args: &Args) -> Result<PathBuf> {
    match &args.data_root {
        Some(root) => Ok(root.clone()),
        None => servers::beside_this_binary("bench-data"),
    }
}

async fn start_servers(args: &Args) -> Result<Servers> {
    let data_root = data_root(args)?;
    match args.on {
        On::External if args.address.is_empty() => bail!("--on external needs --address HOST:PORT[,HOST:PORT…]"),
        On::External => Ok(Servers::external(args.address.clone(), args.pid.clone())),
        On::Dev => {
            Servers::dev(&servers::binary(args.binary.as_deref())?, &data_root, args.ephemeral, &args.limit).await
        }
        On::Three => {
            Servers::three(&servers::binary(args.binary.as_deref())?, &data_root, args.groups, &args.limit).await
        }
    }
}

fn plan(args: &Args) -> Plan {
    Plan {
        namespace: args.namespace.clone(),
        task_queue: format!("bench-{}", uuid::Uuid::new_v4()),
        steps: if args.workload == Workload::OneActivity { 1 } else { args.n.unwrap_or(10).max(1) },
        payload: wire::payloads(args.payload_bytes),
        eager: args.eager,
        sticky: !args.no_sticky,
    }
}

async fn measure_big_run(args: &Args, servers: &Servers) -> Result<String> {
    servers.wait_for_namespace(&args.namespace).await?;
    let nodes = Nodes::new(servers.addresses(), wire::MESSAGE_BYTES_MAX)?;
    let (plan, pids) = (plan(args), servers.pids());
    let run = BigRun { plan: &plan, nodes: &nodes, pids: &pids };
    match args.workload {
        Workload::LongHistory => run.long_history(i64::from(args.n.unwrap_or(50_000))).await,
        _ => run.many_pending(usize::try_from(args.n.unwrap_or(2000))?).await,
    }
}

fn measure_lists(args: &Args) -> Result<String> {
    let folder = data_root(args)?.join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let measured = lists::measure(&folder, u64::from(args.n.unwrap_or(1_000_000)));
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    measured
}

async fn measure(args: &Args, servers: &Servers) -> Result<Report> {
    let plan = Arc::new(plan(args));
    servers.wait_for_namespace(&args.namespace).await?;
    let idle_alone = process::Watch::over(&servers.pids(), Duration::from_secs_f64(args.idle)).await?;

    let workers = Workers::start(&plan, servers.addresses(), args.pollers)?;
    let load = Load::new(plan.clone(), servers.addresses())?;
    let unloaded = load.one_at_a_time(args.unloaded).await?;
    let idle_polled = process::Watch::over(&servers.pids(), Duration::from_secs_f64(args.idle)).await?;

    let warm_up = Duration::from_secs_f64(args.warm_up);
    let seconds = Duration::from_secs_f64(args.seconds);
    let loaded = load.many_at_once(args.concurrency, warm_up, seconds, &servers.pids()).await?;
    let rss_bytes = process::rss_bytes(&servers.pids())?;
    let failed_calls = workers.stop().await;
    Ok(Report {
        workload: format!("{} activities", plan.steps),
        servers: format!("{:?}", args.on).to_lowercase(),
        concurrency: args.concurrency,
        pollers: args.pollers,
        eager: args.eager,
        sticky: plan.sticky,
        sync_micros: servers.data_root().map(disk::median_sync_micros).transpose()?,
        unloaded,
        loaded,
        idle_alone,
        idle_polled,
        rss_bytes,
        failed_calls,
    })
}
