//! The machines of a seed: nodes, and one for workers and clients; what faults do to them, and how they are made whole again.
//!
//! Never: a fault that the plan does not name; a node started over a folder that another process of the seed still has open.
//!
//! Called by `seed`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::host::Host;
use crate::node::Seat;
use crate::os;
use crate::plan::{DiskFile, Fault, Plan};
use crate::world::{Latency, Machine, World};

/// A turn of every host. No segment may take less.
pub const TURN: Duration = Duration::from_millis(2);

pub struct Cluster {
    pub world: World,
    pub now: Duration,
    pub seats: Vec<Seat>,
    hosts: Vec<Host>,
    /// Who waits until when, doing nothing.
    paused: BTreeMap<Machine, Duration>,
    strobes: BTreeMap<Machine, (i64, bool)>,
    /// Faults that each direction of a link is cut by.
    cuts: BTreeMap<(Machine, Machine), u32>,
    /// Down, and not to be started by anybody but the fault that ended it.
    down: BTreeMap<Machine, u32>,
    /// Everything has been healed: whoever ends from now on is started again.
    healed: bool,
    ended: Vec<Machine>,
    /// Without a disk that can be trusted: they may refuse to start, and count no longer.
    pub lost: BTreeMap<Machine, String>,
    latency: Latency,
    rng: ChaCha8Rng,
}

impl Cluster {
    /// # Errors
    /// The nodes' folders cannot be made.
    pub fn new(plan: &Plan, folder: &Path) -> std::io::Result<Self> {
        let latency = Latency {
            base: Duration::from_micros(plan.network.base_us),
            jitter: Duration::from_micros(plan.network.jitter_us),
        };
        let world = World::new(plan.seed, plan.nodes + 1, latency);
        let seat = |machine| {
            Seat::new(machine, folder.join(format!("node-{}", machine + 1)), world.clone(), plan.keep, plan.seed)
        };
        Ok(Self {
            seats: (0..plan.nodes).map(seat).collect::<std::io::Result<_>>()?,
            hosts: (0..=plan.nodes).map(|_| Host::new()).collect(),
            world: world.clone(),
            now: Duration::ZERO,
            paused: BTreeMap::new(),
            strobes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            down: BTreeMap::new(),
            healed: false,
            ended: Vec::new(),
            lost: BTreeMap::new(),
            latency,
            rng: ChaCha8Rng::seed_from_u64(plan.seed.wrapping_mul(31)),
        })
    }

    /// The machine of workers and clients.
    pub fn clients(&self) -> Machine {
        self.seats.len()
    }

    pub fn host(&mut self, machine: Machine) -> &mut Host {
        &mut self.hosts[machine]
    }

    /// Starts a node's process.
    pub fn boot(&mut self, machine: Machine) -> anyhow::Result<()> {
        let process = self.seats[machine].process();
        self.world.power_on(machine);
        self.hosts[machine].boot(self.now, process)?;
        Ok(())
    }

    /// One turn of everybody.
    ///
    /// # Errors
    /// A process could not be started.
    pub fn step(&mut self) -> anyhow::Result<()> {
        os::set_outside(self.now);
        for machine in std::mem::take(&mut self.ended) {
            self.boot_unless_down(machine)?;
        }
        self.world.advance(self.now);
        let until = self.now + TURN;
        for (machine, host) in self.hosts.iter_mut().enumerate() {
            if self.paused.get(&machine).is_some_and(|paused| *paused > self.now) {
                continue;
            }
            self.paused.remove(&machine);
            os::set_machine(machine);
            host.turn(self.now, until);
        }
        os::set_machine(usize::MAX);
        self.now = until;
        for machine in 0..self.seats.len() {
            let over = {
                let fate = self.seats[machine].fate.lock();
                fate.stopped.is_some() || fate.refused.is_some() || fate.ended.is_some()
            };
            if over && self.hosts[machine].is_up() {
                self.kill(machine);
                // In the next turn: what became of it is looked at before.
                if self.healed && !self.lost.contains_key(&machine) {
                    self.ended.push(machine);
                }
            }
        }
        if self.now.as_millis().is_multiple_of(200) {
            for (machine, (by, ahead)) in &mut self.strobes {
                *ahead = !*ahead;
                self.hosts[*machine].skew_ns += if *ahead { *by } else { -*by };
            }
        }
        Ok(())
    }

    /// The process is gone at once; what it wrote is there.
    fn kill(&mut self, machine: Machine) {
        self.drop_process(machine);
        self.seats[machine].revive_disk();
    }

    fn drop_process(&mut self, machine: Machine) {
        self.paused.remove(&machine);
        self.world.process_ended(machine);
        self.seats[machine].cut_disk();
        os::set_machine(machine);
        self.hosts[machine].kill(self.now);
        os::set_machine(usize::MAX);
    }

    fn take_down(&mut self, machine: Machine) {
        *self.down.entry(machine).or_default() += 1;
        self.kill(machine);
    }

    /// Starts it if nothing else keeps it down.
    fn bring_up(&mut self, machine: Machine) -> anyhow::Result<()> {
        let down = self.down.entry(machine).or_default();
        *down = down.saturating_sub(1);
        if *down == 0 && !self.hosts[machine].is_up() { self.boot(machine) } else { Ok(()) }
    }

    fn cut(&mut self, from: Machine, to: Machine) {
        *self.cuts.entry((from, to)).or_default() += 1;
        self.world.cut(from, to);
    }

    fn mend(&mut self, from: Machine, to: Machine) {
        let cuts = self.cuts.entry((from, to)).or_default();
        *cuts = cuts.saturating_sub(1);
        if *cuts == 0 {
            self.world.mend(from, to);
        }
    }

    fn set_latency_of(&mut self, node: Machine, latency: Latency) {
        for other in (0..self.hosts.len()).filter(|other| *other != node) {
            self.world.set_latency(node, other, latency);
            self.world.set_latency(other, node, latency);
        }
    }

    pub fn begin(&mut self, fault: &Fault, lasts: Duration) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { nodes } => nodes.iter().for_each(|node| self.take_down(*node)),
            Fault::PowerLoss { nodes } => {
                for node in nodes {
                    self.world.power_off(*node);
                    *self.down.entry(*node).or_default() += 1;
                    self.drop_process(*node);
                    let lost = self.seats[*node].lose_unsynced()?;
                    tracing::info!(node, lost, "no power");
                }
            }
            Fault::Restart { node } => {
                self.seats[*node].end();
            }
            Fault::Pause { node } => {
                self.paused.insert(*node, self.now + lasts);
            }
            Fault::Partition { cut, .. } => cut.iter().for_each(|(from, to)| self.cut(*from, *to)),
            Fault::Slow { node, by_ms } => {
                let Latency { base, jitter } = self.latency;
                let base = base + Duration::from_millis(*by_ms);
                self.set_latency_of(*node, Latency { base, jitter });
            }
            Fault::SlowDisk { node, sync_ms } => self.seats[*node].disk.lock().sync = Duration::from_millis(*sync_ms),
            Fault::DiskError { node, write } => self.seats[*node].break_disk(*write),
            Fault::FlipBit { node, file } => {
                self.take_down(*node);
                if let Some(flipped) = self.flip_bit(*node, *file)? {
                    self.lost.insert(*node, flipped);
                }
            }
            Fault::Wipe { node } => {
                self.take_down(*node);
                self.seats[*node].wipe()?;
                self.lost.insert(*node, "its folder was removed".into());
            }
            Fault::ClockJump { node, by_ms } => self.hosts[*node].skew_ns += by_ms * 1_000_000,
            Fault::ClockStrobe { node, by_ms } => {
                self.strobes.insert(*node, (by_ms * 1_000_000, false));
            }
            Fault::ClockDrift { node, ppm } => self.drift(*node, *ppm),
            Fault::Transfer { node } => {
                if let Some(replica) = self.seats[*node].node().and_then(|node| node.replica().cloned()) {
                    self.hosts[*node].spawn(async move {
                        replica.hand_over().await;
                    });
                }
            }
            Fault::Checkpoint { node } => {
                if let Some(replica) = self.seats[*node].node().and_then(|node| node.replica().cloned()) {
                    self.hosts[*node].spawn(async move {
                        // A checkpoint that fails is the store's to report.
                        let _ = replica.checkpoint().await;
                    });
                }
            }
        }
        Ok(())
    }

    pub fn end(&mut self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Kill { nodes } | Fault::PowerLoss { nodes } => {
                for node in nodes {
                    self.bring_up(*node)?;
                }
            }
            Fault::FlipBit { node, .. } | Fault::Wipe { node } => self.bring_up(*node)?,
            Fault::DiskError { node, .. } => {
                self.seats[*node].mend_disk();
                self.boot_unless_down(*node)?;
            }
            // One that has not ended by then will be started when all is healed.
            Fault::Restart { node } => self.boot_unless_down(*node)?,
            Fault::Partition { cut, .. } => cut.iter().for_each(|(from, to)| self.mend(*from, *to)),
            Fault::Slow { node, .. } => self.set_latency_of(*node, self.latency),
            Fault::SlowDisk { node, .. } => self.seats[*node].disk.lock().sync = Duration::ZERO,
            Fault::ClockJump { node, by_ms } => self.hosts[*node].skew_ns -= by_ms * 1_000_000,
            Fault::ClockStrobe { node, .. } => {
                if let Some((by, true)) = self.strobes.remove(node) {
                    self.hosts[*node].skew_ns -= by;
                }
            }
            Fault::ClockDrift { node, .. } => self.drift(*node, 0),
            Fault::Pause { .. } | Fault::Transfer { .. } | Fault::Checkpoint { .. } => {}
        }
        Ok(())
    }

    /// Its process may have stopped, as it must; nothing else started it since.
    fn boot_unless_down(&mut self, node: Machine) -> anyhow::Result<()> {
        if self.hosts[node].is_up() || self.down.get(&node).is_some_and(|down| *down > 0) {
            return Ok(());
        }
        self.boot(node)
    }

    /// Changes how fast the wall clock goes from now on; what it has gone wrong so far stays.
    fn drift(&mut self, node: Machine, ppm: i64) {
        let host = &mut self.hosts[node];
        let us = i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX);
        host.skew_ns += us.saturating_mul(host.drift_ppm - ppm) / 1000;
        host.drift_ppm = ppm;
    }

    /// Ends everything that still goes wrong, and starts who is down.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        self.healed = true;
        self.paused.clear();
        for ((from, to), _) in std::mem::take(&mut self.cuts) {
            self.world.mend(from, to);
        }
        self.down.clear();
        for node in 0..self.seats.len() {
            self.set_latency_of(node, self.latency);
            self.seats[node].mend_disk();
            self.drift(node, 0);
            self.boot_unless_down(node)?;
        }
        Ok(())
    }

    /// What was flipped, if there was such a file.
    fn flip_bit(&mut self, node: Machine, file: DiskFile) -> anyhow::Result<Option<String>> {
        let (part, ending) = match file {
            DiskFile::Wal => ("log", ".log"),
            DiskFile::LogTable => ("log", ".sst"),
            DiskFile::StateTable => ("state", ".sst"),
            DiskFile::Manifest => ("state", "MANIFEST"),
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.seats[node].folder.join(part))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if (name.ends_with(ending) || name.starts_with(ending)) && entry.metadata()?.len() > 0 {
                found.push(entry.path());
            }
        }
        found.sort();
        let Some(path) = found.pop() else { return Ok(None) };
        let mut bytes = std::fs::read(&path)?;
        // The tail of a log file may be nothing but zeroes that were set aside.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used == 0 {
            return Ok(None);
        }
        let bit = self.rng.random_range(0..used * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Some(format!("bit {bit} of {part}/{name} was flipped")))
    }
}
