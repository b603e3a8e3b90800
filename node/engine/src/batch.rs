//! Batch operations: what a job is to do, and how far it has come. The doing is the leader's (`server/batch`), a page at a time, by the
//! calls that a client would make.
//!
//! ```text
//! StartBatch --> Running --AdvanceBatch: first page --AdvanceBatch: done, next page -- … --AdvanceBatch: done, no more--> Completed
//!                   +------StopBatch, or a filter that is none----------------------------------------------------------> Failed
//! ```
//!
//! A page is recorded before any of its executions is touched. A leader that takes over does the operation on that page again, each time
//! with the same request id for the same execution, so what was done already is not done twice.
//!
//! Never: a change of a run; a step recorded twice (each names the number of steps before it).
//!
//! Called by `apply`, and by the leader that drives a job for its reads. Rows stand at the index home of the job's slot.

use prost::Message;
use stanchion_proto::command::{AdvanceBatch, StartBatch, StopBatch};
use stanchion_proto::row::{
    BatchPageRow, BatchRow, CurrentRow, RequestIdRow, TimerQueueRow, VisibilityRow, timer_queue_row,
};
use stanchion_proto::temporal::enums::v1::{
    BatchOperationState, BatchOperationType, EventType, WorkflowExecutionStatus, WorkflowIdConflictPolicy,
    WorkflowIdReusePolicy,
};
use stanchion_proto::temporal::workflowservice::v1::StartBatchOperationRequest;
use stanchion_proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;

use crate::effects::BatchJob;
use crate::keys::{self, BatchPart};
use crate::reply::{Rejection, Reply};
use crate::run::start::{Decision, Policies, decide};
use crate::slot::slot_of;
use crate::state::{StateFault, StateReader, StateResult, Table};
use crate::transaction::{Outcome, Transaction, decode};
use crate::types::Slot;
use crate::visibility::{self, Entity};
use crate::{lookup, timer_queue};

/// A job that runs, and what its leader works with.
#[derive(Clone, Debug)]
pub struct Work {
    pub row: BatchRow,
    pub request: StartBatchOperationRequest,
    pub page: BatchPageRow,
}

/// Where a job's rows stand.
pub fn home_of(namespace_id: &str, job_id: &str) -> Slot {
    visibility::home(slot_of(namespace_id, job_id))
}

/// StartBatch. In the real server a job is a workflow, so its id is refused as a workflow's would be.
pub fn start(tx: &mut Transaction<'_>, command: &StartBatch) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("StartBatch carries no request.").into());
    };
    let there = load(tx, &request.job_id)?.map(|row| as_workflow(&row));
    let policies = Policies { reuse: WorkflowIdReusePolicy::RejectDuplicate, conflict: WorkflowIdConflictPolicy::Fail };
    match decide(there.as_ref(), &request.job_id, &command.request_id, policies)? {
        Decision::Start { .. } => {}
        Decision::Same { .. } | Decision::UseExisting => return Ok(Reply::Done),
    }
    let Some((operation_type, identity)) = request.operation.as_ref().map(kind_of) else {
        return Err(Rejection::invalid("StartBatch names no operation.").into());
    };
    let row = BatchRow {
        run_id: tx.ids.uuid(),
        request_id: command.request_id.clone(),
        namespace: tx.namespace.to_owned(),
        operation_type: operation_type.into(),
        identity: identity.to_owned(),
        state: BatchOperationState::Running.into(),
        started_at: tx.now.0,
        ..Default::default()
    };
    let home = home_of(tx.namespace_id, &request.job_id);
    let key = |part| keys::batch(part, tx.namespace_id, &request.job_id);
    let (request_key, page_key) = (key(BatchPart::Request), key(BatchPart::Page));
    tx.put_row(home, Table::Batch, request_key, request);
    tx.put_row(home, Table::Batch, page_key, &BatchPageRow::default());
    store(tx, &request.job_id, None, &row);
    tx.effects.batches.push(BatchJob { namespace_id: tx.namespace_id.to_owned(), job_id: request.job_id.clone() });
    Ok(Reply::Done)
}

/// AdvanceBatch. Stale where the job has gone on, or ended, without this leader.
pub fn advance(tx: &mut Transaction<'_>, command: &AdvanceBatch) -> Outcome<Reply> {
    let Some(before) = load(tx, &command.job_id)?.filter(|row| is_running(row) && row.step == command.step) else {
        return Ok(Reply::Stale);
    };
    let mut row = before.clone();
    if row.step == 0 {
        row.total = command.total;
    }
    row.step += 1;
    row.completed += command.completed;
    row.failed += command.failed;
    // Executions that came meanwhile were not counted, and some that were counted have gone.
    row.total = row.total.max(row.completed + row.failed);
    match &command.next {
        Some(next) => {
            let (home, key) = place(tx, BatchPart::Page, &command.job_id);
            tx.put_row(home, Table::Batch, key, next);
            store(tx, &command.job_id, Some(&before), &row);
        }
        None => {
            let state = if command.refused { BatchOperationState::Failed } else { BatchOperationState::Completed };
            row.total = row.completed + row.failed;
            close(tx, &command.job_id, &before, row, state);
        }
    }
    Ok(Reply::Done)
}

/// StopBatch. The page that is being worked on may still be done to its end.
pub fn stop(tx: &mut Transaction<'_>, command: &StopBatch) -> Outcome<Reply> {
    let before = load(tx, &command.job_id)?.ok_or_else(|| not_found(&command.job_id))?;
    if !is_running(&before) {
        return Err(lookup::closed().into());
    }
    let row =
        BatchRow { stop_reason: command.reason.clone(), stop_identity: command.identity.clone(), ..before.clone() };
    close(tx, &command.job_id, &before, row, BatchOperationState::Failed);
    Ok(Reply::Done)
}

/// The job's retention is over.
pub fn forget(tx: &mut Transaction<'_>, namespace_id: &str, job_id: &str) -> Outcome<()> {
    let home = home_of(namespace_id, job_id);
    let row: Option<BatchRow> = tx.get_row(home, Table::Batch, &keys::batch(BatchPart::State, namespace_id, job_id))?;
    if let Some(row) = row {
        visibility::remove(tx, Entity::Batch, namespace_id, home, &listed(job_id, &row));
        for part in [BatchPart::State, BatchPart::Request, BatchPart::Page] {
            tx.delete(home, Table::Batch, keys::batch(part, namespace_id, job_id));
        }
    }
    Ok(())
}

/// The job as it stands, and its request.
pub fn read<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    job_id: &str,
) -> StateResult<Option<(BatchRow, StartBatchOperationRequest)>> {
    let Some(row) = part(reader, BatchPart::State, namespace_id, job_id)? else { return Ok(None) };
    let request = part(reader, BatchPart::Request, namespace_id, job_id)?;
    Ok(Some((row, request.ok_or_else(|| lacking("its request", job_id))?)))
}

/// What is to be done next of a job; none if it does not run.
pub fn work<R: StateReader>(reader: &R, namespace_id: &str, job_id: &str) -> StateResult<Option<Work>> {
    let Some((row, request)) = read(reader, namespace_id, job_id)? else { return Ok(None) };
    if !is_running(&row) {
        return Ok(None);
    }
    let page = part(reader, BatchPart::Page, namespace_id, job_id)?.ok_or_else(|| lacking("its page", job_id))?;
    Ok(Some(Work { row, request, page }))
}

/// The jobs of a home slot that run.
pub fn running<R: StateReader>(reader: &R, home: Slot) -> StateResult<Vec<BatchJob>> {
    let first = [BatchPart::Page as u8];
    let rows = reader.range(home, Table::Batch, &first, &keys::after(&first), usize::MAX)?;
    let job = |(key, _): (bytes::Bytes, _)| {
        let (namespace_id, job_id) = keys::of_batch(&key)
            .ok_or_else(|| StateFault::Corrupt { table: Table::Batch, reason: "a key of other names".to_owned() })?;
        Ok(BatchJob { namespace_id, job_id })
    };
    rows.into_iter().map(job).collect()
}

/// There is no such job.
pub fn not_found(job_id: &str) -> Rejection {
    Rejection::not_found(format!("workflow not found for ID: {job_id}"))
}

/// What an operation is called, and who asked for it.
fn kind_of(operation: &Operation) -> (BatchOperationType, &str) {
    use BatchOperationType as Kind;
    match operation {
        Operation::TerminationOperation(asked) => (Kind::TerminateWorkflow, &asked.identity),
        Operation::SignalOperation(asked) => (Kind::SignalWorkflow, &asked.identity),
        Operation::CancellationOperation(asked) => (Kind::CancelWorkflow, &asked.identity),
        Operation::DeletionOperation(asked) => (Kind::DeleteWorkflow, &asked.identity),
        Operation::ResetOperation(asked) => (Kind::ResetWorkflow, &asked.identity),
        Operation::UpdateWorkflowOptionsOperation(asked) => (Kind::UpdateWorkflowExecutionOptions, &asked.identity),
        Operation::UnpauseActivitiesOperation(asked) => (Kind::UnpauseActivity, &asked.identity),
        Operation::ResetActivitiesOperation(asked) => (Kind::ResetActivity, &asked.identity),
        Operation::UpdateActivityOptionsOperation(asked) => (Kind::UpdateActivityOptions, &asked.identity),
        Operation::CancelActivitiesOperation(asked) => (Kind::CancelActivity, &asked.identity),
        Operation::TerminateActivitiesOperation(asked) => (Kind::TerminateActivity, &asked.identity),
        Operation::DeleteActivitiesOperation(_) => (Kind::DeleteActivity, ""),
    }
}

fn is_running(row: &BatchRow) -> bool {
    row.state == i32::from(BatchOperationState::Running)
}

fn as_workflow(row: &BatchRow) -> CurrentRow {
    let status = if is_running(row) { WorkflowExecutionStatus::Running } else { WorkflowExecutionStatus::Completed };
    CurrentRow {
        run_id: row.run_id.clone(),
        status: status.into(),
        first_execution_run_id: row.run_id.clone(),
        request_ids: vec![RequestIdRow {
            request_id: row.request_id.clone(),
            event_type: EventType::WorkflowExecutionStarted.into(),
            event_id: 1,
        }],
        started_at: row.started_at,
    }
}

fn place(tx: &Transaction<'_>, part: BatchPart, job_id: &str) -> (Slot, Vec<u8>) {
    (home_of(tx.namespace_id, job_id), keys::batch(part, tx.namespace_id, job_id))
}

fn load(tx: &Transaction<'_>, job_id: &str) -> StateResult<Option<BatchRow>> {
    let (home, key) = place(tx, BatchPart::State, job_id);
    tx.get_row(home, Table::Batch, &key)
}

fn part<R: StateReader, M: Message + Default>(
    reader: &R,
    part: BatchPart,
    namespace_id: &str,
    job_id: &str,
) -> StateResult<Option<M>> {
    let row = reader.get(home_of(namespace_id, job_id), Table::Batch, &keys::batch(part, namespace_id, job_id))?;
    row.map(|row| decode(Table::Batch, row)).transpose()
}

fn lacking(what: &str, job_id: &str) -> StateFault {
    StateFault::Invariant(format!("the batch operation {job_id} lacks {what}"))
}

fn close(tx: &mut Transaction<'_>, job_id: &str, before: &BatchRow, mut row: BatchRow, state: BatchOperationState) {
    row.state = state.into();
    row.closed_at = tx.now.0;
    let (home, page) = place(tx, BatchPart::Page, job_id);
    tx.delete(home, Table::Batch, page);
    if tx.retention > 0 {
        let due = TimerQueueRow {
            namespace_id: tx.namespace_id.to_owned(),
            workflow_id: job_id.to_owned(),
            run_id: row.run_id.clone(),
            kind: timer_queue_row::Kind::BatchRetention.into(),
            ..Default::default()
        };
        timer_queue::set(tx, home, tx.now.plus(tx.retention), &due);
    }
    store(tx, job_id, Some(before), &row);
}

fn store(tx: &mut Transaction<'_>, job_id: &str, before: Option<&BatchRow>, row: &BatchRow) {
    let (home, key) = place(tx, BatchPart::State, job_id);
    tx.put_row(home, Table::Batch, key, row);
    let (old, new) = (before.map(|before| listed(job_id, before)), listed(job_id, row));
    if old.as_ref() != Some(&new) {
        visibility::put(tx, Entity::Batch, tx.namespace_id, home, old.as_ref(), &new);
    }
}

/// A job as lists have it. The numbers of its states are those of a run's.
fn listed(job_id: &str, row: &BatchRow) -> VisibilityRow {
    VisibilityRow {
        workflow_id: job_id.to_owned(),
        run_id: row.run_id.clone(),
        workflow_type: row.operation_type.to_string(),
        status: row.state,
        started_at: row.started_at,
        execution_at: row.started_at,
        closed_at: row.closed_at,
        ..Default::default()
    }
}

const _: () = {
    assert!(BatchOperationState::Running as i32 == WorkflowExecutionStatus::Running as i32);
    assert!(BatchOperationState::Completed as i32 == WorkflowExecutionStatus::Completed as i32);
    assert!(BatchOperationState::Failed as i32 == WorkflowExecutionStatus::Failed as i32);
};
