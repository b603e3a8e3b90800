//! What a worker says about updates in the completion of a workflow task: accepted, rejected, completed.
//!
//! Messages are taken up at the place of their PROTOCOL_MESSAGE command; those without a command come behind all commands. One that
//! does not fit the state of its update fails the workflow task, in the real server's words.
//!
//! Never: an outcome without an acceptance before it; an event in a run that has closed.

use std::collections::BTreeSet;

use prost::Message as _;
use stanchion_proto::row::CompletedUpdateRow;
use stanchion_proto::temporal::command::v1::ProtocolMessageCommandAttributes;
use stanchion_proto::temporal::enums::v1::{EventType, WorkflowTaskFailedCause};
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{
    WorkflowExecutionUpdateAcceptedEventAttributes, WorkflowExecutionUpdateCompletedEventAttributes,
};
use stanchion_proto::temporal::protocol::v1::Message;
use stanchion_proto::temporal::update::v1::{Acceptance, Rejection as Rejected, Request, Response, outcome};

use super::{put, reject, request_message_id, within_total};
use crate::effects::UpdateChange;
use crate::keys::{self, UpdatePart};
use crate::reply::{Rejection, UpdateStatus};
use crate::run::Run;
use crate::run::completion::{CommandFailure, Completion, Stop};
use crate::state::{StateResult, Table};
use crate::transaction::Transaction;
use crate::types::EventId;

/// Well below the nesting at which an event could no longer be decoded.
const CAUSES_MAX: usize = 64;

const PROTOCOL: &str = "temporal.api.update.v1";

/// The messages of a completion that no command has taken up yet.
pub struct Messages<'r> {
    left: Vec<&'r Message>,
    /// A second message with the id of a taken one is no command's to take.
    taken: BTreeSet<&'r str>,
}

impl<'r> Messages<'r> {
    pub fn of(messages: &'r [Message]) -> Self {
        Self { left: messages.iter().collect(), taken: BTreeSet::new() }
    }

    /// The message that a command names.
    pub fn take(&mut self, given: Option<&ProtocolMessageCommandAttributes>) -> Result<&'r Message, CommandFailure> {
        let Some(attributes) = given else {
            return Err(bad("ProtocolMessageCommandAttributes is not set on ProtocolMessageCommand."));
        };
        let id = &attributes.message_id;
        if id.is_empty() {
            return Err(bad("MessageID is not set on ProtocolMessageCommand."));
        }
        match self.left.iter().position(|message| message.id == *id) {
            Some(place) if !self.taken.contains(id.as_str()) => {
                let message = self.left.remove(place);
                self.taken.insert(&message.id);
                Ok(message)
            }
            _ => Err(bad(format!("ProtocolMessageCommand referenced absent message ID {id}"))),
        }
    }

    pub fn rest(self) -> Vec<&'r Message> {
        self.left
    }
}

/// True if the messages ask for nothing that must be recorded.
pub fn only_rejections(messages: &[Message]) -> bool {
    messages.iter().all(|message| {
        message.body.as_ref().is_some_and(|body| type_name(&body.type_url) == format!("{PROTOCOL}.Rejection"))
    })
}

/// What an update has become in the completion that is being applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provisional {
    Accepted,
    Completed,
}

/// How far an update is, in the words of the real server's errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Admitted,
    Sent,
    ProvisionallyAccepted,
    Accepted,
    ProvisionallyCompleted,
    Completed,
}

fn state(tx: &Transaction<'_>, run: &Run, completion: &Completion<'_>, id: &str) -> StateResult<Option<State>> {
    match completion.updates.get(id) {
        Some(Provisional::Accepted) => return Ok(Some(State::ProvisionallyAccepted)),
        Some(Provisional::Completed) => return Ok(Some(State::ProvisionallyCompleted)),
        None => {}
    }
    if let Some(row) = run.updates.get(&id.to_owned()) {
        return Ok(Some(match row.accepted_event_id {
            0 if row.order <= run.row.updates_sent => State::Sent,
            0 => State::Admitted,
            _ => State::Accepted,
        }));
    }
    let completed = tx.get(run.slot, Table::Update, &keys::update(&run.key, UpdatePart::Completed, id))?;
    Ok(completed.map(|_| State::Completed))
}

/// One message.
pub(in crate::run) fn receive(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    message: &Message,
) -> Result<(), Stop> {
    let Some(body) = &message.body else { return Err(malformed("nil message body")) };
    let name = type_name(&body.type_url);
    if name.is_empty() {
        return Err(malformed("no message name specified"));
    }
    let Some((protocol, kind)) = name.rsplit_once('.') else {
        return Err(malformed(format!("failed to extract protocol type: no . found in {name:?}")));
    };
    if body.encoded_len() > tx.bounds.payload_bytes_max {
        let failure = bad(format!("Message type {name} exceeds size limit."));
        return Err(CommandFailure { ends_run: true, ..failure }.into());
    }
    if protocol != PROTOCOL {
        return Err(bad(format!("unsupported protocol type {protocol}")).into());
    }
    let id = message.protocol_instance_id.as_str();
    let mut now = state(tx, run, completion, id)?;
    if now.is_none()
        && let Some(request) = carried_request(kind, &body.value)?
    {
        within_total(tx, run).map_err(|rejection| bad(rejection.message))?;
        put(tx, run, id, Some(request));
        now = Some(State::Admitted);
    }
    let Some(now) = now else {
        return Err(bad(format!(
            "update {id} wasn't found on the server. This is most likely a transient error which will be resolved \
             automatically by retries"
        ))
        .into());
    };
    // A run that its own command has just closed takes no more events: the update ends with it.
    if !run.is_open() && kind != "Rejection" {
        return Ok(());
    }
    let fits = match kind {
        "Acceptance" | "Rejection" => matches!(now, State::Sent | State::Admitted),
        "Response" => matches!(now, State::ProvisionallyAccepted | State::Accepted),
        _ => return Err(bad(format!("Message type *update.{kind} not supported")).into()),
    };
    if !fits {
        return Err(bad(format!(
            "invalid state transition attempted for Update {id}: received *update.{kind} message while in state {now:?}"
        ))
        .into());
    }
    match kind {
        "Acceptance" => accept(tx, run, completion, id, &parse(&body.value)?)?,
        "Rejection" => {
            let rejected: Rejected = parse(&body.value)?;
            check_depth(rejected.failure.as_ref())?;
            completion.updates.insert(id.to_owned(), Provisional::Completed);
            reject(tx, run, id, rejected.failure.unwrap_or_default());
        }
        _ => complete(tx, run, completion, id, &parse(&body.value)?)?,
    }
    Ok(())
}

fn accept(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    id: &str,
    acceptance: &Acceptance,
) -> Result<(), CommandFailure> {
    let missing = if acceptance.accepted_request_sequencing_event_id == 0 {
        Some("accepted_request_sequencing_event_id")
    } else if acceptance.accepted_request_message_id.is_empty() {
        Some("accepted_request_message_id")
    } else {
        None
    };
    if let Some(field) = missing {
        return Err(bad(format!("invalid *update.Acceptance: {field} is not set")));
    }
    let Some(row) = run.updates.get_mut(&id.to_owned()) else { return Ok(()) };
    let (order, request) = (row.order, row.request.take());
    let request_id = request.as_ref().map(|request| request.request_id.clone()).unwrap_or_default();
    let event = WorkflowExecutionUpdateAcceptedEventAttributes {
        protocol_instance_id: id.to_owned(),
        accepted_request_message_id: request_message_id(id),
        accepted_request_sequencing_event_id: acceptance.accepted_request_sequencing_event_id,
        accepted_request: request,
    };
    let EventId(event_id) = run.record(tx.now, Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(event));
    if let Some(row) = run.updates.get_mut(&id.to_owned()) {
        row.accepted_event_id = event_id;
    }
    if !request_id.is_empty() && !run.row.request_ids.iter().any(|known| known.request_id == request_id) {
        let event_type = EventType::WorkflowExecutionUpdateAccepted as i32;
        run.row.request_ids.push(stanchion_proto::row::RequestIdRow { request_id, event_type, event_id });
    }
    completion.updates.insert(id.to_owned(), Provisional::Accepted);
    let run = run.key.clone();
    tx.effects.update_changed(UpdateChange { run, update_id: id.to_owned(), order, status: UpdateStatus::Accepted });
    Ok(())
}

fn complete(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    completion: &mut Completion<'_>,
    id: &str,
    response: &Response,
) -> Result<(), CommandFailure> {
    let named = response.meta.as_ref().map_or("", |meta| meta.update_id.as_str());
    let wrong = if response.meta.is_none() {
        Some("meta is not set".to_owned())
    } else if named.is_empty() {
        Some("meta.update_id is not set".to_owned())
    } else if named != id {
        Some(format!("meta.update_id != {id}"))
    } else if response.outcome.is_none() {
        Some("outcome is not set".to_owned())
    } else {
        None
    };
    if let Some(wrong) = wrong {
        return Err(bad(format!("invalid *update.Response: {wrong}")));
    }
    if let Some(outcome::Value::Failure(failure)) = response.outcome.as_ref().and_then(|outcome| outcome.value.as_ref())
    {
        check_depth(Some(failure))?;
    }
    let Some(row) = run.updates.remove(&id.to_owned()) else { return Ok(()) };
    let outcome = response.outcome.clone().unwrap_or_default();
    let event = WorkflowExecutionUpdateCompletedEventAttributes {
        meta: response.meta.clone(),
        accepted_event_id: row.accepted_event_id,
        outcome: Some(outcome.clone()),
    };
    let EventId(completed_event_id) =
        run.record(tx.now, Attributes::WorkflowExecutionUpdateCompletedEventAttributes(event));
    run.row.updates_completed += 1;
    let completed = CompletedUpdateRow { accepted_event_id: row.accepted_event_id, completed_event_id };
    tx.put_row(run.slot, Table::Update, keys::update(&run.key, UpdatePart::Completed, id), &completed);
    completion.updates.insert(id.to_owned(), Provisional::Completed);
    tx.effects.update_changed(UpdateChange {
        run: run.key.clone(),
        update_id: id.to_owned(),
        order: row.order,
        status: UpdateStatus::Completed(Box::new(outcome)),
    });
    Ok(())
}

/// A worker repeats the request that it answers, so that an update the run does not know (any more) can still be taken up.
fn carried_request(kind: &str, body: &[u8]) -> Result<Option<Request>, Stop> {
    match kind {
        "Acceptance" => Ok(parse::<Acceptance>(body)?.accepted_request),
        "Rejection" => Ok(parse::<Rejected>(body)?.rejected_request),
        _ => Ok(None),
    }
}

fn parse<M: prost::Message + Default>(body: &[u8]) -> Result<M, CommandFailure> {
    M::decode(body).map_err(|error| bad(format!("unable to unmarshal request: {error}")))
}

/// A body is opaque until it gets here: a failure in it must still be read back from within an event, whose nesting is bounded.
fn check_depth(failure: Option<&Failure>) -> Result<(), CommandFailure> {
    let causes = std::iter::successors(failure, |failure| failure.cause.as_deref());
    if causes.count() > CAUSES_MAX {
        return Err(bad(format!("failure has more than {CAUSES_MAX} causes, one within the other")));
    }
    Ok(())
}

/// The part of a type URL behind its last slash.
fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

fn bad(message: impl Into<String>) -> CommandFailure {
    CommandFailure::new(WorkflowTaskFailedCause::BadUpdateWorkflowExecutionMessage, message)
}

/// Not even a message: the call is refused, and the worker still has its task.
fn malformed(message: impl Into<String>) -> Stop {
    Stop::Halt(Rejection::invalid(message).into())
}
