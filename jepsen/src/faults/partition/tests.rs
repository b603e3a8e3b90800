//! The shapes are what their names say, for three nodes and for five.

use rand::SeedableRng as _;

use super::*;

fn cuts(shape: Shape, nodes: &[u64]) -> Vec<(u64, u64)> {
    cut(shape, nodes, &mut ChaCha8Rng::seed_from_u64(7))
}

/// Whom a node hears, itself included.
fn hears(node: u64, nodes: &[u64], cuts: &[(u64, u64)]) -> Vec<u64> {
    nodes.iter().copied().filter(|other| *other == node || !cuts.contains(&(*other, node))).collect()
}

#[test]
fn in_a_ring_each_hears_a_majority_and_no_two_the_same() {
    for nodes in [vec![1, 2, 3], vec![4, 1, 5, 2, 3]] {
        let cuts = cuts(Shape::Ring, &nodes);
        let mut heard: Vec<Vec<u64>> = nodes.iter().map(|node| hears(*node, &nodes, &cuts)).collect();
        for list in &mut heard {
            assert_eq!(list.len(), nodes.len() / 2 + 1);
            list.sort_unstable();
        }
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), nodes.len());
    }
}

#[test]
fn an_isolated_node_hears_and_reaches_nobody() {
    let nodes = [3, 1, 2];
    let cuts = cuts(Shape::IsolateOne, &nodes);
    assert_eq!(hears(3, &nodes, &cuts), [3]);
    assert_eq!(hears(1, &nodes, &cuts), [1, 2]);
}

#[test]
fn a_bridge_reaches_both_halves_which_do_not_reach_each_other() {
    let nodes = [5, 1, 2, 3, 4];
    let cuts = cuts(Shape::Bridge, &nodes);
    assert_eq!(hears(5, &nodes, &cuts).len(), 5);
    assert_eq!(hears(1, &nodes, &cuts), [5, 1, 2]);
    assert_eq!(hears(4, &nodes, &cuts), [5, 3, 4]);
}

#[test]
fn one_way_is_deaf_or_mute_and_partial_cuts_something() {
    let nodes = [1, 2, 3];
    assert_eq!(cuts(Shape::OneWay, &nodes).len(), 2);
    assert!(!cuts(Shape::Partial, &nodes).is_empty());
}
