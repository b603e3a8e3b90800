//! The checkpoint: one flush of everything that all groups have committed, after which the log up to there is not needed any more.
//!
//! ```text
//! 1  note each group's applied index     (rows up to it are in memtables, or flushed)
//! 2  flush all column families at once   (atomic: the files hold every group's row with the rows it covers)
//! 3  publish what was noted as flushed   (the log keeper and openraft's snapshot index may now follow)
//! ```
//!
//! Never: publishes an index before it is on the disk. Called by [`crate::Store::checkpoint`], and by a snapshot's install.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use stanchion_engine::{GroupId, mutant};

use crate::error::StoreError;
use crate::log::Log;
use crate::options::FaultPoint;
use crate::state::Applied;
use crate::state::shared::{GroupShared, StateShared};

/// Flushes, and returns for each group how far its state is now safe.
pub(crate) fn run(
    state: &StateShared,
    groups: Vec<Arc<GroupShared>>,
    log: &Log,
) -> Result<BTreeMap<GroupId, u64>, StoreError> {
    state.fatal.check()?;
    let started = Instant::now();
    state.bytes_unflushed.store(0, Ordering::Release);
    let noted: Vec<(Arc<GroupShared>, Applied)> =
        groups.into_iter().map(|group| (group.clone(), group.applied.lock().clone())).collect();
    let fault = state.options.fault(FaultPoint::Checkpoint).map_err(|e| StoreError::io(state.db.path().display(), e));
    let flush = || if mutant!(PurgePastFlushed) { Ok(()) } else { state.db.flush_state() };
    fault.and_then(|()| flush()).map_err(|e| state.fatal.judge(e))?;

    let mut flushed = BTreeMap::new();
    for (group, applied) in noted {
        if applied.log_id.is_none() {
            continue;
        }
        let mut published = group.flushed.lock();
        // A snapshot's install may have flushed further meanwhile.
        if published.log_id.is_none() || published.index <= applied.index {
            *published = applied;
        }
        flushed.insert(group.group, published.index);
        log.group(group.group).flushed(published.index);
    }
    metrics::histogram!("stanchion_checkpoint_seconds").record(started.elapsed().as_secs_f64());
    metrics::gauge!("stanchion_state_write_stalled").set(if state.db.stalled() { 1.0 } else { 0.0 });
    Ok(flushed)
}
