//! Lengths of time as text ("1h30m", "1.5d"), as Go writes them, with days added.

const NANOS: [(&str, i128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Fraction digits beyond this many do not change a nanosecond.
const FRACTION_DIGITS_MAX: usize = 18;

/// Nanoseconds of the text.
pub fn parse(text: &str) -> Result<i64, String> {
    read(text).and_then(|nanos| i64::try_from(nanos).ok()).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

fn read(text: &str) -> Option<i128> {
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
        let nanos = NANOS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(nanos)?)?;
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<i128>().ok()? * nanos / scale)?;
        }
        rest = after;
    }
    Some(if negative { -total } else { total })
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
        assert_eq!(parse("1h30m"), Ok(hour * 3 / 2));
        assert_eq!(parse("1.5d"), Ok(hour * 36));
        assert_eq!(parse(".5h"), Ok(hour / 2));
        assert_eq!(parse("-5s"), Ok(-5_000_000_000));
        assert_eq!(parse("0"), Ok(0));
        for bad in ["", "x", "5", "h", ".h", "1h x", "99999999999h"] {
            assert_eq!(parse(bad), Err(format!("time: invalid duration {bad:?}")));
        }
    }
}
