//! Reads of committed state: what handlers and the leader shell ask, none of which changes anything.

mod describe;
mod pending_activity;
mod view;

pub use describe::describe;
pub use view::{RunView, StickyView, WorkflowTaskView, current_run_id, run_view};
