//! Failures that the server itself makes, and the cutting of those that are too large to keep.

use prost::Message;
use stanchion_proto::temporal::enums::v1::TimeoutType;
use stanchion_proto::temporal::failure::v1::failure::FailureInfo;
use stanchion_proto::temporal::failure::v1::{ApplicationFailureInfo, Failure, ServerFailureInfo, TimeoutFailureInfo};

/// The failure of the attempt before is kept whole up to this many bytes.
const KEPT_BYTES_MAX: usize = 4 * 1024;
/// What is left of a larger one.
const CUT_BYTES: usize = 2 * 1024;
/// Causes below causes that a cut failure keeps.
const CAUSES_MAX: u32 = 20;

/// An attempt or the activity ran out of time.
pub(crate) fn timeout(kind: TimeoutType) -> Failure {
    let name = match kind {
        TimeoutType::Unspecified => "Unspecified",
        TimeoutType::StartToClose => "StartToClose",
        TimeoutType::ScheduleToStart => "ScheduleToStart",
        TimeoutType::ScheduleToClose => "ScheduleToClose",
        TimeoutType::Heartbeat => "Heartbeat",
    };
    timeout_saying(kind, format!("activity {name} timeout"))
}

/// There is no room for another attempt before schedule-to-close.
pub(crate) fn no_time_left() -> Failure {
    timeout_saying(
        TimeoutType::ScheduleToClose,
        "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying".into(),
    )
}

fn timeout_saying(kind: TimeoutType, message: String) -> Failure {
    let info = TimeoutFailureInfo { timeout_type: kind as i32, ..Default::default() };
    Failure {
        message,
        source: "Server".into(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Default::default()
    }
}

/// Something that the worker sent is over its limit: the same attempt again would only send it again.
pub(crate) fn oversized(what: &str) -> Failure {
    Failure { message: what.to_owned(), failure_info: Some(server(true)), ..Default::default() }
}

/// The failure in the place of one that is itself over the limit.
pub(crate) fn oversized_failure(failure: &Failure) -> Failure {
    Failure { cause: Some(Box::new(cut(failure, CUT_BYTES, CAUSES_MAX))), ..oversized("Failure exceeds size limit.") }
}

/// What is kept of a failure while the next attempt waits and runs.
pub(crate) fn kept(failure: Failure) -> Failure {
    if failure.encoded_len() <= KEPT_BYTES_MAX {
        return failure;
    }
    Failure {
        message: "Failure exceeds size limit.".into(),
        cause: Some(Box::new(cut(&failure, CUT_BYTES, CAUSES_MAX))),
        failure_info: Some(server(false)),
        ..Default::default()
    }
}

fn server(non_retryable: bool) -> FailureInfo {
    FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable })
}

/// The failure cut to about so many bytes: what it is stays, then message and stack as far as they fit, then causes.
fn cut(failure: &Failure, bytes_max: usize, causes_max: u32) -> Failure {
    let info = match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
                r#type: prefix(&info.r#type, bytes_max),
                non_retryable: info.non_retryable,
                ..Default::default()
            }))
        }
        Some(FailureInfo::ServerFailureInfo(info)) => Some(server(info.non_retryable)),
        _ => None,
    };
    let mut cut_failure = Failure { failure_info: info, ..Default::default() };
    let mut left = bytes_max.saturating_sub(cut_failure.encoded_len());
    let mut fit = |text: &str| {
        let text = prefix(text, left);
        left -= text.len();
        text
    };
    cut_failure.source = fit(&failure.source);
    cut_failure.message = fit(&failure.message);
    cut_failure.stack_trace = fit(&failure.stack_trace);
    if let Some(cause) = &failure.cause
        && left > 0
        && causes_max > 0
    {
        cut_failure.cause = Some(Box::new(cut(cause, left, causes_max - 1)));
    }
    cut_failure
}

/// The text's head of at most so many bytes, cut between characters.
fn prefix(text: &str, bytes_max: usize) -> String {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_failure_is_cut_and_keeps_its_kind() {
        let inner = Failure { message: "ü".repeat(3000), ..Default::default() };
        let info = ApplicationFailureInfo { r#type: "Own".into(), non_retryable: true, ..Default::default() };
        let failure = Failure {
            message: "outer".into(),
            cause: Some(Box::new(inner)),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
            ..Default::default()
        };
        let kept = kept(failure);
        assert!(kept.encoded_len() <= CUT_BYTES + 100);
        let cause = kept.cause.unwrap();
        assert_eq!(cause.message, "outer");
        assert!(matches!(
            cause.failure_info,
            Some(FailureInfo::ApplicationFailureInfo(ref info)) if info.r#type == "Own" && info.non_retryable
        ));
        assert!(!cause.cause.unwrap().message.is_empty());
    }
}
