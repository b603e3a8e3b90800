//! The events of a workflow task: stored as it goes, or, of an attempt above the first and of a speculative task, only shown until it ends.
//!
//! Never: a stored event whose id another event has; a shown one that the store has too.

use stanchion_proto::row::{RunRow, WorkflowTaskScheduledRow, WorkflowTaskStartedRow, run_row::WorkflowTask};
use stanchion_proto::temporal::enums::v1::TaskQueueKind;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    HistoryEvent, WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes,
};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use super::PLAIN_ATTEMPTS;
use crate::run::speculative::is_stored;
use crate::run::{Run, events};
use crate::time::duration;
use crate::types::{EventId, ShardTime};

/// The events of an attempt that is not stored, as readers of the history see them behind the stored ones. None if the attempt is
/// stored, other events have taken the ids, or the run has closed.
pub fn transient_events_of(row: &RunRow, task: &WorkflowTask) -> Vec<HistoryEvent> {
    transient_events(row, task, "")
}

/// As [`transient_events_of`]; only the worker that has the task is shown its own identity.
pub(super) fn transient_events(row: &RunRow, task: &WorkflowTask, identity: &str) -> Vec<HistoryEvent> {
    let (scheduled, started) = match task {
        WorkflowTask::Scheduled(scheduled) => (scheduled, None),
        WorkflowTask::Started(started) => match &started.scheduled {
            Some(scheduled) => (scheduled, Some(started)),
            None => return Vec::new(),
        },
    };
    if is_stored(scheduled) || scheduled.scheduled_event_id != row.next_event_id || row.closed_at != 0 {
        return Vec::new();
    }
    let mut shown = vec![events::transient(
        ShardTime(scheduled.scheduled_at),
        EventId(scheduled.scheduled_event_id),
        scheduled_attributes_of(&row.task_queue, row.task_timeout, scheduled),
    )];
    if let Some(started) = started {
        shown.push(events::transient(
            ShardTime(started.started_at),
            EventId(started.started_event_id),
            started_attributes(started, identity),
        ));
    }
    shown
}

/// A task whose events were not stored when they happened has completed, or ends otherwise: now they are stored.
pub(in crate::run) fn store_transient(run: &mut Run, started: &mut WorkflowTaskStartedRow, identity: &str) {
    let Some(mut task) = started.scheduled.take() else { return };
    if !is_stored(&task) {
        let attributes = scheduled_attributes(run, &task);
        let EventId(id) = run.record(ShardTime(task.scheduled_at), attributes);
        task.scheduled_event_id = id;
        task.speculative = false;
        started.scheduled = Some(task);
        let EventId(id) = run.record(ShardTime(started.started_at), started_attributes(started, identity));
        started.started_event_id = id;
    } else {
        started.scheduled = Some(task);
    }
}

pub(in crate::run) fn scheduled_attributes(run: &Run, task: &WorkflowTaskScheduledRow) -> Attributes {
    scheduled_attributes_of(&run.row.task_queue, run.row.task_timeout, task)
}

fn scheduled_attributes_of(normal_queue: &str, timeout: i64, task: &WorkflowTaskScheduledRow) -> Attributes {
    let task_queue = if task.sticky_task_queue.is_empty() {
        TaskQueue { name: normal_queue.to_owned(), kind: TaskQueueKind::Normal as i32, ..Default::default() }
    } else {
        TaskQueue {
            name: task.sticky_task_queue.clone(),
            kind: TaskQueueKind::Sticky as i32,
            normal_name: normal_queue.to_owned(),
        }
    };
    Attributes::WorkflowTaskScheduledEventAttributes(WorkflowTaskScheduledEventAttributes {
        task_queue: Some(task_queue),
        start_to_close_timeout: Some(duration(if task.attempt > PLAIN_ATTEMPTS {
            task.start_to_close_timeout
        } else {
            timeout
        })),
        attempt: task.attempt,
    })
}

pub(in crate::run) fn started_attributes(started: &WorkflowTaskStartedRow, identity: &str) -> Attributes {
    Attributes::WorkflowTaskStartedEventAttributes(WorkflowTaskStartedEventAttributes {
        scheduled_event_id: started.scheduled.as_ref().map_or(0, |task| task.scheduled_event_id),
        identity: identity.to_owned(),
        request_id: started.request_id.clone(),
        suggest_continue_as_new: started.suggest_continue_as_new,
        suggest_continue_as_new_reasons: started.suggest_reasons.clone(),
        history_size_bytes: i64::try_from(started.history_size_bytes).unwrap_or(i64::MAX),
        ..Default::default()
    })
}
