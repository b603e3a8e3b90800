//! Events of a run: given ids, encoded once, chained; and those that have to wait.
//!
//! Temporal's rule: what a command of the workflow, the run or a workflow task writes gets its id at once ([`Run::record`]). What comes
//! from elsewhere (signals, results, time-outs, cancel requests) is received ([`Run::receive`]): it gets its id when the next workflow
//! task is scheduled or the command ends, unless a workflow task is with a worker; then it is buffered until that ends.
//! When buffered events get their ids, results of activities come last.
//!
//! ```text
//! worker has the task        worker completes it
//! ----- signal ---- result ----------|
//!       (buffered)  (buffered)       | completed, events of commands, signal, result, next scheduled
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use stanchion_proto::temporal::common::v1::Link;
use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::sdk::v1::{EventGroupMarker, UserMetadata};

use super::{Run, speculative};
use crate::history;
use crate::time::timestamp;
use crate::types::{EventId, ShardTime};

/// What an event may carry beside its attributes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Extra {
    pub user_metadata: Option<UserMetadata>,
    pub links: Vec<Link>,
    pub event_group_markers: Vec<EventGroupMarker>,
    pub worker_may_ignore: bool,
}

/// Task ids only have to be there and grow: clients do not read them.
const TASK_ID_BASE: i64 = 1 << 20;

impl Run {
    /// Adds an event that gets its id at once.
    pub fn record(&mut self, now: ShardTime, attributes: Attributes) -> EventId {
        self.record_with(now, attributes, Extra::default())
    }

    /// As [`Run::record`], with metadata or links.
    pub fn record_with(&mut self, now: ShardTime, attributes: Attributes, extra: Extra) -> EventId {
        debug_assert!(!may_wait(&attributes), "{:?} must be received", event_type(&attributes));
        self.push(unnumbered(now, attributes, extra))
    }

    /// Adds an event that may have to wait for its id.
    pub fn receive(&mut self, now: ShardTime, attributes: Attributes) {
        self.receive_with(now, attributes, Extra::default());
    }

    /// As [`Run::receive`], with metadata or links.
    pub fn receive_with(&mut self, now: ShardTime, attributes: Attributes, extra: Extra) {
        debug_assert!(may_wait(&attributes), "{:?} must be recorded", event_type(&attributes));
        self.buffered.push(unnumbered(now, attributes, extra));
    }

    /// Events wait for their ids.
    pub fn has_buffered(&self) -> bool {
        !self.buffered.is_empty()
    }

    pub fn buffered(&self) -> &[HistoryEvent] {
        &self.buffered
    }

    /// Takes the buffered event that `is` names out again: a timer that fired and is cancelled before anybody saw it.
    pub fn take_buffered(&mut self, is: impl Fn(&Attributes) -> bool) -> Option<HistoryEvent> {
        let place = self.buffered.iter().position(|event| event.attributes.as_ref().is_some_and(&is))?;
        Some(self.buffered.remove(place))
    }

    /// Gives the buffered events their ids.
    pub(crate) fn flush_buffered(&mut self) {
        if self.buffered.is_empty() {
            return;
        }
        let (results, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.buffered)
            .into_iter()
            .partition(|event| event.attributes.as_ref().is_some_and(comes_last));
        let mut started = BTreeMap::new();
        for event in others {
            let scheduled = match &event.attributes {
                Some(Attributes::ActivityTaskStartedEventAttributes(a)) => Some(a.scheduled_event_id),
                _ => None,
            };
            let attached = match &event.attributes {
                Some(Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(a)) => {
                    Some(a.attached_request_id.clone())
                }
                _ => None,
            };
            let child = match &event.attributes {
                Some(Attributes::ChildWorkflowExecutionStartedEventAttributes(a)) => Some(a.initiated_event_id),
                _ => None,
            };
            let EventId(id) = self.push(event);
            if let Some(initiated) = child {
                started.insert(initiated, id);
                if let Some(row) = self.children.get_mut(&initiated) {
                    row.started_event_id = id;
                }
            }
            if let Some(attached) = attached
                && let Some(row) = self.row.request_ids.iter_mut().find(|row| row.request_id == attached)
            {
                row.event_id = id;
            }
            if let Some(scheduled) = scheduled {
                started.insert(scheduled, id);
            }
        }
        for mut event in results {
            if let Some((scheduled, to)) = event.attributes.as_mut().and_then(started_event_id)
                && let Some(id) = started.get(&scheduled)
            {
                *to = *id;
            }
            self.push(event);
        }
    }

    /// The last event of this command: of a run that has just closed, how.
    pub(super) fn closing_event(&self) -> Option<HistoryEvent> {
        HistoryEvent::decode_length_delimited(self.batch.get(self.last_event_at + 1..)?).ok()
    }

    /// A closed run gets no further event.
    pub(super) fn drop_buffered(&mut self) {
        self.buffered.clear();
    }

    fn push(&mut self, mut event: HistoryEvent) -> EventId {
        speculative::settle(self);
        let id = self.row.next_event_id;
        self.row.next_event_id += 1;
        event.event_id = id;
        event.task_id = TASK_ID_BASE + id;
        if self.batch.is_empty() {
            self.batch_first = id;
        }
        // Framed as field 1 of a History: batches can be served as they are, one behind the other.
        const FRAME: u8 = 0x0a;
        let length = event.encoded_len();
        self.last_event_at = self.batch.len();
        let before = self.batch.len();
        self.batch.reserve(length + 1 + prost::length_delimiter_len(length));
        self.batch.extend_from_slice(&[FRAME]);
        // Writing into a growing buffer cannot run out of room.
        let _ = prost::encode_length_delimiter(length, &mut self.batch);
        let start = self.batch.len();
        event.encode_raw(&mut self.batch);
        let previous = self.row.history_hash.as_ref().try_into().unwrap_or([0; 32]);
        let link = history::link(&previous, &self.batch[start..]);
        self.row.history_hash = Bytes::copy_from_slice(&link);
        self.row.history_bytes += (self.batch.len() - before) as u64;
        EventId(id)
    }
}

fn unnumbered(now: ShardTime, attributes: Attributes, extra: Extra) -> HistoryEvent {
    HistoryEvent {
        event_time: Some(timestamp(now)),
        event_type: event_type(&attributes) as i32,
        user_metadata: extra.user_metadata,
        links: extra.links,
        event_group_markers: extra.event_group_markers,
        worker_may_ignore: extra.worker_may_ignore,
        attributes: Some(attributes),
        ..Default::default()
    }
}

/// An event for readers alone: the scheduled or started event of an attempt that is not stored. It has no task id, as on the real server.
pub(super) fn transient(now: ShardTime, id: EventId, attributes: Attributes) -> HistoryEvent {
    HistoryEvent { event_id: id.0, ..unnumbered(now, attributes, Extra::default()) }
}

/// Events that do not come from the workflow's own commands, nor from the life of the run and its workflow tasks.
fn may_wait(attributes: &Attributes) -> bool {
    use Attributes::*;
    !matches!(
        attributes,
        WorkflowExecutionStartedEventAttributes(_)
            | WorkflowExecutionCompletedEventAttributes(_)
            | WorkflowExecutionFailedEventAttributes(_)
            | WorkflowExecutionTimedOutEventAttributes(_)
            | WorkflowExecutionTerminatedEventAttributes(_)
            | WorkflowExecutionContinuedAsNewEventAttributes(_)
            | WorkflowExecutionCanceledEventAttributes(_)
            | WorkflowTaskScheduledEventAttributes(_)
            | WorkflowTaskStartedEventAttributes(_)
            | WorkflowTaskCompletedEventAttributes(_)
            | WorkflowTaskFailedEventAttributes(_)
            | WorkflowTaskTimedOutEventAttributes(_)
            | ActivityTaskScheduledEventAttributes(_)
            | ActivityTaskCancelRequestedEventAttributes(_)
            | TimerStartedEventAttributes(_)
            | TimerCanceledEventAttributes(_)
            | MarkerRecordedEventAttributes(_)
            | StartChildWorkflowExecutionInitiatedEventAttributes(_)
            | RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_)
            | SignalExternalWorkflowExecutionInitiatedEventAttributes(_)
            | UpsertWorkflowSearchAttributesEventAttributes(_)
            | WorkflowPropertiesModifiedEventAttributes(_)
            | NexusOperationScheduledEventAttributes(_)
            | NexusOperationCancelRequestedEventAttributes(_)
            | WorkflowExecutionUpdateAcceptedEventAttributes(_)
            | WorkflowExecutionUpdateCompletedEventAttributes(_)
            | WorkflowExecutionUpdateRejectedEventAttributes(_)
    )
}

/// Results, which the real server puts behind other buffered events.
fn comes_last(attributes: &Attributes) -> bool {
    use Attributes::*;
    matches!(
        attributes,
        ActivityTaskCompletedEventAttributes(_)
            | ActivityTaskFailedEventAttributes(_)
            | ActivityTaskCanceledEventAttributes(_)
            | ActivityTaskTimedOutEventAttributes(_)
            | ChildWorkflowExecutionCompletedEventAttributes(_)
            | ChildWorkflowExecutionFailedEventAttributes(_)
            | ChildWorkflowExecutionCanceledEventAttributes(_)
            | ChildWorkflowExecutionTimedOutEventAttributes(_)
            | ChildWorkflowExecutionTerminatedEventAttributes(_)
            | NexusOperationCompletedEventAttributes(_)
            | NexusOperationFailedEventAttributes(_)
            | NexusOperationCanceledEventAttributes(_)
            | NexusOperationTimedOutEventAttributes(_)
    )
}

/// Of an activity's or a child's result: its scheduled or initiated event, and where its started event's id goes.
fn started_event_id(attributes: &mut Attributes) -> Option<(i64, &mut i64)> {
    use Attributes::*;
    match attributes {
        ActivityTaskCompletedEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        ActivityTaskFailedEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        ActivityTaskCanceledEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        ActivityTaskTimedOutEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        ChildWorkflowExecutionCompletedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        ChildWorkflowExecutionFailedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        ChildWorkflowExecutionCanceledEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        ChildWorkflowExecutionTimedOutEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        ChildWorkflowExecutionTerminatedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        _ => None,
    }
}

/// The type that belongs to the attributes.
pub fn event_type(attributes: &Attributes) -> EventType {
    use Attributes::*;
    match attributes {
        WorkflowExecutionStartedEventAttributes(_) => EventType::WorkflowExecutionStarted,
        WorkflowExecutionCompletedEventAttributes(_) => EventType::WorkflowExecutionCompleted,
        WorkflowExecutionFailedEventAttributes(_) => EventType::WorkflowExecutionFailed,
        WorkflowExecutionTimedOutEventAttributes(_) => EventType::WorkflowExecutionTimedOut,
        WorkflowTaskScheduledEventAttributes(_) => EventType::WorkflowTaskScheduled,
        WorkflowTaskStartedEventAttributes(_) => EventType::WorkflowTaskStarted,
        WorkflowTaskCompletedEventAttributes(_) => EventType::WorkflowTaskCompleted,
        WorkflowTaskTimedOutEventAttributes(_) => EventType::WorkflowTaskTimedOut,
        WorkflowTaskFailedEventAttributes(_) => EventType::WorkflowTaskFailed,
        ActivityTaskScheduledEventAttributes(_) => EventType::ActivityTaskScheduled,
        ActivityTaskStartedEventAttributes(_) => EventType::ActivityTaskStarted,
        ActivityTaskCompletedEventAttributes(_) => EventType::ActivityTaskCompleted,
        ActivityTaskFailedEventAttributes(_) => EventType::ActivityTaskFailed,
        ActivityTaskTimedOutEventAttributes(_) => EventType::ActivityTaskTimedOut,
        TimerStartedEventAttributes(_) => EventType::TimerStarted,
        TimerFiredEventAttributes(_) => EventType::TimerFired,
        ActivityTaskCancelRequestedEventAttributes(_) => EventType::ActivityTaskCancelRequested,
        ActivityTaskCanceledEventAttributes(_) => EventType::ActivityTaskCanceled,
        TimerCanceledEventAttributes(_) => EventType::TimerCanceled,
        MarkerRecordedEventAttributes(_) => EventType::MarkerRecorded,
        WorkflowExecutionSignaledEventAttributes(_) => EventType::WorkflowExecutionSignaled,
        WorkflowExecutionTerminatedEventAttributes(_) => EventType::WorkflowExecutionTerminated,
        WorkflowExecutionCancelRequestedEventAttributes(_) => EventType::WorkflowExecutionCancelRequested,
        WorkflowExecutionCanceledEventAttributes(_) => EventType::WorkflowExecutionCanceled,
        RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            EventType::RequestCancelExternalWorkflowExecutionInitiated
        }
        RequestCancelExternalWorkflowExecutionFailedEventAttributes(_) => {
            EventType::RequestCancelExternalWorkflowExecutionFailed
        }
        ExternalWorkflowExecutionCancelRequestedEventAttributes(_) => {
            EventType::ExternalWorkflowExecutionCancelRequested
        }
        WorkflowExecutionContinuedAsNewEventAttributes(_) => EventType::WorkflowExecutionContinuedAsNew,
        StartChildWorkflowExecutionInitiatedEventAttributes(_) => EventType::StartChildWorkflowExecutionInitiated,
        StartChildWorkflowExecutionFailedEventAttributes(_) => EventType::StartChildWorkflowExecutionFailed,
        ChildWorkflowExecutionStartedEventAttributes(_) => EventType::ChildWorkflowExecutionStarted,
        ChildWorkflowExecutionCompletedEventAttributes(_) => EventType::ChildWorkflowExecutionCompleted,
        ChildWorkflowExecutionFailedEventAttributes(_) => EventType::ChildWorkflowExecutionFailed,
        ChildWorkflowExecutionCanceledEventAttributes(_) => EventType::ChildWorkflowExecutionCanceled,
        ChildWorkflowExecutionTimedOutEventAttributes(_) => EventType::ChildWorkflowExecutionTimedOut,
        ChildWorkflowExecutionTerminatedEventAttributes(_) => EventType::ChildWorkflowExecutionTerminated,
        SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            EventType::SignalExternalWorkflowExecutionInitiated
        }
        SignalExternalWorkflowExecutionFailedEventAttributes(_) => EventType::SignalExternalWorkflowExecutionFailed,
        ExternalWorkflowExecutionSignaledEventAttributes(_) => EventType::ExternalWorkflowExecutionSignaled,
        UpsertWorkflowSearchAttributesEventAttributes(_) => EventType::UpsertWorkflowSearchAttributes,
        WorkflowExecutionUpdateAcceptedEventAttributes(_) => EventType::WorkflowExecutionUpdateAccepted,
        WorkflowExecutionUpdateRejectedEventAttributes(_) => EventType::WorkflowExecutionUpdateRejected,
        WorkflowExecutionUpdateCompletedEventAttributes(_) => EventType::WorkflowExecutionUpdateCompleted,
        WorkflowPropertiesModifiedExternallyEventAttributes(_) => EventType::WorkflowPropertiesModifiedExternally,
        ActivityPropertiesModifiedExternallyEventAttributes(_) => EventType::ActivityPropertiesModifiedExternally,
        WorkflowPropertiesModifiedEventAttributes(_) => EventType::WorkflowPropertiesModified,
        WorkflowExecutionUpdateAdmittedEventAttributes(_) => EventType::WorkflowExecutionUpdateAdmitted,
        NexusOperationScheduledEventAttributes(_) => EventType::NexusOperationScheduled,
        NexusOperationStartedEventAttributes(_) => EventType::NexusOperationStarted,
        NexusOperationCompletedEventAttributes(_) => EventType::NexusOperationCompleted,
        NexusOperationFailedEventAttributes(_) => EventType::NexusOperationFailed,
        NexusOperationCanceledEventAttributes(_) => EventType::NexusOperationCanceled,
        NexusOperationTimedOutEventAttributes(_) => EventType::NexusOperationTimedOut,
        NexusOperationCancelRequestedEventAttributes(_) => EventType::NexusOperationCancelRequested,
        WorkflowExecutionOptionsUpdatedEventAttributes(_) => EventType::WorkflowExecutionOptionsUpdated,
        NexusOperationCancelRequestCompletedEventAttributes(_) => EventType::NexusOperationCancelRequestCompleted,
        NexusOperationCancelRequestFailedEventAttributes(_) => EventType::NexusOperationCancelRequestFailed,
        WorkflowExecutionPausedEventAttributes(_) => EventType::WorkflowExecutionPaused,
        WorkflowExecutionUnpausedEventAttributes(_) => EventType::WorkflowExecutionUnpaused,
        WorkflowExecutionTimeSkippingTransitionedEventAttributes(_) => {
            EventType::WorkflowExecutionTimeSkippingTransitioned
        }
    }
}
