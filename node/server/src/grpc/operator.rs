//! The operator service, as far as this release serves it: search attributes and the cluster's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanchion_engine::Rejection;
use stanchion_proto::command::AddSearchAttributes;
use stanchion_proto::command::meta_command::Kind;
use stanchion_proto::temporal::operatorservice::v1::*;
use tonic::Status;

use super::namespace::CLUSTER_NAME;
use super::search_attributes;
use crate::context::Context;
use crate::meta;
use crate::node::Node;
use crate::shell::CallError;

pub async fn add_search_attributes(
    node: Arc<Node>,
    request: AddSearchAttributesRequest,
    context: Context,
) -> Result<AddSearchAttributesResponse, Status> {
    if request.search_attributes.is_empty() {
        return Err(CallError::from(Rejection::invalid("SearchAttributes are not set on request.")).into());
    }
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    for name in request.search_attributes.keys() {
        let all = search_attributes::SYSTEM.iter().chain(&search_attributes::PREDEFINED);
        if all.into_iter().any(|(system, _)| system == name) {
            let message = format!("Search attribute {name} is reserved by system.");
            return Err(CallError::from(Rejection::invalid(message)).into());
        }
    }
    let command = AddSearchAttributes { namespace_id: namespace.id, attributes: request.search_attributes };
    meta::change(&node, Kind::AddSearchAttributes(command), context.deadline()).await?;
    Ok(AddSearchAttributesResponse {})
}

pub async fn list_search_attributes(
    node: Arc<Node>,
    request: ListSearchAttributesRequest,
    _context: Context,
) -> Result<ListSearchAttributesResponse, Status> {
    node.meta.refresh(&node).await?;
    let namespace = node.meta.namespace(&node, &request.namespace).await?;
    let system = search_attributes::SYSTEM.iter().chain(&search_attributes::PREDEFINED);
    let system_attributes: BTreeMap<String, i32> =
        system.map(|(name, kind)| ((*name).to_owned(), *kind as i32)).collect();
    Ok(ListSearchAttributesResponse {
        custom_attributes: search_attributes::custom(&node, &namespace),
        system_attributes,
        storage_schema: BTreeMap::new(),
    })
}

pub async fn list_clusters(
    node: Arc<Node>,
    _request: ListClustersRequest,
    _context: Context,
) -> Result<ListClustersResponse, Status> {
    let own = ClusterMetadata {
        cluster_name: CLUSTER_NAME.to_owned(),
        cluster_id: node.store.identity().cluster_id.unwrap_or_default(),
        address: node.addresses.grpc.to_string(),
        initial_failover_version: 1,
        history_shard_count: i32::from(stanchion_engine::slot::SLOTS),
        is_connection_enabled: true,
        ..Default::default()
    };
    Ok(ListClustersResponse { clusters: vec![own], next_page_token: Vec::new() })
}
