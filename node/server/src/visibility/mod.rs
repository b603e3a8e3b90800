//! List and count over the whole cluster: the query is understood here, asked of the leader of every group, and the parts are merged.
//!
//! ```text
//! client -> any node: parse -> QueryVisibility to each group's leader (ReadIndex, then its rows) -> merge -> page
//! ```
//!
//! Each leader answers behind a ReadIndex, so whatever was acknowledged before the call is in the answer. A page's token is the position
//! of its last entry in the one order that lists have: it does not depend on groups, and holds for as long as the cluster does.
//!
//! Never: a page with a part missing. A group without a leader makes the call wait, and fail at its deadline.
//!
//! Called by `grpc/visibility`, `grpc` of schedules and activities, and the batch driver.

pub mod parse;
mod sql;
pub mod values;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use prost::Message;
use stanchion_engine::read::visibility::{self, GATHERED_MAX, Query, QueryFault};
use stanchion_engine::validate::search_attributes::everywhere;
use stanchion_engine::visibility::{Entity, Filter, Position};
use stanchion_engine::{GroupId, Rejection};
use stanchion_proto::node::{QueryVisibilityReply, QueryVisibilityRequest, VisibilityEntry};
use stanchion_proto::row::{AttributeRow, VisibilityRow};

use crate::grpc::search_attributes;
use crate::meta::Namespace;
use crate::node::Node;
use crate::routing::{self, GroupCall, Here};
use crate::shell::CallError;
use parse::Parsed;

/// Entries of one page, and what a page has when its caller names no size.
pub const PAGE_MAX: usize = 1000;

/// Two times and what a run id begins with.
const POSITION_BYTES_MIN: usize = 17;

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    pub rows: Vec<VisibilityRow>,
    /// Empty when there is nothing behind it for sure.
    pub next_page_token: Vec<u8>,
}

/// The things of one kind that a query selects, in the order of lists.
pub async fn list(
    node: &Arc<Node>,
    namespace: &Namespace,
    entity: Entity,
    query: &str,
    page_size: i32,
    token: &[u8],
    deadline: Instant,
) -> Result<Page, CallError> {
    let parsed = understand(node, namespace, entity, query).await?;
    list_parsed(node, namespace, entity, &parsed, page_size, token, deadline).await
}

/// As [`list`], with the query understood already.
pub async fn list_parsed(
    node: &Arc<Node>,
    namespace: &Namespace,
    entity: Entity,
    parsed: &Parsed,
    page_size: i32,
    token: &[u8],
    deadline: Instant,
) -> Result<Page, CallError> {
    if !token.is_empty() && token.len() < POSITION_BYTES_MIN {
        return Err(Rejection::invalid("Invalid NextPageToken.").into());
    }
    let limit = usize::try_from(page_size).ok().filter(|size| (1..=PAGE_MAX).contains(size)).unwrap_or(PAGE_MAX);
    let request = QueryVisibilityRequest {
        after: token.to_vec().into(),
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        ..request(namespace, entity, parsed)
    };
    let parts = ask_all(node, request, deadline).await?;
    let mut entries: Vec<VisibilityEntry> = parts.into_iter().flat_map(|part| part.entries).collect();
    entries.sort_unstable_by(|a, b| a.position.cmp(&b.position));
    entries.truncate(limit);
    // As the real server does: a full page may be followed by an empty one.
    let next_page_token = match entries.last() {
        Some(last) if entries.len() == limit => last.position.to_vec(),
        _ => Position::new(),
    };
    let decode = |entry: VisibilityEntry| {
        VisibilityRow::decode(entry.row)
            .map_err(|error| CallError::Fatal(format!("an entry of a list does not decode: {error}")))
    };
    let mut rows = entries.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    // A value whose attribute was removed stays with its run and is no longer shown.
    let is_shown = |custom: &BTreeMap<String, i32>, attribute: &AttributeRow| {
        custom.get(&attribute.name) == Some(&attribute.r#type) || everywhere(&attribute.name).is_some()
    };
    let mut custom = search_attributes::custom(node, namespace);
    if !rows.iter().flat_map(|row| &row.attributes).all(|attribute| is_shown(&custom, attribute)) {
        // It may have been added on another node a moment ago.
        node.meta.refresh(node).await?;
        custom = search_attributes::custom(node, namespace);
    }
    for row in &mut rows {
        row.attributes.retain(|attribute| is_shown(&custom, attribute));
    }
    Ok(Page { rows, next_page_token })
}

/// How many things of one kind a query selects.
pub struct Counts {
    pub total: u64,
    /// By status, in order of status; none unless the query groups by it.
    pub by_status: Option<BTreeMap<i32, u64>>,
}

/// Counts the things of one kind that a query selects.
pub async fn count(
    node: &Arc<Node>,
    namespace: &Namespace,
    entity: Entity,
    query: &str,
    deadline: Instant,
) -> Result<Counts, CallError> {
    let parsed = understand(node, namespace, entity, query).await?;
    count_parsed(node, namespace, entity, &parsed, deadline).await
}

/// As [`count`], with the query understood already.
pub async fn count_parsed(
    node: &Arc<Node>,
    namespace: &Namespace,
    entity: Entity,
    parsed: &Parsed,
    deadline: Instant,
) -> Result<Counts, CallError> {
    let request =
        QueryVisibilityRequest { count: true, by_status: parsed.by_status, ..request(namespace, entity, parsed) };
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for part in ask_all(node, request, deadline).await? {
        for (status, count) in part.counts {
            *counts.entry(status).or_default() += count;
        }
    }
    Ok(Counts { total: counts.values().sum(), by_status: parsed.by_status.then_some(counts) })
}

/// Understands a query; an attribute that is not known here may have been added elsewhere a moment ago.
pub async fn understand(
    node: &Arc<Node>,
    namespace: &Namespace,
    entity: Entity,
    query: &str,
) -> Result<Parsed, CallError> {
    match parse::parse(query, entity, &search_attributes::custom(node, namespace)) {
        Ok(parsed) => Ok(parsed),
        Err(_) => {
            node.meta.refresh(node).await?;
            Ok(parse::parse(query, entity, &search_attributes::custom(node, namespace))?)
        }
    }
}

fn request(namespace: &Namespace, entity: Entity, parsed: &Parsed) -> QueryVisibilityRequest {
    QueryVisibilityRequest {
        namespace_id: namespace.id.clone(),
        entity: entity as u32,
        divisions: parsed.divisions,
        filter: Some(parsed.filter.to_wire()),
        ..Default::default()
    }
}

async fn ask_all(
    node: &Arc<Node>,
    request: QueryVisibilityRequest,
    deadline: Instant,
) -> Result<Vec<QueryVisibilityReply>, CallError> {
    let replica = node.replica().ok_or(CallError::NotHere { leader: None })?;
    let within_ms = u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX);
    let groups = replica.slot_map().groups();
    let calls = groups.into_iter().map(|group| {
        let request = QueryVisibilityRequest { group: group.0, within_ms, ..request.clone() };
        routing::call(node, request, deadline)
    });
    try_join_all(calls).await
}

impl GroupCall for QueryVisibilityRequest {
    const METHOD: &'static str = "QueryVisibility";
    type Answer = QueryVisibilityReply;

    async fn check(&mut self, _node: &Arc<Node>) -> Result<(), CallError> {
        Ok(())
    }

    async fn group(&self, _node: &Arc<Node>) -> Result<GroupId, CallError> {
        Ok(GroupId(self.group))
    }

    async fn on_leader(self, at: Here) -> Result<QueryVisibilityReply, CallError> {
        let unknown = || CallError::from(Rejection::invalid("this node does not understand the query of a newer one"));
        let filter = self.filter.as_ref().and_then(Filter::from_wire).ok_or_else(unknown)?;
        let entity = Entity::of(self.entity).ok_or_else(unknown)?;
        let until = Instant::now() + Duration::from_millis(self.within_ms);
        let homes = visibility::homes(at.term.slot_ranges());
        // Rows of many places are read: not on a thread that serves others.
        at.term
            .read_apart(move |reader| {
                let query = Query {
                    namespace_id: &self.namespace_id,
                    entity,
                    divisions: self.divisions,
                    filter: &filter,
                    gathered_max: GATHERED_MAX,
                    keep_going: &|| Instant::now() < until,
                };
                answer(&self, reader, &homes, &query).map_err(|fault| match fault {
                    QueryFault::State(fault) => fault.into(),
                    QueryFault::OutOfTime => CallError::Deadline,
                })
            })
            .await
    }
}

fn answer<R: stanchion_engine::StateReader>(
    request: &QueryVisibilityRequest,
    reader: &R,
    homes: &[stanchion_engine::Slot],
    query: &Query<'_>,
) -> Result<QueryVisibilityReply, QueryFault> {
    if request.count {
        let counts = visibility::count(reader, homes, query, request.by_status)?;
        return Ok(QueryVisibilityReply { counts, ..Default::default() });
    }
    let limit = usize::try_from(request.limit).unwrap_or(PAGE_MAX);
    let entries = visibility::list(reader, homes, query, &request.after, limit)?;
    let entry = |entry: visibility::Entry| VisibilityEntry { position: entry.position.into(), row: entry.row };
    Ok(QueryVisibilityReply { entries: entries.into_iter().map(entry).collect(), ..Default::default() })
}
