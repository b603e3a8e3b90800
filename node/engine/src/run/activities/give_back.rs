//! A start that reached nobody is taken back: the poller that was held for the attempt had left when its task was ready.
//!
//! The attempt is offered anew under another stamp, with the same number: no worker has seen it. Nothing of it is in the history,
//! because started events are written with the result.
//!
//! Never: takes back what a worker may have. Only the leader that held the poller knows that it does not, and says so with the stamp.

use stanchion_proto::command::GiveBackActivityTask;

use super::offer;
use crate::activity::{deadlines, is_waiting};
use crate::lookup;
use crate::reply::Reply;
use crate::transaction::{Outcome, Transaction};

/// GiveBackActivityTask.
pub fn give_back(tx: &mut Transaction<'_>, command: &GiveBackActivityTask) -> Outcome<Reply> {
    let activity = command.activity.clone().unwrap_or_default();
    let name = activity.run.unwrap_or_default();
    let Some(mut run) = lookup::named(tx, &name.workflow_id, &name.run_id)? else { return Ok(Reply::Stale) };
    let id = activity.scheduled_event_id;
    let row = run
        .activities
        .get(&id)
        .filter(|row| row.stamp == activity.stamp && row.started_at != 0 && row.last_heartbeat_at == 0);
    let Some(mut row) = row.filter(|_| run.is_open()).cloned() else {
        tx.release(run);
        return Ok(Reply::Stale);
    };
    deadlines::clear_attempt(tx, &run.place(id), &row);
    row.started_at = 0;
    row.heartbeat_timer_at = 0;
    row.worker_identity.clear();
    row.started_request_id.clear();
    row.stamp = run.next_stamp();
    let waits = is_waiting(&row);
    if waits {
        deadlines::offered(tx, &run.place(id), &row);
    }
    run.activities.insert(id, row);
    if waits {
        offer(tx, &run, id);
    }
    tx.finish(run)?;
    Ok(Reply::Done)
}
