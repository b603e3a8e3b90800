//! Carries a call to the node that leads the group concerned, and repeats it for as long as that is safe and the caller waits.
//!
//! ```text
//! here leads? --yes--> handler on the term --> answer
//!      |                    |
//!      no                   +-- not the leader any more (nothing applied) --+
//!      |                    +-- outcome unknown, call repeatable -----------+--> wait for a leader, again
//!      +--> Peer.Call to the leader --> answer                              |
//!                  +-- not here / lost ------------------------------------+
//! ```
//!
//! A repeated call that is refused because of what may be its own first attempt keeps its outcome unknown.
//!
//! Never: repeats a call whose outcome is unknown unless repeating it cannot do it twice; waits past the caller's deadline; spins.
//!
//! Called by the gRPC handlers; [`serve_local`] also by the peer service for calls that were carried here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use stanchion_engine::GroupId;
use stanchion_engine::reply::Code;
use stanchion_engine::slot::slot_of;
use stanchion_replica::Role;
use tokio::sync::watch;

use crate::meta::Namespace;
use crate::node::Node;
use crate::shell::{CallError, LeaderTerm};

/// Waits between attempts when no leader change wakes the caller sooner.
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_millis(250);
/// How long a call may still wait for a node that has lost the leadership: it may be handing over.
const OUSTED_GRACE: Duration = Duration::from_millis(300);

/// A call that is answered by the leader of one group.
pub trait GroupCall: Message + Default + Clone + 'static {
    /// The gRPC method's short name, which is also its name between nodes.
    const METHOD: &'static str;
    type Answer: Message + Default + 'static;

    /// Whether doing it a second time after an unknown outcome is harmless: it carries a request id, is fenced by its token, or only
    /// reads.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// On the node that the client is connected to: refuses what is malformed, and stamps what repeating it needs.
    fn check(&mut self, node: &Arc<Node>) -> impl Future<Output = Result<(), CallError>> + Send;

    /// The group that answers; resolves the namespace and decodes tokens on the way.
    fn group(&self, node: &Arc<Node>) -> impl Future<Output = Result<GroupId, CallError>> + Send;

    /// Runs on the leader.
    fn on_leader(self, at: Here) -> impl Future<Output = Result<Self::Answer, CallError>> + Send;
}

/// Where and until when a handler runs.
pub struct Here {
    pub node: Arc<Node>,
    pub term: Arc<LeaderTerm>,
    pub deadline: Instant,
}

impl Here {
    pub async fn namespace(&self, name: &str) -> Result<Namespace, CallError> {
        self.node.meta.namespace(&self.node, name).await
    }
}

/// The group of a run.
pub fn group_of_run(node: &Node, namespace_id: &str, workflow_id: &str) -> GroupId {
    node.replica().map_or(GroupId::META, |replica| replica.group_of(slot_of(namespace_id, workflow_id)))
}

/// Gets the call answered, wherever the leader is.
pub async fn call<R: GroupCall>(node: &Arc<Node>, request: R, deadline: Instant) -> Result<R::Answer, CallError> {
    let mut unknown: Option<String> = None;
    let mut pause = AGAIN_MIN;
    loop {
        let group = request.group(node).await?;
        // Before the attempt: a leader who is found meanwhile ends the wait at once.
        let role = node.replica().and_then(|replica| replica.group(group)).map(|handle| handle.role());
        match attempt(node, group, &request, deadline).await {
            Err(CallError::NotHere { .. }) => {}
            Err(CallError::Unknown(why)) if request.is_repeatable() => unknown = Some(why),
            outcome => return after_doubt(unknown, outcome),
        }
        if Instant::now() + pause >= deadline {
            return Err(unknown.map_or(CallError::NotHere { leader: None }, CallError::Unknown));
        }
        wait_for_leader(role, pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// What a caller is told of the last attempt, when an earlier one may have been applied. That something is gone, or is there already,
/// may be the earlier one's doing: a success would be taken for a failure.
fn after_doubt<T>(unknown: Option<String>, outcome: Result<T, CallError>) -> Result<T, CallError> {
    let doubtful = match &outcome {
        Err(CallError::Rejected(rejection)) => matches!(rejection.code, Code::NotFound | Code::AlreadyExists),
        Err(CallError::Status(status)) => matches!(status.code(), tonic::Code::NotFound | tonic::Code::AlreadyExists),
        _ => false,
    };
    match (unknown, outcome) {
        (Some(why), Err(_)) if doubtful => Err(CallError::Unknown(why)),
        (_, outcome) => outcome,
    }
}

async fn attempt<R: GroupCall>(
    node: &Arc<Node>,
    group: GroupId,
    request: &R,
    deadline: Instant,
) -> Result<R::Answer, CallError> {
    if let Ok(term) = node.shells.term(group) {
        let here = Here { node: node.clone(), term, deadline };
        return request.clone().on_leader(here).await;
    }
    let Some(leader) = leader_elsewhere(node, group) else { return Err(CallError::NotHere { leader: None }) };
    let carried = node.neighbours.carry(leader, R::METHOD, request.encode_to_vec().into(), deadline);
    let body = tokio::select! {
        body = carried => body?,
        () = ousted(node, group, leader) => {
            return Err(CallError::Unknown(format!("node {leader} lost the leadership while it had the call")));
        }
    };
    R::Answer::decode(body).map_err(|error| {
        CallError::Fatal(format!("the answer of node {leader} to {} does not decode: {error}", R::METHOD))
    })
}

/// A call that another node carried here: answered if this node leads the group, and otherwise handed back.
pub async fn serve_local<R: GroupCall>(node: &Arc<Node>, body: Bytes, deadline: Instant) -> Result<Bytes, CallError> {
    let request = R::decode(body)
        .map_err(|error| CallError::Fatal(format!("a carried {} does not decode: {error}", R::METHOD)))?;
    let group = request.group(node).await?;
    let term = node.shells.term(group).map_err(|_| CallError::NotHere { leader: leader_elsewhere(node, group) })?;
    let here = Here { node: node.clone(), term, deadline };
    Ok(request.on_leader(here).await?.encode_to_vec().into())
}

/// The leader of a group, if it is another node.
pub fn leader_elsewhere(node: &Node, group: GroupId) -> Option<u64> {
    let replica = node.replica()?;
    if replica.group(group).is_some_and(|group| group.stopped().is_some()) {
        return anybody(node);
    }
    replica.leader_of(group).filter(|leader| *leader != node.id())
}

/// A node that may lead a group that has stopped here: each other one in turn, because here nobody hears of its leaders any more.
fn anybody(node: &Node) -> Option<u64> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let peers = node.neighbours.transport.peers().list();
    let others: Vec<u64> = peers.into_iter().map(|peer| peer.node_id).filter(|id| *id != node.id()).collect();
    (!others.is_empty()).then(|| others[TURN.fetch_add(1, Ordering::Relaxed) % others.len()])
}

/// Done a little after another node than `leader` is known to lead.
async fn ousted(node: &Node, group: GroupId, leader: u64) {
    let Some(handle) = node.replica().and_then(|replica| replica.group(group)) else {
        return std::future::pending().await;
    };
    let mut role = handle.role();
    let other = |role: &Role| match role {
        Role::Leader { .. } => true,
        Role::Follower { leader: Some(now) } => *now != leader,
        Role::Follower { leader: None } => false,
    };
    if role.wait_for(other).await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(OUSTED_GRACE).await;
}

/// Until the group's role changes here, at most so long.
async fn wait_for_leader(role: Option<watch::Receiver<Role>>, at_most: Duration) {
    let Some(mut role) = role else {
        return tokio::time::sleep(at_most).await;
    };
    // Either way the caller looks again. A group that has ended changes no more.
    if let Ok(Err(_)) = tokio::time::timeout(at_most, role.changed()).await {
        tokio::time::sleep(at_most).await;
    }
}

#[cfg(test)]
mod tests {
    use stanchion_engine::Rejection;
    use stanchion_proto::temporal::workflowservice::v1 as api;

    use super::*;

    fn refused(code: Code) -> Result<(), CallError> {
        Err(CallError::Rejected(Rejection::new(code, "no")))
    }

    #[test]
    fn a_refusal_that_may_be_the_first_attempts_doing_is_unknown() {
        let doubt = || Some("node 2 was lost".to_owned());
        for code in [Code::NotFound, Code::AlreadyExists] {
            assert!(matches!(after_doubt(doubt(), refused(code)), Err(CallError::Unknown(_))), "{code:?}");
            assert!(matches!(after_doubt(None, refused(code)), Err(CallError::Rejected(_))), "{code:?}");
        }
        let carried = Err::<(), _>(CallError::Status(tonic::Status::not_found("no")));
        assert!(matches!(after_doubt(doubt(), carried), Err(CallError::Unknown(_))));
        assert!(matches!(after_doubt(doubt(), refused(Code::InvalidArgument)), Err(CallError::Rejected(_))));
        assert!(after_doubt(doubt(), Ok(())).is_ok());
    }

    #[test]
    fn what_nothing_fences_is_not_repeated() {
        assert!(!api::RespondActivityTaskCompletedByIdRequest::default().is_repeatable());
        assert!(!api::RespondActivityTaskFailedByIdRequest::default().is_repeatable());
        assert!(!api::RespondActivityTaskCanceledByIdRequest::default().is_repeatable());
        assert!(!api::SignalWithStartWorkflowExecutionRequest::default().is_repeatable());
        assert!(api::RecordActivityTaskHeartbeatByIdRequest::default().is_repeatable());
        assert!(api::RespondActivityTaskCompletedRequest::default().is_repeatable());
        assert!(api::StartWorkflowExecutionRequest::default().is_repeatable());
    }
}
