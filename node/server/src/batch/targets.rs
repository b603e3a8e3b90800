//! The executions that a batch operation is about: those that its filter selects, or those that its request names.
//!
//! A filter of an operation that only open executions know is narrowed to these, as the real server does it.

use std::time::Instant;

use stanchion_engine::Rejection;
use stanchion_engine::visibility::Entity;
use stanchion_engine::visibility::filter::{Condition, Field, Filter, System, Test, Value};
use stanchion_proto::row::{BatchPageRow, BatchTargetRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;
use stanchion_proto::temporal::workflowservice::v1::StartBatchOperationRequest;
use stanchion_proto::temporal::workflowservice::v1::start_batch_operation_request::Operation;

use super::Job;
use crate::shell::CallError;
use crate::visibility::parse::Parsed;
use crate::visibility::{self, PAGE_MAX};

pub enum Selection {
    Named(Vec<BatchTargetRow>),
    Filtered(Entity, Parsed),
}

impl Selection {
    /// Rejected where the filter is not one.
    pub async fn of(job: &Job<'_>, request: &StartBatchOperationRequest) -> Result<Self, CallError> {
        let named = named(request);
        if !named.is_empty() {
            return Ok(Self::Named(named));
        }
        let entity = entity_of(request.operation.as_ref());
        let mut parsed = visibility::understand(job.node, &job.namespace, entity, &request.visibility_query).await?;
        if parsed.by_status {
            return Err(Rejection::invalid("invalid query: a batch operation's filter has no 'GROUP BY' clause").into());
        }
        if of_open_ones(request.operation.as_ref()) {
            parsed.filter = Filter::And(vec![parsed.filter, running()]);
        }
        Ok(Self::Filtered(entity, parsed))
    }

    pub async fn count(&self, job: &Job<'_>, deadline: Instant) -> Result<i64, CallError> {
        let count = match self {
            Self::Named(named) => named.len() as u64,
            Self::Filtered(entity, parsed) => {
                visibility::count_parsed(job.node, &job.namespace, *entity, parsed, deadline).await?.total
            }
        };
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// The executions from a cursor on; an empty cursor is the beginning.
    pub async fn page(
        &self,
        job: &Job<'_>,
        cursor: &[u8],
        size: usize,
        deadline: Instant,
    ) -> Result<BatchPageRow, CallError> {
        let size = size.clamp(1, PAGE_MAX);
        match self {
            Self::Named(named) => {
                let from = cursor.first_chunk::<8>().map_or(0, |from| u64::from_be_bytes(*from));
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(named.len());
                let to = from.saturating_add(size).min(named.len());
                let (targets, cursor) = (named[from..to].to_vec(), (to as u64).to_be_bytes().to_vec().into());
                Ok(BatchPageRow { targets, cursor, last: to == named.len() })
            }
            Self::Filtered(entity, parsed) => {
                let (node, namespace) = (job.node, &job.namespace);
                let size = i32::try_from(size).unwrap_or(i32::MAX);
                let page = visibility::list_parsed(node, namespace, *entity, parsed, size, cursor, deadline).await?;
                let target = |row: VisibilityRow| BatchTargetRow { workflow_id: row.workflow_id, run_id: row.run_id };
                let (targets, last) = (page.rows.into_iter().map(target).collect(), page.next_page_token.is_empty());
                Ok(BatchPageRow { targets, cursor: page.next_page_token.into(), last })
            }
        }
    }
}

#[allow(deprecated, reason = "older clients name executions so")]
fn named(request: &StartBatchOperationRequest) -> Vec<BatchTargetRow> {
    let older = request.executions.iter().map(|execution| (&execution.workflow_id, &execution.run_id));
    let newer = request.target_executions.iter().map(|execution| (&execution.business_id, &execution.run_id));
    let target = |(id, run_id): (&String, &String)| BatchTargetRow { workflow_id: id.clone(), run_id: run_id.clone() };
    older.chain(newer).map(target).collect()
}

/// What lists the operation's filter is about.
pub fn entity_of(operation: Option<&Operation>) -> Entity {
    match operation {
        Some(
            Operation::CancelActivitiesOperation(_)
            | Operation::TerminateActivitiesOperation(_)
            | Operation::DeleteActivitiesOperation(_),
        ) => Entity::Activity,
        _ => Entity::Workflow,
    }
}

/// Resets and deletions are for closed ones too.
fn of_open_ones(operation: Option<&Operation>) -> bool {
    !matches!(
        operation,
        Some(Operation::ResetOperation(_) | Operation::DeletionOperation(_) | Operation::DeleteActivitiesOperation(_))
    )
}

/// What is open.
pub fn running() -> Filter {
    let test = Test::Equal(Value::Number(WorkflowExecutionStatus::Running as i64));
    Filter::Is(Condition { field: Field::System(System::ExecutionStatus), test })
}
