//! Figures: the Prometheus exporter behind the `metrics` facade, and what is measured of each RPC.
//!
//! Libraries call the facade and know no exporter. Names begin with `stanchion_`; units stand last. Called by `main` (once) and
//! by the gRPC services.

use std::time::Instant;

use metrics::Histogram;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tonic::{Code, Status};

use crate::shell::recovery;

/// From a tenth of a millisecond to the length of a long poll.
const SECONDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 70.0];

/// Installs the exporter and describes what is measured here.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        return Err(BuildError::FailedToCreateRuntime("a recorder is installed already".to_owned()));
    }
    metrics::describe_histogram!(
        "stanchion_rpc_seconds",
        metrics::Unit::Seconds,
        "time from a call to its answer, by method"
    );
    metrics::describe_counter!("stanchion_rpc_errors_total", "calls answered with an error, by method and code");
    metrics::describe_counter!("stanchion_rpc_forwarded_total", "calls carried to another node, by method");
    metrics::describe_gauge!("stanchion_up", "1 while the process lives");
    metrics::gauge!("stanchion_up").set(1.0);
    metrics::describe_gauge!(
        recovery::RATE,
        "of the runs whose worker or leader was lost in the middle of a workflow task, the share that went on"
    );
    recovery::show();
    Ok(handle)
}

/// What is measured of one method. A static of each service method; the handle is made at the first call.
pub struct Meter {
    request: &'static str,
    made: Mutex<Option<Histogram>>,
}

impl Meter {
    /// From the name of the method's request message, which is the method's with a suffix.
    pub const fn new(request: &'static str) -> Self {
        Self { request, made: Mutex::new(None) }
    }

    /// Runs a call and notes its time and its error, if it has one.
    pub async fn measure<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let begun = Instant::now();
        let outcome = call.await;
        self.seconds().record(begun.elapsed().as_secs_f64());
        if let Err(status) = &outcome {
            self.note_error(status.code());
            tracing::debug!(method = self.method(), code = ?status.code(), message = status.message(), "answered with an error");
        }
        outcome
    }

    fn note_error(&self, code: Code) {
        metrics::counter!("stanchion_rpc_errors_total", "method" => self.method(), "code" => format!("{code:?}"))
            .increment(1);
    }

    pub fn method(&self) -> &'static str {
        self.request.strip_suffix("Request").unwrap_or(self.request)
    }

    fn seconds(&self) -> Histogram {
        let mut made = self.made.lock();
        made.get_or_insert_with(|| metrics::histogram!("stanchion_rpc_seconds", "method" => self.method())).clone()
    }
}
