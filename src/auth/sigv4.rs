//! AWS Signature Version 4: verifying what clients send, and signing the command line's own requests.
//!
//! The checks, their order and their words are those of AWS's front end for JSON services. A caller who is refused in [`Verifier::begin`] has had
//! nothing read of his body; only then is its hash worth computing.
//!
//! Every `x-amz-*` header that a request has, its `content-type` and its `host` must be signed: otherwise whoever sees a signed request could turn it
//! into another operation, or send it elsewhere. Credentials in the query are not taken, and neither are unsigned payloads. Session tokens
//! are not issued yet, so every one is unknown.

use crate::auth::AuthError;
use crate::auth::authorization::{ALGORITHM, Authorization};
use crate::auth::canonical::{self, SignedHeaders};
use crate::auth::signing_key::{SERVICE, SigningKey, SigningKeys, TERMINATOR};
use crate::auth::time::{RequestTime, X_AMZ_DATE};
use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::keystore::Snapshot;
use crate::policy::Principal;
use hmac::{Hmac, Mac};
use http::header::{AUTHORIZATION, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

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

/// What requests are verified against.
pub struct Verifier {
    skew_max: Duration,
    signing_keys: SigningKeys,
}

/// A request whose access key, scope and time are right; its signature is still to be compared.
pub struct Claim {
    principal: Arc<Principal>,
    /// The canonical request up to the payload hash.
    canonical: Sha256,
    /// The string to sign up to the hash of the canonical request.
    string_to_sign: Hmac<Sha256>,
    /// What the request says of its body, if it does.
    content_sha256: Option<[u8; 64]>,
    signature: [u8; 64],
}

impl Verifier {
    /// For credentials scoped to `region` and `kms`, with clocks that may differ by `skew_max`.
    #[must_use]
    pub fn new(region: String, skew_max: Duration) -> Self {
        Self {
            skew_max,
            signing_keys: SigningKeys::new(region),
        }
    }

    /// Everything that needs only the head: work is done for a stranger only after his access key is known.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn begin(
        &self,
        head: Head<'_>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<Claim, AuthError> {
        let mut authorizations = head.headers.get_all(AUTHORIZATION).iter();
        let authorization = match authorizations.next() {
            Some(value) if !is_signed_in_query(head.uri) => value,
            _ => return Err(AuthError::missing_token()),
        };
        if authorizations.next().is_some() {
            return Err(AuthError::several("Authorization"));
        }
        let header = String::from_utf8_lossy(authorization.as_bytes());
        let time = RequestTime::of_request(head.headers);
        let authorization = Authorization::parse(&header, time)?;
        let time = authorization.time;

        let id = authorization.access_key_id;
        let entry = snapshot.access_keys.get(id);
        let entry = entry.ok_or_else(AuthError::unrecognized_client)?;
        let access_key = entry.access_keys.iter().find(|key| key.id == id);
        let access_key = access_key.ok_or_else(AuthError::unrecognized_client)?;
        if head.headers.contains_key("x-amz-security-token") {
            return Err(AuthError::unrecognized_client());
        }

        self.check_scope(&authorization)?;
        self.check_time(&time, &RequestTime::at(now))?;

        let signed = SignedHeaders::parse(authorization.signed_headers)?;
        signed.cover(head.headers)?;
        let (path, query) = (head.uri.path(), head.uri.query());
        let canonical = canonical::head(head.method, path, query, head.headers, signed.names())
            .ok_or_else(AuthError::mismatch)?;
        let signing_key = self.signing_keys.of(access_key, &time);
        Ok(Claim {
            principal: Arc::clone(&entry.principal),
            canonical,
            string_to_sign: signing_key.string_to_sign(&time, self.signing_keys.region()),
            content_sha256: content_sha256(head.headers)?,
            signature: hex_digits(authorization.signature.as_bytes())?,
        })
    }

    fn check_scope(&self, authorization: &Authorization<'_>) -> Result<(), AuthError> {
        if authorization.service != SERVICE {
            return Err(AuthError::scope_service());
        }
        if authorization.region != self.signing_keys.region() {
            return Err(AuthError::scope_region());
        }
        if authorization.terminator != TERMINATOR {
            return Err(AuthError::scope_terminator(authorization.terminator));
        }
        if authorization.date != authorization.time.date() {
            let (scope, time) = (authorization.date, &authorization.time);
            return Err(AuthError::scope_date(scope, time));
        }
        Ok(())
    }

    fn check_time(&self, time: &RequestTime, now: &RequestTime) -> Result<(), AuthError> {
        if time.is_earlier_by_more(now, self.skew_max) {
            return Err(AuthError::expired(time, now, self.skew_max));
        }
        if now.is_earlier_by_more(time, self.skew_max) {
            return Err(AuthError::not_yet_current(time, now, self.skew_max));
        }
        Ok(())
    }
}

impl Claim {
    /// Compares the signature over head and `body`, in constant time.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn finish(self, body: &[u8]) -> Result<Arc<Principal>, AuthError> {
        let payload = canonical::payload(body);
        if self.content_sha256.is_some_and(|stated| stated != payload) {
            return Err(AuthError::mismatch());
        }
        let signature = sign(self.string_to_sign, self.canonical, &payload);
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(self.principal)
        } else {
            Err(AuthError::mismatch())
        }
    }
}

fn sign(mut string_to_sign: Hmac<Sha256>, canonical: Sha256, payload_hash: &[u8; 64]) -> [u8; 64] {
    string_to_sign.update(&canonical::request(canonical, payload_hash));
    canonical::hex(&string_to_sign.finalize().into_bytes().into())
}

fn is_signed_in_query(uri: &Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        name.eq_ignore_ascii_case("X-Amz-Signature")
    })
}

/// 64 bytes that can be compared with hex digits; text of another length equals none.
fn hex_digits(text: &[u8]) -> Result<[u8; 64], AuthError> {
    text.try_into().map_err(|_| AuthError::mismatch())
}

/// The body's hash as the request states it. `UNSIGNED-PAYLOAD` and the forms for chunks are no hash.
fn content_sha256(headers: &HeaderMap) -> Result<Option<[u8; 64]>, AuthError> {
    let mut values = headers.get_all("x-amz-content-sha256").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => hex_digits(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(AuthError::mismatch()),
    }
}

/// What a request is signed with.
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: SecretBytes,
    /// The Region of the credential scope.
    pub region: String,
}

impl Credentials {
    /// Adds `x-amz-date` and `authorization` to `headers`, signing every header that is in it; `host` must be.
    ///
    /// # Errors
    /// When the access key id or the Region has characters that no header may have.
    ///
    /// # Panics
    /// Never: times are digits, and the names are those of the headers.
    pub fn sign(
        &self,
        method: &Method,
        path: &str,
        headers: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), InvalidHeaderValue> {
        let time = RequestTime::at(now);
        headers.insert(X_AMZ_DATE, HeaderValue::from_str(time.as_str())?);
        headers.remove(AUTHORIZATION);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let canonical = canonical::head(method, path, None, headers, &names)
            .expect("every name is of a header that is there");
        let key = SigningKey::derive(&self.secret_access_key, time.date(), &self.region);
        let string_to_sign = key.string_to_sign(&time, &self.region);
        let signature = sign(string_to_sign, canonical, &canonical::payload(body));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}/{}/{SERVICE}/{TERMINATOR}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            time.date(),
            self.region,
            names.join(";"),
            String::from_utf8_lossy(&signature),
        );
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&authorization)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
