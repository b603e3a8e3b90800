//! Updates of a run, from admission to outcome.
//!
//! ```text
//! admitted --with a workflow task--> sent --accepted--> accepted --completed--> completed
//!    |                                |                    |
//!    +-- run closes: aborted          +-- rejected         +-- run closes: failed
//! ```
//!
//! An admitted update is a row and no event: it survives the loss of a node, is shown to a worker with every workflow task until that
//! worker answers, and leaves no trace if it is rejected. Accepting and completing are events.
//!
//! Never: two executions of one update id in a run; an update shown to a worker that has accepted it.

use std::collections::BTreeMap;

use prost::{Message as _, Name};
use prost_types::Any;
use stanchion_proto::command::UpdateWorkflow;
use stanchion_proto::row::{CompletedUpdateRow, UpdateRow};
use stanchion_proto::temporal::enums::v1::{ResourceExhaustedCause, ResourceExhaustedScope, UpdateAdmittedEventOrigin};
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use stanchion_proto::temporal::history::v1::WorkflowExecutionUpdateAdmittedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::protocol::v1::{Message, message::SequencingId};
use stanchion_proto::temporal::update::v1::{Outcome as UpdateOutcome, Request, outcome};

use super::{Run, workflow_task};
use crate::effects::UpdateChange;
use crate::keys::{self, UpdatePart};
use crate::lookup;
use crate::read;
use crate::reply::{Code, Detail, Rejection, Reply, UpdateStatus};
use crate::state::{StateReader, StateResult, Table};
use crate::transaction::{Outcome, Transaction, decode};
use crate::types::{EventId, RunKey};

pub mod messages;

/// A run whose workflow task has failed this often takes no updates.
const FAILING_ATTEMPTS: i32 = 3;

/// UpdateWorkflow.
pub fn update(tx: &mut Transaction<'_>, command: &UpdateWorkflow) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("UpdateWorkflow carries no request.").into());
    };
    let name = request.workflow_execution.clone().unwrap_or_default();
    let mut run = lookup::run_of_chain(tx, &name.workflow_id, &name.run_id, &request.first_execution_run_id)?;
    let request = request.request.clone().unwrap_or_default();
    match admit(tx, &mut run, &request)? {
        Ok(Admission { order, status, new }) => {
            let reply = Reply::Updated { run: run.key.clone(), order, status };
            admitted(tx, run, new)?;
            Ok(reply)
        }
        Err(rejection) => {
            tx.release(run);
            Err(rejection.into())
        }
    }
}

/// An update is in the run: a new one needs a workflow task.
pub(super) fn admitted(tx: &mut Transaction<'_>, mut run: Box<Run>, new: bool) -> StateResult<()> {
    if !new {
        tx.release(run);
        return Ok(());
    }
    workflow_task::schedule_for_updates(tx, &mut run);
    tx.finish(run)
}

/// An update that is in the run now.
pub(super) struct Admission {
    pub order: u64,
    pub status: UpdateStatus,
    /// This command has put it there. The caller schedules a workflow task for it.
    pub new: bool,
}

/// Puts the update into the run, or finds the one with its id. A refusal leaves the run unchanged.
pub(super) fn admit(
    tx: &Transaction<'_>,
    run: &mut Run,
    request: &Request,
) -> StateResult<Result<Admission, Rejection>> {
    let id = update_id(request);
    if !run.is_open() {
        let found = status(tx.reader(), &run.key, false, id)?;
        return Ok(match found {
            Some((order, status)) => Ok(Admission { order, status, new: false }),
            None => Err(lookup::closed()),
        });
    }
    if workflow_task::attempt(run) >= FAILING_ATTEMPTS {
        return Ok(Err(not_ready("Unable to perform workflow execution update due to Workflow Task in failed state.")));
    }
    if run.row.close_attempted && run.workflow_task_started() {
        return Ok(Err(closing()));
    }
    // A run that this command starts has no rows yet, and no updates either.
    if let Some((order, status)) = status(tx.reader(), &run.key, true, id)? {
        return Ok(Ok(Admission { order, status, new: false }));
    }
    if let Err(rejection) = within_bounds(tx, run, request) {
        return Ok(Err(rejection));
    }
    let order = put(tx, run, id, Some(request.clone()));
    Ok(Ok(Admission { order, status: UpdateStatus::Admitted, new: true }))
}

fn put(tx: &Transaction<'_>, run: &mut Run, id: &str, request: Option<Request>) -> u64 {
    run.row.updates_admitted += 1;
    let order = run.row.updates_admitted;
    run.updates.insert(id.to_owned(), UpdateRow { order, admitted_at: tx.now.0, request, accepted_event_id: 0 });
    order
}

/// Admits by an event: a reset run takes over what its base had not finished. The worker learns of it from the history. An id that the
/// run knows already is left alone. The caller schedules the workflow task.
pub fn admit_by_event(tx: &Transaction<'_>, run: &mut Run, request: &Request) {
    let id = update_id(request).to_owned();
    if run.updates.contains(&id) {
        return;
    }
    put(tx, run, &id, None);
    let event = WorkflowExecutionUpdateAdmittedEventAttributes {
        request: Some(request.clone()),
        origin: UpdateAdmittedEventOrigin::Reapply as i32,
    };
    run.receive(tx.now, Attributes::WorkflowExecutionUpdateAdmittedEventAttributes(event));
}

pub fn update_id(request: &Request) -> &str {
    request.meta.as_ref().map_or("", |meta| meta.update_id.as_str())
}

fn within_bounds(tx: &Transaction<'_>, run: &Run, request: &Request) -> Result<(), Rejection> {
    let in_flight = run.updates.len();
    let limit = tx.bounds.updates_in_flight_max;
    if in_flight >= limit {
        return Err(exhausted(
            ResourceExhaustedCause::ConcurrentLimit,
            format!("limit on number of concurrent in-flight updates has been reached ({limit})"),
        ));
    }
    within_total(tx, run)?;
    let limit = tx.bounds.updates_in_flight_bytes_max;
    let waiting: usize = run
        .updates
        .iter()
        .map(|(id, row)| id.len() + row.request.as_ref().map_or(0, |request| request.encoded_len()))
        .sum();
    if waiting + request.encoded_len() >= limit {
        return Err(exhausted(
            ResourceExhaustedCause::ConcurrentLimit,
            format!("limit on total payload size of in-flight updates has been reached ({limit} bytes)"),
        ));
    }
    Ok(())
}

fn within_total(tx: &Transaction<'_>, run: &Run) -> Result<(), Rejection> {
    let limit = tx.bounds.updates_total_max;
    if run.updates.len() + run.row.updates_completed as usize >= limit {
        return Err(Rejection::new(
            Code::FailedPrecondition,
            format!(
                "The limit on the total number of distinct updates in this workflow has been reached ({limit}). Make \
                 sure any duplicate updates share an Update ID so the server can deduplicate them, and consider \
                 rejecting updates that you aren't going to process. You can also Continue-as-New to avoid this; we \
                 recommend you check Continue-as-New Suggested in your Workflow."
            ),
        ));
    }
    Ok(())
}

/// Nine tenths of all the updates that a run may have: its worker is advised to continue as new.
pub(super) fn many(tx: &Transaction<'_>, run: &Run) -> bool {
    (run.updates.len() + run.row.updates_completed as usize) * 10 >= tx.bounds.updates_total_max * 9
}

fn exhausted(cause: ResourceExhaustedCause, message: String) -> Rejection {
    Rejection::new(Code::ResourceExhausted, message)
        .with(Detail::ResourceExhausted { cause: cause as i32, scope: ResourceExhaustedScope::Namespace as i32 })
}

/// The run is about to close, or its work goes on in another one: the caller tries again.
fn closing() -> Rejection {
    let message = "workflow operation can not be applied because workflow is closing";
    exhausted(ResourceExhaustedCause::BusyWorkflow, message.to_owned())
}

fn not_ready(message: &str) -> Rejection {
    Rejection::new(Code::FailedPrecondition, message).with(Detail::WorkflowNotReady)
}

/// The words for an update that its run's end has overtaken.
pub const ABORTED: &str = "workflow update was aborted by closing workflow";

// Reading --------------------------------------------------------------------------------------------------------------

/// How far an update of the run has come, and its place in the order of admission (0 when it has an outcome already). None if the run
/// has no such update.
pub fn status<R: StateReader + ?Sized>(
    reader: &R,
    run: &RunKey,
    open: bool,
    id: &str,
) -> StateResult<Option<(u64, UpdateStatus)>> {
    let slot = run.slot();
    if let Some(row) = reader.get(slot, Table::Update, &keys::update(run, UpdatePart::InFlight, id))? {
        let row: UpdateRow = decode(Table::Update, row)?;
        let status = match (row.accepted_event_id, open) {
            (0, _) => UpdateStatus::Admitted,
            (_, true) => UpdateStatus::Accepted,
            (_, false) => UpdateStatus::Completed(Box::new(failed(overtaken()))),
        };
        return Ok(Some((row.order, status)));
    }
    Ok(outcome_of(reader, run, id)?.map(|outcome| (0, UpdateStatus::Completed(Box::new(outcome)))))
}

/// The outcome that the run's history records.
pub fn outcome_of<R: StateReader + ?Sized>(reader: &R, run: &RunKey, id: &str) -> StateResult<Option<UpdateOutcome>> {
    let key = keys::update(run, UpdatePart::Completed, id);
    let Some(row) = reader.get(run.slot(), Table::Update, &key)? else { return Ok(None) };
    let row: CompletedUpdateRow = decode(Table::Update, row)?;
    match read::event(reader, run, EventId(row.completed_event_id))?.attributes {
        Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(event)) => {
            Ok(Some(event.outcome.unwrap_or_default()))
        }
        _ => Err(crate::StateFault::Corrupt {
            table: Table::Update,
            reason: format!("update {id} of run {} names an event that is not its outcome", run.run_id),
        }),
    }
}

/// In-flight updates of a run, as its rows have them.
pub(super) fn read_rows(
    state: &dyn crate::state::ShardState,
    run: &RunKey,
) -> StateResult<BTreeMap<String, UpdateRow>> {
    let prefix = keys::update(run, UpdatePart::InFlight, "");
    super::read_rows_under(state, run.slot(), Table::Update, run, prefix, |id| String::from_utf8(id.to_vec()).ok())
}

// With workflow tasks --------------------------------------------------------------------------------------------------

/// The run's worker has something to answer, with the next workflow task or the one it has.
pub(super) fn any_waiting(run: &Run) -> bool {
    run.updates.iter().any(|(_, row)| row.accepted_event_id == 0)
}

/// A workflow task goes to a worker: it carries all that wait.
pub(super) fn sent(run: &mut Run) {
    run.row.updates_sent = run.row.updates_admitted;
}

/// What goes with a workflow task that is with a worker, in the order of admission: to be handled behind the event with that id. One that
/// was admitted by an event is in the history.
pub(super) fn outgoing(run: &Run, behind_event_id: i64) -> Vec<Message> {
    let mut waiting: Vec<_> = run
        .updates
        .iter()
        .filter(|(_, row)| row.accepted_event_id == 0 && row.order <= run.row.updates_sent)
        .filter_map(|(id, row)| Some((row.order, id, row.request.as_ref()?)))
        .collect();
    waiting.sort_by_key(|(order, _, _)| *order);
    let message = |(_, id, request): (u64, &String, &Request)| Message {
        id: request_message_id(id),
        protocol_instance_id: id.clone(),
        body: Some(Any {
            type_url: format!("type.googleapis.com/{}", Request::full_name()),
            value: request.encode_to_vec(),
        }),
        sequencing_id: Some(SequencingId::EventId(behind_event_id)),
    };
    waiting.into_iter().map(message).collect()
}

/// Id of the message that carries an update's request, as its accepted event repeats it.
fn request_message_id(id: &str) -> String {
    format!("{id}/request")
}

/// The worker has completed its task without a word about these.
pub(super) fn reject_unprocessed(tx: &mut Transaction<'_>, run: &mut Run) {
    let failure = Failure {
        message: "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not \
                  supported by the worker."
            .to_owned(),
        ..server_failure("UnprocessedUpdate")
    };
    for id in unanswered(run, |row, sent| row.order <= sent) {
        reject(tx, run, &id, failure.clone());
    }
}

/// The task failed by what its worker sent: updates that it was shown go with it. Those that an event admitted stay: the next worker finds
/// them in the history.
pub(super) fn abort_sent(tx: &mut Transaction<'_>, run: &mut Run) {
    let why = "Unable to perform workflow execution update due to unexpected workflow task failure.";
    for id in unanswered(run, |row, sent| row.order <= sent && row.request.is_some()) {
        remove(tx, run, &id, UpdateStatus::Aborted(not_ready(why)));
    }
}

/// Updates that no worker has accepted, by id.
fn unanswered(run: &Run, which: impl Fn(&UpdateRow, u64) -> bool) -> Vec<String> {
    let sent = run.row.updates_sent;
    let waiting = run.updates.iter().filter(|(_, row)| row.accepted_event_id == 0 && which(row, sent));
    waiting.map(|(id, _)| id.clone()).collect()
}

/// The run has closed: nobody will answer any more. Accepted updates keep their rows, so that asking again gives the same failure.
pub(super) fn run_closed(tx: &mut Transaction<'_>, run: &mut Run) {
    let why = if run.row.successor_run_id.is_empty() { Rejection::not_found(ABORTED) } else { closing() };
    for id in unanswered(run, |_, _| true) {
        remove(tx, run, &id, UpdateStatus::Aborted(why.clone()));
    }
    for (id, row) in run.updates.iter() {
        tx.effects.update_changed(UpdateChange {
            run: run.key.clone(),
            update_id: id.clone(),
            order: row.order,
            status: UpdateStatus::Completed(Box::new(failed(overtaken()))),
        });
    }
}

fn reject(tx: &mut Transaction<'_>, run: &mut Run, id: &str, failure: Failure) {
    remove(tx, run, id, UpdateStatus::Completed(Box::new(failed(failure))));
}

fn remove(tx: &mut Transaction<'_>, run: &mut Run, id: &str, status: UpdateStatus) {
    if let Some(row) = run.updates.remove(&id.to_owned()) {
        tx.effects.update_changed(UpdateChange {
            run: run.key.clone(),
            update_id: id.to_owned(),
            order: row.order,
            status,
        });
    }
}

fn failed(failure: Failure) -> UpdateOutcome {
    UpdateOutcome { value: Some(outcome::Value::Failure(failure)) }
}

/// The run ended between acceptance and outcome.
fn overtaken() -> Failure {
    Failure {
        message: "Workflow Update failed because the Workflow completed before the Update completed.".to_owned(),
        ..server_failure("AcceptedUpdateCompletedWorkflow")
    }
}

fn server_failure(kind: &str) -> Failure {
    Failure {
        source: "Server".to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
            r#type: kind.to_owned(),
            non_retryable: true,
            ..Default::default()
        })),
        ..Default::default()
    }
}
