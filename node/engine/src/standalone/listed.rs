//! What lists and counts show of a standalone activity. It is written when that changes, not with every change of the activity.

use stanchion_proto::row::{StandaloneDetailRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::{ActivityExecutionStatus, WorkflowExecutionStatus};

use super::Alone;
use crate::state::StateResult;
use crate::transaction::Transaction;
use crate::visibility::{self, Entity, attributes};

/// The part of a record that changes.
#[derive(Clone, PartialEq)]
pub(super) struct Listed {
    status: WorkflowExecutionStatus,
    task_queue: String,
    closed_at: i64,
    transitions: i64,
}

/// Records hold a run's status; that of an activity stands there as the run's of the same name.
pub fn record_status(status: ActivityExecutionStatus) -> WorkflowExecutionStatus {
    match status {
        ActivityExecutionStatus::Unspecified => WorkflowExecutionStatus::Unspecified,
        ActivityExecutionStatus::Running => WorkflowExecutionStatus::Running,
        ActivityExecutionStatus::Completed => WorkflowExecutionStatus::Completed,
        ActivityExecutionStatus::Failed => WorkflowExecutionStatus::Failed,
        ActivityExecutionStatus::Canceled => WorkflowExecutionStatus::Canceled,
        ActivityExecutionStatus::Terminated => WorkflowExecutionStatus::Terminated,
        ActivityExecutionStatus::TimedOut => WorkflowExecutionStatus::TimedOut,
        ActivityExecutionStatus::Paused => WorkflowExecutionStatus::Paused,
    }
}

/// The inverse of [`record_status`], of a record's number.
pub fn activity_status(record: i32) -> ActivityExecutionStatus {
    match WorkflowExecutionStatus::try_from(record).unwrap_or_default() {
        WorkflowExecutionStatus::Unspecified | WorkflowExecutionStatus::ContinuedAsNew => {
            ActivityExecutionStatus::Unspecified
        }
        WorkflowExecutionStatus::Running => ActivityExecutionStatus::Running,
        WorkflowExecutionStatus::Completed => ActivityExecutionStatus::Completed,
        WorkflowExecutionStatus::Failed => ActivityExecutionStatus::Failed,
        WorkflowExecutionStatus::Canceled => ActivityExecutionStatus::Canceled,
        WorkflowExecutionStatus::Terminated => ActivityExecutionStatus::Terminated,
        WorkflowExecutionStatus::TimedOut => ActivityExecutionStatus::TimedOut,
        WorkflowExecutionStatus::Paused => ActivityExecutionStatus::Paused,
    }
}

impl Alone {
    pub(super) fn listed(&self) -> Listed {
        let closed = !self.is_open();
        let paused =
            !closed && !self.row.cancel_requested && self.activity.pause.is_some() && self.activity.started_at == 0;
        let status = if paused { ActivityExecutionStatus::Paused } else { self.status() };
        let transitions = if closed { self.row.transitions } else { 0 };
        Listed {
            status: record_status(status),
            task_queue: self.activity.task_queue.clone(),
            closed_at: self.row.closed_at,
            transitions: i64::try_from(transitions).unwrap_or(i64::MAX),
        }
    }

    fn record(&self, listed: &Listed, detail: &StandaloneDetailRow) -> VisibilityRow {
        VisibilityRow {
            workflow_id: self.key.workflow_id.clone(),
            run_id: self.key.run_id.clone(),
            workflow_type: self.activity.activity_type.clone(),
            task_queue: listed.task_queue.clone(),
            status: listed.status as i32,
            started_at: self.activity.scheduled_at,
            execution_at: self.activity.scheduled_at.saturating_add(self.listed_delay),
            closed_at: listed.closed_at,
            transitions: listed.transitions,
            attributes: attributes::rows(detail.search_attributes.as_ref()),
            ..Default::default()
        }
    }

    /// The first record of a new activity.
    pub(super) fn list(&mut self, tx: &mut Transaction<'_>, detail: &StandaloneDetailRow) {
        let listed = self.listed();
        self.listed_delay = self.activity.start_delay;
        let record = self.record(&listed, detail);
        visibility::put(tx, Entity::Activity, &self.key.namespace_id, self.slot, None, &record);
        self.listed_as = Some(listed);
    }

    /// Writes the record anew if it says something else now.
    pub(super) fn list_again(&mut self, tx: &mut Transaction<'_>) -> StateResult<()> {
        let now = self.listed();
        let Some(before) = self.listed_as.clone() else { return Ok(()) };
        if before == now && self.listed_delay == self.activity.start_delay {
            return Ok(());
        }
        let detail = self.detail(tx)?;
        let old = self.record(&before, &detail);
        self.listed_delay = self.activity.start_delay;
        let new = self.record(&now, &detail);
        visibility::put(tx, Entity::Activity, &self.key.namespace_id, self.slot, Some(&old), &new);
        self.listed_as = Some(now);
        Ok(())
    }

    pub(super) fn unlist(&self, tx: &mut Transaction<'_>) -> StateResult<()> {
        if let Some(before) = &self.listed_as {
            let record = self.record(before, &self.detail(tx)?);
            visibility::remove(tx, Entity::Activity, &self.key.namespace_id, self.slot, &record);
        }
        Ok(())
    }
}
