//! Starts: what was acknowledged is there, once, as it was asked for; what was refused is not.

use serde_json::Value;

use super::scene::Scene;
use crate::check::Verdict;
use crate::program::{Carried, Input};

pub fn check(scene: &Scene<'_>) -> Verdict {
    let mut verdict = Verdict::new("programs: starts");
    for index in 0..scene.load.programs {
        let id = scene.load.workflow_id(index);
        let none = Vec::new();
        let firsts = scene.first_runs.get(&*id).unwrap_or(&none);
        let program = scene.load.program(index);
        if firsts.len() > 1 {
            verdict.violate(
                "A2",
                format!("{id} was started {} times", firsts.len()),
                firsts.iter().map(|id| (*id).to_owned()).collect(),
            );
        }
        let mut asked = false;
        for start in scene.asked(&id, "start") {
            asked = true;
            verdict.looked_at += 1;
            let shown = vec![start.to_string()];
            let run_id = start.ok().and_then(|value| value.get("run_id")).and_then(Value::as_str);
            // A repeat that found the workflow running may have been told of a run that continues the first.
            let is_there = |run_id: &str| scene.chain(&id).iter().any(|run| run.history.run_id == run_id);
            if start.ok().is_some() && !run_id.is_some_and(is_there) {
                verdict.violate("A1", format!("an acknowledged start of {id} is in no history"), shown.clone());
            }
            if start.failed() && !firsts.is_empty() {
                verdict.violate("A5", format!("{id} runs, and its start was refused"), shown.clone());
            }
            // Both or neither, whether or not it was acknowledged.
            let signal = start.input.get("signal").and_then(Value::as_i64);
            if let (Some(number), false) = (signal, firsts.is_empty())
                && !scene.signals(&id).contains(&number)
            {
                verdict.violate("A4", format!("{id} was started without the signal {number}"), shown);
            }
        }
        if !asked && !firsts.is_empty() {
            verdict.violate("A1", format!("nobody started {id}"), Vec::new());
        }
        let expected = Input { program, chain: 0, carried: Carried::default() };
        for run in firsts.iter().filter_map(|run_id| scene.runs.get(run_id)) {
            if run.input() != Some(&expected) {
                verdict.violate("A1", format!("{run} has another input than it was started with"), Vec::new());
            }
        }
    }
    verdict
}
