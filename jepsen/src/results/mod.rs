//! The folder that a cell leaves: what happened, what it means, and pictures of both, as Jepsen leaves them.
//!
//! | File | Holds |
//! |---|---|
//! | `history.edn`, `history.jsonl` | every operation and every fault, for Jepsen's own checkers and for programs |
//! | `results.json`, `results.edn` | verdicts, figures, seed, faults |
//! | `timeline.html` | operations by process as bars, faults shaded |
//! | `latency-raw.svg`, `rate.svg` | each operation's latency, operations by second, faults shaded |
//! | `n1.log` … | the nodes' output |
//!
//! Never judges. Called by `cell`.

mod edn;
mod plots;
mod timeline;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use stanchion_proof::check::report;
use stanchion_proof::journal::{Kind, Line, Process, to_edn};

use crate::cell::{Conclusion, Ended};
use crate::scene::Scene;

/// Operations by kind and outcome.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Counts(pub BTreeMap<String, Tally>);

#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Tally {
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
}

impl Counts {
    pub fn of(lines: &[Line]) -> Self {
        let mut counts: BTreeMap<String, Tally> = BTreeMap::new();
        for line in lines.iter().filter(|line| matches!(line.process, Process::Client(_))) {
            let tally = counts.entry(line.f.clone()).or_default();
            match line.kind {
                Kind::Invoke => (),
                Kind::Ok => tally.ok += 1,
                Kind::Fail => tally.fail += 1,
                Kind::Info => tally.info += 1,
            }
        }
        Self(counts)
    }

    pub fn total(&self) -> Tally {
        self.0.values().fold(Tally::default(), |sum, tally| Tally {
            ok: sum.ok + tally.ok,
            fail: sum.fail + tally.fail,
            info: sum.info + tally.info,
        })
    }
}

/// Everything.
pub fn leave(scene: &Scene, ended: &Ended) -> Result<()> {
    leave_history(scene)?;
    let lines = scene.journal.lines();
    let results = results(scene, ended);
    write(scene, "results.json", &(serde_json::to_string_pretty(&results)? + "\n"))?;
    write(scene, "results.edn", &(edn::form(&results) + "\n"))?;
    write(scene, "timeline.html", &timeline::page(&lines, ended))?;
    plots::draw(&scene.out, &lines, &ended.done.spans)
}

/// What is left even when the harness failed.
pub fn leave_history(scene: &Scene) -> Result<()> {
    // history.jsonl was written line by line.
    write(scene, "history.edn", &to_edn(&scene.journal.lines()))
}

fn write(scene: &Scene, name: &str, text: &str) -> Result<()> {
    let path = scene.out.join(name);
    std::fs::write(&path, text).with_context(|| path.display().to_string())
}

fn results(scene: &Scene, ended: &Ended) -> Value {
    json!({
        "valid?": match ended.conclusion() {
            Conclusion::Clean => json!(true),
            Conclusion::Violation => json!(false),
            // As Jepsen says it.
            Conclusion::Vacuous => json!("unknown"),
        },
        "workload": ended.workload,
        "fault": ended.fault,
        "seed": ended.seed,
        "seconds": ended.took.as_secs_f64(),
        "nodes": scene.cluster.nodes.len(),
        "groups": scene.cluster.shape.groups,
        "binary": scene.cluster.shape.binary,
        "operations": ended.operations,
        "faults": ended.done.spans,
        "trouble": ended.done.trouble,
        "links": scene.cluster.network.figures(),
        "verdicts": ended.verdicts,
        "data": scene.cluster.keeps_data().then(|| scene.cluster.folder.clone()),
    })
}

/// The verdict for a person at a terminal, with the smallest part of the history that shows a violation.
pub fn shown(ended: &Ended) -> String {
    let mut text = format!("\n== {} under {} (seed {}) ==\n", ended.workload, ended.fault, ended.seed);
    // Writing to a String cannot fail.
    text += &report(&ended.verdicts);
    let total = ended.operations.total();
    let _ = writeln!(
        text,
        "  {} faults; operations: {} ok, {} refused, {} unknown; {:.1} s",
        ended.done.spans.len(),
        total.ok,
        total.fail,
        total.info,
        ended.took.as_secs_f64()
    );
    let outcome = match ended.conclusion() {
        Conclusion::Clean => "PASSED",
        Conclusion::Violation => "VIOLATION",
        Conclusion::Vacuous => "NOTHING SHOWN",
    };
    let _ = writeln!(text, "  {outcome}: {}", ended.out.display());
    text
}
