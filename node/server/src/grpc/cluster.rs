//! What the server is: its version, what it can do, which clients it knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanchion_proto::temporal::workflowservice::v1::get_system_info_response::Capabilities;
use stanchion_proto::temporal::workflowservice::v1::*;
use tonic::Status;

use super::coverage::serves;
use super::namespace::CLUSTER_NAME;
use crate::context::Context;
use crate::node::Node;

/// The release of Temporal's server whose API this one speaks: some SDKs and tools decide by it.
const SERVER_VERSION: &str = "1.32.0";

/// Ranges of client versions, as the real server states them.
const CLIENTS: [(&str, &str); 8] = [
    ("Nexus-go-sdk", "<2.0.0"),
    ("temporal-cli", "<2.0.0"),
    ("temporal-go", "<2.0.0"),
    ("temporal-java", "<2.0.0"),
    ("temporal-php", "<3.0.0"),
    ("temporal-server", "<2.0.0"),
    ("temporal-typescript", "<2.0.0"),
    ("temporal-ui", "<3.0.0"),
];

pub async fn get_system_info(
    _node: Arc<Node>,
    _request: GetSystemInfoRequest,
    _context: Context,
) -> Result<GetSystemInfoResponse, Status> {
    Ok(GetSystemInfoResponse {
        server_version: SERVER_VERSION.to_owned(),
        // True only for what works here.
        capabilities: Some(Capabilities {
            signal_and_query_header: true,
            internal_error_differentiation: true,
            activity_failure_include_heartbeat: true,
            encoded_failure_attributes: true,
            // Workers then say which build they are, and events record it. The rules over build ids are not served.
            build_id_based_versioning: true,
            upsert_memo: true,
            eager_workflow_start: true,
            sdk_metadata: true,
            supports_schedules: serves("CreateSchedule"),
            count_group_by_execution_status: serves("CountWorkflowExecutions"),
            ..Default::default()
        }),
    })
}

pub async fn get_cluster_info(
    node: Arc<Node>,
    _request: GetClusterInfoRequest,
    _context: Context,
) -> Result<GetClusterInfoResponse, Status> {
    let supported_clients: BTreeMap<String, String> =
        CLIENTS.iter().map(|(name, range)| ((*name).to_owned(), (*range).to_owned())).collect();
    Ok(GetClusterInfoResponse {
        supported_clients,
        server_version: SERVER_VERSION.to_owned(),
        cluster_id: node.store.identity().cluster_id.unwrap_or_default(),
        version_info: None,
        cluster_name: CLUSTER_NAME.to_owned(),
        history_shard_count: i32::from(stanchion_engine::slot::SLOTS),
        persistence_store: "stanchion".to_owned(),
        visibility_store: "stanchion".to_owned(),
        initial_failover_version: 1,
        failover_version_increment: 10,
    })
}
