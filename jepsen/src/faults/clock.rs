//! Wall clocks that jump, swing and run too fast, by libfaketime under each node.
//!
//! The offset is in a file that the library reads at every look at the clock, so that it changes while the node runs. Monotonic time is
//! left alone: machines whose monotonic clock jumps do not exist, and a node's timers stand on it. Called by the nemesis.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Fault;
use super::kill::{Kill, Whom};
use crate::cluster::Cluster;
use crate::scene::Scene;

/// Where Debian's package `faketime` and others' put it. `MT` is the one for processes with threads.
const LIBRARY: &str = "libfaketimeMT.so.1";
const FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime",
    "/usr/lib/aarch64-linux-gnu/faketime",
    "/usr/lib/faketime",
    "/usr/lib64/faketime",
    "/usr/local/lib/faketime",
];
const TRUE_TIME: &str = "+0";
const STROBE_EVERY: Duration = Duration::from_millis(200);

fn library() -> Result<PathBuf> {
    let found = FOLDERS.iter().map(|folder| Path::new(folder).join(LIBRARY)).find(|path| path.exists());
    found.with_context(|| format!("{LIBRARY} is nowhere: install libfaketime (tools/bootstrap.sh test does)"))
}

/// What this machine lacks for faults of clocks.
pub fn lacks(_: &Cluster) -> Option<String> {
    library().err().map(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Once, by up to an hour, ahead or back.
    Jump,
    /// Back and forth, five times a second.
    Strobe,
    /// A fifth too fast.
    Drift,
}

pub struct Clock {
    how: How,
    whom: Whom,
    /// The file with each node's offset.
    files: BTreeMap<u64, PathBuf>,
    strobe: Option<JoinHandle<()>>,
}

impl Clock {
    pub fn of(how: How, whom: Whom) -> Self {
        Self { how, whom, files: BTreeMap::new(), strobe: None }
    }
}

/// Seconds, ahead or back. Small jumps cross deadlines that large ones merely pass.
fn jump(chance: &mut ChaCha8Rng) -> i64 {
    let most = [2, 30, 600, 3_600][chance.random_range(0..4)];
    chance.random_range(1..=most) * if chance.random_bool(0.5) { 1 } else { -1 }
}

/// Whole or not at all: the node reads it at any moment.
fn set(file: &Path, offset: &str) -> Result<()> {
    let staged = file.with_extension("new");
    std::fs::write(&staged, format!("{offset}\n")).with_context(|| staged.display().to_string())?;
    std::fs::rename(&staged, file).with_context(|| file.display().to_string())
}

impl Fault for Clock {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        let library = library()?;
        for node in &cluster.nodes {
            let file = cluster.folder.join(format!("{}.clock", node.name()));
            set(&file, TRUE_TIME)?;
            let path = file.to_string_lossy().into_owned();
            for (name, value) in [
                ("LD_PRELOAD", library.to_string_lossy().as_ref()),
                ("FAKETIME_TIMESTAMP_FILE", path.as_str()),
                ("FAKETIME_NO_CACHE", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                // Times of files are the disk's, and RocksDB compares them with each other only.
                ("NO_FAKE_STAT", "1"),
            ] {
                node.process.set_env(name, Some(value));
            }
            self.files.insert(node.number, file);
        }
        Ok(())
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = self.whom.choose(scene, chance).await;
            let files: Vec<PathBuf> = numbers.iter().filter_map(|number| self.files.get(number).cloned()).collect();
            let told = match self.how {
                How::Jump => {
                    let seconds = jump(chance);
                    files.iter().try_for_each(|file| set(file, &format!("{seconds:+}")))?;
                    json!({ "seconds": seconds })
                }
                How::Strobe => {
                    let seconds: i64 = chance.random_range(1..=300);
                    self.strobe = Some(tokio::spawn(async move {
                        let mut turns = tokio::time::interval(STROBE_EVERY);
                        for offset in
                            [format!("+{seconds}"), TRUE_TIME.to_owned(), format!("-{seconds}")].iter().cycle()
                        {
                            turns.tick().await;
                            if files.iter().any(|file| set(file, offset).is_err()) {
                                return;
                            }
                        }
                    }));
                    json!({ "seconds": seconds, "every_ms": STROBE_EVERY.as_millis() as u64 })
                }
                How::Drift => {
                    files.iter().try_for_each(|file| set(file, "+0 x1.2"))?;
                    json!({ "rate": 1.2 })
                }
            };
            Ok(json!({ "nodes": whom, "how": told }))
        })
    }

    fn heal<'a>(&'a mut self, _: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            if let Some(strobe) = self.strobe.take() {
                strobe.abort();
                // Its last write must not come behind the one below.
                let _ = strobe.await;
            }
            self.files.values().try_for_each(|file| set(file, TRUE_TIME))?;
            Ok(json!({}))
        })
    }
}

/// Each node's wall clock is off by another jump, and then the node that leads most groups is killed: its groups are led by nodes whose clocks
/// say something else.
pub struct Apart(Clock);

impl Apart {
    pub fn new() -> Self {
        Self(Clock::of(How::Jump, Whom::All))
    }
}

impl Fault for Apart {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.0.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut offsets = BTreeMap::new();
            for (number, file) in &self.0.files {
                let seconds = jump(chance);
                set(file, &format!("{seconds:+}"))?;
                offsets.insert(format!("n{number}"), seconds);
            }
            let killed = Kill(Whom::Leader).begin(scene, chance).await?;
            Ok(json!({ "seconds": offsets, "killed": killed }))
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        self.0.heal(scene, chance)
    }
}
