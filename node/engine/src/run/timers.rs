//! User timers of a run: started, then fired or canceled.
//!
//! Never: fires early; fires after it was canceled, even when its firing already waits for its event id.

use stanchion_proto::row::{TimerQueueRow, TimerRow, timer_queue_row::Kind};
use stanchion_proto::temporal::command::v1::{CancelTimerCommandAttributes, StartTimerCommandAttributes};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    TimerCanceledEventAttributes, TimerFiredEventAttributes, TimerStartedEventAttributes,
};

use super::completion::{CommandFailure, Completion};
use super::{Extra, Run, workflow_task};
use crate::mutant;
use crate::state::{ShardState, StateResult};
use crate::time::nanos;
use crate::timer_queue;
use crate::transaction::Transaction;
use crate::types::{EventId, ShardTime};
use crate::validate;

/// StartTimer.
pub fn start(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&StartTimerCommandAttributes>,
) -> Result<(), CommandFailure> {
    let attributes = validate::timer::start(attributes)?;
    let timer_id = &attributes.timer_id;
    if run.timers.contains(timer_id) {
        return Err(CommandFailure::new(
            WorkflowTaskFailedCause::StartTimerDuplicateId,
            format!("invalid history builder state for action: add-timer-started-event, TimerID: {timer_id}"),
        ));
    }
    let event = TimerStartedEventAttributes {
        timer_id: timer_id.clone(),
        start_to_fire_timeout: attributes.start_to_fire_timeout,
        workflow_task_completed_event_id: completion.completed_event_id.0,
    };
    let EventId(started) = run.record_with(tx.now, Attributes::TimerStartedEventAttributes(event), extra);
    let fires_at = tx.now.plus(nanos(attributes.start_to_fire_timeout.as_ref()));
    run.timers.insert(timer_id.clone(), TimerRow { started_event_id: started, fires_at: fires_at.0 });
    timer_queue::set(tx, run.slot, fires_at, &queue_row(run, started));
    Ok(())
}

/// CancelTimer. A timer that fired and is still buffered is taken back.
pub fn cancel(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    extra: Extra,
    attributes: Option<&CancelTimerCommandAttributes>,
) -> Result<(), CommandFailure> {
    let timer_id = &validate::timer::cancel(attributes)?.timer_id;
    let started = if let Some(timer) = run.timers.remove(timer_id) {
        clear(tx, run, &timer);
        timer.started_event_id
    } else {
        let fired = run.take_buffered(
            |event| matches!(event, Attributes::TimerFiredEventAttributes(fired) if fired.timer_id == *timer_id),
        );
        let Some(Attributes::TimerFiredEventAttributes(fired)) = fired.and_then(|event| event.attributes) else {
            return Err(CommandFailure::new(
                WorkflowTaskFailedCause::BadCancelTimerAttributes,
                format!("invalid history builder state for action: add-timer-canceled-event, TimerID: {timer_id}"),
            ));
        };
        fired.started_event_id
    };
    let event = TimerCanceledEventAttributes {
        timer_id: timer_id.clone(),
        started_event_id: started,
        workflow_task_completed_event_id: completion.completed_event_id.0,
        identity: completion.identity.to_owned(),
    };
    run.record_with(tx.now, Attributes::TimerCanceledEventAttributes(event), extra);
    Ok(())
}

/// A timer's row is due. The run is open. Returns false if it changed nothing.
pub fn fire(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerQueueRow) -> StateResult<bool> {
    // The queue's row names the started event, because an id may be used again; there are few timers in a run.
    let found = run.timers.iter().find(|(_, timer)| timer.started_event_id == row.event_id);
    let Some((timer_id, timer)) = found else { return Ok(false) };
    if ShardTime(timer.fires_at) > tx.now {
        return Ok(false);
    }
    let timer_id = timer_id.clone();
    if !mutant!(FireTimerTwice) {
        run.timers.remove(&timer_id);
    }
    let event = TimerFiredEventAttributes { timer_id, started_event_id: row.event_id };
    run.receive(tx.now, Attributes::TimerFiredEventAttributes(event));
    workflow_task::schedule_if_none(tx, run);
    Ok(true)
}

/// The run has closed: its timers and their rows go.
pub fn run_closed(tx: &mut Transaction<'_>, run: &mut Run) {
    let ids: Vec<String> = run.timers.keys().cloned().collect();
    for id in ids {
        if let Some(timer) = run.timers.remove(&id) {
            clear(tx, run, &timer);
        }
    }
}

/// The timers of a run that a reset has made get their rows; what is due already fires at once.
pub fn arm(tx: &mut Transaction<'_>, run: &Run) {
    for (_, timer) in run.timers.iter() {
        timer_queue::set(tx, run.slot, ShardTime(timer.fires_at), &queue_row(run, timer.started_event_id));
    }
}

/// The timer's row stands in the queue.
pub(crate) fn is_queued(state: &dyn ShardState, run: &Run, timer: &TimerRow) -> StateResult<bool> {
    timer_queue::is_set(state, run.slot, ShardTime(timer.fires_at), &queue_row(run, timer.started_event_id))
}

fn clear(tx: &mut Transaction<'_>, run: &Run, timer: &TimerRow) {
    timer_queue::clear(tx, run.slot, ShardTime(timer.fires_at), &queue_row(run, timer.started_event_id));
}

fn queue_row(run: &Run, started_event_id: i64) -> TimerQueueRow {
    TimerQueueRow {
        namespace_id: run.key.namespace_id.clone(),
        workflow_id: run.key.workflow_id.clone(),
        run_id: run.key.run_id.clone(),
        kind: Kind::UserTimer as i32,
        event_id: started_event_id,
        ..Default::default()
    }
}
