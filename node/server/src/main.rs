//! `stanchion`: a self-hosted control plane for durable execution. The binary.
//!
//! Reads what it was told (`cli`, `config`), starts a node (`node`) or speaks to one (`cluster`), and ends in order. Every error ends up
//! here as one line on stderr and an exit code.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use stanchion_engine::mutants;
use tokio::signal::unix::{SignalKind, signal};

use stanchion_server::cli::{Cli, Command};
use stanchion_server::config::NodeConfig;
use stanchion_server::{bootstrap, cluster, logging, metrics, node, verify};

/// How long the end of the process waits for each runtime's threads; what is acknowledged is on disk by then.
const TASKS_END_WITHIN: Duration = Duration::from_secs(5);

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dev(args) => NodeConfig::from_dev(args).map_err(Into::into).and_then(run_node),
        Command::Node(args) => NodeConfig::from_file(&args).map_err(Into::into).and_then(run_node),
        Command::Cluster(command) => cluster::run(command),
        Command::Verify(args) => return verify::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stanchion: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a node until a signal or a failure ends it.
fn run_node(config: NodeConfig) -> anyhow::Result<()> {
    logging::start(config.log_format);
    logging::log_panics();
    plant_bug()?;
    let figures = metrics::install().context("the metrics exporter")?;
    let consensus = runtime("consensus")?;
    let clients = runtime("clients")?;
    let outcome = clients.block_on(live(config, figures, consensus.handle().clone()));
    // Tasks that are dropped with their runtime hold the store. It must be closed before the process exits: RocksDB, closed by a thread that
    // outlives `main`, finds its own globals gone and aborts.
    clients.shutdown_timeout(TASKS_END_WITHIN);
    consensus.shutdown_timeout(TASKS_END_WITHIN);
    outcome
}

/// Test builds hold bugs, one of which the environment can plant. Every other build refuses to run where one is asked for.
fn plant_bug() -> anyhow::Result<()> {
    let Ok(name) = std::env::var("STANCHION_MUTANT") else { return Ok(()) };
    mutants::plant(&name).map_err(|reason| anyhow::anyhow!("STANCHION_MUTANT: {reason}"))?;
    tracing::warn!(%name, "MUTANT: this node has a planted bug and must not hold anything of worth");
    Ok(())
}

fn runtime(name: &str) -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build();
    built.with_context(|| format!("the {name} runtime"))
}

async fn live(
    config: NodeConfig,
    figures: metrics_exporter_prometheus::PrometheusHandle,
    consensus: tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    warn_if_open(&config);
    let mut running = node::start(config, figures, consensus).await?;
    let starting = async {
        if let Some(setup) = running.node.config.dev.clone() {
            bootstrap::dev(&running.node.clone(), &setup).await?;
        } else if let Err(reason) = running.node.readiness() {
            tracing::info!(%reason, "waiting");
        }
        running.wait_ready().await
    };
    let ended_early = tokio::select! {
        outcome = starting => { outcome?; false }
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
    };
    if !ended_early {
        announce(&running.node);
        tokio::select! {
            error = running.failed() => return Err(error),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    running.end().await
}

fn announce(node: &node::Node) {
    let name = if node.config.dev.is_some() { "dev".to_owned() } else { format!("node {}", node.id()) };
    let data =
        if node.config.ephemeral { "in a temporary folder".into() } else { node.config.data.display().to_string() };
    println!("stanchion {name} ready: gRPC {}, HTTP http://{}, data {data}", node.addresses.grpc, node.addresses.http);
}

fn warn_if_open(config: &NodeConfig) {
    if config.insecure {
        tracing::warn!("INSECURE: this node may listen beyond this machine and has no authentication");
    }
}
