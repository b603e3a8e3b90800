//! Reads of committed state: what handlers and the leader shell ask, none of which changes anything.

mod describe;
mod history;
mod meta;
mod pending;
mod pending_activity;
mod standalone;
mod timers;
mod update;
mod view;
pub mod visibility;

pub use describe::describe;
pub(crate) use history::event_of;
pub use history::{HistoryPage, event, history, history_reverse};
pub use meta::{MetaView, meta};
pub use pending::{PendingRow, is_pending, pending};
pub use standalone::{StandaloneView, standalone};
pub use timers::timers;
pub use update::update;
pub use view::{RunView, StickyView, WorkflowTaskView, current_run_id, last_view, run_view};
