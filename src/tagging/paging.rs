//! Paging tokens: where a listing goes on, for 15 minutes. The token of the last page is the empty
//! text, as on AWS; so is that of a request for the first page.

use crate::api::marker::Marker;
use crate::api::validation::Violations;
use crate::api::wire::Object;
use crate::api::{ApiError, ErrorCode};
use crate::clock::Timestamp;
use std::fmt::Display;
use std::str::FromStr;

const TOKEN: &str = "PaginationToken";
/// Service model, `PaginationToken`.
const CHARACTERS_MAX: usize = 2048;
/// How long a token is good (API reference, `PaginationTokenExpiredException`).
const LIFETIME_SECONDS: u64 = 15 * 60;

/// The tokens of one listing, at a time.
pub(super) struct Paging {
    listing: Marker,
    now: Timestamp,
}

/// The last item of a page, and when that page was made, in seconds since 1970.
struct Dated<T> {
    seconds: u64,
    item: T,
}

impl<T: FromStr> FromStr for Dated<T> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (seconds, item) = text.split_once(' ').ok_or(())?;
        Ok(Self {
            seconds: seconds.parse().map_err(|_| ())?,
            item: item.parse().map_err(|_| ())?,
        })
    }
}

/// Checks the member.
pub(super) fn check(token: Option<&str>, violations: &mut Violations) {
    let member = "paginationToken";
    violations.text(member, token.unwrap_or_default(), 0, CHARACTERS_MAX, None);
}

impl Paging {
    /// Of the listing with these parameters.
    pub(super) fn of_listing(listing: impl Display, now: Timestamp) -> Self {
        Self {
            listing: Marker::of_listing(listing),
            now,
        }
    }

    /// The item after which the listing goes on; `None` for the first page.
    pub(super) fn read<T: FromStr>(&self, token: Option<&str>) -> Result<Option<T>, ApiError> {
        let token = token.filter(|token| !token.is_empty());
        let dated: Option<Dated<T>> = self.listing.read(token).map_err(|_| {
            let message = format!("{TOKEN} was not issued for this request.");
            ApiError::new(ErrorCode::InvalidParameterException, message)
        })?;
        let Some(Dated { seconds, item }) = dated else {
            return Ok(None);
        };
        if self.now.unix_seconds().saturating_sub(seconds) > LIFETIME_SECONDS {
            return Err(ApiError::new(
                ErrorCode::PaginationTokenExpiredException,
                "PaginationToken is good for 15 minutes. Ask for the first page again.",
            ));
        }
        Ok(Some(item))
    }

    /// Writes the token of a page that ends with `last`, if there is another.
    pub(super) fn append(&self, last: Option<impl Display>, out: &mut Object) {
        let seconds = self.now.unix_seconds();
        let token = last.map(|last| self.listing.after(format_args!("{seconds} {last}")));
        out.plain(TOKEN, token.as_deref().unwrap_or_default());
    }
}
