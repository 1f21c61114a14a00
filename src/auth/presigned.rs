//! Presigned requests: the signature and all that belongs to it are parameters of the query, so
//! that a URL by itself is a request of its signer.
//!
//! AWS STS takes them, and logins rest on that: `aws eks get-token` hands out such a URL of
//! `GetCallerIdentity` as a token. Its holders count on 15 minutes, whatever `X-Amz-Expires` says,
//! since that is what AWS makes of it (aws-iam-authenticator, `pkg/token/token.go`).
//!
//! Source: AWS IAM, "Create a signed AWS API request", section "Authentication methods".

use crate::auth::AuthError;
use crate::auth::authorization::Authorization;
use crate::auth::time::RequestTime;
use http::Uri;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::time::Duration;

/// How long a presigned request is good from its time.
pub(super) const LIFETIME: Duration = Duration::from_mins(15);
/// The most seconds of `X-Amz-Expires`: a week.
const EXPIRES_SECONDS_MAX: u32 = 604_800;

const ALGORITHM: &str = "X-Amz-Algorithm";
const CREDENTIAL: &str = "X-Amz-Credential";
const SIGNATURE: &str = "X-Amz-Signature";
const SIGNED_HEADERS: &str = "X-Amz-SignedHeaders";
const DATE: &str = "X-Amz-Date";
const EXPIRES: &str = "X-Amz-Expires";
const SECURITY_TOKEN: &str = "X-Amz-Security-Token";
/// The parameters that a presigned request must have, in the order in which AWS misses them.
const REQUIRED: [&str; 5] = [ALGORITHM, CREDENTIAL, SIGNATURE, SIGNED_HEADERS, DATE];
const ALL: [&str; 7] = [
    ALGORITHM,
    CREDENTIAL,
    SIGNATURE,
    SIGNED_HEADERS,
    DATE,
    EXPIRES,
    SECURITY_TOKEN,
];

/// The parameters of a signature in a query, decoded and not verified.
pub(super) struct Presigned<'a> {
    values: [Option<Cow<'a, str>>; ALL.len()],
    /// The query as it was signed: without the signature.
    pub(super) query: String,
}

impl<'a> Presigned<'a> {
    /// The parameters of a signature in a target; `None` if it has none of them.
    pub(super) fn of(uri: &'a Uri) -> Result<Option<Self>, AuthError> {
        let mut values = [const { None }; ALL.len()];
        let mut query = String::new();
        for parameter in uri.query().unwrap_or_default().split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let known = ALL.iter().position(|known| *known == name);
            if let Some(at) = known {
                let value = percent_decode_str(value).decode_utf8_lossy();
                if values[at].replace(value).is_some() {
                    return Err(AuthError::several_parameters(ALL[at]));
                }
            }
            if known.is_none_or(|at| ALL[at] != SIGNATURE) {
                if !query.is_empty() {
                    query.push('&');
                }
                query.push_str(parameter);
            }
        }
        let is_presigned = values.iter().any(Option::is_some);
        Ok(is_presigned.then_some(Self { values, query }))
    }

    fn value(&self, name: &str) -> Option<&str> {
        let at = ALL.iter().position(|known| *known == name)?;
        self.values[at].as_deref()
    }

    /// What the request says of its signature.
    pub(super) fn authorization(&self) -> Result<Authorization<'_>, AuthError> {
        let required = REQUIRED.map(|name| self.value(name).filter(|value| !value.is_empty()));
        let [
            Some(algorithm),
            Some(credential),
            Some(signature),
            Some(signed_headers),
            Some(date),
        ] = required
        else {
            let missing = REQUIRED.iter().zip(required);
            let missing = missing.filter(|(_, value)| value.is_none());
            return Err(AuthError::missing_in_query(missing.map(|(name, _)| *name)));
        };
        let time = RequestTime::parse(date)?;
        if let Some(seconds) = self.value(EXPIRES) {
            let is_allowed = |seconds: u32| (1..=EXPIRES_SECONDS_MAX).contains(&seconds);
            if !seconds.parse().is_ok_and(is_allowed) {
                return Err(AuthError::bad_expires(seconds, EXPIRES_SECONDS_MAX));
            }
        }
        Authorization::of_parts(algorithm, credential, signed_headers, signature, time)
    }

    /// The session token.
    pub(super) fn token(&self) -> Option<&[u8]> {
        self.value(SECURITY_TOKEN).map(str::as_bytes)
    }
}
