//! What descriptions and lists show of a schedule. Called by the leader's read path.

use prost_types::Timestamp;
use stanchion_proto::row::ScheduleRow;
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes, WorkflowExecution};
use stanchion_proto::temporal::schedule::v1::schedule_action::Action;
use stanchion_proto::temporal::schedule::v1::{ScheduleInfo, ScheduleListEntry, ScheduleListInfo};
use stanchion_proto::temporal::workflowservice::v1::DescribeScheduleResponse;

use super::spec::{CompiledSpec, TooManyExclusions};
use super::{canonical, due, listing};
use crate::time::{nanos, timestamp, timestamp_if_set};
use crate::types::ShardTime;

const FUTURE_ACTIONS: usize = 10;
/// Calendars, exclusions and intervals of a schedule in a list.
const LISTED_SPECS: usize = 10;
/// Times in one answer.
const MATCHING_TIMES_MAX: usize = 1000;

/// DescribeSchedule.
pub fn describe(row: &ScheduleRow, namespace_id: &str, schedule_id: &str, now: ShardTime) -> DescribeScheduleResponse {
    let (future_action_times, invalid_schedule_error) = future(row, namespace_id, schedule_id, now, FUTURE_ACTIONS);
    let running = row
        .running
        .iter()
        .map(|run| WorkflowExecution { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() });
    #[allow(deprecated)]
    let info = ScheduleInfo {
        action_count: row.action_count,
        missed_catchup_window: row.missed_catchup_window,
        overlap_skipped: row.overlap_skipped,
        buffer_dropped: row.buffer_dropped,
        buffer_size: i64::try_from(row.buffered.len()).unwrap_or(i64::MAX),
        running_workflows: running.collect(),
        recent_actions: row.recent_actions.clone(),
        future_action_times,
        create_time: timestamp_if_set(row.created_at),
        update_time: timestamp_if_set(row.updated_at),
        invalid_schedule_error,
        ..Default::default()
    };
    let mut schedule = row.schedule.clone().unwrap_or_default();
    canonical::fill_ranges(schedule.spec.get_or_insert_default());
    DescribeScheduleResponse {
        schedule: Some(schedule),
        info: Some(info),
        memo: memo(row),
        search_attributes: search_attributes(row),
        conflict_token: row.conflict_token.to_be_bytes().to_vec(),
    }
}

/// A schedule in a list.
pub fn list_entry(row: &ScheduleRow, namespace_id: &str, schedule_id: &str, now: ShardTime) -> ScheduleListEntry {
    let schedule = row.schedule.clone().unwrap_or_default();
    let mut spec = schedule.spec.unwrap_or_default();
    canonical::fill_ranges(&mut spec);
    spec.timezone_data.clear();
    spec.structured_calendar.truncate(LISTED_SPECS);
    spec.exclude_structured_calendar.truncate(LISTED_SPECS);
    spec.interval.truncate(LISTED_SPECS);
    let workflow_type = schedule.action.and_then(|action| action.action).and_then(|action| match action {
        Action::StartWorkflow(workflow) => workflow.workflow_type,
    });
    let state = schedule.state.unwrap_or_default();
    let listed = row.recent_actions.len().saturating_sub(listing::ACTIONS);
    ScheduleListEntry {
        schedule_id: schedule_id.to_owned(),
        memo: memo(row),
        search_attributes: search_attributes(row),
        info: Some(ScheduleListInfo {
            spec: Some(spec),
            workflow_type,
            notes: state.notes,
            paused: state.paused,
            recent_actions: row.recent_actions[listed..].to_vec(),
            future_action_times: future(row, namespace_id, schedule_id, now, listing::ACTIONS).0,
            ..Default::default()
        }),
    }
}

fn memo(row: &ScheduleRow) -> Option<Memo> {
    row.memo.clone().filter(|memo| !memo.fields.is_empty())
}

fn search_attributes(row: &ScheduleRow) -> Option<SearchAttributes> {
    row.search_attributes.clone().filter(|attributes| !attributes.indexed_fields.is_empty())
}

/// The next times, and what is wrong with the spec if it cannot be asked.
fn future(
    row: &ScheduleRow,
    namespace_id: &str,
    schedule_id: &str,
    now: ShardTime,
    count: usize,
) -> (Vec<Timestamp>, String) {
    let schedule = row.schedule.clone().unwrap_or_default();
    let state = schedule.state.unwrap_or_default();
    let count = match state.limited_actions {
        true => count.min(usize::try_from(state.remaining_actions).unwrap_or(0)),
        false => count,
    };
    let spec = match due::compile(row, namespace_id, schedule_id) {
        Ok(spec) => spec,
        Err(why) => return (Vec::new(), why),
    };
    // A time that jitter puts behind now may be on the clock before it.
    let jitter = nanos(schedule.spec.unwrap_or_default().jitter.as_ref()).max(0);
    let mut after = ShardTime(row.processed_at.max(now.0.saturating_sub(jitter)));
    let mut times = Vec::new();
    while times.len() < count
        && let Ok(Some(time)) = spec.next(after)
    {
        after = time.actual;
        if time.actual > now && time.actual.0 >= row.updated_at {
            times.push(timestamp(time.actual));
        }
    }
    (times, String::new())
}

/// ListScheduleMatchingTimes: times behind `start`, up to `end`.
pub fn matching_times(
    spec: &CompiledSpec,
    start: ShardTime,
    end: ShardTime,
) -> Result<Vec<Timestamp>, TooManyExclusions> {
    let mut after = start;
    let mut times = Vec::new();
    while times.len() < MATCHING_TIMES_MAX
        && let Some(time) = spec.next(after)?
        && time.actual <= end
    {
        after = time.actual;
        times.push(timestamp(time.actual));
    }
    Ok(times)
}
