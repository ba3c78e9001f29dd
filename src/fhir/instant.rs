//! Dates and times: `date`, `dateTime` and `instant` as FHIR writes them, whole or in part (R4, 2.24.0.1).

use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

/// A date or time as it was written: `2026`, `2026-11`, `2026-11-22`, `2026-11-22T17:50:58.123+01:00`.
///
/// Its text is kept as it came, also where it is not a date at all: a foreign server's mistake must not lose a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateTime(String);

/// How much of a date or time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// `2026`.
    Year,
    /// `2026-11`.
    Month,
    /// `2026-11-22`.
    Day,
    /// With a time and a zone.
    Second,
}

/// The moments that a date or time may mean: from `start` up to, not including, `end`.
/// Both are microseconds since 1970-01-01T00:00:00Z. A date without a zone is taken as UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// The first moment.
    pub start: i64,
    /// The first moment after.
    pub end: i64,
}

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

// === impl DateTime ===

impl DateTime {
    /// Reads a text that must be a legal date or time.
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(|_| Self(text.to_owned()))
    }

    /// The moments of a date in a search, which may end with the minute or lack its zone (R4, 3.1.1.4.7).
    ///
    /// A `+` that was not percent-encoded has come as a space; no date has one.
    pub fn searched(text: &str) -> Option<Moments> {
        let text = text.replace(' ', "+");
        let Some((date, time)) = text.split_once('T') else { return read(&text).map(|(moments, _)| moments) };
        let (clock, zone) = time.split_at(time.find(['Z', '+', '-']).unwrap_or(time.len()));
        let ends_with_minute = clock.len() == "17:50".len();
        let seconds = if ends_with_minute { ":00" } else { "" };
        let zone = if zone.is_empty() { "Z" } else { zone };
        let (mut moments, _) = read(&format!("{date}T{clock}{seconds}{zone}"))?;
        if ends_with_minute {
            moments.end = moments.start.checked_add(60 * SECOND)?;
        }
        Some(moments)
    }

    /// The moment as an `instant` in UTC with microseconds.
    pub fn from_micros(micros: i64) -> Self {
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (moment.date(), moment.time());
        Self(format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.microsecond()
        ))
    }

    /// The moment as an `instant` in UTC with milliseconds, as Matrix counts.
    pub fn from_millis(millis: i64) -> Self {
        let micros = Self::from_micros(millis.saturating_mul(1000)).0;
        // `….123000Z` → `….123Z`
        Self(format!("{}Z", micros.get(..micros.len().saturating_sub(4)).unwrap_or_default()))
    }

    /// This moment.
    pub fn now() -> Self {
        Self::from_micros(now_micros())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The moments that it may mean; `None` where the text is no date.
    pub fn moments(&self) -> Option<Moments> {
        read(&self.0).map(|(moments, _)| moments)
    }

    /// How much of it is given; `None` where the text is no date.
    pub fn precision(&self) -> Option<Precision> {
        read(&self.0).map(|(_, precision)| precision)
    }

    /// Its first moment in milliseconds since 1970, as Matrix counts.
    pub fn millis(&self) -> Option<i64> {
        self.moments().map(|moments| moments.start.div_euclid(1000))
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// This moment in microseconds since 1970.
pub fn now_micros() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

fn read(text: &str) -> Option<(Moments, Precision)> {
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map(|part| digits(part, 2)).map_or(Some(None), |part| part.map(Some))?;
    let day = parts.next().map(|part| digits(part, 2)).map_or(Some(None), |part| part.map(Some))?;
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let first = |year: i32, month: u8, day: u8| -> Option<i64> {
        let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
        date.midnight().assume_utc().unix_timestamp().checked_mul(SECOND)
    };
    let year = i32::try_from(year).ok()?;
    let small = |number: u32| u8::try_from(number).ok();
    let (start, end, precision) = match (month, day) {
        (None, _) => (first(year, 1, 1)?, after_year(year, &first)?, Precision::Year),
        (Some(month), None) => {
            let month = small(month)?;
            let end = if month == 12 { after_year(year, &first)? } else { first(year, month.checked_add(1)?, 1)? };
            (first(year, month, 1)?, end, Precision::Month)
        }
        (Some(month), Some(day)) => {
            let start = first(year, small(month)?, small(day)?)?;
            (start, start + 86_400 * SECOND, Precision::Day)
        }
    };
    let Some(time) = time else { return Some((Moments { start, end }, precision)) };
    if precision != Precision::Day {
        return None;
    }
    let (offset, length) = time_of_day(time)?;
    let start = start.checked_add(offset)?;
    Some((Moments { start, end: start.checked_add(length)? }, Precision::Second))
}

fn after_year(year: i32, first: &impl Fn(i32, u8, u8) -> Option<i64>) -> Option<i64> {
    if year == 9999 { first(year, 12, 31)?.checked_add(86_400 * SECOND) } else { first(year + 1, 1, 1) }
}

/// Microseconds from midnight UTC, and the length of what is meant: a second, or the last digit of its fraction.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let zone_at = text.find(['Z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone_at);
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (clock, None),
    };
    let mut parts = clock.split(':');
    let mut next = || digits(parts.next()?, 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    // FHIR knows leap seconds; the clock does not. 23:59:60 is the second after 23:59:59.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    let (micros, length) = match fraction {
        None => (0, SECOND),
        Some(fraction) if !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit()) => {
            let first_six: String = fraction.chars().chain("000000".chars()).take(6).collect();
            let digits = u32::try_from(fraction.len().min(6)).ok()?;
            (first_six.parse::<i64>().ok()?, 10_i64.pow(6 - digits))
        }
        Some(_) => return None,
    };
    Some((seconds * SECOND + micros - zone_seconds(zone)? * SECOND, length))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 14 && minutes < 60 || hours == 14 && minutes == 0).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

/// A number of exactly `length` digits.
fn digits(text: &str, length: usize) -> Option<u32> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Whether a text is a `time`: `17:50:58`, with an optional fraction.
pub fn is_time(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<_> = clock.split(':').map(|part| digits(part, 2)).collect();
    let fraction_is_one = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [Some(0..=23), Some(0..=59), Some(0..=60)]) && fraction_is_one
}

/// The moment as an HTTP date has it (RFC 9110, 5.6.7), in whole seconds.
pub fn to_system_time(micros: i64) -> std::time::SystemTime {
    let time = OffsetDateTime::from_unix_timestamp(micros.div_euclid(SECOND)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    debug_assert_eq!(time.offset(), UtcOffset::UTC);
    debug_assert!(time.time() >= Time::MIDNIGHT);
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(text: &str) -> Option<(String, String)> {
        let moments = DateTime::parse(text)?.moments()?;
        Some((DateTime::from_micros(moments.start).0, DateTime::from_micros(moments.end).0))
    }

    #[test]
    fn partial_dates_are_the_whole_time_that_they_mean() {
        for (text, start, end) in [
            ("2026", "2026-01-01T00:00:00.000000Z", "2027-01-01T00:00:00.000000Z"),
            ("2026-12", "2026-12-01T00:00:00.000000Z", "2027-01-01T00:00:00.000000Z"),
            ("2024-02-29", "2024-02-29T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z"),
            ("2026-11-22T17:50:58+01:00", "2026-11-22T16:50:58.000000Z", "2026-11-22T16:50:59.000000Z"),
            ("2026-11-22T17:50:58.12Z", "2026-11-22T17:50:58.120000Z", "2026-11-22T17:50:58.130000Z"),
        ] {
            assert_eq!(moments(text), Some((start.to_owned(), end.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "26",
            "2026-13",
            "2026-02-30",
            "2026-11-22T",
            "2026-11-22T17:50Z",
            "2026-11-22T17:50:58",
            "2026-11T17:50:58Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T17:50:58.Z",
            "2026-11-22 17:50:58Z",
            "2026-11-22T17:50:58+25:00",
            "２０２６",
            "0000",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_search_may_leave_out_seconds_and_zone() {
        for (text, length) in
            [("2026-11-22T17:50", 60), ("2026-11-22T17:50+01:00", 60), ("2026-11-22T17:50:00 01:00", 1)]
        {
            let moments = DateTime::searched(text).unwrap();
            assert_eq!(moments.end - moments.start, length * SECOND, "{text}");
        }
        assert_eq!(DateTime::searched("2026-11-22T17:50Z"), DateTime::searched("2026-11-22T18:50 01:00"));
        for text in ["2026-11-22T17", "2026-11-22T17:5", "2026-11-22T17:50:", "2026-11T17:50", "2026-11-22T", "T17:50"]
        {
            assert_eq!(DateTime::searched(text), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_are_written_as_milliseconds() {
        assert_eq!(DateTime::from_millis(1_700_000_000_123).as_str(), "2023-11-14T22:13:20.123Z");
        assert_eq!(DateTime::from_millis(1_700_000_000_123).millis(), Some(1_700_000_000_123));
    }
}
