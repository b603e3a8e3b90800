//! Requests as an SDK would send them, and what a worker must know of the answers.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use prost::Message;
use prost::bytes::Bytes;
use stanchion_proto::temporal::command::v1::command::Attributes;
use stanchion_proto::temporal::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use stanchion_proto::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{CommandType, EventType, HistoryEventFilterType, TaskQueueKind};
use stanchion_proto::temporal::history::v1::{History, HistoryEvent, history_event};
use stanchion_proto::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use stanchion_proto::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, PollWorkflowTaskQueueResponse, RespondWorkflowTaskCompletedRequest,
    StartWorkflowExecutionRequest,
};
use tonic::Request;
use uuid::Uuid;

use crate::worker::Plan;

pub const IDENTITY: &str = "stanchion-bench";
/// As SDKs poll.
pub const LONG_POLL: Duration = Duration::from_secs(70);
pub const CALL_WITHIN: Duration = Duration::from_secs(10);
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

pub fn timed<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

/// One payload of so many bytes, as a JSON string.
pub fn payloads(bytes: usize) -> Payloads {
    let data = format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)));
    let metadata = [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into_iter().collect();
    Payloads { payloads: vec![Payload { metadata, data: data.into(), ..Default::default() }] }
}

pub fn normal_queue(name: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Normal.into(), ..Default::default() }
}

pub fn sticky_queue(name: &str, normal: &str) -> TaskQueue {
    TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Sticky.into(), normal_name: normal.to_owned() }
}

pub fn start(plan: &Plan, workflow_id: &str) -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: plan.namespace.clone(),
        workflow_id: workflow_id.to_owned(),
        workflow_type: Some(WorkflowType { name: "steps".into() }),
        task_queue: Some(normal_queue(&plan.task_queue)),
        input: Some(plan.payload.clone()),
        identity: IDENTITY.into(),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    }
}

/// Waits for a run's close event.
pub fn await_close(plan: &Plan, workflow_id: &str, run_id: &str, token: Vec<u8>) -> GetWorkflowExecutionHistoryRequest {
    GetWorkflowExecutionHistoryRequest {
        namespace: plan.namespace.clone(),
        execution: Some(WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }),
        next_page_token: token,
        wait_new_event: true,
        history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
        skip_archival: true,
        ..Default::default()
    }
}

/// The answer to a workflow task: the next activity, or the result.
pub fn complete(
    plan: &Plan,
    task: &PollWorkflowTaskQueueResponse,
    sticky: Option<&TaskQueue>,
) -> Result<RespondWorkflowTaskCompletedRequest> {
    let next = next_step(task)?;
    let command = if next <= plan.steps { schedule(plan, next) } else { finish(plan) };
    Ok(RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token.clone(),
        commands: vec![command],
        identity: IDENTITY.into(),
        namespace: plan.namespace.clone(),
        sticky_attributes: sticky.map(|queue| StickyExecutionAttributes {
            worker_task_queue: Some(queue.clone()),
            schedule_to_start_timeout: Some(seconds(10)),
        }),
        ..Default::default()
    })
}

/// Activities are named by their number, and every workflow task brings the events since the last one: so the history itself says where
/// the run is, and a worker needs no memory.
fn next_step(task: &PollWorkflowTaskQueueResponse) -> Result<u32> {
    if !task.next_page_token.is_empty() {
        bail!("the history of a short run came in pages");
    }
    let history = task.history.clone().unwrap_or_default();
    let History { events } = History::decode(history).context("history of a workflow task")?;
    let scheduled = events.iter().rev().find_map(|event| match &event.attributes {
        Some(history_event::Attributes::ActivityTaskScheduledEventAttributes(a)) => Some(a.activity_id.as_str()),
        _ => None,
    });
    match scheduled {
        None if events.first().is_some_and(|event| event.event_id == 1) => Ok(1),
        None => bail!("a workflow task with neither a start nor an activity: {} events", events.len()),
        Some(id) => {
            if !events.iter().any(|event| event.event_type() == EventType::ActivityTaskCompleted) {
                bail!("a workflow task before activity {id} was completed");
            }
            Ok(id.parse::<u32>().context("activity id")? + 1)
        }
    }
}

fn schedule(plan: &Plan, step: u32) -> Command {
    Command {
        command_type: CommandType::ScheduleActivityTask.into(),
        attributes: Some(Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
            activity_id: step.to_string(),
            activity_type: Some(ActivityType { name: "step".into() }),
            task_queue: Some(normal_queue(&plan.task_queue)),
            input: Some(plan.payload.clone()),
            start_to_close_timeout: Some(seconds(60)),
            request_eager_execution: plan.eager,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn finish(plan: &Plan) -> Command {
    Command {
        command_type: CommandType::CompleteWorkflowExecution.into(),
        attributes: Some(Attributes::CompleteWorkflowExecutionCommandAttributes(
            CompleteWorkflowExecutionCommandAttributes { result: Some(plan.payload.clone()) },
        )),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Whether the run ended with a result, from the page that has its close event; None if the page has none.
pub fn closed(history: &[u8]) -> Result<Option<bool>> {
    let History { events } = History::decode(history).context("history")?;
    Ok(events.last().map(|event: &HistoryEvent| event.event_type() == EventType::WorkflowExecutionCompleted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_proto::temporal::history::v1::ActivityTaskScheduledEventAttributes;

    fn event(event_id: i64, event_type: EventType) -> HistoryEvent {
        HistoryEvent { event_id, event_type: event_type.into(), ..Default::default() }
    }

    fn task(events: Vec<HistoryEvent>) -> PollWorkflowTaskQueueResponse {
        PollWorkflowTaskQueueResponse { history: Some(History { events }.encode_to_vec().into()), ..Default::default() }
    }

    fn scheduled(event_id: i64, step: &str) -> HistoryEvent {
        let attributes = ActivityTaskScheduledEventAttributes { activity_id: step.into(), ..Default::default() };
        HistoryEvent {
            attributes: Some(history_event::Attributes::ActivityTaskScheduledEventAttributes(attributes)),
            ..event(event_id, EventType::ActivityTaskScheduled)
        }
    }

    #[test]
    fn a_new_run_begins_with_its_first_step() {
        assert_eq!(next_step(&task(vec![event(1, EventType::WorkflowExecutionStarted)])).unwrap(), 1);
    }

    #[test]
    fn a_completed_activity_leads_to_the_next_in_whole_and_in_partial_histories() {
        let partial = vec![scheduled(17, "3"), event(19, EventType::ActivityTaskCompleted)];
        assert_eq!(next_step(&task(partial.clone())).unwrap(), 4);
        let whole = [vec![event(1, EventType::WorkflowExecutionStarted), scheduled(5, "1")], partial].concat();
        assert_eq!(next_step(&task(whole)).unwrap(), 4);
    }

    #[test]
    fn a_task_out_of_turn_is_an_error() {
        assert!(next_step(&task(vec![scheduled(5, "1")])).is_err());
        assert!(next_step(&task(vec![event(9, EventType::WorkflowTaskScheduled)])).is_err());
    }
}
