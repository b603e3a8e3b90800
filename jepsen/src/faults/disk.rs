//! Disks that lose their power, fill up, are slow, or fail.
//!
//! Nodes run with `libstanchion_faultdisk.so` between them and their files, so that nothing of this needs root or a device. What it notes
//! while a node runs says what a power loss may take when it is dead; everything synced is still there, and of the rest any part may be
//! old, new or torn. A node must come back from that by itself.
//!
//! A node that was told by its disk that an fsync failed must stop at once and not try again: what a second fsync says is worthless.
//! One that goes on is a violation. Called by the nemesis.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use stanchion_faultdisk::preload::StateDir;
use stanchion_faultdisk::{Kind, Lost, PowerLoss};
use tokio::time::Instant;

use super::kill::Whom;
use super::nemesis::NotBack;
use super::{Fault, kill};
use crate::cluster::Cluster;
use crate::scene::Scene;

const LIBRARY: &str = "libstanchion_faultdisk.so";
/// A fault of the next few calls strikes within this under load, or not at all.
const STRIKES_WITHIN: Duration = Duration::from_secs(10);
/// A node whose disk failed has ended within this. It is a matter of milliseconds; a busy machine gets some grace.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// Files of a power loss that are named in the journal.
const DETAILS: usize = 40;

/// Where cargo has put the library: beside this binary.
pub fn library() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.parent().context("this binary is in no folder")?;
    let found = [beside.join(LIBRARY), beside.join("deps").join(LIBRARY)].into_iter().find(|path| path.exists());
    found.with_context(|| format!("no {LIBRARY} in {}: build it (cargo build --workspace)", beside.display()))
}

/// What this machine lacks for faults of disks.
pub fn lacks(_: &Cluster) -> Option<String> {
    library().err().map(|error| error.to_string())
}

/// The disk of each node.
#[derive(Default)]
pub struct Disks(BTreeMap<u64, StateDir>);

impl Disks {
    /// Before the first start of the nodes.
    pub fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        let library = library()?;
        for node in &cluster.nodes {
            let state = StateDir::create(&cluster.folder.join(format!("{}.disk", node.name())), &node.data)?;
            for (name, value) in state.environment(&library) {
                let (name, value) = (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
                node.process.set_env(&name, Some(&value));
            }
            self.0.insert(node.number, state);
        }
        Ok(())
    }

    pub fn of(&self, number: u64) -> Result<&StateDir> {
        self.0.get(&number).with_context(|| format!("n{number} has no watched disk"))
    }

    /// Of a node that has been killed.
    fn lose_power(&self, number: u64, how: PowerLoss, chance: &mut ChaCha8Rng) -> Result<Value> {
        let disk = self.of(number)?;
        let untracked = disk.control().lost_track.load(Relaxed);
        if untracked > 0 {
            bail!("{untracked} writes of n{number} could not be noted: its power loss would not be honest");
        }
        Ok(told(&disk.power_loss(how, chance.random())?))
    }

    fn reset(&self) {
        self.0.values().for_each(|disk| disk.control().reset());
    }
}

fn told(lost: &Lost) -> Value {
    let details = &lost.details[..lost.details.len().min(DETAILS)];
    json!({ "files": lost.files, "bytes": lost.bytes, "torn": lost.torn, "entries": lost.entries, "details": details })
}

fn named(number: u64) -> String {
    format!("n{number}")
}

/// The power of some nodes fails, all at the same moment.
pub struct PowerLost {
    whom: Whom,
    disks: Disks,
}

impl PowerLost {
    pub fn of(whom: kill::Whom) -> Self {
        Self { whom, disks: Disks::default() }
    }
}

impl Fault for PowerLost {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = self.whom.choose(scene, chance).await;
            scene.cluster.kill(&numbers);
            let mut lost = serde_json::Map::new();
            for number in numbers {
                // Now and then all that was not synced is gone, which no order of writing back can excuse.
                let how = if chance.random_range(0..3) == 0 { PowerLoss::Everything } else { PowerLoss::Anything };
                lost.insert(named(number), self.disks.lose_power(number, how, chance)?);
            }
            Ok(json!({ "nodes": whom, "lost": lost }))
        })
    }
}

/// All disks say that they have synced and have not; then the power of all fails. Nothing acknowledged meanwhile is left: a suite that
/// does not fail under this one does not look.
#[derive(Default)]
pub struct Lying {
    disks: Disks,
}

/// Syncs that each disk has lied about before the power fails.
const LIES: u64 = 20;

impl Fault for Lying {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            self.disks.0.values().for_each(|disk| disk.control().lying.store(1, Relaxed));
            let lied = || self.disks.0.values().map(|disk| disk.control().lied.load(Relaxed)).min().unwrap_or(0);
            let before = lied();
            let enough = until(STRIKES_WITHIN, || lied() >= before + LIES).await;
            let numbers = scene.cluster.numbers();
            scene.cluster.kill(&numbers);
            let mut lost = serde_json::Map::new();
            for number in numbers {
                lost.insert(named(number), self.disks.lose_power(number, PowerLoss::Everything, chance)?);
            }
            self.disks.reset();
            Ok(json!({ "lied_enough": enough, "lost": lost }))
        })
    }
}

/// One disk, or all, with little room left. A node that meets the end of it stops; it comes back when there is room again.
pub struct Full {
    whom: Whom,
    disks: Disks,
    full: Vec<u64>,
}

impl Full {
    pub fn of(whom: Whom) -> Self {
        Self { whom, disks: Disks::default(), full: Vec::new() }
    }
}

impl Fault for Full {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = self.whom.choose(scene, chance).await;
            let mut left = serde_json::Map::new();
            for number in &numbers {
                let bytes = chance.random_range(0..=64 * 1024);
                scene.cluster.node(*number).process.may_end();
                self.disks.of(*number)?.control().space.store(bytes, Relaxed);
                left.insert(named(*number), json!({ "bytes_left": bytes }));
            }
            self.full = numbers;
            Ok(json!({ "nodes": whom, "disks": left }))
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut told = serde_json::Map::new();
            for number in std::mem::take(&mut self.full) {
                let refused = self.disks.of(number)?.control().refused_for_space.swap(0, Relaxed);
                let stopped = !scene.cluster.node(number).process.is_running();
                told.insert(named(number), json!({ "refused": refused, "stopped": stopped }));
            }
            self.disks.reset();
            Ok(json!(told))
        })
    }
}

/// Disks on which each fsync and write takes its time.
pub struct Slow {
    whom: Whom,
    disks: Disks,
}

impl Slow {
    pub fn of(whom: Whom) -> Self {
        Self { whom, disks: Disks::default() }
    }
}

impl Fault for Slow {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = self.whom.choose(scene, chance).await;
            let (sync_ms, write_us) = (chance.random_range(20..=400), chance.random_range(0..=2_000));
            for number in numbers {
                let control = self.disks.of(number)?.control();
                control.slow_sync_us.store(sync_ms * 1_000, Relaxed);
                control.slow_write_us.store(write_us, Relaxed);
            }
            Ok(json!({ "nodes": whom, "sync_ms": sync_ms, "write_us": write_us }))
        })
    }

    fn heal<'a>(&'a mut self, _: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let slowed: BTreeMap<String, u64> = self
                .disks
                .0
                .iter()
                .map(|(number, disk)| (named(*number), disk.control().slowed.swap(0, Relaxed)))
                .collect();
            self.disks.reset();
            Ok(json!({ "calls_slowed": slowed }))
        })
    }
}

/// Which call of the log's files fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failing {
    Sync,
    Write,
}

/// A call of a node's log fails with `EIO`. The node must stop at once; then its power fails as well, because the kernel drops what it
/// could not write.
pub struct Fails {
    what: Failing,
    disks: Disks,
    struck: Vec<u64>,
}

impl Fails {
    pub fn of(what: Failing) -> Self {
        Self { what, disks: Disks::default(), struck: Vec::new() }
    }
}

impl Fault for Fails {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = Whom::One.choose(scene, chance).await;
            let number = numbers[0];
            let (process, control) = (&scene.cluster.node(number).process, self.disks.of(number)?.control());
            process.may_end();
            let nth = chance.random_range(1..=8);
            control.confine_to(&[Kind::Wal]);
            let (countdown, failures, calls) = match self.what {
                Failing::Sync => (&control.fail_sync_in, &control.failed_syncs, &control.syncs),
                Failing::Write => (&control.fail_write_in, &control.failed_writes, &control.writes),
            };
            let before = failures.load(Relaxed);
            countdown.store(nth, Relaxed);
            let struck = until(STRIKES_WITHIN, || failures.load(Relaxed) > before).await;
            if !struck {
                control.reset();
                return Ok(json!({ "node": whom, "struck": false }));
            }
            let calls_then = calls.load(Relaxed);
            let began = Instant::now();
            if !until(STOPS_WITHIN, || !process.is_running()).await {
                let more = calls.load(Relaxed) - calls_then;
                let what = format!("{:?}", self.what).to_lowercase();
                bail!(NotBack(format!(
                    "n{number} still runs {STOPS_WITHIN:?} after a {what} of its log failed with EIO, {more} calls later"
                )));
            }
            self.struck.push(number);
            Ok(json!({ "node": whom, "nth": nth, "stopped_within_ms": began.elapsed().as_millis() as u64 }))
        })
    }

    fn heal<'a>(&'a mut self, _: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            self.disks.reset();
            let mut lost = serde_json::Map::new();
            for number in std::mem::take(&mut self.struck) {
                lost.insert(named(number), self.disks.lose_power(number, PowerLoss::Everything, chance)?);
            }
            Ok(json!({ "lost": lost }))
        })
    }
}

/// Every so many writes of every node take only half of what they were given, as POSIX allows and disks seldom do.
#[derive(Default)]
pub struct Short {
    disks: Disks,
}

impl Fault for Short {
    fn prepare(&mut self, cluster: &Cluster) -> Result<()> {
        self.disks.prepare(cluster)
    }

    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut every = [1, 2, 3, 5];
            every.shuffle(chance);
            for number in scene.cluster.numbers() {
                self.disks.of(number)?.control().short_write_every.store(every[0], Relaxed);
            }
            Ok(json!({ "one_of": every[0] }))
        })
    }

    fn heal<'a>(&'a mut self, _: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let short: u64 = self.disks.0.values().map(|disk| disk.control().short_writes.swap(0, Relaxed)).sum();
            self.disks.reset();
            Ok(json!({ "short_writes": short }))
        })
    }
}

/// Waits until it is so, or `within` is over; whether it is so.
async fn until(within: Duration, so: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !so() {
        if begin.elapsed() > within {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}
