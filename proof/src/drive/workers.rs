//! Workers: loops that poll, interpret and answer, each with a sticky queue and a cache of the runs it has seen.
//!
//! What a worker keeps between two tasks is a run's events and nothing else: each task replays them from the first, so each task is also a
//! test that the history is one the program can have made.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use stanchion_proto::temporal::enums::v1::{QueryResultType, TaskQueueKind};
use stanchion_proto::temporal::history::v1::HistoryEvent;
use stanchion_proto::temporal::query::v1::WorkflowQueryResult;
use stanchion_proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use stanchion_proto::temporal::update::v1::Request as UpdateRequest;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueRequest, PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse,
    RespondQueryTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
};
use tokio::task::JoinSet;

use super::activities;
use super::call::{Caller, Told};
use super::fetch::{self, NotFetched};
use super::{Load, Nodes};
use crate::ledger::{Ledger, Line, What, digest};
use crate::program::commands::{answer, normal_queue, payloads};
use crate::program::{Machine, Update, named, replay};

/// All workers of a load.
pub struct Workers {
    loops: JoinSet<()>,
}

/// One worker, as each of its loops knows it.
pub struct Worker<N> {
    pub load: Arc<Load>,
    pub ledger: Ledger,
    pub name: String,
    pub caller: Caller<N>,
    sticky: TaskQueue,
    cache: Cache,
    /// Activities that came with the answer to a workflow task, and attempts that do not know that they are over.
    beside: Arc<Mutex<JoinSet<()>>>,
}

/// Events of runs, by run id.
type Cache = Arc<Mutex<BTreeMap<String, Vec<HistoryEvent>>>>;

impl Workers {
    /// `era` tells the workers of one time from those of another: they share nothing, as after a restart.
    pub fn start(load: &Arc<Load>, nodes: &impl Nodes, ledger: &Ledger, era: &str) -> Self {
        let mut loops = JoinSet::new();
        for number in 0..load.workers {
            let name = format!("worker-{era}-{number}");
            let sticky = TaskQueue {
                name: format!("{}-{name}-{:x}", load.task_queue, load.seed),
                kind: TaskQueueKind::Sticky.into(),
                normal_name: load.task_queue.clone(),
            };
            let (cache, beside) = (Cache::default(), Arc::default());
            let worker = |purpose: String| Worker {
                load: load.clone(),
                ledger: ledger.clone(),
                name: name.clone(),
                caller: Caller::new(nodes, named(load.seed, &format!("{name} {purpose}")), &load.timings),
                sticky: sticky.clone(),
                cache: Arc::clone(&cache),
                beside: Arc::clone(&beside),
            };
            for poller in 0..load.pollers.max(2) {
                loops.spawn(worker(format!("workflows {poller}")).workflow_tasks(poller % 2 == 1));
                loops.spawn(worker(format!("activities {poller}")).activity_tasks());
            }
        }
        Self { loops }
    }

    pub async fn stop(mut self) {
        self.loops.shutdown().await;
    }
}

impl<N: Nodes> Worker<N> {
    async fn workflow_tasks(mut self, on_sticky: bool) {
        let queue = if on_sticky { self.sticky.clone() } else { normal_queue(&self.load.task_queue) };
        loop {
            let poll = PollWorkflowTaskQueueRequest {
                namespace: self.load.namespace.clone(),
                task_queue: Some(queue.clone()),
                identity: self.name.clone(),
                ..Default::default()
            };
            let within = self.load.timings.long_poll;
            match self.caller.once(poll, within, |mut c, r| async move { c.poll_workflow_task_queue(r).await }).await {
                Ok(task) if !task.task_token.is_empty() => self.work(task).await,
                Ok(_) => self.caller.next_node(),
                Err(_) => self.caller.elsewhere().await,
            }
        }
    }

    async fn activity_tasks(mut self) {
        loop {
            let poll = PollActivityTaskQueueRequest {
                namespace: self.load.namespace.clone(),
                task_queue: Some(normal_queue(&self.load.task_queue)),
                identity: self.name.clone(),
                ..Default::default()
            };
            let within = self.load.timings.long_poll;
            match self.caller.once(poll, within, |mut c, r| async move { c.poll_activity_task_queue(r).await }).await {
                Ok(task) if !task.task_token.is_empty() => activities::perform(&mut self, task, false).await,
                Ok(_) => self.caller.next_node(),
                Err(_) => self.caller.elsewhere().await,
            }
        }
    }

    /// Answers a task, and the next ones of the same run that come with the server's answers.
    async fn work(&mut self, task: PollWorkflowTaskQueueResponse) {
        let mut next = Some(task);
        while let Some(task) = next.take() {
            let run_id = task.workflow_execution.as_ref().map(|run| run.run_id.clone()).unwrap_or_default();
            match self.decide(task).await {
                Ok(more) => next = more,
                // A run that something went wrong with is forgotten, so that its next task begins from its whole history.
                Err(_) => drop(self.cache.lock().remove(&run_id)),
            }
        }
    }

    async fn decide(
        &mut self,
        task: PollWorkflowTaskQueueResponse,
    ) -> Result<Option<PollWorkflowTaskQueueResponse>, Dropped> {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        let (name, of) = (self.name.clone(), execution.clone());
        let line = |what| Line {
            at: 0,
            worker: name.clone(),
            workflow_id: of.workflow_id.clone(),
            run_id: of.run_id.clone(),
            activity_id: String::new(),
            attempt: u32::try_from(task.attempt).unwrap_or_default(),
            token: digest(&task.task_token),
            what,
        };
        let is_query = task.query.is_some();
        if !is_query {
            self.ledger.note(line(What::Decides { started_event_id: task.started_event_id }));
        }
        let events = self.events(&task).await?;
        let mut machine = match replay(&execution.workflow_id, &events) {
            Ok(machine) => machine,
            Err(error) => {
                self.ledger.note(line(What::Nondeterminism { difference: error.to_string() }));
                return Err(Dropped::Nondeterminism);
            }
        };
        if is_query {
            self.cache.lock().insert(execution.run_id, events);
            return self.answer_query(task.task_token, &machine).await.map(|()| None);
        }
        if self.caller.chance(self.load.mischief.drops_workflow_task) {
            return Err(Dropped::OnPurpose);
        }
        let issues = machine.decide(&updates(&task));
        let answer = answer(&issues, &self.load.task_queue, self.load.workflow_task_timeout_ms());
        let closes = machine.closing.is_some();
        let keeps = !closes && !self.caller.chance(self.load.mischief.loses_cache);
        let sticky = StickyExecutionAttributes {
            worker_task_queue: Some(self.sticky.clone()),
            schedule_to_start_timeout: prost_types::Duration::try_from(self.load.timings.sticky_timeout).ok(),
        };
        let result = WorkflowQueryResult {
            result_type: QueryResultType::Answered.into(),
            answer: Some(payloads(&machine.report())),
            ..Default::default()
        };
        let request = RespondWorkflowTaskCompletedRequest {
            task_token: task.task_token.clone(),
            commands: answer.commands,
            messages: answer.messages,
            identity: self.name.clone(),
            namespace: self.load.namespace.clone(),
            sticky_attributes: (!closes).then_some(sticky),
            return_new_workflow_task: self.caller.chance(2),
            query_results: task.queries.keys().map(|id| (id.clone(), result.clone())).collect(),
            ..Default::default()
        };
        let told = self.caller.ask(request, |mut c, r| async move { c.respond_workflow_task_completed(r).await }).await;
        let Told::Ok(told) = told else { return Err(Dropped::NotTaken) };
        self.ledger.note(line(What::Decided { started_event_id: task.started_event_id }));
        if keeps {
            let mut events = events;
            // The server says so where a task left no trace: what was seen of it never was.
            if told.reset_history_event_id > 0 {
                events.retain(|event| event.event_id <= told.reset_history_event_id);
            }
            self.cache.lock().insert(execution.run_id, events);
        } else {
            self.cache.lock().remove(&execution.run_id);
        }
        for activity in told.activity_tasks {
            let token = activity.task_token.clone();
            self.beside("eager", &token, |mut w| async move { activities::perform(&mut w, activity, true).await });
        }
        Ok(told.workflow_task.filter(|task| !task.task_token.is_empty()))
    }

    /// Something that goes on beside the loops until it is done or the worker stops. `purpose` and `token` name its choices.
    pub fn beside<F>(&self, purpose: &str, token: &[u8], begin: impl FnOnce(Worker<N>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let purpose = format!("{} {purpose} {}", self.name, digest(token));
        let worker = Worker {
            load: self.load.clone(),
            ledger: self.ledger.clone(),
            name: self.name.clone(),
            caller: self.caller.another(named(self.load.seed, &purpose)),
            sticky: self.sticky.clone(),
            cache: Arc::clone(&self.cache),
            beside: Arc::default(),
        };
        let mut beside = self.beside.lock();
        while beside.try_join_next().is_some() {}
        beside.spawn(begin(worker));
    }

    async fn answer_query(&mut self, task_token: Vec<u8>, machine: &Machine) -> Result<(), Dropped> {
        let request = RespondQueryTaskCompletedRequest {
            task_token,
            completed_type: QueryResultType::Answered.into(),
            query_result: Some(payloads(&machine.report())),
            namespace: self.load.namespace.clone(),
            ..Default::default()
        };
        match self.caller.ask(request, |mut c, r| async move { c.respond_query_task_completed(r).await }).await {
            Told::Ok(_) => Ok(()),
            Told::Fail(_) | Told::Unknown(_) => Err(Dropped::NotTaken),
        }
    }

    /// All events up to the task's own start: what came with it, behind what the cache holds or else what the server has.
    async fn events(&mut self, task: &PollWorkflowTaskQueueResponse) -> Result<Vec<HistoryEvent>, Dropped> {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        let namespace = self.load.namespace.clone();
        let mut came = fetch::decode(task.history.as_deref())?;
        if !task.next_page_token.is_empty() {
            let (id, run, token) = (&execution.workflow_id, &execution.run_id, task.next_page_token.clone());
            came.extend(fetch::history(&mut self.caller, &namespace, id, run, token).await?);
        }
        let first = came.first().map_or(i64::MAX, |event| event.event_id);
        let mut events = self.cache.lock().remove(&execution.run_id).unwrap_or_default();
        let known = events.last().map_or(0, |event| event.event_id);
        if first == 1 {
            events = came;
        } else if first <= known + 1 {
            events.retain(|event| event.event_id < first);
            events.extend(came);
        } else {
            // The cache was lost, or is another worker's.
            let (id, run) = (&execution.workflow_id, &execution.run_id);
            events = fetch::history(&mut self.caller, &namespace, id, run, Vec::new()).await?;
            let known = events.last().map_or(0, |event| event.event_id);
            events.extend(came.into_iter().filter(|event| event.event_id > known));
        }
        if task.query.is_none() {
            events.retain(|event| event.event_id <= task.started_event_id);
        }
        Ok(events)
    }
}

/// Why a workflow task was left to its time-out.
enum Dropped {
    OnPurpose,
    Nondeterminism,
    /// The server refused the answer, or it is unknown whether it took it.
    NotTaken,
    NoHistory,
}

impl From<NotFetched> for Dropped {
    fn from(_: NotFetched) -> Self {
        Dropped::NoHistory
    }
}

/// The updates that came with a task, in order.
fn updates(task: &PollWorkflowTaskQueueResponse) -> Vec<Update> {
    use stanchion_proto::temporal::protocol::v1::message::SequencingId;
    let of = |message: &stanchion_proto::temporal::protocol::v1::Message| {
        let body = message.body.as_ref()?;
        let request = UpdateRequest::decode(body.value.as_slice()).ok()?;
        let sequencing_event_id = match message.sequencing_id {
            Some(SequencingId::EventId(id)) => id,
            Some(SequencingId::CommandIndex(_)) | None => 0,
        };
        Some(Update {
            id: message.protocol_instance_id.clone(),
            message_id: message.id.clone(),
            sequencing_event_id,
            request,
        })
    };
    task.messages.iter().filter_map(of).collect()
}

/// Nanoseconds of a duration as handed out; 0 for none.
pub fn nanos(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(d.nanos)))
}
