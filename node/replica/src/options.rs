//! How a node's replicas are run: timings, bounds, and what happens when the node must stop.
//!
//! openraft elects a new leader after the lease (the larger election time-out) and a draw between the two time-outs, counted from the
//! last heartbeat. A wider range would only make the wait longer (docs/decisions/05-election-timings.md).
//!
//! Called by the server's configuration and by tests.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};
use stanchion_engine::limits::Limits;
use stanchion_proto::command::Bounds;

use crate::effects::FatalHook;
use crate::error::ReplicaError;

/// Timings of a group. Milliseconds where the name says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    /// Between two checkpoints of the state, if anything was applied.
    pub checkpoint: Duration,
    /// A checkpoint is made earlier when this much was applied.
    pub checkpoint_bytes: u64,
    /// How long the cluster must have been quiet before leaders are spread.
    pub spread_after: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            election_min_ms: 400,
            election_max_ms: 550,
            checkpoint: Duration::from_secs(5),
            checkpoint_bytes: 32 * 1024 * 1024,
            spread_after: Duration::from_secs(5),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct ReplicaOptions {
    pub timings: Timings,
    pub limits: Arc<Limits>,
    /// Must end the process; the default says why in the log and aborts.
    pub fatal: FatalHook,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self { timings: Timings::default(), limits: Arc::new(Limits::default()), fatal: Arc::new(abort) }
    }
}

fn abort(reason: &str) {
    tracing::error!(reason, "this node cannot go on and stops now");
    eprintln!("stanchion: this node cannot go on and stops now: {reason}");
    std::process::abort();
}

impl ReplicaOptions {
    pub(crate) fn raft_config(&self) -> Result<Arc<Config>, ReplicaError> {
        let Timings { heartbeat_ms, election_min_ms, election_max_ms, .. } = self.timings;
        let config = Config {
            cluster_name: "stanchion".into(),
            heartbeat_interval: heartbeat_ms,
            election_timeout_min: election_min_ms,
            election_timeout_max: election_max_ms,
            // A node that was cut off must not depose a good leader when it comes back.
            enable_pre_vote: Some(true),
            // A leader cut off from its quorum lets itself be replaced, even if it still hears some of its followers.
            quorum_loss_probe_interval: Some(2 * (election_max_ms + election_max_ms)),
            // Applied rows are not synced: a leader restored without an election could serve an older state.
            enable_leader_restore: Some(false),
            // Snapshots are node-level checkpoints, and purging is by bytes and time: both are the keeper's.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            purge_batch_size: 1,
            replication_lag_threshold: 50,
            max_payload_entries: 1024,
            max_append_entries: Some(1024),
            // Back-pressure is by bytes, in the proposer; these only have to be larger than what it lets through.
            api_channel_size: Some(1024),
            notification_channel_size: Some(8192),
            state_machine_channel_size: Some(1024),
            install_snapshot_timeout: 600_000,
            removed_leader_step_down: StepDownPolicy::After(1000),
            // A log that got shorter is a node that lost its disk: it joins under a new id.
            allow_log_reversion: None,
            backoff: "20ms 50ms 100ms 200ms ..500ms".into(),
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(|e| ReplicaError::Config(e.to_string()))
    }

    /// The bounds that commands carry: those that differ from the defaults every node knows.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let (ours, usual) = (&*self.limits, Limits::default());
        let differing = |ours: u64, usual: u64| if ours == usual { 0 } else { ours };
        let small = |ours: u64, usual: u64| u32::try_from(differing(ours, usual)).unwrap_or(u32::MAX);
        let bounds = Bounds {
            history_events_max: differing(ours.history_events_max, usual.history_events_max),
            history_bytes_max: differing(ours.history_bytes_max, usual.history_bytes_max),
            suggest_continue_as_new_events: differing(
                ours.suggest_continue_as_new_events,
                usual.suggest_continue_as_new_events,
            ),
            suggest_continue_as_new_bytes: differing(
                ours.suggest_continue_as_new_bytes,
                usual.suggest_continue_as_new_bytes,
            ),
            pending_activities_max: small(ours.pending_activities_max, usual.pending_activities_max),
            pending_signals_max: small(ours.pending_signals_max, usual.pending_signals_max),
            pending_children_max: small(ours.pending_children_max, usual.pending_children_max),
            pending_cancels_max: small(ours.pending_cancels_max, usual.pending_cancels_max),
            payload_bytes_max: differing(ours.payload_bytes_max, usual.payload_bytes_max),
            memo_bytes_max: differing(ours.memo_bytes_max, usual.memo_bytes_max),
            updates_in_flight_max: small(ours.updates_in_flight_max, usual.updates_in_flight_max),
            updates_total_max: small(ours.updates_total_max, usual.updates_total_max),
            updates_in_flight_bytes_max: differing(ours.updates_in_flight_bytes_max, usual.updates_in_flight_bytes_max),
        };
        (bounds != Bounds::default()).then_some(bounds)
    }
}
