//! One query from asker to answer.
//!
//! ```text
//! read index, read run --+-- workflow task outstanding --> waits for it --+-- answered with it ------> done
//!                        |                                                +-- task over, no answer -+
//!                        +-- idle or closed <-------------------------------------------------------+
//!                               |
//!                               +-- sticky queue, for as long as a sticky task may wait --> answered --> done
//!                               +-- normal queue, until the deadline ---------------------> answered --> done
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use stanchion_dispatch::{QueryTask, QueueKey, Refused};
use stanchion_engine::effects::TaskKind;
use stanchion_engine::read::{RunView, WorkflowTaskView};
use stanchion_engine::reply::{Code, Detail};
use stanchion_engine::{EventId, Rejection, RunKey, read};
use stanchion_proto::command::WorkflowTaskToken;
use stanchion_proto::node::OfferQueryRequest;
use stanchion_proto::temporal::enums::v1::{
    QueryRejectCondition, QueryResultType, TaskQueueKind, WorkflowExecutionStatus,
};
use stanchion_proto::temporal::query::v1::{QueryRejected, WorkflowQuery, WorkflowQueryResult};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;
use stanchion_proto::temporal::workflowservice::v1::{
    PollWorkflowTaskQueueResponse, QueryWorkflowRequest, QueryWorkflowResponse,
};

use super::poll_response::{execution, first_page};
use super::queries::Answer;
use super::term::LeaderTerm;
use super::{CallError, run_not_found};

/// A run whose workflow task has failed this often does not answer queries (the real server's number).
const FAILING_ATTEMPTS: i32 = 3;
/// Longest wait for the worker that has the run cached, whatever its sticky queue's time limit.
const STICKY_WAIT_MAX: Duration = Duration::from_secs(5);

impl LeaderTerm {
    /// Asks a worker. Everything acknowledged before the call is seen by the answer.
    pub async fn query(
        &self,
        namespace_id: &str,
        request: QueryWorkflowRequest,
        deadline: Instant,
    ) -> Result<QueryWorkflowResponse, CallError> {
        let named = request.execution.clone().unwrap_or_default();
        let query = request.query.clone().unwrap_or_default();
        let mut view = self.view(namespace_id, &named.workflow_id, &named.run_id).await?;
        if let Some(rejected) = rejected(request.query_reject_condition(), &view) {
            return Ok(QueryWorkflowResponse { query_result: None, query_rejected: Some(rejected), link: None });
        }
        refuse_if_not_begun(&view)?;
        let id = uuid::Uuid::new_v4().to_string();
        while outstanding(&view) {
            refuse_if_failing(&view)?;
            let per_run_max = usize::try_from(self.parts.limits.queries_per_run_max).unwrap_or(usize::MAX);
            let answer = self.queries.wait(&view.key, &id, query.clone(), first_stamp(&view), per_run_max)?;
            let forget = Forget { term: self, run: view.key.clone(), id: &id };
            // The task may have ended between the first look and the registration.
            let again = self.view(namespace_id, &view.key.workflow_id, &view.key.run_id).await?;
            if !outstanding(&again) {
                view = again;
                break;
            }
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(Ok(Answer::Result(result))) => return concluded(result),
                Ok(Ok(Answer::AskDirectly)) => {}
                Ok(Err(_)) => return Err(CallError::NotHere { leader: None }),
                Err(_) => return Err(CallError::Deadline),
            }
            drop(forget);
            view = self.view(namespace_id, &again.key.workflow_id, &again.key.run_id).await?;
        }
        self.ask_directly(&view, query, &id, deadline).await
    }

    /// A worker's answer to a query that had a task of its own.
    pub fn complete_query(&self, query_id: &str, result: WorkflowQueryResult) -> bool {
        self.queries.answer_direct(query_id, result)
    }

    async fn view(&self, namespace_id: &str, workflow_id: &str, run_id: &str) -> Result<RunView, CallError> {
        let view = self.read(|reader| read::run_view(reader, namespace_id, workflow_id, run_id)).await?;
        view.ok_or_else(|| CallError::Rejected(run_not_found(workflow_id)))
    }

    async fn ask_directly(
        &self,
        view: &RunView,
        query: WorkflowQuery,
        id: &str,
        deadline: Instant,
    ) -> Result<QueryWorkflowResponse, CallError> {
        if let Some(sticky) = &view.sticky {
            let wait = Duration::from_nanos(sticky.schedule_to_start_nanos.unsigned_abs()).min(STICKY_WAIT_MAX);
            let until = deadline.min(Instant::now() + wait);
            let attempt = format!("{id}/sticky");
            match self.ask_queue(view, &sticky.queue, true, query.clone(), &attempt, until).await {
                Err(CallError::Deadline) if until < deadline => {}
                outcome => return outcome,
            }
        }
        self.ask_queue(view, &view.task_queue, false, query, id, deadline).await
    }

    async fn ask_queue(
        &self,
        view: &RunView,
        task_queue: &str,
        sticky: bool,
        query: WorkflowQuery,
        id: &str,
        until: Instant,
    ) -> Result<QueryWorkflowResponse, CallError> {
        let me = self.parts.neighbours.node_id();
        // A worker that has the run cached needs no history; one that has lost it fetches all.
        let (history, next_page_token) = if sticky {
            (Bytes::new(), Vec::new())
        } else {
            first_page(
                &self.handle.reader(),
                &self.parts.limits,
                &view.key,
                EventId(1),
                view.next_event_id,
                Vec::new(),
            )?
        };
        let token = WorkflowTaskToken {
            namespace_id: view.key.namespace_id.clone(),
            workflow_id: view.key.workflow_id.clone(),
            run_id: view.key.run_id.clone(),
            query_id: id.to_owned(),
            query_node: me,
            ..Default::default()
        };
        let response = PollWorkflowTaskQueueResponse {
            task_token: token.encode_to_vec(),
            workflow_execution: Some(execution(&view.key)),
            workflow_type: view.workflow_type.clone(),
            previous_started_event_id: view.last_started_event_id.0,
            attempt: 1,
            history: Some(history),
            next_page_token,
            query: Some(query),
            workflow_execution_task_queue: Some(TaskQueue {
                name: view.task_queue.clone(),
                kind: TaskQueueKind::Normal.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let answer = self.queries.ask_directly(id);
        let _forget = ForgetDirect { term: self, id };
        self.offer_query(view, task_queue, id, response.encode_to_vec().into(), until).await?;
        match tokio::time::timeout_at(until.into(), answer).await {
            Ok(Ok(result)) => concluded(result),
            Ok(Err(_)) => Err(CallError::NotHere { leader: None }),
            Err(_) => Err(CallError::Deadline),
        }
    }

    async fn offer_query(
        &self,
        view: &RunView,
        task_queue: &str,
        id: &str,
        response: Bytes,
        until: Instant,
    ) -> Result<(), CallError> {
        let queue = QueueKey {
            namespace_id: view.key.namespace_id.clone(),
            name: task_queue.to_owned(),
            kind: TaskKind::Workflow,
        };
        let me = self.parts.neighbours.node_id();
        let owner = self.parts.neighbours.owner_of(&queue);
        if owner == me {
            let query = QueryTask { id: id.to_owned(), node: me, response, deadline: until };
            let refuse = |refused: Refused| Rejection::new(Code::ResourceExhausted, refused.to_string());
            return self.parts.dispatch.offer_query(queue, query).map_err(|r| CallError::Rejected(refuse(r)));
        }
        let within = until.saturating_duration_since(Instant::now());
        let offer = OfferQueryRequest {
            namespace_id: view.key.namespace_id.clone(),
            task_queue: task_queue.to_owned(),
            query_id: id.to_owned(),
            node: me,
            group: self.group().0,
            response,
            deadline_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        let call = self.parts.neighbours.call(owner, "OfferQuery", offer.encode_to_vec().into(), within);
        call.await.map(|_| ()).map_err(CallError::Status)
    }
}

fn outstanding(view: &RunView) -> bool {
    !view.closed && !matches!(view.workflow_task, WorkflowTaskView::None)
}

/// The first workflow task whose worker sees all that `view` holds: one that is out already may lack events that came since.
fn first_stamp(view: &RunView) -> u64 {
    match view.workflow_task {
        WorkflowTaskView::None => 0,
        WorkflowTaskView::Scheduled { stamp, .. } => stamp,
        WorkflowTaskView::Started { stamp, .. } => stamp.saturating_add(1),
    }
}

/// A delayed run, or one that waits for its cron time, has nothing to be asked about, and may not have for days.
fn refuse_if_not_begun(view: &RunView) -> Result<(), CallError> {
    if view.backing_off && !outstanding(view) {
        return Err(CallError::Rejected(not_ready("Workflow task is not scheduled yet.")));
    }
    Ok(())
}

fn refuse_if_failing(view: &RunView) -> Result<(), CallError> {
    let attempt = match view.workflow_task {
        WorkflowTaskView::None => 0,
        WorkflowTaskView::Scheduled { attempt, .. } | WorkflowTaskView::Started { attempt, .. } => attempt,
    };
    if attempt >= FAILING_ATTEMPTS {
        return Err(CallError::Rejected(not_ready("Unable to query workflow due to Workflow Task in failed state.")));
    }
    Ok(())
}

fn not_ready(message: &str) -> Rejection {
    Rejection::new(Code::FailedPrecondition, message).with(Detail::WorkflowNotReady)
}

fn rejected(condition: QueryRejectCondition, view: &RunView) -> Option<QueryRejected> {
    let refuse = match condition {
        QueryRejectCondition::NotOpen => view.closed,
        QueryRejectCondition::NotCompletedCleanly => {
            view.closed && view.status != WorkflowExecutionStatus::Completed as i32
        }
        QueryRejectCondition::Unspecified | QueryRejectCondition::None => false,
    };
    refuse.then_some(QueryRejected { status: view.status })
}

fn concluded(result: WorkflowQueryResult) -> Result<QueryWorkflowResponse, CallError> {
    if result.result_type() == QueryResultType::Failed {
        return Err(CallError::Status(crate::status::query_failed(result.error_message, result.failure)));
    }
    Ok(QueryWorkflowResponse { query_result: result.answer, query_rejected: None, link: None })
}

/// Takes the asker off the list however it leaves.
struct Forget<'a> {
    term: &'a LeaderTerm,
    run: RunKey,
    id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.term.queries.forget(&self.run, self.id);
    }
}

struct ForgetDirect<'a> {
    term: &'a LeaderTerm,
    id: &'a str,
}

impl Drop for ForgetDirect<'_> {
    fn drop(&mut self) {
        self.term.queries.forget_direct(self.id);
    }
}
