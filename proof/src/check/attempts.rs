//! Activities, as the workers that ran them wrote it down: one live attempt at most, policies kept, superseded attempts refused, nothing that
//! was acknowledged done again (D1-D6, H1).
//!
//! Two clocks are in the evidence and are never mixed: the test's own, on which lines were noted, and the server's, by which it says when it
//! started an attempt. A line is noted before a request goes out and after an answer came in, so the server acted between the two.
//!
//! ```text
//! test's clock    began n            ended n (sent)   acknowledged n          began n+1
//! server's clock  started_at(n) <=   |- - - - - - - - took it - -|   <=       started_at(n+1)
//! ```
//!
//! Called by workloads whose workers keep a ledger, raw ones as well as an SDK's.

use std::collections::BTreeMap;

use serde_json::Value;
use stanchion_proto::temporal::enums::v1::TimeoutType;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{ActivityTaskScheduledEventAttributes, HistoryEvent};

use super::{Verdict, histories};
use crate::history::{RunHistory, event_time};
use crate::ledger::{Handed, Line, Outcome, What};

/// Run and activity: what has attempts.
type Step<'a> = (&'a str, &'a str);

/// One attempt as it was handed to one worker, and all that this worker did with it.
struct Attempt<'a> {
    number: u32,
    began: &'a Line,
    handed: &'a Handed,
    reports: Vec<Report<'a>>,
    beats: Vec<Beat<'a>>,
}

struct Report<'a> {
    sent: &'a Line,
    outcome: &'a Outcome,
    answer: Answer<'a>,
}

struct Beat<'a> {
    sent: &'a Line,
    details: &'a Value,
    answer: Answer<'a>,
}

#[derive(Clone, Copy)]
enum Answer<'a> {
    Acknowledged(&'a Line),
    Refused,
    Unknown,
}

impl<'a> Answer<'a> {
    fn acknowledged(self) -> Option<&'a Line> {
        match self {
            Answer::Acknowledged(line) => Some(line),
            Answer::Refused | Answer::Unknown => None,
        }
    }
}

impl<'a> Attempt<'a> {
    /// An answer is to what was sent last.
    fn answer_beat(&mut self, answer: Answer<'a>) {
        if let Some(beat) = self.beats.last_mut() {
            beat.answer = answer;
        }
    }

    fn answer_report(&mut self, answer: Answer<'a>) {
        if let Some(report) = self.reports.last_mut() {
            report.answer = answer;
        }
    }

    fn acknowledged(&self) -> impl Iterator<Item = (&'a Line, &'a Line, &'a Outcome)> + '_ {
        self.reports.iter().filter_map(|report| Some((report.sent, report.answer.acknowledged()?, report.outcome)))
    }
}

/// The attempts of each step, in order of their numbers and then of time.
fn steps(lines: &[Line]) -> BTreeMap<Step<'_>, Vec<Attempt<'_>>> {
    let mut steps: BTreeMap<Step<'_>, Vec<Attempt<'_>>> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.activity_id.is_empty()) {
        let attempts = steps.entry((&line.run_id, &line.activity_id)).or_default();
        if let What::Began { handed } = &line.what {
            attempts.push(Attempt {
                number: line.attempt,
                began: line,
                handed,
                reports: Vec::new(),
                beats: Vec::new(),
            });
            continue;
        }
        let same = |attempt: &&mut Attempt<'_>| {
            attempt.number == line.attempt && attempt.began.token == line.token && attempt.began.worker == line.worker
        };
        let Some(attempt) = attempts.iter_mut().rev().find(same) else { continue };
        match &line.what {
            What::Beats { details } => attempt.beats.push(Beat { sent: line, details, answer: Answer::Unknown }),
            What::BeatAcknowledged { .. } => attempt.answer_beat(Answer::Acknowledged(line)),
            What::BeatRefused { .. } => attempt.answer_beat(Answer::Refused),
            What::Ended { outcome } => attempt.reports.push(Report { sent: line, outcome, answer: Answer::Unknown }),
            What::Acknowledged => attempt.answer_report(Answer::Acknowledged(line)),
            What::Refused { .. } => attempt.answer_report(Answer::Refused),
            What::Began { .. }
            | What::Unknown { .. }
            | What::Abandoned
            | What::Decides { .. }
            | What::Decided { .. }
            | What::Nondeterminism { .. } => {}
        }
    }
    for attempts in steps.values_mut() {
        attempts.sort_by_key(|attempt| (attempt.number, attempt.began.at));
    }
    steps
}

/// All that a ledger alone can show.
pub fn ledger(lines: &[Line]) -> Vec<Verdict> {
    let steps = steps(lines);
    vec![
        acknowledged_steps_stay_done(&steps),
        one_live_attempt(&steps),
        superseded_attempts_are_refused(&steps),
        details_are_the_last(&steps),
        handed_out_once(&steps),
    ]
}

/// D1, D2: after an acknowledged result, and after an acknowledged failure that is final, there is no other attempt, ever: it would have made
/// the token of the acknowledged one stale, whenever it began.
fn acknowledged_steps_stay_done(steps: &BTreeMap<Step<'_>, Vec<Attempt<'_>>>) -> Verdict {
    let mut verdict = Verdict::new("acknowledged steps never run again");
    for ((_, activity), attempts) in steps {
        let mut results: Vec<&Line> = Vec::new();
        for attempt in attempts {
            for (_, acknowledged, outcome) in attempt.acknowledged() {
                let rule = match outcome {
                    Outcome::Completed(_) | Outcome::Canceled => "D1",
                    Outcome::Failed { retryable: false, .. } => "D2",
                    Outcome::Failed { retryable: true, .. } => continue,
                };
                verdict.looked_at += 1;
                results.push(acknowledged);
                for later in attempts.iter().filter(|later| later.number > attempt.number) {
                    let what = format!(
                        "activity {activity}: attempt {} though the outcome of attempt {} was acknowledged",
                        later.number, attempt.number
                    );
                    verdict.violate(
                        rule,
                        what,
                        vec![attempt.began.to_string(), acknowledged.to_string(), later.began.to_string()],
                    );
                }
            }
        }
        if results.len() > 1 {
            let evidence = results.iter().map(ToString::to_string).collect();
            verdict.violate(
                "D1",
                format!("activity {activity}: {} outcomes were acknowledged", results.len()),
                evidence,
            );
        }
    }
    verdict
}

/// D3: the next attempt begins only after this one was reported as failed or one of its deadlines passed. That a worker reported a result that
/// was not acknowledged does not end an attempt.
fn one_live_attempt(steps: &BTreeMap<Step<'_>, Vec<Attempt<'_>>>) -> Verdict {
    let mut verdict = Verdict::new("at most one live attempt of a step");
    for ((_, activity), attempts) in steps {
        verdict.looked_at += 1;
        for pair in attempts.windows(2) {
            let [earlier, later] = pair else { continue };
            if earlier.number == later.number {
                continue;
            }
            if let Some(why) = alive(earlier, later) {
                let what = format!(
                    "activity {activity}: attempt {} began while attempt {} was live: {why}",
                    later.number, earlier.number
                );
                let mut evidence = vec![earlier.began.to_string()];
                evidence.extend(earlier.reports.last().map(|report| report.sent.to_string()));
                evidence.push(later.began.to_string());
                verdict.violate("D3", what, evidence);
            }
        }
    }
    verdict
}

/// Why `earlier` was live still when `later` began; none where it was over.
fn alive(earlier: &Attempt<'_>, later: &Attempt<'_>) -> Option<String> {
    // That the later one began first by the workers' own notes proves nothing: a link that was cut may have held back the earlier attempt
    // until long after its deadlines.
    let failed =
        |report: &&Report<'_>| matches!(report.outcome, Outcome::Failed { .. }) && report.sent.at <= later.began.at;
    if earlier.reports.iter().any(|report| failed(&report)) {
        return None;
    }
    // The server's clock for what the server measures from its own start of the attempt.
    let between = later.handed.started_at.saturating_sub(earlier.handed.started_at);
    let Handed { start_to_close, heartbeat, .. } = *earlier.handed;
    if start_to_close > 0 && between >= start_to_close {
        return None;
    }
    if heartbeat > 0 {
        // The test's clock for what it measures from a heartbeat: the server got the last acknowledged one after it was sent.
        let last = earlier.beats.iter().rev().find(|beat| beat.answer.acknowledged().is_some());
        let passed = match last {
            Some(beat) => later.began.at.saturating_sub(beat.sent.at) >= heartbeat.unsigned_abs(),
            None => between >= heartbeat,
        };
        if passed {
            return None;
        }
    }
    let ms = |nanos: i64| nanos / 1_000_000;
    Some(format!(
        "it was started {} ms before, by the server's clock, with {} ms from start to close and {} ms between heartbeats",
        ms(between),
        ms(start_to_close),
        ms(heartbeat)
    ))
}

/// D4: what was sent for an attempt after a later one had begun is refused.
fn superseded_attempts_are_refused(steps: &BTreeMap<Step<'_>, Vec<Attempt<'_>>>) -> Verdict {
    let mut verdict = Verdict::new("superseded attempts are refused");
    for ((_, activity), attempts) in steps {
        for earlier in attempts {
            let reports = earlier.reports.iter().map(|report| (report.sent, report.answer));
            let sent: Vec<_> = reports.chain(earlier.beats.iter().map(|beat| (beat.sent, beat.answer))).collect();
            // Whoever has not one superseded attempt has nothing to refuse: each request is looked at all the same.
            verdict.looked_at += sent.len() as u64;
            let Some(later) =
                attempts.iter().filter(|later| later.number > earlier.number).min_by_key(|later| later.began.at)
            else {
                continue;
            };
            for (sent, answer) in sent {
                if let Some(acknowledged) = answer.acknowledged().filter(|_| sent.at > later.began.at) {
                    let what = format!(
                        "activity {activity}: attempt {} was heard after attempt {} had begun",
                        earlier.number, later.number
                    );
                    verdict.violate(
                        "D4",
                        what,
                        vec![later.began.to_string(), sent.to_string(), acknowledged.to_string()],
                    );
                }
            }
        }
    }
    verdict
}

/// D5: an attempt is given the details of the last acknowledged heartbeat, or those of one of unknown outcome that was sent after it.
fn details_are_the_last(steps: &BTreeMap<Step<'_>, Vec<Attempt<'_>>>) -> Verdict {
    let mut verdict = Verdict::new("heartbeat details are the last acknowledged ones");
    for ((_, activity), attempts) in steps {
        for later in attempts {
            let mut beats: Vec<&Beat<'_>> = attempts
                .iter()
                .filter(|earlier| earlier.number < later.number)
                .flat_map(|earlier| &earlier.beats)
                .filter(|beat| beat.sent.at < later.began.at && !matches!(beat.answer, Answer::Refused))
                .collect();
            beats.sort_by_key(|beat| beat.sent.at);
            let last = beats.iter().rposition(|beat| beat.answer.acknowledged().is_some());
            let possible = &beats[last.unwrap_or(0)..];
            verdict.looked_at += 1;
            let given = &later.handed.details;
            let fits = (last.is_none() && given.is_null()) || possible.iter().any(|beat| beat.details == given);
            if !fits {
                let what = format!("activity {activity}: attempt {} was given the details {given}", later.number);
                let mut evidence: Vec<String> = possible.iter().map(|beat| beat.sent.to_string()).collect();
                evidence.push(later.began.to_string());
                verdict.violate("D5", what, evidence);
            }
        }
    }
    verdict
}

/// H1: an attempt goes to one worker, once.
fn handed_out_once(steps: &BTreeMap<Step<'_>, Vec<Attempt<'_>>>) -> Verdict {
    let mut verdict = Verdict::new("each attempt is handed out once");
    for ((_, activity), attempts) in steps {
        verdict.looked_at += attempts.len() as u64;
        for pair in attempts.windows(2) {
            if let [first, second] = pair
                && first.number == second.number
            {
                let what = format!("activity {activity}: attempt {} was handed out twice", first.number);
                verdict.violate("H1", what, vec![first.began.to_string(), second.began.to_string()]);
            }
        }
    }
    verdict
}

/// An activity as a history tells it.
#[derive(Default)]
struct Told<'a> {
    scheduled: Option<(&'a HistoryEvent, &'a ActivityTaskScheduledEventAttributes)>,
    started: Option<(&'a HistoryEvent, u32)>,
    ended: Option<&'a HistoryEvent>,
}

/// By the scheduled event's id.
fn told(history: &RunHistory) -> BTreeMap<i64, Told<'_>> {
    let mut found: BTreeMap<i64, Told<'_>> = BTreeMap::new();
    for event in &history.events {
        let ended = match &event.attributes {
            Some(Attributes::ActivityTaskScheduledEventAttributes(a)) => {
                found.entry(event.event_id).or_default().scheduled = Some((event, a));
                continue;
            }
            Some(Attributes::ActivityTaskStartedEventAttributes(a)) => {
                found.entry(a.scheduled_event_id).or_default().started = Some((event, a.attempt.unsigned_abs()));
                continue;
            }
            Some(Attributes::ActivityTaskCompletedEventAttributes(a)) => a.scheduled_event_id,
            Some(Attributes::ActivityTaskFailedEventAttributes(a)) => a.scheduled_event_id,
            Some(Attributes::ActivityTaskTimedOutEventAttributes(a)) => a.scheduled_event_id,
            Some(Attributes::ActivityTaskCanceledEventAttributes(a)) => a.scheduled_event_id,
            _ => continue,
        };
        found.entry(ended).or_default().ended = Some(event);
    }
    found
}

/// D1: an acknowledged outcome that is final is in the history, of that very attempt; and what the history has was reported by a worker.
/// Only for runs whose workers all keep this ledger.
pub fn ledger_matches_histories(lines: &[Line], histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("acknowledged outcomes are in the histories");
    let steps = steps(lines);
    let runs: BTreeMap<&str, &RunHistory> =
        histories.iter().map(|history| (history.run_id.as_str(), history)).collect();
    let told: BTreeMap<&str, BTreeMap<i64, Told<'_>>> =
        runs.iter().map(|(run, history)| (*run, told(history))).collect();
    let by_activity = |run: &str, activity: &str| {
        let named = |told: &&Told<'_>| told.scheduled.is_some_and(|(_, scheduled)| scheduled.activity_id == activity);
        told.get(run).and_then(|steps| steps.values().find(named))
    };
    for ((run, activity), attempts) in &steps {
        for attempt in attempts {
            for (sent, acknowledged, outcome) in attempt.acknowledged() {
                if matches!(outcome, Outcome::Failed { retryable: true, .. }) {
                    continue;
                }
                verdict.looked_at += 1;
                let ended = by_activity(run, activity).and_then(|told| Some((told.ended?, told.started?.1)));
                let what = match ended {
                    None if !runs.contains_key(run) => "the history of the run could not be read".to_owned(),
                    None => "its history has no outcome of it".to_owned(),
                    Some((_, number)) if number != attempt.number => {
                        format!("its history has an outcome of attempt {number}")
                    }
                    Some((event, _)) if !same_outcome(event, outcome) => {
                        format!("its history has {}", histories::show(event))
                    }
                    Some(_) => continue,
                };
                let what = format!(
                    "activity {activity}: an outcome of attempt {} was acknowledged, and {what}",
                    attempt.number
                );
                verdict.violate("D1", what, vec![sent.to_string(), acknowledged.to_string()]);
            }
        }
    }
    for (run, steps_told) in &told {
        for told in steps_told.values() {
            let (Some((_, scheduled)), Some((_, number)), Some(ended)) = (told.scheduled, told.started, told.ended)
            else {
                continue;
            };
            if !matches!(ended.attributes, Some(Attributes::ActivityTaskCompletedEventAttributes(_))) {
                continue;
            }
            let attempts = steps.get(&(*run, scheduled.activity_id.as_str())).map(Vec::as_slice).unwrap_or_default();
            let reported = |attempt: &Attempt<'_>| {
                attempt.number == number && attempt.reports.iter().any(|report| same_outcome(ended, report.outcome))
            };
            if !attempts.iter().any(reported) {
                let what = format!(
                    "activity {}: its history has a result of attempt {number} that no worker reported",
                    scheduled.activity_id
                );
                verdict.violate("D1", what, vec![histories::show(ended)]);
            }
        }
    }
    verdict
}

/// Whether an event records what a worker reported: the kind of it, and of results the value, where it is JSON.
fn same_outcome(event: &HistoryEvent, outcome: &Outcome) -> bool {
    match (&event.attributes, outcome) {
        (Some(Attributes::ActivityTaskCompletedEventAttributes(a)), Outcome::Completed(value)) => {
            let recorded = a.result.as_ref().and_then(|payloads| payloads.payloads.first());
            recorded.is_none_or(|payload| {
                serde_json::from_slice::<Value>(&payload.data).is_ok_and(|recorded| recorded == *value)
            })
        }
        (Some(Attributes::ActivityTaskFailedEventAttributes(_)), Outcome::Failed { .. }) => true,
        (Some(Attributes::ActivityTaskCanceledEventAttributes(_)), Outcome::Canceled) => true,
        _ => false,
    }
}

/// D2: no more attempts than the policy allows, and none earlier than its back-off after the failure of the one before.
pub fn policies(lines: &[Line], histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("attempts keep the retry policy");
    let steps = steps(lines);
    for history in histories {
        for told in told(history).values() {
            let Some((_, scheduled)) = told.scheduled else { continue };
            let Some(policy) = &scheduled.retry_policy else { continue };
            let activity = &scheduled.activity_id;
            let attempts_max = policy.maximum_attempts.unsigned_abs();
            if let Some((started, number)) = told.started {
                verdict.looked_at += 1;
                if attempts_max > 0 && number > attempts_max {
                    verdict.violate(
                        "D2",
                        format!("activity {activity}: attempt {number} of {attempts_max}"),
                        vec![histories::show(started)],
                    );
                }
            }
            let attempts =
                steps.get(&(history.run_id.as_str(), activity.as_str())).map(Vec::as_slice).unwrap_or_default();
            for attempt in attempts.iter().filter(|attempt| attempts_max > 0 && attempt.number > attempts_max) {
                let what = format!("activity {activity}: attempt {} of {attempts_max}", attempt.number);
                verdict.violate("D2", what, vec![attempt.began.to_string()]);
            }
            for pair in attempts.windows(2) {
                let [earlier, later] = pair else { continue };
                // A failure that was not acknowledged may have been a time-out instead, at an earlier time.
                let failed = earlier.acknowledged().find(|(.., outcome)| matches!(outcome, Outcome::Failed { .. }));
                let Some((sent, acknowledged, _)) = failed else { continue };
                verdict.looked_at += 1;
                let back_off = back_off(policy, earlier.number);
                if later.began.at < sent.at.saturating_add(back_off) {
                    let what = format!(
                        "activity {activity}: attempt {} began {} ms after attempt {} was reported as failed, and the back-off is {} ms",
                        later.number,
                        (later.began.at - sent.at.min(later.began.at)) / 1_000_000,
                        earlier.number,
                        back_off / 1_000_000
                    );
                    verdict.violate(
                        "D2",
                        what,
                        vec![sent.to_string(), acknowledged.to_string(), later.began.to_string()],
                    );
                }
            }
        }
    }
    verdict
}

/// What the policy wants between the failure of an attempt and the start of the next, in nanoseconds, less a millisecond for roundings.
fn back_off(policy: &stanchion_proto::temporal::common::v1::RetryPolicy, attempt: u32) -> u64 {
    let first = nanos(policy.initial_interval.as_ref()) as f64;
    let coefficient = if policy.backoff_coefficient >= 1.0 { policy.backoff_coefficient } else { 2.0 };
    let grown = first * coefficient.powi(attempt.saturating_sub(1).min(1_000) as i32);
    let interval_max = nanos(policy.maximum_interval.as_ref());
    // Without a maximum of its own a policy has one of a hundred times the first interval.
    let interval_max = if interval_max > 0 { interval_max as f64 } else { first * 100.0 };
    (grown.min(interval_max) as u64).saturating_sub(1_000_000)
}

fn nanos(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(d.nanos)))
}

/// D6: no time-out before its time, by the server's own clock. One for the whole of an activity may be told early, when there is no time
/// left for another attempt, and is not looked at.
pub fn timeouts(histories: &[RunHistory]) -> Verdict {
    let mut verdict = Verdict::new("time-outs of activities are never early");
    for history in histories {
        for told in told(history).values() {
            let (Some((opened, scheduled)), Some(ended)) = (told.scheduled, told.ended) else { continue };
            let Some(Attributes::ActivityTaskTimedOutEventAttributes(a)) = &ended.attributes else { continue };
            let Some(FailureInfo::TimeoutFailureInfo(info)) =
                a.failure.as_ref().and_then(|failure| failure.failure_info.as_ref())
            else {
                continue;
            };
            let since_start = told.started.map(|(started, _)| event_time(ended) - event_time(started));
            let (passed, at_least) = match info.timeout_type() {
                TimeoutType::StartToClose => (since_start, nanos(scheduled.start_to_close_timeout.as_ref())),
                TimeoutType::Heartbeat => (since_start, nanos(scheduled.heartbeat_timeout.as_ref())),
                TimeoutType::ScheduleToStart => {
                    (Some(event_time(ended) - event_time(opened)), nanos(scheduled.schedule_to_start_timeout.as_ref()))
                }
                TimeoutType::ScheduleToClose | TimeoutType::Unspecified => continue,
            };
            let Some(passed) = passed else { continue };
            verdict.looked_at += 1;
            if passed < at_least {
                let what = format!(
                    "activity {} timed out ({:?}) after {} of {} ms",
                    scheduled.activity_id,
                    info.timeout_type(),
                    passed / 1_000_000,
                    at_least / 1_000_000
                );
                verdict.violate("D6", what, vec![histories::show(opened), histories::show(ended)]);
            }
        }
    }
    verdict
}
