//! AWS Signature Version 4: verifying what clients send, and signing the command line's own requests.

use crate::auth::AuthError;
use crate::clock::Timestamp;
use crate::crypto::secret::SecretBytes;
use crate::keystore::Snapshot;
use crate::policy::Principal;
use http::{HeaderMap, Method, Uri};
use std::sync::Arc;
use std::time::Duration;

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
pub struct Verifier(());

/// A request whose access key, scope and time are right; its signature is still to be compared.
pub struct Claim<'a>(&'a ());

impl Verifier {
    /// For credentials scoped to `region` and `kms`, with clocks that may differ by `skew_max`.
    #[must_use]
    pub fn new(_region: String, _skew_max: Duration) -> Self {
        todo!()
    }

    /// Everything that needs only the head: work is done for a stranger only after his access key is known.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn begin<'a>(
        &'a self,
        _head: Head<'a>,
        _snapshot: &'a Snapshot,
        _now: Timestamp,
    ) -> Result<Claim<'a>, AuthError> {
        todo!()
    }
}

impl Claim<'_> {
    /// Compares the signature over head and `body`, in constant time.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn finish(self, _body: &[u8]) -> Result<Arc<Principal>, AuthError> {
        todo!()
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
    /// When a header's value is not text.
    pub fn sign(
        &self,
        _method: &Method,
        _path: &str,
        _headers: &mut HeaderMap,
        _body: &[u8],
        _now: Timestamp,
    ) -> Result<(), http::header::InvalidHeaderValue> {
        todo!()
    }
}
