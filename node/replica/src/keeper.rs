//! The keeper: makes applied state durable now and then, and lets go of the log that is no longer needed.
//!
//! ```text
//!   checkpoint (one flush for all groups) ─▶ openraft hears the flushed index as its "snapshot" ─▶ purge what is older than the
//!                                                                                                  bytes and seconds to keep
//! ```
//!
//! The log is kept beyond what a restart needs, so that a follower who was away for a while catches up from it and needs no snapshot.
//!
//! Never: a purge beyond what is flushed (the store refuses to name such an index, and openraft such a purge).
//!
//! One task a node, started by [`crate::Replica`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stanchion_engine::GroupId;

use crate::group::GroupHandle;
use crate::off_thread::off_thread_of;
use crate::replica::Inner;

/// How often the keeper looks.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn run(node: std::sync::Weak<Inner>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        let bytes = node.around.applied_bytes.load(Ordering::Relaxed);
        let timings = &node.around.options.timings;
        let due = last.elapsed() >= timings.checkpoint && behind(&node);
        if due || bytes >= timings.checkpoint_bytes {
            last = Instant::now();
            if let Err(reason) = checkpoint(&node).await {
                (node.around.options.fatal)(&format!("a checkpoint failed: {reason}"));
                return;
            }
        }
        for group in node.handles() {
            purge(&node, &group).await;
        }
    }
}

fn behind(node: &Inner) -> bool {
    node.handles().iter().any(|group| group.applied_index() > node.around.store.flushed(group.id()).index)
}

/// Flushes, and tells every group how far it now is.
pub(crate) async fn checkpoint(node: &Arc<Inner>) -> Result<(), String> {
    let store = node.around.store.clone();
    node.around.applied_bytes.store(0, Ordering::Relaxed);
    let started = Instant::now();
    let flush = off_thread_of(node.around.transport.runtime(), move || store.checkpoint());
    let flushed = flush.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    tracing::debug!(groups = flushed.len(), took = ?started.elapsed(), "checkpoint");
    for group in node.handles().iter().filter(|group| flushed.contains_key(&group.id())) {
        // Fatal: the group has ended, which its status says.
        let _ = group.raft().trigger().snapshot().await;
    }
    Ok(())
}

async fn purge(node: &Inner, group: &GroupHandle) {
    let limits = &node.around.options.limits;
    let id: GroupId = group.id();
    metrics::gauge!("stanchion_log_bytes", "group" => id.to_string()).set(group.log().bytes() as f64);
    if let Some(upto) = group.log().purge_candidate(limits.log_keep_bytes, limits.log_keep_seconds) {
        tracing::debug!(group = %id, upto, "purging the log");
        let _ = group.raft().trigger().purge_log(upto).await;
    }
}
