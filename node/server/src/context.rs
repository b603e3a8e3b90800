//! What comes with a call besides its message: the deadline, and where the call has been.
//!
//! Every call has a deadline inside: the caller's, or a default one, so that nothing waits for ever on behalf of somebody who has gone.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// For calls that come without a deadline. Long polls must bring their own.
const DEFAULT_WITHIN: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The caller's own deadline, if it gave one.
    pub caller_deadline: Option<Instant>,
    pub arrived: Instant,
}

impl Context {
    pub fn of(metadata: &MetadataMap) -> Self {
        let arrived = Instant::now();
        Self {
            caller_deadline: timeout_of(metadata.as_ref()).and_then(|timeout| arrived.checked_add(timeout)),
            arrived,
        }
    }

    pub fn deadline(&self) -> Instant {
        self.caller_deadline.unwrap_or(self.arrived + DEFAULT_WITHIN)
    }

    /// When a long poll must answer: a little before its caller gives up.
    pub fn poll_deadline(&self, limits: &stanchion_engine::limits::Limits) -> Instant {
        let longest = self.arrived + Duration::from_millis(limits.long_poll_ms_max);
        let tail = Duration::from_millis(limits.long_poll_tail_ms);
        let own = self.deadline();
        // Of a short deadline only a tenth is given up.
        let tail = tail.min(own.saturating_duration_since(self.arrived) / 10);
        longest.min(own.checked_sub(tail).unwrap_or(own))
    }
}

/// The `grpc-timeout` header: at most eight digits and a unit.
pub fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount.saturating_mul(3600)),
        "M" => Duration::from_secs(amount.saturating_mul(60)),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        timeout_of(&headers)
    }

    #[test]
    fn the_timeout_header_is_read_in_all_units() {
        assert_eq!(header("70S"), Some(Duration::from_secs(70)));
        assert_eq!(header("500m"), Some(Duration::from_millis(500)));
        assert_eq!(header("1000000u"), Some(Duration::from_secs(1)));
        assert_eq!(header("S"), None);
        assert_eq!(header("5x"), None);
    }

    #[test]
    fn a_long_poll_ends_before_its_caller_gives_up() {
        let limits = stanchion_engine::limits::Limits::default();
        let now = Instant::now();
        let context = Context { caller_deadline: Some(now + Duration::from_secs(10)), arrived: now };
        assert_eq!(context.poll_deadline(&limits), now + Duration::from_millis(9500));
        let context = Context { caller_deadline: Some(now + Duration::from_secs(700)), arrived: now };
        assert_eq!(context.poll_deadline(&limits), now + Duration::from_secs(60));
        let context = Context { caller_deadline: Some(now + Duration::from_secs(1)), arrived: now };
        assert_eq!(context.poll_deadline(&limits), now + Duration::from_millis(900));
    }
}
