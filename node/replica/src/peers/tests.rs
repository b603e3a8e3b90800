//! Who is let in, and who is refused.

use super::*;
use crate::net::RealNet;

fn peers(node: NodeId, incarnation: &str) -> Peers {
    let peers = Peers::new(Arc::new(RealNet), node, incarnation.into(), BTreeMap::new());
    peers.set_cluster_id("c");
    for node_id in 1..=3 {
        peers.set(Peer { node_id, address: format!("127.0.0.1:{node_id}"), incarnation: None });
    }
    peers
}

#[test]
fn a_node_that_lost_its_data_folder_is_refused_under_its_old_id() {
    let (one, two, wiped) = (peers(1, "a"), peers(2, "b"), peers(2, "z"));
    assert_eq!(one.admit(two.identify(1, ()).metadata()).unwrap(), 2);
    let refused = one.admit(wiped.identify(1, ()).metadata()).unwrap_err();
    assert!(refused.message().contains("must join under a new id"), "{refused}");
    assert_eq!(one.admit(two.identify(1, ()).metadata()).unwrap(), 2, "the known one is still welcome");
}

#[test]
fn a_recorded_data_folder_outranks_the_first_that_is_seen() {
    let (one, two, wiped) = (peers(1, "a"), peers(2, "b"), peers(2, "z"));
    one.admit(wiped.identify(1, ()).metadata()).unwrap();
    one.set_incarnation(2, "b");
    one.set_incarnation(3, "");
    assert!(one.admit(wiped.identify(1, ()).metadata()).is_err());
    assert_eq!(one.admit(two.identify(1, ()).metadata()).unwrap(), 2);
    assert_eq!(one.admit(peers(3, "c").identify(1, ()).metadata()).unwrap(), 3, "nothing is recorded of it");
}

#[test]
fn strangers_and_misdirected_calls_are_refused() {
    let one = peers(1, "a");
    let other_cluster = peers(2, "b");
    other_cluster.set_cluster_id("d");
    assert!(one.admit(other_cluster.identify(1, ()).metadata()).is_err());
    assert!(one.admit(peers(3, "c").identify(2, ()).metadata()).is_err(), "meant for another node");
    assert!(one.admit(peers(9, "x").identify(1, ()).metadata()).is_err(), "not a member");
    assert!(one.admit(Request::new(()).metadata()).is_err());
}
