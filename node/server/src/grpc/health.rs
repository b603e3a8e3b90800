//! The standard health service, with the answers of the real server: its services serve, others are unknown.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::node::Node;

const SERVICES: [&str; 3] =
    ["", "temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"];

pub struct HealthService {
    node: Arc<Node>,
}

impl HealthService {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn answer(&self, service: &str) -> Result<HealthCheckResponse, Status> {
        if !SERVICES.contains(&service) {
            return Err(Status::not_found("unknown service"));
        }
        let serves = self.node.readiness().is_ok() && !self.node.neighbours.liveness.is_draining();
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(HealthCheckResponse { status: status.into() })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.answer(&request.into_inner().service).map(Response::new)
    }

    async fn watch(&self, _request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("Watch is not served; ask with Check"))
    }
}
