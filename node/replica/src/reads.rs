//! Linearizable reads: one round of heartbeats for all callers that wait for one.
//!
//! ```text
//!   round 1 ├───────────┤            callers that came before it began are answered by it
//!                 round 2 ├───────┤  those that came during it wait for the next: a round says nothing about what came after
//! ```
//!
//! Never: an answer from a round that had begun before the caller asked; a lease (openraft forgets a follower's at its restart).
//!
//! Called by [`crate::GroupHandle::read_index`].

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use parking_lot::Mutex;
use stanchion_engine::mutant;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::ProposeError;
use crate::types::Raft;

/// Without a quorum for this long the caller is told to look for another leader.
const ROUND_TIMEOUT: Duration = Duration::from_secs(3);

type Answer = oneshot::Sender<Result<(), ProposeError>>;

/// See the module. One a group.
pub(crate) struct Reads {
    raft: Raft,
    node: u64,
    runtime: Handle,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Wait for the next round.
    callers: Vec<Answer>,
    round_runs: bool,
}

impl Reads {
    pub fn new(raft: Raft, node: u64, runtime: Handle) -> Self {
        Self { raft, node, runtime, waiting: Mutex::new(Waiting::default()) }
    }

    pub async fn read_index(self: &Arc<Self>) -> Result<(), ProposeError> {
        let (answer, ready) = oneshot::channel();
        let must_begin = {
            let mut waiting = self.waiting.lock();
            waiting.callers.push(answer);
            !std::mem::replace(&mut waiting.round_runs, true)
        };
        if must_begin {
            self.runtime.spawn(self.clone().rounds());
        }
        ready.await.unwrap_or_else(|_| Err(ProposeError::Fatal("the node is stopping".into())))
    }

    async fn rounds(self: Arc<Self>) {
        loop {
            let callers = {
                let mut waiting = self.waiting.lock();
                if waiting.callers.is_empty() {
                    waiting.round_runs = false;
                    return;
                }
                std::mem::take(&mut waiting.callers)
            };
            let outcome = self.round().await;
            for caller in callers {
                let _ = caller.send(outcome.clone());
            }
        }
    }

    async fn round(&self) -> Result<(), ProposeError> {
        if mutant!(StaleReadAfterRestart) && self.raft.server_metrics().borrow_watched().state.is_leader() {
            return Ok(());
        }
        let round = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        match tokio::time::timeout(ROUND_TIMEOUT, round).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_id.filter(|leader| *leader != self.node) })
            }
            Ok(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) | Err(_) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(ProposeError::Fatal(fatal.to_string())),
        }
    }
}
