//! Activities: they end as the model allows, with what workers were acknowledged, and not before their time.

use std::collections::BTreeMap;

use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::scene::{Scene, line};
use crate::check::Verdict;
use crate::history::event_time;
use crate::ledger::{self, Line, What};
use crate::program::commands::{BACKOFF_MAX_MS, BACKOFF_PERCENT};
use crate::program::model::activity_allows;
use crate::program::{Activity, Machine, Op, Outcome, Told, cleanup};

/// What a history tells of one activity.
#[derive(Default)]
struct Course<'a> {
    scheduled: Option<&'a HistoryEvent>,
    started: Option<&'a HistoryEvent>,
    attempt: u32,
    canceled: bool,
    ended: Option<&'a HistoryEvent>,
}

pub fn check(scene: &Scene<'_>, ledger: &[Line]) -> Verdict {
    let mut verdict = Verdict::new("programs: activities");
    for run in scene.runs.values() {
        // A history that no program makes is reported where histories are replayed.
        let Ok(machine) = &run.machine else { continue };
        for (path, course) in courses(&run.history.events) {
            let Some(activity) = activity_at(machine, &path) else { continue };
            verdict.looked_at += 1;
            let shown = || {
                let events = [course.scheduled, course.started, course.ended].into_iter().flatten().map(line);
                events.chain(scene.evidence.lines(&run.history.run_id, &path)).collect()
            };
            let Some(Told::Activity { ended: Some(outcome), .. }) = machine.ops.get(&path) else {
                continue;
            };
            let (run_id, attempt) = (&run.history.run_id, course.attempt);
            let allowed = activity_allows(&scene.evidence, run_id, &path, &activity, attempt, course.canceled, outcome);
            if let Err(why) = allowed {
                let what = format!("{run}: activity {path} ended as {outcome:?} with attempt {attempt}: {why}");
                verdict.violate("D1", what, shown());
            }
            if let Err(why) = not_early(&activity, &course, outcome) {
                verdict.violate("D6", format!("{run}: activity {path}: {why}"), shown());
            }
        }
    }
    results(scene, ledger, &mut verdict);
    verdict
}

/// What a worker was acknowledged is in the history.
fn results(scene: &Scene<'_>, ledger: &[Line], verdict: &mut Verdict) {
    let mut ended: BTreeMap<(&str, &str), &ledger::Outcome> = BTreeMap::new();
    for line in ledger.iter().filter(|line| !line.activity_id.is_empty()) {
        let whose = (&*line.worker, &*line.token);
        match &line.what {
            What::Ended { outcome } => drop(ended.insert(whose, outcome)),
            What::Acknowledged => {
                let Some(ledger::Outcome::Completed(value)) = ended.get(&whose) else { continue };
                let Some(run) = scene.runs.get(&*line.run_id) else {
                    if line.workflow_id.starts_with(&scene.load.prefix()) {
                        let what = format!("run {} took a result, and is in no history", line.run_id);
                        verdict.violate("D1", what, vec![line.to_string()]);
                    }
                    continue;
                };
                verdict.looked_at += 1;
                let Ok(machine) = &run.machine else { continue };
                let is = machine.ops.get(&line.activity_id);
                let as_said =
                    matches!(is, Some(Told::Activity { ended: Some(Outcome::Completed(is)), .. }) if is == value);
                if !as_said {
                    let what = format!(
                        "{run}: activity {} was acknowledged to complete with {value}, and is {is:?}",
                        line.activity_id
                    );
                    verdict.violate("D1", what, scene.evidence.lines(&line.run_id, &line.activity_id));
                }
            }
            _ => {}
        }
    }
}

fn activity_at(machine: &Machine, path: &str) -> Option<Activity> {
    match machine.program().op(path) {
        Some(Op::Activity(activity)) => Some(activity.clone()),
        None if path == "cleanup" => Some(cleanup()),
        _ => None,
    }
}

fn courses(events: &[HistoryEvent]) -> BTreeMap<String, Course<'_>> {
    use Attributes::*;
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    let mut courses: BTreeMap<String, Course<'_>> = BTreeMap::new();
    for event in events {
        let Some(attributes) = &event.attributes else { continue };
        let scheduled = match attributes {
            ActivityTaskScheduledEventAttributes(a) => {
                names.insert(event.event_id, a.activity_id.clone());
                event.event_id
            }
            ActivityTaskStartedEventAttributes(a) => a.scheduled_event_id,
            ActivityTaskCancelRequestedEventAttributes(a) => a.scheduled_event_id,
            ActivityTaskCompletedEventAttributes(a) => a.scheduled_event_id,
            ActivityTaskFailedEventAttributes(a) => a.scheduled_event_id,
            ActivityTaskTimedOutEventAttributes(a) => a.scheduled_event_id,
            ActivityTaskCanceledEventAttributes(a) => a.scheduled_event_id,
            _ => continue,
        };
        let Some(name) = names.get(&scheduled) else { continue };
        let course = courses.entry(name.clone()).or_default();
        match attributes {
            ActivityTaskScheduledEventAttributes(_) => course.scheduled = Some(event),
            ActivityTaskStartedEventAttributes(a) => {
                course.started = Some(event);
                course.attempt = u32::try_from(a.attempt).unwrap_or_default();
            }
            ActivityTaskCancelRequestedEventAttributes(_) => course.canceled = true,
            _ => course.ended = Some(event),
        }
    }
    courses
}

fn not_early(activity: &Activity, course: &Course<'_>, outcome: &Outcome) -> Result<(), String> {
    let Outcome::TimedOut(kind) = outcome else { return Ok(()) };
    let Some(ended) = course.ended else { return Ok(()) };
    let (since, within_ms) = match kind.as_str() {
        "TIMEOUT_TYPE_START_TO_CLOSE" => (course.started, activity.start_to_close_ms),
        "TIMEOUT_TYPE_HEARTBEAT" => (course.started, activity.heartbeat_ms),
        "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE" | "TIMEOUT_TYPE_SCHEDULE_TO_START" => {
            (course.scheduled, activity.schedule_to_close_ms)
        }
        other => return Err(format!("it has no time-out {other}")),
    };
    let Some(since) = since else { return Err(format!("{kind} of what never started")) };
    let took = event_time(ended) - event_time(since);
    // Where the next attempt would begin past the end, there is no waiting for it: Temporal gives up at once, and calls it a time-out.
    let given_up = if kind == "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE" { backoff_ms(activity, course.attempt) } else { 0 };
    if took >= within_ms.saturating_sub(given_up) as i64 * 1_000_000 {
        return Ok(());
    }
    Err(format!("{kind} after {took} ns, and it had {within_ms} ms"))
}

/// How long the attempt after this one has to wait.
fn backoff_ms(activity: &Activity, attempt: u32) -> u64 {
    let grown = (1..attempt).fold(activity.backoff_ms, |wait, _| wait * BACKOFF_PERCENT / 100);
    grown.min(BACKOFF_MAX_MS)
}
