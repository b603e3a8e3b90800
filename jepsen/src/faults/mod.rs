//! Everything that is done to a cluster, by name. A fault begins, lasts, and is healed; the nemesis decides when, from the seed.
//!
//! Healing ends with a cluster whose nodes all run and whose links all pass: [`nemesis`] sees to that for every fault, so that one which
//! only kills has nothing to heal. Never judges. Registered in [`ALL`]; called by `cell`.

pub mod clock;
pub mod disk;
pub mod disturb;
pub mod files;
pub mod kill;
pub mod nemesis;
pub mod partition;
pub mod pause;
pub mod rolling;
pub mod small_disk;
pub mod snapshot;
pub mod workers;

use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::network::Link;
use crate::scene::Scene;

/// One way of doing harm. May remember between `begin` and `heal` what it did.
pub trait Fault: Send {
    /// Before the first start of the nodes: what they need in their environment or folders.
    fn prepare(&mut self, _cluster: &Cluster) -> Result<()> {
        Ok(())
    }

    /// Does the harm; what was done, for the journal.
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>>;

    /// Undoes what the nemesis does not undo itself (it heals links, wakes nodes that stand still, and starts nodes that do not run).
    fn heal<'a>(&'a mut self, _scene: &'a Scene, _chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async { Ok(json!({})) })
    }
}

/// A fault by its name.
pub struct Kind {
    pub name: &'static str,
    pub what: &'static str,
    /// How long it lasts, in milliseconds: from, to.
    pub lasts_ms: (u64, u64),
    pub make: fn() -> Box<dyn Fault>,
    /// Whether it is workers that it hits.
    pub workers: bool,
    /// Whether a good cluster cannot survive it: for the run that must fail.
    pub must_fail: bool,
    /// Links that must carry traffic for this fault to mean anything.
    pub needs: fn(&Cluster) -> Vec<Link>,
    /// Bounds of the nodes without which it could not strike; those that were asked for come before them.
    pub limits: &'static [(&'static str, u64)],
    /// What this machine lacks for it, if anything: a cell that cannot be done is told apart from one that failed.
    pub lacks: fn(&Cluster) -> Option<String>,
}

pub const fn kind(name: &'static str, what: &'static str, lasts_ms: (u64, u64), make: fn() -> Box<dyn Fault>) -> Kind {
    Kind {
        name,
        what,
        lasts_ms,
        make,
        workers: false,
        must_fail: false,
        needs: |_| Vec::new(),
        limits: &[],
        lacks: |_| None,
    }
}

const fn of_workers(mut this: Kind) -> Kind {
    this.workers = true;
    this
}

const fn must_fail(mut this: Kind) -> Kind {
    this.must_fail = true;
    this
}

const fn on_links(mut this: Kind, needs: fn(&Cluster) -> Vec<Link>) -> Kind {
    this.needs = needs;
    this
}

const fn lacking(mut this: Kind, lacks: fn(&Cluster) -> Option<String>) -> Kind {
    this.lacks = lacks;
    this
}

const fn with_limits(mut this: Kind, limits: &'static [(&'static str, u64)]) -> Kind {
    this.limits = limits;
    this
}

/// A fault of disks: nodes run with a library between them and their files.
const fn on_disk(name: &'static str, what: &'static str, lasts_ms: (u64, u64), make: fn() -> Box<dyn Fault>) -> Kind {
    lacking(kind(name, what, lasts_ms, make), disk::lacks)
}

/// A fault of clocks: nodes run under libfaketime.
const fn on_clock(name: &'static str, what: &'static str, lasts_ms: (u64, u64), make: fn() -> Box<dyn Fault>) -> Kind {
    lacking(kind(name, what, lasts_ms, make), clock::lacks)
}

fn peers(cluster: &Cluster) -> Vec<Link> {
    cluster.network.peer_links()
}

/// The fault that is none: the control run.
pub const NONE: &str = "none";

pub const ALL: &[Kind] = &[
    kind(NONE, "no fault at all: the control run", (0, 0), || Box::new(Nothing)),
    kind("kill-one", "kill -9 of one node", (500, 3_000), || Box::new(kill::Kill(kill::Whom::One))),
    kind("kill-leader", "kill -9 of the node that leads most groups", (500, 3_000), || {
        Box::new(kill::Kill(kill::Whom::Leader))
    }),
    kind("kill-majority", "kill -9 of a majority at once", (500, 3_000), || Box::new(kill::Kill(kill::Whom::Majority))),
    kind("kill-all", "kill -9 of all nodes at once", (300, 1_500), || Box::new(kill::Kill(kill::Whom::All))),
    kind("pause-short", "SIGSTOP of one node, shorter than a lease", (100, 350), || {
        Box::new(pause::Pause(kill::Whom::One))
    }),
    kind("pause-one", "SIGSTOP of one node, longer than a lease", (1_500, 7_000), || {
        Box::new(pause::Pause(kill::Whom::One))
    }),
    kind("pause-leader", "SIGSTOP of the node that leads most groups, longer than a lease", (1_500, 7_000), || {
        Box::new(pause::Pause(kill::Whom::Leader))
    }),
    kind("pause-majority", "SIGSTOP of a majority, longer than a lease", (1_500, 5_000), || {
        Box::new(pause::Pause(kill::Whom::Majority))
    }),
    on_links(
        kind("isolate-one", "one node cut off from all others", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::IsolateOne))
        }),
        peers,
    ),
    on_links(
        kind("isolate-leader", "the node that leads most groups cut off from all others", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::IsolateLeader))
        }),
        peers,
    ),
    on_links(
        kind("ring", "each node hears a majority, no two the same", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::Ring))
        }),
        peers,
    ),
    on_links(
        kind("one-way", "one node is heard but does not hear, or the other way round", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::OneWay))
        }),
        peers,
    ),
    on_links(
        kind("bridge", "two halves that only one node reaches both of", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::Bridge))
        }),
        peers,
    ),
    on_links(
        kind("partial", "some directed links between nodes cut, by chance", (2_000, 7_000), || {
            Box::new(partition::Partition(partition::Shape::Partial))
        }),
        peers,
    ),
    on_links(
        kind("cut-clients", "clients cut off from one node or from all", (1_000, 5_000), || {
            Box::new(partition::Cut(partition::Side::Clients))
        }),
        |cluster| cluster.network.client_links(),
    ),
    of_workers(on_links(
        kind("cut-workers", "workers cut off from one node or from all", (1_000, 7_000), || {
            Box::new(partition::Cut(partition::Side::Workers))
        }),
        |cluster| cluster.network.worker_links(),
    )),
    on_links(
        kind("latency", "20 to 150 ms and as much jitter between nodes", (3_000, 8_000), || {
            Box::new(disturb::Disturb(disturb::How::Latency))
        }),
        peers,
    ),
    on_links(
        kind("throttle", "64 to 256 KiB/s between nodes", (3_000, 8_000), || {
            Box::new(disturb::Disturb(disturb::How::Throttle))
        }),
        peers,
    ),
    on_links(
        kind("resets", "connections between nodes, and of clients, break again and again", (3_000, 8_000), || {
            Box::new(disturb::Disturb(disturb::How::Resets))
        }),
        peers,
    ),
    of_workers(kind("kill-workers", "kill -9 of one worker process, or of all", (500, 4_000), || {
        Box::new(workers::KillWorkers { all: false })
    })),
    kind("rolling", "SIGTERM and restart of each node in turn", (0, 100), || Box::new(rolling::Rolling)),
    kind("hand-over", "SIGTERM of the node that leads most groups: it hands its leadership over", (500, 2_000), || {
        Box::new(rolling::HandOver)
    }),
    on_disk(
        "power-one",
        "power loss of one node: what it had not synced may be gone, old or torn",
        (300, 2_000),
        || Box::new(disk::PowerLost::of(kill::Whom::One)),
    ),
    on_disk("power-leader", "power loss of the node that leads most groups", (300, 2_000), || {
        Box::new(disk::PowerLost::of(kill::Whom::Leader))
    }),
    on_disk("power-majority", "power loss of a majority at once", (300, 2_000), || {
        Box::new(disk::PowerLost::of(kill::Whom::Majority))
    }),
    on_disk("power-all", "power loss of all nodes at once", (300, 1_000), || {
        Box::new(disk::PowerLost::of(kill::Whom::All))
    }),
    must_fail(on_disk(
        "power-loss-lying",
        "all disks say that they have synced and have not, then lose power: a suite that looks fails",
        (300, 1_000),
        || Box::new(disk::Lying::default()),
    )),
    on_disk("disk-full", "one node's disk has 0 to 64 KiB left", (3_000, 7_000), || {
        Box::new(disk::Full::of(kill::Whom::One))
    }),
    on_disk("disk-full-majority", "the disks of a majority have 0 to 64 KiB left", (3_000, 7_000), || {
        Box::new(disk::Full::of(kill::Whom::Majority))
    }),
    lacking(
        kind("small-disk-full", "one node's own small file system has 0 to 64 KiB left", (4_000, 9_000), || {
            Box::new(small_disk::Full::of(kill::Whom::One))
        }),
        small_disk::lacks,
    ),
    lacking(
        kind("small-disks-full", "the small file systems of a majority have 0 to 64 KiB left", (4_000, 9_000), || {
            Box::new(small_disk::Full::of(kill::Whom::Majority))
        }),
        small_disk::lacks,
    ),
    on_disk("slow-disk", "one node's fsyncs take 20 to 400 ms longer", (3_000, 8_000), || {
        Box::new(disk::Slow::of(kill::Whom::One))
    }),
    on_disk("slow-disks", "all nodes' fsyncs take 20 to 400 ms longer", (3_000, 8_000), || {
        Box::new(disk::Slow::of(kill::Whom::All))
    }),
    on_disk(
        "fsync-fails",
        "an fsync of one node's log fails with EIO: it stops at once, and what it had not synced is gone",
        (500, 2_000),
        || Box::new(disk::Fails::of(disk::Failing::Sync)),
    ),
    on_disk("write-fails", "a write of one node's log fails with EIO: it stops at once", (500, 2_000), || {
        Box::new(disk::Fails::of(disk::Failing::Write))
    }),
    on_disk(
        "short-writes",
        "every write, or one of a few, takes only half of what it is given",
        (2_000, 6_000),
        || Box::new(disk::Short::default()),
    ),
    kind("flip-bit", "a bit of one node's files is flipped while it is down", (2_000, 5_000), || {
        Box::new(files::FlipBit::default())
    }),
    with_limits(
        on_links(
            kind(
                "snapshot-damaged",
                "one node is away until it needs snapshots, and bits of them are flipped on their way",
                (1_000, 3_000),
                || Box::new(snapshot::Damaged::default()),
            ),
            peers,
        ),
        snapshot::LIMITS,
    ),
    on_clock("clock-jump", "one node's wall clock jumps by up to an hour", (1_000, 6_000), || {
        Box::new(clock::Clock::of(clock::How::Jump, kill::Whom::One))
    }),
    on_clock(
        "clock-jump-leader",
        "the wall clock of the node that leads most groups jumps by up to an hour",
        (1_000, 6_000),
        || Box::new(clock::Clock::of(clock::How::Jump, kill::Whom::Leader)),
    ),
    on_clock(
        "clock-strobe",
        "one node's wall clock swings by up to five minutes, five times a second",
        (2_000, 6_000),
        || Box::new(clock::Clock::of(clock::How::Strobe, kill::Whom::One)),
    ),
    on_clock("clock-drift", "a majority's wall clocks run a fifth too fast", (3_000, 8_000), || {
        Box::new(clock::Clock::of(clock::How::Drift, kill::Whom::Majority))
    }),
    on_clock(
        "clock-kill-leader",
        "all wall clocks are off, each by up to an hour of its own, and the node that leads most groups is killed",
        (1_000, 5_000),
        || Box::new(clock::Apart::new()),
    ),
    kind("mix", "each time another one of kills, pauses, partitions and disturbances", (500, 5_000), || {
        Box::new(Mix::default())
    }),
];

pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}

struct Nothing;

impl Fault for Nothing {
    fn begin<'a>(&'a mut self, _: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async { Ok(json!({})) })
    }
}

/// See its line in [`ALL`].
#[derive(Default)]
struct Mix {
    current: Option<Box<dyn Fault>>,
}

const MIXED: [&str; 12] = [
    "kill-one",
    "kill-leader",
    "kill-majority",
    "pause-one",
    "pause-leader",
    "isolate-one",
    "isolate-leader",
    "ring",
    "one-way",
    "partial",
    "latency",
    "resets",
];

impl Fault for Mix {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut names = MIXED;
            names.shuffle(chance);
            let Some(kind) = find(names[0]) else { return Ok(json!({})) };
            let mut fault = (kind.make)();
            let done = fault.begin(scene, chance).await?;
            self.current = Some(fault);
            Ok(json!({ "fault": kind.name, "done": done }))
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            match self.current.take() {
                Some(mut fault) => fault.heal(scene, chance).await,
                None => Ok(json!({})),
            }
        })
    }
}

/// Time between two faults, in milliseconds: from, to.
pub const PEACE_MS: (u64, u64) = (1_500, 4_000);

pub(crate) fn between(chance: &mut ChaCha8Rng, (from, to): (u64, u64)) -> Duration {
    use rand::Rng as _;
    Duration::from_millis(if to > from { chance.random_range(from..=to) } else { from })
}
