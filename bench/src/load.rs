//! Clients: start a run, wait for its result as an SDK does, note how long that took.
//!
//! A closed loop: each client starts its next run when the last one has ended, so a slow server is not flooded and latency under load
//! is that of a known number of runs in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use stanchion_client::Nodes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::process;
use crate::wire::{self, CALL_WITHIN, LONG_POLL, MESSAGE_BYTES_MAX, timed};
use crate::worker::Plan;

/// A run that takes longer than this is a failure of the measurement.
const RUN_WITHIN: Duration = Duration::from_secs(120);
/// Runs in flight that share one connection to each node.
const RUNS_PER_CONNECTION: usize = 16;

/// Times in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub runs: u64,
    pub p50_micros: u64,
    pub p99_micros: u64,
    pub max_micros: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    pub runs_per_second: f64,
    pub latency: Latency,
    /// Of all servers together; None without process ids.
    pub cpu_micros_per_run: Option<f64>,
    /// Of this process: clients and workers.
    pub bench_cpu_micros_per_run: f64,
}

pub struct Load {
    plan: Arc<Plan>,
    addresses: Vec<String>,
}

impl Load {
    pub fn new(plan: Arc<Plan>, addresses: &[String]) -> Result<Self> {
        Ok(Self { plan, addresses: addresses.to_vec() })
    }

    pub async fn one_at_a_time(&self, runs: usize) -> Result<Latency> {
        let nodes = Nodes::new(&self.addresses, MESSAGE_BYTES_MAX)?;
        // The first runs open connections and queues.
        for _ in 0..5.min(runs) {
            run(&self.plan, &nodes).await?;
        }
        let mut times = histogram()?;
        for _ in 0..runs {
            times.record(run(&self.plan, &nodes).await?)?;
        }
        Ok(summary(&times))
    }

    /// Keeps so many runs in flight; counts those that end within the measured time.
    pub async fn many_at_once(
        &self,
        concurrency: usize,
        warm_up: Duration,
        seconds: Duration,
        pids: &[u32],
    ) -> Result<Loaded> {
        let (phase, _) = watch::channel(Phase::WarmUp);
        let ended = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        let mut nodes = Vec::new();
        for client in 0..concurrency {
            if client % RUNS_PER_CONNECTION == 0 {
                // Each connection begins with another node.
                let mut addresses = self.addresses.clone();
                addresses.rotate_left(nodes.len() % self.addresses.len().max(1));
                nodes.push(Arc::new(Nodes::new(&addresses, MESSAGE_BYTES_MAX)?));
            }
            let Some(nodes) = nodes.last().cloned() else { bail!("no address was given") };
            clients.spawn(keep_running(self.plan.clone(), nodes, phase.subscribe(), ended.clone()));
        }
        tokio::time::sleep(warm_up).await;

        let me = [std::process::id()];
        let (cpu, mine, before) = (process::cpu(pids)?, process::cpu(&me)?, ended.load(Ordering::Relaxed));
        let start = Instant::now();
        phase.send_replace(Phase::Measured);
        tokio::time::sleep(seconds).await;
        let elapsed = start.elapsed();
        let (cpu, mine) = (process::cpu(pids)? - cpu, process::cpu(&me)? - mine);
        let runs = ended.load(Ordering::Relaxed) - before;
        phase.send_replace(Phase::Over);

        let mut times = histogram()?;
        while let Some(client) = clients.join_next().await {
            times.add(client??)?;
        }
        if runs == 0 {
            bail!("no run ended in {elapsed:?}");
        }
        Ok(Loaded {
            runs_per_second: runs as f64 / elapsed.as_secs_f64(),
            latency: summary(&times),
            cpu_micros_per_run: (!pids.is_empty()).then(|| cpu.as_secs_f64() * 1e6 / runs as f64),
            bench_cpu_micros_per_run: mine.as_secs_f64() * 1e6 / runs as f64,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Over,
}

async fn keep_running(
    plan: Arc<Plan>,
    nodes: Arc<Nodes>,
    phase: watch::Receiver<Phase>,
    ended: Arc<AtomicU64>,
) -> Result<Histogram<u64>> {
    let mut times = histogram()?;
    while *phase.borrow() != Phase::Over {
        let micros = run(&plan, &nodes).await?;
        ended.fetch_add(1, Ordering::Relaxed);
        if *phase.borrow() == Phase::Measured {
            times.record(micros)?;
        }
    }
    Ok(times)
}

/// One run, from before its start call to its result here, in microseconds.
async fn run(plan: &Arc<Plan>, nodes: &Nodes) -> Result<u64> {
    let workflow_id = Uuid::new_v4().to_string();
    let start = Instant::now();
    let request = wire::start(plan, &workflow_id);
    // The same request, with its request id, on every attempt.
    let started = nodes.call(CALL_WITHIN, |mut client| {
        let request = timed(request.clone(), CALL_WITHIN);
        async move { client.start_workflow_execution(request).await }
    });
    let run_id = started.await.context("StartWorkflowExecution")?.into_inner().run_id;
    let mut token = Vec::new();
    loop {
        let page = nodes.call(LONG_POLL, |mut client| {
            let request = timed(wire::await_close(plan, &workflow_id, &run_id, token.clone()), LONG_POLL);
            async move { client.get_workflow_execution_history(request).await }
        });
        let page = page.await.context("GetWorkflowExecutionHistory")?.into_inner();
        match wire::closed(&page.history.unwrap_or_default())? {
            Some(true) => break,
            Some(false) => bail!("run {workflow_id} ended without a result"),
            None if start.elapsed() > RUN_WITHIN => bail!("run {workflow_id} has no result after {RUN_WITHIN:?}"),
            None => token = page.next_page_token,
        }
    }
    Ok(u64::try_from(start.elapsed().as_micros())?)
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

fn summary(times: &Histogram<u64>) -> Latency {
    Latency {
        runs: times.len(),
        p50_micros: times.value_at_quantile(0.5),
        p99_micros: times.value_at_quantile(0.99),
        max_micros: times.max(),
    }
}
