//! What the matcher measures, by kind of task and never by queue: a cluster has as many sticky queues as workers.
//!
//! Handles are looked up once; counting is an atomic operation.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use stanchion_engine::effects::TaskKind;

pub(crate) struct Gauges {
    workflow: KindGauges,
    activity: KindGauges,
    pub query_matches: Counter,
}

pub(crate) struct KindGauges {
    /// Offers without a poller.
    pub backlog: Gauge,
    /// Waiting polls.
    pub pollers: Gauge,
    latency: Histogram,
    /// Found a poller waiting.
    sync: Counter,
    /// Waited for a poller.
    waited: Counter,
}

impl Gauges {
    pub fn register() -> Self {
        Self {
            workflow: KindGauges::register("workflow"),
            activity: KindGauges::register("activity"),
            query_matches: metrics::counter!("stanchion_dispatch_query_matches_total"),
        }
    }

    pub fn of(&self, kind: TaskKind) -> &KindGauges {
        match kind {
            TaskKind::Workflow => &self.workflow,
            TaskKind::Activity => &self.activity,
        }
    }
}

impl KindGauges {
    fn register(kind: &'static str) -> Self {
        Self {
            backlog: metrics::gauge!("stanchion_dispatch_backlog", "kind" => kind),
            pollers: metrics::gauge!("stanchion_dispatch_pollers", "kind" => kind),
            latency: metrics::histogram!("stanchion_dispatch_match_seconds", "kind" => kind),
            sync: metrics::counter!("stanchion_dispatch_matches_total", "kind" => kind, "sync" => "true"),
            waited: metrics::counter!("stanchion_dispatch_matches_total", "kind" => kind, "sync" => "false"),
        }
    }

    pub fn matched(&self, waited: Duration, sync: bool) {
        self.latency.record(waited.as_secs_f64());
        if sync { self.sync.increment(1) } else { self.waited.increment(1) }
    }
}
