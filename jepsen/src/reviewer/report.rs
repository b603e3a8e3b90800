//! The report of a reviewer's test: the question, what was done, figures, what was checked, limits, how to do it again.
//!
//! Text and page say the same. Never leaves a violation out.

use std::fmt::Write as _;

use stanchion_proof::check::Standing;

use super::figures::Stretch;
use super::{Shown, Test};
use crate::suite;
use crate::table::utc;

fn outcome(test: &Test, code: u8) -> &'static str {
    match (code, test.shows_nothing) {
        (suite::VIOLATION, _) => "VIOLATION: something that was acknowledged was lost, or was done again",
        (suite::CLEAN, _) => "PASSED: nothing that was acknowledged was lost, and nothing was done again",
        (_, Some(_)) => "NOT SHOWN: there is nothing yet that this test could test",
        _ => "NOT SHOWN: a check had nothing to look at",
    }
}

/// Rows of the table of figures: what, before, during, after.
fn rows(shown: &Shown) -> Vec<[String; 4]> {
    let figures = &shown.figures;
    let row = |what: &str, of: &dyn Fn(&Stretch) -> String| {
        [what.to_owned(), of(&figures.before), of(&figures.during), of(&figures.after)]
    };
    let rate = |count: u64, stretch: &Stretch| format!("{count} ({:.1}/s)", count as f64 / stretch.seconds.max(0.001));
    vec![
        row("seconds", &|s| format!("{:.1}", s.seconds)),
        row("runs started, acknowledged", &|s| rate(s.runs_started, s)),
        row("runs completed", &|s| rate(s.runs_closed, s)),
        row("steps begun by workers", &|s| rate(s.attempts_begun, s)),
        row("of these not a step's first attempt", &|s| s.attempts_again.to_string()),
        row("steps whose acknowledgement the worker saw", &|s| rate(s.steps_acknowledged, s)),
    ]
}

fn after(shown: &Shown) -> Vec<String> {
    let figures = &shown.figures;
    let time = |found: Option<f64>| found.map_or("never".to_owned(), |seconds| format!("after {seconds:.2} s"));
    vec![
        format!(
            "After the fault ended: all nodes served {}, a client's call was acknowledged {}, a worker began a step {}.",
            time(Some(figures.nodes_ready)),
            time(figures.first_call),
            time(figures.first_step)
        ),
        format!(
            "Acknowledged steps that were attempted again after the fault: {}.",
            figures.acknowledged_steps_done_again
        ),
    ]
}

fn checks(shown: &Shown) -> Vec<(String, u64, String)> {
    let said = |verdict: &stanchion_proof::check::Verdict| match verdict.standing() {
        Standing::Holds => "holds".to_owned(),
        Standing::Vacuous => "nothing to look at".to_owned(),
        Standing::Undecided => format!("undecided: {}", verdict.undecided.join("; ")),
        Standing::Violated => {
            let smallest = verdict.smallest().map(|v| format!("{} {} [{}]", v.rule, v.what, v.evidence.join(" | ")));
            format!("VIOLATED {} times: {}", verdict.violations.len(), smallest.unwrap_or_default())
        }
    };
    shown.ended.verdicts.iter().map(|verdict| (verdict.name.clone(), verdict.looked_at, said(verdict))).collect()
}

fn how_to_repeat(test: &Test, seed: u64) -> String {
    format!("stanchion-jepsen reviewer {} --seed {seed}", test.name)
}

pub fn text(test: &Test, shown: &[Shown], seed: u64, code: u8) -> String {
    let mut text = format!(
        "{}\n{}\n\n{}\n\nOutcome: {}\n",
        test.title,
        "=".repeat(test.title.len()),
        test.question,
        outcome(test, code)
    );
    // Writing to a String cannot fail.
    if let Some(why) = test.shows_nothing {
        let _ = writeln!(text, "\n{why}");
    }
    for (at, part) in shown.iter().enumerate() {
        let _ = writeln!(text, "\n{}. {}\n", at + 1, part.what);
        let _ = writeln!(text, "   {:<46}{:>18}{:>18}{:>18}", "", "before", "during", "after");
        for [what, before, during, after] in rows(part) {
            let _ = writeln!(text, "   {what:<46}{before:>18}{during:>18}{after:>18}");
        }
        let _ = writeln!(text);
        for line in after(part) {
            let _ = writeln!(text, "   {line}");
        }
        let _ = writeln!(text, "\n   What was done, in seconds since the start:");
        for (time, what, value) in &part.told {
            let _ = writeln!(text, "   {time:8.2}  {what} {value}");
        }
        let _ = writeln!(text, "\n   What was checked:");
        for (name, looked_at, said) in checks(part) {
            let _ = writeln!(text, "   - {name}: {looked_at} looked at, {said}");
        }
        let _ = writeln!(text, "\n   Evidence: {}", part.ended.out.display());
    }
    let _ = writeln!(text, "\nLimits:");
    for limit in test.limits {
        let _ = writeln!(text, "- {limit}");
    }
    let _ = writeln!(
        text,
        "- Nodes, workers and clients shared one machine and one clock.\n\nRan {} UTC. Again: {}",
        utc(),
        how_to_repeat(test, seed)
    );
    text
}

pub fn html(test: &Test, shown: &[Shown], seed: u64, code: u8) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n\
         <p>{}</p>\n<p class=\"outcome c{code}\">{}</p>\n",
        escaped(test.question),
        escaped(outcome(test, code)),
        title = escaped(test.title)
    );
    if let Some(why) = test.shows_nothing {
        let _ = writeln!(page, "<p>{}</p>", escaped(why));
    }
    for (at, part) in shown.iter().enumerate() {
        let _ = writeln!(
            page,
            "<h2>{}. {}</h2>\n<table><tr><th><th>before<th>during<th>after</tr>",
            at + 1,
            escaped(part.what)
        );
        for [what, before, during, after] in rows(part) {
            let _ = writeln!(
                page,
                "<tr><td>{what}<td class=\"n\">{before}<td class=\"n\">{during}<td class=\"n\">{after}</tr>"
            );
        }
        let _ = writeln!(
            page,
            "</table>\n<p>{}</p>",
            after(part).iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br>")
        );
        let _ = writeln!(page, "<h3>What was checked</h3><table><tr><th>check<th>looked at<th>outcome</tr>");
        for (name, looked_at, said) in checks(part) {
            let _ = writeln!(page, "<tr><td>{}<td class=\"n\">{looked_at}<td>{}</tr>", escaped(&name), escaped(&said));
        }
        let _ =
            writeln!(page, "</table>\n<details><summary>What was done, in seconds since the start</summary><table>");
        for (time, what, value) in &part.told {
            let _ = writeln!(
                page,
                "<tr><td class=\"n\">{time:.2}<td>{}<td><code>{}</code></tr>",
                escaped(what),
                escaped(&value.to_string())
            );
        }
        let name = part.ended.out.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(page, "</table></details>");
        // The pictures stand in the cell's own folder, beside this page.
        for picture in ["rate.svg", "latency-raw.svg"] {
            let _ = writeln!(page, "<p><img src=\"{name}/{picture}\" alt=\"{picture}\"></p>");
        }
        let _ = writeln!(
            page,
            "<p><a href=\"{name}/timeline.html\">timeline</a>, <a href=\"{name}/results.json\">results.json</a></p>"
        );
    }
    let limits: String = test.limits.iter().map(|limit| format!("<li>{}", escaped(limit))).collect();
    let _ = writeln!(
        page,
        "<h2>Limits</h2><ul>{limits}<li>Nodes, workers and clients shared one machine and one clock.</ul>\n\
         <p>Ran {} UTC. Again: <code>{}</code></p>\n</html>",
        utc(),
        escaped(&how_to_repeat(test, seed))
    );
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:.5em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;vertical-align:top}\
.n{text-align:right;white-space:nowrap}.outcome{font-weight:bold;padding:.6em;border-radius:4px}.c0{background:#dff2df}\
.c1{background:#f7d4d4}.c2{background:#f5ecc8}img{max-width:100%}code{font-size:85%;overflow-wrap:anywhere}";
