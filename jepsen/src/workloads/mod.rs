//! Loads with their checks, by name. A workload runs against a cluster that is being hurt, reads everything at the end when all is healed,
//! and judges from what clients and workers were told.
//!
//! Never looks inside a node. Registered in [`ALL`]; called by `cell`.

pub mod random_program;
pub mod sdk_steps;
pub mod signal_list;

use anyhow::Result;
use futures::future::BoxFuture;
use stanchion_proof::check::Verdict;
use tokio_util::sync::CancellationToken;

use crate::scene::Scene;

/// See the module. Methods take `&self`: what is remembered between them goes behind a lock or into the journal.
pub trait Workload: Send + Sync {
    /// On a healthy cluster, before the first fault.
    fn setup<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>>;

    /// The load, under faults, until `stop`; ends soon after it, with every operation ended.
    fn run<'a>(&'a self, scene: &'a Scene, stop: CancellationToken) -> BoxFuture<'a, Result<()>>;

    /// On the healed cluster: finish what is open, and the final reads.
    fn finish<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<()>>;

    /// Pure: judges what was seen.
    fn check(&self, scene: &Scene) -> Vec<Verdict>;
}

pub struct Kind {
    pub name: &'static str,
    pub what: &'static str,
    pub make: fn() -> Box<dyn Workload>,
    /// Whether workers take part, so that faults on workers mean something.
    pub has_workers: bool,
}

pub const ALL: &[Kind] = &[
    Kind {
        name: "signal-list",
        what: "signals append unique integers to runs, histories read the lists: nothing lost, nothing twice, order and real time kept",
        make: || Box::new(signal_list::SignalList::default()),
        has_workers: false,
    },
    Kind {
        name: "sdk-steps",
        what: "runs of activities by workers of the Python SDK, which keep a ledger: nothing that was acknowledged is lost or done again",
        make: || Box::new(sdk_steps::SdkSteps::default()),
        has_workers: true,
    },
    Kind {
        name: "random-program",
        what: "random programs of everything that a workflow can do, by raw workers and clients: what a model allows, and nothing else",
        make: || Box::new(random_program::RandomProgram::default()),
        has_workers: true,
    },
];

pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}
