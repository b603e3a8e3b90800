//! When harm is done: peace, a fault, healing, again, until the deadline; then a last healing that must leave a cluster that serves.
//!
//! Everything is in the journal, and as spans for the plots. A node that does not serve again after healing is a violation (L5), not a
//! failure of the harness. Called by `cell`.

use std::time::Duration;

use anyhow::{Result, anyhow};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Fault, Kind, PEACE_MS, between};
use crate::cluster::READY_WITHIN;
use crate::scene::Scene;

/// A node that was healed and does not serve.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotBack(pub String);

/// From the first harm to the moment when all nodes served again, in the journal's nanoseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Span {
    pub fault: String,
    pub from: u64,
    /// When the harm was undone.
    pub healed: u64,
    pub to: u64,
}

/// What the nemesis did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    pub spans: Vec<Span>,
    /// Nodes that did not come back.
    pub trouble: Vec<String>,
}

/// When a fault comes, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Again and again, as the seed has it; with a time of peace between two faults, or for each of them, that is not the fault's own.
    Seeded { peace: Option<Duration>, lasts: Option<Duration> },
    /// Once: after so much peace, for so long.
    Once { after: Duration, lasts: Duration },
}

/// Runs until `stop`, heals, and tells.
pub async fn run(
    scene: &Scene,
    kind: &Kind,
    fault: &mut dyn Fault,
    plan: Plan,
    until: Instant,
    stop: CancellationToken,
) -> Result<Done> {
    let mut chance = scene.chance("nemesis");
    let mut done = Done::default();
    if kind.name == super::NONE {
        tokio::select! { () = sleep_until(until) => (), () = stop.cancelled() => () }
        return Ok(done);
    }
    // The first fault comes soon: a short run has one too.
    let mut peace = match plan {
        Plan::Seeded { peace, .. } => peace.unwrap_or(Duration::from_millis(1_000)),
        Plan::Once { after, .. } => after,
    };
    while done.trouble.is_empty() {
        let begin = Instant::now() + peace;
        if begin >= until {
            break;
        }
        tokio::select! { () = sleep_until(begin) => (), () = stop.cancelled() => break }
        let lasts = match plan {
            Plan::Seeded { lasts, .. } => lasts.unwrap_or_else(|| between(&mut chance, kind.lasts_ms)),
            Plan::Once { lasts, .. } => lasts,
        };
        match one(scene, kind, fault, lasts, until, &mut chance).await {
            Ok(span) => done.spans.push(span),
            Err(error) => match error.downcast::<NotBack>() {
                Ok(NotBack(why)) => done.trouble.push(why),
                Err(error) => return Err(error),
            },
        }
        if matches!(plan, Plan::Once { .. }) {
            break;
        }
        peace = match plan {
            Plan::Seeded { peace: Some(peace), .. } => peace,
            _ => between(&mut chance, PEACE_MS),
        };
    }
    Ok(done)
}

async fn one(
    scene: &Scene,
    kind: &Kind,
    fault: &mut dyn Fault,
    lasts: Duration,
    until: Instant,
    chance: &mut ChaCha8Rng,
) -> Result<Span> {
    let from = scene.now();
    scene.journal.fault(kind.name, json!({ "begin": true, "lasts_ms": lasts.as_millis() as u64 }));
    let harm = fault.begin(scene, chance).await?;
    scene.journal.fault(kind.name, json!({ "done": harm }));
    scene.say(&format!("{}: {harm}, for {} ms", kind.name, lasts.as_millis()));
    sleep_until((Instant::now() + lasts).min(until)).await;
    let healed_how = fault.heal(scene, chance).await?;
    restore(scene, chance)?;
    let healed = scene.now();
    scene.journal.fault(kind.name, json!({ "healed": healed_how }));
    let ready = ready_again(scene).await?;
    scene.journal.fault(kind.name, json!({ "ready_after_ms": ready.as_millis() as u64 }));
    scene.say(&format!("{}: healed, all ready after {} ms", kind.name, ready.as_millis()));
    Ok(Span { fault: kind.name.to_owned(), from, healed, to: scene.now() })
}

/// Waits until all nodes serve. A node may have been about to stop when its harm was undone, as one does whose disk was full a moment ago:
/// it is started once more.
async fn ready_again(scene: &Scene) -> Result<Duration> {
    let numbers = scene.cluster.numbers();
    let mut ready = scene.cluster.wait_ready(&numbers, READY_WITHIN).await;
    let ended = |number: &u64| scene.cluster.node(*number).process.has_ended_as_it_may();
    if ready.is_err() && numbers.iter().any(ended) {
        scene.cluster.start(&numbers.iter().copied().filter(ended).collect::<Vec<_>>())?;
        ready = scene.cluster.wait_ready(&numbers, READY_WITHIN).await;
    }
    ready.map_err(|why| anyhow!(NotBack(why)))
}

/// Whatever was done: links pass, nodes run.
fn restore(scene: &Scene, chance: &mut ChaCha8Rng) -> Result<()> {
    use rand::Rng as _;
    // What a cut held arrives late, or is lost with its connections: both happen in networks.
    scene.cluster.network.heal(chance.random_bool(0.5));
    for node in &scene.cluster.nodes {
        if node.process.is_paused() {
            node.process.resume();
        }
    }
    scene.workers.restart()?;
    scene.cluster.start(&scene.cluster.numbers())
}
