//! From a started workflow task to the poll response that a worker gets.
//!
//! The history goes in as the bytes that the store holds. Where it does not fit one page, the rest is fetched by the worker with the
//! page token; events of an attempt that the store does not hold travel in that token and come last.

use bytes::{Bytes, BytesMut};
use prost::Message;
use stanchion_engine::effects::TaskRef;
use stanchion_engine::limits::Limits;
use stanchion_engine::reply::WorkflowTaskStart;
use stanchion_engine::time::timestamp;
use stanchion_engine::{EventId, RunKey, StateReader, StateResult, read};
use stanchion_proto::node::{HistoryPageToken, TaskName};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::history::v1::History;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::PollWorkflowTaskQueueResponse;

/// The response without queries.
pub fn build<R: StateReader>(
    reader: &R,
    limits: &Limits,
    start: &WorkflowTaskStart,
) -> StateResult<PollWorkflowTaskQueueResponse> {
    let from = if start.sticky { EventId(start.previous_started_event_id.0 + 1) } else { EventId(1) };
    let tail = encode_events(start);
    let (history, next_page_token) = first_page(reader, limits, &start.run, from, start.next_event_id, tail)?;
    Ok(PollWorkflowTaskQueueResponse {
        task_token: start.token.encode_to_vec(),
        workflow_execution: Some(execution(&start.run)),
        workflow_type: start.workflow_type.clone(),
        previous_started_event_id: start.previous_started_event_id.0,
        started_event_id: start.started_event_id.0,
        attempt: start.attempt,
        history: Some(history),
        next_page_token,
        workflow_execution_task_queue: Some(TaskQueue {
            name: start.task_queue.clone(),
            kind: stanchion_proto::temporal::enums::v1::TaskQueueKind::Normal.into(),
            ..Default::default()
        }),
        scheduled_time: Some(timestamp(start.scheduled_at)),
        started_time: Some(timestamp(start.started_at)),
        messages: start.messages.clone(),
        ..Default::default()
    })
}

/// Events `[from, to)` as far as one page holds, then `tail`; and the token for the rest.
pub fn first_page<R: StateReader>(
    reader: &R,
    limits: &Limits,
    run: &RunKey,
    from: EventId,
    to: EventId,
    tail: Vec<u8>,
) -> StateResult<(Bytes, Vec<u8>)> {
    let events_max = usize::try_from(limits.history_page_events_max).unwrap_or(usize::MAX);
    let bytes_max = usize::try_from(limits.history_page_bytes_max).unwrap_or(usize::MAX);
    let page = read::history(reader, run, from, to, events_max, bytes_max)?;
    if page.next < to {
        let token = HistoryPageToken {
            run_id: run.run_id.clone(),
            next_event_id: page.next.0,
            end_event_id: to.0,
            tail: tail.into(),
            waiting: false,
        };
        return Ok((page.bytes, token.encode_to_vec()));
    }
    if tail.is_empty() {
        return Ok((page.bytes, Vec::new()));
    }
    let mut all = BytesMut::with_capacity(page.bytes.len() + tail.len());
    all.extend_from_slice(&page.bytes);
    all.extend_from_slice(&tail);
    Ok((all.freeze(), Vec::new()))
}

/// The events that the store does not hold, encoded as part of a `History`.
fn encode_events(start: &WorkflowTaskStart) -> Vec<u8> {
    if start.transient_events.is_empty() {
        return Vec::new();
    }
    History { events: start.transient_events.clone() }.encode_to_vec()
}

pub fn execution(run: &RunKey) -> WorkflowExecution {
    WorkflowExecution { workflow_id: run.workflow_id.clone(), run_id: run.run_id.clone() }
}

/// A task's name on the wire between nodes.
pub fn task_name(task: &TaskRef) -> TaskName {
    TaskName {
        namespace_id: task.run.namespace_id.clone(),
        workflow_id: task.run.workflow_id.clone(),
        run_id: task.run.run_id.clone(),
        scheduled_event_id: task.scheduled_event_id.0,
        attempt: task.attempt,
        stamp: task.stamp,
    }
}
