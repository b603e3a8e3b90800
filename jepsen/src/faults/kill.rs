//! kill -9, and who is meant by "one", "leader" and "majority" for faults that hit nodes.
//!
//! kill -9 leaves the page cache: what was written and not synced survives it. Power loss is another fault.

use anyhow::Result;
use futures::future::BoxFuture;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::Fault;
use crate::scene::Scene;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    One,
    /// The node that leads most groups; among equals, by chance.
    Leader,
    Majority,
    All,
}

impl Whom {
    /// Chooses. `led` is told for the journal: which groups each of the chosen led.
    pub async fn choose(self, scene: &Scene, chance: &mut ChaCha8Rng) -> (Vec<u64>, Value) {
        let led = scene.cluster.led().await;
        let mut numbers = scene.cluster.numbers();
        numbers.shuffle(chance);
        let count = match self {
            Self::One => 1,
            Self::Leader => {
                // A stable sort: the shuffle decides among equals.
                numbers.sort_by_key(|number| std::cmp::Reverse(led.get(number).map_or(0, Vec::len)));
                1
            }
            Self::Majority => scene.cluster.majority(),
            Self::All => numbers.len(),
        };
        numbers.truncate(count);
        numbers.sort_unstable();
        let of: Vec<Value> = numbers.iter().map(|n| json!({ "node": format!("n{n}"), "led": led.get(n) })).collect();
        (numbers, json!(of))
    }
}

pub struct Kill(pub Whom);

impl Fault for Kill {
    fn begin<'a>(&'a mut self, scene: &'a Scene, chance: &'a mut ChaCha8Rng) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (numbers, told) = self.0.choose(scene, chance).await;
            scene.cluster.kill(&numbers);
            Ok(told)
        })
    }
}
