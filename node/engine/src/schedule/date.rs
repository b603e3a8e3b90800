//! Dates of the Gregorian calendar and times of day, without zones: arithmetic alone.

use std::fmt;

pub const DAY_SECONDS: i64 = 86_400;

/// A date and a time of day, without a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DateTime {
    pub year: i32,
    pub month: i32,
    pub day: i32,
    pub hour: i32,
    pub minute: i32,
    pub second: i32,
}

impl DateTime {
    /// The reading of a clock that counts seconds since 1970.
    pub fn of(reading: i64) -> Self {
        let (days, seconds) = (reading.div_euclid(DAY_SECONDS), reading.rem_euclid(DAY_SECONDS) as i32);
        let (year, month, day) = civil_from_days(days);
        Self { year, month, day, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60 }
    }

    /// 0 is Sunday.
    pub fn weekday(&self) -> i32 {
        (days_from_civil(self.year, self.month, self.day) + 4).rem_euclid(7) as i32
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
pub fn days_from_civil(year: i32, month: i32, day: i32) -> i64 {
    // Years begin in March, so that the leap day is the last one; 400 of them are an era.
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i32, i32, i32) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as i32, day as i32)
}

/// As RFC 3339 writes a time in UTC, on the second.
impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_days_agree() {
        assert_eq!(DateTime::of(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(DateTime::of(-1).to_string(), "1969-12-31T23:59:59Z");
        for days in (-800_000..800_000).step_by(37) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }
}
