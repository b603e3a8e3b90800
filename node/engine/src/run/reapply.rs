//! What a run was told behind its reset point is told the new run again, in its order: signals, updates and changes of options by
//! callers, of the run itself and of those that continued it as new; and what it heard of children that the new run begins with.
//!
//! An update is asked again by an event, because the caller's message is gone: workers find it in the history.
//!
//! Never: a cancel request (it is what a reset often undoes); what the workflow itself did; one update twice.

use std::collections::BTreeMap;

use stanchion_proto::row::CompletedUpdateRow;
use stanchion_proto::temporal::enums::v1::{ResetReapplyExcludeType, ResetReapplyType, WorkflowExecutionStatus};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::ResetWorkflowExecutionRequest;

use super::{Extra, Run, children, options, updates};
use crate::history;
use crate::keys;
use crate::reply::{Code, Rejection};
use crate::state::{StateResult, Table};
use crate::transaction::{Outcome, Transaction};
use crate::types::{EventId, RunKey};

/// So many times the bound of one history are read at most, over all runs of the chain: a reset is one command, and its group does
/// nothing else meanwhile.
const READ_HISTORIES_MAX: u64 = 4;

/// Which kinds of events go over.
#[derive(Clone, Copy)]
pub struct Kinds {
    signals: bool,
    updates: bool,
    options: bool,
}

impl Kinds {
    #[allow(deprecated)]
    pub fn of(request: &ResetWorkflowExecutionRequest) -> Self {
        let some = request.reset_reapply_type != ResetReapplyType::None as i32;
        let all = some && request.reset_reapply_type != ResetReapplyType::Signal as i32;
        let excluded = |kind: ResetReapplyExcludeType| request.reset_reapply_exclude_types.contains(&(kind as i32));
        Self {
            signals: some && !excluded(ResetReapplyExcludeType::Signal),
            updates: all && !excluded(ResetReapplyExcludeType::Update),
            options: some,
        }
    }
}

/// Events of the run from `from` on that go over, and those of the runs that continued it.
pub fn events_behind(tx: &mut Transaction<'_>, base: &Run, from: EventId, kinds: Kinds) -> Outcome<Vec<HistoryEvent>> {
    let mut events = Vec::new();
    collect(tx, base, from, &mut events, |event| goes_over(event, kinds) || is_of_child(event))?;
    if !kinds.signals && !kinds.options {
        return Ok(events);
    }
    let limit = tx.bounds.history_bytes_max.saturating_mul(READ_HISTORIES_MAX);
    let mut read = base.row.history_bytes;
    let mut next = continued_by(base);
    while let Some(key) = next {
        let Some(run) = tx.load(&key)? else { break };
        read += run.row.history_bytes;
        if read > limit {
            return Err(Rejection::new(
                Code::InvalidArgument,
                format!(
                    "The runs of this chain behind the reset point have more than {limit} bytes of history: reset a \
                     later run, or set reset_reapply_type to RESET_REAPPLY_TYPE_NONE."
                ),
            )
            .into());
        }
        // Children of another run are none that this one knows.
        collect(tx, &run, EventId(1), &mut events, |event| goes_over(event, kinds))?;
        next = continued_by(&run);
        tx.release(run);
    }
    Ok(events)
}

fn continued_by(run: &Run) -> Option<RunKey> {
    (run.status() == WorkflowExecutionStatus::ContinuedAsNew)
        .then(|| RunKey { run_id: run.row.successor_run_id.clone(), ..run.key.clone() })
}

fn collect(
    tx: &Transaction<'_>,
    run: &Run,
    from: EventId,
    into: &mut Vec<HistoryEvent>,
    wanted: impl Fn(&HistoryEvent) -> bool,
) -> StateResult<()> {
    // The point may lie within a batch.
    let first = history::batch_of(tx.reader(), run.slot, &run.key, from)?;
    for batch in history::batches(tx.reader(), run.slot, &run.key, first)? {
        let events = batch.events()?.into_iter().map(|stored| stored.event);
        into.extend(events.filter(|event| event.event_id >= from.0 && wanted(event)));
    }
    into.extend(run.buffered().iter().filter(|event| wanted(event)).cloned());
    Ok(())
}

fn goes_over(event: &HistoryEvent, kinds: Kinds) -> bool {
    use Attributes::*;
    match &event.attributes {
        Some(WorkflowExecutionSignaledEventAttributes(_)) => kinds.signals,
        Some(WorkflowExecutionUpdateAdmittedEventAttributes(_)) => kinds.updates,
        // One that an event had admitted is accepted without its request.
        Some(WorkflowExecutionUpdateAcceptedEventAttributes(a)) => kinds.updates && a.accepted_request.is_some(),
        Some(WorkflowExecutionOptionsUpdatedEventAttributes(_)) => kinds.options,
        _ => false,
    }
}

/// Whatever else is left out: a run that waits for a child must hear of it.
fn is_of_child(event: &HistoryEvent) -> bool {
    use Attributes::*;
    matches!(
        event.attributes,
        Some(
            StartChildWorkflowExecutionFailedEventAttributes(_)
                | ChildWorkflowExecutionStartedEventAttributes(_)
                | ChildWorkflowExecutionCompletedEventAttributes(_)
                | ChildWorkflowExecutionFailedEventAttributes(_)
                | ChildWorkflowExecutionCanceledEventAttributes(_)
                | ChildWorkflowExecutionTimedOutEventAttributes(_)
                | ChildWorkflowExecutionTerminatedEventAttributes(_)
        )
    )
}

/// Tells the run again. `completed`: updates of the new run that have their outcome.
pub fn again(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    events: Vec<HistoryEvent>,
    completed: &BTreeMap<String, CompletedUpdateRow>,
) {
    use Attributes::*;
    for event in events {
        let Some(attributes) = event.attributes else { continue };
        let attributes = match attributes {
            WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
                readmit(tx, run, a.request.unwrap_or_default(), completed);
                continue;
            }
            WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
                readmit(tx, run, a.accepted_request.unwrap_or_default(), completed);
                continue;
            }
            WorkflowExecutionSignaledEventAttributes(signal) => {
                run.row.signals += 1;
                seen(tx, run, &signal.request_id);
                WorkflowExecutionSignaledEventAttributes(signal)
            }
            WorkflowExecutionOptionsUpdatedEventAttributes(options) => {
                options::note(run, &options);
                WorkflowExecutionOptionsUpdatedEventAttributes(options)
            }
            of_child => match children::hear_again(run, of_child) {
                Some(heard) => heard,
                None => continue,
            },
        };
        let extra = Extra {
            user_metadata: event.user_metadata,
            links: event.links,
            event_group_markers: event.event_group_markers,
            worker_may_ignore: event.worker_may_ignore,
        };
        run.receive_with(tx.now, attributes, extra);
        run.flush_buffered();
        run.spill(tx);
    }
}

fn readmit(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    request: stanchion_proto::temporal::update::v1::Request,
    completed: &BTreeMap<String, CompletedUpdateRow>,
) {
    if !completed.contains_key(updates::update_id(&request)) {
        updates::admit_by_event(tx, run, &request);
        run.flush_buffered();
        run.spill(tx);
    }
}

/// The run has had the signal request, so that a caller who repeats it does not signal twice.
pub fn seen(tx: &mut Transaction<'_>, run: &Run, request_id: &str) {
    if !request_id.is_empty() {
        tx.put(run.slot, Table::Dedup, keys::run_name(&run.key, request_id), bytes::Bytes::new());
    }
}
