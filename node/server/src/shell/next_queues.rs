//! Which queue the next workflow task of a run will go to, as far as this leader has seen it: so that a command which will wake the run
//! can take a poller of that queue aside.
//!
//! Advice, from completions and effects that passed by. A wrong guess holds a poller for the length of one proposal; no guess costs a
//! second log entry. Bounded: when it is full it forgets everything and learns again.
//!
//! Called by the leader's term.

use std::collections::HashMap;

use parking_lot::Mutex;
use stanchion_engine::RunKey;
use stanchion_engine::effects::RunChange;

/// Runs remembered of one group.
const RUNS_MAX: usize = 16_384;

#[derive(Default)]
pub struct NextQueues {
    runs: Mutex<HashMap<RunKey, Next>>,
}

struct Next {
    task_queue: String,
    /// No workflow task is outstanding: what comes in schedules one.
    idle: bool,
}

impl NextQueues {
    /// A worker keeps the run on its sticky queue from now on.
    pub fn learn(&self, run: &RunKey, task_queue: &str) {
        let mut runs = self.runs.lock();
        match runs.get_mut(run) {
            Some(next) if next.task_queue == task_queue => {}
            Some(next) => task_queue.clone_into(&mut next.task_queue),
            None => {
                if runs.len() >= RUNS_MAX {
                    runs.clear();
                }
                runs.insert(run.clone(), Next { task_queue: task_queue.to_owned(), idle: false });
            }
        }
    }

    /// The run has changed.
    pub fn follow(&self, change: &RunChange) {
        let mut runs = self.runs.lock();
        if change.closed {
            runs.remove(&change.run);
        } else if let Some(next) = runs.get_mut(&change.run) {
            next.idle = change.idle;
        }
    }

    /// The queue of the workflow task that something which comes in now would schedule.
    pub fn of_idle(&self, run: &RunKey) -> Option<String> {
        self.runs.lock().get(run).filter(|next| next.idle).map(|next| next.task_queue.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_engine::EventId;

    #[test]
    fn only_an_idle_run_has_a_next_queue() {
        let run = RunKey { namespace_id: "n".into(), workflow_id: "w".into(), run_id: "r".into() };
        let change = |idle, closed| RunChange { run: run.clone(), next_event_id: EventId(5), closed, idle };
        let queues = NextQueues::default();
        queues.follow(&change(true, false));
        assert_eq!(queues.of_idle(&run), None, "nothing is known of it");
        queues.learn(&run, "sticky");
        assert_eq!(queues.of_idle(&run), None, "its workflow task is with the worker still");
        queues.follow(&change(true, false));
        assert_eq!(queues.of_idle(&run).as_deref(), Some("sticky"));
        queues.follow(&change(false, false));
        assert_eq!(queues.of_idle(&run), None);
        queues.follow(&change(true, true));
        assert!(queues.runs.lock().is_empty());
    }
}
