//! A run as queries, long polls and routing need it.

use stanchion_proto::row::{CurrentRow, RunRow, run_row};
use stanchion_proto::temporal::common::v1::WorkflowType;
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;
use stanchion_proto::temporal::history::v1::HistoryEvent;

use crate::keys::{self, RunPart};
use crate::run::workflow_task::transient_events_of;
use crate::slot::slot_of;
use crate::state::{StateReader, StateResult, Table};
use crate::transaction::decode;
use crate::types::{Attempt, EventId, RunKey};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    pub key: RunKey,
    /// temporal.api.enums.v1.WorkflowExecutionStatus.
    pub status: i32,
    /// The id that the next event will get.
    pub next_event_id: EventId,
    pub closed: bool,
    pub deleted: bool,
    pub workflow_type: Option<WorkflowType>,
    /// The normal queue.
    pub task_queue: String,
    pub sticky: Option<StickyView>,
    pub workflow_task: WorkflowTaskView,
    /// Scheduled and started events of an attempt that is not stored: readers of the history see them behind the stored ones.
    pub transient_events: Vec<HistoryEvent>,
    /// Started event of the last completed workflow task; 0 before the first.
    pub last_started_event_id: EventId,
    /// The run waits for the time of its first workflow task.
    pub backing_off: bool,
    /// The run that this one's close started, if any.
    pub successor_run_id: String,
    /// First event of the batch that holds the closing event; 0 while open.
    pub close_batch_event_id: EventId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyView {
    pub queue: String,
    pub schedule_to_start_nanos: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowTaskView {
    None,
    Scheduled { attempt: Attempt, stamp: u64 },
    Started { attempt: Attempt, stamp: u64 },
}

/// The newest run of a workflow id.
pub fn current_run_id<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
) -> StateResult<Option<String>> {
    let slot = slot_of(namespace_id, workflow_id);
    let key = keys::current(namespace_id, workflow_id);
    let Some(bytes) = reader.get(slot, Table::Current, &key)? else { return Ok(None) };
    let row: CurrentRow = decode(Table::Current, bytes)?;
    Ok(Some(row.run_id))
}

/// The full name of a run, where an empty run id means the newest one.
pub(super) fn resolve<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
    run_id: &str,
) -> StateResult<Option<RunKey>> {
    let run_id = match run_id {
        "" => match current_run_id(reader, namespace_id, workflow_id)? {
            Some(current) => current,
            None => return Ok(None),
        },
        named => named.to_owned(),
    };
    Ok(Some(RunKey { namespace_id: namespace_id.to_owned(), workflow_id: workflow_id.to_owned(), run_id }))
}

pub(super) fn run_row<R: StateReader>(reader: &R, key: &RunKey) -> StateResult<Option<RunRow>> {
    let bytes = reader.get(key.slot(), Table::Run, &keys::run_part(key, RunPart::State))?;
    bytes.map(|bytes| decode(Table::Run, bytes)).transpose()
}

/// The run, where an empty run id means the newest one. None if there is no such run, or no longer.
pub fn run_view<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
    run_id: &str,
) -> StateResult<Option<RunView>> {
    Ok(last_view(reader, namespace_id, workflow_id, run_id)?.filter(|view| !view.deleted))
}

/// As [`run_view`], and for a moment also of a run that was deleted: who waited for its end is told of it.
pub fn last_view<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
    run_id: &str,
) -> StateResult<Option<RunView>> {
    let Some(key) = resolve(reader, namespace_id, workflow_id, run_id)? else { return Ok(None) };
    let Some(row) = run_row(reader, &key)? else { return Ok(None) };
    let workflow_task = match &row.workflow_task {
        None => WorkflowTaskView::None,
        Some(run_row::WorkflowTask::Scheduled(task)) => {
            WorkflowTaskView::Scheduled { attempt: task.attempt, stamp: task.stamp }
        }
        Some(run_row::WorkflowTask::Started(task)) => {
            let (attempt, stamp) = task.scheduled.as_ref().map_or((1, 0), |s| (s.attempt, s.stamp));
            WorkflowTaskView::Started { attempt, stamp }
        }
    };
    let transient_events = row.workflow_task.as_ref().map(|task| transient_events_of(&row, task)).unwrap_or_default();
    Ok(Some(RunView {
        key,
        transient_events,
        status: row.status,
        next_event_id: EventId(row.next_event_id),
        closed: row.status != WorkflowExecutionStatus::Running as i32,
        deleted: row.deleted,
        workflow_type: Some(WorkflowType { name: row.workflow_type }),
        task_queue: row.task_queue,
        sticky: row.sticky.map(|sticky| StickyView {
            queue: sticky.task_queue,
            schedule_to_start_nanos: sticky.schedule_to_start_timeout,
        }),
        workflow_task,
        last_started_event_id: EventId(row.previous_started_event_id),
        backing_off: row.backing_off,
        successor_run_id: row.successor_run_id,
        close_batch_event_id: EventId(row.close_batch_event_id),
    }))
}
