//! The calls that handlers make on a term: propose, read, start a task, complete a workflow task, wait for history.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use stanchion_dispatch::TaskPayload;
use stanchion_engine::effects::{HandOver, RunChange, TaskKind, TaskRef, TaskStart};
use stanchion_engine::reply::WorkflowTaskStart;
use stanchion_engine::{EventId, Rejection, Reply, RunKey, Slot, StateResult, nesting};
use stanchion_proto::command::{
    ActivityRef, ActivityTaskToken, Command, CompleteWorkflowTask, GiveBackActivityTask, Poller, Reservation, RunRef,
    StartActivityTask, StartWorkflowTask, WorkflowTaskToken, command::Kind,
};
use stanchion_proto::temporal::command::v1::command::Attributes;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, PollWorkflowTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
    RespondWorkflowTaskCompletedResponse,
};
use stanchion_replica::off_thread;
use stanchion_store::{CommittedReader, CommittedView};

use super::term::LeaderTerm;
use super::{CallError, outbox, poll_response};

/// Between attempts to take back a start that reached nobody.
const GIVE_BACK_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

/// Pollers held for one completion, at most.
const RESERVATIONS_MAX: usize = 16;

/// What became of a task that a matcher wanted started.
pub enum StartedTask {
    /// The encoded poll response.
    Response(Bytes),
    /// The task is no longer there; the poller goes on waiting.
    Gone,
}

impl LeaderTerm {
    /// Proposes a command and waits until it is applied here. A rejection is an error.
    pub async fn propose(&self, mut command: Command) -> Result<Reply, CallError> {
        if !command.namespace_id.is_empty() {
            command.retention_nanos = self.parts.meta.retention_of(&command.namespace_id);
        }
        nesting::bound(&mut command);
        // Settled however this ends: a caller who goes takes his proposal along, or leaves it to be applied without him.
        let _held = HeldForProposal { term: self, tickets: self.reserve_for(&mut command) };
        match self.handle.propose(self.id(), command).await? {
            Reply::Rejected(rejection) => Err(CallError::Rejected(rejection)),
            reply => Ok(reply),
        }
    }

    /// Reads committed state, linearizably: everything that was acknowledged before the call is seen.
    pub async fn read<T>(&self, look: impl FnOnce(&CommittedReader) -> StateResult<T>) -> Result<T, CallError> {
        self.handle.read_index().await?;
        Ok(look(&self.handle.reader())?)
    }

    /// As [`LeaderTerm::read`], for reads of many rows: on a thread of their own, and all of one state. Without that, a run that closes while
    /// a list walks over the records moves from its place among the open ones to one that the walk has still before it, and is listed twice.
    pub async fn read_apart<T: Send + 'static>(
        &self,
        look: impl FnOnce(&CommittedView<'_>) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        self.handle.read_index().await?;
        let reader = self.handle.reader();
        off_thread(move || look(&reader.snapshot()))
            .await
            .map_err(|error| CallError::Fatal(format!("a read ended early: {error}")))?
    }

    /// The group's slots, as first and last of each range.
    pub fn slot_ranges(&self) -> Vec<(Slot, Slot)> {
        self.handle.slots()
    }

    /// Waits until the run has an event beyond `seen` or is closed. None when the deadline comes first.
    ///
    /// `next_of` reads the run's next event id and whether it is closed; it is asked once the waiter is subscribed.
    pub async fn wait_for_change(
        &self,
        run: &RunKey,
        seen: EventId,
        deadline: Instant,
        next_of: impl FnOnce(&CommittedReader) -> StateResult<(EventId, bool)>,
    ) -> Result<Option<RunChange>, CallError> {
        let mut changes = self.watchers.subscribe(run);
        let (next_event_id, closed) = self.read(next_of).await?;
        if closed || next_event_id.0 > seen.0 + 1 {
            return Ok(Some(RunChange { run: run.clone(), next_event_id, closed, idle: false }));
        }
        let newer = changes.wait_for(|change| {
            change.as_ref().is_some_and(|change| change.closed || change.next_event_id.0 > seen.0 + 1)
        });
        match tokio::time::timeout_at(deadline.into(), newer).await {
            Ok(Ok(change)) => Ok(change.clone()),
            Ok(Err(_)) => Err(CallError::NotHere { leader: None }),
            Err(_) => Ok(None),
        }
    }

    /// A matcher has paired a task with a poller: the start is replicated, and only then is there a response.
    pub async fn start_task(
        &self,
        kind: TaskKind,
        task: TaskRef,
        poller: Poller,
        polled_task_queue: String,
    ) -> Result<StartedTask, CallError> {
        let run = Some(RunRef { workflow_id: task.run.workflow_id.clone(), run_id: task.run.run_id.clone() });
        let poller = Some(poller);
        let (scheduled_event_id, attempt, stamp) = (task.scheduled_event_id.0, task.attempt, task.stamp);
        let start = match kind {
            TaskKind::Workflow => Kind::StartWorkflowTask(StartWorkflowTask {
                run,
                scheduled_event_id,
                attempt,
                stamp,
                poller,
                polled_task_queue,
            }),
            TaskKind::Activity => {
                Kind::StartActivityTask(StartActivityTask { run, scheduled_event_id, attempt, stamp, poller })
            }
        };
        let command = Command { namespace_id: task.run.namespace_id.clone(), kind: Some(start), ..Default::default() };
        match self.propose(command).await {
            Ok(Reply::WorkflowTaskStarted(start)) => {
                Ok(StartedTask::Response(self.poll_response(&start)?.encode_to_vec().into()))
            }
            Ok(Reply::ActivityTaskStarted(response)) => Ok(StartedTask::Response(response.encode_to_vec().into())),
            Ok(_) | Err(CallError::Rejected(_)) => {
                self.forget_task(&task);
                Ok(StartedTask::Gone)
            }
            Err(error) => Err(error),
        }
    }

    /// The response for a started workflow task, with the queries that wait for it.
    pub fn poll_response(&self, start: &WorkflowTaskStart) -> Result<PollWorkflowTaskQueueResponse, CallError> {
        let mut response = poll_response::build(&self.handle.reader(), &self.parts.limits, start)?;
        response.queries = self.queries.attach(&start.run, start.token.stamp);
        Ok(response)
    }

    /// A worker's completion of a workflow task, with its answers to queries.
    pub async fn respond_workflow_task_completed(
        &self,
        namespace: String,
        token: WorkflowTaskToken,
        mut request: RespondWorkflowTaskCompletedRequest,
    ) -> Result<RespondWorkflowTaskCompletedResponse, CallError> {
        let run = RunKey {
            namespace_id: token.namespace_id.clone(),
            workflow_id: token.workflow_id.clone(),
            run_id: token.run_id.clone(),
        };
        let answers = self.queries.announce(&run, std::mem::take(&mut request.query_results));
        let sticky = request.sticky_attributes.as_ref().and_then(|sticky| sticky.worker_task_queue.as_ref());
        if let Some(queue) = sticky.filter(|queue| !queue.name.is_empty()) {
            self.next_queues.learn(&run, &queue.name);
        }
        let command = Command {
            namespace_id: token.namespace_id.clone(),
            namespace,
            kind: Some(Kind::CompleteWorkflowTask(CompleteWorkflowTask {
                token: Some(token),
                request: Some(request),
                ..Default::default()
            })),
            ..Default::default()
        };
        match self.propose(command).await {
            Ok(Reply::WorkflowTaskCompleted { next, eager_activities, reset_history_event_id }) => {
                answers.deliver();
                let workflow_task = next.map(|start| self.poll_response(&start)).transpose()?;
                Ok(RespondWorkflowTaskCompletedResponse {
                    workflow_task,
                    activity_tasks: eager_activities,
                    reset_history_event_id,
                })
            }
            Ok(other) => Err(CallError::Fatal(format!("a completion was answered with {other:?}"))),
            Err(error) => Err(error),
        }
    }

    /// A reservation was used: the poller gets its task.
    pub(super) fn hand_over(&self, hand_over: HandOver) {
        let payload = match &hand_over.start {
            TaskStart::Workflow(start) => match self.poll_response(start) {
                Ok(response) => response.encode_to_vec(),
                Err(error) => {
                    tracing::error!(%error, "a started workflow task could not be read back; it will time out");
                    return;
                }
            },
            TaskStart::Activity(response) => response.encode_to_vec(),
        };
        if self.parts.dispatch.hand_over(hand_over.ticket, TaskPayload::from(payload)).is_ok() {
            return;
        }
        match hand_over.start {
            // Its events are in the history: only its time-out can end it.
            TaskStart::Workflow(_) => {
                tracing::debug!("the poller held for a workflow task has gone; the task will time out");
            }
            TaskStart::Activity(task) => {
                if let Some(me) = self.me() {
                    tokio::spawn(async move { me.give_back(&task).await });
                }
            }
        }
    }

    /// Takes back the start of an activity that reached nobody. Repeated for as long as the term lasts; the engine does it once.
    async fn give_back(&self, task: &PollActivityTaskQueueResponse) {
        let token = match ActivityTaskToken::decode(task.task_token.as_slice()) {
            Ok(token) => token,
            Err(error) => return tracing::error!(%error, "a task token made here does not decode"),
        };
        let activity = ActivityRef {
            run: Some(RunRef { workflow_id: token.workflow_id, run_id: token.run_id }),
            scheduled_event_id: token.scheduled_event_id,
            attempt: token.attempt,
            stamp: token.stamp,
            activity_id: token.activity_id,
            ..Default::default()
        };
        metrics::counter!("stanchion_tasks_given_back_total").increment(1);
        let command = Command {
            namespace_id: token.namespace_id,
            kind: Some(Kind::GiveBackActivityTask(GiveBackActivityTask { activity: Some(activity) })),
            ..Default::default()
        };
        while let Err(error) = self.propose(command.clone()).await {
            tracing::debug!(%error, "a start that reached nobody is not taken back yet");
            tokio::select! {
                () = self.over.cancelled() => return,
                () = tokio::time::sleep(GIVE_BACK_AGAIN_AFTER) => {}
            }
        }
    }

    /// Takes pollers aside for what the command will schedule, and names them in it.
    fn reserve_for(&self, command: &mut Command) -> Vec<u64> {
        let namespace_id = command.namespace_id.clone();
        let take = |queue: &str, kind| self.reservations.take(&self.parts, &namespace_id, queue, kind);
        match &mut command.kind {
            Some(Kind::StartWorkflow(start)) if start.eager_poller.is_none() => {
                let queue = start.request.as_ref().and_then(|r| r.task_queue.as_ref());
                start.reservation = queue.and_then(|queue| take(&queue.name, TaskKind::Workflow));
                tickets(start.reservation.as_slice())
            }
            Some(Kind::StartStandaloneActivity(start)) => {
                let request = start.request.as_ref().filter(|request| request.start_delay.is_none());
                let queue = request.and_then(|request| request.task_queue.as_ref());
                start.reservation = queue.and_then(|queue| take(&queue.name, TaskKind::Activity));
                tickets(start.reservation.as_slice())
            }
            Some(Kind::UpdateWithStartWorkflow(both)) => {
                let queue = both.start.as_ref().and_then(|start| start.task_queue.as_ref());
                both.reservation = queue.and_then(|queue| take(&queue.name, TaskKind::Workflow));
                tickets(both.reservation.as_slice())
            }
            Some(Kind::CompleteWorkflowTask(complete)) => {
                let commands = complete.request.as_ref().map(|r| r.commands.as_slice()).unwrap_or_default();
                let queues = commands.iter().filter_map(|command| match &command.attributes {
                    Some(Attributes::ScheduleActivityTaskCommandAttributes(a)) if !a.request_eager_execution => {
                        a.task_queue.as_ref().map(|queue| queue.name.as_str())
                    }
                    _ => None,
                });
                complete.reservations =
                    queues.take(RESERVATIONS_MAX).filter_map(|queue| take(queue, TaskKind::Activity)).collect();
                tickets(&complete.reservations)
            }
            Some(Kind::DeliverOutbox(deliver)) => {
                let wanted = outbox::tasks_scheduled(&deliver.deliveries);
                let held = wanted.iter().take(RESERVATIONS_MAX).filter_map(|(namespace_id, task)| match task {
                    outbox::Scheduled::First { queue } => {
                        self.reservations.take(&self.parts, namespace_id, queue, TaskKind::Workflow)
                    }
                    outbox::Scheduled::Next { workflow_id, run_id } => {
                        self.reserve_next(namespace_id, Some((workflow_id, run_id)))
                    }
                });
                deliver.reservations = held.collect();
                tickets(&deliver.reservations)
            }
            Some(Kind::CompleteActivityTask(complete)) => {
                complete.reservation = self.reserve_next(&namespace_id, activity_run(complete.activity.as_ref()));
                tickets(complete.reservation.as_slice())
            }
            Some(Kind::FailActivityTask(fail)) => {
                fail.reservation = self.reserve_next(&namespace_id, activity_run(fail.activity.as_ref()));
                tickets(fail.reservation.as_slice())
            }
            Some(Kind::SignalWorkflow(signal)) => {
                let run = signal.request.as_ref().and_then(|request| request.workflow_execution.as_ref());
                let run = run.map(|run| (run.workflow_id.as_str(), run.run_id.as_str()));
                signal.reservation = self.reserve_next(&namespace_id, run);
                tickets(signal.reservation.as_slice())
            }
            _ => Vec::new(),
        }
    }

    /// A poller for the workflow task that the command will schedule, if the run is idle and its queue known. A run that is named
    /// without its run id is not looked up.
    fn reserve_next(&self, namespace_id: &str, run: Option<(&str, &str)>) -> Option<Reservation> {
        let (workflow_id, run_id) = run.filter(|(_, run_id)| !run_id.is_empty())?;
        let key = RunKey {
            namespace_id: namespace_id.to_owned(),
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
        };
        let queue = self.next_queues.of_idle(&key)?;
        self.reservations.take(&self.parts, namespace_id, &queue, TaskKind::Workflow)
    }
}

struct HeldForProposal<'t> {
    term: &'t LeaderTerm,
    tickets: Vec<u64>,
}

impl Drop for HeldForProposal<'_> {
    fn drop(&mut self) {
        self.term.reservations.settle(&self.term.parts, &self.tickets);
    }
}

fn activity_run(activity: Option<&ActivityRef>) -> Option<(&str, &str)> {
    let run = activity?.run.as_ref()?;
    Some((&run.workflow_id, &run.run_id))
}

fn tickets(reservations: &[Reservation]) -> Vec<u64> {
    reservations.iter().map(|reservation| reservation.ticket).collect()
}

/// The rejection for a run that is not there, in the real server's words.
pub fn run_not_found(workflow_id: &str) -> Rejection {
    Rejection::not_found(format!("workflow not found for ID: {workflow_id}"))
}
