//! Pending activities changed from outside: paused, let go on, reset, given other options. Nothing of it is in the history.
//!
//! A paused activity is not on offer, counts no attempts and none of its time-outs passes. What a worker already has it keeps; the worker
//! hears of the pause with its next heartbeat.
//!
//! Never: an attempt taken from its worker by a change of the fence: a reset to the first attempt is what outdates a token.

use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::control_activities::Which;
use stanchion_proto::command::{
    ActivityControl, ChangeActivityOptions, ControlActivities, PauseActivity, ResetActivity, UnpauseActivity,
};
use stanchion_proto::row::{ActivityRow, PauseRow};
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use super::attempt::scheduled_event;
use super::{by_activity_id, merged};
use crate::activity::{self, Place, deadlines, is_waiting, options};
use crate::lookup;
use crate::reply::{Code, Rejection, Reply};
use crate::run::Run;
use crate::state::StateResult;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;

/// ControlActivities. All that are named are changed, or none.
pub fn control(tx: &mut Transaction<'_>, command: &ControlActivities) -> Outcome<Reply> {
    let nothing = ActivityControl::default();
    let control = command.control.as_ref().unwrap_or(&nothing);
    let Some(action) = &control.action else {
        return Err(Rejection::invalid("ControlActivities carries no action.").into());
    };
    let named = command.run.clone().unwrap_or_default();
    let mut run = lookup::open_run(tx, &named.workflow_id, &named.run_id)?;
    let named = match action {
        Action::Options(change) if change.options.is_none() && !change.restore_original => {
            Err(Rejection::invalid("ActivityOptions are not provided"))
        }
        _ => named_by(&run, command.which.as_ref()),
    };
    let ids = match named {
        Ok(ids) => ids,
        Err(rejection) => {
            tx.release(run);
            return Err(rejection.into());
        }
    };
    let mut shown = None;
    for id in ids {
        // A refusal drops the run, and with it what was changed of the activities before this one.
        match action {
            Action::Pause(pause) => self::pause(tx, &mut run, id, pause, &control.identity)?,
            Action::Unpause(unpause) => self::unpause(tx, &mut run, id, unpause),
            Action::Reset(reset) => self::reset(tx, &mut run, id, reset)?,
            Action::Options(change) => {
                let options = self::change(tx, &mut run, id, change)?;
                shown = shown.or(options);
            }
        }
    }
    tx.finish(run)?;
    Ok(match shown {
        Some(options) => Reply::ActivityOptions(Box::new(options)),
        None => Reply::Done,
    })
}

fn named_by(run: &Run, which: Option<&Which>) -> Result<Vec<i64>, Rejection> {
    let ids: Vec<i64> = match which {
        Some(Which::Id(activity_id)) => by_activity_id(run, activity_id).into_iter().collect(),
        Some(Which::Type(kind)) => {
            run.activities.iter().filter(|(_, row)| row.activity_type == *kind).map(|(id, _)| *id).collect()
        }
        Some(Which::All(_)) => return Ok(run.activities.keys().copied().collect()),
        None => Vec::new(),
    };
    if ids.is_empty() {
        return Err(Rejection::not_found(
            "Can't find pending activity with such ID. Invalid activityID or activity already completed",
        ));
    }
    Ok(ids)
}

fn pause(tx: &mut Transaction<'_>, run: &mut Run, id: i64, pause: &PauseActivity, identity: &str) -> Outcome<()> {
    let Some(mut row) = run.activities.get(&id).cloned() else { return Ok(()) };
    if let Some(already) = &row.pause {
        if pause.once && already.request_id != pause.request_id {
            return Err(Rejection::new(Code::FailedPrecondition, "activity is already paused").into());
        }
        return Ok(());
    }
    let place = run.place(id);
    if is_waiting(&row) {
        place.withdraw(tx, &row);
    }
    deadlines::clear(tx, &place, &row);
    row.backing_off = false;
    row.heartbeat_timer_at = 0;
    row.pause = Some(PauseRow {
        paused_at: tx.now.0,
        identity: identity.to_owned(),
        reason: pause.reason.clone(),
        request_id: pause.request_id.clone(),
        stops_timeouts: true,
    });
    run.activities.insert(id, row);
    Ok(())
}

fn unpause(tx: &mut Transaction<'_>, run: &mut Run, id: i64, unpause: &UnpauseActivity) {
    let Some(mut row) = run.activities.get(&id).cloned() else { return };
    if row.pause.take().is_none() {
        return;
    }
    if unpause.reset_attempts {
        row.attempt = 1;
    }
    if unpause.reset_heartbeat {
        row.heartbeat_details = None;
        row.last_heartbeat_at = 0;
    }
    resume(tx, run, id, row, unpause.jitter.as_ref());
}

fn reset(tx: &mut Transaction<'_>, run: &mut Run, id: i64, reset: &ResetActivity) -> StateResult<()> {
    let Some(mut row) = run.activities.get(&id).cloned() else { return Ok(()) };
    if row.started_at != 0 && row.pause.is_none() && !reset.restore_original_options {
        // Its worker may go on with it; time-outs are those of the attempt, whatever its number.
        row.attempt = 1;
        row.reset_requested = true;
        row.reset_heartbeats |= reset.reset_heartbeat;
        run.activities.insert(id, row);
        return Ok(());
    }
    let original = if reset.restore_original_options { Some(original(tx, run, id)?) } else { None };
    let place = run.place(id);
    unset(tx, &place, &mut row);
    row.attempt = 1;
    row.reset_requested = true;
    row.reset_heartbeats |= reset.reset_heartbeat;
    if let Some(original) = &original {
        options::put(&mut row, original);
    }
    if row.pause.is_some() && reset.keep_paused {
        run.activities.insert(id, row);
        return Ok(());
    }
    row.pause = None;
    resume(tx, run, id, row, reset.jitter.as_ref());
    Ok(())
}

/// Takes back all that is on offer or due of the activity, by what its row is now. It is set anew by what the row is to be.
fn unset(tx: &mut Transaction<'_>, place: &Place<'_>, row: &mut ActivityRow) {
    if is_waiting(row) {
        place.withdraw(tx, row);
    }
    deadlines::clear(tx, place, row);
    row.heartbeat_timer_at = 0;
    row.backing_off = false;
}

/// Nothing of the activity is on offer or due. It goes on: with its worker, or on offer at once or within the jitter.
fn resume(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    id: i64,
    mut row: ActivityRow,
    jitter: Option<&prost_types::Duration>,
) {
    if row.started_at != 0 {
        deadlines::resume(tx, &run.place(id), &mut row);
    } else {
        let at = tx.now.plus(tx.ids.below(crate::time::nanos(jitter)));
        row.last_failure = None;
        let stamp = run.next_stamp();
        wait_anew(tx, run, id, &mut row, stamp, at);
    }
    run.activities.insert(id, row);
}

fn wait_anew(tx: &mut Transaction<'_>, run: &Run, id: i64, row: &mut ActivityRow, stamp: u64, at: ShardTime) {
    let place = run.place(id);
    let attempt = row.attempt;
    activity::wait(tx, &place, row, stamp, attempt, at);
    deadlines::whole(tx, &place, row);
}

fn change(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    id: i64,
    change: &ChangeActivityOptions,
) -> Outcome<Option<ActivityOptions>> {
    let Some(mut row) = run.activities.get(&id).cloned() else { return Ok(None) };
    let new = if change.restore_original {
        original(tx, run, id)?
    } else {
        let given = change.options.clone().unwrap_or_default();
        options::merged(&row, &given, &change.mask, &run.place(id).rules(run.row.run_timeout))?
    };
    let place = run.place(id);
    unset(tx, &place, &mut row);
    options::put(&mut row, &new);
    if row.started_at != 0 {
        deadlines::resume(tx, &place, &mut row);
    } else if row.pause.is_none() {
        row.last_failure = None;
        let at =
            if row.attempt > 1 { options::attempt_at(&row, row.attempt) } else { ShardTime(row.attempt_scheduled_at) };
        let stamp = run.next_stamp();
        wait_anew(tx, run, id, &mut row, stamp, at);
    }
    run.activities.insert(id, row);
    Ok(Some(new))
}

/// The options that the workflow scheduled the activity with.
fn original(tx: &Transaction<'_>, run: &Run, id: i64) -> StateResult<ActivityOptions> {
    let event = scheduled_event(tx, run, id)?;
    Ok(ActivityOptions {
        task_queue: event.task_queue.map(|queue| TaskQueue { name: queue.name, ..Default::default() }),
        schedule_to_close_timeout: event.schedule_to_close_timeout,
        schedule_to_start_timeout: event.schedule_to_start_timeout,
        start_to_close_timeout: event.start_to_close_timeout,
        heartbeat_timeout: event.heartbeat_timeout,
        retry_policy: event.retry_policy,
        priority: merged(run.row.priority.as_ref(), event.priority.as_ref()),
        ..Default::default()
    })
}
