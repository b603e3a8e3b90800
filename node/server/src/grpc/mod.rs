//! The gRPC frontend: Temporal's services on the client address, a file per service area.
//!
//! Any node takes any call. A handler checks the request and hands it to whoever can answer: `routing` for calls on a run, `polls` for
//! task queues, `meta` for namespaces. Rules of durable execution are not here.
//!
//! Called by `node`.

mod activity_control;
mod activity_task;
mod batch;
mod cluster;
mod coverage;
mod deadline;
mod delete;
mod health;
mod history;
mod multi_operation;
pub mod namespace;
mod operator;
mod oversize;
pub mod query;
mod reset;
mod schedule;
mod schedules;
pub mod search_attributes;
mod services;
mod standalone_activity;
pub mod task_queue;
mod tokens;
mod update;
mod visibility;
pub mod workflow;
mod workflow_task;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use stanchion_proto::FILE_DESCRIPTOR_SET;
use stanchion_proto::temporal::operatorservice::v1::operator_service_server::OperatorServiceServer;
use stanchion_proto::temporal::workflowservice::v1::workflow_service_server::WorkflowServiceServer;
use stanchion_replica::{Listener, incoming};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic_health::pb::health_server::HealthServer;

use crate::context::Context;
use crate::node::Node;
use crate::routing::{self, GroupCall};
use health::HealthService;
use services::Frontend;

const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// A client that vanished without a word is noticed after these, and its polls go.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// A call that is answered by the leader of one group.
async fn routed<R: GroupCall>(node: Arc<Node>, mut request: R, context: Context) -> Result<R::Answer, Status> {
    request.check(&node).await?;
    Ok(routing::call(&node, request, context.deadline()).await?)
}

/// As [`routed`], for calls that may wait for something to happen and answer before their caller gives up.
async fn waiting<R: GroupCall>(node: Arc<Node>, mut request: R, context: Context) -> Result<R::Answer, Status> {
    request.check(&node).await?;
    let deadline = context.poll_deadline(&node.limits);
    Ok(routing::call(&node, request, deadline).await?)
}

/// Serves clients until the token is cancelled; then ends calls in flight.
pub async fn serve(node: Arc<Node>, listener: Box<dyn Listener>, over: CancellationToken) -> anyhow::Result<()> {
    let request_bytes_max = usize::try_from(node.limits.request_bytes_max)?;
    let frontend = Frontend { node: node.clone() };
    let workflows = WorkflowServiceServer::new(frontend.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(request_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let operators = OperatorServiceServer::new(frontend)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(request_bytes_max);
    // The command-line tool compresses these calls too.
    let health = HealthServer::new(HealthService::new(node)).accept_compressed(CompressionEncoding::Gzip);
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
    Server::builder()
        .layer(deadline::Deadlines)
        .layer(tower::util::MapResponseLayer::new(oversize::reword::<tonic::body::Body>))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
        .add_service(workflows)
        .add_service(operators)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(incoming(listener), over.cancelled_owned())
        .await
        .context("the gRPC server ended")
}
