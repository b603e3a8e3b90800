//! Carries outbox messages between groups: the leader shell's way to the router.
//!
//! The shell is made before the node that the router needs, so the node is put in later.
//!
//! Never: a delivery to a node that does not lead the group (it answers "not here", and the router looks on).
//!
//! Called by `shell/outbox`.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use stanchion_engine::{GroupId, Slot};
use stanchion_proto::command::OutboxMark;
use stanchion_proto::node::{DeliverOutboxReply, DeliverOutboxRequest};

use crate::node::Node;
use crate::routing::{self, GroupCall, Here};
use crate::shell::{CallError, Courier};

#[derive(Default)]
pub struct Carrier {
    node: OnceLock<Weak<Node>>,
}

impl Carrier {
    pub fn set(&self, node: &Arc<Node>) {
        // Set once, when the node is made.
        let _ = self.node.set(Arc::downgrade(node));
    }

    fn node(&self) -> Option<Arc<Node>> {
        self.node.get().and_then(Weak::upgrade)
    }
}

impl Courier for Carrier {
    fn group_of(&self, slot: Slot) -> GroupId {
        let node = self.node();
        node.as_ref().and_then(|node| node.replica()).map_or(GroupId::META, |replica| replica.group_of(slot))
    }

    fn deliver(
        &self,
        request: DeliverOutboxRequest,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Vec<OutboxMark>, CallError>> {
        let node = self.node();
        async move {
            let node = node.ok_or(CallError::NotHere { leader: None })?;
            Ok(routing::call(&node, request, deadline).await?.marks)
        }
        .boxed()
    }
}

/// Repeatable: the receiver drops what it has applied.
impl GroupCall for DeliverOutboxRequest {
    const METHOD: &'static str = "DeliverOutbox";
    type Answer = DeliverOutboxReply;

    /// Made by a leader, not by a client.
    async fn check(&mut self, _node: &Arc<Node>) -> Result<(), CallError> {
        Ok(())
    }

    async fn group(&self, _node: &Arc<Node>) -> Result<GroupId, CallError> {
        Ok(GroupId(self.group))
    }

    async fn on_leader(self, at: Here) -> Result<DeliverOutboxReply, CallError> {
        if !at.term.owns(&self.deliveries) {
            return Err(CallError::NotHere { leader: None });
        }
        Ok(DeliverOutboxReply { marks: at.term.deliver(self.deliveries, false).await? })
    }
}
