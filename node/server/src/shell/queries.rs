//! Queries that wait for an answer, by run. In memory only: an asker whose leader is lost asks again.
//!
//! A run with a workflow task outstanding answers its queries together with that task, because only then has the worker seen every
//! acknowledged event. An idle or closed run gets a workflow task made for the query alone, sent straight to a worker: first to the
//! one that has the run cached, then to any.
//!
//! Never: a write. Never: an answer from a worker that has not seen what the asker had acknowledged, or from one whose completion was
//! refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Stamp of the first workflow task that shows its worker all that the asker had acknowledged.
    from_stamp: u64,
    answer: oneshot::Sender<Answer>,
}

struct Arrived {
    number: u64,
    results: BTreeMap<String, WorkflowQueryResult>,
}

#[derive(Default)]
pub struct Queries {
    runs: Mutex<HashMap<RunKey, BTreeMap<String, Asked>>>,
    /// Answers that came with completions which are being proposed: they count once theirs is applied. A run has more than one only
    /// when a stale worker answers too, or a worker twice.
    arriving: Mutex<HashMap<RunKey, Vec<Arrived>>>,
    next_arrival: AtomicU64,
    /// Queries that went out by themselves, by query id.
    direct: Mutex<HashMap<String, oneshot::Sender<WorkflowQueryResult>>>,
}

impl Queries {
    /// Lets the query wait for the run's workflow task, the one with that stamp or a later one.
    pub fn wait(
        &self,
        run: &RunKey,
        id: &str,
        query: WorkflowQuery,
        from_stamp: u64,
        per_run_max: usize,
    ) -> Result<oneshot::Receiver<Answer>, CallError> {
        let mut runs = self.runs.lock();
        let asked = runs.entry(run.clone()).or_default();
        if asked.len() >= per_run_max {
            return Err(CallError::Overloaded);
        }
        let (answer, receiver) = oneshot::channel();
        asked.insert(id.to_owned(), Asked { query, from_stamp, answer });
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
    pub fn attach(&self, run: &RunKey, stamp: u64) -> BTreeMap<String, WorkflowQuery> {
        let mut runs = self.runs.lock();
        let Some(asked) = runs.get_mut(run) else { return BTreeMap::new() };
        asked.retain(|_, one| !one.answer.is_closed());
        let seen = asked.iter().filter(|(_, one)| one.from_stamp <= stamp);
        seen.map(|(id, one)| (id.clone(), one.query.clone())).collect()
    }

    /// Answers that come with a completion, before it is proposed. Without [`Answers::deliver`] they do not count.
    pub fn announce(&self, run: &RunKey, results: BTreeMap<String, WorkflowQueryResult>) -> Answers<'_> {
        let number = self.next_arrival.fetch_add(1, Ordering::Relaxed);
        if !results.is_empty() {
            self.arriving.lock().entry(run.clone()).or_default().push(Arrived { number, results });
        }
        Answers { queries: self, run: run.clone(), number }
    }

    fn take_arrived(&self, run: &RunKey, number: u64) -> Option<BTreeMap<String, WorkflowQueryResult>> {
        let mut arriving = self.arriving.lock();
        let all = arriving.get_mut(run)?;
        let place = all.iter().position(|arrived| arrived.number == number)?;
        let taken = all.swap_remove(place);
        if all.is_empty() {
            arriving.remove(run);
        }
        Some(taken.results)
    }

    fn answer(&self, run: &RunKey, answers: impl Iterator<Item = (String, Answer)>) {
        let mut runs = self.runs.lock();
        let Some(asked) = runs.get_mut(run) else { return };
        for (id, answer) in answers {
            if let Some(one) = asked.remove(&id) {
                // An asker that has gone needs no answer.
                let _ = one.answer.send(answer);
            }
        }
        if asked.is_empty() {
            runs.remove(run);
        }
    }

    /// The run has no workflow task outstanding any more: who still waits must ask directly, except those whose answer has come with
    /// a completion that is not decided yet here. They hear of it when it is.
    pub fn run_is_idle(&self, run: &RunKey) {
        let arriving: Vec<String> = {
            let arriving = self.arriving.lock();
            arriving.get(run).into_iter().flatten().flat_map(|arrived| arrived.results.keys().cloned()).collect()
        };
        let waiting: Vec<String> =
            self.runs.lock().get(run).map(|asked| asked.keys().cloned().collect()).unwrap_or_default();
        let without = waiting.into_iter().filter(|id| !arriving.contains(id));
        self.answer(run, without.map(|id| (id, Answer::AskDirectly)));
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
        // In an order that does not differ from one run of the process to the next.
        let runs = std::mem::take(&mut *self.runs.lock());
        drop(BTreeMap::from_iter(runs));
        self.arriving.lock().clear();
        let direct = std::mem::take(&mut *self.direct.lock());
        drop(BTreeMap::from_iter(direct));
    }
}

/// The answers of one completion. Dropped without being delivered, because the completion was refused or its caller has gone, they
/// do not count, and their askers ask again.
pub struct Answers<'q> {
    queries: &'q Queries,
    run: RunKey,
    number: u64,
}

impl Answers<'_> {
    /// The completion is applied: its answers go out.
    pub fn deliver(self) {
        let results = self.queries.take_arrived(&self.run, self.number).unwrap_or_default();
        self.queries.answer(&self.run, results.into_iter().map(|(id, result)| (id, Answer::Result(result))));
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        let results = self.queries.take_arrived(&self.run, self.number).unwrap_or_default();
        self.queries.answer(&self.run, results.into_keys().map(|id| (id, Answer::AskDirectly)));
    }
}

#[cfg(test)]
mod tests;
