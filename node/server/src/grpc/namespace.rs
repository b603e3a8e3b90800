//! Namespaces: register, describe, list, update. They live in the meta group.

use std::sync::Arc;
use std::time::Instant;

use stanchion_engine::Rejection;
use stanchion_proto::command::meta_command::Kind;
use stanchion_proto::command::{RegisterNamespace, UpdateNamespace};
use stanchion_proto::row::NamespaceRow;
use stanchion_proto::temporal::enums::v1::{ArchivalState, NamespaceState};
use stanchion_proto::temporal::namespace::v1::namespace_info::{Capabilities, Limits as NamespaceLimits};
use stanchion_proto::temporal::namespace::v1::{BadBinaries, NamespaceConfig, NamespaceInfo, UpdateNamespaceInfo};
use stanchion_proto::temporal::replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig};
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use super::coverage::serves;
use crate::context::Context;
use crate::meta;
use crate::node::Node;
use crate::shell::CallError;
use crate::validate;

/// The one cluster's name, as the real server calls its own.
pub const CLUSTER_NAME: &str = "active";
/// The shortest retention that the real server takes.
const RETENTION_SECONDS_MIN: i64 = 3600;
const PAGE_DEFAULT: usize = 100;

pub async fn register_namespace(
    node: Arc<Node>,
    request: RegisterNamespaceRequest,
    context: Context,
) -> Result<RegisterNamespaceResponse, Status> {
    register(&node, request, context.deadline()).await?;
    Ok(RegisterNamespaceResponse {})
}

/// Makes a namespace; it is usable on every node when this returns.
pub async fn register(node: &Arc<Node>, request: RegisterNamespaceRequest, deadline: Instant) -> Result<(), CallError> {
    if request.namespace.is_empty() {
        return Err(Rejection::invalid("Namespace not set on request.").into());
    }
    validate::short(&request.namespace, &node.limits, "Namespace length exceeds limit.")?;
    let retention = request.workflow_execution_retention_period.as_ref().map_or(0, |period| period.seconds);
    if retention < RETENTION_SECONDS_MIN {
        return Err(Rejection::invalid("A valid retention period is not set on request.").into());
    }
    // Time-ordered, as the real server's ids are.
    let namespace_id = uuid::Uuid::now_v7().to_string();
    let command = RegisterNamespace { request: Some(request), namespace_id };
    meta::change(node, Kind::RegisterNamespace(command), deadline).await
}

pub async fn describe_namespace(
    node: Arc<Node>,
    request: DescribeNamespaceRequest,
    _context: Context,
) -> Result<DescribeNamespaceResponse, Status> {
    if request.namespace.is_empty() && request.id.is_empty() {
        return Err(CallError::from(Rejection::invalid("Namespace not set on request.")).into());
    }
    let row = node.meta.describe(&node, &request.namespace, &request.id).await?;
    Ok(described(&node, &row))
}

pub async fn list_namespaces(
    node: Arc<Node>,
    request: ListNamespacesRequest,
    _context: Context,
) -> Result<ListNamespacesResponse, Status> {
    node.meta.refresh(&node).await?;
    let view = node.meta.view();
    let page = usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE_DEFAULT);
    // The token is the last name of the page before.
    let after = String::from_utf8(request.next_page_token)
        .map_err(|_| CallError::from(Rejection::invalid("Invalid NextPageToken.")))?;
    let mut rest = view.namespaces().skip_while(|row| !after.is_empty() && row.name <= after).peekable();
    let rows: Vec<_> = rest.by_ref().take(page).collect();
    let next_page_token = match (rest.peek(), rows.last()) {
        (Some(_), Some(last)) => last.name.clone().into_bytes(),
        _ => Vec::new(),
    };
    Ok(ListNamespacesResponse {
        namespaces: rows.into_iter().map(|row| described(&node, row)).collect(),
        next_page_token,
    })
}

pub async fn update_namespace(
    node: Arc<Node>,
    request: UpdateNamespaceRequest,
    context: Context,
) -> Result<UpdateNamespaceResponse, Status> {
    if request.namespace.is_empty() {
        return Err(CallError::from(Rejection::invalid("Namespace not set on request.")).into());
    }
    let retention = request.config.as_ref().and_then(|config| config.workflow_execution_retention_ttl.as_ref());
    if retention.is_some_and(|retention| retention.seconds < RETENTION_SECONDS_MIN) {
        return Err(CallError::from(Rejection::invalid("A valid retention period is not set on request.")).into());
    }
    let name = request.namespace.clone();
    let command = UpdateNamespace { request: Some(request) };
    meta::change(&node, Kind::UpdateNamespace(command), context.deadline()).await?;
    let row = node.meta.describe(&node, &name, "").await?;
    let DescribeNamespaceResponse {
        namespace_info,
        config,
        replication_config,
        failover_version,
        is_global_namespace,
        ..
    } = described(&node, &row);
    Ok(UpdateNamespaceResponse { namespace_info, config, replication_config, failover_version, is_global_namespace })
}

/// Nothing new may begin in the namespace from now on; what runs goes on.
pub async fn deprecate_namespace(
    node: Arc<Node>,
    request: DeprecateNamespaceRequest,
    context: Context,
) -> Result<DeprecateNamespaceResponse, Status> {
    if request.namespace.is_empty() {
        return Err(CallError::from(Rejection::invalid("Namespace not set on request.")).into());
    }
    let update_info = UpdateNamespaceInfo { state: NamespaceState::Deprecated.into(), ..Default::default() };
    let update =
        UpdateNamespaceRequest { namespace: request.namespace, update_info: Some(update_info), ..Default::default() };
    meta::change(&node, Kind::UpdateNamespace(UpdateNamespace { request: Some(update) }), context.deadline()).await?;
    Ok(DeprecateNamespaceResponse {})
}

fn described(node: &Node, row: &NamespaceRow) -> DescribeNamespaceResponse {
    let blob_max = i64::try_from(node.limits.payload_bytes_max).unwrap_or(i64::MAX);
    let memo_max = i64::try_from(node.limits.memo_bytes_max).unwrap_or(i64::MAX);
    let info = NamespaceInfo {
        name: row.name.clone(),
        state: row.state,
        description: row.description.clone(),
        owner_email: row.owner_email.clone(),
        data: row.data.clone(),
        id: row.namespace_id.clone(),
        // True only for what works here.
        capabilities: Some(Capabilities {
            eager_workflow_start: true,
            worker_heartbeats: true,
            worker_poll_complete_on_shutdown: true,
            sync_update: serves("UpdateWorkflowExecution"),
            async_update: serves("UpdateWorkflowExecution"),
            standalone_activities: serves("StartActivityExecution"),
            standalone_activity_start_delay: serves("StartActivityExecution"),
            standalone_activity_batch_operations: serves("StartBatchOperation"),
            ..Default::default()
        }),
        limits: Some(NamespaceLimits {
            blob_size_limit_error: blob_max,
            memo_size_limit_error: memo_max,
            ..Default::default()
        }),
        supports_schedules: serves("CreateSchedule"),
    };
    const NANOS: i64 = 1_000_000_000;
    let config = NamespaceConfig {
        workflow_execution_retention_ttl: Some(prost_types::Duration {
            seconds: row.retention / NANOS,
            nanos: i32::try_from(row.retention % NANOS).unwrap_or(0),
        }),
        bad_binaries: Some(BadBinaries::default()),
        history_archival_state: ArchivalState::Disabled.into(),
        visibility_archival_state: ArchivalState::Disabled.into(),
        // Attributes are stored under their own names.
        custom_search_attribute_aliases: row
            .search_attributes
            .keys()
            .map(|name| (name.clone(), name.clone()))
            .collect(),
        ..Default::default()
    };
    DescribeNamespaceResponse {
        namespace_info: Some(info),
        config: Some(config),
        replication_config: Some(NamespaceReplicationConfig {
            active_cluster_name: CLUSTER_NAME.to_owned(),
            clusters: vec![ClusterReplicationConfig { cluster_name: CLUSTER_NAME.to_owned(), ..Default::default() }],
            state: stanchion_proto::temporal::enums::v1::ReplicationState::Normal.into(),
        }),
        ..Default::default()
    }
}
