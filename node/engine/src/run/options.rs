//! UpdateWorkflowExecutionOptions: what callers may change of a run that goes on. The event says the options as they are then.

use prost_types::FieldMask;
use stanchion_proto::command::UpdateWorkflowOptions;
use stanchion_proto::temporal::common::v1::Priority;
use stanchion_proto::temporal::history::v1::WorkflowExecutionOptionsUpdatedEventAttributes;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::workflow::v1::WorkflowExecutionOptions;

use super::{Extra, Run, versioning};
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
    let before = of(&run);
    let options = change(tx, &mut run, wanted, mask, &request.identity)?;
    if options == before {
        tx.release(run);
    } else {
        tx.finish(run)?;
    }
    Ok(Reply::OptionsUpdated { options })
}

/// The options in force.
fn of(run: &Run) -> WorkflowExecutionOptions {
    WorkflowExecutionOptions {
        versioning_override: versioning::of(run.detail()).cloned(),
        priority: run.row.priority.clone(),
        ..Default::default()
    }
}

/// Changes what the mask names. The options as the caller wants them: where those are the ones in force, nothing changes.
pub(super) fn change(
    tx: &Transaction<'_>,
    run: &mut Run,
    wanted: Option<&WorkflowExecutionOptions>,
    mask: Option<&FieldMask>,
    identity: &str,
) -> Outcome<WorkflowExecutionOptions> {
    let Some(wanted) = wanted else {
        return Err(Rejection::invalid("WorkflowExecutionOptions is required").into());
    };
    let before = of(run);
    let mut options = before.clone();
    for path in mask.map(|mask| mask.paths.as_slice()).unwrap_or_default() {
        let (asked, priority) = (wanted.priority.as_ref(), &mut options.priority);
        let part = || asked.cloned().unwrap_or_default();
        match path.as_str() {
            "priority" => *priority = asked.cloned(),
            "priority.priority_key" => named(priority).priority_key = part().priority_key,
            "priority.fairness_key" => named(priority).fairness_key = part().fairness_key,
            "priority.fairness_weight" => named(priority).fairness_weight = part().fairness_weight,
            "versioning_override" => options.versioning_override.clone_from(&wanted.versioning_override),
            "versioning_override.behavior" => {
                let why = "error applying update_options: versioning_override fields must be updated together";
                return Err(Rejection::invalid(why).into());
            }
            "time_skipping_config" if wanted.time_skipping_config.is_none() => {}
            "time_skipping_config" => {
                let why = "time skipping is not supported by this release";
                return Err(Rejection::new(Code::Unimplemented, why).into());
            }
            _ => {}
        }
    }
    if options == before {
        return Ok(options);
    }
    let (queue, workflow_id) = (&run.row.task_queue, run.key.workflow_id.as_str());
    let asked = options.versioning_override.as_ref();
    let versioning_override = asked.map(|asked| versioning::checked(asked, queue, Some(workflow_id))).transpose()?;
    let event = WorkflowExecutionOptionsUpdatedEventAttributes {
        unset_versioning_override: versioning_override.is_none(),
        versioning_override,
        identity: identity.to_owned(),
        priority: options.priority.clone(),
        ..Default::default()
    };
    note(run, &event);
    let extra = Extra { worker_may_ignore: true, ..Default::default() };
    run.receive_with(tx.now, Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(event), extra);
    Ok(options)
}

/// What an event says of the options is kept. As on the real server, a priority that is taken away stays: the event cannot say so.
pub(super) fn note(run: &mut Run, event: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if event.priority.is_some() {
        run.row.priority.clone_from(&event.priority);
    }
    versioning::note(run, event.versioning_override.as_ref(), event.unset_versioning_override);
}

fn named(priority: &mut Option<Priority>) -> &mut Priority {
    priority.get_or_insert_with(Priority::default)
}
