//! Workers and clients of a seed, on a machine of their own; what they saw, and what is to be made of it.
//!
//! The programs, their workers and their judge are `stanchion_proof`'s, the same that play against real processes.
//!
//! Called by `seed`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use stanchion_proof::check::{Verdict, attempts, histories};
use stanchion_proof::drive::{self, Mischief, Nodes, Timings};
use stanchion_proof::history::RunHistory;
use stanchion_proof::journal::{self, Journal};
use stanchion_proof::ledger::{self, Ledger};
use stanchion_proto::admin::admin_client::AdminClient;
use stanchion_proto::admin::{InitClusterRequest, Member};
use stanchion_replica::Net;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::net::{SimNet, address};
use crate::node::{GRPC_PORT, HTTP_PORT, PEER_PORT};
use crate::os;
use crate::plan::{Fault, Plan};
use crate::world::{Machine, World};

const NAMESPACE: &str = "default";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Creating,
    Faulty,
    Finishing,
}

/// How far the clients are, and what came out.
#[derive(Default)]
struct Progress {
    doing: &'static str,
    /// The cluster was created, as the caller has heard.
    created: bool,
    /// What did not end in time, or could not be read.
    unfinished: Option<String>,
    histories: Option<Vec<RunHistory>>,
}

/// See the module.
pub struct Load {
    plan: Plan,
    load: drive::Load,
    journal: Journal,
    ledger: Ledger,
    phase: watch::Sender<Phase>,
    progress: Arc<Mutex<Progress>>,
}

/// What was made of what the clients saw.
pub struct Judgement {
    pub violations: Vec<String>,
    pub looked_at: BTreeMap<String, u64>,
    /// Everything that they saw, for the trace of the seed.
    pub trace: Vec<u8>,
    /// Why nothing can be said.
    pub failed: Option<String>,
}

impl Load {
    pub fn new(plan: &Plan) -> Self {
        let now = || u64::try_from(os::now().as_nanos()).unwrap_or(u64::MAX);
        Self {
            plan: plan.clone(),
            load: load_of(plan),
            journal: Journal::new(now),
            ledger: Ledger::new(now),
            phase: watch::Sender::new(Phase::Creating),
            progress: Arc::default(),
        }
    }

    /// The process of the machine.
    pub fn play(&self, world: World, machine: Machine) -> impl Future<Output = ()> + Send + 'static + use<> {
        let nodes =
            SimNodes { net: SimNet { world, machine }, channels: Arc::new(Mutex::new(vec![None; self.plan.nodes])) };
        let part = Part {
            groups: self.plan.groups,
            within: Duration::from_millis(self.plan.finish_within_ms),
            load: self.load.clone(),
            journal: self.journal.clone(),
            ledger: self.ledger.clone(),
            phase: self.phase.subscribe(),
            progress: self.progress.clone(),
            nodes,
        };
        part.play()
    }

    /// Whether whoever created the cluster has heard that it is there.
    pub fn has_cluster(&self) -> bool {
        self.progress.lock().created
    }

    /// Clients begin.
    pub fn begin(&self) {
        self.phase.send_replace(Phase::Faulty);
    }

    /// Nothing new from now on: what was begun is brought to its end.
    pub fn finish(&self) {
        self.phase.send_replace(Phase::Finishing);
    }

    pub fn note_fault(&self, what: &str, fault: &Fault) {
        self.journal.fault(what, serde_json::to_value(fault).unwrap_or_default());
    }

    /// Everything has ended and was read.
    pub fn is_over(&self) -> bool {
        let progress = self.progress.lock();
        progress.histories.is_some() || progress.unfinished.is_some()
    }

    /// What is missing.
    pub fn unfinished(&self) -> Option<String> {
        let progress = self.progress.lock();
        match (&progress.unfinished, &progress.histories) {
            (Some(why), _) => Some(why.clone()),
            (None, None) => Some(format!("the clients are still {}", progress.doing)),
            (None, Some(_)) => None,
        }
    }

    /// Writes down what clients and workers saw, and every history that was read.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn keep(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let lines = self.journal.lines();
        std::fs::write(folder.join("journal.jsonl"), journal::to_jsonl(&lines))?;
        std::fs::write(folder.join("history.edn"), journal::to_edn(&lines))?;
        std::fs::write(folder.join("ledger.jsonl"), ledger::to_jsonl(&self.ledger.lines()))?;
        let mut histories = String::new();
        for run in self.progress.lock().histories.iter().flatten() {
            histories += &format!("{} {}\n", run.workflow_id, run.run_id);
            run.events.iter().for_each(|event| histories += &format!("  {event:?}\n"));
        }
        std::fs::write(folder.join("histories.txt"), histories)
    }

    pub fn judge(&self) -> Judgement {
        let progress = self.progress.lock();
        let histories = progress.histories.as_deref().unwrap_or_default();
        let mut verdicts = drive::judge(&self.load, &self.journal, &self.ledger, histories);
        verdicts.extend(attempts::ledger(&self.ledger.lines()));
        verdicts.push(attempts::timeouts(histories));
        verdicts.push(histories::rules(histories));
        let mut trace = journal::to_jsonl(&self.journal.lines()).into_bytes();
        trace.extend(ledger::to_jsonl(&self.ledger.lines()).into_bytes());
        for history in histories {
            trace.extend(history.run_id.as_bytes());
            history.events.iter().for_each(|event| trace.extend(event.encode_to_vec()));
        }
        let undecided: Vec<String> = verdicts.iter().flat_map(|verdict| verdict.undecided.clone()).collect();
        let mut looked_at: BTreeMap<String, u64> =
            verdicts.iter().map(|verdict| (verdict.name.clone(), verdict.looked_at)).collect();
        looked_at.insert("operations".into(), self.journal.operations().len() as u64);
        looked_at.insert("runs".into(), histories.len() as u64);
        looked_at.insert("events".into(), histories.iter().map(|history| history.events.len() as u64).sum());
        Judgement {
            violations: verdicts.iter().flat_map(told).collect(),
            looked_at,
            trace,
            failed: (!undecided.is_empty()).then(|| format!("undecided: {}", undecided.join("; "))),
        }
    }
}

fn told(verdict: &Verdict) -> Vec<String> {
    let each = verdict.violations.iter();
    each.map(|found| format!("{}: {} [{}] {}", found.rule, found.what, verdict.name, found.evidence.join(" | ")))
        .collect()
}

/// A load that a few simulated seconds suffice for.
fn load_of(plan: &Plan) -> drive::Load {
    let ms = Duration::from_millis;
    drive::Load {
        programs: u64::from(plan.programs),
        size: 8,
        clients: 3,
        workers: 2,
        pollers: 2,
        registers: 2,
        timings: Timings {
            call: ms(2_000),
            long_poll: ms(4_000),
            think: ms(300),
            pause: ms(100),
            workflow_task_timeout: ms(2_000),
            sticky_timeout: ms(500),
            tries: 8,
        },
        mischief: Mischief::default(),
        ..drive::Load::new(plan.seed, NAMESPACE)
    }
}

/// The nodes, as the clients' machine reaches them.
#[derive(Clone)]
struct SimNodes {
    net: SimNet,
    channels: Arc<Mutex<Vec<Option<Channel>>>>,
}

impl Nodes for SimNodes {
    fn channel(&self, node: usize) -> Channel {
        let mut channels = self.channels.lock();
        let connect = || self.net.connect_lazy(endpoint(node, GRPC_PORT));
        match channels.get_mut(node) {
            Some(kept) => kept.get_or_insert_with(connect).clone(),
            None => connect(),
        }
    }

    fn count(&self) -> usize {
        self.channels.lock().len()
    }
}

fn endpoint(node: usize, port: u16) -> Endpoint {
    let uri = format!("http://{}:{port}", address(node));
    let endpoint = Endpoint::from_shared(uri).unwrap_or_else(|_| Endpoint::from_static("http://10.0.0.1:7233"));
    // As SDKs have it: a connection that has gone silent is given up in the end.
    endpoint
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
}

/// What the machine does, from creating the cluster to reading every history.
struct Part {
    groups: u32,
    within: Duration,
    load: drive::Load,
    journal: Journal,
    ledger: Ledger,
    phase: watch::Receiver<Phase>,
    progress: Arc<Mutex<Progress>>,
    nodes: SimNodes,
}

impl Part {
    async fn play(mut self) {
        self.progress.lock().doing = "creating the cluster";
        self.create().await;
        self.progress.lock().created = true;
        // The sender outlives every process.
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Faulty).await;
        self.progress.lock().doing = "playing";
        let stop = CancellationToken::new();
        let (load, nodes) = (self.load.clone(), self.nodes.clone());
        let running = tokio::spawn(drive::run(load, nodes, self.journal.clone(), self.ledger.clone(), stop.clone()));
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Finishing).await;
        stop.cancel();
        self.progress.lock().doing = "stopping";
        // A panic of it is collected with all others.
        let _ = running.await;
        self.progress.lock().doing = "bringing everything to its end";
        let (load, nodes) = (self.load.clone(), self.nodes.clone());
        let finished = drive::finish(load, nodes, self.journal.clone(), self.ledger.clone(), self.within).await;
        if let Err(unfinished) = finished {
            self.progress.lock().unfinished = Some(unfinished.to_string());
            return;
        }
        self.progress.lock().doing = "reading histories";
        let histories = drive::histories(&self.nodes, NAMESPACE).await;
        let mut progress = self.progress.lock();
        match histories {
            Ok(histories) => progress.histories = Some(histories),
            Err(error) => progress.unfinished = Some(format!("histories cannot be read: {error}")),
        }
    }

    /// Makes the nodes a cluster. Tried until it worked: a node may not listen yet.
    async fn create(&self) {
        let member = |node: usize| Member {
            node_id: node as u64 + 1,
            peer_address: format!("{}:{PEER_PORT}", address(node)),
            grpc_address: format!("{}:{GRPC_PORT}", address(node)),
            http_address: format!("{}:{HTTP_PORT}", address(node)),
            ..Default::default()
        };
        let members: Vec<Member> = (0..self.nodes.count()).map(member).collect();
        loop {
            if let Ok(channel) = self.nodes.net.connect(endpoint(0, PEER_PORT)).await {
                let request = InitClusterRequest { members: members.clone(), groups: self.groups };
                match AdminClient::new(channel).init_cluster(request).await {
                    Ok(_) => return,
                    Err(status) => tracing::info!(%status, "no cluster yet"),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
