//! Children of a run that was reset: the run that goes on for it takes over those that were initiated in front of the reset point.
//!
//! ```text
//!  base:  initiated ... started |point| ... completed      the events behind the point are heard again
//!  new:   initiated ... started | started, completed | ...  or come later: they are for the run that goes on
//! ```
//!
//! As on the real server, such a child keeps the parent that it was started by: what the new run asks "its child" alone does not reach it,
//! and the new run's end does not end it.
//!
//! Never: a second start of a child that the base has started; a result from a child of another run that merely has the same event id.
//!
//! Called by `reset` and `reapply`.

use std::collections::BTreeMap;

use stanchion_proto::row::outbox_message;
use stanchion_proto::temporal::history::v1::StartChildWorkflowExecutionInitiatedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::sdk::v1::UserMetadata;

use crate::outbox;
use crate::run::{Run, external};
use crate::transaction::Transaction;

/// Initiated events of children that are not known to have started, with their metadata.
pub type Unstarted = BTreeMap<i64, (StartChildWorkflowExecutionInitiatedEventAttributes, Option<UserMetadata>)>;

/// The children that the new run begins with are those of its base.
pub fn take_over(run: &mut Run, base: &Run) {
    let ids: Vec<i64> = run.children.keys().copied().collect();
    for id in ids {
        let before = base.children.get(&id).map_or("", |row| row.initiator_run_id.as_str());
        let initiator = if before.is_empty() { &base.key.run_id } else { before };
        if let Some(row) = run.children.get_mut(&id) {
            row.initiator_run_id = initiator.to_owned();
        }
    }
}

/// What the base has heard of a child behind the reset point, as the new run hears it. None of a child that is not pending.
pub fn hear_again(run: &mut Run, mut event: Attributes) -> Option<Attributes> {
    use Attributes::*;
    let (initiated_event_id, started_event_id) = match &mut event {
        ChildWorkflowExecutionStartedEventAttributes(a) => {
            let row = run.children.get_mut(&a.initiated_event_id)?;
            row.run_id = a.workflow_execution.as_ref().map(|child| child.run_id.clone()).unwrap_or_default();
            return Some(event);
        }
        StartChildWorkflowExecutionFailedEventAttributes(a) => (a.initiated_event_id, None),
        ChildWorkflowExecutionCompletedEventAttributes(a) => (a.initiated_event_id, Some(&mut a.started_event_id)),
        ChildWorkflowExecutionFailedEventAttributes(a) => (a.initiated_event_id, Some(&mut a.started_event_id)),
        ChildWorkflowExecutionCanceledEventAttributes(a) => (a.initiated_event_id, Some(&mut a.started_event_id)),
        ChildWorkflowExecutionTimedOutEventAttributes(a) => (a.initiated_event_id, Some(&mut a.started_event_id)),
        ChildWorkflowExecutionTerminatedEventAttributes(a) => (a.initiated_event_id, Some(&mut a.started_event_id)),
        _ => return None,
    };
    let row = run.children.remove(&initiated_event_id)?;
    if let Some(id) = started_event_id {
        *id = row.started_event_id;
    }
    Some(event)
}

/// A base that closed before it heard whether a child started may have dropped the answer: the new run asks again, in the same words, which
/// start no second child.
pub fn send_again(tx: &mut Transaction<'_>, run: &Run, unstarted: Unstarted) {
    for (id, (event, user_metadata)) in unstarted {
        if run.children.get(&id).is_some_and(|row| row.run_id.is_empty()) {
            let message = super::start_message(tx, run, id, &event, user_metadata);
            let to = external::same_namespace(tx, &event.workflow_id);
            outbox::send(tx, run.slot, to, outbox_message::Kind::StartChild(message));
        }
    }
}
