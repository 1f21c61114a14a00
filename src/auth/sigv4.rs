//! AWS Signature Version 4: verifies requests, and signs those of the command line.
//!
//! The checks, their order and their messages are those of AWS's front end for JSON services. If
//! [`Verifier::begin`] refuses a caller, nothing of the request's body has been read; the hash of
//! the body is computed only after that check.
//!
//! Every `x-amz-*` header of a request and its `host` must be signed: otherwise an attacker who
//! sees a signed request could turn it into another operation or send it elsewhere. So must its
//! `content-type`, but on the path of AWS's services, where it decides nothing. Unsigned payloads
//! are refused, and so are credentials in the query, but by AWS STS
//! (`auth/presigned.rs`).

use crate::auth::authorization::{ALGORITHM, Authorization};
use crate::auth::canonical::{self, SignedHeaders};
use crate::auth::presigned::{self, Presigned};
use crate::auth::session::{Session, Sessions};
use crate::auth::signing_key::{SigningKey, SigningKeys, TERMINATOR};
use crate::auth::time::{RequestTime, X_AMZ_DATE};
use crate::auth::{AuthError, ScopeService};
use crate::clock::Timestamp;
use crate::crypto::secret::{Secret, SecretBytes};
use crate::key::regions::{RegionNumber, Regions};
use crate::keystore::{AccessKey, PrincipalEntry, Snapshot};
use crate::policy::Principal;
use hmac::{Hmac, Mac};
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::percent_decode_str;
use sha2::Sha256;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// The header of a session token.
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// The head of a request.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query as sent.
    pub uri: &'a Uri,
    /// Header fields as sent.
    pub headers: &'a HeaderMap,
}

/// Verifies the signatures of requests.
pub struct Verifier {
    skew_max: Duration,
    /// By Region.
    signing_keys: Vec<SigningKeys>,
    sessions: Sessions,
}

/// The signer of a request.
pub struct Signer {
    /// The principal.
    pub principal: Arc<Principal>,
    /// The Region of the credential scope.
    pub region: RegionNumber,
    /// The access key that signed.
    pub access_key: Arc<AccessKey>,
}

/// What a request states of its signature.
struct Stated<'a> {
    authorization: Authorization<'a>,
    /// The session token.
    token: Option<&'a [u8]>,
    /// The query that the signature covers.
    query: Option<&'a str>,
    /// How long the request is good from its time.
    lifetime: Duration,
}

/// A request whose access key, scope and time are right, before its signature is compared.
pub struct Claim {
    signer: Signer,
    /// The canonical request up to the payload hash.
    canonical: Sha256,
    /// The string to sign up to the hash of the canonical request.
    string_to_sign: Hmac<Sha256>,
    /// The hash of the body as the request states it, if it does.
    content_sha256: Option<[u8; 64]>,
    signature: [u8; 64],
}

impl Verifier {
    /// Verifies credentials that are scoped to one of these Regions. Clocks may differ by
    /// `skew_max`. Session tokens are sealed under `session_token_key`.
    #[must_use]
    pub fn new(regions: &Regions, skew_max: Duration, session_token_key: Arc<Secret<32>>) -> Self {
        Self {
            skew_max,
            signing_keys: regions.iter().cloned().map(SigningKeys::new).collect(),
            sessions: Sessions::new(session_token_key),
        }
    }

    /// Makes all checks that need only the head of a request to `service`. Work for a caller begins
    /// only when its access key is known.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn begin(
        &self,
        service: ScopeService,
        head: Head<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Claim, AuthError> {
        if service.takes_presigned()
            && !head.headers.contains_key(AUTHORIZATION)
            && let Some(presigned) = Presigned::of(head.uri)?
        {
            if head.headers.contains_key(X_AMZ_SECURITY_TOKEN) {
                return Err(AuthError::unrecognized_client());
            }
            let stated = Stated {
                authorization: presigned.authorization()?,
                token: presigned.token(),
                query: Some(&presigned.query),
                lifetime: self.skew_max.max(presigned::LIFETIME),
            };
            return self.claim(service, head, &stated, snapshot, now);
        }
        let mut authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let authorization = match authorizations.next() {
            Some(value) if !is_signed_in_query(head.uri) => value,
            _ => return Err(AuthError::missing_token()),
        };
        if authorizations.next().is_some() {
            return Err(AuthError::several("Authorization"));
        }
        let header = canonical::text(authorization);
        let time = RequestTime::of_request(head.headers);
        let stated = Stated {
            authorization: Authorization::parse(&header, time)?,
            token: token(head.headers)?,
            query: head.uri.query(),
            lifetime: self.skew_max,
        };
        self.claim(service, head, &stated, snapshot, now)
    }

    /// Checks what a request states of its signature, wherever it states it.
    fn claim(
        &self,
        service: ScopeService,
        head: Head<'_>,
        stated: &Stated<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Claim, AuthError> {
        let Stated {
            authorization,
            query,
            ..
        } = stated;
        let time = authorization.time;

        // Whose key it is comes first, so that nothing below is done for an unknown key.
        let id = authorization.access_key_id;
        if !service.takes(id) {
            return Err(AuthError::unrecognized_client());
        }
        let session = self.session(stated.token, id, now)?;
        let (principal, access_key) = match &session {
            Some(session) => of_session(session, snapshot),
            None => of_access_key(id, snapshot),
        }
        .ok_or_else(AuthError::unrecognized_client)?;

        let signing_keys = self.check_scope(authorization, service)?;
        self.check_time(&time, now, stated.lifetime)?;

        let signed = SignedHeaders::parse(authorization.signed_headers)?;
        if query.is_some_and(|query| query.contains('+')) {
            return Err(AuthError::plus_in_query());
        }
        let path = head.uri.path();
        let canonical = signed.head(service, head.method, path, *query, head.headers)?;
        let region = signing_keys.region();
        let signing_key = signing_keys.of(access_key, &time, service);
        Ok(Claim {
            signer: Signer {
                principal,
                region: region.number,
                access_key: Arc::clone(access_key),
            },
            canonical,
            string_to_sign: signing_key.key.string_to_sign(&time, &region.name),
            content_sha256: content_sha256(head.headers)?,
            signature: hex_digits(authorization.signature.as_bytes())?,
        })
    }

    /// The session of the request's token; `None` for a request without one.
    fn session(
        &self,
        token: Option<&[u8]>,
        access_key_id: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Session>>, AuthError> {
        let Some(token) = token else {
            return Ok(None);
        };
        let session = self
            .sessions
            .of(token, now)
            .filter(|session| session.access_key.id == access_key_id)
            .ok_or_else(AuthError::unrecognized_client)?;
        if session.has_expired(now) {
            return Err(AuthError::expired_token());
        }
        Ok(Some(session))
    }

    /// The signing keys of the scope's Region.
    fn check_scope(
        &self,
        authorization: &Authorization<'_>,
        service: ScopeService,
    ) -> Result<&SigningKeys, AuthError> {
        if authorization.service != service.name() {
            return Err(AuthError::scope_service(service.name()));
        }
        let mut of_regions = self.signing_keys.iter();
        let of_region = of_regions.find(|keys| keys.region().name == authorization.region);
        let signing_keys = of_region.ok_or_else(AuthError::scope_region)?;
        if authorization.terminator != TERMINATOR {
            return Err(AuthError::scope_terminator(authorization.terminator));
        }
        if authorization.date != authorization.time.date() {
            let (scope, time) = (authorization.date, &authorization.time);
            return Err(AuthError::scope_date(scope, time.date(), time));
        }
        Ok(signing_keys)
    }

    /// A request is good for `lifetime` after its time; of a request from the future the clocks may
    /// be the reason.
    fn check_time(
        &self,
        time: &RequestTime,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(), AuthError> {
        let is_past = time.is_before(now);
        let span = if is_past { lifetime } else { self.skew_max };
        if !time.is_off_by_more(now, span) {
            return Ok(());
        }
        let at = RequestTime::at(now);
        Err(if is_past {
            AuthError::expired(time, at.before(span), at, span)
        } else {
            AuthError::not_yet_current(time, at.after(span), at, span)
        })
    }
}

fn of_session<'a>(
    session: &'a Session,
    snapshot: &Snapshot,
) -> Option<(Arc<Principal>, &'a Arc<AccessKey>)> {
    let role = snapshot
        .principals
        .get(session.role_arn.as_str())
        .filter(|role| role.enabled)?;
    Some((session.principal(&role.principal)?, &session.access_key))
}

fn of_access_key<'a>(
    id: &str,
    snapshot: &'a Snapshot,
) -> Option<(Arc<Principal>, &'a Arc<AccessKey>)> {
    let entry: &PrincipalEntry = snapshot.access_keys.get(id)?;
    let mut keys = entry.access_keys.iter();
    let key = keys.find(|key| key.id == id && key.active)?;
    let principal = entry.enabled.then(|| Arc::clone(&entry.principal))?;
    Some((principal, key))
}

impl Claim {
    /// Compares the signature over head and `body`, in constant time.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn finish(self, body: &[u8]) -> Result<Signer, AuthError> {
        let payload = canonical::payload(body);
        if self.content_sha256.is_some_and(|stated| stated != payload) {
            return Err(AuthError::mismatch());
        }
        let signature = sign(self.string_to_sign, self.canonical, &payload);
        if bool::from(words(&signature).ct_eq(&words(&self.signature))) {
            Ok(self.signer)
        } else {
            Err(AuthError::mismatch())
        }
    }
}

/// The digits as eight words: `ct_eq` compares word by word (row "SigV4 verification" of
/// benches/RESULTS.md).
fn words(digits: &[u8; 64]) -> [u64; 8] {
    let (words, _) = digits.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

fn sign(mut string_to_sign: Hmac<Sha256>, canonical: Sha256, payload_hash: &[u8; 64]) -> [u8; 64] {
    string_to_sign.update(&canonical::request(canonical, payload_hash));
    canonical::hex(&string_to_sign.finalize().into_bytes().into())
}

fn is_signed_in_query(uri: &Uri) -> bool {
    names(uri).any(|name| name.eq_ignore_ascii_case(b"X-Amz-Signature"))
}

/// The Region that the signature of a head is scoped to, as far as it can be read: it chooses who
/// verifies the signature.
#[must_use]
pub fn scope_region(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = header.split_once("Credential=")?;
    credential.split('/').nth(2)
}

/// Whether a query has a parameter of a signature, in any spelling of its name.
#[must_use]
pub fn claims_a_signature(uri: &Uri) -> bool {
    const PREFIX: &[u8] = b"X-Amz-";
    let of_signature = |name: &[u8]| {
        let prefix = name.get(..PREFIX.len());
        prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
    };
    names(uri).any(|name| of_signature(&name))
}

/// The names of a query's parameters, decoded.
fn names(uri: &Uri) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let parameters = uri.query().unwrap_or_default().split('&');
    parameters.map(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        percent_decode_str(name).into()
    })
}

/// The session token in a head.
fn token(headers: &HeaderMap) -> Result<Option<&[u8]>, AuthError> {
    let mut tokens = headers.get_all(X_AMZ_SECURITY_TOKEN).iter();
    let (token, more) = (tokens.next(), tokens.next());
    if more.is_some() {
        return Err(AuthError::unrecognized_client());
    }
    Ok(token.map(HeaderValue::as_bytes))
}

/// 64 bytes to compare with hex digits. Text of another length equals no digits.
fn hex_digits(text: &[u8]) -> Result<[u8; 64], AuthError> {
    text.try_into().map_err(|_| AuthError::mismatch())
}

/// The body's hash as the request states it. `UNSIGNED-PAYLOAD` and the values for chunks are not a
/// hash.
fn content_sha256(headers: &HeaderMap) -> Result<Option<[u8; 64]>, AuthError> {
    let mut values = headers.get_all(X_AMZ_CONTENT_SHA256).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => hex_digits(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(AuthError::mismatch()),
    }
}

/// The credentials that sign a request.
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretBytes,
    /// The token of a session's credentials.
    pub session_token: Option<String>,
    /// The Region of the credential scope, whose service is KMS.
    pub region: String,
}

impl Credentials {
    /// Signs a request to AWS KMS, as [`Signing::sign`] does.
    ///
    /// # Errors
    /// Those of [`Signing::sign`].
    pub fn sign(
        &self,
        method: &Method,
        target: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), InvalidHeaderValue> {
        let signing = Signing {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            session_token: self.session_token.as_deref(),
            region: &self.region,
            service: ScopeService::Kms,
        };
        signing.sign(method, target, headers, body, now)
    }
}

/// What signs a request, and for which service.
pub struct Signing<'a> {
    /// The public half.
    pub access_key_id: &'a str,
    /// The secret half.
    pub secret_access_key: &'a SecretBytes,
    /// The token of a session's credentials.
    pub session_token: Option<&'a str>,
    /// The Region of the credential scope.
    pub region: &'a str,
    /// Its service.
    pub service: ScopeService,
}

impl Signing<'_> {
    /// Adds `x-amz-date`, `x-amz-security-token` and `authorization` to `headers`, and signs every
    /// header in it; `host` must be among them. `target` is the path, with the query if there is
    /// one.
    ///
    /// # Errors
    /// When the access key id, the session token or the Region has characters that a header cannot
    /// have.
    ///
    /// # Panics
    /// When `headers` have no `host`.
    pub fn sign(
        &self,
        method: &Method,
        target: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), InvalidHeaderValue> {
        let time = RequestTime::at(now);
        // The signature covers all headers, so the date and the token are added before it is made.
        headers.insert(X_AMZ_DATE, HeaderValue::from_str(time.as_str())?);
        headers.remove(AUTHORIZATION);
        if let Some(token) = self.session_token {
            headers.insert(X_AMZ_SECURITY_TOKEN, HeaderValue::from_str(token)?);
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let (names, canonical) = {
            let signed = SignedHeaders::all(headers);
            let canonical = signed
                .head(self.service, method, path, query, headers)
                .expect("every header is signed, and host is one");
            (signed.list(), canonical)
        };
        let (region, service) = (self.region, self.service);
        let key = SigningKey::derive(self.secret_access_key, time.date(), region, service);
        let string_to_sign = key.string_to_sign(&time, region);
        let signature = sign(string_to_sign, canonical, &canonical::payload(body));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}/{region}/{}/{TERMINATOR}, SignedHeaders={names}, \
             Signature={}",
            self.access_key_id,
            time.date(),
            service.name(),
            String::from_utf8_lossy(&signature),
        );
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&authorization)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
