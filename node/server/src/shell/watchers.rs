//! Who waits for a run's history to grow: history long polls and queries.
//!
//! Never: a wake-up that is lost. A waiter subscribes first and reads the run afterwards, so a change between the two is seen.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use stanchion_engine::RunKey;
use stanchion_engine::effects::RunChange;
use tokio::sync::watch;

#[derive(Default)]
pub struct Watchers {
    runs: Mutex<HashMap<RunKey, watch::Sender<Option<RunChange>>>>,
}

impl Watchers {
    /// The changes of a run from now on. The value is none until the first of them.
    pub fn subscribe(&self, run: &RunKey) -> watch::Receiver<Option<RunChange>> {
        let mut runs = self.runs.lock();
        match runs.get(run) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(None);
                runs.insert(run.clone(), sender);
                receiver
            }
        }
    }

    /// Tells those who wait for the run; forgets it when nobody does.
    pub fn notify(&self, change: &RunChange) {
        let mut runs = self.runs.lock();
        if let Some(sender) = runs.get(&change.run)
            && sender.send(Some(change.clone())).is_err()
        {
            runs.remove(&change.run);
        }
    }

    /// Wakes everybody with an error: the term is over.
    pub fn close(&self) {
        // In an order that does not differ from one run of the process to the next.
        let runs = std::mem::take(&mut *self.runs.lock());
        drop(BTreeMap::from_iter(runs));
    }

    /// Drops entries whose waiters have all gone. Called now and then.
    pub fn sweep(&self) {
        self.runs.lock().retain(|_, sender| sender.receiver_count() > 0);
    }
}
