//! What a full run has shown so far, from the lines of its table: a row a fault, a column a workload, sums at the edges.
//!
//! Read back from the file, so that a run which goes on with an older table, or was interrupted, is told whole. A Markdown table, which a
//! document can take over as it is. Never judges: what a line says is what counts. Called by `suite`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the lines of one place of the summary come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    clean: u64,
    violated: u64,
    /// A check had nothing to look at.
    nothing: u64,
    failed: u64,
    /// Not possible here: no run at all.
    lacking: u64,
    faults: u64,
    ok: u64,
    refused: u64,
    unknown: u64,
    seconds: u64,
    /// Runs of five nodes.
    of_five: u64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.clean += other.clean;
        self.violated += other.violated;
        self.nothing += other.nothing;
        self.failed += other.failed;
        self.lacking += other.lacking;
        self.faults += other.faults;
        self.ok += other.ok;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.seconds += other.seconds;
        self.of_five += other.of_five;
    }

    fn runs(&self) -> u64 {
        self.clean + self.violated + self.nothing + self.failed
    }

    /// Clean runs as a number; what was not clean in words behind it.
    fn shown(&self) -> String {
        if self.runs() == 0 {
            return if self.lacking > 0 { "–".into() } else { String::new() };
        }
        let mut text = self.clean.to_string();
        for (count, what) in [(self.nothing, "nothing shown"), (self.failed, "harness failed")] {
            if count > 0 {
                // Writing to a String cannot fail.
                let _ = write!(text, ", {count} {what}");
            }
        }
        if self.violated > 0 {
            let _ = write!(text, ", **{} violated**", self.violated);
        }
        text
    }
}

/// One line of the table: workload, fault, and what it counts for.
fn read(line: &str) -> Option<(String, String, Sum)> {
    let fields: Vec<&str> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [_, workload, fault, seed, nodes, seconds, faults, ok, refused, unknown, _, outcome, _] = fields.as_slice()
    else {
        return None;
    };
    // The head and the rule below it have no seed.
    seed.parse::<u64>().ok()?;
    let number = |text: &str| text.parse().unwrap_or(0);
    let mut sum = Sum {
        faults: number(faults),
        ok: number(ok),
        refused: number(refused),
        unknown: number(unknown),
        seconds: number(seconds),
        of_five: u64::from(*nodes == "5"),
        ..Sum::default()
    };
    let place = match *outcome {
        "clean" => &mut sum.clean,
        text if text.contains("VIOLATION") => &mut sum.violated,
        text if text.starts_with("not possible") => &mut sum.lacking,
        text if text.starts_with("harness failed") => &mut sum.failed,
        _ => &mut sum.nothing,
    };
    *place = 1;
    Some(((*workload).to_owned(), (*fault).to_owned(), sum))
}

/// The summary of a table's text. Workloads and faults that have no line are not in it.
pub fn of(table: &str) -> String {
    let mut cells: BTreeMap<(String, String), Sum> = BTreeMap::new();
    let (mut workloads, mut faults) = (Vec::new(), Vec::new());
    for (workload, fault, sum) in table.lines().filter_map(read) {
        if !workloads.contains(&workload) {
            workloads.push(workload.clone());
        }
        if !faults.contains(&fault) {
            faults.push(fault.clone());
        }
        cells.entry((fault, workload)).or_default().add(&sum);
    }
    workloads.sort();
    faults.sort();
    let sum_of = |fits: &dyn Fn(&(String, String)) -> bool| {
        let mut sum = Sum::default();
        cells.iter().filter(|(place, _)| fits(place)).for_each(|(_, cell)| sum.add(cell));
        sum
    };
    let mut text = format!(
        "| fault | {} | faults done | ok / refused / unknown | runs | with five nodes | violated | seconds |\n",
        workloads.join(" | ")
    );
    text += &format!("|---|{}---|---|---|---|---|---|\n", "---|".repeat(workloads.len()));
    let mut line = |name: &str, of_workload: &dyn Fn(&str) -> Sum, all: &Sum| {
        let places: Vec<String> = workloads.iter().map(|workload| of_workload(workload).shown()).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} / {} / {} | {} | {} | {} | {} |",
            places.join(" | "),
            all.faults,
            all.ok,
            all.refused,
            all.unknown,
            all.runs(),
            all.of_five,
            all.violated,
            all.seconds
        );
    };
    for fault in &faults {
        let here = |workload: &str| cells.get(&(fault.clone(), workload.to_owned())).copied().unwrap_or_default();
        line(&format!("`{fault}`"), &here, &sum_of(&|place| place.0 == *fault));
    }
    let of_workload = |workload: &str| sum_of(&|place| place.1 == workload);
    line("all", &of_workload, &sum_of(&|_| true));
    text
}

#[cfg(test)]
mod tests;
