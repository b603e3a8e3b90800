//! One cell of the table: one workload under one fault, on a cluster of its own, from the seed to the folder with its results.
//!
//! A failure of the harness is an `Err`; everything that the system did wrong is a verdict. Called by `suite` and `cli`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use stanchion_proof::check::{Standing, Verdict};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{BROKEN_RULE, READY_WITHIN, Shape};
use crate::faults::nemesis::{self, Done, Plan};
use crate::network::Link;
use crate::results;
use crate::scene::Scene;
use crate::{faults, workloads};

/// Beyond the time of its load a cell is over within this, or the harness has hung: starts, healing and final reads have bounds of their own,
/// which come to much less.
const CELL_GRACE: Duration = Duration::from_secs(600);
/// How often nodes are asked, while everything is read, whether they have found something wrong; and how long the reads go on after that.
const FINDINGS_EVERY: Duration = Duration::from_secs(2);
const FINDINGS_WAIT: Duration = Duration::from_secs(20);
/// Operations in flight at the deadline end within this, or the harness has hung.
const WIND_UP_WITHIN: Duration = Duration::from_secs(60);

pub struct Cell {
    pub workload: &'static workloads::Kind,
    pub fault: &'static faults::Kind,
    pub plan: Plan,
    pub seconds: u64,
    pub shape: Shape,
    pub out: PathBuf,
}

/// What came of a cell.
#[derive(Debug)]
pub struct Ended {
    pub workload: String,
    pub fault: String,
    pub seed: u64,
    pub nodes: u64,
    pub took: Duration,
    pub verdicts: Vec<Verdict>,
    pub done: Done,
    pub operations: results::Counts,
    /// Nanoseconds since 1970 at which the journal's clock was 0.
    pub epoch: u64,
    pub out: PathBuf,
}

/// A cell that cannot be done, for want of something on this machine or in the workload: told apart from one that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Lacking(pub String);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conclusion {
    Clean,
    Violation,
    /// A check looked at nothing, or no fault was done: nothing was shown.
    Vacuous,
}

impl Ended {
    pub fn conclusion(&self) -> Conclusion {
        match self.verdicts.iter().map(Verdict::standing).max() {
            Some(Standing::Violated) => Conclusion::Violation,
            Some(Standing::Holds) => Conclusion::Clean,
            Some(Standing::Vacuous | Standing::Undecided) | None => Conclusion::Vacuous,
        }
    }
}

impl Cell {
    pub async fn run(self) -> Result<Ended> {
        let begin = Instant::now();
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let scene = Scene::prepare(self.shape.clone(), self.out.clone()).await?;
        let within = Duration::from_secs(self.seconds) + CELL_GRACE;
        let lived = match tokio::time::timeout(within, self.live(&scene)).await {
            Ok(lived) => lived,
            Err(_) => Err(anyhow!("the cell did not end within {within:?}")),
        };
        let (mut verdicts, done) = match lived {
            Ok(lived) => lived,
            // What nodes say of themselves is a finding, whatever it made of the harness.
            Err(error) if scene.cluster.has_served() && !scene.cluster.findings().is_empty() => {
                (Vec::new(), Done { trouble: vec![format!("{error:#}")], ..Done::default() })
            }
            Err(error) => {
                // The nodes' data may tell why.
                if !error.is::<Lacking>() {
                    scene.cluster.keep_data();
                }
                results::leave_history(&scene)?;
                return Err(error);
            }
        };
        scene.cluster.end().await;
        verdicts.extend(lived_as_told(&scene, &done));
        let ended = Ended {
            workload: self.workload.name.into(),
            fault: self.fault.name.into(),
            seed: scene.seed,
            nodes: self.shape.nodes,
            took: begin.elapsed(),
            verdicts,
            done,
            operations: results::Counts::of(&scene.journal.lines()),
            epoch: scene.epoch,
            out: self.out.clone(),
        };
        if ended.conclusion() == Conclusion::Violation {
            scene.cluster.keep_data();
        }
        results::leave(&scene, &ended)?;
        Ok(ended)
    }

    async fn live(&self, scene: &Scene) -> Result<(Vec<Verdict>, Done)> {
        let mut fault = (self.fault.make)();
        if self.fault.workers && !self.workload.has_workers {
            bail!(Lacking(format!("{} has no workers for {}", self.workload.name, self.fault.name)));
        }
        if let Some(what) = (self.fault.lacks)(&scene.cluster) {
            bail!(Lacking(format!("{} cannot be done here: {what}", self.fault.name)));
        }
        fault.prepare(&scene.cluster)?;
        scene.say(&format!(
            "{} under {}, seed {}: starting {} nodes",
            self.workload.name, self.fault.name, scene.seed, self.shape.nodes
        ));
        scene.cluster.begin().await?;
        let needs = (self.fault.needs)(&scene.cluster);
        self.links_carried_something(scene, needs.into_iter().filter(|link| matches!(link, Link::Peer(..))).collect())?;
        let workload = (self.workload.make)();
        workload.setup(scene).await.context("setting up the workload")?;
        scene.say("the cluster serves and the workload is set up");

        let stop = CancellationToken::new();
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let harming = async {
            let done = nemesis::run(scene, self.fault, fault.as_mut(), self.plan, until, stop.clone()).await;
            if matches!(&done, Ok(done) if done.trouble.is_empty()) {
                tokio::time::sleep_until(until).await;
            }
            stop.cancel();
            done
        };
        let loading = async {
            let mut running = std::pin::pin!(workload.run(scene, stop.clone()));
            tokio::select! {
                ended = &mut running => {
                    let early = !stop.is_cancelled();
                    stop.cancel();
                    ended?;
                    if early {
                        bail!("the workload ended before its time");
                    }
                    return Ok(());
                }
                () = stop.cancelled() => (),
            }
            match tokio::time::timeout(WIND_UP_WITHIN, running).await {
                Ok(ended) => ended,
                Err(_) => bail!("the workload did not end within {WIND_UP_WITHIN:?} of being told to"),
            }
        };
        let (done, loaded) = tokio::join!(harming, loading);
        let done = done.context("the nemesis")?;
        loaded.context("the workload")?;
        self.links_carried_something(scene, (self.fault.needs)(&scene.cluster))?;
        if !done.trouble.is_empty() {
            // What cannot be reached cannot be read: the trouble itself is the finding.
            return Ok((Vec::new(), done));
        }
        if let Err(why) = scene.cluster.wait_ready(&scene.cluster.numbers(), READY_WITHIN).await {
            let trouble = vec![why];
            return Ok((Vec::new(), Done { trouble, ..done }));
        }
        scene.say("healed; reading everything");
        tokio::select! {
            read = workload.finish(scene) => read.context("the final reads")?,
            () = given_up(scene) => bail!("the final reads did not end within {FINDINGS_WAIT:?}, and would not any more"),
        }
        Ok((workload.check(scene), done))
    }

    /// A fault on links that nobody uses is no fault.
    fn links_carried_something(&self, scene: &Scene, needs: Vec<Link>) -> Result<()> {
        let unused: Vec<String> = scene.cluster.network.unused(&needs).iter().map(ToString::to_string).collect();
        if unused.is_empty() {
            return Ok(());
        }
        bail!(
            "nobody went through the proxies {}: harming them shows nothing (does this binary know the setting `dial`?)",
            unused.join(", ")
        )
    }
}

/// Ends some time after a node has said what is wrong: a group that stopped never answers again.
async fn given_up(scene: &Scene) {
    while scene.cluster.findings().is_empty() {
        tokio::time::sleep(FINDINGS_EVERY).await;
    }
    tokio::time::sleep(FINDINGS_WAIT).await;
}

/// Checks that every workload has: of processes, and of the nemesis.
fn lived_as_told(scene: &Scene, done: &Done) -> Vec<Verdict> {
    let mut healed = Verdict::new("healed nodes serve again");
    // The last wait of the cell counts as one.
    healed.looked_at = done.spans.len() as u64 + 1;
    for why in &done.trouble {
        healed.violate("L5", why.clone(), Vec::new());
    }
    let mut ended = Verdict::new("no node ends by itself, panics, or stops a group for a broken rule");
    ended.looked_at = scene.cluster.nodes.iter().map(|node| u64::from(node.process.starts())).sum();
    for what in scene.cluster.findings() {
        // A group that stops says which rule it was.
        let rule = what.split_once(BROKEN_RULE).and_then(|(_, rule)| rule.split(':').next());
        let rule = rule.unwrap_or("L4").to_owned();
        ended.violate(&rule, what, Vec::new());
    }
    vec![healed, ended]
}
