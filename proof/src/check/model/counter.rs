//! A counter.
//!
//! | f | asks | is answered |
//! |---|---|---|
//! | `add` | how much, negative too | `{"after": count}`, or nothing |
//! | `read` | | the count |

use serde_json::Value;

use crate::check::linearizable::Model;
use crate::journal::Operation;

/// Begins at 0 under each key.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Read(Option<i64>),
    Add { much: i64, after: Option<i64> },
}

impl Model for Counter {
    type Call = Call;
    type State = i64;

    fn initial(&self, _: &str) -> i64 {
        0
    }

    fn call(&self, operation: &Operation) -> Result<Option<Call>, String> {
        if operation.failed() {
            return Ok(None);
        }
        let number = |value: &Value| value.as_i64().ok_or_else(|| format!("{value} is no count"));
        Ok(match operation.f.as_str() {
            "read" => Some(Call::Read(operation.ok().map(number).transpose()?)),
            "add" => {
                // An acknowledgement that says nothing repeats what was asked: it is no count that was seen.
                let after = operation.ok().and_then(|value| value.get("after")).map(number).transpose()?;
                Some(Call::Add { much: number(&operation.input)?, after })
            }
            _ => None,
        })
    }

    fn step(&self, state: &i64, call: &Call) -> Option<i64> {
        match call {
            Call::Read(seen) => seen.is_none_or(|seen| seen == *state).then_some(*state),
            Call::Add { much, after } => {
                let sum = state.checked_add(*much)?;
                after.is_none_or(|after| after == sum).then_some(sum)
            }
        }
    }

    fn reads(&self, call: &Call) -> bool {
        matches!(call, Call::Read(_))
    }
}
