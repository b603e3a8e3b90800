//! Snapshots that are damaged on their way: a node is away until the others have let go of the log that it lacks, and of what they then send
//! it bits are flipped.
//!
//! A damaged snapshot must be refused, and sent again: the node comes back with what the others have. How many bits were flipped, and how
//! often a checksum was found wrong for it, is in the journal (a bit in the frame of a message breaks the connection instead); a fault that
//! never struck shows nothing. Called by the nemesis.

use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use super::kill::Whom;
use super::nemesis::NotBack;
use crate::cluster::READY_WITHIN;
use crate::network::Link;
use crate::scene::Scene;

/// What makes a short absence long enough for a snapshot: next to no log is kept.
pub const LIMITS: &[(&str, u64)] = &[("log_keep_bytes", 4096), ("log_keep_seconds", 1)];
/// A piece of log is closed after ten seconds, let go of once the state that it led to is flushed (every five seconds), and looked at every
/// half second. What is away for longer lacks some of it.
const AWAY: Duration = Duration::from_secs(18);
/// What a node says whose snapshot the other one found damaged.
const REFUSED: &str = "is refused: a snapshot's chunk has checksum";

/// The links on which bits are flipped, how many on each, and how often snapshots had been refused before.
#[derive(Default)]
pub struct Damaged {
    links: Vec<Link>,
    bits: u64,
    refused: usize,
}

impl Fault for Damaged {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, whom) = Whom::One.choose(scene, chance).await;
            let number = numbers[0];
            scene.cluster.kill(&numbers);
            tokio::time::sleep(AWAY).await;
            let links: Vec<Link> = scene
                .cluster
                .network
                .peer_links()
                .into_iter()
                .filter(|link| matches!(link, Link::Peer(_, to) if *to == number))
                .collect();
            *self = Self { links, bits: chance.random_range(1..=3), refused: refused(scene) };
            self.links.iter().for_each(|link| scene.cluster.network.flip(*link, self.bits));
            scene.cluster.start(&numbers)?;
            match scene.cluster.wait_ready(&numbers, READY_WITHIN).await {
                Ok(ready) => Ok(json!({ "node": whom, "ready_after_ms": ready.as_millis() as u64 })),
                Err(why) => bail!(NotBack(why)),
            }
        })
    }

    fn heal<'a>(&'a mut self, scene: &'a Scene, _: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let left: u64 = self.links.iter().map(|link| scene.cluster.network.flip_no_more(*link)).sum();
            let flipped = self.bits * self.links.len() as u64 - left;
            Ok(json!({ "flipped": flipped, "refused": refused(scene) - self.refused }))
        })
    }
}

/// How often a snapshot has been refused so far.
fn refused(scene: &Scene) -> usize {
    let text = |node: &crate::cluster::Node| std::fs::read(&node.process.log).unwrap_or_default();
    scene.cluster.nodes.iter().map(|node| String::from_utf8_lossy(&text(node)).matches(REFUSED).count()).sum()
}
