//! The one entry: a command in, a reply and effects out.

use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{ActivityRef, Command};
use stanchion_proto::row::{TimerQueueRow, timer_queue_row};

use crate::activity::STANDALONE;
use crate::batch;
use crate::effects::Effects;
use crate::mutant;
use crate::reply::{Code, Rejection, Reply};
use crate::run::{
    activities, close, completion, delete, multi_operation, options, reset, signals, start, timers, updates,
    workflow_task,
};
use crate::state::{ShardState, StateResult, Table};
use crate::transaction::{Halt, Outcome, Transaction};
use crate::types::{Features, Position, RunKey, ShardTime, Slot};
use crate::{inbox, meta, outbox, schedule, standalone};

/// Applies one command. Equal state, command, position and features give equal state, reply and effects, on every replica.
pub fn apply<S: ShardState>(
    state: &mut S,
    command: &Command,
    at: Position,
    _features: Features,
) -> StateResult<(Reply, Effects)> {
    let now = state.clock().max(ShardTime(command.now_unix_nanos));
    state.set_clock(now);
    let mut tx = Transaction::new(state, command, at, now);
    match dispatch(&mut tx, command) {
        Ok(reply) => {
            tx.commit()?;
            Ok((reply, tx.take_effects()))
        }
        // Nothing but what the command had committed before, of those that are many in one.
        Err(Halt::Rejected(rejection)) => Ok((Reply::Rejected(rejection), tx.take_effects())),
        Err(Halt::Fault(fault)) => Err(fault),
    }
}

fn dispatch<'c>(tx: &mut Transaction<'c>, command: &'c Command) -> Outcome<Reply> {
    if let Some(meta) = &command.meta {
        return meta::apply(tx, meta);
    }
    let Some(kind) = &command.kind else {
        return Err(Rejection::new(Code::Unimplemented, "this command is not known to this release").into());
    };
    match kind {
        Kind::StartWorkflow(c) => {
            tx.reserve(c.reservation.as_ref());
            start::start(tx, c)
        }
        Kind::SignalWorkflow(c) => signals::signal(tx, c),
        Kind::SignalWithStartWorkflow(c) => signals::signal_with_start(tx, c),
        Kind::RequestCancelWorkflow(c) => signals::request_cancel(tx, c),
        Kind::TerminateWorkflow(c) => close::terminate(tx, c),
        Kind::ResetWorkflow(c) => reset::reset(tx, c),
        Kind::UpdateWorkflowOptions(c) => options::update(tx, c),
        Kind::DeleteWorkflow(c) => delete::delete(tx, c),
        Kind::UpdateWorkflow(c) => updates::update(tx, c),
        Kind::UpdateWithStartWorkflow(c) => multi_operation::update_with_start(tx, c),
        Kind::ResetStickyTaskQueue(c) => workflow_task::reset_sticky(tx, c),
        Kind::StartWorkflowTask(c) => workflow_task::start(tx, c),
        Kind::CompleteWorkflowTask(c) => completion::complete(tx, c),
        Kind::FailWorkflowTask(c) => workflow_task::fail(tx, c),
        Kind::TimeoutWorkflowTask(c) => workflow_task::timeout(tx, c),
        Kind::StartActivityTask(c) if c.scheduled_event_id == STANDALONE => standalone::start_attempt(tx, c),
        Kind::StartActivityTask(c) => activities::start(tx, c),
        Kind::CompleteActivityTask(c) if stands_alone(c.activity.as_ref()) => standalone::complete(tx, c),
        Kind::FailActivityTask(c) if stands_alone(c.activity.as_ref()) => standalone::fail(tx, c),
        Kind::CancelActivityTask(c) if stands_alone(c.activity.as_ref()) => standalone::cancel(tx, c),
        Kind::HeartbeatActivityTask(c) if stands_alone(c.activity.as_ref()) => standalone::heartbeat(tx, c),
        Kind::CompleteActivityTask(c) => {
            tx.reserve(c.reservation.as_ref());
            activities::complete(tx, c)
        }
        Kind::FailActivityTask(c) => {
            tx.reserve(c.reservation.as_ref());
            activities::fail(tx, c)
        }
        Kind::CancelActivityTask(c) => {
            tx.reserve(c.reservation.as_ref());
            activities::cancel(tx, c)
        }
        Kind::HeartbeatActivityTask(c) => activities::heartbeat(tx, c),
        Kind::GiveBackActivityTask(c) => activities::give_back(tx, c),
        Kind::FireTimers(c) => {
            for key in &c.keys {
                let slot = Slot(u16::try_from(key.slot).unwrap_or(u16::MAX));
                fire(tx, slot, &key.key)?;
                // Each row stands for itself: the next one sees what this one did.
                tx.commit()?;
            }
            Ok(Reply::Done)
        }
        Kind::DeliverOutbox(c) => {
            tx.reserve(&c.reservations);
            inbox::deliver(tx, c)
        }
        Kind::AckOutbox(c) => outbox::acknowledge(tx, c),
        Kind::ControlActivities(c) => activities::control(tx, c),
        Kind::StartStandaloneActivity(c) => standalone::start(tx, c),
        Kind::CancelStandaloneActivity(c) => standalone::request_cancel(tx, c),
        Kind::TerminateStandaloneActivity(c) => standalone::terminate(tx, c),
        Kind::DeleteStandaloneActivity(c) => standalone::delete(tx, c),
        Kind::ControlStandaloneActivity(c) => standalone::control(tx, c),
        Kind::CreateSchedule(c) => schedule::create(tx, c),
        Kind::UpdateSchedule(c) => schedule::update(tx, c),
        Kind::PatchSchedule(c) => schedule::patch(tx, c),
        Kind::DeleteSchedule(c) => schedule::delete(tx, c),
        Kind::TickSchedule(c) => schedule::tick(tx, c),
        Kind::StartBatch(c) => batch::start(tx, c),
        Kind::AdvanceBatch(c) => batch::advance(tx, c),
        Kind::StopBatch(c) => batch::stop(tx, c),
        // Answered by the state machine, which knows its own hash.
        Kind::CheckHash(_) => Ok(Reply::Done),
    }
}

fn stands_alone(activity: Option<&ActivityRef>) -> bool {
    activity.is_some_and(|activity| activity.standalone)
}

/// One row of the timer queue is due. A row that is gone, not due by the shard's clock, or about something that moved on does nothing.
fn fire(tx: &mut Transaction<'_>, slot: Slot, key: &[u8]) -> Outcome<()> {
    let Some(row) = tx.get_row::<TimerQueueRow>(slot, Table::TimerQueue, key)? else { return Ok(()) };
    let due = key.first_chunk::<8>().map(|at| ShardTime(i64::from_be_bytes(*at)));
    if due.is_none_or(|at| at > tx.now) {
        return Ok(());
    }
    if row.kind() == timer_queue_row::Kind::ScheduleWake {
        // The leader's to answer, with a tick; that replaces the row.
        return Ok(());
    }
    if row.kind() == timer_queue_row::Kind::ScheduleRetire {
        tx.delete(slot, Table::TimerQueue, key.to_vec());
        return schedule::retire(tx, &row.namespace_id, &row.workflow_id, &row.run_id);
    }
    if row.kind() == timer_queue_row::Kind::BatchRetention {
        tx.delete(slot, Table::TimerQueue, key.to_vec());
        return batch::forget(tx, &row.namespace_id, &row.workflow_id);
    }
    let name = RunKey {
        namespace_id: row.namespace_id.clone(),
        workflow_id: row.workflow_id.clone(),
        run_id: row.run_id.clone(),
    };
    if row.kind() == timer_queue_row::Kind::Purge {
        return Ok(delete::purge(tx, &name, slot, key)?);
    }
    if !(mutant!(FireTimerTwice) && row.kind() == timer_queue_row::Kind::UserTimer) {
        tx.delete(slot, Table::TimerQueue, key.to_vec());
    }
    if standalone::is_timer(row.kind()) {
        return standalone::fire(tx, &row);
    }
    let Some(mut run) = tx.load(&name)? else { return Ok(()) };
    if !run.is_open() {
        tx.release(run);
        return Ok(());
    }
    let changed = match row.kind() {
        timer_queue_row::Kind::RunTimeout if run.row.run_expires_at <= tx.now.0 => {
            close::time_out(tx, run)?;
            return Ok(());
        }
        timer_queue_row::Kind::FirstWorkflowTask if run.row.backing_off => {
            start::backoff_passed(tx, &mut run);
            true
        }
        timer_queue_row::Kind::UserTimer => timers::fire(tx, &mut run, &row)?,
        timer_queue_row::Kind::ActivityTimeout => activities::fire_timeout(tx, &mut run, &row)?,
        timer_queue_row::Kind::ActivityRetry => activities::fire_retry(tx, &mut run, &row)?,
        _ => false,
    };
    if changed {
        tx.finish(run)?;
    } else {
        tx.release(run);
    }
    Ok(())
}
