//! What this node is in a group, as others may act on it.
//!
//! ```text
//!   elected ──▶ first entry of the term committed ──▶ applied here ──▶ Role::Leader{term}
//! ```
//!
//! A node that was elected may not yet have applied what earlier leaders committed. The first entry of its own term stands behind
//! all of that, so once it is applied here, the tables are complete, and only then does the role say leader.
//!
//! Never: `Leader` before that; two roles with the same term and another entry of a foreign term between them.
//!
//! Called by the leader shell (which makes and ends its `LeaderTerm` by it) and by the proposer as a first look.

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use crate::effects::Shared;
use crate::types::{NodeId, Raft, TermId, TypeConfig};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The leader, if this node knows one. It may name a node that has just lost leadership.
    Follower { leader: Option<NodeId> },
    /// This node leads, and its tables hold everything committed before this term.
    Leader { term: TermId },
}

impl Role {
    pub fn term(&self) -> Option<TermId> {
        match self {
            Self::Leader { term } => Some(*term),
            Self::Follower { .. } => None,
        }
    }
}

fn role_of(node: NodeId, metrics: &RaftServerMetrics<TypeConfig>, own_term: u64) -> Role {
    let vote = &metrics.vote;
    let elected = metrics.state == ServerState::Leader && vote.committed && vote.leader_id.node_id == node;
    match elected {
        true if own_term == vote.leader_id.term => Role::Leader { term: TermId(own_term) },
        // Elected, but not ready: as yet nobody can be asked.
        true => Role::Follower { leader: None },
        false => Role::Follower { leader: metrics.current_leader.filter(|leader| *leader != node) },
    }
}

/// Keeps `role` true until the group ends. Leaves it at a follower without a leader.
pub(crate) async fn track(raft: Raft, shared: std::sync::Arc<Shared>, role: watch::Sender<Role>) {
    let mut metrics = raft.server_metrics();
    let mut own_term = shared.own_term();
    loop {
        let now = {
            let own_term = *own_term.borrow_and_update();
            role_of(shared.node, &metrics.borrow_and_update(), own_term)
        };
        role.send_if_modified(|role| {
            let changed = *role != now;
            if changed {
                tracing::info!(group = %shared.group, from = ?*role, to = ?now, "role");
                metrics::counter!("stanchion_role_changes_total").increment(1);
                if now.term().is_some() {
                    metrics::counter!("stanchion_leader_terms_total").increment(1);
                }
                *role = now;
            }
            changed
        });
        let ended = tokio::select! {
            changed = metrics.changed() => changed.is_err(),
            changed = own_term.changed() => changed.is_err(),
        };
        if ended {
            role.send_replace(Role::Follower { leader: None });
            return;
        }
    }
}
