//! Schedules: what starts runs at set times.
//!
//! A schedule lives in the slot of its id ([`slot_of`]). When it acts is worked out here too, but never by `apply`: the leader computes
//! matching times with its zone database and stamps them into `ScheduleTick`, so that replicas with different zone data cannot fork. What
//! becomes of the times (overlap, catch-up, limits, buffer) is decided by `apply` alone.
//!
//! ```text
//! spec --(leader: spec::CompiledSpec)--> times --ScheduleTick--> buffer --(overlap policy)--> start message --> run
//!                                                                  ^                                             |
//!                                                                  +------------- started / closed --------------+
//! ```
//!
//! Never: a zone database, or anything of [`spec`], in a function that `apply` calls.

pub mod calendar;
pub mod canonical;
pub mod cron;
mod duration;
mod jitter;
mod range;
pub mod spec;
pub mod zone;

/// What stands before a schedule's id where a workflow id is needed: slots, and the words of errors.
pub const ID_PREFIX: &str = "temporal-sys-scheduler:";

/// The slot of a schedule.
pub fn slot_of(namespace_id: &str, schedule_id: &str) -> crate::Slot {
    crate::slot::slot_of(namespace_id, &format!("{ID_PREFIX}{schedule_id}"))
}
