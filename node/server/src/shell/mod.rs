//! The leader shell: what a node does for the groups that it leads.
//!
//! The engine decides and the log records; this module carries effects out: it offers pending tasks to matchers, fires timers, times
//! workflow tasks out, delivers messages to other runs, wakes long polls and gets queries answered. All of its state is in memory and is
//! made anew from the tables at the start of each term, so there is nothing to recover and nothing to lose.
//!
//! Never: a business rule (those are the engine's); an effect carried out by a node that does not lead the group.
//!
//! ```text
//! follower --(leader, first entry of the term applied)--> loading --(tables read)--> LeaderTerm --(no longer leader)--> follower
//! ```
//!
//! Called by the gRPC handlers ([`Shells::term`]) and by the peer service.

mod ask;
mod calls;
pub mod clock;
mod error;
mod hand_over;
mod neighbours;
mod next_queues;
mod offers;
mod outbox;
mod pending;
mod poll_response;
mod queries;
pub mod recovery;
mod schedules;
mod term;
mod updates;
mod watchers;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::meta::Meta;
use parking_lot::RwLock;
use stanchion_dispatch::Dispatch;
use stanchion_engine::GroupId;
use stanchion_engine::limits::Limits;
use stanchion_replica::{GroupHandle, Role};
use tokio::sync::Notify;

pub use calls::{StartedTask, run_not_found};
pub use clock::wall;
pub use error::CallError;
pub use neighbours::Neighbours;
pub use outbox::Courier;
pub use poll_response::task_name;
pub use term::LeaderTerm;

/// What every term works with.
#[derive(Clone)]
pub struct Parts {
    pub limits: Arc<Limits>,
    pub dispatch: Arc<Dispatch>,
    pub neighbours: Arc<dyn Neighbours>,
    pub courier: Arc<dyn Courier>,
    pub meta: Arc<Meta>,
    /// Woken when a term has found batch operations that somebody is to go on with.
    pub batches_found: Arc<Notify>,
}

/// The terms of this node, by group.
pub struct Shells {
    parts: Parts,
    terms: RwLock<BTreeMap<GroupId, Arc<LeaderTerm>>>,
}

impl Shells {
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts, terms: RwLock::new(BTreeMap::new()) })
    }

    /// The term of a group, if this node leads it and is ready to serve.
    pub fn term(&self, group: GroupId) -> Result<Arc<LeaderTerm>, CallError> {
        self.terms.read().get(&group).cloned().ok_or(CallError::NotHere { leader: None })
    }

    /// Groups that are served here now.
    pub fn led(&self) -> Vec<GroupId> {
        self.terms.read().keys().copied().collect()
    }

    /// All terms of this node.
    pub fn terms(&self) -> Vec<Arc<LeaderTerm>> {
        self.terms.read().values().cloned().collect()
    }

    /// Follows one group's role until the group's handle is gone. Call once for each group.
    pub async fn follow(self: Arc<Self>, handle: GroupHandle) {
        let group = handle.id();
        let mut role = handle.role();
        loop {
            let now = *role.borrow_and_update();
            self.enter(group, &handle, now).await;
            if role.changed().await.is_err() {
                break;
            }
        }
        self.leave(group);
    }

    async fn enter(&self, group: GroupId, handle: &GroupHandle, role: Role) {
        let Role::Leader { term } = role else {
            self.leave(group);
            return;
        };
        if self.terms.read().get(&group).is_some_and(|t| t.id() == term) {
            return;
        }
        self.leave(group);
        let fresh = LeaderTerm::new(self.parts.clone(), handle.clone(), term);
        handle.set_effect_sink(Some(fresh.clone()));
        match fresh.load().await {
            Ok(()) => {
                tracing::info!(%group, "leading; timers and pending tasks are loaded");
                fresh.start();
                self.terms.write().insert(group, fresh);
                self.parts.batches_found.notify_one();
            }
            Err(error) => tracing::error!(%group, %error, "could not load the group's tables; it is not served here"),
        }
    }

    fn leave(&self, group: GroupId) {
        let ended = self.terms.write().remove(&group);
        if let Some(term) = ended {
            tracing::info!(%group, "no longer leading");
            term.end();
        }
    }
}
