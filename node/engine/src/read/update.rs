//! How far an update has come, for those who ask after it.

use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;

use super::view::{resolve, run_row};
use crate::reply::UpdateStatus;
use crate::run::updates;
use crate::state::{StateReader, StateResult};
use crate::types::RunKey;

/// The update's run, its place in the order of admission, and how far it is; an empty run id means the newest run. None if there is no
/// such run or no such update in it.
pub fn update<R: StateReader>(
    reader: &R,
    namespace_id: &str,
    workflow_id: &str,
    run_id: &str,
    update_id: &str,
) -> StateResult<Option<(RunKey, u64, UpdateStatus)>> {
    let Some(key) = resolve(reader, namespace_id, workflow_id, run_id)? else { return Ok(None) };
    let Some(row) = run_row(reader, &key)? else { return Ok(None) };
    let open = row.status == WorkflowExecutionStatus::Running as i32;
    let found = updates::status(reader, &key, open, update_id)?;
    Ok(found.map(|(order, status)| (key, order, status)))
}
