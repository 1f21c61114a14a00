//! Signatures against two independent implementations: `aws-sigv4`, with which the AWS SDK for Rust
//! signs, and the verifier `scratchstack-aws-signature`.
//!
//! A request that the one signs is accepted. A request that was changed on its way, is of another
//! time, scope or secret, or is not signed at all, is accepted by neither verifier. The other
//! verifier takes requests of a quarter of an hour, so times are compared beyond that.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use keymill::auth::{Head, ScopeService, Session, Verifier};
use keymill::clock::Timestamp;
use keymill::crypto::entropy::Entropy;
use keymill::crypto::secret::{Secret, SecretBytes};
use keymill::key::regions::Regions;
use keymill::keystore::{AccessKey, PrincipalEntry, Snapshot};
use keymill::policy::Principal;
use proptest::prelude::*;
use proptest::sample::select;
use scratchstack_aws_signature::principal::User;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, SignatureError, SignatureOptions,
    SliceSignedHeaderRequirements, service_for_signing_key_fn, sigv4_validate_request,
};
use std::borrow::Cow;
use std::error::Error;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const REGION: &str = "us-east-1";
const SERVICE: &str = "kms";
const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SESSION_ID: &str = "ASIAEXAMPLE";
const SESSION_SECRET: &str = "bPxRfiCYEXAMPLEKEYwJalrXUtnFEMI/K7MDENG+";
const USER: &str = "arn:aws:iam::111122223333:user/provisioner";
const ROLE: &str = "arn:aws:iam::111122223333:role/batch";
/// 2026-01-15T12:00:00Z
const NOW_SECONDS: u64 = 1_768_478_400;
const NOW: Timestamp = Timestamp(NOW_SECONDS * 1_000_000);

struct World {
    snapshot: Snapshot,
    verifier: Verifier,
    session_token: String,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = Arc::new(Secret::filled(|bytes| bytes.fill(7)));
    let session = Session::new(
        ROLE.to_owned(),
        "AROAEXAMPLE".to_owned(),
        "nightly".to_owned(),
        AccessKey::new(SESSION_ID.to_owned(), secret(SESSION_SECRET)),
        NOW,
        NOW.after(Duration::from_hours(1)),
    );
    let session_token = session.token(&key, &Entropy::os()).unwrap();
    let access_key = Arc::new(AccessKey::new(ID.to_owned(), secret(SECRET)));
    let user = Principal::new(USER, Vec::new()).unwrap();
    let user = Arc::new(PrincipalEntry::new(user, vec![access_key]));
    let role = Principal::new(ROLE, Vec::new()).unwrap();
    let role = PrincipalEntry::new(role.with_unique_id("AROAEXAMPLE"), Vec::new());
    let mut snapshot = Snapshot::default();
    snapshot
        .access_keys
        .insert(ID.to_owned(), Arc::clone(&user));
    snapshot.principals.insert(USER.to_owned(), user);
    snapshot.principals.insert(ROLE.to_owned(), Arc::new(role));
    World {
        snapshot,
        verifier: Verifier::new(&Regions::one("aws", REGION), Duration::from_mins(5), key),
        session_token,
    }
});

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

/// A request before it is signed, and with what it is.
#[derive(Clone, Debug)]
struct Plan {
    path_and_query: String,
    meta: String,
    body: Vec<u8>,
    /// Seconds from now.
    offset: i64,
    with_session: bool,
    with_payload_hash: bool,
    region: &'static str,
    service: &'static str,
    secret: Option<&'static str>,
}

impl Plan {
    fn plain() -> Self {
        Self {
            path_and_query: "/".to_owned(),
            meta: "a b".to_owned(),
            body: b"{}".to_vec(),
            offset: 0,
            with_session: false,
            with_payload_hash: false,
            region: REGION,
            service: SERVICE,
            secret: None,
        }
    }

    fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW_SECONDS.checked_add_signed(self.offset).unwrap())
    }

    fn credentials(&self) -> Credentials {
        let (id, secret, token) = if self.with_session {
            (
                SESSION_ID,
                SESSION_SECRET,
                Some(WORLD.session_token.clone()),
            )
        } else {
            (ID, SECRET, None)
        };
        Credentials::new(id, self.secret.unwrap_or(secret), token, None, "test")
    }

    fn unsigned(&self) -> Request<Bytes> {
        let mut request = Request::post(format!("http://127.0.0.1:5645{}", self.path_and_query))
            .header("host", "127.0.0.1:5645")
            .header("content-type", "application/x-amz-json-1.1")
            .header(
                "x-amz-target",
                "TrentService.GenerateDataKeyWithoutPlaintext",
            )
            .header("user-agent", "not signed");
        request = request.header("x-amz-meta", &self.meta);
        request.body(Bytes::from(self.body.clone())).unwrap()
    }

    /// As the AWS SDK for Rust signs.
    fn signed(&self) -> Request<Bytes> {
        let mut settings = SigningSettings::default();
        if self.with_payload_hash {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let identity = self.credentials().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mut request = self.unsigned();
        let uri = request.uri().to_string();
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let signable = SignableRequest::new("POST", uri, headers, SignableBody::Bytes(&self.body));
        let signed = sign(signable.unwrap(), &params).unwrap();
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        request
    }
}

/// The principal that our verifier finds.
fn ours(request: &Request<Bytes>) -> Result<String, String> {
    let head = Head {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
    };
    let claim = WORLD
        .verifier
        .begin(ScopeService::Kms, head, &WORLD.snapshot, NOW);
    claim
        .and_then(|claim| claim.finish(request.body()))
        .map(|signer| signer.principal.arn.clone())
        .map_err(|error| error.to_string())
}

/// What the other verifier looks credentials up with.
async fn signing_key(
    asked: GetSigningKeyRequest,
) -> Result<GetSigningKeyResponse, Box<dyn Error + Send + Sync>> {
    let token = Some(WORLD.session_token.as_str());
    let secret = match (asked.access_key(), asked.session_token()) {
        (ID, None) => SECRET,
        (SESSION_ID, given) if given == token => SESSION_SECRET,
        (id, _) => {
            let unknown = SignatureError::InvalidClientTokenId(id.to_owned());
            return Err(Box::from(unknown));
        }
    };
    let secret = KSecretKey::<44>::from_str(secret)?;
    let signing_key = secret.to_ksigning(asked.request_date(), asked.region(), asked.service());
    let user = User::new("aws", "111122223333", "/", "oracle")?;
    Ok(GetSigningKeyResponse::builder()
        .principal(user)
        .signing_key(signing_key)
        .build()?)
}

/// Whether the other verifier accepts it, with the same credentials and the same headers that must
/// be signed.
fn theirs(request: &Request<Bytes>) -> Result<(), String> {
    let mut service = service_for_signing_key_fn(signing_key);
    let [host, media_type, prefix] = ["host", "content-type", "x-amz-"].map(Cow::Borrowed);
    let (always, if_there, prefixes) = ([host], [media_type], [prefix]);
    let required = SliceSignedHeaderRequirements::new(&always, &if_there, &prefixes);
    let now = UNIX_EPOCH + Duration::from_secs(NOW_SECONDS);
    let verified = sigv4_validate_request(
        request.clone(),
        REGION,
        SERVICE,
        &mut service,
        now.into(),
        &required,
        SignatureOptions::default(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let verified = runtime.unwrap().block_on(verified);
    verified.map(|_| ()).map_err(|error| error.to_string())
}

#[track_caller]
fn accepted_by_both(plan: &Plan) {
    let request = plan.signed();
    let arn = if plan.with_session {
        "arn:aws:sts::111122223333:assumed-role/batch/nightly"
    } else {
        USER
    };
    assert_eq!(ours(&request), Ok(arn.to_owned()), "{request:?}");
    assert_eq!(theirs(&request), Ok(()), "{request:?}");
}

#[track_caller]
fn refused_by_both(request: &Request<Bytes>) {
    assert!(ours(request).is_err(), "we accept {request:?}");
    assert!(theirs(request).is_err(), "they accept {request:?}");
}

fn plans() -> impl Strategy<Value = Plan> {
    (
        "(/[A-Za-z0-9_~-]{1,8}){1,3}|/",
        prop::collection::vec(("[a-z]{1,4}", "[A-Za-z0-9_~-]{0,6}"), 0..4),
        "[!-~]([ -~]{0,20}[!-~])?",
        prop::collection::vec(any::<u8>(), 0..200),
        -300_i64..=300,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(path, query, meta, body, offset, with_session, with_payload_hash)| {
                let query: Vec<_> = query
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let mark = if query.is_empty() { "" } else { "?" };
                Plan {
                    path_and_query: format!("{path}{mark}{}", query.join("&")),
                    meta,
                    body,
                    offset,
                    with_session,
                    with_payload_hash,
                    ..Plan::plain()
                }
            },
        )
}

/// The changes to a signed request on its way.
fn alter(request: &mut Request<Bytes>, how: &str, at: usize, change: u8) -> bool {
    let edit = |request: &mut Request<Bytes>, from: &str, to: &str| {
        let authorization = request.headers()["authorization"].to_str().unwrap();
        let edited = authorization.replacen(from, to, 1);
        let changed = edited != authorization;
        let edited = HeaderValue::from_str(&edited).unwrap();
        request.headers_mut().insert("authorization", edited);
        changed
    };
    match how {
        "body" => {
            let mut body = request.body().to_vec();
            if body.is_empty() {
                body.push(change);
            } else {
                let at = at % body.len();
                body[at] ^= change;
            }
            *request.body_mut() = Bytes::from(body);
            true
        }
        "header" => {
            const SIGNED: [&str; 5] = [
                "content-type",
                "host",
                "x-amz-date",
                "x-amz-meta",
                "x-amz-target",
            ];
            let name = SIGNED[at % SIGNED.len()];
            let mut value = request.headers()[name].as_bytes().to_vec();
            // Space around a value is not signed, and neither is the number of spaces in it.
            value.extend_from_slice(b"-x");
            let value = HeaderValue::from_bytes(&value).unwrap();
            request.headers_mut().insert(name, value);
            true
        }
        "dropped" => {
            const SIGNED: [&str; 3] = ["x-amz-date", "x-amz-meta", "x-amz-target"];
            request.headers_mut().remove(SIGNED[at % SIGNED.len()]);
            true
        }
        "added" => {
            let name = HeaderName::from_static("x-amz-more");
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static("1"));
            true
        }
        "doubled" => {
            let value = HeaderValue::from_static("TrentService.Decrypt");
            request.headers_mut().append("x-amz-target", value);
            true
        }
        "path" => {
            let uri = request.uri().to_string().replacen(":5645/", ":5645/x", 1);
            *request.uri_mut() = uri.parse().unwrap();
            true
        }
        "query" => {
            let mark = if request.uri().query().is_some() {
                "&"
            } else {
                "?"
            };
            *request.uri_mut() = format!("{}{mark}zz=1", request.uri()).parse().unwrap();
            true
        }
        "method" => {
            *request.method_mut() = http::Method::PUT;
            true
        }
        "region" => edit(request, "/us-east-1/", "/us-west-2/"),
        "service" => edit(request, "/kms/", "/s3/"),
        "terminator" => edit(request, "/aws4_request", "/aws5_request"),
        "scope-date" => edit(request, "/202601", "/202602"),
        "algorithm" => edit(request, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        "access-key" => edit(request, "EXAMPLE/", "EXAMPLF/"),
        "unlisted" => edit(request, ";x-amz-target", ""),
        "signature" => {
            let authorization = request.headers()["authorization"].to_str().unwrap();
            let digits = authorization.len() - 64;
            let place = digits + at % 64;
            let digit = u8::from_str_radix(&authorization[place..=place], 16).unwrap();
            let other = format!("{:x}", digit ^ (1 + change % 15));
            let mut text = authorization.to_owned();
            text.replace_range(place..=place, &other);
            let text = HeaderValue::from_str(&text).unwrap();
            request.headers_mut().insert("authorization", text);
            true
        }
        "token" => {
            let token = match request.headers().get("x-amz-security-token") {
                Some(token) => token.to_str().unwrap().replacen('A', "B", 1),
                // Another caller's token beside a user's signature.
                None => WORLD.session_token.clone(),
            };
            let token = HeaderValue::from_str(&token).unwrap();
            request.headers_mut().insert("x-amz-security-token", token);
            true
        }
        "no-token" => request
            .headers_mut()
            .remove("x-amz-security-token")
            .is_some(),
        "unsigned" => request.headers_mut().remove("authorization").is_some(),
        how => panic!("{how} is no alteration"),
    }
}

const ALTERATIONS: [&str; 19] = [
    "body",
    "header",
    "dropped",
    "added",
    "doubled",
    "path",
    "query",
    "method",
    "region",
    "service",
    "terminator",
    "scope-date",
    "algorithm",
    "access-key",
    "unlisted",
    "signature",
    "token",
    "no-token",
    "unsigned",
];

proptest! {
    #[test]
    fn what_the_sdk_signs_is_accepted(plan in plans()) {
        accepted_by_both(&plan);
    }

    #[test]
    fn whatever_was_altered_is_refused(
        plan in plans(),
        how in select(ALTERATIONS.to_vec()),
        at in any::<usize>(),
        change in 1_u8..,
    ) {
        let mut request = plan.signed();
        prop_assume!(alter(&mut request, how, at, change));
        refused_by_both(&request);
    }

    #[test]
    fn other_times_scopes_and_secrets_are_refused(
        plan in plans(),
        early in any::<bool>(),
        seconds in 901_i64..100_000_000,
        other in select(vec!["time", "region", "service", "secret"]),
    ) {
        let mut plan = plan;
        match other {
            "time" => plan.offset = if early { -seconds } else { seconds },
            "region" => plan.region = "eu-west-1",
            "service" => plan.service = "s3",
            _ => plan.secret = Some("another secret of forty characters......"),
        }
        refused_by_both(&plan.signed());
    }

    #[test]
    fn what_one_verifier_makes_of_a_header_the_other_does_too(text in "(AWS4-HMAC-SHA256 )?[ -~]{0,120}") {
        let mut request = Plan::plain().signed();
        let text = HeaderValue::from_str(&text).unwrap();
        request.headers_mut().insert("authorization", text);
        refused_by_both(&request);
    }
}

#[test]
fn every_alteration_is_refused_of_a_user_and_of_a_session() {
    for with_session in [false, true] {
        let plan = Plan {
            with_session,
            ..Plan::plain()
        };
        accepted_by_both(&plan);
        for how in ALTERATIONS {
            let mut request = plan.signed();
            let altered = alter(&mut request, how, 0, 1);
            assert!(altered || how == "no-token" && !with_session, "{how}");
            if altered {
                refused_by_both(&request);
            }
        }
    }
}

#[test]
fn the_window_is_five_minutes_where_the_other_verifier_has_fifteen() {
    for (offset, ours_is_ok) in [
        (-300, true),
        (300, true),
        (-301, false),
        (301, false),
        (-899, false),
        (899, false),
    ] {
        let plan = Plan {
            offset,
            ..Plan::plain()
        };
        let request = plan.signed();
        assert_eq!(ours(&request).is_ok(), ours_is_ok, "{offset}");
        assert_eq!(theirs(&request), Ok(()), "{offset}");
    }
}
