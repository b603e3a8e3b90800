//! Carries offers to the matchers that own their queues: into this process's matcher, or to another node in batches.
//!
//! An offer that does not arrive is not an error: the window repeats it. A sticky task whose queue nobody polls comes back, to be
//! offered to any worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use stanchion_dispatch::{QueueKey, Source};
use stanchion_engine::GroupId;
use stanchion_engine::effects::{Offer, TaskKind, TaskRef};
use stanchion_proto::node::{OfferTasksRequest, OfferTasksResponse, TaskOffer};
use tokio::sync::{Notify, mpsc};

use super::Parts;
use super::pending::queue_of;
use super::poll_response::task_name;
use crate::polls::task_of;

/// Batches waiting for one node. Beyond it offers are dropped; the window repeats them.
const QUEUE_BATCHES: usize = 256;
const CALL_WITHIN: Duration = Duration::from_secs(2);

/// The way out of one term.
pub struct OfferCarrier {
    parts: Parts,
    group: GroupId,
    remote: mpsc::Sender<Remote>,
    without_worker: Arc<WithoutWorker>,
}

/// Sticky tasks that other nodes sent back, because nobody polls their queues.
#[derive(Default)]
struct WithoutWorker {
    tasks: Mutex<Vec<TaskRef>>,
    more: Notify,
}

enum Remote {
    Offers(Vec<(u64, Offer)>),
    Withdraw(u64, TaskRef),
}

impl OfferCarrier {
    pub fn new(parts: Parts, group: GroupId) -> Self {
        let (remote, inbox) = mpsc::channel(QUEUE_BATCHES);
        let without_worker = Arc::<WithoutWorker>::default();
        tokio::spawn(pump(parts.clone(), group, inbox, without_worker.clone()));
        Self { parts, group, remote, without_worker }
    }

    /// Sends the offers out. Returns the sticky tasks that this node's own matcher sent back; those of other nodes come by
    /// [`OfferCarrier::without_worker`].
    pub fn offer(&self, offers: Vec<Offer>) -> Vec<TaskRef> {
        let me = self.parts.neighbours.node_id();
        let mut away = Vec::new();
        let mut without_worker = Vec::new();
        for offer in offers {
            let queue = queue_of(&offer);
            let owner = self.parts.neighbours.owner_of(&queue);
            if owner == me {
                let task = offer.sticky.then(|| offer.task.clone());
                if !self.parts.dispatch.offer(queue, offer, Source { node: me, group: self.group }) {
                    without_worker.extend(task);
                }
            } else {
                away.push((owner, offer));
            }
        }
        if !away.is_empty() && self.remote.try_send(Remote::Offers(away)).is_err() {
            tracing::debug!(group = %self.group, "offers to other nodes are behind; they will be repeated");
        }
        without_worker
    }

    /// Waits for sticky tasks that other nodes send back.
    pub async fn without_worker(&self) -> Vec<TaskRef> {
        loop {
            let more = self.without_worker.more.notified();
            let tasks = std::mem::take(&mut *self.without_worker.tasks.lock());
            if !tasks.is_empty() {
                return tasks;
            }
            more.await;
        }
    }

    /// Takes an offer back, so that a matcher does not ask in vain. Only a courtesy.
    pub fn withdraw(&self, queue: &QueueKey, task: &TaskRef) {
        let owner = self.parts.neighbours.owner_of(queue);
        if owner == self.parts.neighbours.node_id() {
            self.parts.dispatch.withdraw(task);
        } else if self.remote.try_send(Remote::Withdraw(owner, task.clone())).is_err() {
            tracing::trace!(group = %self.group, "a withdrawal was dropped");
        }
    }
}

/// Sends what has gathered, a batch a node, while the last batch is on its way.
async fn pump(parts: Parts, group: GroupId, mut inbox: mpsc::Receiver<Remote>, without_worker: Arc<WithoutWorker>) {
    let me = parts.neighbours.node_id();
    let mut gathered = Vec::new();
    while inbox.recv_many(&mut gathered, QUEUE_BATCHES).await > 0 {
        let mut batches: BTreeMap<u64, OfferTasksRequest> = BTreeMap::new();
        let blank = || OfferTasksRequest { node: me, group: group.0, ..Default::default() };
        for item in gathered.drain(..) {
            match item {
                Remote::Offers(offers) => {
                    for (node, offer) in offers {
                        batches.entry(node).or_insert_with(blank).offers.push(to_wire(&offer));
                    }
                }
                Remote::Withdraw(node, task) => {
                    batches.entry(node).or_insert_with(blank).withdrawn.push(task_name(&task));
                }
            }
        }
        let calls = batches.into_iter().map(|(node, batch)| {
            let body = Bytes::from(batch.encode_to_vec());
            parts.neighbours.call(node, "OfferTasks", body, CALL_WITHIN)
        });
        for outcome in futures::future::join_all(calls).await {
            match outcome.map(OfferTasksResponse::decode) {
                Ok(Ok(answer)) if answer.without_worker.is_empty() => {}
                Ok(Ok(answer)) => {
                    without_worker.tasks.lock().extend(answer.without_worker.into_iter().map(task_of));
                    without_worker.more.notify_one();
                }
                Ok(Err(error)) => tracing::error!(%group, %error, "the answer to offers does not decode"),
                Err(status) => tracing::debug!(%group, %status, "offers did not arrive; they will be repeated"),
            }
        }
    }
}

fn to_wire(offer: &Offer) -> TaskOffer {
    TaskOffer {
        task: Some(task_name(&offer.task)),
        is_activity: offer.kind == TaskKind::Activity,
        task_queue: offer.task_queue.clone(),
        sticky: offer.sticky,
        scheduled_unix_nanos: offer.scheduled_at.0,
        priority: offer.priority,
        slot: u32::from(offer.slot.0),
        normal_task_queue: offer.normal_task_queue.clone(),
    }
}
