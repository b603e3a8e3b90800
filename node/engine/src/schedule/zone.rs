//! Time zones: from the database that is compiled in, or from data that a spec brings along.
//!
//! Local times that do not exist, or exist twice, are resolved as the real server's calendar library does it, because the search for
//! matching times is built on that.
//!
//! Never: the system's zone database; called by `apply`.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use stanchion_proto::temporal::schedule::v1::ScheduleSpec;

use super::date::{DAY_SECONDS, DateTime, days_from_civil};

/// See the module.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone of a spec.
    pub fn of(spec: &ScheduleSpec) -> Result<Self, String> {
        if !spec.timezone_data.is_empty() {
            return TimeZone::tzif(&spec.timezone_name, &spec.timezone_data)
                .map(Self)
                .map_err(|_| "malformed time zone information".to_owned());
        }
        Self::named(&spec.timezone_name)
    }

    /// A zone by its IANA name. No name, and "Local", mean UTC.
    pub fn named(name: &str) -> Result<Self, String> {
        if matches!(name, "" | "UTC" | "Local") {
            return Ok(Self::utc());
        }
        // The database does not mind upper and lower case; the real server does.
        let found = TimeZoneDatabase::bundled().get(name).ok().filter(|zone| zone.iana_name() == Some(name));
        found.map(Self).ok_or_else(|| format!("unknown time zone {name}"))
    }

    /// Seconds east of UTC at an instant.
    fn offset(&self, unix_seconds: i64) -> i64 {
        let at = Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        i64::from(self.0.to_offset(at).seconds())
    }

    /// What clocks in the zone show.
    pub fn local(&self, unix_seconds: i64) -> DateTime {
        DateTime::of(unix_seconds + self.offset(unix_seconds))
    }

    /// The instant at which clocks in the zone show this. Of two such instants, and for a time that is jumped over, the one that the
    /// offset at the same reading in UTC leads to. Hours may be 24: the next day's first.
    pub fn instant(&self, at: DateTime) -> i64 {
        let reading = days_from_civil(at.year, at.month, at.day) * DAY_SECONDS
            + i64::from(at.hour) * 3600
            + i64::from(at.minute) * 60
            + i64::from(at.second);
        match self.offset(reading) {
            0 => reading,
            first => reading - self.offset(reading - first),
        }
    }
}
