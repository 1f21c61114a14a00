//! Who asks.

use crate::api::{ApiError, KmsErrorCode};
use crate::auth::AuthError;
use crate::clock::Timestamp;
use crate::keystore::Snapshot;
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// Who asks, and over what: as the transport knows it.
#[derive(Clone)]
pub struct Requester {
    /// The authenticated principal, as he was then.
    pub principal: Arc<Principal>,
    /// Where the connection comes from (`aws:SourceIp`); none for a Unix socket.
    pub source_ip: Option<IpAddr>,
    /// Whether nobody but the two ends can read the connection (`aws:SecureTransport`).
    pub secure_transport: bool,
}

impl Requester {
    /// Somebody of this process, or at the other end of a Unix socket.
    #[must_use]
    pub fn local(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            source_ip: None,
            secure_transport: true,
        }
    }

    /// The principal as the snapshot has him: who was authenticated may be gone, be disabled, or have other rights, by now. A session is what its role is, for as
    /// long as its credentials last. The operator is in no store.
    pub(super) fn current<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<Cow<'a, Arc<Principal>>, ApiError> {
        let principal = &self.principal;
        if principal.is_operator() {
            return Ok(Cow::Borrowed(principal));
        }
        let refused = |code, error: AuthError| ApiError::new(code, error.message);
        if principal.expiration().is_some_and(|at| at <= now) {
            let code = KmsErrorCode::ExpiredTokenException;
            return Err(refused(code, AuthError::expired_token()));
        }
        let entry = snapshot.principals.get(principal.lasting_arn());
        let found = entry.filter(|entry| entry.enabled).and_then(|entry| {
            if principal.kind() == PrincipalKind::AssumedRole {
                principal.renewed(&entry.principal).map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(&entry.principal))
            }
        });
        let code = KmsErrorCode::UnrecognizedClientException;
        found.ok_or_else(|| refused(code, AuthError::unrecognized_client()))
    }
}
