//! Update-with-start: an update to the open run of a workflow id, or to one that the same command starts. All or nothing.
//!
//! ```text
//! the newest run has the update's outcome -------------------------------------> that outcome
//! it is open, and this start made it, knows the update, or may be used ---------> the update goes to it
//! otherwise, if the policies allow a start -------------------------------------> new run with the update
//! ```
//!
//! A refusal says which of the two operations it is about; the other one is said to be aborted.
//!
//! Never: a run that is started without the update.

use stanchion_proto::command::UpdateWithStartWorkflow;
use stanchion_proto::row::CurrentRow;
use stanchion_proto::temporal::enums::v1::{EventType, WorkflowIdConflictPolicy};
use stanchion_proto::temporal::update::v1::Request;
use stanchion_proto::temporal::workflowservice::v1::StartWorkflowExecutionRequest;

use super::start::{self, Decision, Policies};
use super::updates::{self, Admission};
use super::{Run, close, workflow_task};
use crate::lookup;
use crate::reply::{Code, OperationOutcome, Rejection, Reply, UpdateStatus};
use crate::transaction::{Halt, Outcome, Transaction};

/// UpdateWithStartWorkflow.
pub fn update_with_start<'c>(tx: &mut Transaction<'c>, command: &'c UpdateWithStartWorkflow) -> Outcome<Reply> {
    let (Some(start), Some(update)) = (&command.start, &command.update) else {
        return Err(Rejection::invalid("Operations have to be exactly [Start, Update].").into());
    };
    tx.reserve(command.reservation.as_ref());
    let request = update.request.clone().unwrap_or_default();
    let made = lookup::current_or_made(tx, &start.workflow_id, &start.request_id)?;
    let newest = lookup::current(tx, &start.workflow_id)?;
    // The run that this start made has the update, if it was done; where it has not, and another one has followed, the update is for that.
    let is_followed = newest.as_ref().map(|newest| &newest.run_id) != made.as_ref().map(|made| &made.run_id);
    for current in made.iter().chain(newest.iter().filter(|_| is_followed)) {
        let mut run = lookup::run(tx, &start.workflow_id, &current.run_id)?;
        let outcome = updates::outcome_of(tx.reader(), &run.key, updates::update_id(&request))?;
        if let Some(outcome) = outcome {
            let status = UpdateStatus::Completed(Box::new(outcome));
            let reply = replied(&run, Admission { order: 0, status, new: false }, false);
            tx.release(run);
            return Ok(reply);
        }
        if run.is_open() && is_meant(current, &run, start, &request) {
            return match updates::admit(tx, &mut run, &request)? {
                Ok(admission) => {
                    let new = admission.new;
                    let reply = replied(&run, admission, false);
                    updates::admitted(tx, run, new)?;
                    Ok(reply)
                }
                Err(rejection) => {
                    tx.release(run);
                    Err(update_refused(rejection).into())
                }
            };
        }
        tx.release(run);
    }
    let mut run = begin(tx, made.as_ref(), start).map_err(|halt| match halt {
        Halt::Rejected(rejection) => start_refused(rejection).into(),
        fault @ Halt::Fault(_) => fault,
    })?;
    let admission = updates::admit(tx, &mut run, &request)?.map_err(update_refused)?;
    workflow_task::schedule_if_none(tx, &mut run);
    let reply = replied(&run, admission, true);
    tx.finish(run)?;
    Ok(reply)
}

/// The open run is the one to update: no start is needed, or this one has made it before.
fn is_meant(current: &CurrentRow, run: &Run, start: &StartWorkflowExecutionRequest, request: &Request) -> bool {
    let made_by =
        current.request_ids.iter().find(|known| known.event_type == EventType::WorkflowExecutionStarted as i32);
    made_by.is_some_and(|made_by| made_by.request_id == start.request_id)
        || run.updates.contains(&updates::update_id(request).to_owned())
        || start.workflow_id_conflict_policy() == WorkflowIdConflictPolicy::UseExisting
}

/// The new run, without its first workflow task.
fn begin(
    tx: &mut Transaction<'_>,
    current: Option<&CurrentRow>,
    request: &StartWorkflowExecutionRequest,
) -> Outcome<Box<Run>> {
    let policies = Policies::of_start(request)?;
    start::check(tx, request)?;
    match start::decide(current, &request.workflow_id, &request.request_id, policies)? {
        Decision::Start { terminate } => {
            let run_id = tx.ids.uuid();
            if let Some(existing) = terminate {
                close::terminate_for_successor(tx, &request.workflow_id, &existing, &run_id)?;
            }
            let run = start::begin(tx, start::by_request(tx, request, run_id, false));
            start::remember(tx, &run, &request.request_id);
            Ok(run)
        }
        // The run that this start made has closed, and the update with it.
        Decision::Same { .. } => Err(not_started("StartDeduped").into()),
        Decision::UseExisting => Err(not_started("StartReused").into()),
    }
}

fn not_started(why: &str) -> Rejection {
    Rejection::new(Code::Unavailable, format!("Workflow was not started: {why}"))
}

fn start_refused(rejection: Rejection) -> Rejection {
    Rejection::of_operations([OperationOutcome::Refused(rejection), OperationOutcome::Aborted])
}

fn update_refused(rejection: Rejection) -> Rejection {
    Rejection::of_operations([OperationOutcome::Aborted, OperationOutcome::Refused(rejection)])
}

fn replied(run: &Run, admission: Admission, started: bool) -> Reply {
    Reply::UpdatedWithStart {
        run: run.key.clone(),
        order: admission.order,
        status: admission.status,
        started,
        first_execution_run_id: run.row.first_execution_run_id.clone(),
        run_status: run.row.status,
    }
}
