//! What the rows of one run must say of one another between two commands, read from the tables and from no cache; and whether its
//! stored history is the one that the run's row was written for.
//!
//! Never: a change; a read of more than it was told. What is found depends on the tables alone, so every replica would find it.
//!
//! Called by `replica`, on a sampled share of the runs that commands touch, and by tests after every command.

use prost::Message as _;
use stanchion_proto::row::{CurrentRow, PendingRow, run_row::WorkflowTask};

use super::{Violation, history as rules, run};
use crate::activity::is_waiting;
use crate::effects::{TaskKind, TaskRef};
use crate::run::{Run, timers};
use crate::state::{ShardState, StateResult, Table};
use crate::transaction::decode;
use crate::types::{EventId, RunKey};
use crate::{history, keys, pending};

/// What a look at a run found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Look {
    /// Events read; 0 where the history was not looked at.
    pub events: usize,
    /// The run's history in bytes, as its row says.
    pub history_bytes: u64,
    pub violations: Vec<Violation>,
}

/// Holds the run's rows against one another. None if there is no such run (any more).
pub fn check(state: &dyn ShardState, key: &RunKey) -> StateResult<Option<Look>> {
    let Some(run) = Run::read(state, key)? else { return Ok(None) };
    let mut violations = run::violations(&run);
    if run.is_open() {
        current(state, &run, &mut violations)?;
        timers_are_queued(state, &run, &mut violations)?;
    }
    tasks(state, &run, &mut violations)?;
    Ok(Some(Look { events: 0, history_bytes: run.row.history_bytes, violations }))
}

/// Holds the run's whole stored history to the rules, and to the number of events and the chain that its row names.
pub fn check_history(state: &dyn ShardState, key: &RunKey) -> StateResult<Option<Look>> {
    let Some(run) = Run::read(state, key)? else { return Ok(None) };
    let (mut chain, mut events) = ([0; 32], Vec::new());
    for batch in history::batches(state, run.slot, key, EventId(1))? {
        for stored in batch.events()? {
            chain = history::link(&chain, &stored.bytes);
            events.push(stored.event);
        }
    }
    let mut violations = rules::check(&key.workflow_id, &key.run_id, &events);
    let last = events.last().map_or(0, |event| event.event_id);
    if last + 1 != run.row.next_event_id {
        let expected = run.row.next_event_id;
        violations.push(run::broken(
            &run,
            "B1",
            last,
            format!("the history ends at event {last}, and the next one is to be {expected}"),
        ));
    } else if run.row.history_hash.as_ref() != chain.as_slice() {
        violations.push(run::broken(&run, "B1", last, "the chain over the stored events is not the run's".to_owned()));
    }
    Ok(Some(Look { events: events.len(), history_bytes: run.row.history_bytes, violations }))
}

/// A3: policies look at the one open run of a workflow id.
fn current(state: &dyn ShardState, run: &Run, found: &mut Vec<Violation>) -> StateResult<()> {
    let row = state.get(run.slot, Table::Current, &keys::current(&run.key.namespace_id, &run.key.workflow_id))?;
    let current: CurrentRow = row.map(|row| decode(Table::Current, row)).transpose()?.unwrap_or_default();
    if current.run_id != run.key.run_id {
        let what = format!("it is open, and the run that its workflow id stands for is {:?}", current.run_id);
        found.push(run::broken(run, "A3", 0, what));
    } else if current.status != run.row.status {
        let what = format!("its status is {}, and {} where policies look", run.row.status, current.status);
        found.push(run::broken(run, "A3", 0, what));
    }
    Ok(())
}

/// F2: what is to fire stands in the queue.
fn timers_are_queued(state: &dyn ShardState, run: &Run, found: &mut Vec<Violation>) -> StateResult<()> {
    for (id, timer) in run.timers.iter() {
        if !timers::is_queued(state, run, timer)? {
            let what = format!("timer {id:?} is pending and nothing is due for it");
            found.push(run::broken(run, "F2", timer.started_event_id, what));
        }
    }
    Ok(())
}

/// H1, H2: what waits for a worker is on offer, with the stamp that it waits under; nothing else is.
fn tasks(state: &dyn ShardState, run: &Run, found: &mut Vec<Violation>) -> StateResult<()> {
    let mut expected = Vec::new();
    if run.is_open() {
        let task = match &run.row.workflow_task {
            None => None,
            Some(WorkflowTask::Scheduled(task)) => Some(task),
            Some(WorkflowTask::Started(started)) => started.scheduled.as_ref(),
        };
        expected.extend(task.map(|task| (TaskKind::Workflow, task.scheduled_event_id, task.stamp)));
        let waiting = run.activities.iter().filter(|(_, row)| is_waiting(row));
        expected.extend(waiting.map(|(id, row)| (TaskKind::Activity, *id, row.stamp)));
    }
    for (kind, id, stamp) in &expected {
        let task = TaskRef { run: run.key.clone(), scheduled_event_id: EventId(*id), attempt: 0, stamp: *stamp };
        let row = state.get(run.slot, Table::Pending, &pending::key(*kind, &task))?;
        match row.map(|row| decode::<PendingRow>(Table::Pending, row)).transpose()? {
            Some(row) if row.stamp == *stamp => {}
            Some(row) => {
                let what = format!("its {kind:?} task has stamp {stamp}, and is on offer under {}", row.stamp);
                found.push(run::broken(run, "H1", *id, what));
            }
            None => {
                let what = format!("its {kind:?} task waits, and is not on offer");
                found.push(run::broken(run, "H2", *id, what));
            }
        }
    }
    let prefix = keys::run(&run.key);
    let rows = state.range(run.slot, Table::Pending, &prefix, &keys::after(&prefix), expected.len() + 1)?;
    if rows.len() > expected.len() {
        let ids: Vec<i64> = rows
            .iter()
            .filter_map(|(_, row)| PendingRow::decode(row.clone()).ok())
            .map(|row| row.scheduled_event_id)
            .collect();
        let what = format!("{} of its tasks wait or run, and more are on offer: of the events {ids:?}", expected.len());
        found.push(run::broken(run, "H1", 0, what));
    }
    Ok(())
}
