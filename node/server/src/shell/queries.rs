//! Queries that wait for an answer, by run. In memory only: an asker whose leader is lost asks again.
//!
//! A run with a workflow task outstanding answers its queries together with that task, because only then has the worker seen every
//! acknowledged event. An idle or closed run gets a workflow task made for the query alone, sent straight to a worker: first to the
//! one that has the run cached, then to any.
//!
//! Never: a write. Never: an answer from a worker that has not seen what the asker had acknowledged.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use stanchion_engine::RunKey;
use stanchion_proto::temporal::query::v1::{WorkflowQuery, WorkflowQueryResult};
use tokio::sync::oneshot;

use super::CallError;

/// What an asker is told.
pub enum Answer {
    Result(WorkflowQueryResult),
    /// The workflow task that would have carried the query is over without an answer to it: ask by a task of its own.
    AskDirectly,
}

struct Asked {
    query: WorkflowQuery,
    /// It has been handed to a worker with a workflow task.
    attached: bool,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
pub struct Queries {
    runs: Mutex<HashMap<RunKey, BTreeMap<String, Asked>>>,
    /// Answers that came with a completion which is being proposed: they count once it is applied.
    arriving: Mutex<HashMap<RunKey, BTreeMap<String, WorkflowQueryResult>>>,
    /// Queries that went out by themselves, by query id.
    direct: Mutex<HashMap<String, oneshot::Sender<WorkflowQueryResult>>>,
}

impl Queries {
    /// Lets the query wait for the run's workflow task.
    pub fn wait(
        &self,
        run: &RunKey,
        id: &str,
        query: WorkflowQuery,
        per_run_max: usize,
    ) -> Result<oneshot::Receiver<Answer>, CallError> {
        let mut runs = self.runs.lock();
        let asked = runs.entry(run.clone()).or_default();
        if asked.len() >= per_run_max {
            return Err(CallError::Overloaded);
        }
        let (answer, receiver) = oneshot::channel();
        asked.insert(id.to_owned(), Asked { query, attached: false, answer });
        Ok(receiver)
    }

    /// The asker has gone.
    pub fn forget(&self, run: &RunKey, id: &str) {
        let mut runs = self.runs.lock();
        if let Some(asked) = runs.get_mut(run) {
            asked.remove(id);
            if asked.is_empty() {
                runs.remove(run);
            }
        }
    }

    /// Queries to send along with a workflow task that starts now.
    pub fn attach(&self, run: &RunKey) -> BTreeMap<String, WorkflowQuery> {
        let mut runs = self.runs.lock();
        let Some(asked) = runs.get_mut(run) else { return BTreeMap::new() };
        asked.retain(|_, one| !one.answer.is_closed());
        asked
            .iter_mut()
            .map(|(id, one)| {
                one.attached = true;
                (id.clone(), one.query.clone())
            })
            .collect()
    }

    /// Answers that come with a completion, before it is proposed.
    pub fn announce(&self, run: &RunKey, results: BTreeMap<String, WorkflowQueryResult>) {
        if !results.is_empty() {
            self.arriving.lock().insert(run.clone(), results);
        }
    }

    /// The completion was refused: its answers do not count.
    pub fn disown(&self, run: &RunKey) {
        self.arriving.lock().remove(run);
    }

    /// The completion is applied: its answers go out.
    pub fn deliver(&self, run: &RunKey) {
        let Some(results) = self.arriving.lock().remove(run) else { return };
        let mut runs = self.runs.lock();
        let Some(asked) = runs.get_mut(run) else { return };
        for (id, result) in results {
            if let Some(one) = asked.remove(&id) {
                // An asker that has gone needs no answer.
                let _ = one.answer.send(Answer::Result(result));
            }
        }
        if asked.is_empty() {
            runs.remove(run);
        }
    }

    /// The run has no workflow task outstanding any more: who still waits must ask directly.
    pub fn run_is_idle(&self, run: &RunKey) {
        self.deliver(run);
        let asked = self.runs.lock().remove(run);
        for (_, one) in asked.into_iter().flatten() {
            let _ = one.answer.send(Answer::AskDirectly);
        }
    }

    /// Registers a query that goes out by itself.
    pub fn ask_directly(&self, id: &str) -> oneshot::Receiver<WorkflowQueryResult> {
        let (answer, receiver) = oneshot::channel();
        self.direct.lock().insert(id.to_owned(), answer);
        receiver
    }

    pub fn forget_direct(&self, id: &str) {
        self.direct.lock().remove(id);
    }

    /// A worker's answer to a query that went out by itself. False when nobody waits for it any more.
    pub fn answer_direct(&self, id: &str, result: WorkflowQueryResult) -> bool {
        self.direct.lock().remove(id).is_some_and(|answer| answer.send(result).is_ok())
    }

    /// The term is over: all askers see their channel close and ask the new leader.
    pub fn close(&self) {
        self.runs.lock().clear();
        self.arriving.lock().clear();
        self.direct.lock().clear();
    }
}
