//! StartTimer and CancelTimer: their own rules. Called by `run::timers` before it changes anything.

use stanchion_proto::temporal::command::v1::{CancelTimerCommandAttributes, StartTimerCommandAttributes};
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::validate::Refusal;
use crate::validate::fields::{self, ID_BYTES_MAX};

pub fn start(attributes: Option<&StartTimerCommandAttributes>) -> Result<&StartTimerCommandAttributes, Refusal> {
    let refuse = |reason: String| Refusal::new(WorkflowTaskFailedCause::BadStartTimerAttributes, reason);
    let Some(attributes) = attributes else {
        return Err(refuse("StartTimerCommandAttributes is not set on StartTimerCommand.".into()));
    };
    timer_id("StartTimerCommand", &attributes.timer_id).map_err(refuse)?;
    fields::duration(attributes.start_to_fire_timeout.as_ref()).map_err(|why| {
        let id = &attributes.timer_id;
        refuse(format!("An invalid StartToFireTimeout is set on StartTimerCommand: {why}. TimerId={id}"))
    })?;
    Ok(attributes)
}

pub fn cancel(attributes: Option<&CancelTimerCommandAttributes>) -> Result<&CancelTimerCommandAttributes, Refusal> {
    let refuse = |reason: String| Refusal::new(WorkflowTaskFailedCause::BadCancelTimerAttributes, reason);
    let Some(attributes) = attributes else {
        return Err(refuse("CancelTimerCommandAttributes is not set on CancelTimerCommand.".into()));
    };
    timer_id("CancelTimerCommand", &attributes.timer_id).map_err(refuse)?;
    Ok(attributes)
}

fn timer_id(command: &str, id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err(format!("TimerId is not set on {command}."));
    }
    if id.len() > ID_BYTES_MAX {
        let length = id.len();
        return Err(format!(
            "TimerId on {command} exceeds length limit. TimerId={id} Length={length} Limit={ID_BYTES_MAX}"
        ));
    }
    Ok(())
}
