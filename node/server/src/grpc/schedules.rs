//! Lists and counts of schedules: what the real server answers, over `crate::visibility`.

use std::sync::Arc;

use prost::Message;
use stanchion_engine::schedule::describe;
use stanchion_engine::validate::search_attributes as attribute_tables;
use stanchion_engine::visibility::Entity;
use stanchion_engine::{Rejection, ShardTime};
use stanchion_proto::row::{ScheduleRow, VisibilityRow};
use stanchion_proto::temporal::schedule::v1::ScheduleListEntry;
use stanchion_proto::temporal::workflowservice::v1::*;
use stanchion_replica::off_thread;
use tonic::Status;

use super::search_attributes;
use super::visibility::{keyword, signed};
use crate::context::Context;
use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::{CallError, wall};
use crate::visibility::{self, values};

/// The only attribute of the server's own that filters over schedules may name.
const PAUSED: &str = "TemporalSchedulePaused";

pub async fn list_schedules(
    node: Arc<Node>,
    request: ListSchedulesRequest,
    context: Context,
) -> Result<ListSchedulesResponse, Status> {
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    check(&node, &namespace, &request.query).await?;
    let (size, token) = (request.maximum_page_size, &request.next_page_token);
    let page =
        visibility::list(&node, &namespace, Entity::Schedule, &request.query, size, token, context.deadline()).await?;
    let now = wall();
    let namespace_id = namespace.id.clone();
    let entries = off_thread(move || {
        page.rows.into_iter().map(|row| entry(row, &namespace_id, now)).collect::<Result<Vec<_>, _>>()
    });
    let mut schedules = entries.await.map_err(|error| CallError::Fatal(error.to_string()))??;
    for each in &mut schedules {
        search_attributes::retain_known(&node, &namespace, each.search_attributes.as_mut()).await?;
    }
    Ok(ListSchedulesResponse { schedules, next_page_token: page.next_page_token })
}

fn entry(row: VisibilityRow, namespace_id: &str, now: ShardTime) -> Result<ScheduleListEntry, CallError> {
    let shown = ScheduleRow::decode(row.extra)
        .map_err(|error| CallError::Fatal(format!("a schedule in a list does not decode: {error}")))?;
    Ok(describe::list_entry(&shown, namespace_id, &row.workflow_id, now))
}

pub async fn count_schedules(
    node: Arc<Node>,
    request: CountSchedulesRequest,
    context: Context,
) -> Result<CountSchedulesResponse, Status> {
    use count_schedules_response::AggregationGroup;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    check(&node, &namespace, &request.query).await?;
    let counts = visibility::count(&node, &namespace, Entity::Schedule, &request.query, context.deadline()).await?;
    let group = |(status, count): (i32, u64)| AggregationGroup {
        group_values: vec![keyword(&values::status_name(status))],
        count: signed(count),
    };
    let groups = counts.by_status.unwrap_or_default().into_iter().map(group).collect();
    Ok(CountSchedulesResponse { count: signed(counts.total), groups })
}

/// Refuses what only runs have. A query that is wrong in itself is refused for that.
async fn check(node: &Arc<Node>, namespace: &Namespace, query: &str) -> Result<(), CallError> {
    let Some(name) = names(query).find(|name| is_of_runs(name)) else { return Ok(()) };
    match visibility::understand(node, namespace, Entity::Schedule, query).await {
        Err(error) if !is_about_order(&error) => Err(error),
        _ => {
            let message = format!("invalid query filter for schedules: cannot filter on {name:?}");
            Err(CallError::Rejected(Rejection::invalid(message)))
        }
    }
}

/// The real server looks at the names in an order clause before it refuses to order.
fn is_about_order(error: &CallError) -> bool {
    matches!(error, CallError::Rejected(rejection) if rejection.message.contains("operation is not supported"))
}

fn is_of_runs(name: &str) -> bool {
    let tables = attribute_tables::SYSTEM.iter().chain(&attribute_tables::PREDEFINED);
    name != PAUSED && tables.map(|(known, _)| *known).any(|known| known == name)
}

/// Words of a query outside of its quoted values.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let outside = query.split(['\'', '"']).step_by(2);
    outside.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_')).filter(|word| !word.is_empty())
}
