//! Who waits for updates to come further: callers of update, update-with-start and poll. In memory only: when the term is over they
//! are sent to the new leader, and ask again by the update's id.
//!
//! Never: a wake-up that is lost. A waiter subscribes first, by workflow and update id, and looks or proposes afterwards; what happens
//! between the two is seen.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stanchion_engine::RunKey;
use stanchion_engine::effects::UpdateChange;
use stanchion_engine::reply::UpdateStatus;
use stanchion_proto::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use tokio::sync::watch;

use super::{CallError, LeaderTerm};

/// A caller that waits longer is told how far the update has come, and asks again (the real server's time).
const TOLD_AFTER: Duration = Duration::from_secs(20);

/// Namespace id, workflow id, update id: which run it will be is not known before the update is admitted.
type Name = (String, String, String);
/// What has happened since somebody began to wait, by run id and place in the order of admission.
type Seen = BTreeMap<(String, u64), UpdateStatus>;

#[derive(Default)]
pub struct UpdateWaiters {
    waits: Mutex<HashMap<Name, watch::Sender<Seen>>>,
}

/// One waiter, subscribed.
pub struct UpdateWaiter {
    seen: watch::Receiver<Seen>,
}

impl UpdateWaiters {
    pub fn subscribe(&self, namespace_id: &str, workflow_id: &str, update_id: &str) -> UpdateWaiter {
        let name = (namespace_id.to_owned(), workflow_id.to_owned(), update_id.to_owned());
        let mut waits = self.waits.lock();
        let sender = waits.entry(name).or_insert_with(|| watch::channel(Seen::new()).0);
        UpdateWaiter { seen: sender.subscribe() }
    }

    /// Tells those who wait for the update.
    pub fn notify(&self, change: UpdateChange) {
        let UpdateChange { run, update_id, order, status } = change;
        let name = (run.namespace_id, run.workflow_id, update_id);
        let mut waits = self.waits.lock();
        let Some(sender) = waits.get(&name) else { return };
        if sender.receiver_count() == 0 {
            waits.remove(&name);
            return;
        }
        sender.send_modify(|seen| {
            seen.insert((run.run_id, order), status);
        });
    }

    /// Wakes everybody with an error: the term is over.
    pub fn close(&self) {
        // In an order that does not differ from one run of the process to the next.
        let waits = std::mem::take(&mut *self.waits.lock());
        drop(BTreeMap::from_iter(waits));
    }

    /// Drops entries whose waiters have all gone. Called now and then.
    pub fn sweep(&self) {
        self.waits.lock().retain(|_, sender| sender.receiver_count() > 0);
    }
}

impl LeaderTerm {
    /// To be called before the update is looked at or proposed.
    pub fn wait_for_update(&self, namespace_id: &str, workflow_id: &str, update_id: &str) -> UpdateWaiter {
        self.updates.subscribe(namespace_id, workflow_id, update_id)
    }
}

impl UpdateWaiter {
    /// The update's status once it has reached the stage, or what it has reached when the caller has waited for long. `now` is how far
    /// it was when it was looked at.
    pub async fn reach(
        mut self,
        run: &RunKey,
        order: u64,
        now: UpdateStatus,
        stage: Stage,
        deadline: Instant,
    ) -> Result<UpdateStatus, CallError> {
        if has_reached(&now, stage) {
            return Ok(now);
        }
        let told_at = Instant::now() + TOLD_AFTER;
        let until = deadline.min(told_at);
        let place = (run.run_id.clone(), order);
        let reached = self.seen.wait_for(|seen| seen.get(&place).is_some_and(|status| has_reached(status, stage)));
        let reached = match tokio::time::timeout_at(until.into(), reached).await {
            Ok(Ok(seen)) => seen.get(&place).cloned(),
            Ok(Err(_)) => return Err(CallError::NotHere { leader: None }),
            Err(_) if deadline <= told_at => return Err(CallError::Deadline),
            Err(_) => None,
        };
        Ok(reached.or_else(|| self.seen.borrow().get(&place).cloned()).unwrap_or(now))
    }
}

fn has_reached(status: &UpdateStatus, stage: Stage) -> bool {
    match status {
        UpdateStatus::Completed(_) | UpdateStatus::Aborted(_) => true,
        UpdateStatus::Accepted => stage != Stage::Completed,
        UpdateStatus::Admitted => matches!(stage, Stage::Unspecified | Stage::Admitted),
    }
}
