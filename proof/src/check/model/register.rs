//! A register with compare-and-set.
//!
//! | f | asks | is answered |
//! |---|---|---|
//! | `read` | | the value |
//! | `write` | the value | |
//! | `cas` | `[from, to]` | true, or false: it was not `from` |
//!
//! A `cas` that failed, as Jepsen writes one that found another value, says nothing here: it can have failed for other reasons too.

use std::fmt;

use serde_json::Value;

use crate::check::linearizable::Model;
use crate::journal::Operation;

/// Begins with `initial` under each key.
#[derive(Clone, Debug)]
pub struct Register {
    pub initial: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Read(Option<Held>),
    Write(Held),
    Cas { from: Held, to: Held, swapped: Option<bool> },
}

/// A value with an order: that of its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held(String);

impl From<&Value> for Held {
    fn from(value: &Value) -> Self {
        Held(value.to_string())
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Model for Register {
    type Call = Call;
    type State = Held;

    fn initial(&self, _: &str) -> Held {
        Held::from(&self.initial)
    }

    fn call(&self, operation: &Operation) -> Result<Option<Call>, String> {
        if operation.failed() {
            return Ok(None);
        }
        Ok(Some(match operation.f.as_str() {
            "read" => Call::Read(operation.ok().map(Held::from)),
            "write" => Call::Write(Held::from(&operation.input)),
            "cas" => {
                let [from, to] = operation.input.as_array().map(Vec::as_slice).unwrap_or_default() else {
                    return Err(format!("{} is not [from, to]", operation.input));
                };
                let swapped = match operation.ok() {
                    None => None,
                    Some(Value::Bool(swapped)) => Some(*swapped),
                    Some(other) => return Err(format!("{other} does not say whether it was swapped")),
                };
                Call::Cas { from: Held::from(from), to: Held::from(to), swapped }
            }
            _ => return Ok(None),
        }))
    }

    fn step(&self, state: &Held, call: &Call) -> Option<Held> {
        match call {
            Call::Read(seen) => seen.as_ref().is_none_or(|seen| seen == state).then(|| state.clone()),
            Call::Write(value) => Some(value.clone()),
            Call::Cas { from, to, swapped } => {
                let swaps = state == from;
                let as_seen = swapped.is_none_or(|swapped| swapped == swaps);
                as_seen.then(|| if swaps { to.clone() } else { state.clone() })
            }
        }
    }

    fn reads(&self, call: &Call) -> bool {
        matches!(call, Call::Read(_) | Call::Cas { swapped: Some(false), .. })
    }
}
