//! Workers of raw gRPC for workloads whose runs execute something: a script decides each workflow task from the whole history, and another
//! performs activities and keeps the ledger.
//!
//! Nothing is kept between two tasks, so no worker is ever sticky: losing one costs nothing, and each task shows what the server says the run
//! was so far. Polls go through the workers' proxies. Never decides what is right: that is `check`'s work. Called by the workloads in this
//! folder; stopped by them after the final reads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::Message as _;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use stanchion_proof::journal::Journal;
use stanchion_proto::temporal::command::v1::Command;
use stanchion_proto::temporal::command::v1::command::Attributes as CommandAttributes;
use stanchion_proto::temporal::command::v1::{
    CompleteWorkflowExecutionCommandAttributes, ProtocolMessageCommandAttributes,
    ScheduleActivityTaskCommandAttributes, StartChildWorkflowExecutionCommandAttributes, StartTimerCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{ActivityType, Payloads, RetryPolicy, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::CommandType;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};
use stanchion_proto::temporal::protocol::v1::{Message, message};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::update::v1::{
    Acceptance, Outcome as UpdateOutcome, Request as UpdateRequest, Response, outcome,
};
use stanchion_proto::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, PollActivityTaskQueueRequest, PollActivityTaskQueueResponse,
    PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::client::{Api, is_refusal, json_payloads};
use crate::network::Link;
use crate::scene::{NAMESPACE, Scene};

/// A poll that finds nothing is answered a little before this.
const POLL_WITHIN: Duration = Duration::from_secs(10);
pub const CALL_WITHIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
const ANSWERS_MAX: usize = 4;

/// A workflow task with all that is known of its run.
pub struct Task {
    pub workflow_id: String,
    pub run_id: String,
    pub events: Vec<HistoryEvent>,
    pub updates: Vec<Update>,
}

/// An update that waits to be accepted.
pub struct Update {
    message_id: String,
    instance_id: String,
    sequencing_event_id: i64,
    request: UpdateRequest,
}

impl Update {
    pub fn name(&self) -> &str {
        self.request.input.as_ref().map(|input| input.name.as_str()).unwrap_or_default()
    }

    pub fn arguments(&self) -> Option<&Payloads> {
        self.request.input.as_ref().and_then(|input| input.args.as_ref())
    }
}

/// What the answer to a task holds.
#[derive(Default)]
pub struct Decision {
    pub commands: Vec<Command>,
    pub messages: Vec<Message>,
    /// The answer is an operation of its own in the journal: its name, its key and what it asks.
    pub noted: Option<(&'static str, String, Value)>,
}

impl Decision {
    pub fn complete(&mut self, result: &Value) {
        let attributes = CompleteWorkflowExecutionCommandAttributes { result: Some(json_payloads(result)) };
        self.push(
            CommandType::CompleteWorkflowExecution,
            CommandAttributes::CompleteWorkflowExecutionCommandAttributes(attributes),
        );
    }

    pub fn timer(&mut self, timer_id: &str, after: Duration) {
        let attributes = StartTimerCommandAttributes {
            timer_id: timer_id.to_owned(),
            start_to_fire_timeout: prost_types::Duration::try_from(after).ok(),
        };
        self.push(CommandType::StartTimer, CommandAttributes::StartTimerCommandAttributes(attributes));
    }

    pub fn child(&mut self, workflow_id: &str, kind: &str, queue: &str, input: &Value) {
        let attributes = StartChildWorkflowExecutionCommandAttributes {
            workflow_id: workflow_id.to_owned(),
            workflow_type: Some(WorkflowType { name: kind.to_owned() }),
            task_queue: Some(TaskQueue { name: queue.to_owned(), ..Default::default() }),
            input: Some(json_payloads(input)),
            ..Default::default()
        };
        self.push(
            CommandType::StartChildWorkflowExecution,
            CommandAttributes::StartChildWorkflowExecutionCommandAttributes(attributes),
        );
    }

    pub fn activity(&mut self, activity_id: &str, queue: &str, input: &Value, limits: &Limits) {
        let duration = |wait: Duration| prost_types::Duration::try_from(wait).ok();
        let attributes = ScheduleActivityTaskCommandAttributes {
            activity_id: activity_id.to_owned(),
            activity_type: Some(ActivityType { name: "step".into() }),
            task_queue: Some(TaskQueue { name: queue.to_owned(), ..Default::default() }),
            input: Some(json_payloads(input)),
            start_to_close_timeout: duration(limits.start_to_close),
            heartbeat_timeout: duration(limits.heartbeat),
            retry_policy: Some(RetryPolicy {
                initial_interval: duration(limits.back_off),
                backoff_coefficient: 1.5,
                maximum_attempts: limits.attempts_max,
                ..Default::default()
            }),
            ..Default::default()
        };
        self.push(
            CommandType::ScheduleActivityTask,
            CommandAttributes::ScheduleActivityTaskCommandAttributes(attributes),
        );
    }

    /// Accepts the update and completes it with `value` at once.
    pub fn answer(&mut self, update: &Update, value: &Value) {
        let accepted = Acceptance {
            accepted_request_message_id: update.message_id.clone(),
            accepted_request_sequencing_event_id: update.sequencing_event_id,
            accepted_request: Some(update.request.clone()),
        };
        let outcome = UpdateOutcome { value: Some(outcome::Value::Success(json_payloads(value))) };
        let completed = Response { meta: update.request.meta.clone(), outcome: Some(outcome) };
        self.say(&update.instance_id, "accept", "Acceptance", accepted.encode_to_vec());
        self.say(&update.instance_id, "complete", "Response", completed.encode_to_vec());
    }

    fn say(&mut self, instance_id: &str, what: &str, type_name: &str, value: Vec<u8>) {
        let id = format!("{instance_id}/{what}");
        let attributes = ProtocolMessageCommandAttributes { message_id: id.clone() };
        self.push(CommandType::ProtocolMessage, CommandAttributes::ProtocolMessageCommandAttributes(attributes));
        let type_url = format!("type.googleapis.com/temporal.api.update.v1.{type_name}");
        self.messages.push(Message {
            id,
            protocol_instance_id: instance_id.to_owned(),
            body: Some(prost_types::Any { type_url, value }),
            sequencing_id: None,
        });
    }

    fn push(&mut self, kind: CommandType, attributes: CommandAttributes) {
        self.commands.push(Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() });
    }
}

/// How long an activity's attempts may take, and how many there may be.
pub struct Limits {
    pub start_to_close: Duration,
    pub heartbeat: Duration,
    pub back_off: Duration,
    pub attempts_max: i32,
}

pub type Script = Arc<dyn Fn(&Task) -> Decision + Send + Sync>;
pub type Performer =
    Arc<dyn for<'a> Fn(&'a mut Lane, PollActivityTaskQueueResponse) -> BoxFuture<'a, ()> + Send + Sync>;

/// One loop of a worker: its choices and its ways to the nodes.
pub struct Lane {
    pub name: String,
    pub chance: ChaCha8Rng,
    pub journal: Journal,
    apis: Vec<Api>,
}

impl Lane {
    fn api(&mut self) -> Api {
        let at = self.chance.random_range(0..self.apis.len());
        self.apis[at].clone()
    }

    /// One call to some node.
    pub async fn once<T, F, Fut>(&mut self, within: Duration, call: F) -> Result<T, Status>
    where
        F: FnOnce(crate::client::Service) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let api = self.api();
        timeout(within, call(api.service)).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
    }

    /// Repeats a call on other nodes until it is answered, a few times. The second value says that a try before had no known outcome.
    pub async fn ask<T, F, Fut>(&mut self, call: F) -> (Result<T, Status>, bool)
    where
        F: Fn(crate::client::Service) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let mut unknown = false;
        let mut last = Status::unknown("never tried");
        for _ in 0..ANSWERS_MAX {
            match self.once(CALL_WITHIN, &call).await {
                Ok(reply) => return (Ok(reply), unknown),
                Err(status) if is_refusal(&status) => return (Err(status), unknown),
                Err(status) => {
                    unknown = true;
                    last = status;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        (Err(last), unknown)
    }
}

/// Workers at work. They end with [`Crew::dismiss`], or when this is dropped.
pub struct Crew {
    stop: CancellationToken,
    lanes: JoinSet<()>,
}

impl Crew {
    pub fn begin() -> Self {
        Crew { stop: CancellationToken::new(), lanes: JoinSet::new() }
    }

    /// So many loops that poll `queue` for workflow tasks.
    pub fn decide(&mut self, scene: &Scene, queue: &'static str, loops: usize, script: &Script) -> Result<()> {
        for number in 0..loops {
            let (mut lane, stop, script) =
                (lane(scene, &format!("{queue} decider {number}"))?, self.stop.clone(), Arc::clone(script));
            self.lanes.spawn(async move {
                while !stop.is_cancelled() {
                    match poll_workflow(&mut lane, queue).await {
                        Ok(Some(task)) => decide(&mut lane, task, &script).await,
                        Ok(None) => (),
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
            });
        }
        Ok(())
    }

    /// So many loops that poll `queue` for activities.
    pub fn perform(&mut self, scene: &Scene, queue: &'static str, loops: usize, performer: &Performer) -> Result<()> {
        for number in 0..loops {
            let name = format!("{queue} performer {number}");
            let (mut lane, stop, performer) = (lane(scene, &name)?, self.stop.clone(), Arc::clone(performer));
            self.lanes.spawn(async move {
                while !stop.is_cancelled() {
                    let poll = PollActivityTaskQueueRequest {
                        namespace: NAMESPACE.into(),
                        task_queue: Some(TaskQueue { name: queue.into(), ..Default::default() }),
                        identity: lane.name.clone(),
                        ..Default::default()
                    };
                    let polled = lane
                        .once(POLL_WITHIN * 2, |mut service| async move {
                            service
                                .poll_activity_task_queue(within(poll, POLL_WITHIN))
                                .await
                                .map(tonic::Response::into_inner)
                        })
                        .await;
                    match polled {
                        Ok(task) if !task.task_token.is_empty() => performer(&mut lane, task).await,
                        Ok(_) => (),
                        Err(_) => tokio::time::sleep(PAUSE).await,
                    }
                }
            });
        }
        Ok(())
    }

    pub async fn dismiss(mut self) {
        self.stop.cancel();
        self.lanes.shutdown().await;
    }
}

/// The crew of a workload, which hires in its setup and dismisses at its end.
#[derive(Default)]
pub struct Hired(Mutex<Option<Crew>>);

impl Hired {
    pub fn hire(&self, crew: Crew) {
        *self.0.lock() = Some(crew);
    }

    pub async fn dismiss(&self) {
        let crew = self.0.lock().take();
        if let Some(crew) = crew {
            crew.dismiss().await;
        }
    }
}

fn lane(scene: &Scene, name: &str) -> Result<Lane> {
    let apis = scene
        .cluster
        .numbers()
        .into_iter()
        .map(|node| Api::of(&scene.cluster, Link::Workers(node)))
        .collect::<Result<_>>()?;
    Ok(Lane { name: name.to_owned(), chance: scene.chance(name), journal: scene.journal.clone(), apis })
}

fn within<M>(message: M, limit: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

async fn poll_workflow(lane: &mut Lane, queue: &str) -> Result<Option<PollWorkflowTaskQueueResponse>, Status> {
    let poll = PollWorkflowTaskQueueRequest {
        namespace: NAMESPACE.into(),
        task_queue: Some(TaskQueue { name: queue.to_owned(), ..Default::default() }),
        identity: lane.name.clone(),
        ..Default::default()
    };
    let task = lane
        .once(POLL_WITHIN * 2, |mut service| async move {
            service.poll_workflow_task_queue(within(poll, POLL_WITHIN)).await.map(tonic::Response::into_inner)
        })
        .await?;
    Ok((!task.task_token.is_empty()).then_some(task))
}

async fn decide(lane: &mut Lane, polled: PollWorkflowTaskQueueResponse, script: &Script) {
    let execution = polled.workflow_execution.clone().unwrap_or_default();
    let Ok(mut events) = decoded(polled.history) else { return };
    let mut token = polled.next_page_token;
    while !token.is_empty() {
        let request = GetWorkflowExecutionHistoryRequest {
            namespace: NAMESPACE.into(),
            execution: Some(execution.clone()),
            next_page_token: token,
            ..Default::default()
        };
        let page = lane
            .ask(|mut service| {
                let request = request.clone();
                async move { service.get_workflow_execution_history(request).await.map(tonic::Response::into_inner) }
            })
            .await;
        // The task times out and is given to another.
        let Ok(page) = page.0 else { return };
        let Ok(more) = decoded(page.history) else { return };
        events.extend(more);
        token = page.next_page_token;
    }
    let updates = polled.messages.iter().filter_map(update).collect();
    let task = Task { workflow_id: execution.workflow_id, run_id: execution.run_id, events, updates };
    let decision = script(&task);
    let request = RespondWorkflowTaskCompletedRequest {
        task_token: polled.task_token,
        commands: decision.commands,
        messages: decision.messages,
        identity: lane.name.clone(),
        namespace: NAMESPACE.into(),
        ..Default::default()
    };
    let noted = decision.noted.map(|(f, key, value)| {
        // A new process for each: whoever answered tasks before may have one that is unknown.
        let process = lane.journal.new_process();
        lane.journal.invoke(process, f, &key, value)
    });
    let (told, unknown) = lane
        .ask(|mut service| {
            let request = request.clone();
            async move { service.respond_workflow_task_completed(request).await }
        })
        .await;
    let Some(op) = noted else { return };
    match told {
        Ok(_) => lane.journal.ok(op, serde_json::json!({})),
        // The token was stale, or something new happened: certainly without effect, and it says nothing about the run.
        Err(status) if is_refusal(&status) && !unknown => {
            lane.journal.fail(op, &format!("{:?}: {}", status.code(), status.message()))
        }
        Err(status) => lane.journal.info(op, &format!("{:?}: {}", status.code(), status.message())),
    }
}

/// The events of a page, which servers hand out as they stored them.
fn decoded(history: Option<bytes::Bytes>) -> Result<Vec<HistoryEvent>, Status> {
    let history = History::decode(history.unwrap_or_default());
    history
        .map(|history| history.events)
        .map_err(|error| Status::data_loss(format!("a history that cannot be decoded: {error}")))
}

fn update(message: &Message) -> Option<Update> {
    let body = message.body.as_ref()?;
    if !body.type_url.ends_with("temporal.api.update.v1.Request") {
        return None;
    }
    let sequencing_event_id = match message.sequencing_id {
        Some(message::SequencingId::EventId(id)) => id,
        _ => 0,
    };
    Some(Update {
        message_id: message.id.clone(),
        instance_id: message.protocol_instance_id.clone(),
        sequencing_event_id,
        request: UpdateRequest::decode(&*body.value).ok()?,
    })
}

/// The execution that a request names.
pub fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }
}
