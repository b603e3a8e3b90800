//! Lengths of time as Go writes them: `1h30m`, `1.5s`, `-5s`, `0`. Every rule that reads one reads it here.
//!
//! Never: floats. A nanosecond is a nanosecond on every replica.
//!
//! Called by cron strings, by schedules, and by the server for filters of lists.

const NANOS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const NANOS_OF_DAY: i128 = 86_400_000_000_000;

/// Fraction digits beyond this many do not change a nanosecond.
const FRACTION_DIGITS_MAX: usize = 18;

/// Nanoseconds of the text.
pub fn parse(text: &str) -> Option<i64> {
    read(text, |unit| NANOS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos))
}

/// As [`parse`], with `d` for days, which Go does not know and Temporal's schedules and filters do.
pub fn parse_with_days(text: &str) -> Option<i64> {
    let days = |unit: &str| (unit == "d").then_some(NANOS_OF_DAY);
    read(text, |unit| days(unit).or_else(|| NANOS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos)))
}

fn read(text: &str, nanos_of: impl Fn(&str) -> Option<i128>) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanos = nanos_of(unit)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(nanos)?)?;
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<i128>().ok()? * nanos / scale)?;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        let hour = 3_600_000_000_000;
        assert_eq!(parse("1h30m"), Some(hour * 3 / 2));
        assert_eq!(parse(".5h"), Some(hour / 2));
        assert_eq!(parse("-5s"), Some(-5_000_000_000));
        assert_eq!(parse("9223372036854775807ns"), Some(i64::MAX));
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse_with_days("1.5d"), Some(hour * 36));
        for bad in ["", "-", "x", "5", "h", ".h", "1h x", "1..5s", "1d", "99999999999h"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
