//! The other end of a schedule's messages: the run that is started, stopped, and tells of its close.
//!
//! Called by the inbox, and by runs when they close or are followed by another one of their chain.

use bytes::Bytes;
use stanchion_proto::command::StartWorkflow;
use stanchion_proto::row::{
    ScheduledByRow, ScheduledClosed, ScheduledStarted, StartScheduled, StopScheduled, outbox_message,
};
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::history::v1::History;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

use super::ID_PREFIX;
use crate::outbox::{self, Destination};
use crate::reply::Reply;
use crate::run::{Run, close, signals, start};
use crate::state::{StateResult, Table};
use crate::transaction::{Halt, Outcome, Transaction, decode};
use crate::types::Slot;

/// Causes of a failure that a schedule hands to its next run.
const CAUSES_MAX: usize = 20;

/// A start arrives at the slot of its workflow id.
pub fn start_arrived(tx: &mut Transaction<'_>, at: Slot, message: &StartScheduled) -> Outcome<()> {
    let command = StartWorkflow { request: message.request.clone(), ..Default::default() };
    let stamped = std::mem::replace(&mut tx.retention, message.retention);
    let (run_id, refusal) = match start::start_scheduled(tx, &command, message.scheduled_by.clone()) {
        Ok(Reply::Started { first_execution_run_id, .. }) => (first_execution_run_id, String::new()),
        Ok(reply) => (String::new(), format!("{reply:?}")),
        Err(Halt::Rejected(rejection)) => {
            tx.start_over();
            (String::new(), rejection.message)
        }
        Err(fault) => return Err(fault),
    };
    tx.retention = stamped;
    let Some(by) = &message.scheduled_by else { return Ok(()) };
    let answer = ScheduledStarted { scheduled_by: Some(by.clone()), run_id, started_at: tx.now.0, refusal };
    let to = back_to(tx.namespace_id, by);
    outbox::send(tx, at, to, outbox_message::Kind::ScheduledStarted(answer));
    Ok(())
}

/// An overlap policy wants the run to end. One that has closed, or is of another chain, is left alone.
pub fn stop_arrived(tx: &mut Transaction<'_>, workflow_id: &str, message: &StopScheduled) -> Outcome<()> {
    if message.terminate {
        close::terminate_scheduled(tx, workflow_id, message)
    } else {
        signals::cancel_scheduled(tx, workflow_id, message)
    }
}

/// The next run of a chain takes the place of the one before: only the last one's close is told.
pub fn hand_on(from: &mut Run, to: &mut Run) {
    to.row.scheduled_by = from.row.scheduled_by.take();
}

/// The run has closed and no other follows. `batch` are the events of this command, encoded; the last is the closing one.
pub(crate) fn closed(tx: &mut Transaction<'_>, run: &Run, batch: &Bytes) -> StateResult<()> {
    let Some(by) = &run.row.scheduled_by else { return Ok(()) };
    let (result, failure) = outcome(batch)?;
    let answer = ScheduledClosed {
        scheduled_by: Some(by.clone()),
        first_run_id: run.row.first_execution_run_id.clone(),
        status: run.row.status,
        result,
        failure,
    };
    let to = back_to(&run.key.namespace_id, by);
    outbox::send(tx, run.slot, to, outbox_message::Kind::ScheduledClosed(answer));
    Ok(())
}

fn outcome(batch: &Bytes) -> StateResult<(Option<Payloads>, Option<Failure>)> {
    let history: History = decode(Table::History, batch.clone())?;
    Ok(match history.events.into_iter().next_back().and_then(|event| event.attributes) {
        Some(Attributes::WorkflowExecutionCompletedEventAttributes(attributes)) => (attributes.result, None),
        Some(Attributes::WorkflowExecutionFailedEventAttributes(attributes)) => {
            (None, attributes.failure.map(|failure| shallow(failure, CAUSES_MAX)))
        }
        _ => (None, None),
    })
}

/// A failure without the causes that lie deeper: it is carried inside of other messages, and those may only be nested so far.
fn shallow(mut failure: Failure, causes: usize) -> Failure {
    failure.cause = match failure.cause {
        Some(cause) if causes > 0 => Some(Box::new(shallow(*cause, causes - 1))),
        _ => None,
    };
    failure
}

fn back_to(namespace_id: &str, by: &ScheduledByRow) -> Destination {
    Destination {
        namespace_id: namespace_id.to_owned(),
        namespace: by.namespace.clone(),
        workflow_id: format!("{ID_PREFIX}{}", by.schedule_id),
    }
}
