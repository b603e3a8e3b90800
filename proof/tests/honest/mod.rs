//! An honest server in a page: plays generated programs to their end and leaves the evidence that a faultless server would. Tests then
//! falsify one thing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost_types::Timestamp;
use serde_json::json;
use stanchion_proof::check::Verdict;
use stanchion_proof::drive::{self, Load};
use stanchion_proof::history::RunHistory;
use stanchion_proof::journal::Journal;
use stanchion_proof::ledger::{self, Ledger, Line, What};
use stanchion_proof::program::commands::{ActivityInput, attempt_ends, failure, payloads};
use stanchion_proof::program::{
    Activity, Child, Close, Input, Issue, Reply, Report, Update, child_workflow_id, parent_signal, replay,
};
use stanchion_proto::temporal::common::v1::{Payloads, WorkflowExecution};
use stanchion_proto::temporal::enums::v1::{EventType, TimeoutType};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{Failure, TimeoutFailureInfo};
use stanchion_proto::temporal::history::v1::history_event::Attributes as A;
use stanchion_proto::temporal::history::v1::*;
use stanchion_proto::temporal::update::v1 as update;

/// One load of one program, played.
pub struct Evidence {
    pub load: Load,
    pub journal: Journal,
    pub ledger: Vec<Line>,
    pub runs: Vec<RunHistory>,
}

/// How a run ended, for its parent.
enum End {
    Completed(Report),
    Failed,
}

struct Player {
    runs: Vec<RunHistory>,
    ledger: Ledger,
    clock: i64,
}

/// The program of a seed, with the signals that it waits for and one update.
pub fn play(seed: u64) -> Evidence {
    let mut load = Load::new(seed, "default");
    load.programs = 1;
    let ticks = Arc::new(AtomicU64::new(0));
    let now = {
        let ticks = Arc::clone(&ticks);
        move || ticks.fetch_add(1_000_000, Ordering::Relaxed)
    };
    let journal = Journal::new(now.clone());
    let mut player = Player { runs: Vec::new(), ledger: Ledger::new(now), clock: 1_000_000_000_000 };
    let (id, program) = (load.workflow_id(0), load.program(0));
    let signals: Vec<i64> = (1..=i64::from(program.signals_needed()) + 1).map(|n| 1_000_000 + n).collect();
    let asked = Update {
        id: "0-1".into(),
        message_id: "0-1/request".into(),
        sequencing_event_id: 0,
        request: update::Request {
            meta: Some(update::Meta { update_id: "0-1".into(), identity: "client-0".into() }),
            input: Some(update::Input { name: "append".into(), args: Some(payloads(&7)), header: None }),
            ..Default::default()
        },
    };
    let input = Input { program, chain: 0, carried: Default::default() };
    player.chain(&id, input, None, &signals, &[asked]);

    let run_id = player.runs.iter().find(|run| run.workflow_id == id && is_first(run)).expect("a run").run_id.clone();
    let op = journal.invoke(0, "start", &id, json!({}));
    journal.ok(op, json!({ "run_id": run_id }));
    for number in &signals {
        let op = journal.invoke(0, "signal", &id, json!(number));
        journal.ok(op, json!(number));
    }
    let asked = json!({ "id": "0-1", "name": "append", "arg": 7 });
    let op = journal.invoke(0, "update", &id, asked);
    journal.ok(op, json!({ "id": "0-1", "name": "append", "arg": 7, "answer": 1 }));
    let op = journal.invoke(0, "query", &id, json!(null));
    journal.ok(op, json!({ "signals": signals, "log": [7] }));
    Evidence { load, journal, ledger: player.ledger.lines(), runs: player.runs }
}

impl Evidence {
    pub fn judge(&self) -> Vec<Verdict> {
        let ledger = Ledger::new(|| 0);
        self.ledger.iter().cloned().for_each(|line| ledger.note(line));
        drive::judge(&self.load, &self.journal, &ledger, &self.runs)
    }

    /// The rules that are found broken.
    pub fn broken(&self) -> Vec<String> {
        let mut rules: Vec<String> =
            self.judge().into_iter().flat_map(|verdict| verdict.violations).map(|violation| violation.rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }

    pub fn workflow_id(&self) -> String {
        self.load.workflow_id(0)
    }
}

pub fn is_first(run: &RunHistory) -> bool {
    matches!(
        &run.events[0].attributes,
        Some(A::WorkflowExecutionStartedEventAttributes(a)) if a.continued_execution_run_id.is_empty()
    )
}

impl Player {
    /// Plays a workflow's runs to the end of the last.
    fn chain(
        &mut self,
        id: &str,
        input: Input,
        parent: Option<(String, String, i64)>,
        signals: &[i64],
        updates: &[Update],
    ) -> (String, End) {
        let (mut input, mut continued, mut first) = (input, String::new(), None);
        let (mut signals, mut updates) = (signals, updates);
        loop {
            let run_id = format!("run-{}-{}", id, input.chain);
            let first_run = first.get_or_insert_with(|| run_id.clone()).clone();
            let close = self.run(id, &run_id, &first_run, &input, &continued, parent.as_ref(), signals, updates);
            (signals, updates) = (&[], &[]);
            match close {
                Close::ContinuedAsNew(next) => {
                    input = *next;
                    continued = run_id;
                }
                Close::Completed(report) => return (first_run, End::Completed(report)),
                Close::Failed(_) | Close::Canceled(_) => return (first_run, End::Failed),
            }
        }
    }

    fn run(
        &mut self,
        id: &str,
        run_id: &str,
        first_run: &str,
        input: &Input,
        continued: &str,
        parent: Option<&(String, String, i64)>,
        signals: &[i64],
        updates: &[Update],
    ) -> Close {
        let mut events = Vec::new();
        let parent_run = parent.map(|(id, run, _)| WorkflowExecution { workflow_id: id.clone(), run_id: run.clone() });
        self.push(
            &mut events,
            A::WorkflowExecutionStartedEventAttributes(WorkflowExecutionStartedEventAttributes {
                input: Some(payloads(input)),
                continued_execution_run_id: continued.to_owned(),
                original_execution_run_id: run_id.to_owned(),
                first_execution_run_id: first_run.to_owned(),
                parent_workflow_execution: parent_run,
                parent_initiated_event_id: parent.map_or(0, |(_, _, initiated)| *initiated),
                ..Default::default()
            }),
        );
        for number in signals {
            let signal =
                WorkflowExecutionSignaledEventAttributes { input: Some(payloads(number)), ..Default::default() };
            self.push(&mut events, A::WorkflowExecutionSignaledEventAttributes(signal));
        }
        let mut updates = updates;
        loop {
            self.push(&mut events, A::WorkflowTaskScheduledEventAttributes(Default::default()));
            self.push(&mut events, A::WorkflowTaskStartedEventAttributes(Default::default()));
            let mut machine = replay(id, &events).expect("an honest history");
            let issues = machine.decide(updates);
            updates = &[];
            self.push(&mut events, A::WorkflowTaskCompletedEventAttributes(Default::default()));
            let mut happens = Vec::new();
            for issue in issues {
                if let Some(close) = self.carry_out(id, run_id, input.chain, &mut events, issue, &mut happens) {
                    self.runs.push(RunHistory { workflow_id: id.to_owned(), run_id: run_id.to_owned(), events });
                    return close;
                }
            }
            assert!(!happens.is_empty(), "{id} waits for nothing: {:?}", machine.ops);
            for (wait, attributes) in happens {
                self.clock += wait;
                self.push(&mut events, attributes);
            }
        }
    }

    /// Makes the event of what a task did, and says what comes of it.
    fn carry_out(
        &mut self,
        id: &str,
        run_id: &str,
        chain: u32,
        events: &mut Vec<HistoryEvent>,
        issue: Issue,
        happens: &mut Vec<(i64, A)>,
    ) -> Option<Close> {
        let (scheduled_event_id, initiated_event_id) = (events.len() as i64 + 1, events.len() as i64 + 1);
        match issue {
            Issue::Schedule { path, activity } => {
                let input = ActivityInput { path: path.clone(), activity: activity.clone() };
                let scheduled = ActivityTaskScheduledEventAttributes {
                    activity_id: path.clone(),
                    input: Some(payloads(&input)),
                    ..Default::default()
                };
                self.push(events, A::ActivityTaskScheduledEventAttributes(scheduled));
                happens.extend(self.attempts(id, run_id, &path, &activity, scheduled_event_id));
            }
            Issue::StartTimer { id, ms } => {
                let started = TimerStartedEventAttributes {
                    timer_id: id.clone(),
                    start_to_fire_timeout: Some(stanchion_proof::program::commands::millis(ms)),
                    ..Default::default()
                };
                self.push(events, A::TimerStartedEventAttributes(started));
                // Activities here are faster than those who would cancel them.
                if !id.ends_with(" cancel") {
                    let fired = TimerFiredEventAttributes { timer_id: id, started_event_id: scheduled_event_id };
                    happens.push((ms as i64 * 1_000_000, A::TimerFiredEventAttributes(fired)));
                }
            }
            Issue::CancelTimer { id } => {
                let canceled = TimerCanceledEventAttributes { timer_id: id, ..Default::default() };
                self.push(events, A::TimerCanceledEventAttributes(canceled));
            }
            Issue::Marker { path } => {
                let marker = MarkerRecordedEventAttributes { marker_name: path, ..Default::default() };
                self.push(events, A::MarkerRecordedEventAttributes(marker));
            }
            Issue::Memo { path } => {
                let memo = stanchion_proto::temporal::common::v1::Memo { fields: [(path, Default::default())].into() };
                let modified =
                    WorkflowPropertiesModifiedEventAttributes { upserted_memo: Some(memo), ..Default::default() };
                self.push(events, A::WorkflowPropertiesModifiedEventAttributes(modified));
            }
            Issue::StartChild { path, workflow_id, child } => {
                assert_eq!(workflow_id, child_workflow_id(id, chain, &path));
                happens.extend(self.child(id, run_id, events, &workflow_id, &child, initiated_event_id));
            }
            Issue::SignalChild { workflow_id, n, .. } => {
                let initiated = SignalExternalWorkflowExecutionInitiatedEventAttributes {
                    workflow_execution: Some(WorkflowExecution { workflow_id, run_id: String::new() }),
                    input: Some(payloads(&parent_signal(n))),
                    ..Default::default()
                };
                self.push(events, A::SignalExternalWorkflowExecutionInitiatedEventAttributes(initiated));
                let signaled =
                    ExternalWorkflowExecutionSignaledEventAttributes { initiated_event_id, ..Default::default() };
                happens.push((0, A::ExternalWorkflowExecutionSignaledEventAttributes(signaled)));
            }
            Issue::CancelChild { workflow_id, .. } => {
                let initiated = RequestCancelExternalWorkflowExecutionInitiatedEventAttributes {
                    workflow_execution: Some(WorkflowExecution { workflow_id, run_id: String::new() }),
                    ..Default::default()
                };
                self.push(events, A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(initiated));
                let failed = RequestCancelExternalWorkflowExecutionFailedEventAttributes {
                    initiated_event_id,
                    ..Default::default()
                };
                happens.push((0, A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(failed)));
            }
            Issue::Update { update, reply } => match reply {
                Reply::Accepted => {
                    let accepted = WorkflowExecutionUpdateAcceptedEventAttributes {
                        protocol_instance_id: update.id.clone(),
                        accepted_request: Some(update.request),
                        ..Default::default()
                    };
                    self.push(events, A::WorkflowExecutionUpdateAcceptedEventAttributes(accepted));
                }
                Reply::Completed(value) => {
                    let outcome = update::outcome::Value::Success(payloads(&value));
                    let completed = WorkflowExecutionUpdateCompletedEventAttributes {
                        meta: update.request.meta,
                        outcome: Some(update::Outcome { value: Some(outcome) }),
                        ..Default::default()
                    };
                    self.push(events, A::WorkflowExecutionUpdateCompletedEventAttributes(completed));
                }
                Reply::Rejected(_) => {}
            },
            Issue::CancelActivity { .. } => panic!("nothing is canceled here"),
            Issue::Close(close) => {
                let attributes = match &close {
                    Close::Completed(report) => {
                        let result = Some(payloads(report));
                        A::WorkflowExecutionCompletedEventAttributes(WorkflowExecutionCompletedEventAttributes {
                            result,
                            ..Default::default()
                        })
                    }
                    Close::Failed(report) => {
                        let failure = Some(failure("the program fails", true, Some(payloads(report))));
                        A::WorkflowExecutionFailedEventAttributes(WorkflowExecutionFailedEventAttributes {
                            failure,
                            ..Default::default()
                        })
                    }
                    Close::Canceled(report) => {
                        let details = Some(payloads(report));
                        A::WorkflowExecutionCanceledEventAttributes(WorkflowExecutionCanceledEventAttributes {
                            details,
                            ..Default::default()
                        })
                    }
                    Close::ContinuedAsNew(next) => {
                        let next_run = format!("run-{}-{}", id, next.chain);
                        A::WorkflowExecutionContinuedAsNewEventAttributes(
                            WorkflowExecutionContinuedAsNewEventAttributes {
                                new_execution_run_id: next_run,
                                input: Some(payloads(next.as_ref())),
                                ..Default::default()
                            },
                        )
                    }
                };
                self.push(events, attributes);
                return Some(close);
            }
        }
        None
    }

    /// Starts a child and plays it to its end at once; its parent's signals are there from the beginning.
    fn child(
        &mut self,
        id: &str,
        run_id: &str,
        events: &mut Vec<HistoryEvent>,
        child_id: &str,
        child: &Child,
        initiated_event_id: i64,
    ) -> Vec<(i64, A)> {
        let input = Input { program: child.program.clone(), chain: 0, carried: Default::default() };
        let initiated = StartChildWorkflowExecutionInitiatedEventAttributes {
            workflow_id: child_id.to_owned(),
            input: Some(payloads(&input)),
            ..Default::default()
        };
        self.push(events, A::StartChildWorkflowExecutionInitiatedEventAttributes(initiated));
        let signals: Vec<i64> = (0..child.signals).map(parent_signal).collect();
        let parent = (id.to_owned(), run_id.to_owned(), initiated_event_id);
        let (child_run, end) = self.chain(child_id, input, Some(parent), &signals, &[]);
        let execution = Some(WorkflowExecution { workflow_id: child_id.to_owned(), run_id: child_run });
        let started = ChildWorkflowExecutionStartedEventAttributes {
            initiated_event_id,
            workflow_execution: execution,
            ..Default::default()
        };
        let ended = match end {
            End::Completed(report) => {
                A::ChildWorkflowExecutionCompletedEventAttributes(ChildWorkflowExecutionCompletedEventAttributes {
                    result: Some(payloads(&report)),
                    initiated_event_id,
                    ..Default::default()
                })
            }
            End::Failed => {
                A::ChildWorkflowExecutionFailedEventAttributes(ChildWorkflowExecutionFailedEventAttributes {
                    failure: Some(failure("the program fails", true, None)),
                    initiated_event_id,
                    ..Default::default()
                })
            }
        };
        vec![(0, A::ChildWorkflowExecutionStartedEventAttributes(started)), (0, ended)]
    }

    fn attempts(
        &mut self,
        id: &str,
        run_id: &str,
        path: &str,
        activity: &Activity,
        scheduled_event_id: i64,
    ) -> Vec<(i64, A)> {
        let input = ActivityInput { path: path.to_owned(), activity: activity.clone() };
        let wanted = activity.hangs + activity.fails + 1;
        let attempt = if activity.max_attempts > 0 { wanted.min(activity.max_attempts) } else { wanted };
        let expires = activity.schedule_to_close_ms > 0 && activity.hangs > 0;
        let attempt = if expires { 1 } else { attempt };
        let line = |attempt, what| Line {
            at: 0,
            worker: "worker".into(),
            workflow_id: id.to_owned(),
            run_id: run_id.to_owned(),
            activity_id: path.to_owned(),
            attempt,
            token: format!("{run_id} {path} {attempt}"),
            what,
        };
        for n in 1..=attempt {
            self.ledger.note(line(n, What::Began { handed: Default::default() }));
            if n <= activity.hangs {
                self.ledger.note(line(n, What::Abandoned));
                continue;
            }
            let outcome = match attempt_ends(&input, n) {
                Ok(value) => ledger::Outcome::Completed(value),
                Err((message, retryable)) => ledger::Outcome::Failed { retryable, message },
            };
            self.ledger.note(line(n, What::Ended { outcome }));
            self.ledger.note(line(n, What::Acknowledged));
        }
        let started =
            ActivityTaskStartedEventAttributes { scheduled_event_id, attempt: attempt as i32, ..Default::default() };
        let timed_out = |kind: TimeoutType| {
            let info = TimeoutFailureInfo { timeout_type: kind.into(), last_heartbeat_details: None };
            let failure = Failure { failure_info: Some(FailureInfo::TimeoutFailureInfo(info)), ..Default::default() };
            A::ActivityTaskTimedOutEventAttributes(ActivityTaskTimedOutEventAttributes {
                failure: Some(failure),
                scheduled_event_id,
                ..Default::default()
            })
        };
        let ms = 1_000_000;
        let (wait, ended) = if expires {
            (activity.schedule_to_close_ms as i64 * ms, timed_out(TimeoutType::ScheduleToClose))
        } else if attempt <= activity.hangs {
            (activity.start_to_close_ms as i64 * ms, timed_out(TimeoutType::StartToClose))
        } else {
            let result = |result: Payloads| {
                A::ActivityTaskCompletedEventAttributes(ActivityTaskCompletedEventAttributes {
                    result: Some(result),
                    scheduled_event_id,
                    ..Default::default()
                })
            };
            let failed = |message: String, retryable: bool| {
                A::ActivityTaskFailedEventAttributes(ActivityTaskFailedEventAttributes {
                    failure: Some(failure(&message, !retryable, None)),
                    scheduled_event_id,
                    ..Default::default()
                })
            };
            match attempt_ends(&input, attempt) {
                Ok(value) => (0, result(payloads(&value))),
                Err((message, retryable)) => (0, failed(message, retryable)),
            }
        };
        vec![(0, A::ActivityTaskStartedEventAttributes(started)), (wait, ended)]
    }

    fn push(&mut self, events: &mut Vec<HistoryEvent>, attributes: A) {
        self.clock += 1_000_000;
        let time = Timestamp { seconds: self.clock / 1_000_000_000, nanos: (self.clock % 1_000_000_000) as i32 };
        events.push(HistoryEvent {
            event_id: events.len() as i64 + 1,
            event_time: Some(time),
            event_type: kind(&attributes).into(),
            attributes: Some(attributes),
            ..Default::default()
        });
    }
}

fn kind(attributes: &A) -> EventType {
    match attributes {
        A::WorkflowExecutionStartedEventAttributes(_) => EventType::WorkflowExecutionStarted,
        A::WorkflowExecutionCompletedEventAttributes(_) => EventType::WorkflowExecutionCompleted,
        A::WorkflowExecutionFailedEventAttributes(_) => EventType::WorkflowExecutionFailed,
        A::WorkflowExecutionCanceledEventAttributes(_) => EventType::WorkflowExecutionCanceled,
        A::WorkflowExecutionContinuedAsNewEventAttributes(_) => EventType::WorkflowExecutionContinuedAsNew,
        _ => EventType::Unspecified,
    }
}
