//! Three nodes on loopback: what a majority holds survives, and every replica ends with the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod nodes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use nodes::{Cluster, Recorder, command, command_of_size, options, until};
use stanchion_engine::limits::Limits;
use stanchion_engine::{GroupId, Reply};
use stanchion_replica::{ProposeError, ReplicaOptions};

const GROUPS: u32 = 3;

/// Keeps next to nothing of the log, so that whoever was away needs a snapshot.
fn forgetful() -> ReplicaOptions {
    let mut options = options();
    let mut limits = Limits::default();
    limits.set("log_keep_bytes", 1).unwrap();
    limits.set("log_keep_seconds", 0).unwrap();
    options.limits = Arc::new(limits);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_replica_ends_with_the_same_bytes_and_leaders_begin_spread() {
    let cluster = Cluster::start(3, GROUPS, options()).await;
    let mut leaders = BTreeSet::new();
    for group in (0..=GROUPS).map(GroupId) {
        leaders.insert(cluster.leader(group).await.0);
    }
    assert_eq!(leaders.len(), 3, "each node leads some group");

    let group = GroupId(1);
    let (leader, term) = cluster.leader(group).await;
    let handle = cluster.group(leader, group);
    let sink = Arc::new(Recorder::default());
    handle.set_effect_sink(Some(sink.clone()));
    let many: Vec<_> =
        (0..300).map(|i| handle.propose(term, command(group, GROUPS, &format!("n{i}"))).boxed()).collect();
    for reply in futures::future::join_all(many).await {
        assert!(matches!(reply.unwrap(), Reply::Started { started: true, .. }));
    }
    assert!(sink.0.lock().is_sorted());
    for i in 0..20 {
        cluster.put(GroupId(i % (GROUPS + 1)), &format!("m{i}")).await;
    }
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader_and_reads_only_through_it() {
    let cluster = Cluster::start(3, 1, options()).await;
    let group = GroupId(1);
    let (leader, term) = cluster.leader(group).await;
    let follower = cluster.nodes.keys().copied().find(|node| *node != leader).unwrap();
    let handle = cluster.group(follower, group);
    until("the follower knows the leader", || (handle.leader() == Some(leader)).then_some(())).await;
    let named = Err(ProposeError::NotLeader { leader: Some(leader) });
    assert_eq!(handle.propose(term, command(group, 1, "x")).await, named);
    assert_eq!(handle.read_index().await, Err(ProposeError::NotLeader { leader: Some(leader) }));
    let reads = (0..50).map(|_| cluster.group(leader, group)).map(|g| async move { g.read_index().await });
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_after_the_loss_of_a_leader_and_it_catches_up_by_log() {
    let mut cluster = Cluster::start(3, GROUPS, options()).await;
    for round in 0..3 {
        let group = GroupId(1);
        for i in 0..20 {
            cluster.put(GroupId(i % (GROUPS + 1)), &format!("r{round}-{i}")).await;
        }
        let (leader, _) = cluster.leader(group).await;
        cluster.kill(leader).await;
        let killed = Instant::now();
        cluster.put(group, &format!("after-{round}")).await;
        let gap = killed.elapsed();
        assert!(gap < Duration::from_secs(5), "no write for {gap:?}");
        for i in 0..20 {
            cluster.put(GroupId(i % (GROUPS + 1)), &format!("s{round}-{i}")).await;
        }
        cluster.run(leader).await;
        cluster.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_three_are_killed() {
    let mut cluster = Cluster::start(3, GROUPS, options()).await;
    for round in 0..2 {
        let mut runs = Vec::new();
        for i in 0..40 {
            runs.push(cluster.put(GroupId(i % (GROUPS + 1)), &format!("r{round}-{i}")).await);
        }
        for node in 1..=3 {
            cluster.kill(node).await;
        }
        for node in 1..=3 {
            cluster.run(node).await;
        }
        cluster.assert_equal().await;
        for (i, run) in (0u32..).zip(runs) {
            let group = GroupId(i % (GROUPS + 1));
            // The same request again is answered with what it made before: that is still there.
            match cluster.propose(group, command(group, GROUPS, &format!("r{round}-{i}"))).await.0 {
                Reply::Started { run_id, .. } => assert_eq!(Some(run_id), run),
                Reply::Rejected(rejection) => assert!(group == GroupId::META, "{rejection}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_too_long_is_filled_by_snapshot() {
    fill_by_snapshot().await;
}

/// Neither end of a transfer has a thread of its own then.
#[tokio::test(flavor = "current_thread")]
async fn a_snapshot_passes_between_nodes_that_have_one_thread_together() {
    fill_by_snapshot().await;
}

async fn fill_by_snapshot() {
    let mut cluster = Cluster::start(3, 2, forgetful()).await;
    let group = GroupId(1);
    for i in 0..10 {
        cluster.put(group, &format!("before-{i}")).await;
    }
    let (leader, _) = cluster.leader(group).await;
    let away = cluster.nodes.keys().copied().find(|node| *node != leader).unwrap();
    cluster.settle().await;
    let reached = cluster.group(away, group).status().last_log_index;
    cluster.kill(away).await;
    for i in 0..60 {
        let (reply, _) = cluster.propose(group, command_of_size(group, 2, &format!("large-{i}"), 100_000)).await;
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
        cluster.put(GroupId::META, &format!("meta-{i}")).await;
    }
    until("the log of the survivors is purged", || {
        let (mut logs, beyond) = (cluster.nodes.values(), reached + 30);
        logs.all(|node| node.replica.group(group).unwrap().status().purged_index > beyond).then_some(())
    })
    .await;
    cluster.run(away).await;
    cluster.assert_equal().await;
    let first = cluster.nodes[&away].store.log(group).first_index();
    assert!(first > reached, "its log begins at {first}, behind the snapshot, and not at what it had ({reached})");

    // What came by snapshot survives a crash, and the node takes part again.
    cluster.kill(away).await;
    cluster.run(away).await;
    let other = cluster.nodes.keys().copied().find(|node| *node != away).unwrap();
    cluster.kill(other).await;
    cluster.put(group, "with-the-returned-one").await;
    cluster.run(other).await;
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_before_a_stop_and_spread_again_after_it() {
    let mut options = options();
    options.timings.spread_after = Duration::from_millis(500);
    let mut cluster = Cluster::start(3, 5, options).await;
    cluster.settle().await;
    let node = 2;
    let led = cluster.nodes[&node].replica.leads();
    assert!(!led.is_empty());
    let started = Instant::now();
    assert_eq!(cluster.nodes[&node].replica.transfer_all().await, led.len(), "every group moved");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(cluster.nodes[&node].replica.leads().is_empty());
    for group in &led {
        cluster.put(*group, "after-transfer").await;
    }
    cluster.stop(node).await;
    for group in led {
        cluster.put(group, "after-stop").await;
    }
    cluster.run(node).await;
    until("each node leads its share again", || {
        cluster.nodes.values().all(|node| node.replica.leads().len() == 2).then_some(())
    })
    .await;
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_about_to_stop_gets_no_leadership_back() {
    // Where leaders are is looked at every second.
    const LOOKED_AT: Duration = Duration::from_secs(4);
    let mut options = options();
    options.timings.spread_after = Duration::from_millis(100);
    let cluster = Cluster::start(3, 5, options).await;
    until("each node leads its share", || {
        cluster.nodes.values().all(|node| node.replica.leads().len() == 2).then_some(())
    })
    .await;
    let (stopping, others): (Vec<_>, Vec<_>) = cluster.nodes.values().partition(|node| node.id == 1);
    for other in &others {
        other.transport.peers().set_draining(1, true);
    }
    assert_eq!(stopping[0].replica.transfer_all().await, 2, "both groups moved");
    let back = tokio::time::timeout(LOOKED_AT, async {
        while stopping[0].replica.leads().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(back.await.is_err(), "it leads {:?} again", stopping[0].replica.leads());
    for other in &others {
        assert_eq!(other.replica.leads().len(), 3, "a lost node's groups go to different ones");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_the_outcome_is_called_unknown() {
    let mut cluster = Cluster::start(3, 1, options()).await;
    let group = GroupId(1);
    cluster.put(group, "before").await;
    cluster.settle().await;
    let (leader, term) = cluster.leader(group).await;
    let others: Vec<u64> = cluster.nodes.keys().copied().filter(|node| *node != leader).collect();
    let handle = cluster.group(leader, group);
    let before = handle.status().last_log_index;
    for other in &others {
        cluster.kill(*other).await;
    }
    let hanging = tokio::spawn({
        let handle = handle.clone();
        async move { handle.propose(term, command(group, 1, "in-doubt")).await }
    });
    // In the log and hanging; or refused already, if ending the others took longer than the lease.
    let begun = || (handle.status().last_log_index > before || hanging.is_finished()).then_some(());
    until("the command is in the leader's log, or refused", begun).await;
    // The lease is a matter of time alone: once it has run out, the leader refuses what comes, and says that it is not applied.
    tokio::time::sleep(Duration::from_millis(2 * options().timings.election_max_ms)).await;
    let refused = async {
        match handle.propose(term, command(group, 1, "late")).await {
            Err(ProposeError::NotLeader { .. }) => {}
            Ok(reply) => panic!("acknowledged without a majority: {reply:?}"),
            Err(other) => panic!("{other}"),
        }
    };
    tokio::time::timeout(nodes::PATIENCE, refused).await.unwrap();
    assert!(handle.read_index().await.is_err(), "no read without a majority either");
    for other in others {
        cluster.run(other).await;
    }
    match hanging.await.unwrap() {
        Ok(_) | Err(ProposeError::Unknown(_)) => {}
        // It may have been queued when the lease was already gone.
        Err(ProposeError::NotLeader { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    cluster.put(group, "after").await;
    cluster.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_not_let_in_under_its_old_id() {
    let mut cluster = Cluster::start(3, 1, options()).await;
    let group = GroupId(1);
    cluster.put(group, "before").await;
    cluster.settle().await;
    let (leader, _) = cluster.leader(group).await;
    let wiped = cluster.nodes.keys().copied().find(|node| *node != leader).unwrap();
    cluster.kill(wiped).await;
    cluster.wipe(wiped);
    cluster.run(wiped).await;
    let members = cluster.members.clone();
    cluster.nodes[&wiped].replica.adopt_cluster("test-cluster", &members, 1).await.unwrap();

    // Long enough for many attempts: it must lead nothing, vote for nobody, hold nothing.
    for i in 0..40 {
        cluster.put(group, &format!("after-{i}")).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let node = &cluster.nodes[&wiped];
    assert!(node.replica.leads().is_empty());
    assert_eq!(node.replica.group(group).unwrap().applied_index(), 0, "it got none of the others' entries");
    let refused =
        cluster.nodes[&leader].transport.peers().admit(node.transport.peers().identify(leader, ()).metadata());
    assert!(refused.unwrap_err().message().contains("must join under a new id"));
}
