//! By how much a schedule's action is put off: the same for the same schedule and nominal time, on every node and at every attempt.

/// Seconds from the year 1 to 1970: the count that the hashed form of a time begins with.
const UNIX_EPOCH_SINCE_YEAR_ONE: i64 = 62_135_596_800;

/// Milliseconds of delay, less than `limit_ms` unless that is 0. `nominal` in Unix seconds.
///
/// The hash goes over the nominal time as Go's `time.Time` writes itself in UTC, then the seed.
pub fn delay_ms(seed: &str, nominal: i64, limit_ms: u64) -> u64 {
    let mut bytes = Vec::with_capacity(15 + seed.len());
    bytes.push(1);
    bytes.extend_from_slice(&(nominal + UNIX_EPOCH_SINCE_YEAR_ONE).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[0xff; 2]);
    bytes.extend_from_slice(seed.as_bytes());
    let fingerprint = u64::from(farmhash::fingerprint32(&bytes));
    (fingerprint * limit_ms.min(u64::from(u32::MAX))) >> 32
}
