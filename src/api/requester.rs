//! Who asks.

use crate::api::{Api, ApiError, ErrorCode, RequestId};
use crate::audit::Source;
use crate::auth::AuthError;
use crate::clock::Timestamp;
use crate::crypto::entropy::Entropy;
use crate::key::regions::RegionNumber;
use crate::keystore::{AccessKey, PrincipalEntry, Snapshot};
use crate::policy::Principal;
use crate::policy::principal::PrincipalKind;
use crate::web_identity;
use std::borrow::Cow;
use std::sync::Arc;

/// The caller and its connection, as the transport knows them.
#[derive(Clone)]
pub struct Requester {
    /// The authenticated principal, as it was then.
    pub principal: Arc<Principal>,
    /// Who the request's token of another issuer is of; `principal` is then the issuer.
    pub web_identity: Option<Arc<web_identity::Identity>>,
    /// The access key of the signature; none for an unsigned request.
    pub access_key: Option<Arc<AccessKey>>,
    /// The time until which the connection authenticates an unsigned request: the end of a client
    /// certificate.
    pub until: Option<Timestamp>,
    /// The Region that is called.
    pub region: RegionNumber,
    /// Where the connection comes from (`aws:SourceIp`, if from an address).
    pub source: Source,
    /// Whether only the two ends can read the connection (`aws:SecureTransport`).
    pub secure_transport: bool,
    /// What the audit log says of the connection's TLS, a JSON object; none without TLS.
    pub tls_details: Option<Arc<str>>,
    /// Names the request in answers, log lines and audit records.
    pub request_id: RequestId,
}

impl Api {
    /// The Region of this name, for callers who do not sign.
    ///
    /// # Errors
    /// `ValidationException`: it is not one of the daemon's.
    pub fn region_named(&self, name: &str) -> Result<RegionNumber, ApiError> {
        let found = self.keystore.regions().named(name);
        found.map(|region| region.number).ok_or_else(|| {
            let message = format!("Region '{name}' is not one of this daemon's.");
            ApiError::new(ErrorCode::ValidationException, message)
        })
    }
}

impl Requester {
    /// A requester within this process, in the home Region.
    #[must_use]
    pub fn local(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            web_identity: None,
            access_key: None,
            until: None,
            region: RegionNumber::HOME,
            source: Source::Local,
            secure_transport: true,
            tls_details: None,
            request_id: RequestId::draw(&Entropy::os()),
        }
    }

    /// The principal as the snapshot has it: since the request began, it may have been removed,
    /// disabled, made anew under its name, or given other rights; its access key may have been
    /// taken away, and its certificate may have ended. A session is what its role is, for as long
    /// as its credentials last. The operator is in no store.
    pub(super) fn current<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        now: Timestamp,
    ) -> Result<Cow<'a, Arc<Principal>>, ApiError> {
        let principal = &self.principal;
        // The holder of a token is in no store either: it has just been verified, for one request.
        if principal.is_operator() || principal.kind() == PrincipalKind::WebIdentity {
            return Ok(Cow::Borrowed(principal));
        }
        let refused = |error: AuthError| ApiError::new(error.code, error.message);
        // A connection outlives its certificate, and a request outlives its session.
        if self.until.is_some_and(|until| until < now) {
            return Err(refused(AuthError::missing_token()));
        }
        if principal.expiration().is_some_and(|at| at <= now) {
            return Err(refused(AuthError::expired_token()));
        }
        // Rights are those of now, and not those at the time of the signature.
        let entry = snapshot.principals.get(principal.lasting_arn());
        let found = entry.filter(|entry| entry.enabled).and_then(|entry| {
            if principal.kind() == PrincipalKind::AssumedRole {
                principal.renewed(&entry.principal).map(Cow::Owned)
            } else {
                let same = self.is_still(entry);
                same.then_some(Cow::Borrowed(&entry.principal))
            }
        });
        found.ok_or_else(|| refused(AuthError::unrecognized_client()))
    }

    /// Whether the principal of this name is the one that was authenticated, and still has the
    /// access key that it was authenticated by. An account's root has no unique id: it is the
    /// account.
    fn is_still(&self, entry: &PrincipalEntry) -> bool {
        let same = Arc::ptr_eq(&entry.principal, &self.principal)
            || entry.principal.unique_id() == self.principal.unique_id();
        let active = |own: &Arc<AccessKey>| {
            let mut keys = entry.access_keys.iter();
            keys.any(|key| key.active && (Arc::ptr_eq(key, own) || key.id == own.id))
        };
        same && self.access_key.as_ref().is_none_or(active)
    }
}
