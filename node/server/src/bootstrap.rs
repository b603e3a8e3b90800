//! What a new cluster begins with: its groups, its record in the meta group, its first namespaces.
//!
//! Every step may be done twice: a node that ended in the middle goes on where it was.
//!
//! Called by `main` for `stanchion dev` and by `admin` for `stanchion cluster init`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use stanchion_engine::GroupId;
use stanchion_engine::reply::Code;
use stanchion_proto::command::meta_command::Kind;
use stanchion_proto::command::{AddSearchAttributes, CreateCluster, PutNode, PutSlotMap, SlotRange};
use stanchion_proto::temporal::workflowservice::v1::RegisterNamespaceRequest;
use stanchion_replica::SlotMap;

use crate::config::{DEV_NAMESPACES, DevSetup};
use crate::grpc::namespace::register;
use crate::meta;
use crate::node::Node;
use crate::shell::CallError;

/// A node is ready when this one answers.
pub const FIRST_NAMESPACE: &str = DEV_NAMESPACES[0];
const WITHIN: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_secs(24 * 3600);
const SYSTEM_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// `stanchion dev`: creates what is not there yet.
pub async fn dev(node: &Arc<Node>, setup: &DevSetup) -> anyhow::Result<()> {
    let replica = node.replica().ok_or_else(|| anyhow!("the node has not started"))?.clone();
    let identity = node.store.identity();
    let cluster_id = identity.cluster_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    // Folders of before the count was written down got through their first start, or they would not be here.
    if identity.groups.is_some() || replica.groups().is_empty() {
        let groups = identity.groups.unwrap_or(setup.groups);
        replica.bootstrap_single(&cluster_id, &node.addresses.peer.to_string(), groups).await?;
        node.follow_groups();
        record(node, cluster_id, vec![own_record(node)], groups).await?;
    }
    system_namespace(node).await?;
    for name in &setup.namespaces {
        namespace(node, name).await?;
        if !setup.search_attributes.is_empty() {
            let found = node.meta.describe(node, name, "").await?;
            let attributes: BTreeMap<String, i32> =
                setup.search_attributes.iter().map(|(name, kind)| (name.clone(), *kind as i32)).collect();
            let add = AddSearchAttributes { namespace_id: found.namespace_id.clone(), attributes };
            meta::change(node, Kind::AddSearchAttributes(add), Instant::now() + WITHIN).await?;
        }
    }
    Ok(())
}

/// A cluster's record, and the namespaces that it starts with.
pub async fn cluster(node: &Arc<Node>, cluster_id: String, nodes: Vec<PutNode>, groups: u32) -> anyhow::Result<()> {
    record(node, cluster_id, nodes, groups).await?;
    system_namespace(node).await?;
    for name in DEV_NAMESPACES {
        namespace(node, name).await?;
    }
    Ok(())
}

async fn record(node: &Arc<Node>, cluster_id: String, nodes: Vec<PutNode>, groups: u32) -> anyhow::Result<()> {
    let map = SlotMap::even(groups);
    let ranges = (1..=groups).flat_map(|group| {
        map.slots_of(GroupId(group)).into_iter().map(move |slots| SlotRange {
            first: u32::from(*slots.start()),
            last: u32::from(*slots.end()),
            group,
        })
    });
    let slot_map = Some(PutSlotMap { epoch: 1, ranges: ranges.collect() });
    let create = CreateCluster { cluster_id, nodes, slot_map };
    meta::change(node, Kind::CreateCluster(create), Instant::now() + WITHIN).await?;
    Ok(())
}

async fn namespace(node: &Arc<Node>, name: &str) -> anyhow::Result<()> {
    let request = RegisterNamespaceRequest {
        namespace: name.to_owned(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: i64::try_from(RETENTION.as_secs())?,
            nanos: 0,
        }),
        ..Default::default()
    };
    register_once(node, request).await
}

/// The namespace that every Temporal server has. Nothing of ours lives in it; tools that list namespaces expect it.
async fn system_namespace(node: &Arc<Node>) -> anyhow::Result<()> {
    let request = RegisterNamespaceRequest {
        namespace: "temporal-system".to_owned(),
        description: "Temporal internal system namespace".to_owned(),
        owner_email: "temporal-core@temporal.io".to_owned(),
        workflow_execution_retention_period: Some(prost_types::Duration {
            seconds: i64::try_from(SYSTEM_RETENTION.as_secs())?,
            nanos: 0,
        }),
        ..Default::default()
    };
    register_once(node, request).await
}

async fn register_once(node: &Arc<Node>, request: RegisterNamespaceRequest) -> anyhow::Result<()> {
    let name = request.namespace.clone();
    let deadline = Instant::now() + WITHIN;
    let outcome = loop {
        match register(node, request.clone(), deadline).await {
            // Done twice it is refused, which is as good.
            Err(CallError::Unknown(_)) if Instant::now() < deadline => {}
            outcome => break outcome,
        }
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(CallError::Rejected(rejection)) if rejection.code == Code::AlreadyExists => Ok(()),
        Err(CallError::Status(status)) if status.code() == tonic::Code::AlreadyExists => Ok(()),
        Err(error) => Err(anyhow!("namespace `{name}` could not be made: {error}")),
    }
}

/// This node as the meta group records it.
pub fn own_record(node: &Node) -> PutNode {
    PutNode {
        node_id: node.id(),
        peer_address: node.addresses.peer.to_string(),
        grpc_address: node.addresses.grpc.to_string(),
        http_address: node.addresses.http.to_string(),
        incarnation: node.store.identity().incarnation,
    }
}
