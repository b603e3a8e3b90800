//! What a step costs in a run that has grown large: the first against the last of tens of thousands of events, and of thousands of
//! pending activities.
//!
//! One run, one call at a time, by one client that is also the worker: what grows with the run shows in the call's time and in the
//! servers' CPU.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stanchion_client::Nodes;
use stanchion_proto::temporal::command::v1::command::Attributes;
use stanchion_proto::temporal::command::v1::{
    Command, RecordMarkerCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{ActivityType, WorkflowExecution};
use stanchion_proto::temporal::enums::v1::CommandType;
use stanchion_proto::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, GetWorkflowExecutionHistoryRequest, PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse, PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse,
    RespondActivityTaskCompletedRequest, RespondWorkflowTaskCompletedRequest,
};
use tonic::Status;
use uuid::Uuid;

use crate::process;
use crate::wire::{self, CALL_WITHIN, IDENTITY, LONG_POLL, timed};
use crate::worker::Plan;

/// Steps whose cost is shown together.
const WINDOW: usize = 1000;
/// A history page of a big run, or a completion of thousands of commands, may take a while.
const BIG_CALL_WITHIN: Duration = Duration::from_secs(60);

pub struct BigRun<'a> {
    pub plan: &'a Plan,
    pub nodes: &'a Nodes,
    pub pids: &'a [u32],
}

/// Cost of the steps of one window.
struct Window {
    began: Instant,
    cpu: Duration,
    micros: Vec<u64>,
}

impl BigRun<'_> {
    /// A run whose worker records a marker with every workflow task and gets the next one with the answer, until the history has so
    /// many events.
    pub async fn long_history(&self, events: i64) -> Result<String> {
        let mut task = self.first_task().await?;
        let run = task.workflow_execution.clone().context("a workflow task without its run")?;
        let mut lines = vec![format!("a run that grows to {events} events, a marker a workflow task (4 events)")];
        let mut window = self.window()?;
        while task.started_event_id < events {
            let begun = Instant::now();
            let answer = RespondWorkflowTaskCompletedRequest {
                task_token: task.task_token.clone(),
                commands: vec![marker(self.plan)],
                identity: IDENTITY.into(),
                namespace: self.plan.namespace.clone(),
                return_new_workflow_task: true,
                force_create_new_workflow_task: true,
                ..Default::default()
            };
            let answered = self.nodes.call(CALL_WITHIN, |mut client| {
                let request = timed(answer.clone(), CALL_WITHIN);
                async move { client.respond_workflow_task_completed(request).await }
            });
            let next = answered.await.context("RespondWorkflowTaskCompleted")?.into_inner().workflow_task;
            task = next.with_context(|| format!("no further task after event {}", task.started_event_id))?;
            window.micros.push(u64::try_from(begun.elapsed().as_micros())?);
            if window.micros.len() == WINDOW {
                let first = task.started_event_id - 4 * i64::try_from(WINDOW)?;
                lines.push(self.line(&format!("event {first:>6} on"), &mut window)?);
                window = self.window()?;
            }
        }
        let begun = Instant::now();
        self.describe(&run).await?;
        lines.push(format!("  describing it        {:.1} ms", begun.elapsed().as_secs_f64() * 1e3));
        let begun = Instant::now();
        let (pages, bytes) = self.read_history(&run).await?;
        let seconds = begun.elapsed().as_secs_f64();
        lines.push(format!("  reading it whole     {:.1} ms, {pages} pages, {bytes} bytes", seconds * 1e3));
        Ok(lines.join("\n"))
    }

    /// A run that schedules so many activities at once, which then are started and completed one by one.
    pub async fn many_pending(&self, activities: usize) -> Result<String> {
        let task = self.first_task().await?;
        let run = task.workflow_execution.clone().context("a workflow task without its run")?;
        let mut lines = vec![format!("a run with {activities} pending activities")];
        let begun = Instant::now();
        let answer = RespondWorkflowTaskCompletedRequest {
            task_token: task.task_token.clone(),
            commands: (1..=activities).map(|n| schedule(self.plan, n)).collect(),
            identity: IDENTITY.into(),
            namespace: self.plan.namespace.clone(),
            ..Default::default()
        };
        let answered = self.nodes.call(BIG_CALL_WITHIN, |mut client| {
            let request = timed(answer.clone(), BIG_CALL_WITHIN);
            async move { client.respond_workflow_task_completed(request).await }
        });
        answered.await.context("RespondWorkflowTaskCompleted")?;
        lines.push(format!("  scheduling them      {:.1} ms, one call", begun.elapsed().as_secs_f64() * 1e3));
        let begun = Instant::now();
        self.describe(&run).await?;
        lines.push(format!("  describing the run   {:.1} ms", begun.elapsed().as_secs_f64() * 1e3));

        let size = WINDOW.min(activities / 4).max(1);
        let mut window = self.window()?;
        for done in 1..=activities {
            let begun = Instant::now();
            let task = self.poll_activity().await?;
            self.complete_activity(task).await?;
            window.micros.push(u64::try_from(begun.elapsed().as_micros())?);
            if window.micros.len() == size {
                lines.push(self.line(&format!("{:>6} pending on", activities - done + size), &mut window)?);
                window = self.window()?;
            }
        }
        Ok(lines.join("\n"))
    }

    fn window(&self) -> Result<Window> {
        Ok(Window { began: Instant::now(), cpu: process::cpu(self.pids)?, micros: Vec::new() })
    }

    fn line(&self, title: &str, window: &mut Window) -> Result<String> {
        let cpu = process::cpu(self.pids)?.saturating_sub(window.cpu);
        let steps = window.micros.len();
        window.micros.sort_unstable();
        let at = |share: f64| window.micros[((steps - 1) as f64 * share) as usize] as f64 / 1e3;
        Ok(format!(
            "  {title}: p50 {:.2} ms, p99 {:.2} ms, CPU {:.0} us a step ({steps} steps in {:.1} s)",
            at(0.5),
            at(0.99),
            cpu.as_secs_f64() * 1e6 / steps as f64,
            window.began.elapsed().as_secs_f64()
        ))
    }

    async fn first_task(&self) -> Result<PollWorkflowTaskQueueResponse> {
        let workflow_id = Uuid::new_v4().to_string();
        let start = wire::start(self.plan, &workflow_id);
        let started = self.nodes.call(CALL_WITHIN, |mut client| {
            let request = timed(start.clone(), CALL_WITHIN);
            async move { client.start_workflow_execution(request).await }
        });
        started.await.context("StartWorkflowExecution")?;
        let poll = PollWorkflowTaskQueueRequest {
            namespace: self.plan.namespace.clone(),
            task_queue: Some(wire::normal_queue(&self.plan.task_queue)),
            identity: IDENTITY.into(),
            ..Default::default()
        };
        let polled = self.nodes.call(LONG_POLL, |mut client| {
            let request = timed(poll.clone(), LONG_POLL);
            async move { client.poll_workflow_task_queue(request).await }
        });
        let task = polled.await.context("PollWorkflowTaskQueue")?.into_inner();
        if task.task_token.is_empty() {
            bail!("a poll for the first workflow task came back empty");
        }
        Ok(task)
    }

    async fn poll_activity(&self) -> Result<PollActivityTaskQueueResponse> {
        let poll = PollActivityTaskQueueRequest {
            namespace: self.plan.namespace.clone(),
            task_queue: Some(wire::normal_queue(&self.plan.task_queue)),
            identity: IDENTITY.into(),
            ..Default::default()
        };
        let polled = self.nodes.call(LONG_POLL, |mut client| {
            let request = timed(poll.clone(), LONG_POLL);
            async move { client.poll_activity_task_queue(request).await }
        });
        let task = polled.await.context("PollActivityTaskQueue")?.into_inner();
        if task.task_token.is_empty() {
            bail!("a poll for an activity came back empty");
        }
        Ok(task)
    }

    async fn complete_activity(&self, task: PollActivityTaskQueueResponse) -> Result<()> {
        let answer = RespondActivityTaskCompletedRequest {
            task_token: task.task_token,
            result: Some(self.plan.payload.clone()),
            identity: IDENTITY.into(),
            namespace: self.plan.namespace.clone(),
            ..Default::default()
        };
        let answered = self.nodes.call(CALL_WITHIN, |mut client| {
            let request = timed(answer.clone(), CALL_WITHIN);
            async move { client.respond_activity_task_completed(request).await }
        });
        answered.await.context("RespondActivityTaskCompleted")?;
        Ok(())
    }

    async fn describe(&self, run: &WorkflowExecution) -> Result<()> {
        let describe =
            DescribeWorkflowExecutionRequest { namespace: self.plan.namespace.clone(), execution: Some(run.clone()) };
        let described = self.nodes.call(BIG_CALL_WITHIN, |mut client| {
            let request = timed(describe.clone(), BIG_CALL_WITHIN);
            async move { client.describe_workflow_execution(request).await }
        });
        described.await.map(drop).context("DescribeWorkflowExecution")
    }

    /// Pages and bytes of the whole history.
    async fn read_history(&self, run: &WorkflowExecution) -> Result<(usize, usize)> {
        let (mut token, mut pages, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let read = GetWorkflowExecutionHistoryRequest {
                namespace: self.plan.namespace.clone(),
                execution: Some(run.clone()),
                next_page_token: token,
                ..Default::default()
            };
            let page = self.nodes.call(BIG_CALL_WITHIN, |mut client| {
                let request = timed(read.clone(), BIG_CALL_WITHIN);
                async move { client.get_workflow_execution_history(request).await }
            });
            let page = page.await.map_err(|status: Status| status).context("GetWorkflowExecutionHistory")?.into_inner();
            pages += 1;
            bytes += page.history.map_or(0, |history| history.len());
            if page.next_page_token.is_empty() {
                return Ok((pages, bytes));
            }
            token = page.next_page_token;
        }
    }
}

fn marker(plan: &Plan) -> Command {
    Command {
        command_type: CommandType::RecordMarker.into(),
        attributes: Some(Attributes::RecordMarkerCommandAttributes(RecordMarkerCommandAttributes {
            marker_name: "step".into(),
            details: [("data".to_owned(), plan.payload.clone())].into(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn schedule(plan: &Plan, n: usize) -> Command {
    Command {
        command_type: CommandType::ScheduleActivityTask.into(),
        attributes: Some(Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
            activity_id: n.to_string(),
            activity_type: Some(ActivityType { name: "step".into() }),
            task_queue: Some(wire::normal_queue(&plan.task_queue)),
            input: Some(plan.payload.clone()),
            start_to_close_timeout: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            ..Default::default()
        })),
        ..Default::default()
    }
}
