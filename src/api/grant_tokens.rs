//! `GrantTokens` of a request.
//!
//! Here a grant is in force when `CreateGrant` is answered, so a token makes nothing possible that
//! is not possible without it. A text that is not a token is refused all the same. A token of
//! another grantee's grant, of another key's or of one that is gone is ignored, as one that is not
//! needed is: callers hand on what they were given, and it gives them nothing.

use crate::api::attempt::Attempt;
use crate::api::{ApiError, ErrorCode};
use std::borrow::Cow;

impl Attempt<'_> {
    /// Refuses a token that was not issued here.
    pub(super) fn check_grant_tokens(&self, tokens: &[Cow<'_, str>]) -> Result<(), ApiError> {
        let issued = self.api.keystore.grant_tokens();
        if tokens.iter().all(|token| issued.read(token).is_some()) {
            return Ok(());
        }
        Err(ApiError::bare(ErrorCode::InvalidGrantTokenException))
    }
}
