//! Delivers the messages that runs of this group have for others: one drainer a term, a lane for each group that receives.
//!
//! ```text
//! effect, or the table at the start of the term --> lane of the destination's group, in order
//!     lane: a batch at a time --same group--> DeliverOutbox here, which deletes the rows in the same step
//!                             --other group--> Peer.Call to its leader, DeliverOutbox there --> AckOutbox here, a little later
//!     failed: the batch stays in the lane, which waits longer each time; other lanes go on
//! ```
//!
//! The drainer holds the names of messages; a message is read when it leaves. Nothing runs while nothing waits. What is delivered twice
//! (a new leader, a lost answer) is dropped by the receiver.
//!
//! Never: a message before it is committed; a message of a pair of slots before the one in front of it; a row deleted that its
//! receiver has not applied.
//!
//! Called by the term; [`deliver`] also for deliveries that another node carried here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message as _;
use stanchion_engine::effects::OutboxKey;
use stanchion_engine::{GroupId, Reply, Slot, mutant, outbox};
use stanchion_proto::command::{AckOutbox, Command, DeliverOutbox, OutboxDelivery, OutboxMark, command::Kind};
use stanchion_proto::node::DeliverOutboxRequest;
use stanchion_proto::row::outbox_message::Kind as Message;
use stanchion_replica::off_thread;
use tokio::sync::Notify;

use super::CallError;
use super::term::LeaderTerm;

/// Names read in one step while loading.
const LOAD_ROWS: usize = 500;
/// One try to reach the leader of another group; the router looks for it meanwhile.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);
/// Waits after a delivery that failed.
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// Rows whose messages were applied elsewhere go this much later, many at a time: nobody waits for that.
const ACK_AFTER: Duration = Duration::from_millis(100);

/// The way to the leaders of other groups. Implemented by the node over its router.
pub trait Courier: Send + Sync + 'static {
    /// The group that a slot belongs to now.
    fn group_of(&self, slot: Slot) -> GroupId;

    /// Carries a delivery to the leader of its group, wherever that is. What the receivers have applied.
    fn deliver(
        &self,
        request: DeliverOutboxRequest,
        deadline: Instant,
    ) -> BoxFuture<'static, Result<Vec<OutboxMark>, CallError>>;
}

/// Names of messages on their way to the drainer.
#[derive(Default)]
pub struct OutboxMail {
    arrived: Mutex<Vec<OutboxKey>>,
    any: Notify,
    /// The table was not read to its end: it holds messages whose names did not come.
    more: AtomicBool,
}

/// Two slots, and the last message between them that its receiver has applied.
type Applied = BTreeMap<(Slot, Slot), u64>;

impl OutboxMail {
    pub fn add(&self, keys: Vec<OutboxKey>) {
        if !keys.is_empty() {
            self.arrived.lock().extend(keys);
            self.any.notify_one();
        }
    }
}

impl LeaderTerm {
    /// Reads the names of messages that wait, as many as there is room for. Those that `applied` says need no delivery any more.
    pub(super) fn load_outbox(&self, applied: &Applied) -> Result<(), CallError> {
        let reader = self.handle.reader();
        let mut room = in_memory_max(self);
        for slot in self.slots() {
            let mut after = None;
            loop {
                let mut keys = outbox::waiting(&reader, slot, after, LOAD_ROWS)?;
                let Some(last) = keys.last() else { break };
                after = Some(*last);
                keys.retain(|key| !is_applied(applied, key));
                if keys.len() > room {
                    keys.truncate(room);
                    self.outbox.more.store(true, Ordering::Release);
                    self.outbox.add(keys);
                    self.outbox.any.notify_one();
                    return Ok(());
                }
                room -= keys.len();
                self.outbox.add(keys);
            }
        }
        Ok(())
    }

    /// Messages for runs of this group: applied here. What is now applied of each pair of slots.
    pub async fn deliver(&self, deliveries: Vec<OutboxDelivery>, own: bool) -> Result<Vec<OutboxMark>, CallError> {
        let deliver = DeliverOutbox { deliveries, acknowledge: own, reservations: Vec::new() };
        let command = Command { kind: Some(Kind::DeliverOutbox(deliver)), ..Default::default() };
        match self.propose(command).await? {
            Reply::Delivered { marks } => Ok(marks.iter().map(mark_of).collect()),
            reply => Err(CallError::Fatal(format!("a delivery was answered with {reply:?}"))),
        }
    }

    /// The slots are all this group's.
    pub fn owns(&self, deliveries: &[OutboxDelivery]) -> bool {
        let ranges = self.handle.slots();
        deliveries.iter().all(|delivery| {
            ranges.iter().any(|(first, last)| (first.0.into()..=last.0.into()).contains(&delivery.destination_slot))
        })
    }
}

/// A workflow task that a message will probably schedule.
#[derive(PartialEq)]
pub(super) enum Scheduled<'m> {
    /// Of a run that the message starts.
    First { queue: &'m str },
    /// Of a run that waits for what the message says.
    Next { workflow_id: &'m str, run_id: &'m str },
}

/// The workflow tasks that messages will schedule, each once, with their namespace: pollers may be held for them. None where messages of
/// several namespaces travel together: a held poller is known by its queue's name alone.
pub(super) fn tasks_scheduled(deliveries: &[OutboxDelivery]) -> Vec<(&str, Scheduled<'_>)> {
    let rows = || deliveries.iter().filter_map(|delivery| delivery.row.as_ref());
    let mut namespaces = rows().map(|row| &row.namespace_id);
    let first = namespaces.next();
    if namespaces.any(|namespace| Some(namespace) != first) {
        return Vec::new();
    }
    let mut tasks = Vec::new();
    for row in rows() {
        let next = |run_id| Scheduled::Next { workflow_id: row.workflow_id.as_str(), run_id };
        let task = match row.message.as_ref().and_then(|message| message.kind.as_ref()) {
            Some(Message::StartChild(m)) => {
                let queue = m.request.as_ref().and_then(|request| request.task_queue.as_ref());
                queue.map(|queue| Scheduled::First { queue: queue.name.as_str() })
            }
            Some(Message::ChildStarted(m)) => Some(next(m.run_id.as_str())),
            Some(Message::ChildStartFailed(m)) => Some(next(m.run_id.as_str())),
            Some(Message::ChildClosed(m)) => Some(next(m.run_id.as_str())),
            Some(Message::ExternalSignaled(m)) => Some(next(m.run_id.as_str())),
            Some(Message::ExternalCancelRequested(m)) => Some(next(m.run_id.as_str())),
            Some(Message::SignalExternal(m)) => Some(next(m.run_id.as_str())),
            Some(Message::CancelExternal(m)) => Some(next(m.run_id.as_str())),
            _ => None,
        };
        if let Some(task) = task {
            let task = (row.namespace_id.as_str(), task);
            // Of two messages to one run the first schedules the task; two runs that are started need a poller each.
            if matches!(task.1, Scheduled::First { .. }) || !tasks.contains(&task) {
                tasks.push(task);
            }
        }
    }
    tasks
}

fn is_applied(applied: &Applied, key: &OutboxKey) -> bool {
    applied.get(&(key.source, key.destination)).is_some_and(|last| key.sequence <= *last)
}

fn mark_of(key: &OutboxKey) -> OutboxMark {
    OutboxMark { source_slot: key.source.0.into(), destination_slot: key.destination.0.into(), sequence: key.sequence }
}

fn in_memory_max(term: &LeaderTerm) -> usize {
    usize::try_from(term.parts.limits.outbox_in_memory_max).unwrap_or(usize::MAX)
}

/// Messages for one group.
#[derive(Default)]
struct Lane {
    waiting: BTreeSet<OutboxKey>,
    /// The last one that left: the next batch begins behind it, so that no pair of slots holds up the others.
    cursor: Option<OutboxKey>,
    busy: bool,
    pause: Duration,
}

impl Lane {
    /// The next messages in order, from the pair of slots behind the cursor's on and then from the front.
    fn next(&self, limit: usize) -> Vec<OutboxKey> {
        let pair_end = self.cursor.map(|cursor| OutboxKey { sequence: u64::MAX, ..cursor });
        let behind = pair_end.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.waiting.range((behind, Bound::Unbounded));
        let front = pair_end.into_iter().flat_map(|end| self.waiting.range(..=end));
        rest.chain(front).take(limit).copied().collect()
    }

    /// The receivers have applied what `marks` say. False if one of `sent` is not among that.
    fn landed(&mut self, sent: &[OutboxKey], marks: &[OutboxMark]) -> bool {
        let applied: BTreeMap<(u32, u32), u64> =
            marks.iter().map(|m| ((m.source_slot, m.destination_slot), m.sequence)).collect();
        let mut all = true;
        for key in sent {
            let pair = (u32::from(key.source.0), u32::from(key.destination.0));
            if applied.get(&pair).is_some_and(|mark| key.sequence <= *mark) {
                self.waiting.remove(key);
            } else {
                all = false;
            }
        }
        self.cursor = if all { sent.last().copied() } else { None };
        all
    }
}

enum Landing {
    /// A lane's batch.
    Batch { group: GroupId, sent: Vec<OutboxKey>, outcome: Result<Vec<OutboxMark>, CallError> },
    /// A lane may try again.
    Rested(GroupId),
    /// Now acknowledge what has gathered.
    AcknowledgeDue,
    /// The rows up to these are gone.
    Acknowledged(Vec<OutboxKey>),
    /// The table was read again.
    Reloaded,
}

/// Delivers until the term is over.
pub(super) async fn drain(term: Arc<LeaderTerm>) {
    let mut drainer = Drainer {
        me: term.group(),
        in_memory_max: in_memory_max(&term),
        term,
        lanes: BTreeMap::new(),
        waiting: 0,
        overflowed: false,
        reloading: false,
        applied: Applied::new(),
        acknowledging: false,
        flights: FuturesUnordered::new(),
    };
    drainer.run().await;
}

struct Drainer {
    me: GroupId,
    in_memory_max: usize,
    term: Arc<LeaderTerm>,
    lanes: BTreeMap<GroupId, Lane>,
    /// Over all lanes, as of the last look.
    waiting: usize,
    /// The table holds messages whose names are not here.
    overflowed: bool,
    reloading: bool,
    /// Applied by other groups; the rows are still there.
    applied: Applied,
    acknowledging: bool,
    flights: FuturesUnordered<BoxFuture<'static, Landing>>,
}

impl Drainer {
    async fn run(&mut self) {
        let over = self.term.over.clone();
        let term = self.term.clone();
        loop {
            tokio::select! {
                () = over.cancelled() => return,
                () = term.outbox.any.notified() => {}
                Some(landing) = self.flights.next(), if !self.flights.is_empty() => self.land(landing),
            }
            self.take_in();
            self.launch();
        }
    }

    fn take_in(&mut self) {
        self.overflowed |= self.term.outbox.more.swap(false, Ordering::AcqRel);
        for key in std::mem::take(&mut *self.term.outbox.arrived.lock()) {
            if is_applied(&self.applied, &key) {
                continue;
            }
            if self.waiting >= self.in_memory_max {
                self.overflowed = true;
                continue;
            }
            let lane = self.lanes.entry(self.term.parts.courier.group_of(key.destination)).or_default();
            self.waiting += usize::from(lane.waiting.insert(key));
        }
    }

    fn launch(&mut self) {
        let limits = self.term.parts.limits.clone();
        let messages_max = usize::try_from(limits.outbox_batch_messages_max).unwrap_or(usize::MAX).max(1);
        for (group, lane) in &mut self.lanes {
            if lane.busy || lane.waiting.is_empty() {
                continue;
            }
            lane.busy = true;
            let (term, group, keys, me) = (self.term.clone(), *group, lane.next(messages_max), self.me);
            self.flights.push(Box::pin(async move { deliver_batch(term, me, group, keys).await }));
        }
        if self.overflowed && !self.reloading && self.waiting * 2 < self.in_memory_max {
            self.overflowed = false;
            self.reloading = true;
            let (term, applied) = (self.term.clone(), self.applied.clone());
            self.flights.push(Box::pin(async move {
                let group = term.group();
                match off_thread(move || term.load_outbox(&applied)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::error!(%group, %error, "the outbox could not be read"),
                    Err(error) => tracing::error!(%group, %error, "reading the outbox ended early"),
                }
                Landing::Reloaded
            }));
        }
        if !self.applied.is_empty() && !self.acknowledging {
            self.acknowledging = true;
            // Until then more may gather.
            self.flights.push(Box::pin(async {
                tokio::time::sleep(ACK_AFTER).await;
                Landing::AcknowledgeDue
            }));
        }
    }

    fn land(&mut self, landing: Landing) {
        match landing {
            Landing::Batch { group, sent, outcome } => self.batch_landed(group, &sent, outcome),
            Landing::Rested(group) => {
                if let Some(lane) = self.lanes.get_mut(&group) {
                    lane.busy = false;
                }
                self.move_lane(group);
            }
            Landing::Reloaded => self.reloading = false,
            Landing::AcknowledgeDue => self.acknowledge(),
            Landing::Acknowledged(gone) => {
                self.acknowledging = false;
                for key in gone {
                    let pair = (key.source, key.destination);
                    if self.applied.get(&pair) == Some(&key.sequence) {
                        self.applied.remove(&pair);
                    }
                }
            }
        }
    }

    fn batch_landed(&mut self, group: GroupId, sent: &[OutboxKey], outcome: Result<Vec<OutboxMark>, CallError>) {
        let Some(lane) = self.lanes.get_mut(&group) else { return };
        let before = lane.waiting.len();
        let fine = match outcome {
            Ok(marks) => {
                let all = lane.landed(sent, &marks);
                if group != self.me {
                    marks.iter().for_each(|mark| self.note(mark));
                }
                if !all {
                    tracing::warn!(%group, "messages were delivered with a gap in front of them; the outbox is read again");
                    self.overflowed = true;
                }
                all
            }
            Err(error) => {
                tracing::debug!(%group, %error, "messages were not delivered; they are tried again");
                lane.cursor = None;
                false
            }
        };
        let Some(lane) = self.lanes.get_mut(&group) else { return };
        self.waiting -= before - lane.waiting.len();
        if fine {
            lane.busy = false;
            lane.pause = Duration::ZERO;
            return;
        }
        lane.pause = (lane.pause * 2).clamp(AGAIN_MIN, AGAIN_MAX);
        let pause = lane.pause;
        self.flights.push(Box::pin(async move {
            tokio::time::sleep(pause).await;
            Landing::Rested(group)
        }));
    }

    /// Slots may have moved to another group meanwhile.
    fn move_lane(&mut self, group: GroupId) {
        let Some(lane) = self.lanes.get_mut(&group) else { return };
        let courier = self.term.parts.courier.clone();
        let moved: Vec<_> =
            lane.waiting.iter().filter(|key| courier.group_of(key.destination) != group).copied().collect();
        for key in moved {
            lane.waiting.remove(&key);
            self.waiting -= 1;
            self.term.outbox.add(vec![key]);
        }
    }

    fn note(&mut self, mark: &OutboxMark) {
        let slot = |number: u32| Slot(u16::try_from(number).unwrap_or(u16::MAX));
        let known = self.applied.entry((slot(mark.source_slot), slot(mark.destination_slot))).or_default();
        *known = (*known).max(mark.sequence);
    }

    fn acknowledge(&mut self) {
        let keys: Vec<_> = self
            .applied
            .iter()
            .map(|(&(source, destination), &sequence)| OutboxKey { source, destination, sequence })
            .collect();
        let term = self.term.clone();
        self.flights.push(Box::pin(async move {
            let ack = AckOutbox { marks: keys.iter().map(mark_of).collect() };
            let command = Command { kind: Some(Kind::AckOutbox(ack)), ..Default::default() };
            match term.propose(command).await {
                Ok(_) => Landing::Acknowledged(keys),
                Err(error) => {
                    tracing::debug!(group = %term.group(), %error, "applied messages stay in the outbox for now");
                    tokio::time::sleep(AGAIN_MAX).await;
                    Landing::AcknowledgeDue
                }
            }
        }));
    }
}

async fn deliver_batch(term: Arc<LeaderTerm>, me: GroupId, group: GroupId, keys: Vec<OutboxKey>) -> Landing {
    let bytes_max = usize::try_from(term.parts.limits.outbox_batch_bytes_max).unwrap_or(usize::MAX);
    let (sent, gone, deliveries) = match read_batch(&term, keys, bytes_max) {
        Ok(read) => read,
        Err(error) => return Landing::Batch { group, sent: Vec::new(), outcome: Err(error) },
    };
    let count = deliveries.len() as u64;
    let outcome = if deliveries.is_empty() {
        Ok(Vec::new())
    } else if group == me {
        term.deliver(deliveries, true).await
    } else {
        let request = DeliverOutboxRequest { group: group.0, deliveries };
        let within = if mutant!(DropOutboxMessage) { DELIVER_WITHIN / 20 } else { DELIVER_WITHIN };
        term.parts.courier.deliver(request, Instant::now() + within).await
    };
    let outcome = match outcome {
        Err(_) if mutant!(DropOutboxMessage) && group != me => Ok(sent.iter().map(mark_of).collect()),
        outcome => outcome,
    };
    if outcome.is_ok() {
        metrics::counter!("stanchion_outbox_delivered_total").increment(count);
    }
    // A row that has gone was applied; counted as such, so that its name goes too.
    let outcome = outcome.map(|mut marks| {
        for key in &gone {
            let pair =
                |m: &OutboxMark| (m.source_slot, m.destination_slot) == (key.source.0.into(), key.destination.0.into());
            if !marks.iter().any(pair) {
                marks.push(mark_of(key));
            }
        }
        marks
    });
    Landing::Batch { group, sent: sent.into_iter().chain(gone).collect(), outcome }
}

type Read = (Vec<OutboxKey>, Vec<OutboxKey>, Vec<OutboxDelivery>);

/// Messages to send, names whose messages have gone, and the messages.
fn read_batch(term: &LeaderTerm, keys: Vec<OutboxKey>, bytes_max: usize) -> Result<Read, CallError> {
    let reader = term.handle.reader();
    let (mut sent, mut gone, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0;
    for key in keys {
        let Some(row) = outbox::message(&reader, key)? else {
            gone.push(key);
            continue;
        };
        let size = row.encoded_len();
        if !deliveries.is_empty() && bytes + size > bytes_max {
            break;
        }
        bytes += size;
        sent.push(key);
        deliveries.push(OutboxDelivery {
            source_slot: key.source.0.into(),
            destination_slot: key.destination.0.into(),
            sequence: key.sequence,
            row: Some(row),
        });
    }
    Ok((sent, gone, deliveries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(destination: u16, sequence: u64) -> OutboxKey {
        OutboxKey { source: Slot(1), destination: Slot(destination), sequence }
    }

    fn lane(keys: &[OutboxKey]) -> Lane {
        Lane { waiting: keys.iter().copied().collect(), ..Lane::default() }
    }

    #[test]
    fn batches_go_round_so_that_no_pair_of_slots_holds_up_the_others() {
        let mut lane = lane(&[key(1, 1), key(1, 2), key(2, 1), key(3, 1)]);
        assert_eq!(lane.next(2), [key(1, 1), key(1, 2)]);
        assert!(lane.landed(&[key(1, 1), key(1, 2)], &[mark_of(&key(1, 2))]));
        lane.waiting.insert(key(1, 3));
        assert_eq!(lane.next(2), [key(2, 1), key(3, 1)]);
        assert!(lane.landed(&[key(2, 1), key(3, 1)], &[mark_of(&key(2, 1)), mark_of(&key(3, 1))]));
        assert_eq!(lane.next(2), [key(1, 3)]);
    }

    #[test]
    fn what_is_not_applied_stays_and_goes_first() {
        let mut lane = lane(&[key(1, 1), key(2, 2)]);
        assert!(!lane.landed(&[key(1, 1), key(2, 2)], &[mark_of(&key(1, 1)), mark_of(&key(2, 0))]));
        assert_eq!(lane.next(9), [key(2, 2)]);
    }

    #[test]
    fn a_message_below_the_mark_needs_no_delivery() {
        let applied = Applied::from([((Slot(1), Slot(2)), 5)]);
        assert!(is_applied(&applied, &key(2, 5)));
        assert!(!is_applied(&applied, &key(2, 6)) && !is_applied(&applied, &key(3, 1)));
    }
}
