//! Sequential objects that a history is held against: what the thing would be if there were one copy of it and one caller at a time.
//!
//! Each model's file says which operations it knows (`f`), what they ask and what they are answered. Used with `linearizable`.

pub mod counter;
pub mod register;
pub mod start;

use serde_json::Value;

/// A field of an operation's value, or what is wrong with it.
fn field<'a>(value: &'a Value, name: &str) -> Result<&'a Value, String> {
    value.get(name).ok_or_else(|| format!("{value} has no field {name:?}"))
}
