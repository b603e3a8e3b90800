//! SIGSTOP: a machine that hangs. It wakes up believing what it believed: that it leads, that its lease holds.

use anyhow::Result;
use futures::future::BoxFuture;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::Fault;
use super::kill::Whom;
use crate::scene::Scene;

pub struct Pause(pub Whom);

impl Fault for Pause {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, told) = self.0.choose(scene, chance).await;
            for number in numbers {
                scene.cluster.node(number).process.pause();
            }
            Ok(told)
        })
    }
}
