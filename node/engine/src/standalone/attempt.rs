//! One attempt of a standalone activity begins: a matcher paired it with a poller.

use stanchion_proto::command::{Poller, StartActivityTask};
use stanchion_proto::row::StandaloneDetailRow;
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::workflowservice::v1::PollActivityTaskQueueResponse;

use super::Alone;
use crate::activity::{self, Place, STANDALONE, Worker, is_waiting};
use crate::lookup;
use crate::reply::Reply;
use crate::time::duration;
use crate::transaction::{Outcome, Transaction};

/// StartActivityTask, of an activity that stands alone.
pub fn start(tx: &mut Transaction<'_>, command: &StartActivityTask) -> Outcome<Reply> {
    let Some(name) = &command.run else { return Ok(Reply::Stale) };
    let Some(mut alone) = Alone::load(tx, lookup::key_of(tx, &name.workflow_id, &name.run_id))? else {
        return Ok(Reply::Stale);
    };
    if !alone.is_open() || alone.activity.stamp != command.stamp {
        return Ok(Reply::Stale);
    }
    let unknown = Poller::default();
    let poller = command.poller.as_ref().unwrap_or(&unknown);
    let detail = alone.detail(tx)?;
    let activity = &alone.activity;
    if activity.started_at != 0 && !poller.request_id.is_empty() && activity.started_request_id == poller.request_id {
        // The same poller again: the answer to its first request was lost on the way.
        return Ok(Reply::ActivityTaskStarted(Box::new(task(tx, &alone, detail))));
    }
    if !is_waiting(activity) {
        return Ok(Reply::Stale);
    }
    let (place, activity) = alone.parts();
    place.withdraw(tx, activity);
    activity::begin(tx, &place, activity, &Worker { identity: &poller.identity, request_id: &poller.request_id });
    alone.row.last_started_at = tx.now.0;
    let task = task(tx, &alone, detail);
    alone.save(tx)?;
    Ok(Reply::ActivityTaskStarted(Box::new(task)))
}

/// The task as the worker gets it: like a workflow's, without the workflow.
pub(super) fn task(tx: &Transaction<'_>, alone: &Alone, detail: StandaloneDetailRow) -> PollActivityTaskQueueResponse {
    let row = &alone.activity;
    PollActivityTaskQueueResponse {
        workflow_execution: Some(WorkflowExecution::default()),
        activity_run_id: alone.key.run_id.clone(),
        header: detail.header,
        input: detail.input,
        schedule_to_close_timeout: Some(duration(row.schedule_to_close_timeout)),
        start_to_close_timeout: Some(duration(row.start_to_close_timeout)),
        heartbeat_timeout: Some(duration(row.heartbeat_timeout)),
        ..activity::task(tx, &Place { slot: alone.slot, key: &alone.key, id: STANDALONE }, row)
    }
}
