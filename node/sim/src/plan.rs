//! What a seed means: the cluster, its timings, its load, and the faults with their times. A plan is data, so that it can be printed,
//! kept, and made smaller.
//!
//! Called by `main` and `shrink`; carried out by `seed` and `faults`.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Everything that is decided before a run. Times are in milliseconds of simulated time since the cluster was ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// Besides the meta group.
    pub groups: u32,
    /// Faults come and go within this.
    pub faulty_ms: u64,
    /// Everything must have finished so long after the last fault is healed.
    pub finish_within_ms: u64,
    pub programs: u32,
    pub network: Network,
    pub keep: Keep,
    pub faults: Vec<Timed>,
}

/// How long a segment takes at least, and how much longer it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub base_us: u64,
    pub jitter_us: u64,
}

/// How soon state is flushed and the log let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    pub checkpoint_ms: u64,
    pub log_bytes: u64,
    pub log_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    pub at_ms: u64,
    /// How long it lasts; of no meaning for what only happens once.
    pub for_ms: u64,
    pub fault: Fault,
}

/// Nodes are counted from 0; the machine with the workers and clients is numbered after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The processes end at once, and start again later.
    Kill { nodes: Vec<usize> },
    /// As a kill, but the machines say nothing, and what was not synced is gone.
    PowerLoss { nodes: Vec<usize> },
    /// The process ends in order, and starts again after the time.
    Restart { node: usize },
    /// The process does nothing for a while, and does not know it.
    Pause { node: usize },
    /// What the first machine of a pair sends the second does not arrive.
    Partition { shape: String, cut: Vec<(usize, usize)> },
    /// Everything to and from the node takes so much longer.
    Slow { node: usize, by_ms: u64 },
    /// Each sync of the node's log takes so long.
    SlowDisk { node: usize, sync_ms: u64 },
    /// The next write of the kind fails; the node must stop. It starts again, its disk being well, after the time.
    DiskError { node: usize, write: DiskWrite },
    /// A bit of a file is flipped while the node is down. It must refuse to start, or be none the worse.
    FlipBit { node: usize, file: DiskFile },
    /// The data folder is lost while the node is down. Under its old number its peers must refuse it.
    Wipe { node: usize },
    /// The wall clock jumps by this much, and back at the end.
    ClockJump { node: usize, by_ms: i64 },
    /// It jumps back and forth all the time.
    ClockStrobe { node: usize, by_ms: i64 },
    /// It runs fast or slow.
    ClockDrift { node: usize, ppm: i64 },
    /// Leaders move away from the node.
    Transfer { node: usize },
    /// The node flushes its state now.
    Checkpoint { node: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskWrite {
    /// The next batch of the log.
    Log,
    /// The next batch of applied rows.
    State,
    /// The next flush.
    Checkpoint,
    /// The next write to any file.
    AnyWrite,
    /// The next sync of any file.
    AnySync,
    /// There is hardly any room left.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFile {
    Wal,
    LogTable,
    StateTable,
    Manifest,
}

impl Plan {
    /// What a seed means.
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes = if rng.random_bool(0.1) { 5 } else { 3 };
        let faulty_ms = rng.random_range(6_000..12_000);
        let jitter_us = *[2_000, 2_000, 10_000, 40_000].choose(&mut rng).unwrap_or(&2_000);
        let mut plan = Self {
            seed,
            nodes,
            // Between two of them messages travel.
            groups: *[1, 2, 2].choose(&mut rng).unwrap_or(&2),
            faulty_ms,
            finish_within_ms: 60_000,
            programs: rng.random_range(6..=14),
            network: Network { base_us: 1_000, jitter_us },
            keep: Keep {
                checkpoint_ms: *[500, 1_000, 5_000].choose(&mut rng).unwrap_or(&5_000),
                log_bytes: *[4 * 1024, 32 * 1024, 64 * 1024 * 1024].choose(&mut rng).unwrap_or(&(64 << 20)),
                log_seconds: *[1, 4, 600].choose(&mut rng).unwrap_or(&600),
            },
            faults: Vec::new(),
        };
        // One in twenty runs without any: the control.
        if !rng.random_bool(0.05) {
            let count = rng.random_range(2..=7);
            for _ in 0..count {
                let fault = draw(&mut rng, nodes);
                let at_ms = rng.random_range(0..faulty_ms * 9 / 10);
                // Some are over in a blink, some outlast leases and elections.
                let for_ms =
                    if rng.random_bool(0.4) { rng.random_range(10..600) } else { rng.random_range(600..6_000) };
                plan.faults.push(Timed { at_ms, for_ms, fault });
                plan.keep_a_majority_sound();
            }
            plan.faults.sort_by_key(|timed| timed.at_ms);
        }
        plan
    }
}

impl Plan {
    /// At most one node may lose its disk for good: there are no other copies than the nodes'.
    fn keep_a_majority_sound(&mut self) {
        let loses = |timed: &Timed| matches!(timed.fault, Fault::FlipBit { .. } | Fault::Wipe { .. });
        if self.faults.iter().filter(|timed| loses(timed)).count() > 1 {
            self.faults.pop();
        }
    }
}

fn draw(rng: &mut ChaCha8Rng, nodes: usize) -> Fault {
    let node = rng.random_range(0..nodes);
    match rng.random_range(0..100) {
        0..20 => Fault::Kill { nodes: some(rng, nodes) },
        20..28 => Fault::PowerLoss { nodes: some(rng, nodes) },
        28..32 => Fault::Restart { node },
        32..42 => Fault::Pause { node },
        42..66 => partition(rng, nodes),
        66..71 => Fault::Slow { node, by_ms: rng.random_range(20..800) },
        71..76 => Fault::SlowDisk { node, sync_ms: rng.random_range(20..2_000) },
        76..79 => {
            use DiskWrite::{AnySync, AnyWrite, Checkpoint, Full, Log, State};
            let write = *[Log, State, Checkpoint, AnyWrite, AnySync, Full].choose(rng).unwrap_or(&Log);
            Fault::DiskError { node, write }
        }
        79..81 => {
            let files = [DiskFile::Wal, DiskFile::LogTable, DiskFile::StateTable, DiskFile::Manifest];
            Fault::FlipBit { node, file: *files.choose(rng).unwrap_or(&DiskFile::Wal) }
        }
        81..82 => Fault::Wipe { node },
        82..86 => Fault::ClockJump { node, by_ms: sign(rng) * rng.random_range(100..3_600_000) },
        86..88 => Fault::ClockStrobe { node, by_ms: sign(rng) * rng.random_range(50..5_000) },
        88..91 => Fault::ClockDrift { node, ppm: sign(rng) * rng.random_range(100..200_000) },
        91..96 => Fault::Transfer { node },
        _ => Fault::Checkpoint { node },
    }
}

fn sign(rng: &mut ChaCha8Rng) -> i64 {
    if rng.random_bool(0.5) { 1 } else { -1 }
}

/// One node mostly, sometimes a majority, sometimes all.
fn some(rng: &mut ChaCha8Rng, nodes: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    all.shuffle(rng);
    let count = match rng.random_range(0..10) {
        0..6 => 1,
        6..8 => nodes / 2 + 1,
        _ => nodes,
    };
    all.truncate(count);
    all.sort_unstable();
    all
}

fn partition(rng: &mut ChaCha8Rng, nodes: usize) -> Fault {
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(rng);
    let one = order[0];
    let both = |a: usize, b: usize| [(a, b), (b, a)];
    let others = || order[1..].iter().copied();
    let (shape, cut): (&str, Vec<(usize, usize)>) = match rng.random_range(0..10) {
        // Clients reach it still: it may lead, and not know that others do.
        0..4 => ("one node from the others", others().flat_map(|other| both(one, other)).collect()),
        4 => ("one node from everybody", (0..=nodes).filter(|m| *m != one).flat_map(|m| both(one, m)).collect()),
        5 => ("one node is not heard", others().map(|other| (one, other)).collect()),
        6 => ("one node does not hear", others().map(|other| (other, one)).collect()),
        7 => ("one link", both(one, order[1]).into()),
        8 => {
            // Two halves that meet in one node only: with three nodes, a link less.
            let half = (nodes - 1) / 2;
            let (left, right) = order[1..].split_at(half);
            ("bridge", left.iter().flat_map(|a| right.iter().flat_map(move |b| both(*a, *b))).collect())
        }
        _ => (
            "workers and clients from some nodes",
            order[..nodes / 2 + 1].iter().flat_map(|n| both(*n, nodes)).collect(),
        ),
    };
    Fault::Partition { shape: shape.to_owned(), cut }
}
