//! Where a listing goes on: opaque to the caller, bound to the listing, and stable while keys and
//! aliases come and go, because it names the last item.

use crate::api::validation::{LATIN, Violations};
use crate::api::{ApiError, KmsErrorCode};
use std::fmt::Display;
use std::str::FromStr;

/// The markers of one listing.
pub(crate) struct Marker(String);

impl Marker {
    /// Of a listing with these parameters.
    pub(crate) fn of_listing(listing: impl Display) -> Self {
        Self(format!("{listing} "))
    }

    /// After `item`.
    pub(crate) fn after(&self, item: impl Display) -> String {
        base64_simd::STANDARD.encode_to_string(format!("{}{item}", self.0))
    }

    /// The item after which the listing goes on.
    pub(crate) fn read<T: FromStr>(&self, marker: Option<&str>) -> Result<Option<T>, ApiError> {
        let Some(marker) = marker else {
            return Ok(None);
        };
        let text = base64_simd::STANDARD
            .decode_to_vec(marker)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| text.strip_prefix(&self.0)?.parse().ok())
            .map(Some)
            .ok_or_else(|| ApiError::bare(KmsErrorCode::InvalidMarkerException))
    }
}

/// Checks the members of a page; returns the limit, if one was given.
pub(crate) fn check_page(
    limit: Option<i64>,
    max: i64,
    marker: Option<&str>,
    violations: &mut Violations,
) -> Option<usize> {
    const MARKER_CHARACTERS_MAX: usize = 1024;
    let limit = violations.number("limit", limit, 1, max);
    if let Some(marker) = marker {
        violations.text("marker", marker, 1, MARKER_CHARACTERS_MAX, Some(&LATIN));
    }
    limit
}
