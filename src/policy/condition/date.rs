//! Times in the forms that policies use.
//!
//! Source: W3C, "Date and Time Formats" (a profile of ISO 8601),
//! <https://www.w3.org/TR/NOTE-datetime>; or seconds since 1970.

use crate::clock::Timestamp;
use crate::clock::calendar::midnight;

/// Microseconds since 1970-01-01T00:00:00Z.
pub(in crate::policy) type Micros = i64;

const MICROS: i64 = 1_000_000;

/// Parses `YYYY-MM`, `YYYY-MM-DD`, `YYYY-MM-DDThh:mm[:ss[.f…]](Z|±hh:mm)`, or seconds since 1970.
/// Four digits alone might be a year or seconds, and are refused.
pub(in crate::policy) fn parse(text: &str) -> Option<Micros> {
    if text.len() != 4
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return seconds(text);
    }
    let mut rest = Rest(text);
    let year = rest.number(4)?;
    rest.expect('-')?;
    let month = rest.number(2)?;
    let day = if rest.skip('-') { rest.number(2)? } else { 1 };
    let midnight = midnight(year, month, day)?;
    if rest.0.is_empty() {
        return Some(midnight * MICROS);
    }
    rest.expect('T')?;
    let hour = rest.number(2)?;
    rest.expect(':')?;
    let minute = rest.number(2)?;
    let second = if rest.skip(':') { rest.number(2)? } else { 0 };
    let fraction = if rest.skip('.') { rest.fraction()? } else { 0 };
    let offset = rest.offset()?;
    // A leap second equals the first second of the next minute.
    let fits = hour < 24 && minute < 60 && second <= 60 && rest.0.is_empty();
    let of_day = (hour * 60 + minute) * 60 + second;
    fits.then_some((midnight + of_day - offset) * MICROS + fraction)
}

/// Parses a time as a [`Timestamp`]; `None` for a time before 1970.
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    u64::try_from(parse(text)?).ok().map(Timestamp)
}

/// `<seconds>[.<fraction>]`
fn seconds(text: &str) -> Option<Micros> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole: i64 = whole.parse().ok()?;
    let mut rest = Rest(fraction);
    let fraction = rest.fraction()?;
    let micros = whole.checked_mul(MICROS)?.checked_add(fraction)?;
    rest.0.is_empty().then_some(micros)
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn skip(&mut self, character: char) -> bool {
        match self.0.strip_prefix(character) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, character: char) -> Option<()> {
        self.skip(character).then_some(())
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        let all = number.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| number.parse().ok())?
    }

    /// Digits after a point, to the microsecond; further digits are cut off.
    fn fraction(&mut self) -> Option<Micros> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = self.0.split_at(digits);
        self.0 = rest;
        let places = 10_u32.pow(6 - u32::try_from(digits.min(6)).ok()?);
        let fraction: i64 = fraction.get(..digits.min(6))?.parse().ok()?;
        Some(fraction * i64::from(places))
    }

    /// Seconds east of Greenwich.
    fn offset(&mut self) -> Option<i64> {
        if self.skip('Z') {
            return Some(0);
        }
        let sign = if self.skip('+') {
            1
        } else {
            self.expect('-')?;
            -1
        };
        let hours = self.number(2)?;
        self.expect(':')?;
        let minutes = self.number(2)?;
        (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::calendar::Iso8601;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_profile_are_read() {
        // Seconds by `date -u -d … +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2013-06-30T00:00:00Z", 1_372_550_400),
            ("2013-06-30", 1_372_550_400),
            ("2013-06", 1_370_044_800),
            ("2020-02-29T12:34Z", 1_582_979_640),
            ("2020-02-29T12:34:56+02:00", 1_582_972_496),
            ("2020-02-29T12:34:56-00:30", 1_582_981_496),
            ("1969-12-31T23:59:59Z", -1),
            ("1372550400", 1_372_550_400),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(seconds * MICROS), "{text}");
        }
        assert_eq!(parse("1970-01-01T00:00:00.25Z"), Some(250_000));
        assert_eq!(parse("1546257599.5"), Some(1_546_257_599_500_000));
        assert_eq!(parse("1970-01-01T00:00:00.1234567Z"), Some(123_456));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2020",
            "now",
            "2020-13",
            "2020-00-01",
            "2021-02-29",
            "1900-02-29",
            "2020-04-31",
            "2020-01-01T00:00:00",
            "2020-01-01T24:00Z",
            "2020-01-01T00:60Z",
            "2020-01-01T00:00:61Z",
            "2020-01-01 00:00Z",
            "2020-01-01T00:00:00Zx",
            "2020-01-01T00:00:00+2:00",
            "2020-1-1",
            "2020-01-01T00:00:00.Z",
            "1.2.3",
            ".",
            "-1",
            "99999999999999999999",
            "+020-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..253_402_300_800_u64) {
            let text = Iso8601::of(Timestamp(seconds * 1_000_000)).to_string();
            prop_assert_eq!(parse(&text), i64::try_from(seconds * 1_000_000).ok());
        }
    }
}
