//! Worker processes that die, with whatever they had in hand. The nemesis starts them again.

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use crate::cell::Lacking;
use crate::scene::Scene;

/// kill -9 of one worker, or of all of them.
pub struct KillWorkers {
    pub all: bool,
}

impl Fault for KillWorkers {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut workers = scene.workers.all();
            if workers.is_empty() {
                bail!(Lacking("this workload has no worker processes to kill".into()));
            }
            workers.shuffle(chance);
            if !self.all && chance.random_bool(0.7) {
                workers.truncate(1);
            }
            let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
            workers.iter().for_each(|worker| worker.kill());
            Ok(json!({ "killed": names }))
        })
    }
}
