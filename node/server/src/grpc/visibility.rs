//! List, scan and count of runs: what the real server answers for each, over `crate::visibility`.

use std::sync::Arc;

use prost::Message;
use prost_types::Timestamp;
use stanchion_engine::Rejection;
use stanchion_engine::time::{duration, timestamp_if_set};
use stanchion_engine::validate::search_attributes as attribute_tables;
use stanchion_engine::visibility::filter::{Condition, Field, Filter, System, Test, Value};
use stanchion_engine::visibility::{Entity, attributes};
use stanchion_proto::row::{AttributeRow, VisibilityRow};
use stanchion_proto::temporal::common::v1::{Memo, SearchAttributes, WorkflowExecution, WorkflowType};
use stanchion_proto::temporal::enums::v1::{IndexedValueType, WorkflowExecutionStatus};
use stanchion_proto::temporal::filter::v1::{
    StartTimeFilter, StatusFilter, WorkflowExecutionFilter, WorkflowTypeFilter,
};
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionInfo;
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use crate::context::Context;
use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::CallError;
use crate::visibility::parse::Parsed;
use crate::visibility::{self, Page, values};

pub async fn list_workflow_executions(
    node: Arc<Node>,
    request: ListWorkflowExecutionsRequest,
    context: Context,
) -> Result<ListWorkflowExecutionsResponse, Status> {
    let token = &request.next_page_token;
    let page = list(&node, &request.namespace, &request.query, request.page_size, token, context).await?;
    let next_page_token = page.next_page_token;
    Ok(ListWorkflowExecutionsResponse { executions: page.rows.into_iter().map(info).collect(), next_page_token })
}

pub async fn scan_workflow_executions(
    node: Arc<Node>,
    request: ScanWorkflowExecutionsRequest,
    context: Context,
) -> Result<ScanWorkflowExecutionsResponse, Status> {
    let token = &request.next_page_token;
    let page = list(&node, &request.namespace, &request.query, request.page_size, token, context).await?;
    let next_page_token = page.next_page_token;
    Ok(ScanWorkflowExecutionsResponse { executions: page.rows.into_iter().map(info).collect(), next_page_token })
}

pub async fn list_archived_workflow_executions(
    node: Arc<Node>,
    request: ListArchivedWorkflowExecutionsRequest,
    _context: Context,
) -> Result<ListArchivedWorkflowExecutionsResponse, Status> {
    node.meta.namespace(&node, &request.namespace).await?;
    Err(refused("Cluster is not configured for visibility archival."))
}

pub async fn list_open_workflow_executions(
    node: Arc<Node>,
    request: ListOpenWorkflowExecutionsRequest,
    context: Context,
) -> Result<ListOpenWorkflowExecutionsResponse, Status> {
    use list_open_workflow_executions_request::Filters;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let mut parts = vec![is(System::ExecutionStatus, Test::Equal(running()))];
    parts.extend(within(request.start_time_filter.as_ref(), System::StartTime)?);
    match &request.filters {
        Some(Filters::ExecutionFilter(filter)) => parts.extend(of_execution(filter)),
        Some(Filters::TypeFilter(filter)) => parts.push(of_type(filter)),
        None => {}
    }
    let (size, token) = (request.maximum_page_size, &request.next_page_token);
    let page = list_filtered(&node, &namespace, parts, size, token, context).await?;
    let next_page_token = page.next_page_token;
    Ok(ListOpenWorkflowExecutionsResponse { executions: page.rows.into_iter().map(info).collect(), next_page_token })
}

pub async fn list_closed_workflow_executions(
    node: Arc<Node>,
    request: ListClosedWorkflowExecutionsRequest,
    context: Context,
) -> Result<ListClosedWorkflowExecutionsResponse, Status> {
    use list_closed_workflow_executions_request::Filters;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let mut parts = vec![Filter::Not(Box::new(is(System::ExecutionStatus, Test::Equal(running()))))];
    parts.extend(within(request.start_time_filter.as_ref(), System::CloseTime)?);
    match &request.filters {
        Some(Filters::ExecutionFilter(filter)) => parts.extend(of_execution(filter)),
        Some(Filters::TypeFilter(filter)) => parts.push(of_type(filter)),
        Some(Filters::StatusFilter(filter)) => parts.push(of_status(filter)?),
        None => {}
    }
    let (size, token) = (request.maximum_page_size, &request.next_page_token);
    let page = list_filtered(&node, &namespace, parts, size, token, context).await?;
    let next_page_token = page.next_page_token;
    Ok(ListClosedWorkflowExecutionsResponse { executions: page.rows.into_iter().map(info).collect(), next_page_token })
}

pub async fn count_workflow_executions(
    node: Arc<Node>,
    request: CountWorkflowExecutionsRequest,
    context: Context,
) -> Result<CountWorkflowExecutionsResponse, Status> {
    use count_workflow_executions_response::AggregationGroup;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let counts = visibility::count(&node, &namespace, Entity::Workflow, &request.query, context.deadline()).await?;
    let group = |(status, count): (i32, u64)| AggregationGroup {
        group_values: vec![keyword(&values::status_name(status))],
        count: signed(count),
    };
    let groups = counts.by_status.unwrap_or_default().into_iter().map(group).collect();
    Ok(CountWorkflowExecutionsResponse { count: signed(counts.total), groups })
}

/// Deprecated: the attributes of all namespaces, as before there were any of a namespace's own.
pub async fn get_search_attributes(
    node: Arc<Node>,
    _request: GetSearchAttributesRequest,
    _context: Context,
) -> Result<GetSearchAttributesResponse, Status> {
    node.meta.refresh(&node).await?;
    let everywhere = attribute_tables::SYSTEM.iter().chain(&attribute_tables::PREDEFINED);
    let mut keys: std::collections::BTreeMap<String, i32> =
        everywhere.map(|(name, kind)| ((*name).to_owned(), (*kind).into())).collect();
    for namespace in node.meta.view().namespaces() {
        keys.extend(namespace.search_attributes.clone());
    }
    Ok(GetSearchAttributesResponse { keys })
}

async fn list(
    node: &Arc<Node>,
    namespace: &str,
    query: &str,
    page_size: i32,
    token: &[u8],
    context: Context,
) -> Result<Page, CallError> {
    let namespace = node.meta.namespace(node, namespace).await?;
    visibility::list(node, &namespace, Entity::Workflow, query, page_size, token, context.deadline()).await
}

async fn list_filtered(
    node: &Arc<Node>,
    namespace: &Namespace,
    parts: Vec<Filter>,
    page_size: i32,
    token: &[u8],
    context: Context,
) -> Result<Page, CallError> {
    let parsed = Parsed { filter: Filter::And(parts), divisions: false, by_status: false };
    let deadline = context.deadline();
    visibility::list_parsed(node, namespace, Entity::Workflow, &parsed, page_size, token, deadline).await
}

fn is(system: System, test: Test) -> Filter {
    Filter::Is(Condition { field: Field::System(system), test })
}

fn running() -> Value {
    Value::Number(WorkflowExecutionStatus::Running as i64)
}

/// Of open runs the time of the start is meant, of closed ones that of the close, whatever the filter is called.
fn within(filter: Option<&StartTimeFilter>, time: System) -> Result<Vec<Filter>, Status> {
    let Some(filter) = filter else { return Ok(Vec::new()) };
    let micros = |time: &Timestamp| time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1000));
    let (earliest, latest) = (filter.earliest_time.as_ref().map(micros), filter.latest_time.as_ref().map(micros));
    if matches!((earliest, latest), (Some(earliest), Some(latest)) if earliest > latest) {
        return Err(refused("EarliestTime in StartTimeFilter should not be larger than LatestTime."));
    }
    let earliest = earliest.map(|at| is(time, Test::GreaterOrEqual(Value::Number(at))));
    let latest = latest.map(|at| is(time, Test::LessOrEqual(Value::Number(at))));
    Ok(earliest.into_iter().chain(latest).collect())
}

fn of_execution(filter: &WorkflowExecutionFilter) -> Vec<Filter> {
    let id = is(System::WorkflowId, Test::Equal(Value::Text(filter.workflow_id.clone())));
    let run = is(System::RunId, Test::Equal(Value::Text(filter.run_id.clone())));
    if filter.run_id.is_empty() { vec![id] } else { vec![id, run] }
}

fn of_type(filter: &WorkflowTypeFilter) -> Filter {
    is(System::WorkflowType, Test::Equal(Value::Text(filter.name.clone())))
}

fn of_status(filter: &StatusFilter) -> Result<Filter, Status> {
    match filter.status() {
        WorkflowExecutionStatus::Unspecified | WorkflowExecutionStatus::Running => {
            Err(refused("StatusFilter must be specified and must be not Running."))
        }
        status => Ok(is(System::ExecutionStatus, Test::Equal(Value::Number(status as i64)))),
    }
}

fn refused(message: &str) -> Status {
    CallError::from(Rejection::invalid(message)).into()
}

pub fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A keyword as a payload.
pub fn keyword(text: &str) -> stanchion_proto::temporal::common::v1::Payload {
    attributes::payload(&AttributeRow {
        r#type: IndexedValueType::Keyword.into(),
        texts: vec![text.to_owned()],
        ..Default::default()
    })
}

/// A record as lists show it.
pub fn info(row: VisibilityRow) -> WorkflowExecutionInfo {
    let execution = |workflow_id: &str, run_id: &str| WorkflowExecution {
        workflow_id: workflow_id.to_owned(),
        run_id: run_id.to_owned(),
    };
    let root = match row.root_workflow_id.is_empty() {
        true => execution(&row.workflow_id, &row.run_id),
        false => execution(&row.root_workflow_id, &row.root_run_id),
    };
    let parent = execution(&row.parent_workflow_id, &row.parent_run_id);
    let closed = row.closed_at != 0;
    WorkflowExecutionInfo {
        execution: Some(execution(&row.workflow_id, &row.run_id)),
        start_time: timestamp_if_set(row.started_at),
        close_time: timestamp_if_set(row.closed_at),
        execution_time: timestamp_if_set(row.execution_at),
        execution_duration: closed.then(|| duration((row.closed_at - row.execution_at).max(0))),
        status: row.status,
        history_length: row.history_length,
        history_size_bytes: row.history_bytes,
        state_transition_count: row.transitions,
        parent_execution: (!row.parent_workflow_id.is_empty()).then_some(parent),
        root_execution: Some(root),
        memo: Some(memo_of(&row)),
        search_attributes: Some(search_attributes_of(&row)),
        r#type: Some(WorkflowType { name: row.workflow_type }),
        task_queue: row.task_queue,
        ..Default::default()
    }
}

/// The memo of a record.
pub fn memo_of(row: &VisibilityRow) -> Memo {
    Memo::decode(row.memo.clone()).unwrap_or_default()
}

/// The search attributes of a record, each with its type.
pub fn search_attributes_of(row: &VisibilityRow) -> SearchAttributes {
    let shown = row.attributes.iter().map(|attribute| (attribute.name.clone(), attributes::payload(attribute)));
    SearchAttributes { indexed_fields: shown.collect() }
}
