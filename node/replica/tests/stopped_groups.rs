//! A replica whose rows break a rule, or are not those of the others, stops that group on its node: loudly, for good, and no other one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod nodes;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use nodes::{Cluster, command, options, until};
use parking_lot::Mutex;
use stanchion_engine::limits::Limits;
use stanchion_engine::slot::slot_of;
use stanchion_engine::{GroupId, Reply, ShardState, Table, keys};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{Command, SignalWorkflow};
use stanchion_proto::temporal::common::v1::WorkflowExecution;
use stanchion_proto::temporal::workflowservice::v1::SignalWorkflowExecutionRequest;
use stanchion_replica::{NodeId, ProposeError, ReplicaOptions};

const GROUPS: u32 = 2;
const GROUP: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);

/// What was counted as a violation: `rule group`, once for each.
#[derive(Clone, Default)]
struct Violations(Arc<Mutex<Vec<String>>>);

struct Violation(String, Violations);

impl CounterFn for Violation {
    fn increment(&self, count: u64) {
        let mut seen = self.1.0.lock();
        (0..count).for_each(|_| seen.push(self.0.clone()));
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Violations {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() != "stanchion_invariant_violations_total" {
            return Counter::noop();
        }
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        Counter::from_arc(Arc::new(Violation(labels.join(" "), self.clone())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Of this process.
fn violations() -> &'static Violations {
    static SEEN: LazyLock<Violations> = LazyLock::new(|| {
        let seen = Violations::default();
        metrics::set_global_recorder(seen.clone()).unwrap();
        seen
    });
    &SEEN
}

fn watchful() -> ReplicaOptions {
    let mut limits = Limits::default();
    limits.set("invariants_share_permille", 1000).unwrap();
    limits.set("compare_seconds", 1).unwrap();
    ReplicaOptions { limits: Arc::new(limits), ..options() }
}

fn follower(cluster: &Cluster, leader: NodeId) -> NodeId {
    cluster.nodes.keys().copied().find(|node| *node != leader).unwrap()
}

/// The node's replica of the group has ended, and nothing else of it has.
async fn assert_stopped_alone(cluster: &Cluster, node: NodeId, violations: &Violations, rule: &str) {
    let group = cluster.group(node, GROUP);
    let why = until("the group stops", || group.stopped()).await;
    assert!(why.contains(&format!("{rule}:")), "{why}");
    let status = cluster.nodes[&node].replica.status().into_iter().find(|status| status.group == GROUP).unwrap();
    assert_eq!(status.stopped, Some(why));
    let expected = format!("{rule} {GROUP}");
    assert_eq!(violations.0.lock().iter().filter(|counted| **counted == expected).count(), 1);
    // It neither leads nor serves.
    let deadline = Instant::now() + nodes::PATIENCE;
    while !matches!(group.read_index().await, Err(ProposeError::Fatal(_))) {
        assert!(Instant::now() < deadline, "the group's core goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(group.term(), None);

    // The others go on with the group, and this node with the others.
    let (leader, _) = cluster.leader(GROUP).await;
    assert_ne!(leader, node);
    cluster.put(GROUP, "after").await;
    let other = cluster.group(node, OTHER);
    let before = other.applied_index();
    cluster.put(OTHER, "after").await;
    until("the other group's entry", || (other.applied_index() > before).then_some(())).await;
    assert_eq!(other.stopped(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_other_rows_than_the_leader_stops() {
    let violations = violations();
    let mut cluster = Cluster::start(3, GROUPS, watchful()).await;
    for i in 0..10 {
        cluster.put(GROUP, &format!("n{i}")).await;
    }
    cluster.settle().await;
    let (leader, _) = cluster.leader(GROUP).await;
    let node = follower(&cluster, leader);
    cluster.stop(node).await;
    cluster.tamper(node, GROUP, |state| {
        let slot = stanchion_engine::Slot(*state.owned_slots()[0].start());
        state.put(slot, Table::Dedup, b"nobody wrote this", bytes::Bytes::new());
    });
    // If it came to lead, the others would be the ones that differ and stop: it never stands for election.
    cluster.options.timings.election_min_ms = 600_000;
    cluster.options.timings.election_max_ms = 900_000;
    cluster.run(node).await;
    for i in 0.. {
        if cluster.group(node, GROUP).stopped().is_some() {
            break;
        }
        // Nothing is compared while nothing happens.
        cluster.put(GROUP, &format!("m{i}")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(i < 2400, "nobody noticed");
    }
    assert_stopped_alone(&cluster, node, violations, "B2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_breaks_a_rule_stops_the_group_where_it_is() {
    let violations = violations();
    let mut cluster = Cluster::start(3, GROUPS, watchful()).await;
    let start = command(GROUP, GROUPS, "run");
    let Some(Kind::StartWorkflow(request)) = &start.kind else { unreachable!() };
    let workflow_id = request.request.as_ref().unwrap().workflow_id.clone();
    let (Reply::Started { run_id, .. }, _) = cluster.propose(GROUP, start).await else { panic!("it was not started") };
    cluster.settle().await;
    let (leader, _) = cluster.leader(GROUP).await;
    let node = follower(&cluster, leader);
    cluster.stop(node).await;
    cluster.tamper(node, GROUP, |state| {
        state.delete(slot_of("ns-id", &workflow_id), Table::Current, &keys::current("ns-id", &workflow_id));
    });
    cluster.run(node).await;
    assert_eq!(cluster.group(node, GROUP).stopped(), None);
    let signal = SignalWorkflowExecutionRequest {
        workflow_execution: Some(WorkflowExecution { workflow_id, run_id }),
        signal_name: "s".into(),
        request_id: "r".into(),
        ..Default::default()
    };
    let signal = Command {
        namespace_id: "ns-id".into(),
        namespace: "ns".into(),
        kind: Some(Kind::SignalWorkflow(SignalWorkflow { request: Some(signal), ..Default::default() })),
        ..Command::default()
    };
    assert!(matches!(cluster.propose(GROUP, signal).await, (Reply::Signaled { .. }, _)));
    assert_stopped_alone(&cluster, node, violations, "A3").await;
}
