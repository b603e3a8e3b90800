//! The HTTP port: `/health` (the process lives, and which groups have stopped for good), `/ready` (it can serve), `/metrics` (Prometheus text).
//!
//! Called by `node`, which owns the listener.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::Node;

#[derive(Clone)]
struct Shared {
    node: Arc<Node>,
    figures: PrometheusHandle,
}

/// Serves until the token is cancelled.
pub async fn serve(
    node: Arc<Node>,
    figures: PrometheusHandle,
    listener: TcpListener,
    over: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(figures_text))
        .with_state(Shared { node, figures });
    axum::serve(listener, router).with_graceful_shutdown(async move { over.cancelled().await }).await
}

async fn health(State(shared): State<Shared>) -> String {
    let mut text = "alive\n".to_owned();
    let statuses = shared.node.replica().map(|replica| replica.status()).unwrap_or_default();
    for status in statuses {
        if let Some(why) = status.stopped {
            text.push_str(&format!("group {} has stopped on this node: {why}\n", status.group));
        }
    }
    text
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    match shared.node.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn figures_text(State(shared): State<Shared>) -> String {
    shared.node.note_gauges();
    shared.figures.run_upkeep();
    shared.figures.render()
}
