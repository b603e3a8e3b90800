//! Partitions: which directed links between nodes carry nothing, and clients or workers that reach nobody.
//!
//! A cut holds bytes, as a network that drops packets does: nobody is told, and what was sent before a short cut arrives after it. One
//! symmetric cut in three closes connections and refuses new ones instead, as a firewall that rejects does.

use anyhow::Result;
use futures::future::BoxFuture;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use super::kill::Whom;
use crate::network::Link;
use crate::proxy::Harm;
use crate::scene::Scene;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    IsolateOne,
    IsolateLeader,
    Ring,
    OneWay,
    Bridge,
    Partial,
}

pub struct Partition(pub Shape);

impl Fault for Partition {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut cuts = match self.0 {
                Shape::IsolateOne => isolate(&Whom::One.choose(scene, chance).await.0, &scene.cluster.numbers()),
                Shape::IsolateLeader => isolate(&Whom::Leader.choose(scene, chance).await.0, &scene.cluster.numbers()),
                shape => {
                    let mut numbers = scene.cluster.numbers();
                    numbers.shuffle(chance);
                    cut(shape, &numbers, chance)
                }
            };
            cuts.sort_unstable();
            let symmetric = cuts.iter().all(|(from, to)| cuts.contains(&(*to, *from)));
            let refused = symmetric && chance.random_range(0..3) == 0;
            if refused {
                for (from, to) in &cuts {
                    scene.cluster.network.harm(Link::Peer(*from, *to), Harm::refused());
                }
            } else {
                scene.cluster.network.cut_one_way(&cuts);
            }
            let told: Vec<String> = cuts.iter().map(|(from, to)| format!("n{from}->n{to}")).collect();
            Ok(json!({ "cut": told, "how": if refused { "refused" } else { "held" } }))
        })
    }
}

fn isolate(cut_off: &[u64], all: &[u64]) -> Vec<(u64, u64)> {
    let apart = |a: &u64, b: &u64| cut_off.contains(a) != cut_off.contains(b);
    pairs(all).into_iter().filter(|(a, b)| apart(a, b)).collect()
}

fn pairs(all: &[u64]) -> Vec<(u64, u64)> {
    all.iter().flat_map(|a| all.iter().filter(move |b| *b != a).map(move |b| (*a, *b))).collect()
}

/// The directed links that a shape cuts; `nodes` in an order of chance.
pub(super) fn cut(shape: Shape, nodes: &[u64], chance: &mut ChaCha8Rng) -> Vec<(u64, u64)> {
    let count = nodes.len();
    match shape {
        Shape::IsolateOne | Shape::IsolateLeader => isolate(&nodes[..1], nodes),
        Shape::Ring if count == 3 => {
            // With three nodes a ring of symmetric links is everybody: each hears the next one only.
            (0..3).map(|at| (nodes[at], nodes[(at + 1) % 3])).collect()
        }
        Shape::Ring => {
            // Each node keeps itself and its neighbours on either side: of five, three.
            let near = |a: usize, b: usize| (a + 1) % count == b || (b + 1) % count == a;
            let at = |node: &u64| nodes.iter().position(|n| n == node).unwrap_or_default();
            pairs(nodes).into_iter().filter(|(a, b)| !near(at(a), at(b))).collect()
        }
        Shape::OneWay => {
            let one = nodes[0];
            let deaf = chance.random_bool(0.5);
            nodes[1..].iter().map(|other| if deaf { (*other, one) } else { (one, *other) }).collect()
        }
        Shape::Bridge => {
            let (left, right) = nodes[1..].split_at((count - 1) / 2);
            left.iter().flat_map(|a| right.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
        }
        Shape::Partial => {
            let mut links = pairs(nodes);
            links.shuffle(chance);
            let most = links.len() / 2;
            links.truncate(chance.random_range(1..=most.max(1)));
            links
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Clients,
    Workers,
}

/// Clients or workers reach one node no more, or none at all.
pub struct Cut(pub Side);

impl Fault for Cut {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let network = &scene.cluster.network;
            let mut links = match self.0 {
                Side::Clients => network.client_links(),
                Side::Workers => network.worker_links(),
            };
            links.shuffle(chance);
            if chance.random_bool(0.5) {
                links.truncate(1);
            }
            links.sort_unstable();
            let refused = chance.random_range(0..3) == 0;
            for link in &links {
                network.harm(*link, if refused { Harm::refused() } else { Harm::held() });
            }
            let told: Vec<String> = links.iter().map(Link::to_string).collect();
            Ok(json!({ "cut": told, "how": if refused { "refused" } else { "held" } }))
        })
    }
}

#[cfg(test)]
mod tests;
