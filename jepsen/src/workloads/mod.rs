//! Loads with their checks, by name. A workload runs against a cluster that is being hurt, reads everything at the end when all is healed,
//! and judges from what clients and workers were told.
//!
//! Never looks inside a node. Registered in [`ALL`]; called by `cell`.

pub mod activity_ledger;
mod decider;
pub mod families;
pub mod random_program;
mod reading;
pub mod saga_bank;
pub mod schedules;
pub mod sdk_steps;
pub mod signal_list;
pub mod start_register;
pub mod starting;
pub mod timers;
pub mod update_register;
pub mod visibility;

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
        name: "start-register",
        what: "starts, signals with start, describes, terminations and completions race on few ids: linearizable under all policies",
        make: || Box::new(start_register::StartRegister::default()),
        has_workers: true,
    },
    Kind {
        name: "update-register",
        what: "updates read, write and compare-and-set a run's value: linearizable",
        make: || Box::new(update_register::UpdateRegister::default()),
        has_workers: true,
    },
    Kind {
        name: "activity-ledger",
        what: "attempts of activities on an external ledger: one live at most, policies kept, nothing acknowledged done again",
        make: || Box::new(activity_ledger::ActivityLedger::default()),
        has_workers: true,
    },
    Kind {
        name: "timers",
        what: "timers of random length: never early by the test's clock, always, once",
        make: || Box::new(timers::Timers::default()),
        has_workers: true,
    },
    Kind {
        name: "schedules",
        what: "schedules of short intervals: each time of the spec acted on, once, before, during and after faults",
        make: || Box::new(schedules::Schedules::default()),
        has_workers: false,
    },
    Kind {
        name: "saga-bank",
        what: "transfers with compensation between accounts that runs hold by updates: booked whole and once, the total conserved",
        make: || Box::new(saga_bank::SagaBank::default()),
        has_workers: true,
    },
    Kind {
        name: "families",
        what: "parents start children and add up what they say: each message between runs arrives, once",
        make: || Box::new(families::Families::default()),
        has_workers: true,
    },
    Kind {
        name: "random-program",
        what: "random programs of everything that a workflow can do, by raw workers and clients: what a model allows, and nothing else",
        make: || Box::new(random_program::RandomProgram::default()),
        has_workers: true,
    },
    Kind {
        name: "visibility",
        what: "lists and counts race with starts and closes: each sees what was acknowledged",
        make: || Box::new(visibility::Visibility::default()),
        has_workers: false,
    },
];

pub fn find(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}
