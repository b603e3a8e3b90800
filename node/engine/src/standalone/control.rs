//! A standalone activity changed from outside: paused, let go on, reset, given other options.
//!
//! Other than a workflow's activity it is refused what makes no sense in its state, its time-outs go on while it is paused, and a reset
//! waits for the attempt that a worker has.

use stanchion_proto::command::activity_control::Action;
use stanchion_proto::command::{
    ActivityControl, ChangeActivityOptions, ControlStandaloneActivity, PauseActivity, ResetActivity, UnpauseActivity,
};
use stanchion_proto::row::PauseRow;
use stanchion_proto::temporal::activity::v1::ActivityOptions;

use super::{Alone, precondition};
use crate::activity::{self, deadlines, is_waiting, options};
use crate::reply::{Rejection, Reply};
use crate::time::nanos;
use crate::transaction::{Outcome, Transaction};
use crate::types::ShardTime;

/// ControlStandaloneActivity.
pub fn control(tx: &mut Transaction<'_>, command: &ControlStandaloneActivity) -> Outcome<Reply> {
    let nothing = ActivityControl::default();
    let control = command.control.as_ref().unwrap_or(&nothing);
    let mut alone = Alone::find(tx, &command.activity_id, &command.run_id)?;
    let mut reply = Reply::Done;
    match &control.action {
        Some(Action::Pause(pause)) => {
            if alone.activity.pause.as_ref().is_some_and(|p| alone.is_open() && p.request_id == pause.request_id) {
                return Ok(reply);
            }
            self::pause(tx, &mut alone, pause, &control.identity)?;
        }
        Some(Action::Unpause(unpause)) => self::unpause(tx, &mut alone, unpause)?,
        Some(Action::Reset(reset)) => self::reset(tx, &mut alone, reset)?,
        Some(Action::Options(change)) => {
            reply = Reply::ActivityOptions(Box::new(self::change(tx, &mut alone, change)?));
        }
        None => return Err(Rejection::invalid("ControlStandaloneActivity carries no action.").into()),
    }
    alone.save(tx)?;
    Ok(reply)
}

fn pause(tx: &mut Transaction<'_>, alone: &mut Alone, pause: &PauseActivity, identity: &str) -> Outcome<()> {
    let resets = alone.activity.reset_requested;
    if !alone.is_open() || alone.row.cancel_requested || resets || alone.activity.pause.is_some() {
        return Err(precondition(format!("activity is in non-pausable state {}", alone.state_name())).into());
    }
    let paused_at = tx.now.0;
    let (place, activity) = alone.parts();
    if activity.started_at == 0 {
        activity::stop_waiting(tx, &place, activity);
    }
    activity.pause = Some(PauseRow {
        paused_at,
        identity: identity.to_owned(),
        reason: pause.reason.clone(),
        request_id: pause.request_id.clone(),
        stops_timeouts: false,
    });
    Ok(())
}

fn unpause(tx: &mut Transaction<'_>, alone: &mut Alone, unpause: &UnpauseActivity) -> Outcome<()> {
    if !alone.is_open() {
        return Err(precondition(format!("activity is in terminal state {}", alone.state_name())).into());
    }
    if alone.row.cancel_requested || alone.activity.pause.is_none() {
        return Err(precondition(format!("activity is in non-unpausable state {}", alone.state_name())).into());
    }
    alone.activity.pause = None;
    if alone.activity.started_at == 0 {
        // A back-off that is not over goes on.
        let from = ShardTime(alone.activity.attempt_scheduled_at).max(tx.now);
        let at = from.plus(tx.ids.below(nanos(unpause.jitter.as_ref())));
        wait(tx, alone, None, at);
    }
    Ok(())
}

fn reset(tx: &mut Transaction<'_>, alone: &mut Alone, reset: &ResetActivity) -> Outcome<()> {
    if !alone.is_open() {
        return Err(precondition("activity execution is not running".into()).into());
    }
    if alone.row.cancel_requested {
        return Err(precondition("cannot reset an activity with a pending cancellation".into()).into());
    }
    if alone.activity.reset_requested {
        return Err(precondition("cannot reset an activity with a pending reset".into()).into());
    }
    if alone.activity.started_at != 0 {
        alone.activity.reset_requested = true;
        alone.activity.reset_heartbeats |= reset.reset_heartbeat;
        alone.row.reset_restores = reset.restore_original_options;
        if !reset.keep_paused {
            alone.activity.pause = None;
        }
        return Ok(());
    }
    let original = if reset.restore_original_options { alone.detail(tx)?.original } else { None };
    suspend(tx, alone);
    if let Some(original) = &original {
        options::put(&mut alone.activity, original);
    }
    if !reset.keep_paused {
        alone.activity.pause = None;
    }
    alone.activity.reset_heartbeats |= reset.reset_heartbeat;
    // A delayed start stays delayed.
    let delayed_to = ShardTime(alone.activity.scheduled_at).plus(alone.activity.start_delay);
    let at = tx.now.max(delayed_to).plus(tx.ids.below(nanos(reset.jitter.as_ref())));
    let (place, activity) = alone.parts();
    deadlines::whole(tx, &place, activity);
    wait(tx, alone, Some(1), at);
    Ok(())
}

fn change(tx: &mut Transaction<'_>, alone: &mut Alone, change: &ChangeActivityOptions) -> Outcome<ActivityOptions> {
    if !alone.is_open() {
        return Err(precondition(format!("Cannot update options for activity in state {}", alone.state_name())).into());
    }
    let new = if change.restore_original {
        alone.detail(tx)?.original.unwrap_or_default()
    } else {
        let given = change.options.clone().unwrap_or_default();
        let rules = alone.parts().0.rules(0);
        options::merged(&alone.activity, &given, &change.mask, &rules)?
    };
    let delay = nanos(new.start_delay.as_ref());
    let delayed =
        alone.activity.backing_off && alone.activity.attempt == 1 && alone.activity.last_attempt_completed_at == 0;
    if delay != alone.activity.start_delay && !delayed && !change.restore_original {
        return Err(precondition(
            "cannot update start_delay: the first activity attempt has already been dispatched".into(),
        )
        .into());
    }
    suspend(tx, alone);
    options::put(&mut alone.activity, &new);
    if delayed {
        alone.activity.start_delay = delay;
    }
    let (place, activity) = alone.parts();
    if activity.started_at != 0 {
        deadlines::resume(tx, &place, activity);
        return Ok(new);
    }
    deadlines::whole(tx, &place, activity);
    let at = if activity.attempt > 1 {
        options::attempt_at(activity, activity.attempt - 1)
    } else if delayed {
        ShardTime(activity.scheduled_at).plus(delay)
    } else {
        ShardTime(activity.attempt_scheduled_at)
    };
    wait(tx, alone, None, at);
    Ok(new)
}

/// Takes back all that is on offer or due of it.
fn suspend(tx: &mut Transaction<'_>, alone: &mut Alone) {
    let (place, activity) = alone.parts();
    if is_waiting(activity) {
        place.withdraw(tx, activity);
    }
    deadlines::clear(tx, &place, activity);
    activity.backing_off = false;
    activity.heartbeat_timer_at = 0;
}

/// It waits anew, as this attempt or as the one that it was.
fn wait(tx: &mut Transaction<'_>, alone: &mut Alone, attempt: Option<i32>, at: ShardTime) {
    let stamp = alone.next_stamp();
    let (place, activity) = alone.parts();
    let attempt = attempt.unwrap_or(activity.attempt);
    activity::wait(tx, &place, activity, stamp, attempt, at);
}
