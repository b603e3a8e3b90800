//! Plays workers and clients against nodes, over plain gRPC: no SDK stands between what is tested and what is seen.
//!
//! ```text
//! run        workers interpret programs, clients start them and act on them, until all are played or told to stop
//! finish     after the last fault: workers again, signals for whoever waits for some, until every run is closed
//! histories  every run of the namespace
//! judge      all of it against the programs
//! ```
//!
//! Survives every error of every call: nodes crash and come back, and the show goes on. Every call has a deadline. Time is tokio's, choices
//! come from the seed alone, so that a simulation repeats itself.
//!
//! Never hides an outcome: what was not acknowledged and is not certainly without effect is journaled as unknown.

mod activities;
mod call;
mod client;
mod fetch;
mod finish;
mod registers;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::check::Verdict;
use crate::history::RunHistory;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::program::{Program, generate, judge_programs};

pub use call::had_no_effect;
pub use client::{FINISHER, SIGNALS_PER_CLIENT};
pub use fetch::{NotFetched, histories};
pub use finish::{Unfinished, finish};
pub use registers::{number_of, run_in_the_way};

/// The nodes under test; any of them takes any call.
pub trait Nodes: Clone + Send + Sync + 'static {
    /// A channel to the i-th node, below [`Nodes::count`]. It may break at any time, and mends itself.
    fn channel(&self, i: usize) -> Channel;
    fn count(&self) -> usize;
}

/// What is played.
#[derive(Clone, Debug)]
pub struct Load {
    pub seed: u64,
    pub namespace: String,
    pub task_queue: String,
    /// How many programs clients start.
    pub programs: u64,
    /// About how many ops a program has at most.
    pub size: u32,
    pub clients: usize,
    pub workers: usize,
    /// For each worker: polls for workflow tasks, and as many for activities. Half of the former are on its sticky queue.
    pub pollers: usize,
    /// Clients that play on registers (`registers`). With any, a load goes on until it is told to stop.
    pub registers: usize,
    pub timings: Timings,
    pub mischief: Mischief,
}

#[derive(Clone, Debug)]
pub struct Timings {
    /// One call that is answered at once.
    pub call: Duration,
    /// One poll.
    pub long_poll: Duration,
    /// Between two acts of a client, at most.
    pub think: Duration,
    /// After a call that failed, at most.
    pub pause: Duration,
    pub workflow_task_timeout: Duration,
    pub sticky_timeout: Duration,
    /// How often a call is repeated before its outcome is left unknown.
    pub tries: u32,
}

/// What goes wrong on purpose on the side of workers, as one in so many; 0: never.
#[derive(Clone, Debug)]
pub struct Mischief {
    /// A workflow task is never answered.
    pub drops_workflow_task: u32,
    /// A run is forgotten between two of its tasks.
    pub loses_cache: u32,
    /// An attempt of an activity is never answered.
    pub drops_activity: u32,
    /// A completed activity is reported once more.
    pub repeats_completion: u32,
    /// A client cancels, or terminates, instead of something gentler.
    pub cancels: u32,
    pub terminates: u32,
}

impl Load {
    pub fn new(seed: u64, namespace: &str) -> Self {
        Self {
            seed,
            namespace: namespace.to_owned(),
            task_queue: "programs".into(),
            programs: 50,
            size: 12,
            clients: 4,
            workers: 2,
            pollers: 4,
            registers: 0,
            timings: Timings::default(),
            mischief: Mischief::default(),
        }
    }

    /// Workflow ids of a load begin so.
    pub fn prefix(&self) -> String {
        format!("program-{:x}-", self.seed)
    }

    pub fn workflow_id(&self, index: u64) -> String {
        format!("{}{index}", self.prefix())
    }

    pub fn program(&self, index: u64) -> Program {
        generate(self.seed, index, self.size)
    }

    fn workflow_task_timeout_ms(&self) -> u64 {
        u64::try_from(self.timings.workflow_task_timeout.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(5),
            long_poll: Duration::from_secs(20),
            think: Duration::from_millis(100),
            pause: Duration::from_millis(200),
            workflow_task_timeout: Duration::from_secs(3),
            sticky_timeout: Duration::from_secs(1),
            tries: 6,
        }
    }
}

impl Default for Mischief {
    fn default() -> Self {
        Self {
            drops_workflow_task: 100,
            loses_cache: 12,
            drops_activity: 150,
            repeats_completion: 30,
            cancels: 25,
            terminates: 50,
        }
    }
}

/// Starts all programs and plays workers and clients, until every client has played its share or `stop` is cancelled; clients of registers
/// play until then. Programs may be open when this returns: [`finish`] goes on.
pub async fn run(load: Load, nodes: impl Nodes, journal: Journal, ledger: Ledger, stop: CancellationToken) {
    let load = Arc::new(load);
    let workers = workers::Workers::start(&load, &nodes, &ledger, "run");
    let mut clients = JoinSet::new();
    let stage = client::Stage::default();
    for number in 0..load.clients {
        let client = client::Client::new(&load, &nodes, &journal, &stage, number);
        clients.spawn(client.play());
    }
    let board = registers::Board::default();
    let mut registrars = JoinSet::new();
    for number in 0..load.registers {
        registrars.spawn(registers::Registrar::new(&load, &nodes, &journal, &board, number).play());
    }
    let all_played = async {
        while clients.join_next().await.is_some() {}
        while registrars.join_next().await.is_some() {}
    };
    tokio::select! {
        () = all_played => {}
        () = stop.cancelled() => {}
    }
    clients.shutdown().await;
    registrars.shutdown().await;
    workers.stop().await;
}

/// Every verdict on a load, from what clients and workers wrote down and what the nodes say now.
pub fn judge(load: &Load, journal: &Journal, ledger: &Ledger, histories: &[RunHistory]) -> Vec<Verdict> {
    let operations = journal.operations();
    let mut verdicts = judge_programs(load, &operations, &ledger.lines(), histories);
    if load.registers > 0 {
        verdicts.extend(registers::judge(load, &operations, histories));
    }
    verdicts
}
