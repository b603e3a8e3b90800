//! Histories as a server hands them out: the evidence that every judgement ends at.
//!
//! Called by `drive`, which fetches them, and by `check` and `program`, which read them.

use stanchion_proto::temporal::history::v1::HistoryEvent;

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
