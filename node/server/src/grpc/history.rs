//! Histories: forwards with paging and long polls, and backwards.
//!
//! Pages are the stored bytes; nothing is decoded. A page token names the run, so that a history goes on where it was although the
//! workflow id has a newer run by then.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use stanchion_engine::read::{self, RunView};
use stanchion_engine::{EventId, GroupId, Rejection};
use stanchion_proto::node::HistoryPageToken;
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::enums::v1::HistoryEventFilterType;
use stanchion_proto::temporal::history::v1::History;
use stanchion_proto::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryResponse, GetWorkflowExecutionHistoryReverseRequest,
    GetWorkflowExecutionHistoryReverseResponse,
};

use super::workflow::{group, id_of, not_found, view};
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate;

fn read_token(bytes: &[u8]) -> Result<Option<HistoryPageToken>, Rejection> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let malformed = || Rejection::invalid("Invalid NextPageToken.");
    let token = HistoryPageToken::decode(bytes).map_err(|_| malformed())?;
    if token.next_event_id < 1 || uuid::Uuid::parse_str(&token.run_id).is_err() {
        return Err(malformed());
    }
    Ok(Some(token))
}

async fn check(
    node: &Arc<Node>,
    namespace: &str,
    execution: Option<&WorkflowExecution>,
    token: &[u8],
) -> Result<(), CallError> {
    node.meta.namespace(node, namespace).await?;
    validate::execution(execution)?;
    read_token(token)?;
    Ok(())
}

/// The run that is read, and the place that the last page ended at.
async fn begin(
    at: &Here,
    namespace: &Namespace,
    execution: Option<&WorkflowExecution>,
    token: &[u8],
) -> Result<(RunView, Option<HistoryPageToken>), CallError> {
    let token = read_token(token)?;
    let mut named = execution.cloned().unwrap_or_default();
    if let Some(token) = &token {
        named.run_id.clone_from(&token.run_id);
    }
    Ok((view(at, namespace, &named).await?, token))
}

/// Events of a page: what the caller asked for, within the bound.
fn page_events(at: &Here, asked: i32) -> usize {
    let bound = usize::try_from(at.node.limits.history_page_events_max).unwrap_or(usize::MAX);
    usize::try_from(asked).ok().filter(|asked| *asked > 0).map_or(bound, |asked| asked.min(bound))
}

fn page_bytes(at: &Here) -> usize {
    usize::try_from(at.node.limits.history_page_bytes_max).unwrap_or(usize::MAX)
}

impl GroupCall for GetWorkflowExecutionHistoryRequest {
    const METHOD: &'static str = "GetWorkflowExecutionHistory";
    type Answer = GetWorkflowExecutionHistoryResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        check(node, &self.namespace, self.execution.as_ref(), &self.next_page_token).await
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let (view, token) = begin(&at, &namespace, self.execution.as_ref(), &self.next_page_token).await?;
        if self.history_event_filter_type() == HistoryEventFilterType::CloseEvent {
            return close_event(&at, &namespace, view, self.wait_new_event).await;
        }
        let (from, end, tail) = token.map_or((1, 0, Bytes::new()), |t| (t.next_event_id, t.end_event_id, t.tail));
        // A worker's own history ends where its task was started, whatever has come since.
        let view =
            if end == 0 && self.wait_new_event { wait_for(&at, &namespace, view, EventId(from)).await? } else { view };
        let end = if end == 0 && !self.wait_new_event { view.next_event_id.0 } else { end };
        let to = if end == 0 { view.next_event_id } else { EventId(end) };
        let page = {
            let (events_max, bytes_max) = (page_events(&at, self.maximum_page_size), page_bytes(&at));
            let read = |reader: &_| read::history(reader, &view.key, EventId(from), to, events_max, bytes_max);
            at.term.read(read).await?
        };
        let run_id = view.key.run_id.clone();
        let more = page.next < to;
        // A reader who does not wait also sees the attempt that is not stored; one who waits gets it when it is.
        let tail = if tail.is_empty() && !more && !self.wait_new_event && to == view.next_event_id {
            Bytes::from(History { events: view.transient_events.clone() }.encode_to_vec())
        } else {
            tail
        };
        let waits = end == 0 && !view.closed;
        let next_page_token = if more || waits {
            let token = HistoryPageToken {
                run_id,
                next_event_id: page.next.0,
                end_event_id: end,
                tail: tail.clone(),
                waiting: waits,
            };
            token.encode_to_vec()
        } else {
            Vec::new()
        };
        let history = if more || tail.is_empty() { page.bytes } else { join(&page.bytes, &tail) };
        Ok(GetWorkflowExecutionHistoryResponse { history: Some(history), next_page_token, ..Default::default() })
    }
}

fn join(stored: &[u8], tail: &[u8]) -> Bytes {
    let mut all = BytesMut::with_capacity(stored.len() + tail.len());
    all.extend_from_slice(stored);
    all.extend_from_slice(tail);
    all.freeze()
}

/// The last event, once the run is closed.
async fn close_event(
    at: &Here,
    namespace: &Namespace,
    view: RunView,
    waits: bool,
) -> Result<GetWorkflowExecutionHistoryResponse, CallError> {
    let view = if waits { wait_for_close(at, namespace, view).await? } else { view };
    if !view.closed && waits {
        let (run_id, next_event_id) = (view.key.run_id.clone(), view.next_event_id.0);
        let token = HistoryPageToken { run_id, next_event_id, waiting: true, ..Default::default() };
        return Ok(GetWorkflowExecutionHistoryResponse {
            history: Some(Bytes::new()),
            next_page_token: token.encode_to_vec(),
            ..Default::default()
        });
    }
    if !view.closed {
        return Ok(GetWorkflowExecutionHistoryResponse { history: Some(Bytes::new()), ..Default::default() });
    }
    let last = EventId(view.next_event_id.0 - 1);
    let page = at.term.read(|reader| read::history(reader, &view.key, last, view.next_event_id, 1, usize::MAX)).await?;
    Ok(GetWorkflowExecutionHistoryResponse { history: Some(page.bytes), ..Default::default() })
}

/// The run once it has an event with an id of at least `from`, is closed, or the caller's time is over.
async fn wait_for(at: &Here, namespace: &Namespace, now: RunView, from: EventId) -> Result<RunView, CallError> {
    if now.closed || now.next_event_id > from {
        return Ok(now);
    }
    let seen = EventId(from.0 - 1);
    changed(at, namespace, now, seen).await
}

async fn wait_for_close(at: &Here, namespace: &Namespace, mut now: RunView) -> Result<RunView, CallError> {
    while !now.closed {
        let seen = EventId(now.next_event_id.0 - 1);
        let newer = changed(at, namespace, now.clone(), seen).await?;
        if !newer.closed && newer.next_event_id == now.next_event_id {
            return Ok(newer);
        }
        now = newer;
    }
    Ok(now)
}

/// The run after its next change, or as it is when the caller's time is over.
async fn changed(at: &Here, namespace: &Namespace, now: RunView, seen: EventId) -> Result<RunView, CallError> {
    let (id, workflow_id, run_id) = (&namespace.id, &now.key.workflow_id, &now.key.run_id);
    let look = |reader: &_| {
        let view = read::last_view(reader, id, workflow_id, run_id)?;
        Ok(view.map_or((EventId(seen.0 + 1), true), |view| (view.next_event_id, view.closed)))
    };
    if at.term.wait_for_change(&now.key, seen, at.deadline, look).await?.is_none() {
        return Ok(now);
    }
    // Also of a run that was deleted in this moment: its last event is its termination.
    let named = WorkflowExecution { workflow_id: workflow_id.clone(), run_id: run_id.clone() };
    let view = at.term.read(|reader| read::last_view(reader, id, workflow_id, run_id)).await?;
    view.ok_or_else(|| CallError::Rejected(not_found(&named)))
}

impl GroupCall for GetWorkflowExecutionHistoryReverseRequest {
    const METHOD: &'static str = "GetWorkflowExecutionHistoryReverse";
    type Answer = GetWorkflowExecutionHistoryReverseResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        check(node, &self.namespace, self.execution.as_ref(), &self.next_page_token).await
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, id_of(self.execution.as_ref())).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let (view, token) = begin(&at, &namespace, self.execution.as_ref(), &self.next_page_token).await?;
        let below = token.map_or(view.next_event_id, |token| EventId(token.next_event_id));
        let (events_max, bytes_max) = (page_events(&at, self.maximum_page_size), page_bytes(&at));
        let read = |reader: &_| read::history_reverse(reader, &view.key, below, events_max, bytes_max);
        let page = at.term.read(read).await?;
        let next_page_token = if page.next.0 > 1 {
            let run_id = view.key.run_id.clone();
            HistoryPageToken { run_id, next_event_id: page.next.0, ..Default::default() }.encode_to_vec()
        } else {
            Vec::new()
        };
        Ok(GetWorkflowExecutionHistoryReverseResponse { history: Some(page.bytes), next_page_token })
    }
}
