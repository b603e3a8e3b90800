//! Real `stanchion node` processes on loopback, each with its own ports, data folder and log: start, initialise, hurt, restart, ask.
//!
//! Speaks to nodes only through what an operator has: settings, the admin API, HTTP, signals. Never reads a node's files and never
//! repairs them. Dropping a [`Cluster`] kills its nodes and, unless something was found, removes their data.
//!
//! Called by `scene`, `faults` and the workloads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use stanchion_proto::admin::StatusReply;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::network::{Addresses, Network};
use crate::ports;
use crate::process::Process;

/// A node that was told to start, or that was healed, serves within this. Generous: the machine may be compiling.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// Asked for is about 10 s. A busy machine gets some grace before it counts as hanging.
const TERMINATE_WITHIN: Duration = Duration::from_secs(20);
const HTTP_WITHIN: Duration = Duration::from_secs(2);
const STATUS_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// What a node says of a group that it stopped for anything but its disk.
pub const BROKEN_RULE: &str = "invariant violated: ";

#[derive(Clone, Debug)]
pub struct Shape {
    pub binary: PathBuf,
    pub nodes: u64,
    pub groups: u32,
    /// Bounds for the nodes' configuration.
    pub limits: BTreeMap<String, u64>,
    /// Variables that every node gets at every start.
    pub environment: BTreeMap<String, String>,
    /// Where the folder with the nodes' data is made.
    pub data_in: PathBuf,
    pub seed: u64,
}

pub struct Node {
    pub number: u64,
    pub addresses: Addresses,
    pub data: PathBuf,
    pub process: Process,
}

impl Node {
    pub fn name(&self) -> &str {
        &self.process.name
    }

    /// Ok when it serves; otherwise why not.
    async fn ready(&self) -> Result<(), String> {
        match get(self.addresses.http, "/ready").await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => {
                Err(format!("{}: /ready answers {status}: {}", self.name(), body.chars().take(200).collect::<String>()))
            }
            Err(error) => Err(format!("{}: /ready: {error}", self.name())),
        }
    }
}

/// See the module.
pub struct Cluster {
    pub shape: Shape,
    pub folder: PathBuf,
    pub nodes: Vec<Node>,
    pub network: Network,
    keep: AtomicBool,
    served: AtomicBool,
}

impl Cluster {
    /// Folders, ports, configuration and proxies; starts no node.
    pub async fn prepare(shape: Shape, out: &Path) -> Result<Self> {
        if !shape.binary.exists() {
            bail!(
                "no binary at {}: build it (cargo build --workspace), or name another with --binary",
                shape.binary.display()
            );
        }
        let folder = tempfile::Builder::new().prefix("stanchion-jepsen-").tempdir_in(&shape.data_in)?.keep();
        let mut addresses = BTreeMap::new();
        for number in 1..=shape.nodes {
            addresses.insert(number, Addresses { grpc: ports::free()?, http: ports::free()?, peer: ports::free()? });
        }
        let network = Network::begin(&addresses, shape.seed).await?;
        let mut nodes = Vec::new();
        for (number, at) in addresses {
            let name = format!("n{number}");
            let data = folder.join(&name);
            let config = folder.join(format!("{name}.toml"));
            std::fs::write(&config, configuration(number, &data, at, &shape.limits))?;
            let arguments = vec!["node".to_owned(), "--config".to_owned(), config.to_string_lossy().into_owned()];
            let process = Process::new(&name, &shape.binary, arguments, out.join(format!("{name}.log")));
            process.set_env("STANCHION_DIAL", Some(&network.dial(number)));
            for (variable, value) in &shape.environment {
                process.set_env(variable, Some(value));
            }
            nodes.push(Node { number, addresses: at, data, process });
        }
        Ok(Self { shape, folder, nodes, network, keep: AtomicBool::new(false), served: AtomicBool::new(false) })
    }

    /// Starts all nodes and makes a cluster of them.
    pub async fn begin(&self) -> Result<()> {
        for node in &self.nodes {
            node.process.start()?;
        }
        let begin = Instant::now();
        for node in &self.nodes {
            while !matches!(get(node.addresses.http, "/health").await, Ok((200, _))) {
                if !node.process.is_running() {
                    bail!("{} ended at its start: {}", node.name(), node.process.tail(600));
                }
                if begin.elapsed() > READY_WITHIN {
                    bail!("{} is not live {READY_WITHIN:?} after its start: {}", node.name(), node.process.tail(600));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let members: Vec<_> = self.nodes.iter().map(|node| (node.number, node.addresses.peer.to_string())).collect();
        stanchion_client::cluster::init(&members, self.shape.groups).await.context("cluster init")?;
        self.wait_ready(&self.numbers(), READY_WITHIN).await.map_err(|why| anyhow!(why))?;
        self.served.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether all nodes have served once: what goes wrong before that is a matter of the binary and the harness.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.number).collect()
    }

    pub fn node(&self, number: u64) -> &Node {
        &self.nodes[(number - 1) as usize]
    }

    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Waits until these nodes serve. How long that took, or why it is not so: in words for a verdict.
    pub async fn wait_ready(&self, numbers: &[u64], within: Duration) -> Result<Duration, String> {
        let begin = Instant::now();
        for number in numbers {
            let node = self.node(*number);
            loop {
                if !node.process.is_running() {
                    return Err(format!("{} is not running: {}", node.name(), last_lines(&node.process.tail(600))));
                }
                let Err(why) = node.ready().await else { break };
                if begin.elapsed() > within {
                    return Err(format!("not ready after {within:?}: {why}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(begin.elapsed())
    }

    /// All signals first, so that no node sees another one die and has time to act on it.
    pub fn kill(&self, numbers: &[u64]) {
        for number in numbers {
            self.node(*number).process.kill_without_waiting();
        }
        for number in numbers {
            self.node(*number).process.kill();
        }
    }

    /// Starts those that do not run.
    pub fn start(&self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            let process = &self.node(*number).process;
            if !process.is_running() {
                process.start()?;
            }
        }
        Ok(())
    }

    pub async fn terminate(&self, number: u64) -> Duration {
        self.node(number).process.terminate(TERMINATE_WITHIN).await
    }

    /// What the cluster knows of itself, from the first node that says so.
    pub async fn status(&self) -> Option<StatusReply> {
        for node in &self.nodes {
            if !node.process.is_running() || node.process.is_paused() {
                continue;
            }
            let peer = node.addresses.peer.to_string();
            if let Ok(Ok(status)) = timeout(STATUS_WITHIN, stanchion_client::cluster::status(&peer)).await {
                return Some(status);
            }
        }
        None
    }

    /// Node to the groups that it leads, the meta group 0 included.
    pub async fn led(&self) -> BTreeMap<u64, Vec<u32>> {
        let mut led: BTreeMap<u64, Vec<u32>> = self.nodes.iter().map(|node| (node.number, Vec::new())).collect();
        for group in self.status().await.map(|status| status.groups).unwrap_or_default() {
            if let Some(groups) = led.get_mut(&group.leader) {
                groups.push(group.group);
            }
        }
        led
    }

    /// Ends that nobody asked for, and what nodes say of themselves in their logs: panics, and groups that broke a rule and stopped.
    pub fn findings(&self) -> Vec<String> {
        let mut found: Vec<String> = self.nodes.iter().flat_map(|node| node.process.deaths()).collect();
        for node in &self.nodes {
            let text = std::fs::read(&node.process.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let told = text.lines().filter_map(|line| match line.split_once(BROKEN_RULE) {
                Some((before, rule)) if before.contains("this group stops on this node") => {
                    Some(format!("{BROKEN_RULE}{rule}"))
                }
                _ => line.contains("panicked at").then(|| line.to_owned()),
            });
            found.extend(
                told.take(5).map(|what| format!("{}: {}", node.name(), what.chars().take(500).collect::<String>())),
            );
        }
        found
    }

    /// Ends all nodes at once: the last one alone could hand nothing over.
    pub async fn end(&self) {
        futures::future::join_all(self.nodes.iter().map(|node| node.process.terminate(TERMINATE_WITHIN))).await;
    }

    /// The nodes' data is evidence: it stays.
    pub fn keep_data(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    pub fn keeps_data(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.process.kill_without_waiting();
        }
        for node in &self.nodes {
            node.process.kill();
        }
        if self.keeps_data() || std::thread::panicking() {
            eprintln!("the nodes' data is kept: {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn configuration(number: u64, data: &Path, at: Addresses, limits: &BTreeMap<String, u64>) -> String {
    let mut text = format!(
        "node_id = {number}\ndata = \"{}\"\ngrpc = \"{}\"\nhttp = \"{}\"\npeer = \"{}\"\nlog_format = \"human\"\n[limits]\n",
        data.display(),
        at.grpc,
        at.http,
        at.peer
    );
    for (name, value) in limits {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

pub fn last_lines(text: &str) -> String {
    text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// One HTTP GET: status and body. Nodes answer plain HTTP/1.1 here, and closing ends the body.
pub async fn get(address: std::net::SocketAddr, path: &str) -> Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without a body")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
        Ok((status, body.to_owned()))
    };
    timeout(HTTP_WITHIN, asked).await.map_err(|_| anyhow!("no answer within {HTTP_WITHIN:?}"))?
}
