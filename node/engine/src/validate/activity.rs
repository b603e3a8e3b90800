//! ScheduleActivityTask and RequestCancelActivityTask: their own rules, and how missing time-outs are filled in.
//!
//! Called by `run::activities` before it changes anything.

use stanchion_proto::temporal::command::v1::{
    RequestCancelActivityTaskCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use stanchion_proto::temporal::common::v1::RetryPolicy;
use stanchion_proto::temporal::enums::v1::WorkflowTaskFailedCause;

use crate::retry;
use crate::time::nanos;
use crate::validate::fields::{self, ID_BYTES_MAX};
use crate::validate::{Refusal, retry_policy};

/// A command that passed, with everything filled in that it left open. Durations in nanoseconds, 0 is "none".
#[derive(Clone, PartialEq, Debug)]
pub struct ActivityPlan<'a> {
    pub activity_id: &'a str,
    pub task_queue: &'a str,
    pub schedule_to_close_timeout: i64,
    pub schedule_to_start_timeout: i64,
    pub start_to_close_timeout: i64,
    pub heartbeat_timeout: i64,
    pub retry_policy: RetryPolicy,
}

/// Checks the command. `run_timeout`: the run's own, in nanoseconds, which caps every time-out of its activities; 0 is none.
pub fn schedule<'a>(
    attributes: Option<&'a ScheduleActivityTaskCommandAttributes>,
    run_timeout: i64,
    payload_bytes_max: usize,
) -> Result<ActivityPlan<'a>, Refusal> {
    let refuse = |reason: String| Refusal::new(WorkflowTaskFailedCause::BadScheduleActivityAttributes, reason);
    let Some(attributes) = attributes else {
        return Err(refuse("ScheduleActivityTaskCommandAttributes is not set on ScheduleActivityTaskCommand.".into()));
    };
    let activity_type = attributes.activity_type.as_ref().map_or("", |t| t.name.as_str());
    let task_queue = fields::task_queue(attributes.task_queue.as_ref(), "").map_err(|why| refuse(why.into()))?;
    named("activityId", &attributes.activity_id).map_err(refuse)?;
    named("activityType", activity_type).map_err(refuse)?;
    retry_policy::check(attributes.retry_policy.as_ref()).map_err(refuse)?;
    for (name, value) in [
        ("ScheduleToCloseTimeout", &attributes.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &attributes.schedule_to_start_timeout),
        ("StartToCloseTimeout", &attributes.start_to_close_timeout),
        ("HeartbeatTimeout", &attributes.heartbeat_timeout),
    ] {
        fields::duration(value.as_ref()).map_err(|why| refuse(format!("invalid {name}: {why}")))?;
    }
    if let Err(why) = fields::priority(attributes.priority.as_ref()) {
        return Err(refuse(format!("invalid priorities: {why}")));
    }
    let timeouts = Timeouts {
        schedule_to_close: nanos(attributes.schedule_to_close_timeout.as_ref()),
        schedule_to_start: nanos(attributes.schedule_to_start_timeout.as_ref()),
        start_to_close: nanos(attributes.start_to_close_timeout.as_ref()),
        heartbeat: nanos(attributes.heartbeat_timeout.as_ref()),
    };
    let Some(timeouts) = timeouts.filled_in(run_timeout) else {
        return Err(refuse(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={activity_type}",
            attributes.activity_id
        )));
    };
    if fields::payloads_bytes(attributes.input.as_ref()) > payload_bytes_max {
        return Err(Refusal::oversized(
            WorkflowTaskFailedCause::BadScheduleActivityAttributes,
            "ScheduleActivityTaskCommandAttributes.Input exceeds size limit.",
        ));
    }
    Ok(ActivityPlan {
        activity_id: &attributes.activity_id,
        task_queue,
        schedule_to_close_timeout: timeouts.schedule_to_close,
        schedule_to_start_timeout: timeouts.schedule_to_start,
        start_to_close_timeout: timeouts.start_to_close,
        heartbeat_timeout: timeouts.heartbeat,
        retry_policy: retry::with_defaults(attributes.retry_policy.as_ref()),
    })
}

/// The scheduled event that a RequestCancelActivityTask names.
pub fn request_cancel(attributes: Option<&RequestCancelActivityTaskCommandAttributes>) -> Result<i64, Refusal> {
    let refuse = |reason| Refusal::new(WorkflowTaskFailedCause::BadRequestCancelActivityAttributes, reason);
    let Some(attributes) = attributes else {
        return Err(refuse(
            "RequestCancelActivityTaskCommandAttributes is not set on RequestCancelActivityTaskCommand.",
        ));
    };
    if attributes.scheduled_event_id <= 0 {
        return Err(refuse("ScheduledEventId is not set on RequestCancelActivityTaskCommand."));
    }
    Ok(attributes.scheduled_event_id)
}

fn named(field: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{field} is not set"));
    }
    if value.len() > ID_BYTES_MAX {
        return Err(format!("{field} exceeds length limit. Length={} Limit={ID_BYTES_MAX}", value.len()));
    }
    Ok(())
}

/// An activity's time-outs in nanoseconds; 0 is none.
pub struct Timeouts {
    pub schedule_to_close: i64,
    pub schedule_to_start: i64,
    pub start_to_close: i64,
    pub heartbeat: i64,
}

impl Timeouts {
    /// Fills in what is missing; none if neither of the two closing time-outs was given.
    pub fn filled_in(mut self, run_timeout: i64) -> Option<Self> {
        if self.schedule_to_close > 0 {
            self.schedule_to_close = capped(self.schedule_to_close, run_timeout);
            self.schedule_to_start = at_most(self.schedule_to_start, self.schedule_to_close);
            self.start_to_close = at_most(self.start_to_close, self.schedule_to_close);
        } else if self.start_to_close > 0 {
            self.schedule_to_close = run_timeout;
            self.schedule_to_start = at_most(self.schedule_to_start, run_timeout);
            self.start_to_close = capped(self.start_to_close, run_timeout);
        } else {
            return None;
        }
        self.heartbeat = capped(self.heartbeat, self.start_to_close);
        Some(self)
    }
}

/// The value, cut to the bound where there is one.
fn capped(value: i64, bound: i64) -> i64 {
    if bound > 0 { value.min(bound) } else { value }
}

/// As [`capped`], and the bound itself where no value was given.
fn at_most(value: i64, bound: i64) -> i64 {
    if value == 0 { bound } else { capped(value, bound) }
}
