//! Where leaders should be, and how they get there: spread over the nodes, handed over before a node stops.
//!
//! Each group has an order of its voters; the first of them that is alive should lead it. The orders are such that every node comes
//! first for as many groups as any other, and that a lost node's groups go to different ones of the rest. A leader that finds a
//! better place hands over, but only to a voter that is connected, answers heartbeats, and has the log: openraft never gives up
//! a transfer by itself, and a group that hands over to a dead node stands still until the next election.
//!
//! Never: a transfer to a node that may be dead, is about to stop, or lacks entries; a transfer while the cluster is unsettled.
//!
//! One task a node, started by [`crate::Replica`]; [`transfer_all`] is the first step of its shutdown.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use stanchion_engine::GroupId;

use crate::group::GroupHandle;
use crate::replica::Inner;
use crate::types::{NodeId, TermId};

const LOOK: Duration = Duration::from_secs(1);
/// Entries that a new leader may still have to receive: it gets them within the transfer.
const LAG_MAX: u64 = 64;
/// Between two transfers by one node, so that a mistake stays small.
const PAUSE: Duration = Duration::from_millis(200);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// Voters in the order in which they should lead the group. `voters` must be in order of their ids.
fn order(group: GroupId, voters: &[NodeId]) -> Vec<NodeId> {
    let count = voters.len();
    if count == 0 {
        return Vec::new();
    }
    let (first, backwards) = (group.0 as usize % count, (group.0 as usize / count) % 2 == 1);
    let place = |step: usize| if backwards { (first + count - step) % count } else { (first + step) % count };
    (0..count).filter_map(|step| voters.get(place(step)).copied()).collect()
}

/// Whether that voter could lead at once: connected, not about to stop, heard of within the lease, and (almost) up to date.
fn could_lead(node: &Inner, group: &GroupHandle, voter: NodeId) -> bool {
    let transport = &node.around.transport;
    if !transport.connected(voter) || transport.peers().is_draining(voter) {
        return false;
    }
    let metrics = group.raft().metrics().borrow_watched().clone();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.as_ref().and_then(|all| all.get(&voter)).and_then(|id| *id);
    let has_the_log = matched.is_some_and(|id| id.index + LAG_MAX >= last);
    let lease = Duration::from_millis(node.around.options.timings.election_max_ms);
    let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(&voter)).and_then(|at| at.as_ref());
    has_the_log && heard.is_some_and(|at| at.elapsed() < lease)
}

pub(crate) async fn run(node: Weak<Inner>) {
    let mut settled: Option<(Vec<NodeId>, Instant)> = None;
    let mut won: BTreeMap<GroupId, (TermId, Instant)> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        if node.is_draining() {
            continue;
        }
        let connected: Vec<NodeId> =
            node.peer_ids().into_iter().filter(|peer| node.around.transport.connected(*peer)).collect();
        // Starts anew with every change of who is there.
        let since = match &settled {
            Some((before, since)) if *before == connected => *since,
            _ => settled.insert((connected, Instant::now())).1,
        };
        if since.elapsed() < node.around.options.timings.spread_after {
            continue;
        }
        for group in &node.handles() {
            let Some(term) = group.term() else { continue };
            let (known, since) = *won.entry(group.id()).or_insert((term, Instant::now()));
            if known != term {
                won.insert(group.id(), (term, Instant::now()));
                continue;
            }
            // Whoever has just handed it over may be about to stop without our knowing yet.
            if since.elapsed() < node.around.options.timings.spread_after {
                continue;
            }
            if let Some(better) = better_place(&node, group) {
                tracing::info!(group = %group.id(), to = better, "handing over leadership to spread it");
                transfer(group, better).await;
                won.remove(&group.id());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn better_place(node: &Inner, group: &GroupHandle) -> Option<NodeId> {
    let mut voters: Vec<NodeId> = group.raft().voter_ids().collect();
    voters.sort_unstable();
    let me = node.around.transport.peers().node_id();
    let before_me = order(group.id(), &voters).into_iter().take_while(|voter| *voter != me);
    before_me.into_iter().find(|voter| could_lead(node, group, *voter))
}

/// True once somebody else leads.
async fn transfer(group: &GroupHandle, to: NodeId) -> bool {
    if group.raft().trigger().transfer_leader(to).await.is_err() {
        return false;
    }
    let mut role = group.role();
    let moved = role.wait_for(|role| role.term().is_none());
    let moved = matches!(tokio::time::timeout(TRANSFER_TIMEOUT, moved).await, Ok(Ok(_)));
    metrics::counter!("stanchion_leader_transfers_total", "moved" => moved.to_string()).increment(1);
    moved
}

/// Hands over every group that this node leads to a node that can take it. Groups for which there is none stay. All at once; returns
/// how many have moved.
pub(crate) async fn transfer_all(node: &Inner) -> usize {
    let me = node.around.transport.peers().node_id();
    let transfers = node.handles().into_iter().filter(|group| group.term().is_some()).filter_map(|group| {
        let mut voters: Vec<NodeId> = group.raft().voter_ids().filter(|voter| *voter != me).collect();
        voters.sort_unstable();
        let to = order(group.id(), &voters).into_iter().find(|voter| could_lead(node, &group, *voter));
        if to.is_none() && !voters.is_empty() {
            tracing::warn!(group = %group.id(), "no node can take over leadership now");
        }
        to.map(|to| async move { transfer(&group, to).await })
    });
    futures::future::join_all(transfers).await.into_iter().filter(|moved| *moved).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_comes_first_for_as_many_groups_as_any_other() {
        let voters = [1, 2, 3];
        let mut firsts: BTreeMap<NodeId, usize> = BTreeMap::new();
        (0..12).for_each(|g| *firsts.entry(order(GroupId(g), &voters)[0]).or_default() += 1);
        assert_eq!(firsts.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    }

    #[test]
    fn a_lost_nodes_groups_go_to_different_ones() {
        let voters = [1, 2, 3];
        let seconds: Vec<NodeId> =
            (0..12).map(|g| order(GroupId(g), &voters)).filter(|o| o[0] == 1).map(|o| o[1]).collect();
        assert_eq!(seconds.iter().filter(|n| **n == 2).count(), seconds.len() / 2);
        assert_eq!(order(GroupId(5), &[7]), [7]);
        assert!(order(GroupId(5), &[]).is_empty());
    }
}
