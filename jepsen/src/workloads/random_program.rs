//! Random programs of activities, timers, signals, updates, children, cancellations and continue-as-new, played by raw workers and clients,
//! with a model that says what may come of each (`stanchion_proof::program`).
//!
//! One load of programs after another until the time is over; then all runs are brought to their end, every history is fetched, and all of
//! it is judged. Workers reach the nodes through the workers' links, and clients are the same parties here.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::Rng as _;
use stanchion_proof::check::{Verdict, histories};
use stanchion_proof::drive::{self, Load};
use stanchion_proof::history::RunHistory;
use stanchion_proof::ledger::{Ledger, to_jsonl};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::Workload;
use crate::client::Api;
use crate::network::Link;
use crate::scene::{NAMESPACE, Scene};

/// Programs of one load.
const PROGRAMS: u64 = 40;
/// After healing, for each load: its longest timers and time-outs are a few seconds.
const FINISH_WITHIN: Duration = Duration::from_secs(120);

#[derive(Default)]
pub struct RandomProgram {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: Option<Ledger>,
    loads: Vec<Load>,
    histories: Vec<RunHistory>,
    unfinished: Vec<String>,
}

#[derive(Clone)]
struct Channels(Vec<Channel>);

impl drive::Nodes for Channels {
    fn channel(&self, i: usize) -> Channel {
        self.0[i].clone()
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

fn channels(scene: &Scene) -> Result<Channels> {
    let channels =
        scene.cluster.numbers().into_iter().map(|number| Ok(Api::of(&scene.cluster, Link::Workers(number))?.channel));
    Ok(Channels(channels.collect::<Result<_>>()?))
}

impl Workload for RandomProgram {
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.state.lock().ledger = Some(Ledger::new(scene.clock()));
            Ok(())
        })
    }

    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let mut chance = scene.chance("random-program");
            let nodes = channels(scene)?;
            let ledger = self.state.lock().ledger.clone().context("set up first")?;
            while !stop.is_cancelled() {
                let load = Load { programs: PROGRAMS, ..Load::new(chance.random_range(1..1 << 31), NAMESPACE) };
                self.state.lock().loads.push(load.clone());
                drive::run(load, nodes.clone(), scene.journal.clone(), ledger.clone(), stop.clone()).await;
            }
            Ok(())
        })
    }

    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let nodes = channels(scene)?;
            let (loads, ledger) = {
                let state = self.state.lock();
                (state.loads.clone(), state.ledger.clone().context("set up first")?)
            };
            for load in loads {
                let finishing =
                    drive::finish(load, nodes.clone(), scene.journal.clone(), ledger.clone(), FINISH_WITHIN);
                if let Err(unfinished) = finishing.await {
                    self.state.lock().unfinished.extend(unfinished.open);
                }
            }
            std::fs::write(scene.out.join("ledger.jsonl"), to_jsonl(&ledger.lines()))?;
            match drive::histories(&nodes, NAMESPACE).await {
                Ok(histories) => self.state.lock().histories = histories,
                Err(error) => bail!("{} cannot be read on a healed cluster: {}", error.what, error.status),
            }
            Ok(())
        })
    }

    fn check(&self, scene: &Scene) -> Vec<Verdict> {
        let state = self.state.lock();
        let Some(ledger) = &state.ledger else { return Vec::new() };
        let mut verdicts: Vec<Verdict> = Vec::new();
        for load in &state.loads {
            for verdict in drive::judge(load, &scene.journal, ledger, &state.histories) {
                match verdicts.iter_mut().find(|so_far| so_far.name == verdict.name) {
                    Some(so_far) => {
                        so_far.looked_at += verdict.looked_at;
                        so_far.violations.extend(verdict.violations);
                        so_far.undecided.extend(verdict.undecided);
                    }
                    None => verdicts.push(verdict),
                }
            }
        }
        let mut closed = Verdict::new("programs: all runs close once all is healed");
        closed.looked_at = state.histories.len() as u64;
        for open in &state.unfinished {
            closed.violate("C4", format!("{open} is open {FINISH_WITHIN:?} after healing"), Vec::new());
        }
        verdicts.push(closed);
        verdicts.push(histories::rules(&state.histories));
        verdicts
    }
}
