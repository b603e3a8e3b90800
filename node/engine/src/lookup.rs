//! From the names in a request to the run that it means, with the real server's words when there is none.

use stanchion_proto::row::CurrentRow;

use crate::keys;
use crate::reply::Rejection;
use crate::run::Run;
use crate::slot::slot_of;
use crate::state::{StateFault, StateResult, Table};
use crate::transaction::{Outcome, Transaction};
use crate::types::RunKey;

/// The newest run of a workflow id.
pub fn current(tx: &Transaction<'_>, workflow_id: &str) -> StateResult<Option<CurrentRow>> {
    let slot = slot_of(tx.namespace_id, workflow_id);
    tx.get_row(slot, Table::Current, &keys::current(tx.namespace_id, workflow_id))
}

/// The newest run of a workflow id; but if this request id has made another one, which a newer one has followed since, that one. A start that
/// is repeated is answered with the run that it made, for as long as that is kept.
pub fn current_or_made(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    request_id: &str,
) -> StateResult<Option<CurrentRow>> {
    let current = current(tx, workflow_id)?;
    let is_known = |current: &CurrentRow| current.request_ids.iter().any(|known| known.request_id == request_id);
    // Where there is none, there is nothing that a request could have made.
    if request_id.is_empty() || current.as_ref().is_none_or(is_known) {
        return Ok(current);
    }
    let key = keys::start_request(tx.namespace_id, workflow_id, request_id);
    let Some(made) = tx.get(slot_of(tx.namespace_id, workflow_id), Table::StartRequest, &key)? else {
        return Ok(current);
    };
    let made = String::from_utf8(made.to_vec())
        .map_err(|error| StateFault::Corrupt { table: Table::StartRequest, reason: error.to_string() })?;
    let Some(run) = named(tx, workflow_id, &made)? else { return Ok(current) };
    let row = (!run.row.deleted).then(|| run.current_row());
    tx.release(run);
    Ok(row.or(current))
}

/// The run named, or with an empty run id the newest; open or closed.
pub fn run(tx: &mut Transaction<'_>, workflow_id: &str, run_id: &str) -> Outcome<Box<Run>> {
    let run_id = if run_id.is_empty() {
        let Some(current) = current(tx, workflow_id)? else {
            return Err(Rejection::not_found(format!("workflow not found for ID: {workflow_id}")).into());
        };
        current.run_id
    } else {
        run_id.to_owned()
    };
    let key = key_of(tx, workflow_id, &run_id);
    let found = tx.load(&key)?;
    if found.as_ref().is_some_and(|run| run.row.deleted) {
        found.into_iter().for_each(|run| tx.release(run));
        return Err(not_found(&key).into());
    }
    found.ok_or_else(|| not_found(&key).into())
}

/// The run that a message or a shell command names in full; none if it is not there (any more).
pub fn named(tx: &mut Transaction<'_>, workflow_id: &str, run_id: &str) -> StateResult<Option<Box<Run>>> {
    let key = key_of(tx, workflow_id, run_id);
    tx.load(&key)
}

/// A run of the command's namespace.
pub fn key_of(tx: &Transaction<'_>, workflow_id: &str, run_id: &str) -> RunKey {
    RunKey { namespace_id: tx.namespace_id.to_owned(), workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }
}

/// The real server's words for a run that is not there.
fn not_found(key: &RunKey) -> Rejection {
    let RunKey { workflow_id, run_id, .. } = key;
    Rejection::not_found(format!(
        "workflow execution not found for workflow ID \"{workflow_id}\" and run ID \"{run_id}\""
    ))
}

/// As [`run`], and refuses one that has closed.
pub fn open_run(tx: &mut Transaction<'_>, workflow_id: &str, run_id: &str) -> Outcome<Box<Run>> {
    let run = run(tx, workflow_id, run_id)?;
    if run.is_open() {
        return Ok(run);
    }
    tx.release(run);
    Err(closed().into())
}

/// The real server's words for a call that needs an open run.
pub fn closed() -> Rejection {
    Rejection::not_found("workflow execution already completed")
}

/// As [`run`], for a call that may name the chain's first run, and then means no other chain.
pub fn run_of_chain(
    tx: &mut Transaction<'_>,
    workflow_id: &str,
    run_id: &str,
    first_execution_run_id: &str,
) -> Outcome<Box<Run>> {
    let run = run(tx, workflow_id, run_id)?;
    if first_execution_run_id.is_empty() || run.row.first_execution_run_id == first_execution_run_id {
        return Ok(run);
    }
    tx.release(run);
    Err(Rejection::not_found("workflow execution not found").into())
}
