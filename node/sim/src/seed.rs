//! One seed, from the first boot to the verdict.
//!
//! ```text
//! boot, create the cluster -> load and faults -> heal -> everything finishes -> replicas compared, histories judged
//! ```
//!
//! Two things are asked. Under faults: nothing that a client was told is untrue afterwards. After healing: everything that was begun
//! ends within a bound of simulated time, and all replicas hold the same.
//!
//! Never: real time, or a choice that the seed does not make. Called by `main`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::load::Load;
use crate::plan::{Fault, Plan};
use crate::{os, state};

/// A cluster without faults is up long before.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Replicas catch up within this, once nothing is written any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Names a folder for what clients and workers saw, and for every history.
const KEEP: &str = "STANCHION_SIM_KEEP";

/// What a run showed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub seed: u64,
    /// What must not be, in the words of whoever saw it.
    pub violations: Vec<String>,
    /// Over everything observable: equal for two runs of a seed.
    pub trace: String,
    pub simulated_ms: u64,
    pub segments: u64,
    pub faults: usize,
    /// Counts of what was looked at.
    pub looked_at: BTreeMap<String, u64>,
}

/// Panics of nodes, clients or threads of theirs.
pub type Panics = Arc<Mutex<Vec<String>>>;

/// Runs a plan in a folder that is there and empty. The calling thread must be a simulation's ([`os::simulate`]).
///
/// # Errors
/// The harness itself failed.
pub fn run(plan: &Plan, folder: &Path, panics: &Panics) -> anyhow::Result<Outcome> {
    let mut run = Run {
        cluster: Cluster::new(plan, folder)?,
        plan,
        load: Load::new(plan),
        panics,
        violations: Vec::new(),
        disks: BTreeMap::new(),
        faults: 0,
        looked_at: BTreeMap::new(),
        trace: blake3::Hasher::new(),
        failed: None,
    };
    run.everything()?;
    if let Some(kept) = std::env::var_os(KEEP) {
        run.load.keep(Path::new(&kept))?;
    }
    if let Some(why) = run.failed {
        anyhow::bail!("{why}");
    }
    let segments = run.cluster.world.segments();
    let simulated_ms = run.cluster.now.as_millis() as u64;
    let violations = std::mem::take(&mut run.violations);
    for part in &violations {
        run.trace.update(part.as_bytes());
    }
    run.trace.update(run.cluster.world.digest().as_bytes());
    Ok(Outcome {
        seed: plan.seed,
        violations,
        trace: run.trace.finalize().to_hex().to_string(),
        simulated_ms,
        segments,
        faults: run.faults,
        looked_at: run.looked_at,
    })
}

struct Run<'r> {
    cluster: Cluster,
    plan: &'r Plan,
    load: Load,
    panics: &'r Panics,
    violations: Vec<String>,
    /// Nodes whose disk fails now, or has failed: they may stop by themselves, and may not start while it lasts.
    disks: BTreeMap<usize, Failing>,
    faults: usize,
    looked_at: BTreeMap<String, u64>,
    trace: blake3::Hasher,
    /// Why nothing can be said, if the harness could not do its work.
    failed: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Failing {
    Now,
    Before,
}

/// What happens at a time.
enum Moment<'p> {
    Begin(&'p Fault, Duration),
    End(&'p Fault),
}

impl Run<'_> {
    fn everything(&mut self) -> anyhow::Result<()> {
        for node in 0..self.plan.nodes {
            self.cluster.boot(node)?;
        }
        let clients = self.cluster.clients();
        let now = self.cluster.now;
        let play = self.load.play(self.cluster.world.clone(), clients);
        self.cluster.host(clients).boot(now, play)?;
        if !self.until(READY_WITHIN, |run| run.load.has_cluster() && run.all_ready().is_ok())? {
            let why = self.all_ready().err().unwrap_or_else(|| "its creator has not heard".into());
            self.violations.push(format!("L5: no cluster after {READY_WITHIN:?} without a fault: {why}"));
            return Ok(());
        }
        self.cluster.world.restart_digest();
        self.load.begin();
        self.faulty_phase()?;
        self.load.finish();
        self.disks.values_mut().for_each(|disk| *disk = Failing::Before);
        self.cluster.heal().context("healing")?;
        tracing::info!("healed");
        if self.violations.is_empty() {
            self.finishing_phase()?;
        }
        Ok(())
    }

    fn faulty_phase(&mut self) -> anyhow::Result<()> {
        let start = self.cluster.now;
        let ms = Duration::from_millis;
        let mut moments: BTreeMap<(Duration, usize), Moment<'_>> = BTreeMap::new();
        for (at, timed) in self.plan.faults.iter().enumerate() {
            let (begin, lasts) = (start + ms(timed.at_ms), ms(timed.for_ms));
            moments.insert((begin, at), Moment::Begin(&timed.fault, lasts));
            moments.insert((begin + lasts, at), Moment::End(&timed.fault));
        }
        let end = start + ms(self.plan.faulty_ms);
        while self.cluster.now < end && self.violations.is_empty() {
            while let Some(next) = moments.first_entry().filter(|next| next.key().0 <= self.cluster.now) {
                let moment = next.remove();
                self.act(&moment)?;
            }
            self.step()?;
        }
        Ok(())
    }

    fn act(&mut self, moment: &Moment<'_>) -> anyhow::Result<()> {
        match moment {
            Moment::Begin(fault, lasts) => {
                tracing::info!(?fault, ?lasts, "fault");
                self.faults += 1;
                if let Fault::DiskError { node, .. } = fault {
                    self.disks.insert(*node, Failing::Now);
                }
                self.load.note_fault("begin", fault);
                self.cluster.begin(fault, *lasts).with_context(|| format!("{fault:?}"))
            }
            Moment::End(fault) => {
                tracing::info!(?fault, "fault ends");
                if let Fault::DiskError { node, .. } = fault {
                    self.disks.insert(*node, Failing::Before);
                }
                self.load.note_fault("end", fault);
                self.cluster.end(fault).with_context(|| format!("end of {fault:?}"))
            }
        }
    }

    fn finishing_phase(&mut self) -> anyhow::Result<()> {
        // The clients give up by themselves; a little more is for reading histories.
        let within = Duration::from_millis(self.plan.finish_within_ms) + SETTLED_WITHIN;
        self.until(within, |run| run.load.is_over())?;
        if !self.violations.is_empty() {
            return Ok(());
        }
        if let Some(why) = self.load.unfinished() {
            let ready = self.all_ready().err().unwrap_or_else(|| "all nodes are ready".into());
            self.violations.push(format!("C4: not everything finished after healing: {why}; {ready}"));
            return Ok(());
        }
        if !self.until(SETTLED_WITHIN, |run| run.all_ready().is_ok() && run.settled().is_ok())? {
            let why = self.all_ready().and(self.settled()).err().unwrap_or_default();
            self.violations.push(format!("B2: replicas do not settle within {SETTLED_WITHIN:?}: {why}"));
            return Ok(());
        }
        self.compare()?;
        let verdict = self.load.judge();
        self.trace.update(&verdict.trace);
        self.violations.extend(verdict.violations);
        self.failed = verdict.failed;
        self.looked_at.extend(verdict.looked_at);
        Ok(())
    }

    /// Steps until a condition holds; false if it does not in time, or something was violated meanwhile.
    fn until(&mut self, within: Duration, holds: impl Fn(&Self) -> bool) -> anyhow::Result<bool> {
        let end = self.cluster.now + within;
        // Looking costs more than a turn of an idle host.
        let mut look = self.cluster.now;
        while self.cluster.now < end && self.violations.is_empty() {
            self.step()?;
            if self.cluster.now >= look {
                if holds(self) {
                    return Ok(true);
                }
                look = self.cluster.now + Duration::from_millis(20);
            }
        }
        Ok(!self.violations.is_empty() || holds(self))
    }

    fn step(&mut self) -> anyhow::Result<()> {
        self.cluster.step()?;
        for panic in self.panics.lock().drain(..) {
            self.violations.push(format!("a panic: {panic}"));
        }
        for (machine, seat) in self.cluster.seats.iter().enumerate() {
            let mut fate = seat.fate.lock();
            let (stopped, refused) = (fate.stopped.take(), fate.refused.take());
            if stopped.is_some() || refused.is_some() {
                // Noted once; what is down stays so.
                fate.ended.get_or_insert_with(|| "stopped".into());
            }
            drop(fate);
            // A disk that failed may stop a node, but must not keep it from starting again once it is well.
            let may_stop = match self.disks.get(&machine) {
                Some(Failing::Now) => true,
                Some(Failing::Before) => refused.is_none(),
                None => false,
            };
            let excused = may_stop || self.cluster.lost.contains_key(&machine);
            let Some(reason) = stopped.or(refused) else { continue };
            tracing::info!(machine, reason, "stopped");
            if !excused {
                self.violations.push(format!("L5: node {} stopped by itself: {reason}", machine + 1));
            }
        }
        Ok(())
    }

    /// Nodes that must serve at the end.
    fn sound(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.plan.nodes).filter(|node| !self.cluster.lost.contains_key(node))
    }

    fn all_ready(&self) -> Result<(), String> {
        for machine in self.sound() {
            let node = self.cluster.seats[machine].node();
            let ready = node.map_or_else(|| Err("it does not run".to_owned()), |node| node.readiness());
            ready.map_err(|why| format!("node {}: {why}", machine + 1))?;
        }
        Ok(())
    }

    fn settled(&self) -> Result<(), String> {
        let mut applied: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        for machine in self.sound() {
            let node = self.cluster.seats[machine].node().ok_or_else(|| format!("node {} is down", machine + 1))?;
            let replica = node.replica().ok_or_else(|| format!("node {} is starting", machine + 1))?;
            for status in replica.status() {
                if let Some(reason) = status.stopped {
                    return Err(format!("node {}, group {}: stopped: {reason}", machine + 1, status.group));
                }
                let (first, at) = *applied.entry(status.group.0).or_insert((machine, status.applied_index));
                if at != status.applied_index || status.last_log_index != status.applied_index {
                    return Err(format!(
                        "group {}: node {} has applied {at}, node {} {} of {}",
                        status.group,
                        first + 1,
                        machine + 1,
                        status.applied_index,
                        status.last_log_index
                    ));
                }
            }
        }
        Ok(())
    }

    /// All replicas of a group hold the same rows. One on a damaged disk may be gone, or behind, but never different.
    fn compare(&mut self) -> anyhow::Result<()> {
        let mut digests: BTreeMap<u32, (usize, u64, [u8; 32])> = BTreeMap::new();
        let (sound, lost): (Vec<usize>, Vec<usize>) =
            (0..self.plan.nodes).partition(|node| !self.cluster.lost.contains_key(node));
        for machine in sound.into_iter().chain(lost) {
            let Some(node) = self.cluster.seats[machine].node() else { continue };
            let Some(replica) = node.replica() else { continue };
            for group in replica.groups() {
                let Some(handle) = replica.group(group) else { continue };
                let (applied, digest) = (handle.applied_index(), state::digest(&handle.reader())?);
                if !self.cluster.lost.contains_key(&machine) {
                    self.trace.update(&group.0.to_be_bytes());
                    self.trace.update(&applied.to_be_bytes());
                    self.trace.update(&digest);
                }
                let (first, at, expected) = *digests.entry(group.0).or_insert((machine, applied, digest));
                if at == applied && expected != digest {
                    self.violations.push(format!(
                        "B2: group {group} at index {applied}: node {} and node {} hold different rows",
                        first + 1,
                        machine + 1
                    ));
                }
            }
        }
        self.looked_at.insert("groups compared".into(), digests.len() as u64);
        Ok(())
    }
}

/// Collects panics of this process from now on; they are findings, but for the ones that stand for the end of a process.
pub fn collect_panics() -> Panics {
    let panics = Panics::default();
    let kept = panics.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let machine = match os::machine() {
            usize::MAX => String::new(),
            machine => format!("node {}: ", machine + 1),
        };
        let message = format!("{machine}{panic}");
        tracing::error!(message, "panic");
        kept.lock().push(message);
    }));
    panics
}
