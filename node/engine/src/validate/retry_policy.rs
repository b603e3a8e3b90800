//! A retry policy's own rules, for all that has one. Also called by the frontend, which refuses before anything is proposed.

use stanchion_proto::temporal::common::v1::RetryPolicy;

use crate::retry::{TIMEOUT_TYPE_PREFIX, with_defaults};
use crate::time::nanos;
use crate::validate::fields;

/// The server's words about the first rule that the policy breaks.
pub fn check(policy: Option<&RetryPolicy>) -> Result<(), String> {
    let Some(policy) = policy else { return Ok(()) };
    // A single attempt means no retry: the rest of the policy does not matter.
    if policy.maximum_attempts == 1 {
        return Ok(());
    }
    fields::duration(policy.initial_interval.as_ref())
        .map_err(|why| format!("invalid InitialInterval set on retry policy: {why}"))?;
    // 0 is "not set"; the comparison is written so that NaN is refused.
    if policy.backoff_coefficient != 0.0 && (policy.backoff_coefficient.is_nan() || policy.backoff_coefficient < 1.0) {
        return Err("BackoffCoefficient cannot be less than 1 on retry policy.".into());
    }
    fields::duration(policy.maximum_interval.as_ref())
        .map_err(|why| format!("invalid MaximumInterval set on retry policy: {why}"))?;
    let maximum = nanos(policy.maximum_interval.as_ref());
    if maximum != 0 && maximum < nanos(with_defaults(Some(policy)).initial_interval.as_ref()) {
        return Err("MaximumInterval cannot be less than InitialInterval on retry policy.".into());
    }
    if policy.maximum_attempts < 0 {
        return Err("MaximumAttempts cannot be negative on retry policy.".into());
    }
    for kind in &policy.non_retryable_error_types {
        if let Some(timeout) = kind.strip_prefix(TIMEOUT_TYPE_PREFIX)
            && !TIMEOUT_TYPES.contains(&timeout)
        {
            return Err(format!("Invalid timeout type value: {timeout}."));
        }
    }
    Ok(())
}

const TIMEOUT_TYPES: [&str; 10] = [
    "Unspecified",
    "StartToClose",
    "ScheduleToStart",
    "ScheduleToClose",
    "Heartbeat",
    "TIMEOUT_TYPE_UNSPECIFIED",
    "TIMEOUT_TYPE_START_TO_CLOSE",
    "TIMEOUT_TYPE_SCHEDULE_TO_START",
    "TIMEOUT_TYPE_SCHEDULE_TO_CLOSE",
    "TIMEOUT_TYPE_HEARTBEAT",
];
