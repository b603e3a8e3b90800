//! Checks of single fields that many messages share: durations, ids, task queues, payload sizes. Each answers with the words that the
//! server puts behind the name of the field; the caller adds the name.
//!
//! Called by the command checks beside it and by the server's frontend.

use prost::Message;
use prost_types::Duration;
use stanchion_proto::temporal::common::v1::{Payload, Payloads, Priority};
use stanchion_proto::temporal::taskqueue::v1::TaskQueue;

/// Workflow ids, activity ids, types, task queues, timer ids, marker names: at most this many bytes.
pub const ID_BYTES_MAX: usize = 1000;

/// Queue names that begin so are the server's own.
pub const RESERVED_QUEUE_PREFIX: &str = "/_sys/";

/// A duration must not be negative.
pub fn duration(value: Option<&Duration>) -> Result<(), &'static str> {
    match value {
        Some(d) if d.seconds < 0 || d.nanos < 0 => Err("negative duration"),
        _ => Ok(()),
    }
}

/// The queue's name: `value`'s, or the default where it names none. An empty default stands for "there is none".
pub fn task_queue<'a>(value: Option<&'a TaskQueue>, default: &'a str) -> Result<&'a str, &'static str> {
    let Some(queue) = value else {
        return if default.is_empty() { Err("taskQueue is not set") } else { Ok(default) };
    };
    if queue.name.is_empty() {
        return if default.is_empty() { Err("missing task queue name") } else { Ok(default) };
    }
    if queue.name.len() > ID_BYTES_MAX {
        return Err("taskQueue length exceeds limit");
    }
    if queue.name.starts_with(RESERVED_QUEUE_PREFIX) {
        return Err("task queue name cannot start with reserved prefix /_sys/");
    }
    Ok(&queue.name)
}

/// Bytes of a field of payloads, as the limits count them.
pub fn payloads_bytes(payloads: Option<&Payloads>) -> usize {
    payloads.map_or(0, Message::encoded_len)
}

/// Bytes of a map of payloads: names and values.
pub fn payload_map_bytes<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Payload)>) -> usize {
    fields.into_iter().map(|(name, payload)| name.len() + payload.encoded_len()).sum()
}

const FAIRNESS_KEY_BYTES_MAX: usize = 64;

/// The real server's rules of a priority, and its words.
pub fn priority(priority: Option<&Priority>) -> Result<(), &'static str> {
    let Some(priority) = priority else { return Ok(()) };
    if priority.priority_key < 0 {
        return Err("priority key can't be negative");
    }
    if priority.fairness_key.len() > FAIRNESS_KEY_BYTES_MAX {
        return Err("fairness key length exceeds limit");
    }
    if priority.fairness_weight < 0.0 {
        return Err("must be greater than zero");
    }
    Ok(())
}
