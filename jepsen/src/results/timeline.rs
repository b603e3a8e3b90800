//! `timeline.html`: each operation a bar in its process's row, faults shaded; one page without anything from elsewhere.
//!
//! Rows are packed: processes that never overlap in time share one, since every unknown outcome makes a new process. The page draws on a
//! canvas; the wheel zooms, dragging moves, and the operation under the pointer is told in full.

use serde_json::{Value, json};
use stanchion_proof::journal::{Completion, Line, operations};

use crate::cell::Ended;

/// Operations that a page shows: more make a page that does not open.
const BARS_MAX: usize = 30_000;

pub fn page(lines: &[Line], ended: &Ended) -> String {
    let operations = operations(lines);
    let end = lines.last().map_or(0, |line| line.time);
    // Row of a process: the first one that is free when its first operation begins.
    let mut spans: std::collections::BTreeMap<u64, (u64, u64)> = std::collections::BTreeMap::new();
    for operation in &operations {
        let until = operation_end(&operation.completion, end);
        let span = spans.entry(operation.process).or_insert((operation.invoked, until));
        span.1 = span.1.max(until);
    }
    let mut by_begin: Vec<(u64, u64, u64)> = spans.iter().map(|(process, (from, to))| (*from, *to, *process)).collect();
    by_begin.sort_unstable();
    let mut free: Vec<u64> = Vec::new();
    let mut rows = std::collections::BTreeMap::new();
    for (from, to, process) in by_begin {
        let row = free.iter().position(|until| *until < from).unwrap_or_else(|| {
            free.push(0);
            free.len() - 1
        });
        free[row] = to;
        rows.insert(process, row);
    }
    let bars: Vec<Value> = operations
        .iter()
        .take(BARS_MAX)
        .map(|operation| {
            let (kind, told) = match &operation.completion {
                Completion::Ok { value, .. } => (0, value.to_string()),
                Completion::Fail { error, .. } => (1, error.clone()),
                Completion::Info { error, .. } => (2, error.clone()),
                Completion::Pending => (2, "never ended".to_owned()),
            };
            json!([
                rows[&operation.process],
                operation.invoked / 1000,
                operation_end(&operation.completion, end) / 1000,
                kind,
                operation.process,
                operation.f,
                operation.key,
                short(&operation.input.to_string()),
                short(&told),
            ])
        })
        .collect();
    let faults: Vec<Value> = ended
        .done
        .spans
        .iter()
        .map(|span| json!([span.fault, span.from / 1000, span.healed / 1000, span.to / 1000]))
        .collect();
    let data = json!({ "bars": bars, "faults": faults, "rows": free.len(), "end": end / 1000, "left_out": operations.len().saturating_sub(BARS_MAX) });
    let title = format!("{} under {}, seed {}", ended.workload, ended.fault, ended.seed);
    // `</` would end the script element early.
    PAGE.replace("{title}", &title).replace("{data}", &data.to_string().replace("</", "<\\/"))
}

fn operation_end(completion: &Completion, end: u64) -> u64 {
    match completion {
        Completion::Ok { at, .. } | Completion::Fail { at, .. } | Completion::Info { at, .. } => *at,
        Completion::Pending => end,
    }
}

fn short(text: &str) -> String {
    if text.chars().count() > 160 {
        format!("{}…", text.chars().take(160).collect::<String>())
    } else {
        text.to_owned()
    }
}

const PAGE: &str = include_str!("timeline.html");
