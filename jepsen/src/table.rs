//! The table of a full run: a line a cell, appended as soon as the cell has ended, so that an interrupted run shows what was done.
//!
//! A Markdown table, which a document can take over as it is. [`summary`] sums them up. Called by `suite`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cell::{Conclusion, Ended};
use crate::summary;

const HEAD: &str = "| time (UTC) | workload | fault | seed | nodes | seconds | faults done | ok | refused | unknown | checks | outcome | folder |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

pub struct Table {
    path: PathBuf,
}

impl Table {
    /// Goes on with a table that is there.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let table = Self { path: path.to_owned() };
        if !path.exists() {
            table.append(HEAD)?;
        }
        Ok(table)
    }

    pub fn cell(&self, ended: &Ended) -> Result<()> {
        let total = ended.operations.total();
        let outcome = match ended.conclusion() {
            Conclusion::Clean => "clean".to_owned(),
            Conclusion::Violation => {
                let broken = ended.verdicts.iter().filter_map(|verdict| verdict.smallest());
                format!(
                    "**VIOLATION** {}",
                    broken.map(|violation| violation.rule.as_str()).collect::<Vec<_>>().join(" ")
                )
            }
            Conclusion::Vacuous => "nothing shown".to_owned(),
        };
        self.append(&format!(
            "| {} | {} | {} | {} | {} | {:.0} | {} | {} | {} | {} | {} | {outcome} | {} |\n",
            utc(),
            ended.workload,
            ended.fault,
            ended.seed,
            ended.nodes,
            ended.took.as_secs_f64(),
            ended.done.spans.len(),
            total.ok,
            total.fail,
            total.info,
            ended.verdicts.len(),
            ended.out.file_name().unwrap_or_default().to_string_lossy(),
        ))
    }

    /// A cell that showed nothing: what was lacking, or how the harness failed.
    pub fn not_done(&self, workload: &str, fault: &str, seed: u64, how: &str, why: &str) -> Result<()> {
        let why: String = why.replace(['\n', '|'], " ").chars().take(200).collect();
        self.append(&format!("| {} | {workload} | {fault} | {seed} | | | | | | | | {how}: {why} | |\n", utc()))
    }

    /// Writes the summary of all lines beside the table, and gives it.
    pub fn summarize(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.path).with_context(|| self.path.display().to_string())?;
        let summary = summary::of(&text);
        let path = self.path.with_extension("summary.md");
        std::fs::write(&path, &summary).with_context(|| path.display().to_string())?;
        Ok(summary)
    }

    fn append(&self, text: &str) -> Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .with_context(|| self.path.display().to_string())?;
        file.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Now, as `2026-11-21 14:03:22`.
pub fn utc() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since 1970 as a date (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
