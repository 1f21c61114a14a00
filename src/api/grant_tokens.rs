//! `GrantTokens` of a request.
//!
//! Here a grant is in force when `CreateGrant` is answered, so a token makes nothing possible that
//! is not possible without it. It is checked all the same: a text that is not a token of a grant of
//! this key to this caller is refused, and a token that is not needed is ignored.

use crate::api::attempt::Attempt;
use crate::api::{ApiError, KmsErrorCode};
use crate::keystore::KeyEntry;
use std::borrow::Cow;
use std::sync::Arc;

impl Attempt<'_> {
    /// Refuses a token that was not issued here, or not for one of these keys and this caller, or
    /// whose grant is gone.
    pub(super) fn check_grant_tokens(
        &self,
        entries: &[&Arc<KeyEntry>],
        tokens: &[Cow<'_, str>],
    ) -> Result<(), ApiError> {
        let fits = |token: &Cow<'_, str>| {
            let (key, id) = self.api.keystore.grant_tokens().read(token)?;
            if !entries.iter().any(|entry| entry.key.id == key) {
                return None;
            }
            let grant = self.snapshot.grants.get(&key)?.get(id)?;
            Some(grant.is_granted_to(&self.principal))
        };
        if tokens.iter().all(|token| fits(token) == Some(true)) {
            return Ok(());
        }
        Err(ApiError::bare(KmsErrorCode::InvalidGrantTokenException))
    }
}
