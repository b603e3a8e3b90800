//! The operator service, as far as this release serves it: search attributes and the cluster's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanchion_engine::Rejection;
use stanchion_engine::validate::search_attributes::{PREDEFINED, SYSTEM, everywhere};
use stanchion_proto::command::meta_command::Kind;
use stanchion_proto::command::{AddSearchAttributes, RemoveSearchAttributes};
use stanchion_proto::temporal::enums::v1::IndexedValueType;
use stanchion_proto::temporal::operatorservice::v1::*;
use tonic::Status;

use super::namespace::CLUSTER_NAME;
use super::search_attributes;
use crate::context::Context;
use crate::meta::{self, Namespace};
use crate::node::Node;
use crate::shell::CallError;

/// Names that begin so are kept for attributes of the server.
const RESERVED_PREFIX: &str = "Temporal";

pub async fn add_search_attributes(
    node: Arc<Node>,
    request: AddSearchAttributesRequest,
    context: Context,
) -> Result<AddSearchAttributesResponse, Status> {
    if request.search_attributes.is_empty() {
        return Err(CallError::from(Rejection::invalid("SearchAttributes are not set on request.")).into());
    }
    let namespace = namespace(&node, &request.namespace).await?;
    for (name, kind) in &request.search_attributes {
        if everywhere(name).is_some() || name.starts_with(RESERVED_PREFIX) {
            let message = format!("Search attribute {name} is reserved by system.");
            return Err(CallError::from(Rejection::invalid(message)).into());
        }
        if !IndexedValueType::try_from(*kind).is_ok_and(|kind| kind != IndexedValueType::Unspecified) {
            let message = "Unable to create search attributes: cannot have more than 0 search attribute of type \
                           Unspecified.";
            return Err(CallError::from(Rejection::invalid(message)).into());
        }
    }
    let command = AddSearchAttributes { namespace_id: namespace.id, attributes: request.search_attributes };
    meta::change(&node, Kind::AddSearchAttributes(command), context.deadline()).await?;
    Ok(AddSearchAttributesResponse {})
}

pub async fn remove_search_attributes(
    node: Arc<Node>,
    request: RemoveSearchAttributesRequest,
    context: Context,
) -> Result<RemoveSearchAttributesResponse, Status> {
    if request.search_attributes.is_empty() {
        return Err(CallError::from(Rejection::invalid("SearchAttributes are not set on request.")).into());
    }
    let namespace = namespace(&node, &request.namespace).await?;
    if let Some(name) = request.search_attributes.iter().find(|name| everywhere(name).is_some()) {
        let message = format!("Unable to remove non-custom search attributes: {name}.");
        return Err(CallError::from(Rejection::invalid(message)).into());
    }
    let command = RemoveSearchAttributes { namespace_id: namespace.id, names: request.search_attributes };
    meta::change(&node, Kind::RemoveSearchAttributes(command), context.deadline()).await?;
    Ok(RemoveSearchAttributesResponse {})
}

pub async fn list_search_attributes(
    node: Arc<Node>,
    request: ListSearchAttributesRequest,
    _context: Context,
) -> Result<ListSearchAttributesResponse, Status> {
    node.meta.refresh(&node).await?;
    let namespace = namespace(&node, &request.namespace).await?;
    let system = SYSTEM.iter().chain(&PREDEFINED);
    let system_attributes: BTreeMap<String, i32> =
        system.map(|(name, kind)| ((*name).to_owned(), *kind as i32)).collect();
    Ok(ListSearchAttributesResponse {
        custom_attributes: search_attributes::custom(&node, &namespace),
        system_attributes,
        storage_schema: BTreeMap::new(),
    })
}

async fn namespace(node: &Arc<Node>, name: &str) -> Result<Namespace, CallError> {
    if name.is_empty() {
        return Err(Rejection::invalid("Namespace is not set on request.").into());
    }
    node.meta.namespace(node, name).await
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
