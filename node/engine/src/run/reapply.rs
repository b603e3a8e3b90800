//! What callers told a run behind its reset point is told the new run again: signals and changes of options, in their order; of the run
//! itself and of those that continued it as new.
//!
//! Never: a cancel request (it is what a reset often undoes); what the workflow itself did.

use stanchion_proto::temporal::enums::v1::{ResetReapplyExcludeType, ResetReapplyType, WorkflowExecutionStatus};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflowservice::v1::ResetWorkflowExecutionRequest;

use super::{Extra, Run};
use crate::history;
use crate::keys;
use crate::state::{StateResult, Table};
use crate::transaction::Transaction;
use crate::types::{EventId, RunKey};

/// Which kinds of events go over.
#[derive(Clone, Copy)]
pub struct Kinds {
    pub signals: bool,
    pub options: bool,
}

impl Kinds {
    #[allow(deprecated)]
    pub fn of(request: &ResetWorkflowExecutionRequest) -> Self {
        let none = request.reset_reapply_type == ResetReapplyType::None as i32;
        let excluded = request.reset_reapply_exclude_types.contains(&(ResetReapplyExcludeType::Signal as i32));
        Self { signals: !none && !excluded, options: !none }
    }
}

/// Events of the run from `from` on that go over, and those of the runs that continued it.
pub fn events_behind(
    tx: &mut Transaction<'_>,
    base: &Run,
    from: EventId,
    kinds: Kinds,
) -> StateResult<Vec<HistoryEvent>> {
    let mut events = Vec::new();
    if !kinds.signals && !kinds.options {
        return Ok(events);
    }
    collect(tx, base, from, kinds, &mut events)?;
    let mut next = continued_by(base);
    while let Some(key) = next {
        let Some(run) = tx.load(&key)? else { break };
        collect(tx, &run, EventId(1), kinds, &mut events)?;
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
    kinds: Kinds,
    into: &mut Vec<HistoryEvent>,
) -> StateResult<()> {
    for batch in history::batches(tx.reader(), run.slot, &run.key, from)? {
        into.extend(batch.events()?.into_iter().map(|stored| stored.event).filter(|event| goes_over(event, kinds)));
    }
    into.extend(run.buffered().iter().filter(|event| goes_over(event, kinds)).cloned());
    Ok(())
}

fn goes_over(event: &HistoryEvent, kinds: Kinds) -> bool {
    match &event.attributes {
        Some(Attributes::WorkflowExecutionSignaledEventAttributes(_)) => kinds.signals,
        Some(Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(_)) => kinds.options,
        _ => false,
    }
}

/// Tells the run again.
pub fn again(tx: &mut Transaction<'_>, run: &mut Run, events: Vec<HistoryEvent>) {
    for event in events {
        let Some(attributes) = event.attributes else { continue };
        match &attributes {
            Attributes::WorkflowExecutionSignaledEventAttributes(signal) => {
                run.row.signals += 1;
                seen(tx, run, &signal.request_id);
            }
            Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(options) if options.priority.is_some() => {
                run.row.priority.clone_from(&options.priority);
            }
            _ => {}
        }
        let extra = Extra {
            user_metadata: event.user_metadata,
            links: event.links,
            event_group_markers: event.event_group_markers,
            worker_may_ignore: event.worker_may_ignore,
        };
        run.receive_with(tx.now, attributes, extra);
    }
}

/// The run has had the signal request, so that a caller who repeats it does not signal twice.
pub fn seen(tx: &mut Transaction<'_>, run: &Run, request_id: &str) {
    if !request_id.is_empty() {
        tx.put(run.slot, Table::Dedup, keys::run_name(&run.key, request_id), bytes::Bytes::new());
    }
}
