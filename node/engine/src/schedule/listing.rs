//! What lists and counts see of a schedule: its record among all records, written by the command that changes it.

use prost::Message;
use stanchion_proto::row::{AttributeRow, ScheduleRow, VisibilityRow};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};
use stanchion_proto::temporal::schedule::v1::schedule_action::Action;
use stanchion_proto::temporal::schedule::v1::{Schedule, ScheduleAction};
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;

use crate::visibility::attributes;

const PAUSED: &str = "TemporalSchedulePaused";
/// Recent actions that lists show.
pub const ACTIONS: usize = 5;

/// The record. What only schedules have stands in it as a row of its own, without what lists do not show.
pub fn record(id: &str, row: &ScheduleRow) -> VisibilityRow {
    let state = row.schedule.as_ref().and_then(|schedule| schedule.state.as_ref());
    let mut attributes = attributes::rows(row.search_attributes.as_ref());
    attributes.retain(|attribute| attribute.name != PAUSED);
    attributes.push(AttributeRow {
        name: PAUSED.to_owned(),
        r#type: IndexedValueType::Bool.into(),
        number: i64::from(state.is_some_and(|state| state.paused)),
        ..Default::default()
    });
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    VisibilityRow {
        workflow_id: id.to_owned(),
        run_id: row.incarnation.clone(),
        status: WorkflowExecutionStatus::Running.into(),
        started_at: row.created_at,
        execution_at: row.created_at,
        attributes,
        extra: shown(row).encode_to_vec().into(),
        ..Default::default()
    }
}

fn shown(row: &ScheduleRow) -> ScheduleRow {
    let schedule = row.schedule.clone().unwrap_or_default();
    let workflow_type = match schedule.action.and_then(|action| action.action) {
        Some(Action::StartWorkflow(workflow)) => workflow.workflow_type,
        None => None,
    };
    let action = Action::StartWorkflow(NewWorkflowExecutionInfo { workflow_type, ..Default::default() });
    ScheduleRow {
        schedule: Some(Schedule {
            spec: schedule.spec,
            action: Some(ScheduleAction { action: Some(action) }),
            state: schedule.state,
            policies: None,
        }),
        memo: row.memo.clone(),
        search_attributes: row.search_attributes.clone(),
        updated_at: row.updated_at,
        processed_at: row.processed_at,
        recent_actions: row.recent_actions[row.recent_actions.len().saturating_sub(ACTIONS)..].to_vec(),
        ..Default::default()
    }
}
