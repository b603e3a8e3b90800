//! What runs tell their schedule: that they have started (or not), and that the last of their chain has closed.
//!
//! Called by the inbox.

use stanchion_proto::row::{ScheduledByRow, ScheduledClosed, ScheduledRunRow, ScheduledStarted};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;
use stanchion_proto::temporal::schedule::v1::ScheduleActionResult;

use super::actions;
use super::schedule::Schedule;
use super::tick;
use crate::state::StateResult;
use crate::time::timestamp;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;

/// Actions that descriptions show.
const RECENT_ACTIONS: usize = 10;

/// The schedule that the answer is for, if it is still that one.
fn asked(tx: &Transaction<'_>, by: Option<&ScheduledByRow>) -> StateResult<Option<Schedule>> {
    let Some(by) = by else { return Ok(None) };
    let schedule = Schedule::load(tx, &by.schedule_id)?;
    Ok(schedule.filter(|schedule| !schedule.row.deleted && schedule.row.incarnation == by.incarnation))
}

/// A start was done or refused.
pub fn started(tx: &mut Transaction<'_>, answer: &ScheduledStarted) -> Outcome<()> {
    let Some(mut schedule) = asked(tx, answer.scheduled_by.as_ref())? else { return Ok(()) };
    let number = answer.scheduled_by.as_ref().map_or(0, |by| by.number);
    let Some(place) = schedule.row.starting.iter().position(|starting| starting.number == number) else {
        return Ok(());
    };
    let starting = schedule.row.starting.remove(place);
    if !answer.run_id.is_empty() {
        schedule.row.action_count += 1;
        let run = WorkflowExecution { workflow_id: starting.workflow_id.clone(), run_id: answer.run_id.clone() };
        let place = schedule.row.recent_numbers.partition_point(|known| *known < number);
        schedule.row.recent_numbers.insert(place, number);
        let action = ScheduleActionResult {
            schedule_time: Some(timestamp(ShardTime(starting.actual_at))),
            actual_time: Some(timestamp(ShardTime(answer.started_at))),
            start_workflow_result: Some(run),
            start_workflow_status: WorkflowExecutionStatus::Running as i32,
        };
        schedule.row.recent_actions.insert(place, action);
        if schedule.row.recent_actions.len() > RECENT_ACTIONS {
            schedule.row.recent_actions.remove(0);
            schedule.row.recent_numbers.remove(0);
        }
        if !starting.overlapping {
            schedule.row.running.push(ScheduledRunRow {
                number,
                workflow_id: starting.workflow_id,
                run_id: answer.run_id.clone(),
                ..Default::default()
            });
        }
    }
    go_on(tx, schedule);
    Ok(())
}

/// The last run of a chain that the schedule started has closed.
pub fn closed(tx: &mut Transaction<'_>, answer: &ScheduledClosed) -> Outcome<()> {
    let Some(mut schedule) = asked(tx, answer.scheduled_by.as_ref())? else { return Ok(()) };
    let number = answer.scheduled_by.as_ref().map_or(0, |by| by.number);
    let action = schedule
        .row
        .recent_actions
        .iter_mut()
        .find(|action| action.start_workflow_result.as_ref().is_some_and(|run| run.run_id == answer.first_run_id));
    if let Some(action) = action {
        action.start_workflow_status = answer.status;
    }
    // Runs under ALLOW_ALL are not among these: what becomes of them is of no consequence.
    if let Some(place) = schedule.row.running.iter().position(|run| run.number == number) {
        let run = schedule.row.running.remove(place);
        pause_after_failure(&mut schedule, &run, answer);
        if answer.result.is_some() {
            schedule.row.last_completion_result.clone_from(&answer.result);
            schedule.row.last_failure = None;
        } else if answer.failure.is_some() {
            schedule.row.last_failure.clone_from(&answer.failure);
        }
    }
    go_on(tx, schedule);
    Ok(())
}

fn pause_after_failure(schedule: &mut Schedule, run: &ScheduledRunRow, answer: &ScheduledClosed) {
    if !schedule.pauses_on_failure() || schedule.state().paused {
        return;
    }
    let id = &run.workflow_id;
    match WorkflowExecutionStatus::try_from(answer.status).unwrap_or_default() {
        WorkflowExecutionStatus::Failed => {
            let message = answer.failure.as_ref().map_or("", |failure| failure.message.as_str());
            schedule.pause(format!("paused due to workflow failure: {id}: {message}"));
        }
        WorkflowExecutionStatus::TimedOut => schedule.pause(format!("paused due to workflow timeout: {id}")),
        _ => {}
    }
}

/// What waited for this may go on.
fn go_on(tx: &mut Transaction<'_>, mut schedule: Schedule) {
    actions::act(tx, &mut schedule);
    tick::go_on_with_backfill(&mut schedule, tx.now);
    schedule.finish(tx);
}
