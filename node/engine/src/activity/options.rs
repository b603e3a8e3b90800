//! An activity's options, changed from outside: what a field mask names is taken from the request, the rest stays.
//!
//! The words are those of the real server, which has two sets of rules: of a workflow's activity unknown paths are ignored, of a
//! standalone one they are refused.

use stanchion_proto::row::ActivityRow;
use stanchion_proto::temporal::activity::v1::ActivityOptions;
use stanchion_proto::temporal::enums::v1::TaskQueueKind;
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

use super::Place;
use crate::reply::Rejection;
use crate::retry;
use crate::time::{duration, nanos};
use crate::types::ShardTime;
use crate::validate::activity::Timeouts;
use crate::validate::{fields, retry_policy};

/// What the change is checked against.
pub(crate) struct Rules {
    pub standalone: bool,
    /// Caps every time-out; 0 is none.
    pub run_timeout: i64,
}

/// The options as the row has them.
pub(crate) fn of(row: &ActivityRow) -> ActivityOptions {
    ActivityOptions {
        task_queue: Some(TaskQueue {
            name: row.task_queue.clone(),
            kind: TaskQueueKind::Normal as i32,
            ..Default::default()
        }),
        schedule_to_close_timeout: Some(duration(row.schedule_to_close_timeout)),
        schedule_to_start_timeout: Some(duration(row.schedule_to_start_timeout)),
        start_to_close_timeout: Some(duration(row.start_to_close_timeout)),
        heartbeat_timeout: Some(duration(row.heartbeat_timeout)),
        retry_policy: row.retry_policy.clone(),
        priority: row.priority.clone(),
        start_delay: (row.start_delay != 0).then(|| duration(row.start_delay)),
    }
}

/// Writes the options into the row. Timers that follow from them are the caller's.
pub(crate) fn put(row: &mut ActivityRow, options: &ActivityOptions) {
    row.task_queue = options.task_queue.as_ref().map(|queue| queue.name.clone()).unwrap_or_default();
    row.schedule_to_close_timeout = nanos(options.schedule_to_close_timeout.as_ref());
    row.schedule_to_start_timeout = nanos(options.schedule_to_start_timeout.as_ref());
    row.start_to_close_timeout = nanos(options.start_to_close_timeout.as_ref());
    row.heartbeat_timeout = nanos(options.heartbeat_timeout.as_ref());
    row.retry_policy.clone_from(&options.retry_policy);
    row.priority.clone_from(&options.priority);
}

/// The row's options with those of `given` that the mask names, checked and filled in.
pub(crate) fn merged(
    row: &ActivityRow,
    given: &ActivityOptions,
    mask: &[String],
    rules: &Rules,
) -> Result<ActivityOptions, Rejection> {
    let mut options = of(row);
    let mut whole_policy = false;
    for path in mask {
        let path = snake_case(path);
        whole_policy |= path == "retry_policy";
        take(&mut options, given, &path, rules)?;
    }
    check(row, &mut options, whole_policy, rules)?;
    Ok(options)
}

fn take(options: &mut ActivityOptions, given: &ActivityOptions, path: &str, rules: &Rules) -> Result<(), Rejection> {
    let missing = |what: &str| Rejection::invalid(format!("{what} is not provided"));
    match path.split_once('.').unwrap_or((path, "")) {
        ("task_queue", "name") => {
            let queue = given.task_queue.as_ref().ok_or_else(|| missing("TaskQueue"))?;
            let name = fields::task_queue(Some(queue), "").map_err(Rejection::invalid)?;
            options.task_queue =
                Some(TaskQueue { name: name.to_owned(), kind: TaskQueueKind::Normal as i32, ..Default::default() });
        }
        ("schedule_to_close_timeout", "") => options.schedule_to_close_timeout = given.schedule_to_close_timeout,
        ("schedule_to_start_timeout", "") => options.schedule_to_start_timeout = given.schedule_to_start_timeout,
        ("start_to_close_timeout", "") => options.start_to_close_timeout = given.start_to_close_timeout,
        ("heartbeat_timeout", "") => options.heartbeat_timeout = given.heartbeat_timeout,
        ("start_delay", "") => options.start_delay = given.start_delay,
        ("retry_policy", "") => options.retry_policy.clone_from(&given.retry_policy),
        ("retry_policy", part) => {
            let from = given.retry_policy.as_ref().ok_or_else(|| missing("RetryPolicy"))?;
            let to = options.retry_policy.get_or_insert_default();
            match part {
                "initial_interval" => to.initial_interval = from.initial_interval,
                "backoff_coefficient" => to.backoff_coefficient = from.backoff_coefficient,
                "maximum_interval" => to.maximum_interval = from.maximum_interval,
                "maximum_attempts" => to.maximum_attempts = from.maximum_attempts,
                _ => return unsupported(path, rules),
            }
        }
        ("priority", "") => options.priority.clone_from(&given.priority),
        ("priority", part) => {
            let from = given.priority.as_ref().ok_or_else(|| missing("Priority"))?;
            let to = options.priority.get_or_insert_default();
            match part {
                "priority_key" => to.priority_key = from.priority_key,
                "fairness_key" => to.fairness_key.clone_from(&from.fairness_key),
                "fairness_weight" => to.fairness_weight = from.fairness_weight,
                _ => return unsupported(path, rules),
            }
        }
        _ => return unsupported(path, rules),
    }
    Ok(())
}

fn unsupported(path: &str, rules: &Rules) -> Result<(), Rejection> {
    if !rules.standalone {
        return Ok(());
    }
    Err(Rejection::invalid(format!("unsupported update_mask path: \"{path}\"")))
}

fn check(row: &ActivityRow, options: &mut ActivityOptions, whole_policy: bool, rules: &Rules) -> Result<(), Rejection> {
    if rules.standalone {
        options.retry_policy = Some(retry::with_defaults(options.retry_policy.as_ref()));
    }
    retry_policy::check(options.retry_policy.as_ref()).map_err(Rejection::invalid)?;
    let unset = options.retry_policy.as_ref().is_some_and(|p| p.backoff_coefficient == 0.0 && p.maximum_attempts != 1);
    if unset && !whole_policy {
        // The real server fills defaults in at the start only.
        return Err(Rejection::invalid("BackoffCoefficient cannot be less than 1 on retry policy."));
    }
    for (name, value) in [
        ("ScheduleToCloseTimeout", &options.schedule_to_close_timeout),
        ("ScheduleToStartTimeout", &options.schedule_to_start_timeout),
        ("StartToCloseTimeout", &options.start_to_close_timeout),
        ("HeartbeatTimeout", &options.heartbeat_timeout),
        ("StartDelay", &options.start_delay),
    ] {
        fields::duration(value.as_ref()).map_err(|why| Rejection::invalid(format!("invalid {name}: {why}")))?;
    }
    if options.priority.as_ref().is_some_and(|p| p.priority_key < 0) {
        return Err(Rejection::invalid("priority key can't be negative"));
    }
    let given = Timeouts {
        schedule_to_close: nanos(options.schedule_to_close_timeout.as_ref()),
        schedule_to_start: nanos(options.schedule_to_start_timeout.as_ref()),
        start_to_close: nanos(options.start_to_close_timeout.as_ref()),
        heartbeat: nanos(options.heartbeat_timeout.as_ref()),
    };
    let Some(timeouts) = given.filled_in(rules.run_timeout) else {
        return Err(Rejection::invalid(format!(
            "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity. ActivityId={} ActivityType={}",
            row.activity_id, row.activity_type
        )));
    };
    options.schedule_to_close_timeout = Some(duration(timeouts.schedule_to_close));
    options.schedule_to_start_timeout = Some(duration(timeouts.schedule_to_start));
    options.start_to_close_timeout = Some(duration(timeouts.start_to_close));
    options.heartbeat_timeout = Some(duration(timeouts.heartbeat));
    Ok(())
}

/// When an attempt that is not the first may begin under the options that the row has now, `past` attempts counted for the back-off.
pub(crate) fn attempt_at(row: &ActivityRow, past: i32) -> ShardTime {
    let policy = retry::with_defaults(row.retry_policy.as_ref());
    ShardTime(row.last_attempt_completed_at).plus(retry::backoff(&policy, past))
}

/// A path of a field mask, as the wire has it or as JSON has it.
fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

impl Place<'_> {
    pub fn rules(&self, run_timeout: i64) -> Rules {
        Rules { standalone: self.id == super::STANDALONE, run_timeout }
    }
}

#[cfg(test)]
mod tests;
