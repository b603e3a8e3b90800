//! Which nodes answer, and so which of them matches which task queue.
//!
//! Every node pings every other four times a second. A queue belongs to the live node with the highest hash of (queue, node): when a
//! node comes or goes only its own queues move. All of this is advice: two nodes that disagree cost a detour, never a task.
//!
//! Called by `node` (the ping loop), `polls` and the leader shell (through `Neighbours`), and `admin`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use stanchion_dispatch::QueueKey;
use stanchion_engine::effects::TaskKind;
use tokio::sync::watch;

pub const PING_EVERY: Duration = Duration::from_millis(250);
pub const PING_WITHIN: Duration = Duration::from_millis(1000);
/// A node that has not answered for this long takes no part in matching.
const SILENCE_MAX: Duration = Duration::from_millis(1500);
/// Refused connections are proof enough sooner: no process listens there.
const REFUSALS_MAX: u32 = 2;

pub struct Liveness {
    me: u64,
    seen: RwLock<BTreeMap<u64, Seen>>,
    /// Live nodes that match, in order of their ids; this node too unless it drains.
    matching: RwLock<Vec<u64>>,
    version: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct Seen {
    answered: Option<Instant>,
    refusals: u32,
    draining: bool,
}

impl Seen {
    fn is_live(&self, now: Instant) -> bool {
        self.refusals < REFUSALS_MAX && self.answered.is_some_and(|at| now.duration_since(at) < SILENCE_MAX)
    }
}

impl Liveness {
    pub fn new(me: u64) -> Self {
        let own = Seen { answered: None, refusals: 0, draining: false };
        Self {
            me,
            seen: RwLock::new(BTreeMap::from([(me, own)])),
            matching: RwLock::new(vec![me]),
            version: watch::Sender::new(0),
        }
    }

    pub fn answered(&self, node: u64, draining: bool) {
        self.seen.write().insert(node, Seen { answered: Some(Instant::now()), refusals: 0, draining });
        self.settle();
    }

    /// A ping failed; `refused` when nobody listens at the address.
    pub fn silent(&self, node: u64, refused: bool) {
        {
            let mut seen = self.seen.write();
            let entry = seen.entry(node).or_insert(Seen { answered: None, refusals: 0, draining: false });
            entry.refusals = if refused { entry.refusals.saturating_add(1) } else { entry.refusals };
        }
        self.settle();
    }

    /// This node is about to end: its queues go to the others.
    pub fn drain(&self) {
        if let Some(own) = self.seen.write().get_mut(&self.me) {
            own.draining = true;
        }
        self.settle();
    }

    pub fn is_draining(&self) -> bool {
        self.seen.read().get(&self.me).is_some_and(|own| own.draining)
    }

    pub fn is_live(&self, node: u64) -> bool {
        node == self.me || self.seen.read().get(&node).is_some_and(|seen| seen.is_live(Instant::now()))
    }

    /// Other nodes that answer.
    pub fn live_others(&self) -> Vec<u64> {
        let now = Instant::now();
        self.seen.read().iter().filter(|(id, seen)| **id != self.me && seen.is_live(now)).map(|(id, _)| *id).collect()
    }

    /// Changes whenever the set of matching nodes does.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The node that matches the queue.
    pub fn owner_of(&self, queue: &QueueKey) -> u64 {
        let matching = self.matching.read();
        let best = matching.iter().max_by_key(|node| (weight(queue, **node), **node));
        best.copied().unwrap_or(self.me)
    }

    fn settle(&self) {
        let now = Instant::now();
        let mut live: Vec<u64> = {
            let seen = self.seen.read();
            let takes_part = |(id, seen): &(&u64, &Seen)| !seen.draining && (**id == self.me || seen.is_live(now));
            seen.iter().filter(takes_part).map(|(id, _)| *id).collect()
        };
        if live.is_empty() {
            live.push(self.me);
        }
        let mut matching = self.matching.write();
        if *matching != live {
            tracing::info!(nodes = ?live, "nodes that match task queues");
            *matching = live;
            drop(matching);
            self.version.send_modify(|version| *version += 1);
        }
    }
}

/// FNV-1a over the queue's name and the node's number, mixed: the same on every node and in every release.
fn weight(queue: &QueueKey, node: u64) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let kind = match queue.kind {
        TaskKind::Workflow => 1_u8,
        TaskKind::Activity => 2,
    };
    let parts: [&[u8]; 5] = [queue.namespace_id.as_bytes(), &[0], queue.name.as_bytes(), &[kind], &node.to_be_bytes()];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(n: usize) -> QueueKey {
        QueueKey { namespace_id: "ns".into(), name: format!("queue-{n}"), kind: TaskKind::Workflow }
    }

    #[test]
    fn only_the_queues_of_a_lost_node_move() {
        let three = Liveness::new(1);
        three.answered(2, false);
        three.answered(3, false);
        let before: Vec<_> = (0..300).map(|n| three.owner_of(&queue(n))).collect();
        for node in 1..=3 {
            let share = before.iter().filter(|owner| **owner == node).count();
            assert!((60..=140).contains(&share), "node {node} has {share} of 300");
        }
        three.answered(3, true);
        for (n, owner) in before.iter().enumerate().filter(|(_, owner)| **owner != 3) {
            assert_eq!(three.owner_of(&queue(n)), *owner);
        }
    }

    #[test]
    fn two_refused_connections_are_enough() {
        let liveness = Liveness::new(1);
        liveness.answered(2, false);
        liveness.silent(2, true);
        assert!(liveness.is_live(2));
        liveness.silent(2, true);
        assert!(!liveness.is_live(2));
        liveness.answered(2, false);
        assert!(liveness.is_live(2));
    }
}
