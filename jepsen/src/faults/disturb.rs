//! A bad network that still works: latency with jitter, little bandwidth, connections that break.

use std::time::Duration;

use anyhow::Result;
use futures::future::BoxFuture;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use crate::proxy::Harm;
use crate::scene::Scene;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Latency,
    Throttle,
    Resets,
}

pub struct Disturb(pub How);

impl Fault for Disturb {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let network = &scene.cluster.network;
            let mut links = network.peer_links();
            let (harm, told) = match self.0 {
                How::Latency => {
                    let (delay, jitter) = (chance.random_range(20..=150), chance.random_range(20..=150));
                    (
                        Harm::slow(Duration::from_millis(delay), Duration::from_millis(jitter)),
                        json!({ "delay_ms": delay, "jitter_ms": jitter }),
                    )
                }
                How::Throttle => {
                    let rate = 1024 * chance.random_range(64..=256);
                    (Harm::throttled(rate), json!({ "bytes_per_second": rate }))
                }
                How::Resets => {
                    links.extend(network.client_links());
                    links.extend(network.worker_links());
                    let breaks = chance.random_range(3..=20);
                    (Harm::breaking(breaks), json!({ "breaks_per_mille": breaks }))
                }
            };
            for link in links {
                network.harm(link, harm);
            }
            Ok(told)
        })
    }
}
