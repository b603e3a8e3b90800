//! Histories as a server hands them out: the evidence that every judgement ends at.
//!
//! Called by `drive`, which fetches them, and by `check` and `program`, which read them.

use serde::{Deserialize, Serialize};
use stanchion_proto::temporal::enums::v1::EventType;
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::history::v1::history_event::Attributes;

/// One run, with every event that the server has of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunHistory {
    pub workflow_id: String,
    pub run_id: String,
    pub events: Vec<HistoryEvent>,
}

/// Nanoseconds since the epoch at which an event happened.
pub fn event_time(event: &HistoryEvent) -> i64 {
    let time = event.event_time.unwrap_or_default();
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// An event of a workflow task at the very end of a history: it may have been shown before it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailEvent {
    pub id: i64,
    #[serde(rename = "type")]
    pub event_type: String,
    /// Nanoseconds since the epoch.
    pub at: i64,
    /// Of the workflow task; 0 where the event does not say.
    pub attempt: i32,
}

impl TailEvent {
    /// None of an event that is never shown before it is stored.
    pub fn of(event: &HistoryEvent) -> Option<Self> {
        let attempt = match event.attributes.as_ref()? {
            Attributes::WorkflowTaskScheduledEventAttributes(scheduled) => scheduled.attempt,
            Attributes::WorkflowTaskStartedEventAttributes(_) => 0,
            _ => return None,
        };
        Some(Self {
            id: event.event_id,
            event_type: name(event.event_type()).to_owned(),
            at: event_time(event),
            attempt,
        })
    }
}

/// The workflow task that a history ends with, if its end is not told: one or two events.
pub fn tail(events: &[HistoryEvent]) -> Vec<TailEvent> {
    let mut tail: Vec<TailEvent> = events.iter().rev().map_while(TailEvent::of).take(2).collect();
    tail.reverse();
    // Without its Scheduled event in front a Started one is of a task that is stored.
    let begins = tail.iter().position(|event| event.event_type == name(EventType::WorkflowTaskScheduled));
    tail.split_off(begins.unwrap_or(tail.len()))
}

fn name(event_type: EventType) -> &'static str {
    event_type.as_str_name().trim_start_matches("EVENT_TYPE_")
}
