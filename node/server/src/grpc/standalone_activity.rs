//! Standalone activities: start, describe, wait for the outcome, list, count, cancel, terminate, delete.
//!
//! What their workers say arrives at `activity_task` as for every activity; pause and its like at `activity_control`.

use std::sync::Arc;

use prost::Message;
use stanchion_engine::read::{self, StandaloneView};
use stanchion_engine::reply::Reply;
use stanchion_engine::standalone::activity_status;
use stanchion_engine::time::{duration, timestamp_if_set};
use stanchion_engine::visibility::{DIVISION, Entity};
use stanchion_engine::{EventId, GroupId, Rejection, StateReader};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{
    CancelStandaloneActivity, DeleteStandaloneActivity, StartStandaloneActivity, TerminateStandaloneActivity,
};
use stanchion_proto::node::ActivityLongPollToken;
use stanchion_proto::row::VisibilityRow;
use stanchion_proto::temporal::activity::v1::ActivityExecutionListInfo;
use stanchion_proto::temporal::common::v1::{ActivityType, Link, link};
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use super::activity_control::{named, within};
use super::search_attributes;
use super::visibility::{keyword, search_attributes_of, signed};
use super::workflow::{command, done, group, new_request_id, unexpected};
use crate::context::Context;
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{GroupCall, Here};
use crate::shell::CallError;
use crate::validate;
use crate::visibility;

/// What the real server marks standalone activities with in its lists.
const DIVISION_OF_ACTIVITIES: &str = "3332429922";

fn not_found(activity_id: &str) -> CallError {
    Rejection::not_found(format!("activity not found for ID: {activity_id}")).into()
}

impl GroupCall for StartActivityExecutionRequest {
    const METHOD: &'static str = "StartActivityExecution";
    type Answer = StartActivityExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        let namespace = node.meta.namespace(node, &self.namespace).await?;
        validate::start_activity(self, &node.limits)?;
        search_attributes::check_start(node, &namespace, &mut self.search_attributes, &mut None).await?;
        if self.request_id.is_empty() {
            self.request_id = new_request_id();
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.activity_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let activity_id = self.activity_id.clone();
        let start = StartStandaloneActivity { request: Some(self), reservation: None };
        match at.term.propose(command(&namespace, Kind::StartStandaloneActivity(start))).await? {
            Reply::ActivityExecution { run_id, started } => {
                let activity = link::Activity { namespace: namespace.name, activity_id, run_id: run_id.clone() };
                let link = Link { variant: Some(link::Variant::Activity(activity)) };
                Ok(StartActivityExecutionResponse { run_id, started, link: Some(link) })
            }
            reply => Err(unexpected(Self::METHOD, reply)),
        }
    }
}

async fn look(
    at: &Here,
    namespace: &Namespace,
    activity_id: &str,
    run_id: &str,
) -> Result<(StandaloneView, stanchion_engine::ShardTime), CallError> {
    let found = at
        .term
        .read(|reader| {
            Ok(read::standalone(reader, &namespace.id, activity_id, run_id)?.map(|view| (view, reader.clock())))
        })
        .await?;
    found.ok_or_else(|| not_found(activity_id))
}

impl GroupCall for DescribeActivityExecutionRequest {
    const METHOD: &'static str = "DescribeActivityExecution";
    type Answer = DescribeActivityExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        named(&self.activity_id, &self.run_id, &node.limits)?;
        if !self.long_poll_token.is_empty() {
            if self.run_id.is_empty() {
                return Err(Rejection::invalid("run id is required when long poll token is provided").into());
            }
            read_token(self)?;
        }
        Ok(())
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.activity_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let (mut view, mut now) = look(&at, &namespace, &self.activity_id, &self.run_id).await?;
        if !self.long_poll_token.is_empty() {
            let seen = EventId(i64::try_from(read_token(&self)?.transitions).unwrap_or(i64::MAX));
            if view.is_closed() && view.next_change().0 <= seen.0 + 1 {
                // It changes no more: its watcher waits for its deadline, as on the real server.
                tokio::time::sleep_until(at.deadline.into()).await;
                return Ok(DescribeActivityExecutionResponse::default());
            }
            let next_of = |reader: &_| {
                let view = read::standalone(reader, &namespace.id, &self.activity_id, &self.run_id)?;
                Ok(view.map_or((EventId(i64::MAX), true), |view| (view.next_change(), false)))
            };
            let changed = at.term.wait_for_change(&view.key, seen, at.deadline, next_of).await?;
            if changed.is_none() {
                return Ok(DescribeActivityExecutionResponse::default());
            }
            (view, now) = look(&at, &namespace, &self.activity_id, &self.run_id).await?;
        }
        let mut described = described(&self, view, now);
        if let Some(info) = &mut described.info {
            search_attributes::retain_known(&at.node, &namespace, info.search_attributes.as_mut()).await?;
        }
        Ok(described)
    }
}

fn described(
    asked: &DescribeActivityExecutionRequest,
    view: StandaloneView,
    now: stanchion_engine::ShardTime,
) -> DescribeActivityExecutionResponse {
    let mut info = view.info(now);
    if !asked.include_heartbeat_details {
        info.heartbeat_details = None;
    }
    if !asked.include_last_failure {
        info.last_failure = None;
    }
    let transitions = u64::try_from(info.state_transition_count).unwrap_or(0);
    let token = ActivityLongPollToken { run_id: view.key.run_id.clone(), transitions };
    DescribeActivityExecutionResponse {
        run_id: view.key.run_id,
        info: Some(info),
        input: asked.include_input.then_some(view.detail.input).flatten(),
        outcome: asked.include_outcome.then_some(view.outcome).flatten(),
        long_poll_token: token.encode_to_vec(),
        ..Default::default()
    }
}

fn read_token(request: &DescribeActivityExecutionRequest) -> Result<ActivityLongPollToken, Rejection> {
    let token = ActivityLongPollToken::decode(request.long_poll_token.as_slice()).ok();
    let is_meant = |token: &ActivityLongPollToken| token.run_id == request.run_id;
    token.filter(is_meant).ok_or_else(|| Rejection::invalid("invalid long poll token"))
}

impl GroupCall for PollActivityExecutionRequest {
    const METHOD: &'static str = "PollActivityExecution";
    type Answer = PollActivityExecutionResponse;

    async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
        node.meta.namespace(node, &self.namespace).await?;
        Ok(named(&self.activity_id, &self.run_id, &node.limits)?)
    }

    async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
        group(node, &self.namespace, &self.activity_id).await
    }

    async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
        let namespace = at.namespace(&self.namespace).await?;
        let (mut view, _) = look(&at, &namespace, &self.activity_id, &self.run_id).await?;
        if !view.is_closed() {
            let run_id = view.key.run_id.clone();
            let next_of = |reader: &_| {
                let view = read::standalone(reader, &namespace.id, &self.activity_id, &run_id)?;
                Ok(view.map_or((EventId(0), true), |view| (EventId(0), view.is_closed())))
            };
            // No change but its end is waited for.
            let seen = EventId(i64::MAX - 1);
            if at.term.wait_for_change(&view.key, seen, at.deadline, next_of).await?.is_none() {
                return Ok(PollActivityExecutionResponse::default());
            }
            (view, _) = look(&at, &namespace, &self.activity_id, &run_id).await?;
        }
        Ok(PollActivityExecutionResponse { run_id: view.key.run_id, outcome: view.outcome })
    }
}

pub async fn list_activity_executions(
    node: Arc<Node>,
    request: ListActivityExecutionsRequest,
    context: Context,
) -> Result<ListActivityExecutionsResponse, Status> {
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let (size, token) = (request.page_size, &request.next_page_token);
    let page =
        visibility::list(&node, &namespace, Entity::Activity, &request.query, size, token, context.deadline()).await?;
    let next_page_token = page.next_page_token;
    Ok(ListActivityExecutionsResponse { executions: page.rows.into_iter().map(listed).collect(), next_page_token })
}

pub async fn count_activity_executions(
    node: Arc<Node>,
    request: CountActivityExecutionsRequest,
    context: Context,
) -> Result<CountActivityExecutionsResponse, Status> {
    use count_activity_executions_response::AggregationGroup;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let counts = visibility::count(&node, &namespace, Entity::Activity, &request.query, context.deadline()).await?;
    let group = |(status, count): (i32, u64)| AggregationGroup {
        group_values: vec![keyword(&visibility::values::status_name(status))],
        count: signed(count),
    };
    let groups = counts.by_status.unwrap_or_default().into_iter().map(group).collect();
    Ok(CountActivityExecutionsResponse { count: signed(counts.total), groups })
}

fn listed(row: VisibilityRow) -> ActivityExecutionListInfo {
    let closed = row.closed_at != 0;
    let mut attributes = search_attributes_of(&row);
    attributes.indexed_fields.insert(DIVISION.to_owned(), keyword(DIVISION_OF_ACTIVITIES));
    ActivityExecutionListInfo {
        activity_id: row.workflow_id,
        run_id: row.run_id,
        activity_type: Some(ActivityType { name: row.workflow_type }),
        schedule_time: timestamp_if_set(row.started_at),
        close_time: timestamp_if_set(row.closed_at),
        status: activity_status(row.status).into(),
        search_attributes: Some(attributes),
        task_queue: row.task_queue,
        state_transition_count: row.transitions,
        execution_duration: closed.then(|| duration((row.closed_at - row.execution_at).max(0))),
        execution_time: timestamp_if_set(row.execution_at),
        ..Default::default()
    }
}

macro_rules! asked {
    ($request:ident, $response:ident, $method:literal, $command:ident, |$this:ident, $node:ident| $more:expr) => {
        impl GroupCall for $request {
            const METHOD: &'static str = $method;
            type Answer = $response;

            /// Deleting twice would tell the caller that there was nothing to delete.
            fn is_repeatable(&self) -> bool {
                $method != "DeleteActivityExecution"
            }

            async fn check(&mut self, node: &Arc<Node>) -> Result<(), CallError> {
                node.meta.namespace(node, &self.namespace).await?;
                named(&self.activity_id, &self.run_id, &node.limits)?;
                let ($this, $node) = (self, node);
                $more
            }

            async fn group(&self, node: &Arc<Node>) -> Result<GroupId, CallError> {
                group(node, &self.namespace, &self.activity_id).await
            }

            async fn on_leader(self, at: Here) -> Result<Self::Answer, CallError> {
                let namespace = at.namespace(&self.namespace).await?;
                let kind = Kind::$command($command { request: Some(self) });
                done(&at, &namespace, Self::METHOD, kind).await?;
                Ok($response {})
            }
        }
    };
}

asked!(
    RequestCancelActivityExecutionRequest,
    RequestCancelActivityExecutionResponse,
    "RequestCancelActivityExecution",
    CancelStandaloneActivity,
    |this, node| requested(node, &this.identity, &mut this.request_id)
);
asked!(
    TerminateActivityExecutionRequest,
    TerminateActivityExecutionResponse,
    "TerminateActivityExecution",
    TerminateStandaloneActivity,
    |this, node| requested(node, &this.identity, &mut this.request_id)
);
asked!(
    DeleteActivityExecutionRequest,
    DeleteActivityExecutionResponse,
    "DeleteActivityExecution",
    DeleteStandaloneActivity,
    |_this, _node| Ok(())
);

/// Who asks, and under which id: one is made where there is none, so that repeating the call is safe.
fn requested(node: &Node, identity: &str, request_id: &mut String) -> Result<(), CallError> {
    within("identity", identity, &node.limits)?;
    within("request ID", request_id, &node.limits)?;
    if request_id.is_empty() {
        *request_id = new_request_id();
    }
    Ok(())
}
