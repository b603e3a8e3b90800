//! The pending table: tasks that wait for a worker, and workflow tasks that are with one. Matchers are fed from it and from the
//! effects that repeat it; a new leader rebuilds offers and deadlines from its rows.

use stanchion_proto::row::PendingRow;

use crate::effects::{Offer, TaskKind, TaskRef, WorkflowTaskDeadline};
use crate::keys;
use crate::state::Table;
use crate::transaction::Transaction;
use crate::types::{EventId, ShardTime};

/// Writes the row of a task that waits, and offers it. `start_before`: a sticky workflow task's schedule-to-start deadline.
pub fn offer(tx: &mut Transaction<'_>, offer: Offer, start_before: Option<ShardTime>) {
    let mut row = row_of(&offer);
    if let Some(at) = start_before {
        row.schedule_to_start_deadline = at.0;
        tx.effects.workflow_task_deadlines.push(WorkflowTaskDeadline {
            task: offer.task.clone(),
            at,
            start_to_close: false,
        });
    }
    tx.put_row(offer.slot, Table::Pending, key(offer.kind, &offer.task), &row);
    tx.effects.offers.push(offer);
}

/// Writes the row of a workflow task that is with a worker until `deadline`. `withdraw`: it was on offer before.
pub fn started(tx: &mut Transaction<'_>, offer: &Offer, deadline: ShardTime, withdraw: bool) {
    let mut row = row_of(offer);
    row.start_to_close_deadline = deadline.0;
    tx.put_row(offer.slot, Table::Pending, key(offer.kind, &offer.task), &row);
    if withdraw {
        tx.effects.withdraw(offer.kind, &offer.task);
    }
    tx.effects.workflow_task_deadlines.push(WorkflowTaskDeadline {
        task: offer.task.clone(),
        at: deadline,
        start_to_close: true,
    });
}

/// Deletes a task's row. `withdraw`: it was on offer.
pub fn remove(tx: &mut Transaction<'_>, slot: crate::Slot, kind: TaskKind, task: &TaskRef, withdraw: bool) {
    tx.delete(slot, Table::Pending, key(kind, task));
    if withdraw {
        tx.effects.withdraw(kind, task);
    }
}

/// Run, kind, scheduled event.
pub(crate) fn key(kind: TaskKind, task: &TaskRef) -> Vec<u8> {
    let kind = match kind {
        TaskKind::Workflow => 0,
        TaskKind::Activity => 1,
    };
    let mut key = keys::run(&task.run);
    key.push(kind);
    let EventId(id) = task.scheduled_event_id;
    key.extend_from_slice(&id.to_be_bytes());
    key
}

fn row_of(offer: &Offer) -> PendingRow {
    PendingRow {
        namespace_id: offer.task.run.namespace_id.clone(),
        workflow_id: offer.task.run.workflow_id.clone(),
        run_id: offer.task.run.run_id.clone(),
        is_activity: offer.kind == TaskKind::Activity,
        task_queue: offer.task_queue.clone(),
        sticky: offer.sticky,
        normal_task_queue: offer.normal_task_queue.clone(),
        scheduled_event_id: offer.task.scheduled_event_id.0,
        attempt: offer.task.attempt,
        stamp: offer.task.stamp,
        scheduled_at: offer.scheduled_at.0,
        priority: offer.priority,
        start_to_close_deadline: 0,
        schedule_to_start_deadline: 0,
    }
}
