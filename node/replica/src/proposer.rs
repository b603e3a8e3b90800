//! Commands into entries: batches what waits, keeps a few entries in flight, and sorts the outcomes.
//!
//! There is no task here. Whoever finds room in flight makes the next entry: the caller who queued a command, or the state machine
//! when it has answered an earlier entry. So a lone command is proposed at once, by its caller, and under load the entries fill up
//! by themselves while earlier ones are on their way.
//!
//! ```text
//!   propose ─▶ [ c9 c8 c7 ] ─▶ entry {c5 c6} ─┐
//!                 waiting      entry {c4}    ─┼─▶ Raft ─▶ apply ─▶ replies, and the next entry
//!              (bytes bound)   entry {c1..3} ─┘
//!                              (at most `entries_in_flight_max`)
//! ```
//!
//! Every entry is fenced with the term that its commands were proposed in: after a change of leader none of them can be appended.
//!
//! Never: a command whose proposer is told "not applied" while it may be; a `now` that is not of the group's clock (see `clock`).
//!
//! Called by [`crate::GroupHandle::propose`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use prost::Message;
use stanchion_engine::limits::Limits;
use stanchion_engine::{Rejection, Reply, mutant};
use stanchion_proto::command::command::Kind;
use stanchion_proto::command::{Bounds, Command, Entry};
use stanchion_proto::temporal::enums::v1::CommandType;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::effects::Shared;
use crate::error::ProposeError;
use crate::options::ReplicaOptions;
use crate::types::{Callback, Data, LeaderId, Raft, TermId, TypeConfig};

/// Whether the command's depth depends on what a client sent. The busiest kinds do not.
fn may_nest_deeply(command: &Command) -> bool {
    match &command.kind {
        Some(
            Kind::StartWorkflowTask(_)
            | Kind::TimeoutWorkflowTask(_)
            | Kind::StartActivityTask(_)
            | Kind::CompleteActivityTask(_)
            | Kind::HeartbeatActivityTask(_)
            | Kind::FireTimers(_)
            | Kind::SignalWorkflow(_),
        ) => false,
        Some(Kind::StartWorkflow(start)) => {
            start.request.as_ref().is_some_and(|request| request.continued_failure.is_some())
        }
        Some(Kind::CompleteWorkflowTask(complete)) => complete.request.as_ref().is_some_and(|request| {
            let plain = |kind| {
                matches!(
                    kind,
                    CommandType::ScheduleActivityTask
                        | CommandType::StartTimer
                        | CommandType::CompleteWorkflowExecution
                )
            };
            !request.messages.is_empty() || request.commands.iter().any(|command| !plain(command.command_type()))
        }),
        _ => true,
    }
}

/// Of the planted bug `AckBeforeCommit`: how long a commit may take before its caller is told that it is done.
const HASTE: Duration = Duration::from_millis(20);

fn hasty_reply(command: &Command) -> Option<Reply> {
    match &command.kind {
        Some(Kind::SignalWorkflow(_)) => Some(Reply::Signaled { link: None }),
        Some(Kind::CompleteActivityTask(_)) => Some(Reply::Done),
        _ => None,
    }
}

/// Protobuf tag of `Entry.commands`: field 1, length-delimited.
const COMMANDS_TAG: u8 = 0x0a;

type Answer = oneshot::Sender<Result<Reply, ProposeError>>;

/// See the module. One a group.
pub(crate) struct Proposer {
    raft: Raft,
    shared: Arc<Shared>,
    runtime: Handle,
    limits: Arc<Limits>,
    bounds: Option<Bounds>,
    /// How long a command may wait for its turn.
    patience: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Of `waiting`.
    bytes: u64,
    /// Number of the command that comes next. Those in `waiting` are in order.
    next: u64,
    in_flight: u64,
    /// Somebody is making entries and will look again before he stops.
    draining: bool,
    /// The group's core has ended.
    dead: Option<String>,
}

struct Waiting {
    number: u64,
    term: TermId,
    /// One element of `Entry.commands`, with tag and length.
    encoded: Vec<u8>,
    answer: Answer,
}

struct Withdraw<'p> {
    proposer: &'p Proposer,
    number: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.proposer.take_back(self.number);
    }
}

struct Batch {
    term: TermId,
    data: Vec<u8>,
    answers: Vec<Answer>,
}

/// An entry's place in flight.
struct Place(Arc<Proposer>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queue.lock().in_flight -= 1;
        self.0.drain();
    }
}

impl Proposer {
    pub fn new(raft: Raft, shared: Arc<Shared>, runtime: Handle, options: &ReplicaOptions) -> Self {
        Self {
            raft,
            shared,
            runtime,
            limits: options.limits.clone(),
            bounds: options.bounds(),
            patience: Duration::from_millis(2 * options.timings.election_max_ms),
            queue: Mutex::new(Queue::default()),
        }
    }

    pub async fn propose(self: &Arc<Self>, term: TermId, command: Command) -> Result<Reply, ProposeError> {
        let bytes_max = self.budget(&command);
        let may_nest_deeply = may_nest_deeply(&command);
        let hasty = if mutant!(AckBeforeCommit) { hasty_reply(&command) } else { None };
        let encoded = self.encode(command);
        if may_nest_deeply && let Err(error) = Entry::decode(encoded.as_slice()) {
            // Once committed, no replica could read it.
            let message = format!("the request nests too deeply to be recorded: {error}");
            return Ok(Reply::Rejected(Rejection::invalid(message)));
        }
        let (answer, mut reply) = oneshot::channel();
        let number = {
            let mut queue = self.queue.lock();
            if let Some(reason) = &queue.dead {
                return Err(ProposeError::Fatal(reason.clone()));
            }
            // A queue that is empty takes anything: a single command must not be too large for ever.
            if queue.bytes > 0 && queue.bytes + encoded.len() as u64 > bytes_max {
                metrics::counter!("stanchion_proposals_shed_total").increment(1);
                return Err(ProposeError::Overloaded { waiting_bytes: queue.bytes, bytes_max });
            }
            let number = queue.next;
            queue.next += 1;
            queue.bytes += encoded.len() as u64;
            queue.waiting.push_back(Waiting { number, term, encoded, answer });
            number
        };
        metrics::counter!("stanchion_proposals_total").increment(1);
        self.drain();
        if let Some(hasty) = hasty {
            let outcome = tokio::time::timeout(HASTE, &mut reply).await.unwrap_or(Ok(Ok(hasty)));
            return outcome.unwrap_or_else(|_| Err(ProposeError::Unknown("the group stopped".into())));
        }
        // A caller who gives up while his command waits takes it with him.
        let _withdraw = Withdraw { proposer: self, number };
        let outcome = match tokio::time::timeout(self.patience, &mut reply).await {
            Ok(outcome) => outcome,
            // What is in flight hangs, so the majority may be out of reach. A command that is not yet proposed never will be.
            Err(_) if self.take_back(number) => return Err(ProposeError::NotLeader { leader: None }),
            Err(_) => reply.await,
        };
        outcome.unwrap_or_else(|_| Err(ProposeError::Unknown("the group stopped before it answered".into())))
    }

    /// Removes a command that still waits. False if it is in flight or done.
    fn take_back(&self, number: u64) -> bool {
        let mut queue = self.queue.lock();
        let found = queue.waiting.binary_search_by_key(&number, |waiting| waiting.number);
        let taken = found.ok().and_then(|place| queue.waiting.remove(place));
        if let Some(waiting) = &taken {
            queue.bytes -= waiting.encoded.len() as u64;
        }
        taken.is_some()
    }

    /// Bytes that may wait when this command comes. A quarter of the queue is kept for what finishes work already begun.
    fn budget(&self, command: &Command) -> u64 {
        let all = self.limits.proposer_queue_bytes_max;
        match command.kind {
            Some(Kind::StartWorkflow(_) | Kind::SignalWorkflow(_) | Kind::SignalWithStartWorkflow(_)) => all / 4 * 3,
            _ => all,
        }
    }

    /// Stamps what is not deterministic.
    fn encode(&self, mut command: Command) -> Vec<u8> {
        command.now_unix_nanos = self.shared.now().0;
        if command.seed.is_empty() {
            command.seed = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        }
        if command.bounds.is_none() {
            command.bounds = self.bounds;
        }
        let length = command.encoded_len();
        let mut encoded = Vec::with_capacity(length + 6);
        encoded.push(COMMANDS_TAG);
        prost::encoding::encode_varint(length as u64, &mut encoded);
        command.encode_raw(&mut encoded);
        encoded
    }

    /// Proposes entries while something waits and there is room in flight.
    fn drain(self: &Arc<Self>) {
        {
            let mut queue = self.queue.lock();
            if queue.draining {
                // Whoever drains looks again: nothing is left behind, and nothing recurses.
                return;
            }
            queue.draining = true;
        }
        while let Some(batch) = self.next_batch() {
            self.submit(batch);
        }
    }

    /// Takes the next entry's commands and its place in flight; or ends the draining, under the same lock.
    fn next_batch(&self) -> Option<Batch> {
        let mut queue = self.queue.lock();
        if let Some(reason) = queue.dead.clone() {
            queue.bytes = 0;
            for waiting in std::mem::take(&mut queue.waiting) {
                let _ = waiting.answer.send(Err(ProposeError::Fatal(reason.clone())));
            }
        }
        let may = queue.in_flight < self.limits.entries_in_flight_max;
        let Some(first) = queue.waiting.front().filter(|_| may) else {
            queue.draining = false;
            return None;
        };
        let mut batch = Batch { term: first.term, data: Vec::new(), answers: Vec::new() };
        while let Some(next) = queue.waiting.front() {
            let fits = batch.data.len() + next.encoded.len() <= self.limits.entry_bytes_max as usize
                && (batch.answers.len() as u64) < self.limits.entry_commands_max
                && next.term == batch.term;
            if !fits && !batch.answers.is_empty() {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            queue.bytes -= next.encoded.len() as u64;
            match batch.data.is_empty() {
                true => batch.data = next.encoded,
                false => batch.data.extend_from_slice(&next.encoded),
            }
            batch.answers.push(next.answer);
        }
        queue.in_flight += 1;
        Some(batch)
    }

    fn submit(self: &Arc<Self>, batch: Batch) {
        metrics::histogram!("stanchion_entry_commands").record(batch.answers.len() as f64);
        let place = Place(self.clone());
        let node = self.shared.node;
        let answers = batch.answers;
        let callback = Callback(Box::new(move |result: ClientWriteResult<TypeConfig>| {
            answer(node, result, answers);
            drop(place);
        }));
        let this = self.clone();
        let leader = LeaderId { term: batch.term.0, node_id: node };
        let mut write = Box::pin(tokio::task::unconstrained(async move {
            let write = this.raft.write(Data(batch.data.into())).responder(callback).with_leader(leader);
            if let Err(fatal) = write.await {
                this.die(fatal);
            }
        }));
        // It only puts a message into a channel with room for many more than may be in flight, so it is done at once.
        if write.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending {
            self.runtime.spawn(write);
        }
    }

    fn die(self: &Arc<Self>, fatal: Fatal<TypeConfig>) {
        self.queue.lock().dead = Some(fatal.to_string());
        self.drain();
    }
}

fn answer(node: u64, result: ClientWriteResult<TypeConfig>, answers: Vec<Answer>) {
    let error = match result {
        Ok(response) if response.data.replies.len() == answers.len() => {
            for (answer, reply) in answers.into_iter().zip(response.data.replies) {
                // A caller who gave up has lost interest in the reply, not the command its effect.
                let _ = answer.send(Ok(reply));
            }
            return;
        }
        Ok(response) => {
            ProposeError::Unknown(format!("{} replies for {} commands", response.data.replies.len(), answers.len()))
        }
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_id.filter(|leader| *leader != node) }
        }
        Err(discarded @ ClientWriteError::LogEntryDiscarded(_)) => ProposeError::Unknown(discarded.to_string()),
        Err(other @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_))) => {
            ProposeError::Unknown(other.to_string())
        }
    };
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}
