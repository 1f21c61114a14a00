//! Times as dates of the Gregorian calendar in UTC, and as texts in ISO 8601's formats.
//!
//! Every audit record and every signature has a text of the time, so nothing here allocates.

use crate::clock::Timestamp;
use std::fmt;
use time::{Date, Month, OffsetDateTime, Time};

/// 0000-01-01T00:00:00Z, in seconds since the Unix epoch.
pub const SECONDS_MIN: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z, in seconds since the Unix epoch.
pub const SECONDS_MAX: i64 = 253_402_300_799;

/// `YYYY-MM-DDTHH:MM:SSZ` (RFC 3339), to the second; the year is 9999 at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iso8601([u8; 20]);

impl Iso8601 {
    /// The text of a time.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        let seconds = i64::try_from(time.unix_seconds()).unwrap_or(SECONDS_MAX);
        let mut text = *b"0000-00-00T00:00:00Z";
        let places = [0, 2, 5, 8, 11, 14, 17];
        write_digits(seconds, &mut text, places);
        Self(text)
    }

    /// The text's characters, all of which are ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Iso8601 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::str::from_utf8(&self.0).map_err(|_| fmt::Error)?;
        out.write_str(text)
    }
}

/// `YYYYMMDDTHHMMSSZ`, ISO 8601's basic format, of seconds since the Unix epoch; the year is 0 to
/// 9999.
#[must_use]
pub fn iso_8601_basic(seconds: i64) -> [u8; 16] {
    let mut text = *b"00000000T000000Z";
    let places = [0, 2, 4, 6, 9, 11, 13];
    write_digits(seconds, &mut text, places);
    text
}

/// Writes century, year of the century, month, day, hour, minute and second: two digits each, at
/// its place.
fn write_digits(seconds: i64, text: &mut [u8], places: [usize; 7]) {
    let seconds = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let [century, ..] = (year / 100).to_le_bytes();
    let [year, ..] = (year % 100).to_le_bytes();
    let numbers = [century, year, month.into(), day, hour, minute, second];
    for (at, number) in places.into_iter().zip(numbers) {
        text[at] = b'0' + number / 10;
        text[at + 1] = b'0' + number % 10;
    }
}

/// Seconds since the Unix epoch of the midnight at which a day begins; `None` when the calendar
/// does not have the day.
#[must_use]
pub fn midnight(year: i64, month: i64, day: i64) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let year = i32::try_from(year).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    Some(OffsetDateTime::new_utc(date, Time::MIDNIGHT).unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_gregorian_calendar() {
        let text = |seconds: u64| Iso8601::of(Timestamp(seconds * 1_000_000 + 999_999)).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(text(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(text(253_402_300_799), "9999-12-31T23:59:59Z");
        assert_eq!(text(253_402_300_800), "9999-12-31T23:59:59Z");
        assert_eq!(iso_8601_basic(i64::MIN), *b"00000101T000000Z");
    }

    #[test]
    fn a_day_that_does_not_exist_has_no_midnight() {
        assert_eq!(midnight(1970, 1, 1), Some(0));
        assert_eq!(midnight(0, 1, 1), Some(SECONDS_MIN));
        assert_eq!(midnight(2000, 2, 29), Some(951_782_400));
        for (year, month, day) in [
            (2026, 0, 1),
            (2026, 13, 1),
            (2026, 1, 0),
            (2026, 4, 31),
            (2100, 2, 29),
            (2026, 257, 1),
        ] {
            assert_eq!(midnight(year, month, day), None, "{year} {month} {day}");
        }
    }
}
