//! What callers do with schedules: create, update, patch, delete.
//!
//! A call with a request id that the schedule has seen is answered as it was and changes nothing.

use stanchion_proto::command::{CreateSchedule, DeleteSchedule, PatchSchedule, UpdateSchedule};
use stanchion_proto::row::{BackfillRow, BufferedStartRow, ScheduleRow};
use stanchion_proto::temporal::schedule::v1::SchedulePatch;

use super::schedule::{Schedule, with_defaults};
use super::{BUFFER_MAX, FIRST_CONFLICT_TOKEN, ID_PREFIX, actions};
use crate::lookup;
use crate::reply::{Code, Detail, Rejection, Reply};
use crate::time::instant;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;

/// The real server begins a backfill this much earlier, so that a matching start is in it.
const MILLISECOND: i64 = 1_000_000;

/// The real server's words for a schedule that never was.
pub fn not_found(id: &str) -> Rejection {
    Rejection::not_found(format!("workflow not found for ID: {ID_PREFIX}{id}"))
}

/// The schedule, to be changed.
fn open(tx: &Transaction<'_>, id: &str) -> Outcome<Schedule> {
    let schedule = Schedule::load(tx, id)?.ok_or_else(|| not_found(id))?;
    if schedule.row.deleted { Err(lookup::closed().into()) } else { Ok(schedule) }
}

/// CreateSchedule.
pub fn create(tx: &mut Transaction<'_>, command: &CreateSchedule) -> Outcome<Reply> {
    let request = command.request.clone().unwrap_or_default();
    let existing = Schedule::load(tx, &request.schedule_id)?;
    if let Some(existing) = &existing {
        if existing.knows(&request.request_id) {
            return Ok(Reply::Done);
        }
        if !existing.row.deleted {
            let message = format!("schedule {:?} is already registered", request.schedule_id);
            let detail = Detail::WorkflowExecutionAlreadyStarted {
                start_request_id: String::new(),
                run_id: String::new(),
                first_execution_run_id: String::new(),
            };
            return Err(Rejection::new(Code::AlreadyExists, message).with(detail).into());
        }
    }
    let row = ScheduleRow {
        namespace: tx.namespace.to_owned(),
        incarnation: tx.ids.uuid(),
        schedule: Some(with_defaults(request.schedule)),
        memo: request.memo,
        search_attributes: request.search_attributes,
        conflict_token: FIRST_CONFLICT_TOKEN,
        created_at: tx.now.0,
        processed_at: tx.now.0,
        ..Default::default()
    };
    let mut schedule = Schedule::new(tx, &request.schedule_id, row, existing);
    schedule.remember(&request.request_id);
    if let Some(patch) = &request.initial_patch {
        apply_patch(&mut schedule, patch, tx.now);
    }
    changed(tx, schedule)
}

/// UpdateSchedule.
pub fn update(tx: &mut Transaction<'_>, command: &UpdateSchedule) -> Outcome<Reply> {
    let request = command.request.clone().unwrap_or_default();
    let mut schedule = open(tx, &request.schedule_id)?;
    if schedule.knows(&request.request_id) {
        return Ok(Reply::Done);
    }
    if token(&request.conflict_token).is_some_and(|token| token != schedule.row.conflict_token) {
        return Err(Rejection::new(Code::FailedPrecondition, "mismatched conflict token").into());
    }
    schedule.remember(&request.request_id);
    schedule.pass_over_idle_time(tx.now);
    schedule.row.schedule = Some(with_defaults(request.schedule));
    if request.search_attributes.is_some() {
        schedule.row.search_attributes = request.search_attributes;
    }
    if request.memo.is_some() {
        schedule.row.memo = request.memo;
    }
    schedule.row.updated_at = tx.now.0;
    schedule.row.conflict_token += 1;
    changed(tx, schedule)
}

/// None: the change is to be made whatever others did.
fn token(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes)).filter(|token| *token != 0)
}

/// PatchSchedule.
pub fn patch(tx: &mut Transaction<'_>, command: &PatchSchedule) -> Outcome<Reply> {
    let request = command.request.clone().unwrap_or_default();
    let mut schedule = open(tx, &request.schedule_id)?;
    if schedule.knows(&request.request_id) {
        return Ok(Reply::Done);
    }
    schedule.remember(&request.request_id);
    apply_patch(&mut schedule, &request.patch.unwrap_or_default(), tx.now);
    changed(tx, schedule)
}

fn apply_patch(schedule: &mut Schedule, patch: &SchedulePatch, now: ShardTime) {
    schedule.pass_over_idle_time(now);
    if let Some(trigger) = &patch.trigger_immediately {
        let at = trigger.scheduled_time.as_ref().map_or(now.0, |at| instant(at).0);
        schedule.buffer(BufferedStartRow {
            nominal_at: at,
            actual_at: at,
            overlap_policy: trigger.overlap_policy,
            manual: true,
        });
    }
    for backfill in &patch.backfill_request {
        if schedule.row.backfills.len() >= BUFFER_MAX {
            schedule.row.buffer_dropped += 1;
            continue;
        }
        // Without both ends there is nothing in it, as on the real server.
        let (Some(start), Some(end)) = (&backfill.start_time, &backfill.end_time) else { continue };
        schedule.row.backfills.push(BackfillRow {
            after: instant(start).0.saturating_sub(MILLISECOND),
            until: instant(end).0,
            overlap_policy: backfill.overlap_policy,
        });
    }
    if !patch.pause.is_empty() {
        schedule.pause(patch.pause.clone());
    }
    if !patch.unpause.is_empty() {
        schedule.unpause(patch.unpause.clone());
    }
}

/// Starts what can be, and has the leader look for matching times.
fn changed(tx: &mut Transaction<'_>, mut schedule: Schedule) -> Outcome<Reply> {
    schedule.row.namespace = tx.namespace.to_owned();
    actions::act(tx, &mut schedule);
    schedule.wake(tx.now);
    schedule.finish(tx);
    Ok(Reply::Done)
}

/// DeleteSchedule.
pub fn delete(tx: &mut Transaction<'_>, command: &DeleteSchedule) -> Outcome<Reply> {
    let request = command.request.clone().unwrap_or_default();
    let mut schedule = open(tx, &request.schedule_id)?;
    schedule.delete(tx.now);
    schedule.finish(tx);
    Ok(Reply::Done)
}
