//! Every run against the model, and every acknowledged call against the histories.
//!
//! ```text
//! starts      A1 A2 A4 A5   what was started is there, once, as it was asked for
//! replay      B6 B7         every history is one that its program makes, from the first run of a chain to the last
//! ends        C4 E5         every run closes, and as its program and what was asked of it say
//! signals     E1 E2 G3      each acknowledged one once, each unknown one at most once, one sender's in order
//! updates     E3            each once, with one outcome for ever
//! queries     E4            see what was acknowledged before, and nothing that never was
//! reads       B3         what is described, and histories, know of what was acknowledged or read before
//! activities  D1 D2 D6 D7   ends that the model allows, acknowledged results, time-outs not early
//! timers      F1            none is seen to have fired early, by the clock of the test
//! children    G1 G2 G3      what a parent was told is what became of the child
//! ```
//!
//! Pure: evidence in, verdicts out. Called through `drive::judge`.

mod activities;
mod children;
mod ends;
mod messages;
mod reads;
mod scene;
mod starts;

use crate::check::{Verdict, timers};
use crate::drive::Load;
use crate::history::RunHistory;
use crate::journal::Operation;
use crate::ledger::{Line, What};

use scene::Scene;

/// Every verdict on the programs of a load.
pub fn judge_programs(
    load: &Load,
    operations: &[Operation],
    ledger: &[Line],
    histories: &[RunHistory],
) -> Vec<Verdict> {
    let scene = Scene::of(load, operations, ledger, histories);
    vec![
        starts::check(&scene),
        replay(&scene, ledger),
        ends::check(&scene),
        messages::signals(&scene),
        messages::updates(&scene),
        messages::queries(&scene),
        reads::check(&scene),
        activities::check(&scene, ledger),
        timers::never_early(ledger, histories),
        children::check(&scene),
    ]
}

fn replay(scene: &Scene<'_>, ledger: &[Line]) -> Verdict {
    let mut verdict = Verdict::new("programs: replay");
    for run in scene.runs.values() {
        verdict.looked_at += run.history.events.len() as u64;
        if let Err(error) = &run.machine {
            verdict.violate("B7", format!("{run}: {error}"), run.show());
        }
    }
    // What a worker refused at the time may have been put right since: the server handed it out all the same.
    for line in ledger.iter().filter(|line| line.workflow_id.starts_with(&scene.load.prefix())) {
        if let What::Nondeterminism { difference } = &line.what {
            verdict.violate(
                "B7",
                format!("a worker was handed a history that its program does not make: {difference}"),
                vec![line.to_string()],
            );
        }
    }
    for chain in scene.chains.values() {
        for pair in chain.windows(2) {
            let [before, after] = pair else { continue };
            if before.next_input().as_ref() != after.input() {
                let shown = vec![before.to_string(), after.to_string()];
                verdict.violate("B6", format!("{after} does not have the input that {before} gave it"), shown);
            }
        }
    }
    verdict
}
