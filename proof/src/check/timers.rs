//! Time: timers and schedules. Never early, always, once (F1-F4).
//!
//! Called by workloads that wait. That a timer fires once and not before its time by the server's own clock is judged with the histories
//! (`histories::rules`); here the test's own clock judges, which no fault of a node's clock moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Verdict;
use crate::history::{RunHistory, event_time};
use crate::journal::{Completion, Operation};
use crate::ledger::{Line, What};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

/// A group's clock may gain one part in so many on real time (`docs/decisions/12-shard-clock.md`): as much as two clocks that are right differ.
const GAIN: u64 = 2000;

/// When a timer that was asked for at `asked` may fire at the earliest.
fn due(asked: u64, wait: u64) -> u64 {
    asked.saturating_add(wait - wait / GAIN)
}

/// F1, F2: each operation `timer` was invoked before its timer was asked for, with `{"ms": duration}`, and is acknowledged when it was seen to
/// have fired. It must not be seen before its time, and must be seen at most `late_max` nanoseconds after it was due or `healed`
/// (nanoseconds since the start of the test), whichever is later. One that failed was certainly never started; one of unknown outcome may
/// never have been, and is only forbidden to be early.
pub fn timers(operations: &[Operation], healed: u64, late_max: u64) -> Verdict {
    let mut verdict = Verdict::new("timers fire, and never early");
    for operation in operations.iter().filter(|operation| operation.f == "timer") {
        let Some(ms) = operation.input.get("ms").and_then(Value::as_u64) else {
            verdict.undecided.push(format!("[{}] does not say how long the timer is", operation.index));
            continue;
        };
        let due = due(operation.invoked, ms.saturating_mul(1_000_000));
        let (rule, what) = match &operation.completion {
            Completion::Ok { at, .. } => {
                verdict.looked_at += 1;
                if *at < due {
                    ("F1", format!("a timer of {ms} ms was seen to have fired {} ms early", (due - at) / 1_000_000))
                } else if *at > due.max(healed).saturating_add(late_max) {
                    let late = (at - due.max(healed)) / 1_000_000;
                    ("F2", format!("a timer of {ms} ms fired {late} ms after it was due and all was healed"))
                } else {
                    continue;
                }
            }
            Completion::Pending => ("F2", format!("a timer of {ms} ms never fired")),
            Completion::Fail { .. } | Completion::Info { .. } => continue,
        };
        verdict.violate(rule, format!("{}: {what}", operation.key), vec![operation.to_string()]);
    }
    verdict
}

/// F1, by the clock of the test: what `timers` is for journals, for any run that the ledger's workers decided on. A timer was asked for after
/// its task was handed out, and had fired before the task that shows it was.
pub fn never_early(lines: &[Line], histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("timers never fire early, by the test's clock");
    let mut handed: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for line in lines {
        if let What::Decides { started_event_id } = line.what {
            // The first time is the earliest at which its commands can have been sent, and at which its events can have been seen.
            handed.entry((&line.run_id, started_event_id)).or_insert(line.at);
        }
    }
    for history in histories {
        let handed_out = |started: i64| handed.get(&(history.run_id.as_str(), started)).copied();
        let mut asked: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        let mut fired: Vec<&HistoryEvent> = Vec::new();
        let mut completed: BTreeMap<i64, i64> = BTreeMap::new();
        for event in &history.events {
            match &event.attributes {
                Some(Attributes::WorkflowTaskCompletedEventAttributes(task)) => {
                    completed.insert(event.event_id, task.started_event_id);
                }
                Some(Attributes::TimerStartedEventAttributes(timer)) => {
                    let started = completed.get(&timer.workflow_task_completed_event_id);
                    if let Some(at) = started.and_then(|started| handed_out(*started)) {
                        let wait = timer.start_to_fire_timeout.and_then(|wait| Duration::try_from(wait).ok());
                        let wait = u64::try_from(wait.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
                        asked.insert(event.event_id, (at, wait));
                    }
                }
                Some(Attributes::TimerFiredEventAttributes(_)) => fired.push(event),
                Some(Attributes::WorkflowTaskStartedEventAttributes(_)) => {
                    let Some(seen) = handed_out(event.event_id) else { continue };
                    for firing in fired.drain(..) {
                        let Some(Attributes::TimerFiredEventAttributes(timer)) = &firing.attributes else { continue };
                        let Some((at, wait)) = asked.get(&timer.started_event_id) else { continue };
                        verdict.looked_at += 1;
                        let due = due(*at, *wait);
                        if seen < due {
                            let (early, wait) = ((due - seen) / 1_000_000, wait / 1_000_000);
                            verdict.violate(
                                "F1",
                                format!(
                                    "workflow {}, run {}: a timer of {wait} ms was seen {early} ms early",
                                    history.workflow_id, history.run_id
                                ),
                                vec![super::histories::show(firing), super::histories::show(event)],
                            );
                        }
                    }
                }
                _ => {}
            }
        }
    }
    verdict
}

/// A schedule of one interval, as it was asked for. Times in nanoseconds since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub id: String,
    pub interval: i64,
    /// From when on it was certainly there: its creation was acknowledged.
    pub from: i64,
    /// Until when it was certainly there: its deletion or pause was asked for.
    pub until: i64,
    /// Before its creation was asked for, and after its end was acknowledged, nothing is due.
    pub not_before: i64,
    pub not_after: i64,
}

/// A run that a schedule started.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub schedule_id: String,
    pub workflow_id: String,
    pub run_id: String,
    /// The time for which it was meant, and the time at which it began.
    pub nominal: i64,
    pub started: i64,
}

impl Action {
    fn show(&self) -> String {
        let Self { workflow_id, run_id, nominal, started, .. } = self;
        format!("workflow {workflow_id}, run {run_id}, for {nominal}, started at {started}")
    }
}

/// F3: with overlaps allowed and a catch-up window longer than any outage, the actions are those of the spec: each time of it once, none
/// between, none early. Times near the schedule's creation and end may be there or not.
pub fn schedules(schedules: &[Schedule], actions: &[Action]) -> Verdict {
    let mut verdict = Verdict::new("schedules act at each time of their spec, once");
    let mut by_schedule: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
    for action in actions {
        by_schedule.entry(&action.schedule_id).or_default().push(action);
    }
    for Schedule { id, interval, from, until, not_before, not_after } in schedules {
        let mut seen: BTreeMap<i64, &Action> = BTreeMap::new();
        for action in by_schedule.remove(id.as_str()).unwrap_or_default() {
            verdict.looked_at += 1;
            let mut broken = |what: String, evidence| verdict.violate("F3", format!("schedule {id}: {what}"), evidence);
            if let Some(other) = seen.insert(action.nominal, action) {
                broken("two actions for one time".into(), vec![other.show(), action.show()]);
            }
            if action.nominal.rem_euclid(*interval) != 0 {
                broken("an action for a time that the spec does not have".into(), vec![action.show()]);
            }
            if action.nominal < *not_before || action.nominal > *not_after {
                broken("an action for a time at which there was no schedule".into(), vec![action.show()]);
            }
            if action.started < action.nominal {
                broken("an action before its time".into(), vec![action.show()]);
            }
        }
        let due = |time: &i64| time <= until;
        let first = from.div_euclid(*interval).saturating_add(1).saturating_mul(*interval);
        for time in std::iter::successors(Some(first), |time| time.checked_add(*interval)).take_while(due) {
            verdict.looked_at += 1;
            if !seen.contains_key(&time) {
                let neighbours = seen.range(..time).next_back().into_iter().chain(seen.range(time..).next());
                let evidence = neighbours.map(|(_, action)| action.show()).collect();
                verdict.violate("F3", format!("schedule {id}: no action for {time}"), evidence);
            }
        }
    }
    for (id, actions) in by_schedule {
        let evidence = actions.first().map(|action| action.show()).into_iter().collect();
        verdict.violate("F3", format!("schedule {id} acted, and nobody created it"), evidence);
    }
    verdict
}

/// F2, by the server's clock: no timer of an open run is overdue by more than `late_max` nanoseconds at `now` (since the epoch).
pub fn none_overdue(histories: &[RunHistory], now: i64, late_max: i64) -> Verdict {
    let mut verdict = Verdict::new("no timer is overdue");
    for RunHistory { workflow_id, run_id, events } in histories {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        let mut started: BTreeSet<i64> = BTreeSet::new();
        for event in events {
            match &event.attributes {
                Some(Attributes::TimerStartedEventAttributes(a)) => {
                    let wait = a.start_to_fire_timeout.unwrap_or_default();
                    let wait = wait.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(wait.nanos));
                    open.insert(event.event_id, event_time(event).saturating_add(wait));
                    started.insert(event.event_id);
                }
                Some(Attributes::TimerFiredEventAttributes(a)) => {
                    open.remove(&a.started_event_id);
                }
                Some(Attributes::TimerCanceledEventAttributes(a)) => {
                    open.remove(&a.started_event_id);
                }
                _ if super::histories::closes(event) => open.clear(),
                _ => {}
            }
        }
        verdict.looked_at += started.len() as u64;
        for (event, due) in open.into_iter().filter(|(_, due)| due.saturating_add(late_max) < now) {
            let what = format!(
                "{workflow_id}, run {run_id}: the timer of event {event} is overdue by {} ms",
                (now - due) / 1_000_000
            );
            verdict.violate("F2", what, Vec::new());
        }
    }
    verdict
}
