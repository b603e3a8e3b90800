//! Work that blocks: on a thread of its own where the runtime has several, in line where it has one.
//!
//! A runtime of one thread is a simulated node's, or a test's. There everything that a node does happens in one order, which a seed
//! repeats; work handed to another thread would come back at a time of its own choosing.
//!
//! Called by whatever reads many rows, flushes, or opens and closes a store.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Whether everything on this runtime runs on one thread.
pub(crate) fn is_alone(runtime: &Handle) -> bool {
    runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Runs `work` without holding up the tasks of the current runtime. An error says that it panicked, or that the runtime is ending.
pub async fn off_thread<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    off_thread_of(&Handle::current(), work).await
}

/// As [`off_thread`], on the blocking threads of that runtime.
pub(crate) async fn off_thread_of<T, F>(runtime: &Handle, work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match is_alone(runtime) {
        true => Ok(work()),
        false => runtime.spawn_blocking(work).await,
    }
}
