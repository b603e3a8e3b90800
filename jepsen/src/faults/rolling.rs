//! Restarts as an operator makes them: SIGTERM, so that a node hands its leadership over and leaves in order.
//!
//! There is no call to move leadership by itself; ending the node that leads is how an operator does it.

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use super::kill::Whom;
use crate::cluster::READY_WITHIN;
use crate::scene::Scene;

/// Each node in turn, the next one once the last one serves again.
pub struct Rolling;

impl Fault for Rolling {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut numbers = scene.cluster.numbers();
            numbers.shuffle(chance);
            let mut told = Vec::new();
            for number in numbers {
                let took = scene.cluster.terminate(number).await;
                scene.cluster.start(&[number])?;
                match scene.cluster.wait_ready(&[number], READY_WITHIN).await {
                    Ok(ready) => told.push(json!({
                        "node": format!("n{number}"),
                        "ended_after_ms": took.as_millis() as u64,
                        "ready_after_ms": ready.as_millis() as u64,
                    })),
                    Err(why) => bail!(super::nemesis::NotBack(why)),
                }
            }
            Ok(json!(told))
        })
    }
}

/// See its line in `ALL`.
pub struct HandOver;

impl Fault for HandOver {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, told) = Whom::Leader.choose(scene, chance).await;
            for number in numbers {
                scene.cluster.terminate(number).await;
            }
            Ok(told)
        })
    }
}
