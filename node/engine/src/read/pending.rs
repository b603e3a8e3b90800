//! What a new leader takes up: tasks that wait, and the deadlines of workflow tasks that are with a worker or wait on a sticky queue.

use bytes::Bytes;
use stanchion_proto::row;

use crate::effects::{Offer, TaskKind, TaskRef, WorkflowTaskDeadline};
use crate::state::{StateReader, StateResult, Table};
use crate::transaction::decode;
use crate::types::{EventId, RunKey, ShardTime, Slot};

/// One row of the pending table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingRow {
    /// The row's key, to go on behind it.
    pub key: Bytes,
    /// The task; on offer unless `started` is set.
    pub offer: Offer,
    /// The workflow task is with a worker until then.
    pub started: Option<WorkflowTaskDeadline>,
    /// The workflow task waits on a sticky queue until then.
    pub sticky_deadline: Option<WorkflowTaskDeadline>,
}

/// Rows of a slot behind `after_key` (empty: from the first), in the order of their keys, at most `limit`.
pub fn pending<R: StateReader + ?Sized>(
    reader: &R,
    slot: Slot,
    after_key: &[u8],
    limit: usize,
) -> StateResult<Vec<PendingRow>> {
    let mut from = after_key.to_vec();
    if !from.is_empty() {
        from.push(0);
    }
    let rows = reader.range(slot, Table::Pending, &from, &[], limit)?;
    rows.into_iter().map(|(key, value)| Ok(row_of(slot, key, decode(Table::Pending, value)?))).collect()
}

/// Whether the task waits still or is with a worker still, in the attempt and under the stamp named.
pub fn is_pending<R: StateReader + ?Sized>(reader: &R, kind: TaskKind, task: &TaskRef) -> StateResult<bool> {
    let Some(row) = reader.get(task.run.slot(), Table::Pending, &crate::pending::key(kind, task))? else {
        return Ok(false);
    };
    let row: row::PendingRow = decode(Table::Pending, row)?;
    Ok((row.attempt, row.stamp) == (task.attempt, task.stamp))
}

fn row_of(slot: Slot, key: Bytes, row: row::PendingRow) -> PendingRow {
    let task = TaskRef {
        run: RunKey { namespace_id: row.namespace_id, workflow_id: row.workflow_id, run_id: row.run_id },
        scheduled_event_id: EventId(row.scheduled_event_id),
        attempt: row.attempt,
        stamp: row.stamp,
    };
    let deadline = |at: i64, start_to_close| {
        (at != 0).then(|| WorkflowTaskDeadline { task: task.clone(), at: ShardTime(at), start_to_close })
    };
    PendingRow {
        key,
        started: deadline(row.start_to_close_deadline, true),
        sticky_deadline: deadline(row.schedule_to_start_deadline, false),
        offer: Offer {
            slot,
            kind: if row.is_activity { TaskKind::Activity } else { TaskKind::Workflow },
            task_queue: row.task_queue,
            sticky: row.sticky,
            normal_task_queue: row.normal_task_queue,
            task,
            scheduled_at: ShardTime(row.scheduled_at),
            priority: row.priority,
        },
    }
}
