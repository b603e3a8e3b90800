//! UpdateWorkflowExecutionOptions: what callers may change of a run that goes on. The event says the options as they are then.
//!
//! Never: a versioning override (worker deployments are not there to be pinned to).

use prost_types::FieldMask;
use stanchion_proto::command::UpdateWorkflowOptions;
use stanchion_proto::temporal::common::v1::Priority;
use stanchion_proto::temporal::history::v1::WorkflowExecutionOptionsUpdatedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionOptions;

use super::{Extra, Run};
use crate::lookup;
use crate::reply::{Code, Rejection, Reply};
use crate::transaction::{Outcome, Transaction};

/// UpdateWorkflowOptions.
pub fn update(tx: &mut Transaction<'_>, command: &UpdateWorkflowOptions) -> Outcome<Reply> {
    let Some(request) = &command.request else {
        return Err(Rejection::invalid("UpdateWorkflowOptions carries no request.").into());
    };
    let name = request.workflow_execution.clone().unwrap_or_default();
    let mut run = lookup::open_run(tx, &name.workflow_id, &name.run_id)?;
    let (wanted, mask) = (request.workflow_execution_options.as_ref(), request.update_mask.as_ref());
    let changed = change(tx, &mut run, wanted, mask, &request.identity)?;
    let options = WorkflowExecutionOptions { priority: run.row.priority.clone(), ..Default::default() };
    if changed {
        tx.finish(run)?;
    } else {
        tx.release(run);
    }
    Ok(Reply::OptionsUpdated { options })
}

/// Changes what the mask names. False if everything was so already.
pub(super) fn change(
    tx: &Transaction<'_>,
    run: &mut Run,
    wanted: Option<&WorkflowExecutionOptions>,
    mask: Option<&FieldMask>,
    identity: &str,
) -> Outcome<bool> {
    let Some(wanted) = wanted else {
        return Err(Rejection::invalid("WorkflowExecutionOptions is required").into());
    };
    let mut priority = run.row.priority.clone();
    for path in mask.map(|mask| mask.paths.as_slice()).unwrap_or_default() {
        let asked = wanted.priority.as_ref();
        let part = || asked.cloned().unwrap_or_default();
        match path.as_str() {
            "priority" => priority = asked.cloned(),
            "priority.priority_key" => of(&mut priority).priority_key = part().priority_key,
            "priority.fairness_key" => of(&mut priority).fairness_key = part().fairness_key,
            "priority.fairness_weight" => of(&mut priority).fairness_weight = part().fairness_weight,
            // There is none to be unset.
            "versioning_override" if wanted.versioning_override.is_none() => {}
            "versioning_override" => return Err(unsupported("versioning overrides").into()),
            "time_skipping_config" => return Err(unsupported("time skipping").into()),
            _ => {}
        }
    }
    if priority == run.row.priority {
        return Ok(false);
    }
    run.row.priority.clone_from(&priority);
    let event = WorkflowExecutionOptionsUpdatedEventAttributes {
        unset_versioning_override: true,
        identity: identity.to_owned(),
        priority,
        ..Default::default()
    };
    let extra = Extra { worker_may_ignore: true, ..Default::default() };
    run.receive_with(tx.now, Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(event), extra);
    Ok(true)
}

fn of(priority: &mut Option<Priority>) -> &mut Priority {
    priority.get_or_insert_with(Priority::default)
}

fn unsupported(what: &str) -> Rejection {
    Rejection::new(Code::Unimplemented, format!("{what} are not supported by this release"))
}
