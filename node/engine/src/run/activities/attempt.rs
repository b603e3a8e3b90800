//! One attempt of an activity begins: a matcher paired it with a poller, a poller was held for it, or the worker that scheduled it has it
//! at once.
//!
//! Never: a second start of the same attempt, except as the same answer to the same request.

use stanchion_proto::command::{Poller, StartActivityTask};
use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::common::v1::{WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::history::v1::ActivityTaskScheduledEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use crate::activity::{self, Worker, is_waiting};
use crate::reply::Reply;
use crate::run::Run;
use crate::state::{StateFault, StateResult, Table};
use crate::transaction::{Outcome, Transaction};
use crate::types::EventId;
use crate::{keys, lookup, read};

/// StartActivityTask.
pub fn start(tx: &mut Transaction<'_>, command: &StartActivityTask) -> Outcome<Reply> {
    let Some(name) = &command.run else { return Ok(Reply::Stale) };
    let Some(mut run) = lookup::named(tx, &name.workflow_id, &name.run_id)? else { return Ok(Reply::Stale) };
    let id = command.scheduled_event_id;
    let unknown = Poller::default();
    let poller = command.poller.as_ref().unwrap_or(&unknown);
    let row = run.activities.get(&id).filter(|row| run.is_open() && row.stamp == command.stamp);
    let (waits, again) = match row {
        // The same poller again: the answer to its first request was lost on the way.
        Some(row) => (
            is_waiting(row),
            row.started_at != 0 && !poller.request_id.is_empty() && row.started_request_id == poller.request_id,
        ),
        None => (false, false),
    };
    if again {
        let event = scheduled_event(tx, &run, id)?;
        let task = run.activities.get(&id).map(|row| task_of(tx, &run, id, row, event));
        tx.release(run);
        return Ok(task.map_or(Reply::Stale, |task| Reply::ActivityTaskStarted(Box::new(task))));
    }
    if !waits {
        tx.release(run);
        return Ok(Reply::Stale);
    }
    let event = scheduled_event(tx, &run, id)?;
    if let Some(row) = run.activities.get(&id) {
        run.place(id).withdraw(tx, row);
    }
    let worker = Worker { identity: &poller.identity, request_id: &poller.request_id };
    let Some(task) = begin(tx, &mut run, id, &worker, event) else { return Ok(Reply::Stale) };
    tx.finish(run)?;
    Ok(Reply::ActivityTaskStarted(Box::new(task)))
}

/// The attempt that waits goes to the worker. Its pending row, where it has one, is the caller's to remove.
pub(super) fn begin(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    id: i64,
    worker: &Worker<'_>,
    event: ActivityTaskScheduledEventAttributes,
) -> Option<PollActivityTaskQueueResponse> {
    let mut row = run.activities.remove(&id)?;
    activity::begin(tx, &run.place(id), &mut row, worker);
    let task = task_of(tx, run, id, &row, event);
    run.activities.insert(id, row);
    Some(task)
}

/// The scheduled event, which holds the input: from this command's events, or from the history.
pub(super) fn scheduled_event(
    tx: &Transaction<'_>,
    run: &Run,
    id: i64,
) -> StateResult<ActivityTaskScheduledEventAttributes> {
    let missing = |what: &str| StateFault::Corrupt {
        table: Table::History,
        reason: format!("run {}: event {id} {what}", run.key.run_id),
    };
    let first = run.activities.get(&id).map_or(0, |row| row.scheduled_batch_event_id);
    let batch = if !run.batch.is_empty() && id >= run.batch_first {
        bytes::Bytes::copy_from_slice(&run.batch)
    } else {
        let key = keys::run_event(&run.key, EventId(first));
        tx.get(run.slot, Table::History, &key)?.ok_or_else(|| missing("is not stored"))?
    };
    match read::event_of(&batch, EventId(first), EventId(id))?.attributes {
        Some(Attributes::ActivityTaskScheduledEventAttributes(event)) => Ok(event),
        _ => Err(missing("does not schedule an activity")),
    }
}

/// The task as the worker gets it.
fn task_of(
    tx: &Transaction<'_>,
    run: &Run,
    id: i64,
    row: &ActivityRow,
    event: ActivityTaskScheduledEventAttributes,
) -> PollActivityTaskQueueResponse {
    PollActivityTaskQueueResponse {
        workflow_type: Some(WorkflowType { name: run.row.workflow_type.clone() }),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: run.key.workflow_id.clone(),
            run_id: run.key.run_id.clone(),
        }),
        header: event.header,
        input: event.input,
        // As the workflow scheduled it, whatever was changed since: so the real server.
        schedule_to_close_timeout: event.schedule_to_close_timeout,
        start_to_close_timeout: event.start_to_close_timeout,
        heartbeat_timeout: event.heartbeat_timeout,
        ..activity::task(tx, &run.place(id), row)
    }
}
