//! What a cell of the table (one workload under one fault) works with: cluster, network, journal, seeded choices, and time.
//!
//! Never judges. Made by `cell`; used by workloads and faults, at the same time, through shared references.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use stanchion_proof::journal::Journal;
use tokio::time::Instant;

use crate::client::{Api, Client};
use crate::cluster::{Cluster, Shape};
use crate::network::Link;
use crate::workers::Workers;

pub const NAMESPACE: &str = "default";

/// See the module.
pub struct Scene {
    pub out: PathBuf,
    pub seed: u64,
    pub cluster: Cluster,
    pub journal: Journal,
    /// One connection to each node, through the clients' proxies.
    pub apis: Vec<Api>,
    pub workers: Workers,
    /// Nanoseconds since 1970 at which the journal's clock was 0.
    pub epoch: u64,
    clock: Instant,
}

impl Scene {
    /// Folders and proxies; no node runs yet.
    pub async fn prepare(shape: Shape, out: PathBuf) -> Result<Self> {
        let seed = shape.seed;
        let cluster = Cluster::prepare(shape, &out).await?;
        let apis = cluster
            .numbers()
            .into_iter()
            .map(|number| Api::of(&cluster, Link::Clients(number)))
            .collect::<Result<_>>()?;
        let clock = Instant::now();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        // Each line is in the file before the call that it tells of goes out: a harness that dies leaves its evidence.
        let path = out.join("history.jsonl");
        let file = Mutex::new(std::fs::File::create(&path).with_context(|| path.display().to_string())?);
        let now = move || clock.elapsed().as_nanos() as u64;
        let journal = Journal::watched(now, move |line| {
            let mut text = serde_json::to_string(line).unwrap_or_default();
            text.push('\n');
            let _ = file.lock().write_all(text.as_bytes());
        });
        Ok(Self { out, seed, cluster, journal, apis, workers: Workers::default(), epoch, clock })
    }

    /// Nanoseconds since the start of the test, as the journal counts them.
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// The journal's clock, for whoever keeps time with it.
    pub fn clock(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let clock = self.clock;
        move || clock.elapsed().as_nanos() as u64
    }

    /// Choices of their own for each purpose: a lane that makes more of them does not move another's.
    pub fn chance(&self, purpose: &str) -> ChaCha8Rng {
        let mut seed = self.seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in purpose.bytes() {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        ChaCha8Rng::seed_from_u64(seed)
    }

    /// A logical client with choices and a process number of its own.
    pub fn client(&self, purpose: &str) -> Client {
        Client::new(self.apis.clone(), self.journal.clone(), self.chance(purpose))
    }

    /// Runs so many lanes at a time, each with a client of its own, until all have ended.
    pub async fn lanes<L: Future<Output = ()>>(&self, purpose: &str, count: usize, lane: impl Fn(Client) -> L) {
        join_all((0..count).map(|each| lane(self.client(&format!("{purpose} {each}"))))).await;
    }

    /// A client that knows one node only.
    pub fn client_of(&self, node: u64, purpose: &str) -> Client {
        let apis = self.apis.iter().filter(|api| api.node == node).cloned().collect();
        Client::new(apis, self.journal.clone(), self.chance(purpose))
    }

    pub fn say(&self, text: &str) {
        eprintln!("[{:7.1} s] {text}", self.clock.elapsed().as_secs_f64());
    }
}
