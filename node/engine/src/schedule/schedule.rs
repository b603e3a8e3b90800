//! A schedule, loaded to be changed by one command: its row, its policies in force, and its two timers.
//!
//! Never: a change that [`Schedule::finish`] does not write.

use prost_types::Duration;
use stanchion_proto::row::{BufferedStartRow, ScheduleRow, TimerQueueRow, VisibilityRow, timer_queue_row};
use stanchion_proto::temporal::enums::v1::ScheduleOverlapPolicy;
use stanchion_proto::temporal::schedule::v1::schedule_action::Action;
use stanchion_proto::temporal::schedule::v1::{Schedule as Spec, SchedulePolicies, ScheduleState};
use stanchion_proto::temporal::workflow::v1::NewWorkflowExecutionInfo;

use super::{BUFFER_MAX, listing, slot_of};
use crate::state::{StateResult, Table};
use crate::time::{SECOND, duration, nanos};
use crate::transaction::{Outcome, Transaction};
use crate::types::{ShardTime, Slot};
use crate::visibility::{self, Entity};
use crate::{keys, timer_queue};

const CATCHUP_WINDOW: i64 = 365 * 24 * 3600 * SECOND;
const CATCHUP_WINDOW_MIN: i64 = 10 * SECOND;

/// A schedule with nothing left to do is kept this long behind the last thing that happened to it.
const IDLE_LIFE: i64 = 7 * 24 * 3600 * SECOND;
/// So long it is remembered that a schedule was deleted.
const DELETED_LIFE: i64 = 24 * 3600 * SECOND;

/// Request ids remembered. Beyond it the oldest is forgotten: a call is repeated soon or never.
const REQUEST_IDS_MAX: usize = 100;

/// See the module.
pub struct Schedule {
    pub id: String,
    pub slot: Slot,
    pub row: ScheduleRow,
    namespace_id: String,
    /// Timers as they stand in the queue, with the incarnation that they were set for.
    stored: Option<ScheduleRow>,
    /// The record that lists have of it.
    listed: Option<VisibilityRow>,
}

impl Schedule {
    /// One that this command makes.
    pub fn new(tx: &Transaction<'_>, id: &str, row: ScheduleRow, replaced: Option<Schedule>) -> Self {
        Self {
            id: id.to_owned(),
            slot: slot_of(tx.namespace_id, id),
            row,
            namespace_id: tx.namespace_id.to_owned(),
            stored: replaced.and_then(|replaced| replaced.stored),
            listed: None,
        }
    }

    /// The schedule of that id; a deleted one too.
    pub fn load(tx: &Transaction<'_>, id: &str) -> StateResult<Option<Self>> {
        let slot = slot_of(tx.namespace_id, id);
        let row: Option<ScheduleRow> = tx.get_row(slot, Table::Schedule, &keys::current(tx.namespace_id, id))?;
        Ok(row.map(|row| {
            let timers = ScheduleRow {
                incarnation: row.incarnation.clone(),
                wake_at: row.wake_at,
                retire_at: row.retire_at,
                ..Default::default()
            };
            let listed = (!row.deleted).then(|| listing::record(id, &row));
            let namespace_id = tx.namespace_id.to_owned();
            Self { id: id.to_owned(), slot, row, namespace_id, stored: Some(timers), listed }
        }))
    }

    /// Stages the row and its timers.
    pub fn finish(mut self, tx: &mut Transaction<'_>) {
        self.row.retire_at = match self.is_idle() {
            true if self.row.deleted => self.row.retire_at,
            true => self.last_event_at().saturating_add(IDLE_LIFE),
            false => 0,
        };
        let before = self.stored.take().unwrap_or_default();
        let timers = [
            (timer_queue_row::Kind::ScheduleWake, before.wake_at, self.row.wake_at),
            (timer_queue_row::Kind::ScheduleRetire, before.retire_at, self.row.retire_at),
        ];
        let same = before.incarnation == self.row.incarnation;
        for (kind, before_at, at) in timers {
            if same && before_at == at {
                continue;
            }
            if before_at != 0 {
                timer_queue::clear(tx, self.slot, ShardTime(before_at), &self.timer(kind, &before.incarnation));
            }
            if at != 0 {
                timer_queue::set(tx, self.slot, ShardTime(at), &self.timer(kind, &self.row.incarnation));
            }
        }
        let listed = (!self.row.deleted).then(|| listing::record(&self.id, &self.row));
        match (&self.listed, &listed) {
            (Some(before), None) => {
                visibility::remove(tx, Entity::Schedule, &self.namespace_id, self.slot, before);
            }
            (before, Some(now)) if before.as_ref() != Some(now) => {
                visibility::put(tx, Entity::Schedule, &self.namespace_id, self.slot, before.as_ref(), now);
            }
            _ => {}
        }
        let key = keys::current(&self.namespace_id, &self.id);
        tx.put_row(self.slot, Table::Schedule, key, &self.row);
    }

    fn timer(&self, kind: timer_queue_row::Kind, incarnation: &str) -> TimerQueueRow {
        TimerQueueRow {
            namespace_id: self.namespace_id.clone(),
            workflow_id: self.id.clone(),
            run_id: incarnation.to_owned(),
            kind: kind as i32,
            ..Default::default()
        }
    }

    /// What is left of a deleted schedule.
    pub fn delete(&mut self, now: ShardTime) {
        self.row = ScheduleRow {
            incarnation: std::mem::take(&mut self.row.incarnation),
            request_ids: std::mem::take(&mut self.row.request_ids),
            deleted: true,
            retire_at: now.plus(DELETED_LIFE).0,
            ..Default::default()
        };
    }

    /// The call is one that came before.
    pub fn knows(&self, request_id: &str) -> bool {
        !request_id.is_empty() && self.row.request_ids.iter().any(|known| known == request_id)
    }

    pub fn remember(&mut self, request_id: &str) {
        if request_id.is_empty() {
            return;
        }
        if self.row.request_ids.len() >= REQUEST_IDS_MAX {
            self.row.request_ids.remove(0);
        }
        self.row.request_ids.push(request_id.to_owned());
    }

    /// Nothing comes of it until somebody changes it.
    fn is_idle(&self) -> bool {
        self.row.deleted || (self.row.wake_at == 0 && !self.state().paused && self.row.backfills.is_empty())
    }

    fn last_event_at(&self) -> i64 {
        let action = self.row.recent_actions.last().and_then(|action| action.actual_time.as_ref());
        let action = action.map_or(0, |at| at.seconds.saturating_mul(SECOND).saturating_add(i64::from(at.nanos)));
        action.max(self.row.created_at).max(self.row.updated_at)
    }

    /// The leader looks for matching times at this time.
    pub fn wake(&mut self, at: ShardTime) {
        self.row.wake_at = at.0;
    }

    // What it is to do -------------------------------------------------------------------------------------------------

    pub fn action(&self) -> Option<&NewWorkflowExecutionInfo> {
        match self.row.schedule.as_ref()?.action.as_ref()?.action.as_ref()? {
            Action::StartWorkflow(workflow) => Some(workflow),
        }
    }

    fn policies(&self) -> SchedulePolicies {
        self.row.schedule.as_ref().and_then(|schedule| schedule.policies).unwrap_or_default()
    }

    pub fn state(&self) -> ScheduleState {
        self.row.schedule.as_ref().and_then(|schedule| schedule.state.clone()).unwrap_or_default()
    }

    pub fn state_mut(&mut self) -> &mut ScheduleState {
        self.row.schedule.get_or_insert_default().state.get_or_insert_default()
    }

    pub fn pauses_on_failure(&self) -> bool {
        self.policies().pause_on_failure
    }

    pub fn overlap_policy(&self) -> ScheduleOverlapPolicy {
        self.policies().overlap_policy()
    }

    pub fn catchup_window(&self) -> i64 {
        nanos(self.policies().catchup_window.as_ref())
    }

    /// Somebody asked for the action, or neither a pause nor the limit stands against it.
    pub fn may_act(&self, manual: bool) -> bool {
        let state = self.state();
        manual || (!state.paused && (!state.limited_actions || state.remaining_actions > 0))
    }

    /// As [`Schedule::may_act`], and counts the action.
    pub fn use_action(&mut self, manual: bool) -> bool {
        if !self.may_act(manual) {
            return false;
        }
        if !manual && self.state().limited_actions {
            self.state_mut().remaining_actions -= 1;
            // Somebody may just be adding to the number that he has seen.
            self.row.conflict_token += 1;
        }
        true
    }

    /// Puts an action behind those that wait.
    pub fn buffer(&mut self, start: BufferedStartRow) {
        if self.row.buffered.len() >= BUFFER_MAX {
            self.row.buffer_dropped += 1;
        } else {
            self.row.buffered.push(start);
        }
    }

    /// Times that pass while it may not act are not made up for.
    pub fn pass_over_idle_time(&mut self, now: ShardTime) {
        if !self.may_act(false) {
            self.row.processed_at = self.row.processed_at.max(now.0);
        }
    }

    pub fn pause(&mut self, notes: String) {
        let state = self.state_mut();
        state.paused = true;
        state.notes = notes;
        self.row.conflict_token += 1;
    }

    pub fn unpause(&mut self, notes: String) {
        let state = self.state_mut();
        state.paused = false;
        state.notes = notes;
        self.row.conflict_token += 1;
    }
}

/// A schedule as it is stored: what is not given gets its default, so that it shows in descriptions.
pub fn with_defaults(schedule: Option<Spec>) -> Spec {
    let mut schedule = schedule.unwrap_or_default();
    schedule.spec.get_or_insert_default();
    schedule.action.get_or_insert_default();
    schedule.state.get_or_insert_default();
    let policies = schedule.policies.get_or_insert_default();
    if policies.overlap_policy() == ScheduleOverlapPolicy::Unspecified {
        policies.set_overlap_policy(ScheduleOverlapPolicy::Skip);
    }
    policies.catchup_window = Some(catchup_window(policies.catchup_window.as_ref()));
    schedule
}

fn catchup_window(given: Option<&Duration>) -> Duration {
    match given {
        None => duration(CATCHUP_WINDOW),
        Some(given) if nanos(Some(given)) < CATCHUP_WINDOW_MIN => duration(CATCHUP_WINDOW_MIN),
        Some(given) => *given,
    }
}

/// The timer of a schedule that nothing happens to any more, or that was deleted: it is forgotten.
pub fn retire(tx: &mut Transaction<'_>, namespace_id: &str, id: &str, incarnation: &str) -> Outcome<()> {
    let slot = slot_of(namespace_id, id);
    let key = keys::current(namespace_id, id);
    let row: Option<ScheduleRow> = tx.get_row(slot, Table::Schedule, &key)?;
    let due = |row: &ScheduleRow| row.incarnation == incarnation && row.retire_at != 0 && row.retire_at <= tx.now.0;
    if let Some(row) = row.filter(due) {
        if !row.deleted {
            visibility::remove(tx, Entity::Schedule, namespace_id, slot, &listing::record(id, &row));
        }
        tx.delete(slot, Table::Schedule, key);
    }
    Ok(())
}
