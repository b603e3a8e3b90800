//! What was measured, for people, for tables and for programs.

use serde_json::{Value, json};

use crate::load::{Latency, Loaded};
use crate::process::Watch;

pub struct Report {
    pub workload: String,
    pub servers: String,
    pub concurrency: usize,
    pub pollers: usize,
    pub eager: bool,
    pub sticky: bool,
    /// Of the disk that started servers write to.
    pub sync_micros: Option<u64>,
    pub unloaded: Latency,
    pub loaded: Loaded,
    /// Before any client or worker came.
    pub idle_alone: Option<Watch>,
    /// With all polls open.
    pub idle_polled: Option<Watch>,
    /// Under load.
    pub rss_bytes: u64,
    pub failed_calls: u64,
}

impl Report {
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            format!(
                "{} on {}: {} runs in flight, {} + {} polls, sticky {}, eager activities {}",
                self.workload, self.servers, self.concurrency, self.pollers, self.pollers, self.sticky, self.eager
            ),
            format!(
                "  loaded    {:.0} runs/s, p50 {}, p99 {}, max {}",
                self.loaded.runs_per_second,
                millis(self.loaded.latency.p50_micros),
                millis(self.loaded.latency.p99_micros),
                millis(self.loaded.latency.max_micros)
            ),
            format!(
                "  CPU       servers {} a run, clients and workers {:.2} ms a run",
                cpu(self.loaded.cpu_micros_per_run),
                self.loaded.bench_cpu_micros_per_run / 1000.0
            ),
            format!(
                "  unloaded  p50 {}, p99 {}, max {} ({} runs)",
                millis(self.unloaded.p50_micros),
                millis(self.unloaded.p99_micros),
                millis(self.unloaded.max_micros),
                self.unloaded.runs
            ),
            format!("  idle      alone {}, with open polls {}", idle(self.idle_alone), idle(self.idle_polled)),
            format!("  memory    {} MiB under load, all servers", self.rss_bytes >> 20),
        ];
        if let Some(sync) = self.sync_micros {
            lines.push(format!("  disk      4 KiB with fdatasync: median {sync} us"));
        }
        if self.failed_calls > 0 {
            lines.push(format!("  WARNING   {} calls of workers failed", self.failed_calls));
        }
        lines.join("\n")
    }

    /// | servers | workload | runs/s | CPU a run | loaded p50, p99 | unloaded p50, p99 | idle CPU | RSS idle, loaded |
    pub fn to_row(&self) -> String {
        format!(
            "| {} | {} | {:.0} | {} | {}, {} | {}, {} | {} | {} MiB, {} MiB |",
            self.servers,
            self.workload,
            self.loaded.runs_per_second,
            cpu(self.loaded.cpu_micros_per_run),
            millis(self.loaded.latency.p50_micros),
            millis(self.loaded.latency.p99_micros),
            millis(self.unloaded.p50_micros),
            millis(self.unloaded.p99_micros),
            self.idle_polled.map_or("-".into(), |watch| format!("{:.1} %", watch.cpu_share * 100.0)),
            self.idle_alone.map_or(0, |watch| watch.rss_bytes >> 20),
            self.rss_bytes >> 20,
        )
    }

    pub fn to_json(&self) -> Value {
        json!({
            "workload": self.workload,
            "servers": self.servers,
            "concurrency": self.concurrency,
            "pollers": self.pollers,
            "eager": self.eager,
            "sticky": self.sticky,
            "sync_micros": self.sync_micros,
            "runs_per_second": self.loaded.runs_per_second,
            "loaded": latency(&self.loaded.latency),
            "unloaded": latency(&self.unloaded),
            "server_cpu_micros_per_run": self.loaded.cpu_micros_per_run,
            "bench_cpu_micros_per_run": self.loaded.bench_cpu_micros_per_run,
            "idle_alone": watch(self.idle_alone),
            "idle_polled": watch(self.idle_polled),
            "rss_bytes": self.rss_bytes,
            "failed_calls": self.failed_calls,
        })
    }
}

fn latency(latency: &Latency) -> Value {
    json!({
        "runs": latency.runs,
        "p50_micros": latency.p50_micros,
        "p99_micros": latency.p99_micros,
        "max_micros": latency.max_micros,
    })
}

fn watch(watch: Option<Watch>) -> Value {
    watch.map_or(Value::Null, |watch| json!({ "cpu_share": watch.cpu_share, "rss_bytes": watch.rss_bytes }))
}

fn millis(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

fn cpu(micros: Option<f64>) -> String {
    micros.map_or("-".into(), |micros| format!("{:.2} ms", micros / 1000.0))
}

fn idle(watch: Option<Watch>) -> String {
    watch.map_or("-".into(), |w| format!("{:.1} % CPU, {} MiB", w.cpu_share * 100.0, w.rss_bytes >> 20))
}
