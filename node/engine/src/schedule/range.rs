//! Text of one calendar field ("1-5/2,8", "mon-fri", "*") to ranges, as the real server reads it.

use stanchion_proto::temporal::schedule::v1::Range;

/// Which words a field understands beside numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Words {
    None,
    /// "every" is an empty list of ranges.
    Year,
    /// Beginnings of month names, from three letters.
    Month,
    /// Beginnings of day names, from two letters; 7 is Sunday too.
    DayOfWeek,
}

/// A field of a calendar: its name in errors, what it means when it is not given, its bounds.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub default: &'static str,
    pub min: i32,
    pub max: i32,
    pub words: Words,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

impl Field {
    /// Ranges of the text, with zero for an end that equals its start and for a step of one.
    pub fn parse(&self, text: &str) -> Result<Vec<Range>, String> {
        let text = match text.trim() {
            "" => self.default,
            given => given,
        };
        if text == "*" && self.words == Words::Year {
            return Ok(Vec::new());
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            self.parse_part(part, &mut ranges)?;
        }
        Ok(ranges)
    }

    fn parse_part(&self, part: &str, ranges: &mut Vec<Range>) -> Result<(), String> {
        let name = self.name;
        let (part, step) = match part.split_once('/') {
            None => (part, None),
            Some((_, more)) if more.contains('/') => return Err(format!("{name} has too many slashes")),
            Some((_, "")) => return Err(format!("{name} missing step value")),
            Some((part, step)) => {
                let step = number(step).map_err(|why| format!("strconv.Atoi: parsing {step:?}: {why}"))?;
                if step < 1 {
                    return Err(format!("{name} has invalid Step"));
                }
                (part, Some(step))
            }
        };
        let (start, mut end) = self.bounds_of(part, step.is_some())?;
        let step = step.unwrap_or(1);
        if self.words == Words::DayOfWeek && end == 7 {
            // Sunday is 0. It needs a range of its own unless a range of step 1 from 0 or 1 reaches it, or it is stepped over.
            if (7 - i64::from(start)) % step == 0 && (step > 1 || start > 1) {
                ranges.push(Range { start: 0, end: 0, step: 0 });
                if start == 7 {
                    return Ok(());
                }
            }
            end = 6;
        }
        ranges.push(Range {
            start,
            end: if start == end { 0 } else { end },
            step: if step == 1 { 0 } else { i32::try_from(step).unwrap_or(i32::MAX) },
        });
        Ok(())
    }

    fn bounds_of(&self, part: &str, stepped: bool) -> Result<(i32, i32), String> {
        let (name, min, max) = (self.name, self.min, self.max);
        if part == "*" {
            return Ok((min, max));
        }
        let Some((first, last)) = part.split_once('-') else {
            let start = self.value(part, min).ok_or_else(|| format!("{name} is not in range [{min}-{max}]"))?;
            // With a step, a single value means from there to the end.
            return Ok((start, if stepped { max } else { start }));
        };
        if last.contains('-') {
            return Err(format!("{name} has too many dashes"));
        }
        let start = self.value(first, min).ok_or_else(|| format!("{name} Start is not in range [{min}-{max}]"))?;
        let end = self
            .value(last, start)
            .ok_or_else(|| format!("{name} End is before Start or not in range [{min}-{max}]"))?;
        Ok((start, end))
    }

    /// A number or a name, from `min` to the field's maximum.
    fn value(&self, text: &str, min: i32) -> Option<i32> {
        let lower = text.to_lowercase();
        let named = match self.words {
            Words::Month if text.len() >= 3 => position(&MONTHS, &lower).map(|at| at + 1),
            Words::DayOfWeek if text.len() >= 2 => position(&DAYS, &lower),
            _ => None,
        };
        let value = match named {
            Some(value) => value,
            None => i32::try_from(number(text).ok()?).ok()?,
        };
        (min..=self.max).contains(&value).then_some(value)
    }
}

fn position(names: &[&str], prefix: &str) -> Option<i32> {
    names.iter().position(|name| name.starts_with(prefix)).and_then(|at| i32::try_from(at).ok())
}

/// A decimal number with an optional sign, or what is wrong with it.
fn number(text: &str) -> Result<i64, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().map_err(|_| "value out of range")
}
