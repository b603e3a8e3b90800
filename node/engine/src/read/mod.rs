//! Reads of committed state: what handlers and the leader shell ask, none of which changes anything.

mod describe;
mod meta;
mod pending_activity;
mod view;

pub use describe::describe;
pub use meta::{MetaView, meta};
pub use view::{RunView, StickyView, WorkflowTaskView, current_run_id, run_view};
