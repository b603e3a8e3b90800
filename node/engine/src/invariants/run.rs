//! What must hold of a run between commands. Checked after every change in builds with debug assertions.
//!
//! A violation stops the group: going on would spread it.

use stanchion_proto::row::run_row::WorkflowTask;

use super::Violation;
use crate::run::{Run, speculative::is_stored};
use crate::state::{StateFault, StateResult};

/// Checks the run in builds with debug assertions; elsewhere it costs nothing.
pub fn check(run: &Run) -> StateResult<()> {
    if cfg!(debug_assertions) { validate(run) } else { Ok(()) }
}

/// Checks the run.
pub fn validate(run: &Run) -> StateResult<()> {
    match violations(run).first() {
        None => Ok(()),
        Some(violation) => Err(StateFault::Invariant(violation.to_string())),
    }
}

/// Every rule that the run breaks.
pub(super) fn violations(run: &Run) -> Vec<Violation> {
    let row = &run.row;
    let mut found = Vec::new();
    let mut holds = |rule: &'static str, event_id: i64, what: &str, holds: bool| {
        if !holds {
            found.push(broken(run, rule, event_id, format!("this does not hold: {what}")));
        }
    };

    holds("B1", 0, "a run has a first event", row.next_event_id > 1);
    holds("B1", 0, "the chain over the history has a link for each event", row.history_hash.len() == 32);
    holds("B4", 0, "events wait for their ids only while a workflow task is started", {
        !run.has_buffered() || run.workflow_task_started()
    });
    holds("B5", 0, "a closed run has a closing time and an open one has none", run.is_open() == (row.closed_at == 0));
    holds("B5", 0, "a closed run has no task with a worker", run.is_open() || !run.workflow_task_started());
    holds("B6", 0, "only a closed run has a successor", row.successor_run_id.is_empty() || !run.is_open());
    holds("F2", 0, "a closed run has no timers", run.is_open() || run.timers.is_empty());
    holds("C1", 0, "a run that backs off has completed no workflow task", {
        !row.backing_off || row.last_completed_event_id == 0
    });
    holds("C1", 0, "fences only grow", task_stamp(row.workflow_task.as_ref()) <= row.next_stamp);
    if let Some(task) = &row.workflow_task {
        let fit = task_ids_fit(task, row.next_event_id);
        holds("C1", 0, "a task's events lie within the history or right behind it", fit);
    }
    for (scheduled_event_id, _) in run.activities.iter() {
        let known = *scheduled_event_id < row.next_event_id;
        holds("B4", *scheduled_event_id, "a pending activity was scheduled", known);
    }
    for (_, update) in run.updates.iter() {
        let accepted = update.accepted_event_id;
        holds("E3", accepted, "an update in flight was admitted", update.order <= row.updates_admitted);
        holds("E3", accepted, "an accepted update has its event", accepted < row.next_event_id);
        holds("E3", accepted, "a closed run leaves no update waiting", run.is_open() || accepted > 0);
    }
    for (_, timer) in run.timers.iter() {
        let started = timer.started_event_id;
        holds("B4", started, "a pending timer was started", started < row.next_event_id);
    }
    found
}

/// A rule that the run breaks.
pub(super) fn broken(run: &Run, rule: &'static str, event_id: i64, what: String) -> Violation {
    let (workflow_id, run_id) = (run.key.workflow_id.clone(), run.key.run_id.clone());
    Violation { rule, workflow_id, run_id, event_id, what }
}

fn task_stamp(task: Option<&WorkflowTask>) -> u64 {
    match task {
        None => 0,
        Some(WorkflowTask::Scheduled(task)) => task.stamp,
        Some(WorkflowTask::Started(task)) => task.scheduled.as_ref().map_or(0, |task| task.stamp),
    }
}

fn task_ids_fit(task: &WorkflowTask, next_event_id: i64) -> bool {
    match task {
        WorkflowTask::Scheduled(task) if is_stored(task) => task.scheduled_event_id < next_event_id,
        WorkflowTask::Scheduled(task) => task.scheduled_event_id <= next_event_id,
        WorkflowTask::Started(started) => match &started.scheduled {
            Some(task) if is_stored(task) => {
                task.scheduled_event_id < started.started_event_id && started.started_event_id < next_event_id
            }
            Some(task) => task.scheduled_event_id == next_event_id && started.started_event_id == next_event_id + 1,
            None => false,
        },
    }
}
