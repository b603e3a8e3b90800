//! One node, one voter: the same machinery as three.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod nodes;

use std::sync::Arc;

use futures::FutureExt;
use nodes::{Cluster, Recorder, command, options};
use stanchion_engine::{GroupId, StateReader};
use stanchion_replica::{ProposeError, TermId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_is_applied_and_its_effects_come_before_its_reply() {
    let cluster = Cluster::start(1, 2, options()).await;
    let group = GroupId(1);
    let (node, term) = cluster.leader(group).await;
    let handle = cluster.group(node, group);
    let sink = Arc::new(Recorder::default());
    handle.set_effect_sink(Some(sink.clone()));

    let before = handle.applied_index();
    handle.propose(term, command(group, 2, "a")).await.unwrap();
    assert_eq!(*sink.0.lock(), [(term, before + 1)]);
    handle.read_index().await.unwrap();
    assert!(handle.reader().clock().0 > 0, "the command's time has become the group's");

    let many = (0..500).map(|i| handle.propose(term, command(group, 2, &format!("n{i}"))).boxed());
    for reply in futures::future::join_all(many).await {
        reply.unwrap();
    }
    let entries = sink.0.lock().clone();
    assert!(entries.is_sorted(), "in log order");
    assert!(entries.len() < 400, "500 commands at once share entries, but came in {}", entries.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_of_another_term_is_certainly_not_applied() {
    let cluster = Cluster::start(1, 1, options()).await;
    let (node, term) = cluster.leader(GroupId(1)).await;
    let handle = cluster.group(node, GroupId(1));
    let before = handle.applied_index();
    let refused = handle.propose(TermId(term.0 + 1), command(GroupId(1), 1, "a")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    handle.propose(term, command(GroupId(1), 1, "b")).await.unwrap();
    assert_eq!(handle.applied_index(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_comes_back_with_all_that_it_acknowledged() {
    let mut cluster = Cluster::start(1, 2, options()).await;
    for round in 0..3 {
        for i in 0..50 {
            cluster.put(GroupId(i % 3), &format!("r{round}-{i}")).await;
        }
        let applied: Vec<u64> = (0..3).map(|g| cluster.group(1, GroupId(g)).applied_index()).collect();
        let clocks: Vec<_> = (0..3).map(|g| cluster.group(1, GroupId(g)).reader().clock()).collect();
        cluster.kill(1).await;
        cluster.run(1).await;
        for g in 0..3u32 {
            let (node, _) = cluster.leader(GroupId(g)).await;
            let handle = cluster.group(node, GroupId(g));
            assert!(handle.applied_index() > applied[g as usize], "all of it, and the new term's first entry");
            assert!(handle.reader().clock() >= clocks[g as usize], "the clock never goes back");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_cut_short_is_gone_on_with() {
    let mut cluster = Cluster::prepare(1, 4, options());
    cluster.run(1).await;
    // It got as far as writing down what is to be.
    cluster.nodes[&1].store.begin_cluster("test-cluster", 1, 4).unwrap();
    cluster.kill(1).await;
    cluster.run(1).await;
    let replica = cluster.nodes[&1].replica.clone();
    assert_eq!(replica.groups(), (0..=4).map(GroupId).collect::<Vec<_>>());
    let address = cluster.members[0].address.clone();
    assert!(replica.bootstrap_single("test-cluster", &address, 3).await.is_err(), "another number of groups");
    replica.bootstrap_single("test-cluster", &address, 4).await.unwrap();
    for group in 0..=4 {
        cluster.put(GroupId(group), "a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_stop_leaves_nothing_to_apply_again() {
    let mut cluster = Cluster::start(1, 1, options()).await;
    for i in 0..20 {
        cluster.put(GroupId(1), &format!("n{i}")).await;
    }
    let applied = cluster.group(1, GroupId(1)).applied_index();
    cluster.stop(1).await;
    cluster.run(1).await;
    assert!(cluster.nodes[&1].store.flushed(GroupId(1)).index >= applied);
}
