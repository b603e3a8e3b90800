//! Schedules: what starts runs at set times.
//!
//! A schedule lives in the slot of its id ([`slot_of`]). When it acts is worked out here too, but never by `apply`: the leader computes
//! matching times with its zone database and stamps them into `TickSchedule`, so that replicas with different zone data cannot fork. What
//! becomes of the times (overlap, catch-up, limits, buffer) is decided by `apply` alone.
//!
//! ```text
//! spec --(leader: due::look)--> times --TickSchedule--> buffer --(overlap policy)--> start message --> run
//!                                                          ^                                            |
//!                                                          +------------ started / closed --------------+
//! ```
//!
//! A start is numbered and its message is delivered once, so a matching time leads to at most one run; `processed_at` in the row and in
//! the command says up to where times are done with, so none is looked at twice or skipped.
//!
//! Never: [`zone`], [`calendar`] or [`spec`] in a function that `apply` calls.

mod actions;
mod answers;
pub mod calendar;
pub mod canonical;
mod commands;
pub mod cron;
mod date;
pub mod describe;
pub mod due;
mod jitter;
mod listing;
pub mod origin;
mod overlap;
mod range;
#[allow(clippy::module_inception, reason = "the entity itself, beside what it is made of")]
mod schedule;
pub mod spec;
mod tick;
pub mod zone;

pub use answers::{closed, started};
pub use commands::{create, delete, not_found, patch, update};
pub use schedule::retire;
pub use tick::tick;

use stanchion_proto::row::ScheduleRow;

use crate::state::{StateReader, StateResult, Table};
use crate::transaction::decode;
use crate::{Slot, keys};

/// What stands before a schedule's id where a workflow id is needed: slots, messages, and the words of errors.
pub const ID_PREFIX: &str = "temporal-sys-scheduler:";

/// Actions that wait for their turn, and backfills that wait for theirs, at most.
pub const BUFFER_MAX: usize = 1000;

/// The conflict token of a new schedule.
pub const FIRST_CONFLICT_TOKEN: i64 = 1;

/// The slot of a schedule.
pub fn slot_of(namespace_id: &str, schedule_id: &str) -> Slot {
    crate::slot::slot_of(namespace_id, &format!("{ID_PREFIX}{schedule_id}"))
}

/// A schedule as it is stored; a deleted one too, for as long as it is remembered.
pub fn read<R: StateReader + ?Sized>(
    reader: &R,
    namespace_id: &str,
    schedule_id: &str,
) -> StateResult<Option<ScheduleRow>> {
    let row =
        reader.get(slot_of(namespace_id, schedule_id), Table::Schedule, &keys::current(namespace_id, schedule_id))?;
    row.map(|row| decode(Table::Schedule, row)).transpose()
}
