//! The servers under test: children of this process on free ports, or servers that run already.
//!
//! Never: ends a process that it did not start.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stanchion_client::Nodes;
use stanchion_proto::temporal::workflowservice::v1::DescribeNamespaceRequest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::wire::{MESSAGE_BYTES_MAX, timed};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// From SIGTERM until a server is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Servers {
    addresses: Vec<String>,
    pids: Vec<u32>,
    children: Vec<Child>,
    /// Holds the data of started servers; removed when they are stopped.
    data: Option<PathBuf>,
}

/// The server's binary: as told, or next to this one.
pub fn binary(told: Option<&Path>) -> Result<PathBuf> {
    let path = match told {
        Some(path) => path.to_owned(),
        None => beside_this_binary("stanchion")?,
    };
    if !path.is_file() {
        bail!("there is no server binary at {}: build it, or name it with --binary or STANCHION_BIN", path.display());
    }
    Ok(path)
}

pub fn beside_this_binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    Ok(me.parent().context("this binary is in no folder")?.join(name))
}

impl Servers {
    pub fn external(addresses: Vec<String>, pids: Vec<u32>) -> Self {
        Self { addresses, pids, children: Vec::new(), data: None }
    }

    pub async fn dev(binary: &Path, data_root: &Path, ephemeral: bool, limits: &[String]) -> Result<Self> {
        let mut servers = Self::with_data(data_root)?;
        let [grpc, http, peer] = free_addresses()?;
        let mut command = Command::new(binary);
        command.args(["dev", "--grpc", &grpc, "--http", &http, "--peer", &peer]);
        for limit in limits {
            command.args(["--limit", limit]);
        }
        if ephemeral {
            command.arg("--ephemeral");
        } else {
            command.arg("--data").arg(servers.folder("dev"));
        }
        servers.spawn(command, "dev")?;
        servers.addresses.push(grpc);
        servers.until_ready(&[http]).await
    }

    pub async fn three(binary: &Path, data_root: &Path, groups: u32, limits: &[String]) -> Result<Self> {
        let mut servers = Self::with_data(data_root)?;
        let (mut peers, mut https) = (Vec::new(), Vec::new());
        for node in 1..=3 {
            let [grpc, http, peer] = free_addresses()?;
            let folder = servers.folder(&format!("node-{node}"));
            let config = servers.folder(&format!("node-{node}.toml"));
            let data = folder.to_str().context("the data folder's path is not UTF-8")?;
            let mut text =
                format!("node_id = {node}\ndata = {data:?}\ngrpc = \"{grpc}\"\nhttp = \"{http}\"\npeer = \"{peer}\"\n");
            if !limits.is_empty() {
                text.push_str("[limits]\n");
            }
            for limit in limits {
                text.push_str(limit);
                text.push('\n');
            }
            fs::write(&config, text)?;
            let mut command = Command::new(binary);
            command.args(["node", "--config"]).arg(&config);
            servers.spawn(command, &format!("node-{node}"))?;
            servers.addresses.push(grpc);
            peers.push((node, peer));
            https.push(http);
        }
        let start = Instant::now();
        while let Err(error) = stanchion_client::cluster::init(&peers, groups).await {
            if start.elapsed() > READY_WITHIN {
                return Err(servers.failed(error.into()).await);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        servers.until_ready(&https).await
    }

    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    /// Where started servers write.
    pub fn data_root(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Waits until every server knows the namespace.
    pub async fn wait_for_namespace(&self, namespace: &str) -> Result<()> {
        let start = Instant::now();
        for address in &self.addresses {
            let nodes = Nodes::new(std::slice::from_ref(address), MESSAGE_BYTES_MAX)?;
            loop {
                let known = nodes.call(Duration::from_secs(5), |mut client| {
                    let request = DescribeNamespaceRequest { namespace: namespace.to_owned(), ..Default::default() };
                    async move { client.describe_namespace(timed(request, Duration::from_secs(5))).await }
                });
                match known.await {
                    Ok(_) => break,
                    Err(status) if start.elapsed() > READY_WITHIN => {
                        bail!("namespace {namespace} at {address}: {status}")
                    }
                    Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        }
        Ok(())
    }

    /// SIGTERM, a while to obey, SIGKILL; then the data goes.
    pub async fn stop(mut self) {
        for child in &self.children {
            if let Some(pid) = child.id() {
                // There is no safe call for a signal other than SIGKILL.
                let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
            }
        }
        for child in &mut self.children {
            if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
                eprintln!("a server did not end {STOP_WITHIN:?} after SIGTERM; it is killed");
                let _ = child.kill().await;
            }
        }
        if let Some(data) = &self.data
            && let Err(error) = fs::remove_dir_all(data)
        {
            eprintln!("{} could not be removed: {error}", data.display());
        }
    }

    fn with_data(root: &Path) -> Result<Self> {
        let data = root.join(std::process::id().to_string());
        fs::create_dir_all(&data).with_context(|| data.display().to_string())?;
        Ok(Self { addresses: Vec::new(), pids: Vec::new(), children: Vec::new(), data: Some(data) })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.data.clone().unwrap_or_default().join(name)
    }

    /// Starts a server with its log in a file of its own. It dies with this process.
    fn spawn(&mut self, mut command: Command, name: &str) -> Result<()> {
        let log = fs::File::create(self.folder(&format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn();
        let mut child = child.with_context(|| format!("cannot start {:?}", command.as_std().get_program()))?;
        if let Some(output) = child.stdout.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    eprintln!("{line}");
                }
            });
        }
        self.pids.extend(child.id());
        self.children.push(child);
        Ok(())
    }

    async fn until_ready(mut self, https: &[String]) -> Result<Self> {
        let start = Instant::now();
        for http in https {
            loop {
                let answer = get(http, "/ready").await;
                if answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    break;
                }
                for child in &mut self.children {
                    if let Some(status) = child.try_wait()? {
                        return Err(self.failed(anyhow::anyhow!("a server ended with {status}")).await);
                    }
                }
                if start.elapsed() > READY_WITHIN {
                    let why = answer.unwrap_or_else(|error| error.to_string());
                    let error = anyhow::anyhow!("{http}/ready after {READY_WITHIN:?}: {}", why.trim());
                    return Err(self.failed(error).await);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(self)
    }

    /// Stops the servers and adds the ends of their logs to the error.
    async fn failed(self, mut error: anyhow::Error) -> anyhow::Error {
        if let Some(data) = &self.data {
            for entry in fs::read_dir(data).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    let log = fs::read_to_string(entry.path()).unwrap_or_default();
                    let tail: Vec<_> = log.lines().rev().take(8).collect();
                    let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                    error = error.context(format!("{}:\n{tail}", entry.file_name().to_string_lossy()));
                }
            }
        }
        self.stop().await;
        error
    }
}

/// Three ports that are free now. Another process may take one before its server does; then the server says so and ends.
fn free_addresses() -> Result<[String; 3]> {
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpListener::bind("127.0.0.1:0")?);
    }
    let mut addresses = held.iter().map(|listener| listener.local_addr().map(|address| address.to_string()));
    let mut next = || addresses.next().context("three listeners")?.context("a listener's address");
    Ok([next()?, next()?, next()?])
}

/// A plain HTTP GET: status line, headers and body.
async fn get(address: &str, path: &str) -> Result<String> {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await.context("no answer in 5 s")?
}
