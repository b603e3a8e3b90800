//! A run's state, made anew from its events: what a reset starts from, and a second opinion on what commands wrote.
//!
//! What leaves no event is not in it: attempts of tasks, heartbeats, the sticky queue, what waits on offer. Fences are counted anew, so
//! nothing that was handed out for the run before means anything to this one.
//!
//! Never: an effect or a row. Who uses the run arms its timers and offers its tasks.

use std::collections::BTreeMap;

use stanchion_proto::row::{
    ActivityRow, CompletedUpdateRow, ExternalRow, RequestIdRow, TimerRow, UpdateRow, WorkflowTaskScheduledRow,
    WorkflowTaskStartedRow, run_row::WorkflowTask,
};
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes, WorkflowExecution};
use stanchion_proto::temporal::enums::v1::{EventType, TimeoutType, WorkflowExecutionStatus};
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{ActivityTaskScheduledEventAttributes, HistoryEvent};

use super::children::{self, Unstarted};
use super::{Run, activities, callbacks, completion, options, start, updates};
use crate::history::{self, Batch};
use crate::state::{ShardState, StateFault, StateResult, Table};
use crate::time::{instant, nanos};
use crate::types::{EventId, RunKey, ShardTime};

/// A run as its events tell it.
pub struct Rebuilt {
    pub run: Box<Run>,
    /// Request ids of the signals that it has had.
    pub signal_request_ids: Vec<String>,
    /// Signals and cancel requests to other runs that were not answered, by initiated event id.
    pub unanswered: Vec<(i64, Attributes)>,
    /// Children that are not known to have started.
    pub unstarted: Unstarted,
    /// Updates that have their outcome, by id.
    pub completed_updates: BTreeMap<String, CompletedUpdateRow>,
}

/// The run as its stored history tells it. None if it has none.
pub fn stored(state: &dyn ShardState, key: &RunKey) -> StateResult<Option<Rebuilt>> {
    let batches = history::batches(state, key.slot(), key, EventId(1))?;
    if batches.is_empty() { Ok(None) } else { rebuild(key.clone(), &batches).map(Some) }
}

/// A run with this key and these first events.
pub fn rebuild(key: RunKey, batches: &[Batch]) -> StateResult<Rebuilt> {
    let mut rebuilt: Option<Rebuilt> = None;
    for batch in batches {
        for stored in batch.events()? {
            let rebuilt = match &mut rebuilt {
                Some(rebuilt) => rebuilt,
                none => none.insert(first(&key, &stored.event)?),
            };
            let run = &mut rebuilt.run;
            let previous = run.row.history_hash.as_ref().try_into().unwrap_or([0; 32]);
            run.row.history_hash = bytes::Bytes::copy_from_slice(&history::link(&previous, &stored.bytes));
            run.row.history_bytes += stored.framed_bytes as u64;
            run.row.next_event_id = stored.event.event_id + 1;
            rebuilt.add(stored.event, batch.first);
        }
    }
    rebuilt.ok_or_else(|| corrupt(&key, "has no events"))
}

fn corrupt(key: &RunKey, what: &str) -> StateFault {
    StateFault::Corrupt { table: Table::History, reason: format!("run {} {what}", key.run_id) }
}

fn first(key: &RunKey, event: &HistoryEvent) -> StateResult<Rebuilt> {
    let Some(Attributes::WorkflowExecutionStartedEventAttributes(attributes)) = &event.attributes else {
        return Err(corrupt(key, "does not begin with a started event"));
    };
    let (row, detail) = start::first_rows(at(event), attributes, event.user_metadata.as_ref(), String::new());
    let run = Box::new(Run::new(key.clone(), row, detail));
    Ok(Rebuilt {
        run,
        signal_request_ids: Vec::new(),
        unanswered: Vec::new(),
        unstarted: Unstarted::new(),
        completed_updates: BTreeMap::new(),
    })
}

fn at(event: &HistoryEvent) -> ShardTime {
    event.event_time.as_ref().map_or(ShardTime(0), instant)
}

impl Rebuilt {
    fn add(&mut self, event: HistoryEvent, batch_first: EventId) {
        use Attributes::*;
        let (id, now) = (event.event_id, at(&event));
        let run = &mut self.run;
        let Some(attributes) = event.attributes else { return };
        match attributes {
            WorkflowTaskScheduledEventAttributes(a) => {
                run.row.backing_off = false;
                run.row.workflow_task_attempt = a.attempt;
                run.row.workflow_task = Some(WorkflowTask::Scheduled(WorkflowTaskScheduledRow {
                    scheduled_event_id: id,
                    attempt: a.attempt,
                    stamp: run.next_stamp(),
                    scheduled_at: now.0,
                    original_scheduled_at: now.0,
                    start_to_close_timeout: nanos(a.start_to_close_timeout.as_ref()),
                    ..Default::default()
                }));
            }
            WorkflowTaskStartedEventAttributes(a) => {
                if let Some(WorkflowTask::Scheduled(scheduled)) = run.row.workflow_task.take() {
                    run.row.workflow_task = Some(WorkflowTask::Started(WorkflowTaskStartedRow {
                        scheduled: Some(scheduled),
                        started_event_id: id,
                        started_at: now.0,
                        request_id: a.request_id,
                        identity: a.identity,
                        suggest_continue_as_new: a.suggest_continue_as_new,
                        suggest_reasons: a.suggest_continue_as_new_reasons,
                        history_size_bytes: u64::try_from(a.history_size_bytes).unwrap_or(0),
                    }));
                }
            }
            WorkflowTaskCompletedEventAttributes(a) => {
                run.row.workflow_task = None;
                run.row.workflow_task_attempt = 1;
                run.row.workflow_task_failed_cause = 0;
                run.row.previous_started_event_id = a.started_event_id;
                run.row.last_completed_event_id = id;
                #[allow(deprecated)]
                let (checksum, stamp) = (a.binary_checksum, a.worker_version);
                let build_id = stamp.as_ref().map(|stamp| stamp.build_id.clone()).unwrap_or_default();
                if stamp.is_some() {
                    run.row.worker_version = stamp;
                }
                completion::add_reset_point(now, run, &checksum, &build_id, EventId(id));
            }
            WorkflowTaskFailedEventAttributes(a) => {
                run.row.workflow_task = None;
                run.row.workflow_task_attempt += 1;
                run.row.workflow_task_failed_cause = a.cause;
            }
            WorkflowTaskTimedOutEventAttributes(a) => {
                run.row.workflow_task = None;
                run.row.workflow_task_failed_cause = 0;
                let unstarted = a.timeout_type() == TimeoutType::ScheduleToStart;
                run.row.workflow_task_attempt = if unstarted { 1 } else { run.row.workflow_task_attempt + 1 };
            }
            ActivityTaskScheduledEventAttributes(a) => {
                let mut row = pending_activity(run, &a, now);
                row.scheduled_batch_event_id = batch_first.0;
                row.user_metadata = event.user_metadata;
                run.activities.insert(id, row);
            }
            ActivityTaskStartedEventAttributes(a) => {
                if let Some(row) = run.activities.get_mut(&a.scheduled_event_id) {
                    row.started_at = now.0;
                    row.attempt = a.attempt;
                    row.worker_identity = a.identity;
                    row.started_request_id = a.request_id;
                    row.last_failure = a.last_failure;
                }
            }
            ActivityTaskCancelRequestedEventAttributes(a) => {
                if let Some(row) = run.activities.get_mut(&a.scheduled_event_id) {
                    row.cancel_requested_event_id = id;
                }
            }
            ActivityTaskCompletedEventAttributes(a) => self.activity_closed(a.scheduled_event_id),
            ActivityTaskFailedEventAttributes(a) => self.activity_closed(a.scheduled_event_id),
            ActivityTaskTimedOutEventAttributes(a) => self.activity_closed(a.scheduled_event_id),
            ActivityTaskCanceledEventAttributes(a) => self.activity_closed(a.scheduled_event_id),
            TimerStartedEventAttributes(a) => {
                let fires_at = now.plus(nanos(a.start_to_fire_timeout.as_ref())).0;
                run.timers.insert(a.timer_id, TimerRow { started_event_id: id, fires_at });
            }
            TimerFiredEventAttributes(a) => drop(run.timers.remove(&a.timer_id)),
            TimerCanceledEventAttributes(a) => drop(run.timers.remove(&a.timer_id)),
            WorkflowExecutionSignaledEventAttributes(a) => {
                run.row.signals += 1;
                if !a.request_id.is_empty() {
                    self.signal_request_ids.push(a.request_id);
                }
            }
            WorkflowExecutionCancelRequestedEventAttributes(_) => run.row.cancel_requested = true,
            UpsertWorkflowSearchAttributesEventAttributes(a) => {
                let upserted = a.search_attributes.unwrap_or_default().indexed_fields;
                let all = run.detail_mut().search_attributes.get_or_insert_with(SearchAttributes::default);
                completion::merge(&mut all.indexed_fields, &upserted);
            }
            WorkflowPropertiesModifiedEventAttributes(a) => {
                let upserted = a.upserted_memo.unwrap_or_default().fields;
                completion::merge(&mut run.detail_mut().memo.get_or_insert_with(Memo::default).fields, &upserted);
            }
            WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
                options::note(run, &a);
                if !a.attached_request_id.is_empty() {
                    run.row.request_ids.push(RequestIdRow {
                        request_id: a.attached_request_id,
                        event_type: EventType::WorkflowExecutionOptionsUpdated as i32,
                        event_id: id,
                    });
                }
                callbacks::attach(run, &a.attached_completion_callbacks, now);
            }
            WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
                let id = updates::update_id(&a.request.unwrap_or_default()).to_owned();
                self.update(id, now, 0);
            }
            WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
                let request_id = a.accepted_request.map(|request| request.request_id).unwrap_or_default();
                if !request_id.is_empty() {
                    let event_type = EventType::WorkflowExecutionUpdateAccepted as i32;
                    run.row.request_ids.push(RequestIdRow { request_id, event_type, event_id: id });
                }
                self.update(a.protocol_instance_id, now, id);
            }
            WorkflowExecutionUpdateCompletedEventAttributes(a) => {
                let update_id = a.meta.map(|meta| meta.update_id).unwrap_or_default();
                run.updates.remove(&update_id);
                run.row.updates_completed += 1;
                let completed = CompletedUpdateRow { accepted_event_id: a.accepted_event_id, completed_event_id: id };
                self.completed_updates.insert(update_id, completed);
            }
            StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                run.children.insert(id, children::initiated(&a));
                self.unstarted.insert(id, (a, event.user_metadata));
            }
            ChildWorkflowExecutionStartedEventAttributes(a) => {
                self.unstarted.remove(&a.initiated_event_id);
                if let Some(row) = run.children.get_mut(&a.initiated_event_id) {
                    row.run_id = a.workflow_execution.map(|child| child.run_id).unwrap_or_default();
                    row.started_event_id = id;
                }
            }
            StartChildWorkflowExecutionFailedEventAttributes(a) => self.child_closed(a.initiated_event_id),
            ChildWorkflowExecutionCompletedEventAttributes(a) => self.child_closed(a.initiated_event_id),
            ChildWorkflowExecutionFailedEventAttributes(a) => self.child_closed(a.initiated_event_id),
            ChildWorkflowExecutionCanceledEventAttributes(a) => self.child_closed(a.initiated_event_id),
            ChildWorkflowExecutionTimedOutEventAttributes(a) => self.child_closed(a.initiated_event_id),
            ChildWorkflowExecutionTerminatedEventAttributes(a) => self.child_closed(a.initiated_event_id),
            SignalExternalWorkflowExecutionInitiatedEventAttributes(ref a) => {
                let row = external(false, &a.namespace_id, &a.namespace, a.workflow_execution.as_ref());
                #[allow(deprecated)]
                let control = a.control.clone();
                run.externals.insert(id, ExternalRow { control, signal_name: a.signal_name.clone(), ..row });
                self.unanswered.push((id, attributes));
            }
            RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(ref a) => {
                let row = external(true, &a.namespace_id, &a.namespace, a.workflow_execution.as_ref());
                #[allow(deprecated)]
                let control = a.control.clone();
                run.externals.insert(id, ExternalRow { control, ..row });
                self.unanswered.push((id, attributes));
            }
            SignalExternalWorkflowExecutionFailedEventAttributes(a) => self.answered(a.initiated_event_id),
            ExternalWorkflowExecutionSignaledEventAttributes(a) => self.answered(a.initiated_event_id),
            RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => self.answered(a.initiated_event_id),
            ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => self.answered(a.initiated_event_id),
            WorkflowExecutionCompletedEventAttributes(a) => {
                self.closed(WorkflowExecutionStatus::Completed, now, a.new_execution_run_id);
            }
            WorkflowExecutionFailedEventAttributes(a) => {
                self.closed(WorkflowExecutionStatus::Failed, now, a.new_execution_run_id);
            }
            WorkflowExecutionTimedOutEventAttributes(a) => {
                self.closed(WorkflowExecutionStatus::TimedOut, now, a.new_execution_run_id);
            }
            WorkflowExecutionContinuedAsNewEventAttributes(a) => {
                self.closed(WorkflowExecutionStatus::ContinuedAsNew, now, a.new_execution_run_id);
            }
            WorkflowExecutionCanceledEventAttributes(_) => {
                self.closed(WorkflowExecutionStatus::Canceled, now, String::new());
            }
            WorkflowExecutionTerminatedEventAttributes(_) => {
                self.closed(WorkflowExecutionStatus::Terminated, now, String::new());
            }
            // The first event, and those that change nothing that is kept.
            _ => {}
        }
    }

    fn activity_closed(&mut self, scheduled_event_id: i64) {
        self.run.activities.remove(&scheduled_event_id);
    }

    fn child_closed(&mut self, initiated_event_id: i64) {
        self.unstarted.remove(&initiated_event_id);
        self.run.children.remove(&initiated_event_id);
    }

    /// An update is admitted by an event (`accepted_event_id` 0), or accepted.
    fn update(&mut self, id: String, now: ShardTime, accepted_event_id: i64) {
        let run = &mut self.run;
        if let Some(row) = run.updates.get_mut(&id) {
            row.accepted_event_id = accepted_event_id;
            return;
        }
        run.row.updates_admitted += 1;
        let order = run.row.updates_admitted;
        run.updates.insert(id, UpdateRow { order, admitted_at: now.0, request: None, accepted_event_id });
    }

    fn answered(&mut self, initiated_event_id: i64) {
        self.run.externals.remove(&initiated_event_id);
        self.unanswered.retain(|(id, _)| *id != initiated_event_id);
    }

    fn closed(&mut self, status: WorkflowExecutionStatus, now: ShardTime, successor_run_id: String) {
        let run = &mut self.run;
        run.row.status = status as i32;
        run.row.closed_at = now.0;
        run.row.backing_off = false;
        run.row.successor_run_id = successor_run_id;
        let timers: Vec<String> = run.timers.keys().cloned().collect();
        for timer in timers {
            run.timers.remove(&timer);
        }
        let externals: Vec<i64> = run.externals.keys().copied().collect();
        for id in externals {
            run.externals.remove(&id);
        }
        self.unanswered.clear();
    }
}

/// The row of an activity that was just scheduled.
fn pending_activity(run: &mut Run, a: &ActivityTaskScheduledEventAttributes, now: ShardTime) -> ActivityRow {
    ActivityRow {
        activity_id: a.activity_id.clone(),
        activity_type: a.activity_type.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        task_queue: a.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default(),
        scheduled_at: now.0,
        schedule_to_close_timeout: nanos(a.schedule_to_close_timeout.as_ref()),
        schedule_to_start_timeout: nanos(a.schedule_to_start_timeout.as_ref()),
        start_to_close_timeout: nanos(a.start_to_close_timeout.as_ref()),
        heartbeat_timeout: nanos(a.heartbeat_timeout.as_ref()),
        retry_policy: a.retry_policy.clone(),
        priority: activities::merged(run.row.priority.as_ref(), a.priority.as_ref()),
        attempt: 1,
        stamp: run.next_stamp(),
        attempt_scheduled_at: now.0,
        ..Default::default()
    }
}

fn external(is_cancel: bool, namespace_id: &str, namespace: &str, target: Option<&WorkflowExecution>) -> ExternalRow {
    let target = target.cloned().unwrap_or_default();
    ExternalRow {
        is_cancel,
        namespace_id: namespace_id.to_owned(),
        namespace: namespace.to_owned(),
        workflow_id: target.workflow_id,
        run_id: target.run_id,
        ..Default::default()
    }
}
