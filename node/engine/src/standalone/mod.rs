//! Standalone activities: started by a caller and not by a workflow, with a status and an outcome of their own.
//!
//! ```text
//!  start --> (delayed) --> waits --> with a worker --> completed, failed, canceled, terminated, timed out --> deleted
//!                            ^            |
//!                            +- backs off <+        attempts, time-outs and pauses are those of every activity (`activity`)
//! ```
//!
//! An activity id has one open run at most. A run is three rows: what changes, what it was started with, and its outcome. In offers,
//! tokens and timers it goes under a run key whose workflow id is the activity's id, and under the scheduled event 0; run ids are unique,
//! so a workflow of the same id is never meant.
//!
//! Never: two open runs of one activity id; an outcome replaced; an attempt handed to two workers.
//!
//! Called by `apply`.

mod answers;
mod attempt;
mod control;
mod listed;
mod requests;
mod start;
mod timeouts;

pub use answers::{cancel, complete, fail, heartbeat};
pub use attempt::start as start_attempt;
pub use control::control;
pub use listed::activity_status;
pub use requests::{delete, request_cancel, terminate};
pub use start::start;
pub use timeouts::{fire, is_timer};

use prost::Message;
use stanchion_proto::row::{
    ActivityRow, StandaloneCurrentRow, StandaloneDetailRow, StandaloneOutcomeRow, StandaloneRow, TimerQueueRow,
    timer_queue_row,
};
use stanchion_proto::temporal::activity::v1::ActivityExecutionOutcome;
use stanchion_proto::temporal::activity::v1::activity_execution_outcome::Value;
use stanchion_proto::temporal::enums::v1::{ActivityExecutionStatus as Status, RetryState};

use crate::activity::{Place, STANDALONE, deadlines, is_waiting};
use crate::effects::RunChange;
use crate::keys::{self, StandalonePart};
use crate::reply::{Code, Rejection};
use crate::slot::slot_of;
use crate::state::{StateResult, Table};
use crate::timer_queue;
use crate::transaction::{Outcome, Transaction};
use crate::types::{EventId, RunKey, ShardTime, Slot};

/// One run of a standalone activity, as a command works on it. What is not [`Alone::save`]d is forgotten.
pub(crate) struct Alone {
    pub key: RunKey,
    pub slot: Slot,
    pub row: StandaloneRow,
    /// Taken out of the row while it is worked on.
    pub activity: ActivityRow,
    /// What lists show of it, as it was last written; none of a new one.
    listed_as: Option<listed::Listed>,
    /// Its delay, as lists have it.
    listed_delay: i64,
}

/// The real server's words for an activity that is not there, or not there for this caller.
pub(crate) fn not_found(activity_id: &str) -> Rejection {
    Rejection::not_found(format!("activity not found for ID: {activity_id}"))
}

/// The newest run of an activity id.
fn current(tx: &Transaction<'_>, namespace_id: &str, activity_id: &str) -> StateResult<Option<StandaloneCurrentRow>> {
    let slot = slot_of(namespace_id, activity_id);
    tx.get_row(slot, Table::StandaloneActivity, &keys::standalone_current(namespace_id, activity_id))
}

impl Alone {
    /// The run named, or with an empty run id the newest; open or closed.
    fn find(tx: &Transaction<'_>, activity_id: &str, run_id: &str) -> Outcome<Self> {
        let run_id = match run_id {
            "" => current(tx, tx.namespace_id, activity_id)?.ok_or_else(|| not_found(activity_id))?.run_id,
            named => named.to_owned(),
        };
        let key = RunKey { namespace_id: tx.namespace_id.to_owned(), workflow_id: activity_id.to_owned(), run_id };
        Ok(Self::load(tx, key)?.ok_or_else(|| not_found(activity_id))?)
    }

    fn load(tx: &Transaction<'_>, key: RunKey) -> StateResult<Option<Self>> {
        let slot = key.slot();
        let part = keys::standalone_part(&key, StandalonePart::State);
        let Some(mut row) = tx.get_row::<StandaloneRow>(slot, Table::StandaloneActivity, &part)? else {
            return Ok(None);
        };
        let activity = row.activity.take().unwrap_or_default();
        let mut alone = Self { key, slot, row, activity, listed_as: None, listed_delay: 0 };
        alone.listed_delay = alone.activity.start_delay;
        alone.listed_as = Some(alone.listed());
        Ok(Some(alone))
    }

    fn detail(&self, tx: &Transaction<'_>) -> StateResult<StandaloneDetailRow> {
        let part = keys::standalone_part(&self.key, StandalonePart::Detail);
        Ok(tx.get_row(self.slot, Table::StandaloneActivity, &part)?.unwrap_or_default())
    }

    fn put_detail(&mut self, tx: &mut Transaction<'_>, detail: &StandaloneDetailRow) {
        self.row.detail_bytes = detail.encoded_len() as u64;
        tx.put_row(
            self.slot,
            Table::StandaloneActivity,
            keys::standalone_part(&self.key, StandalonePart::Detail),
            detail,
        );
    }

    pub(crate) fn status(&self) -> Status {
        Status::try_from(self.row.status).unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.status() == Status::Running
    }

    fn next_stamp(&mut self) -> u64 {
        self.row.next_stamp += 1;
        self.row.next_stamp
    }

    /// The timer machinery's view of it, and the row that it works on.
    fn parts(&mut self) -> (Place<'_>, &mut ActivityRow) {
        (Place { slot: self.slot, key: &self.key, id: STANDALONE }, &mut self.activity)
    }

    /// Nothing of it is on offer or due any more.
    fn clear(&mut self, tx: &mut Transaction<'_>) {
        let (place, activity) = self.parts();
        if is_waiting(activity) {
            place.withdraw(tx, activity);
        }
        deadlines::clear(tx, &place, activity);
        activity.backing_off = false;
        activity.heartbeat_timer_at = 0;
    }

    /// Ends it.
    fn close(
        &mut self,
        tx: &mut Transaction<'_>,
        status: Status,
        outcome: Value,
        retry_state: RetryState,
    ) -> StateResult<()> {
        self.clear(tx);
        self.row.status = status as i32;
        self.row.closed_at = tx.now.0;
        let outcome = StandaloneOutcomeRow {
            outcome: Some(ActivityExecutionOutcome { value: Some(outcome), retry_state: retry_state as i32 }),
        };
        let part = keys::standalone_part(&self.key, StandalonePart::Outcome);
        tx.put_row(self.slot, Table::StandaloneActivity, part, &outcome);
        if let Some(mut current) = current(tx, &self.key.namespace_id, &self.key.workflow_id)?
            && current.run_id == self.key.run_id
        {
            current.status = status as i32;
            self.put_current(tx, &current);
        }
        if tx.retention > 0 {
            self.row.retention = tx.retention;
        }
        if self.row.retention > 0 {
            timer_queue::set(tx, self.slot, self.kept_until(), &self.retention_timer());
        }
        Ok(())
    }

    fn put_current(&self, tx: &mut Transaction<'_>, current: &StandaloneCurrentRow) {
        let key = keys::standalone_current(&self.key.namespace_id, &self.key.workflow_id);
        tx.put_row(self.slot, Table::StandaloneActivity, key, current);
    }

    fn kept_until(&self) -> ShardTime {
        ShardTime(self.row.closed_at).plus(self.row.retention)
    }

    fn retention_timer(&self) -> TimerQueueRow {
        TimerQueueRow {
            namespace_id: self.key.namespace_id.clone(),
            workflow_id: self.key.workflow_id.clone(),
            run_id: self.key.run_id.clone(),
            kind: timer_queue_row::Kind::StandaloneRetention as i32,
            ..Default::default()
        }
    }

    /// Stages the row after a change that nobody sees.
    fn keep(mut self, tx: &mut Transaction<'_>) {
        self.row.activity = Some(self.activity);
        let part = keys::standalone_part(&self.key, StandalonePart::State);
        tx.put_row(self.slot, Table::StandaloneActivity, part, &self.row);
    }

    /// Stages the row, and wakes who waits for a change.
    fn save(mut self, tx: &mut Transaction<'_>) -> StateResult<()> {
        self.row.transitions += 1;
        self.list_again(tx)?;
        let closed = !self.is_open();
        tx.effects.changes.push(change(&self.key, self.row.transitions, closed));
        self.keep(tx);
        Ok(())
    }

    /// Deletes everything of the run.
    fn erase(mut self, tx: &mut Transaction<'_>) -> StateResult<()> {
        self.unlist(tx)?;
        if self.is_open() {
            self.clear(tx);
        } else if self.row.retention > 0 {
            timer_queue::clear(tx, self.slot, self.kept_until(), &self.retention_timer());
        }
        for part in [StandalonePart::State, StandalonePart::Detail, StandalonePart::Outcome] {
            tx.delete(self.slot, Table::StandaloneActivity, keys::standalone_part(&self.key, part));
        }
        if current(tx, &self.key.namespace_id, &self.key.workflow_id)?
            .is_some_and(|current| current.run_id == self.key.run_id)
        {
            let key = keys::standalone_current(&self.key.namespace_id, &self.key.workflow_id);
            tx.delete(self.slot, Table::StandaloneActivity, key);
        }
        tx.effects.changes.push(change(&self.key, self.row.transitions + 1, true));
        Ok(())
    }

    /// What it does, as refusals name it.
    fn state_name(&self) -> &'static str {
        match self.status() {
            Status::Unspecified | Status::Running | Status::Paused => {}
            Status::Completed => return "Completed",
            Status::Failed => return "Failed",
            Status::Canceled => return "Canceled",
            Status::Terminated => return "Terminated",
            Status::TimedOut => return "TimedOut",
        }
        if self.activity.reset_requested && self.activity.started_at != 0 {
            return "ResetRequested";
        }
        match (self.row.cancel_requested, self.activity.pause.is_some(), self.activity.started_at != 0) {
            (true, _, _) => "CancelRequested",
            (false, true, true) => "PauseRequested",
            (false, true, false) => "Paused",
            (false, false, true) => "Started",
            (false, false, false) => "Scheduled",
        }
    }
}

/// Changes are counted as a run's events are: the number that the next one will have.
fn change(key: &RunKey, transitions: u64, closed: bool) -> RunChange {
    let next = i64::try_from(transitions).unwrap_or(i64::MAX).saturating_add(1);
    RunChange { run: key.clone(), next_event_id: EventId(next), closed, idle: false }
}

fn precondition(message: String) -> Rejection {
    Rejection::new(Code::FailedPrecondition, message)
}
