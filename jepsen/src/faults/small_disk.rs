//! A disk that is really full: each node's data folder is a small file system of its own, which a fault leaves with next to no room.
//!
//! The file systems are mounted where only the nodes see them (`process::private_mounts`): they go away with the driver, however it ends.
//! A node that meets the end of its disk stops, or refuses what it cannot write, and never loses what it acknowledged; it comes back once
//! there is room. What a node has written is gone with the mount: after a violation the logs are what is left. Called by the nemesis.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use super::kill::Whom;
use crate::cluster::Cluster;
use crate::process;
use crate::scene::Scene;

/// Of each node's disk, when it is well.
const DISK_BYTES: u64 = 256 * 1024 * 1024;
const PAGE: u64 = 4096;
/// A node that is started on a full disk serves or has ended within this.
const TRIES_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

pub fn lacks(_: &Cluster) -> Option<String> {
    process::private_mounts().err().map(|error| format!("no private mounts: {error:#}"))
}

pub struct Full {
    whom: Whom,
    full: Vec<u64>,
}

impl Full {
    pub fn of(whom: Whom) -> Self {
        Self { whom, full: Vec::new() }
    }
}

impl Fault for Full {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        for node in &cluster.nodes {
            std::fs::create_dir_all(&node.data)?;
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &size(DISK_BYTES), "tmpfs"]).arg(&node.data);
            run(mount)?;
        }
        Ok(())
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = self.whom.choose(scene, chance).await;
            let mut left = serde_json::Map::new();
            for number in &numbers {
                let node = scene.cluster.node(*number);
                let pages = chance.random_range(0..=16);
                node.process.may_end();
                let used = used(&node.data)?;
                resize(&node.data, used + pages * PAGE)?;
                left.insert(node.name().to_owned(), json!({ "used_bytes": used, "left_bytes": pages * PAGE }));
            }
            self.full = numbers;
            Ok(json!({ "nodes": whom, "disks": left }))
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut told = serde_json::Map::new();
            for number in std::mem::take(&mut self.full) {
                let node = scene.cluster.node(number);
                let stopped = !node.process.is_running();
                // One that has stopped is started where there is still no room: it may refuse, and must not spoil what it has.
                let again = if stopped { Some(try_to_start(scene, number).await?) } else { None };
                resize(&node.data, DISK_BYTES)?;
                told.insert(node.name().to_owned(), json!({ "stopped": stopped, "started_while_full": again }));
            }
            Ok(json!(told))
        })
    }
}

/// What a node does that is started on its full disk: `refused`, or `serves`, or neither within a time.
async fn try_to_start(scene: &Scene, number: u64) -> Result<&'static str> {
    let node = scene.cluster.node(number);
    node.process.start()?;
    node.process.may_end();
    match tokio::time::timeout(TRIES_FOR, async {
        while node.process.is_running() {
            if scene.cluster.wait_ready(&[number], PAUSE).await.is_ok() {
                return "serves";
            }
            tokio::time::sleep(PAUSE).await;
        }
        "refused"
    })
    .await
    {
        Ok(what) => Ok(what),
        Err(_) => Ok("neither serves nor ends"),
    }
}

fn size(bytes: u64) -> String {
    format!("size={bytes}")
}

fn resize(data: &Path, bytes: u64) -> Result<()> {
    let mut remount = Command::new("mount");
    remount.args(["-o", &format!("remount,{}", size(bytes))]).arg(data);
    run(remount).map(drop)
}

fn used(data: &Path) -> Result<u64> {
    let mut df = Command::new("df");
    df.args(["-B1", "--output=used"]).arg(data);
    let told = run(df)?;
    told.lines().last().and_then(|line| line.trim().parse().ok()).with_context(|| format!("df said `{told}`"))
}

/// Runs a command as nodes are run, so that it sees their file systems.
fn run(mut command: Command) -> Result<String> {
    command.stdin(std::process::Stdio::null());
    let shown = format!("{command:?}");
    let output = process::beside_nodes(move || command.output())?.with_context(|| shown.clone())?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
