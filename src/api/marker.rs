//! The pages of listings, and where a listing goes on: opaque to the caller, bound to the listing,
//! and stable while keys and aliases come and go, because it names the last item.

use crate::api::key_reference::KeyReference;
use crate::api::validation::{LATIN, Violations};
use crate::api::wire::{self, Object, Text};
use crate::api::{ApiError, ErrorCode, Reply};
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
            .ok_or_else(|| ApiError::bare(ErrorCode::InvalidMarkerException))
    }
}

/// The number of items on a page of a listing (AWS KMS API reference, of each operation).
#[derive(Clone, Copy)]
pub(crate) struct PageSize {
    default: usize,
    max: i64,
}

impl PageSize {
    /// `default` items without a `Limit`, which is at most `max`.
    pub(crate) const fn of_default_and_max(default: usize, max: i64) -> Self {
        Self { default, max }
    }

    /// Checks the members `Limit` and `Marker`; returns the items that the page may have.
    pub(crate) fn check(
        self,
        limit: Option<i64>,
        marker: Option<&str>,
        violations: &mut Violations,
    ) -> usize {
        const MARKER_CHARACTERS_MAX: usize = 1024;
        let limit = violations.number("limit", limit, 1, self.max);
        if let Some(marker) = marker {
            violations.text("marker", marker, 1, MARKER_CHARACTERS_MAX, Some(&LATIN));
        }
        limit.unwrap_or(self.default)
    }
}

wire::input! {
    /// The input of a listing of what one key has.
    pub(super) struct KeyPageInput<'a> {
        key_id: Text<'a>,
        limit: Option<i64>,
        pub(super) marker: Text<'a>,
    }
}

impl KeyPageInput<'_> {
    /// The key, and the items that the page may have.
    pub(super) fn check(&self, size: PageSize) -> Result<(KeyReference<'_>, usize), ApiError> {
        let mut violations = Violations::default();
        let key = violations.key_id("keyId", &self.key_id);
        let limit = size.check(self.limit, self.marker.as_deref(), &mut violations);
        violations.check((key, limit))
    }
}

/// One page of a listing.
pub(crate) struct Page<T> {
    items: Vec<T>,
    is_last: bool,
}

impl<T> Page<T> {
    /// The first `limit` of the items that are left.
    pub(crate) fn of(mut items: impl Iterator<Item = T>, limit: usize) -> Self {
        Self {
            items: items.by_ref().take(limit).collect(),
            is_last: items.next().is_none(),
        }
    }

    /// The items as the list `name`. Only if there is another page, the marker that `after` makes
    /// of the last item.
    pub(crate) fn reply(
        &self,
        name: &str,
        item: impl Fn(&T) -> Object,
        after: impl Fn(&T) -> String,
    ) -> Reply {
        let mut object = Object::new();
        object.list(name, self.items.iter().map(item));
        object.flag("Truncated", !self.is_last);
        if let Some(last) = self.items.last()
            && !self.is_last
        {
            object.plain("NextMarker", &after(last));
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_with_more_behind_it_has_a_marker() {
        let listing = Marker::of_listing("List");
        for (items, limit, expected) in [
            (
                0..0,
                2,
                serde_json::json!({"Items": [], "Truncated": false}),
            ),
            (
                0..2,
                2,
                serde_json::json!({"Items": [{}, {}], "Truncated": false}),
            ),
            (
                0..3,
                2,
                serde_json::json!({"Items": [{}, {}], "Truncated": true, "NextMarker": listing.after(1)}),
            ),
        ] {
            let page = Page::of(items, limit);
            let reply = page.reply("Items", |_| Object::new(), |last| listing.after(last));
            let value: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
            assert_eq!(value, expected);
        }
        assert_eq!(listing.read(Some(&listing.after(1))).unwrap(), Some(1));
    }
}
