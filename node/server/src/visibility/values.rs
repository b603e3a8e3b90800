//! Values in filters: numbers, names of statuses, durations as Go writes them.

use std::fmt;

use stanchion_engine::go_duration;
use stanchion_proto::temporal::enums::v1::WorkflowExecutionStatus;

use super::parse::invalid;

/// A value as a query writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Literal {
    /// What Go calls the type, which is what the real server's messages say.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Int(_) => "int64",
            Self::Float(_) => "float64",
            Self::Bool(_) => "bool",
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}")?,
            Self::Int(number) => write!(f, "{number}")?,
            Self::Float(number) => write!(f, "{number}")?,
            Self::Bool(truth) => write!(f, "{truth}")?,
        }
        write!(f, " (type: {})", self.type_name())
    }
}

/// A whole number, or one with a fraction or an exponent.
pub fn number(text: &str) -> Result<Literal, String> {
    if let Ok(whole) = text.parse() {
        return Ok(Literal::Int(whole));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Literal::Float(number)),
        _ => invalid(format!("unable to parse value \"{text}\"")),
    }
}

/// The number of a status: `Running`, or the long name of the protocol.
pub fn status(name: &str) -> Option<i32> {
    if let Some(known) = WorkflowExecutionStatus::from_str_name(name) {
        return Some(known.into());
    }
    (0..=16)
        .filter_map(|number| WorkflowExecutionStatus::try_from(number).ok())
        .find_map(|known| (status_name(known.into()) == name).then_some(known.into()))
}

/// The short name: `WORKFLOW_EXECUTION_STATUS_TIMED_OUT` is `TimedOut`.
pub fn status_name(number: i32) -> String {
    let known = WorkflowExecutionStatus::try_from(number).unwrap_or_default();
    let long = known.as_str_name();
    let words = long.strip_prefix("WORKFLOW_EXECUTION_STATUS_").unwrap_or(long).split('_');
    words
        .map(|word| match word.split_at_checked(1) {
            Some((first, rest)) => first.to_owned() + &rest.to_ascii_lowercase(),
            None => String::new(),
        })
        .collect()
}

/// Nanoseconds: a whole number of them, `1h30m` with units down to `ns` and days, or `hh:mm:ss`.
pub fn duration(text: &str) -> Option<i64> {
    if let Ok(nanos) = text.parse() {
        return Some(nanos);
    }
    go_duration::parse_with_days(text).or_else(|| clock(text))
}

fn clock(text: &str) -> Option<i64> {
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
    seconds.checked_mul(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_three_ways() {
        assert_eq!(duration("1500"), Some(1500));
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("-1.5s"), Some(-1_500_000_000));
        assert_eq!(duration("2d"), Some(172_800_000_000_000));
        assert_eq!(duration("01:00:01"), Some(3_601_000_000_000));
        assert_eq!(duration("1:99:00"), None);
        assert_eq!(duration("x"), None);
        assert_eq!(duration(""), None);
    }

    #[test]
    fn statuses_have_a_short_and_a_long_name() {
        assert_eq!(status("TimedOut"), Some(WorkflowExecutionStatus::TimedOut.into()));
        assert_eq!(status("WORKFLOW_EXECUTION_STATUS_RUNNING"), Some(1));
        assert_eq!(status("running"), None);
        assert_eq!(status_name(6), "ContinuedAsNew");
    }
}
