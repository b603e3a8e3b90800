//! The deterministic core: `apply(state, command, position, features) -> (reply, effects)`.
//!
//! Every rule of durable execution is in this crate, one file a concept. A command comes from the replicated log, so each replica
//! applies the same ones in the same order and must end with the same bytes: whatever is not deterministic (time, ids, bounds) was
//! stamped into the command by the leader.
//!
//! Never: I/O, a clock, randomness, iteration over an unordered map, floats in state, logging above trace. A request that breaks a
//! rule is a [`Rejection`] in the reply and changes nothing; only a failing disk or corrupt row is an error ([`StateFault`]).
//!
//! Called by `replica` (apply) and by the leader shell (the functions of [`read`], on committed state).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod activity;
pub mod apply;
pub mod batch;
pub mod cache;
pub mod cron;
pub mod effects;
pub mod go_duration;
pub mod history;
pub mod ids;
pub mod inbox;
pub mod invariants;
pub mod keys;
pub mod limits;
pub mod lookup;
pub mod memory;
pub mod meta;
pub mod mutants;
pub mod nesting;
pub mod outbox;
pub mod pending;
pub mod read;
pub mod reply;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod slot;
pub mod standalone;
pub mod state;
pub mod time;
pub mod timer_queue;
pub mod transaction;
pub mod types;
pub mod validate;
pub mod visibility;

pub use apply::apply;
pub use effects::Effects;
pub use reply::{Rejection, Reply};
pub use state::{ShardState, StateFault, StateReader, StateResult, Table};
pub use types::{Attempt, EventId, Features, GroupId, Position, RunKey, ShardTime, Slot};
