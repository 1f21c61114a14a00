//! The time of a request, in the form of SigV4.

use crate::auth::AuthError;
use crate::auth::canonical::text;
use crate::clock::Timestamp;
use crate::clock::calendar::{SECONDS_MAX, SECONDS_MIN, iso_8601_basic, midnight};
use http::header::{DATE, HeaderMap, HeaderName};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

/// A second between the years 0 and 9999, with its text in the basic format of ISO 8601,
/// `YYYYMMDDTHHMMSSZ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    seconds: i64,
    text: [u8; 16],
}

const DAY_SECONDS: i64 = 86_400;

impl RequestTime {
    pub(super) fn at(now: Timestamp) -> Self {
        Self::from_unix_seconds(unix_seconds(now))
    }

    /// The time that a request states: in `X-Amz-Date`, or else in `Date`, which may also have the
    /// form of RFC 9110. `None` when it states none.
    pub(super) fn of_request(headers: &HeaderMap) -> Option<Result<Self, AuthError>> {
        let (name, title) = if headers.contains_key(X_AMZ_DATE) {
            (X_AMZ_DATE, "X-Amz-Date")
        } else {
            (DATE, "Date")
        };
        let mut values = headers.get_all(&name).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return Some(Err(AuthError::several(title)));
        }
        let text = text(value);
        let time = Self::from_basic(&text).or_else(|| {
            let time = httpdate::parse_http_date(&text).ok()?;
            let since = time.duration_since(UNIX_EPOCH).ok()?;
            (name == DATE).then(|| Self::from_unix_seconds(whole_seconds(since)))
        });
        Some(time.ok_or_else(|| AuthError::bad_date(&text)))
    }

    /// Parses the basic format.
    pub(super) fn parse(text: &str) -> Result<Self, AuthError> {
        Self::from_basic(text).ok_or_else(|| AuthError::bad_date(text))
    }

    fn from_unix_seconds(seconds: i64) -> Self {
        let seconds = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
        let text = iso_8601_basic(seconds);
        Self { seconds, text }
    }

    fn from_basic(text: &str) -> Option<Self> {
        let text: [u8; 16] = text.as_bytes().try_into().ok()?;
        let number = |from: usize, to: usize| {
            text[from..to].iter().try_fold(0, |number, byte| {
                let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
                Some(number * 10 + digit)
            })
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let midnight = midnight(year, month, day)?;
        let exists =
            (hour < 24 && minute < 60 && second < 60) && (text[8] == b'T' && text[15] == b'Z');
        let seconds = midnight + hour * 3600 + minute * 60 + second;
        exists.then_some(Self { seconds, text })
    }

    pub(super) fn before(&self, span: Duration) -> Self {
        Self::from_unix_seconds(self.seconds.saturating_sub(whole_seconds(span)))
    }

    pub(super) fn after(&self, span: Duration) -> Self {
        Self::from_unix_seconds(self.seconds.saturating_add(whole_seconds(span)))
    }

    /// Whether this and `now` are more than `span` apart.
    pub(super) fn is_off_by_more(&self, now: Timestamp, span: Duration) -> bool {
        self.seconds.abs_diff(unix_seconds(now)) > span.as_secs()
    }

    pub(super) fn is_before(&self, now: Timestamp) -> bool {
        self.seconds < unix_seconds(now)
    }

    /// `YYYYMMDD`
    pub(super) fn date(&self) -> &str {
        &self.as_str()[..8]
    }

    /// Days since 1970-01-01.
    pub(super) fn day(&self) -> i64 {
        self.seconds.div_euclid(DAY_SECONDS)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).expect("digits, T and Z: both constructors see to it")
    }
}

impl fmt::Display for RequestTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

pub(super) const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

fn unix_seconds(time: Timestamp) -> i64 {
    i64::try_from(time.unix_seconds()).unwrap_or(SECONDS_MAX)
}

fn whole_seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn known_seconds_have_known_texts() {
        let cases = [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_768_478_400, "20260115T120000Z"),
            (4_107_542_400, "21000301T000000Z"),
            (-1, "19691231T235959Z"),
            (SECONDS_MIN, "00000101T000000Z"),
            (SECONDS_MIN - 1, "00000101T000000Z"),
            (SECONDS_MAX, "99991231T235959Z"),
            (i64::MAX, "99991231T235959Z"),
        ];
        for (seconds, text) in cases {
            let time = RequestTime::from_unix_seconds(seconds);
            assert_eq!(time.as_str(), text);
            assert_eq!(RequestTime::from_basic(text), Some(time));
        }
        assert_eq!(RequestTime::at(Timestamp(u64::MAX)).date(), "99991231");
    }

    #[test]
    fn what_no_calendar_or_clock_has_is_refused() {
        for text in [
            "",
            "2026-01-15T12:00:00Z",
            "20260115T120000",
            "20260115 120000Z",
            "20260115T120000z",
            "20260015T120000Z",
            "20261315T120000Z",
            "20260100T120000Z",
            "20260132T120000Z",
            "20260229T120000Z",
            "21000229T120000Z",
            "20260115T240000Z",
            "20260115T126000Z",
            "20260115T120060Z",
            "+0260115T120000Z",
            "2026011\u{b2}T12000Z",
            "Thu, 15 Jan 2026 12:00:00 GMT",
        ] {
            assert_eq!(RequestTime::from_basic(text), None, "{text}");
        }
    }

    #[test]
    fn x_amz_date_goes_before_date_and_only_date_may_be_in_the_form_of_http() {
        let of = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            RequestTime::of_request(&map).map(|time| time.map(|time| time.to_string()))
        };
        let basic = || Some(Ok("20260115T120000Z".to_owned()));
        let http = "Thu, 15 Jan 2026 12:00:00 GMT";
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("x-amz-date", "20260115T120000Z")]), basic());
        assert_eq!(of(&[("date", "20260115T120000Z")]), basic());
        assert_eq!(of(&[("date", http)]), basic());
        assert_eq!(
            of(&[("date", "now"), ("x-amz-date", "20260115T120000Z")]),
            basic()
        );
        let refused = [
            (
                [("x-amz-date", http), ("date", http)],
                AuthError::bad_date(http),
            ),
            (
                [("x-amz-date", "20260115T120000Z"); 2],
                AuthError::several("X-Amz-Date"),
            ),
            ([("date", http); 2], AuthError::several("Date")),
        ];
        for (headers, error) in refused {
            assert_eq!(of(&headers), Some(Err(error)));
        }
        assert_eq!(
            of(&[("date", "201")]).unwrap().unwrap_err().to_string(),
            "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got '201'. \
             See http://en.wikipedia.org/wiki/ISO_8601"
        );
    }

    proptest! {
        #[test]
        fn texts_come_back_as_their_seconds(seconds in SECONDS_MIN..=SECONDS_MAX) {
            let time = RequestTime::from_unix_seconds(seconds);
            prop_assert_eq!(RequestTime::from_basic(time.as_str()), Some(time));
            prop_assert_eq!(time.seconds, seconds);
        }
    }
}
