//! Between the shard's nanoseconds and protobuf's times and durations. Durations inside the engine are `i64` nanoseconds.

use prost_types::{Duration, Timestamp};

use crate::types::ShardTime;

pub const SECOND: i64 = 1_000_000_000;

pub fn timestamp(at: ShardTime) -> Timestamp {
    Timestamp { seconds: at.0.div_euclid(SECOND), nanos: at.0.rem_euclid(SECOND) as i32 }
}

pub fn instant(at: &Timestamp) -> ShardTime {
    ShardTime(at.seconds.saturating_mul(SECOND).saturating_add(i64::from(at.nanos)))
}

/// None for 0, which stands for "no time" in rows.
pub fn timestamp_if_set(nanos: i64) -> Option<Timestamp> {
    (nanos != 0).then(|| timestamp(ShardTime(nanos)))
}

pub fn duration(nanos: i64) -> Duration {
    Duration { seconds: nanos / SECOND, nanos: (nanos % SECOND) as i32 }
}

/// Nanoseconds of a duration, capped at what 64 bits hold; 0 when absent.
pub fn nanos(duration: Option<&Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(SECOND).saturating_add(i64::from(d.nanos)))
}

impl ShardTime {
    pub fn plus(self, nanos: i64) -> ShardTime {
        ShardTime(self.0.saturating_add(nanos))
    }
}
