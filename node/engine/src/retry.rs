//! Retry policies: whether a failure is tried again, and how long the back-off is. For activities and for workflows.
//!
//! Rules are those of Temporal's server. A back-off is computed in integers (the policy's coefficient is taken apart into its binary
//! mantissa and exponent), because the same power in floating point may differ between two machines.
//!
//! Never: state of its own; a back-off shorter than the policy's.

use stanchion_proto::temporal::common::v1::RetryPolicy;
use stanchion_proto::temporal::enums::v1::{RetryState, TimeoutType};
use stanchion_proto::temporal::failure::v1::Failure;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;

use crate::time::{SECOND, duration, nanos};
use crate::types::{Attempt, ShardTime};

/// Default of `initial_interval`, in nanoseconds.
const INITIAL_INTERVAL: i64 = SECOND;
/// Default of `maximum_interval`, in initial intervals.
const MAXIMUM_INTERVAL_FACTOR: i64 = 100;
/// Default of `backoff_coefficient`.
const BACKOFF_COEFFICIENT: f64 = 2.0;

/// What a non-retryable type that means a time-out begins with.
pub const TIMEOUT_TYPE_PREFIX: &str = "TemporalTimeout:";

/// Fills in what the policy leaves open, as the server records it in the scheduled event.
pub fn with_defaults(policy: Option<&RetryPolicy>) -> RetryPolicy {
    let mut policy = policy.cloned().unwrap_or_default();
    if nanos(policy.initial_interval.as_ref()) == 0 {
        policy.initial_interval = Some(duration(INITIAL_INTERVAL));
    }
    if nanos(policy.maximum_interval.as_ref()) == 0 {
        let initial = nanos(policy.initial_interval.as_ref());
        policy.maximum_interval = Some(duration(initial.saturating_mul(MAXIMUM_INTERVAL_FACTOR)));
    }
    if policy.backoff_coefficient == 0.0 {
        policy.backoff_coefficient = BACKOFF_COEFFICIENT;
    }
    policy
}

/// What is to happen after an attempt that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Try again after this many nanoseconds.
    After(i64),
    /// The failure is final, for this reason.
    Stop(RetryState),
}

/// Decides about the attempt after `attempt`, which failed at `now`. `expires_at`: no attempt may begin later than this.
pub fn next(
    policy: &RetryPolicy,
    attempt: Attempt,
    failure: Option<&Failure>,
    now: ShardTime,
    expires_at: Option<ShardTime>,
) -> Next {
    if !is_retryable(failure, &policy.non_retryable_error_types) {
        return Next::Stop(RetryState::NonRetryableFailure);
    }
    if policy.maximum_attempts > 0 && attempt >= policy.maximum_attempts {
        return Next::Stop(RetryState::MaximumAttemptsReached);
    }
    // A delay that the worker asks for replaces the policy's, and its maximum too.
    let delay = match failure.and_then(next_retry_delay) {
        Some(delay) => delay,
        None => backoff(policy, attempt),
    };
    if expires_at.is_some_and(|at| now.plus(delay) > at) {
        return Next::Stop(RetryState::Timeout);
    }
    Next::After(delay)
}

/// True for a failure that may be tried again under a policy with these non-retryable types.
pub fn is_retryable(failure: Option<&Failure>, non_retryable_types: &[String]) -> bool {
    let Some(info) = failure.and_then(|f| f.failure_info.as_ref()) else { return true };
    match info {
        FailureInfo::TerminatedFailureInfo(_) | FailureInfo::CanceledFailureInfo(_) => false,
        FailureInfo::TimeoutFailureInfo(timeout) => match timeout.timeout_type() {
            TimeoutType::StartToClose => !names_timeout(non_retryable_types, "StartToClose"),
            TimeoutType::Heartbeat => !names_timeout(non_retryable_types, "Heartbeat"),
            _ => false,
        },
        FailureInfo::ServerFailureInfo(server) => !server.non_retryable,
        FailureInfo::ApplicationFailureInfo(application) => {
            !application.non_retryable && !non_retryable_types.contains(&application.r#type)
        }
        _ => true,
    }
}

/// The delay that the failure itself asks for, in nanoseconds.
fn next_retry_delay(failure: &Failure) -> Option<i64> {
    match failure.failure_info.as_ref()? {
        FailureInfo::ApplicationFailureInfo(application) => {
            application.next_retry_delay.as_ref().map(|delay| nanos(Some(delay)).max(0))
        }
        _ => None,
    }
}

fn names_timeout(types: &[String], timeout: &str) -> bool {
    types.iter().any(|name| name.strip_prefix(TIMEOUT_TYPE_PREFIX) == Some(timeout))
}

/// Nanoseconds between the end of `attempt` and the begin of the next: `initial * coefficient ^ (attempt - 1)`, at most the maximum.
pub fn backoff(policy: &RetryPolicy, attempt: Attempt) -> i64 {
    let initial = nanos(policy.initial_interval.as_ref()).max(0);
    let maximum = match nanos(policy.maximum_interval.as_ref()) {
        0 => i64::MAX,
        set => set,
    };
    let maximum = u128::from(maximum.unsigned_abs());
    let mut interval = u128::from(initial.unsigned_abs()) << FRACTION_BITS;
    if let Some(coefficient) = Coefficient::of(policy.backoff_coefficient) {
        for _ in 1..attempt {
            if interval >> FRACTION_BITS >= maximum {
                break;
            }
            interval = coefficient.times(interval);
        }
    }
    i64::try_from((interval >> FRACTION_BITS).min(maximum)).unwrap_or(i64::MAX)
}

/// Binary digits behind the point while a back-off grows: errors of rounding stay far below a nanosecond.
const FRACTION_BITS: u32 = 32;

/// A coefficient above 1 as `mantissa / 2^shift`, exactly.
struct Coefficient {
    mantissa: u64,
    shift: u32,
}

impl Coefficient {
    /// None for a coefficient that does not make the interval grow.
    fn of(value: f64) -> Option<Self> {
        if value.is_nan() || value <= 1.0 {
            return None;
        }
        let bits = value.to_bits();
        let exponent = i64::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1075;
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        // Above 2^52 (infinity too) any interval but none becomes the maximum at once.
        let shift = u32::try_from(-exponent).unwrap_or(0);
        Some(Self { mantissa, shift })
    }

    /// The product, or the largest number where it does not fit.
    fn times(&self, value: u128) -> u128 {
        let mantissa = u128::from(self.mantissa);
        let low = (value & u128::from(u64::MAX)) * mantissa;
        let high = (value >> 64) * mantissa;
        let up = 64 - self.shift;
        if high != 0 && high.leading_zeros() < up {
            return u128::MAX;
        }
        (high << up).saturating_add(low >> self.shift)
    }
}

#[cfg(test)]
mod tests;
