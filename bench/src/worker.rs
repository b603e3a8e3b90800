//! Workers: loops that poll, answer and poll again, spread over the nodes.
//!
//! A worker does no work of its own: an activity returns its input's size, a workflow counts its steps. What is measured is the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use stanchion_client::Nodes;
use stanchion_proto::temporal::common::v1::Payloads;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use stanchion_proto::temporal::workflowservice::v1::{
    PollActivityTaskQueueRequest, PollActivityTaskQueueResponse, PollWorkflowTaskQueueRequest,
    RespondActivityTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
};
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::wire::{self, CALL_WITHIN, IDENTITY, LONG_POLL, MESSAGE_BYTES_MAX, timed};

/// Polls that share one connection to each node.
const POLLERS_PER_CONNECTION: usize = 8;
/// After a poll that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// What every run does.
pub struct Plan {
    pub namespace: String,
    pub task_queue: String,
    pub steps: u32,
    pub payload: Payloads,
    pub eager: bool,
    pub sticky: bool,
}

pub struct Workers {
    loops: JoinSet<()>,
    failures: Arc<Failures>,
}

/// Calls of workers that failed. A few are normal when servers end; more put the figures in doubt.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
}

impl Failures {
    fn note(&self, call: &str, error: &dyn std::fmt::Display) {
        if self.count.fetch_add(1, Ordering::Relaxed) < 5 {
            eprintln!("{call}: {error}");
        }
    }
}

/// One connection's share of a worker.
#[derive(Clone)]
struct Worker {
    plan: Arc<Plan>,
    client: WorkflowServiceClient<Channel>,
    sticky: Option<TaskQueue>,
    failures: Arc<Failures>,
}

impl Workers {
    /// As many polls for workflow tasks as for activities; of the former, half on the sticky queue.
    pub fn start(plan: &Arc<Plan>, addresses: &[String], pollers: usize) -> Result<Self> {
        let failures = Arc::new(Failures::default());
        let mut loops = JoinSet::new();
        let sticky_name = format!("{}-{}", plan.task_queue, Uuid::new_v4());
        let sticky = plan.sticky.then(|| wire::sticky_queue(&sticky_name, &plan.task_queue));
        let mut nodes = Vec::new();
        for poller in 0..pollers.max(2) {
            if poller % POLLERS_PER_CONNECTION == 0 {
                nodes.push(Nodes::new(addresses, MESSAGE_BYTES_MAX)?);
            }
            let connection = nodes.last().and_then(|nodes| nodes.node(poller % addresses.len()));
            let Some(client) = connection else { anyhow::bail!("no address was given") };
            let (plan, sticky, failures) = (plan.clone(), sticky.clone(), failures.clone());
            let worker = Worker { plan, client, sticky, failures };
            loops.spawn(worker.clone().workflow_tasks(poller % 2 == 1));
            loops.spawn(worker.activities());
        }
        Ok(Self { loops, failures })
    }

    /// Ends the loops. Returns how many of their calls failed.
    pub async fn stop(mut self) -> u64 {
        self.loops.shutdown().await;
        self.failures.count.load(Ordering::Relaxed)
    }
}

impl Worker {
    async fn workflow_tasks(mut self, on_sticky: bool) {
        let queue = match &self.sticky {
            Some(sticky) if on_sticky => sticky.clone(),
            _ => wire::normal_queue(&self.plan.task_queue),
        };
        loop {
            let poll = PollWorkflowTaskQueueRequest {
                namespace: self.plan.namespace.clone(),
                task_queue: Some(queue.clone()),
                identity: IDENTITY.into(),
                ..Default::default()
            };
            let task = match self.client.poll_workflow_task_queue(timed(poll, LONG_POLL)).await {
                Ok(task) => task.into_inner(),
                Err(status) => {
                    self.failed_poll("PollWorkflowTaskQueue", &status).await;
                    continue;
                }
            };
            if task.task_token.is_empty() {
                continue;
            }
            match wire::complete(&self.plan, &task, self.sticky.as_ref()) {
                // As in SDKs, the poll loop does not wait for the answer's way.
                Ok(answer) => drop(tokio::spawn(self.clone().complete_workflow_task(answer))),
                Err(error) => self.failures.note("workflow task", &error),
            }
        }
    }

    async fn complete_workflow_task(mut self, answer: RespondWorkflowTaskCompletedRequest) {
        match self.client.respond_workflow_task_completed(timed(answer, CALL_WITHIN)).await {
            Ok(granted) => {
                for activity in granted.into_inner().activity_tasks {
                    tokio::spawn(self.clone().complete_activity(activity));
                }
            }
            Err(status) => self.failures.note("RespondWorkflowTaskCompleted", &status),
        }
    }

    async fn activities(mut self) {
        loop {
            let poll = PollActivityTaskQueueRequest {
                namespace: self.plan.namespace.clone(),
                task_queue: Some(wire::normal_queue(&self.plan.task_queue)),
                identity: IDENTITY.into(),
                ..Default::default()
            };
            match self.client.poll_activity_task_queue(timed(poll, LONG_POLL)).await {
                Ok(task) => drop(tokio::spawn(self.clone().complete_activity(task.into_inner()))),
                Err(status) => self.failed_poll("PollActivityTaskQueue", &status).await,
            }
        }
    }

    async fn complete_activity(mut self, task: PollActivityTaskQueueResponse) {
        if task.task_token.is_empty() {
            return;
        }
        let answer = RespondActivityTaskCompletedRequest {
            task_token: task.task_token,
            result: Some(self.plan.payload.clone()),
            identity: IDENTITY.into(),
            namespace: self.plan.namespace.clone(),
            ..Default::default()
        };
        if let Err(status) = self.client.respond_activity_task_completed(timed(answer, CALL_WITHIN)).await {
            self.failures.note("RespondActivityTaskCompleted", &status);
        }
    }

    async fn failed_poll(&self, call: &str, status: &Status) {
        self.failures.note(call, status);
        tokio::time::sleep(PAUSE).await;
    }
}
