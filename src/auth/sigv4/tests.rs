use super::*;
use crate::keystore::{AccessKey, PrincipalEntry};
use http::header::{CONTENT_TYPE, DATE, HOST};
use percent_encoding::NON_ALPHANUMERIC;
use proptest::prelude::*;
use proptest::sample::{Index, select};

mod presigned;
mod refusals;
mod services;
mod sessions;

const ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = br#"{"KeyId": "alias/test", "KeySpec": "AES_256"}"#;
/// 2026-01-15T12:00:00Z
const NOW: Timestamp = Timestamp(1_768_478_400_000_000);
const MISMATCH: &str = "InvalidSignatureException: The request signature we calculated does not match the signature you provided. \
    Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
const UNRECOGNIZED: &str =
    "UnrecognizedClientException: The security token included in the request is invalid.";
const MISSING: &str = "MissingAuthenticationTokenException: Missing Authentication Token";

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: ID.to_owned(),
        secret_access_key: secret(SECRET),
        session_token: None,
        region: "us-east-1".to_owned(),
    }
}

fn snapshot(secrets: &[(&str, &str)]) -> Snapshot {
    let access_key = |(id, text): &(&str, &str)| {
        let id = (*id).to_owned();
        Arc::new(AccessKey::new(id, secret(text)))
    };
    let principal = Principal::new("arn:aws:iam::111122223333:user/provisioner", Vec::new());
    let access_keys = secrets.iter().map(access_key).collect();
    let entry = Arc::new(PrincipalEntry::new(principal.unwrap(), access_keys));
    let mut snapshot = Snapshot::default();
    for (id, _) in secrets {
        let entry = Arc::clone(&entry);
        snapshot.access_keys.insert((*id).to_owned(), entry);
    }
    snapshot
}

fn verifier() -> Verifier {
    verifier_within(Duration::from_mins(5))
}

fn verifier_within(skew_max: Duration) -> Verifier {
    let regions = Regions::one("aws", "us-east-1");
    Verifier::new(&regions, skew_max, token_key())
}

fn token_key() -> Arc<Secret<32>> {
    Arc::new(Secret::filled(|bytes| bytes.fill(7)))
}

/// A request on its way: signed parts may be changed afterwards.
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn unsigned() -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            HOST,
            HeaderValue::from_static("kms.us-east-1.amazonaws.com"),
        );
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-amz-json-1.1"),
        );
        headers.insert(
            "x-amz-target",
            HeaderValue::from_static("TrentService.GenerateDataKeyWithoutPlaintext"),
        );
        Self {
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers,
            body: BODY.to_vec(),
        }
    }

    fn signed() -> Self {
        Self::unsigned().sign_at(NOW)
    }

    fn sign_at(self, now: Timestamp) -> Self {
        self.sign_with(&credentials(), now)
    }

    fn sign_with(mut self, credentials: &Credentials, now: Timestamp) -> Self {
        credentials
            .sign(
                &self.method,
                self.uri.path(),
                &mut self.headers,
                &self.body,
                now,
            )
            .unwrap();
        self
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.insert(name, value);
        self
    }

    fn and(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.append(name, value);
        self
    }

    fn authorization(&self) -> String {
        self.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// Replaces `from` in the `Authorization` header, which must contain it.
    fn edit(self, from: &str, to: &str) -> Self {
        let authorization = self.authorization();
        assert!(authorization.contains(from), "{authorization}");
        self.with("authorization", &authorization.replace(from, to))
    }

    fn verify_with(&self, verifier: &Verifier, snapshot: &Snapshot) -> Result<String, String> {
        let head = Head {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        };
        verifier
            .begin(ScopeService::Kms, head, snapshot, NOW)
            .and_then(|claim| claim.finish(&self.body))
            .map(|signer| signer.principal.arn.clone())
            .map_err(|error| error.to_string())
    }

    fn verify(&self) -> Result<String, String> {
        self.verify_with(&verifier(), &snapshot(&[(ID, SECRET)]))
    }

    #[track_caller]
    fn is_refused(&self, message: &str) {
        assert_eq!(self.verify(), Err(message.to_owned()));
    }

    #[track_caller]
    fn is_accepted(&self) {
        let arn = "arn:aws:iam::111122223333:user/provisioner".to_owned();
        assert_eq!(self.verify(), Ok(arn));
    }
}

#[test]
fn the_published_case_is_signed_and_verified() {
    let request = Request::signed();
    assert_eq!(
        request.authorization(),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/kms/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
         Signature=fca1943fccc3f7c6b0b99c8ba997c7cf70c6ca17ae7d44158efe2f3f6fa41363"
    );
    assert_eq!(request.headers["x-amz-date"], "20260115T120000Z");
    request.is_accepted();
}

#[test]
fn what_clients_may_choose_is_accepted() {
    // Signing again replaces the old signature.
    Request::signed().sign_at(NOW).is_accepted();
    Request::signed().edit(", ", ",").is_accepted();
    // The list of names in another order: the canonical request sorts them.
    Request::signed()
        .edit(
            "content-type;host;x-amz-date;x-amz-target",
            "x-amz-target;host;content-type;x-amz-date",
        )
        .is_accepted();
    // Headers that proxies add, unsigned.
    Request::signed()
        .with("user-agent", "x")
        .with("x-amzn-trace-id", "Root=1")
        .is_accepted();
    let mut request = Request::unsigned();
    request.uri = Uri::from_static("/v1/data-keys");
    request.sign_at(NOW).is_accepted();
    let hash = "2833fe2f680557ab7621b080d418e09bd9cafe2498a6628d85588730ed833c19";
    Request::unsigned()
        .with("x-amz-content-sha256", hash)
        .sign_at(NOW)
        .is_accepted();
}

#[test]
fn a_date_header_serves_instead_of_x_amz_date() {
    for text in ["Thu, 15 Jan 2026 12:00:00 GMT", "20260115T120000Z"] {
        let mut request = Request::unsigned().with("date", text);
        let signed = SignedHeaders::parse("content-type;date;host;x-amz-target").unwrap();
        let canonical = signed
            .head(
                ScopeService::Kms,
                &Method::POST,
                "/",
                None,
                &request.headers,
            )
            .unwrap();
        let time = RequestTime::at(NOW);
        let key = SigningKey::derive(&secret(SECRET), time.date(), "us-east-1", ScopeService::Kms);
        let string_to_sign = key.string_to_sign(&time, "us-east-1");
        let signature = sign(string_to_sign, canonical, &canonical::payload(BODY));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ID}/20260115/us-east-1/kms/aws4_request, SignedHeaders={}, Signature={}",
            signed.list(),
            std::str::from_utf8(&signature).unwrap()
        );
        request = request.with("authorization", &authorization);
        request.is_accepted();
        // The date is in the string to sign, whether or not its header is signed.
        request
            .with(DATE.as_str(), "Thu, 15 Jan 2026 12:00:01 GMT")
            .is_refused(MISMATCH);
    }
}

#[test]
fn the_clock_may_differ_by_five_minutes_each_way() {
    let at = |seconds: i64| {
        let micros = NOW.0.checked_add_signed(seconds * 1_000_000).unwrap();
        Request::unsigned().sign_at(Timestamp(micros))
    };
    at(-300).is_accepted();
    at(300).is_accepted();
    at(-301).is_refused(
        "InvalidSignatureException: Signature expired: 20260115T115459Z is now earlier than \
         20260115T115500Z (20260115T120000Z - 5 min.)",
    );
    at(301).is_refused(
        "InvalidSignatureException: Signature not yet current: 20260115T120501Z is still later than \
         20260115T120500Z (20260115T120000Z + 5 min.)",
    );
    let narrow = verifier_within(Duration::from_secs(90));
    let refused = at(-91).verify_with(&narrow, &snapshot(&[(ID, SECRET)]));
    assert_eq!(
        refused.unwrap_err(),
        "InvalidSignatureException: Signature expired: 20260115T115829Z is now earlier than \
         20260115T115830Z (20260115T120000Z - 90 sec.)"
    );
}

#[test]
fn whatever_the_signature_covers_cannot_be_changed() {
    let mut other = Request::signed();
    other.body = BODY.to_ascii_lowercase();
    other.is_refused(MISMATCH);
    let mut other = Request::signed();
    other.body.push(b' ');
    other.is_refused(MISMATCH);
    let mut other = Request::signed();
    other.method = Method::PUT;
    other.is_refused(MISMATCH);
    for uri in ["/v1/data-keys", "/?Action=Decrypt", "/%2e"] {
        let mut other = Request::signed();
        other.uri = uri.parse().unwrap();
        other.is_refused(MISMATCH);
    }
    Request::signed()
        .with("x-amz-target", "TrentService.Decrypt")
        .is_refused(MISMATCH);
    Request::signed()
        .and("x-amz-target", "TrentService.Decrypt")
        .is_refused(MISMATCH);
    Request::signed()
        .with("host", "kms.us-west-2.amazonaws.com")
        .is_refused(MISMATCH);
    Request::signed()
        .with("host", "kms.us-east-1.amazonaws.com:443")
        .is_refused(MISMATCH);
    Request::signed()
        .with("x-amz-date", "20260115T120001Z")
        .is_refused(MISMATCH);
}

#[test]
fn every_header_that_decides_must_be_signed() {
    let not_signed = |name: &str| {
        format!(
            "InvalidSignatureException: '{name}' must be a 'SignedHeader' in the AWS Authorization."
        )
    };
    Request::signed()
        .with("x-amz-meta", "x")
        .is_refused(&not_signed("x-amz-meta"));
    Request::signed()
        .with("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .is_refused(&not_signed("x-amz-content-sha256"));
    for name in ["x-amz-date", "x-amz-target"] {
        let mut request = Request::signed();
        request = match name {
            "x-amz-target" => request.edit(";x-amz-target", ""),
            _ => request.edit(&format!("{name};"), ""),
        };
        request.is_refused(&not_signed(name));
    }
    let no_host = "InvalidSignatureException: 'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    Request::signed().edit("host;", "").is_refused(no_host);
    let mut request = Request::signed().edit("host;", "");
    request.headers.remove(HOST);
    request.is_refused(no_host);
    Request::signed()
        .edit("content-type;host;x-amz-date;x-amz-target", "")
        .is_refused(no_host);
    Request::signed().edit("host;", "Host;").is_refused(no_host);

    // Named, but absent.
    let mut request = Request::signed();
    request.headers.remove(HOST);
    request.is_refused(MISMATCH);
    Request::signed()
        .edit("host;", "host;range;")
        .is_refused(MISMATCH);
    Request::signed()
        .edit("host;", "host;;")
        .is_refused(MISMATCH);
    Request::signed().edit("host;", "host;host;").is_refused(
        "InvalidSignatureException: 'host' is more than once a 'SignedHeader' in the AWS Authorization.",
    );
    let many: String = (0..200).map(|at| format!("x{at};")).collect();
    Request::signed()
        .edit("host;", &format!("host;{many}"))
        .is_refused(MISMATCH);
}

/// AWS SDK for JavaScript v2, aws4fetch, AsyncAws before September 2026 and the AWS SDK for PHP
/// before 3.385.3 leave the content type out of their signatures, and AWS KMS takes them.
#[test]
fn auth_4_an_unsigned_content_type_decides_nothing_on_the_path_of_aws() {
    let unsigned = || {
        let mut request = Request::unsigned();
        request.headers.remove(CONTENT_TYPE);
        request
    };
    for content_type in ["application/x-amz-json-1.1", "text/plain", ""] {
        let request = unsigned().sign_at(NOW).with("content-type", content_type);
        assert!(request.verify().is_ok(), "{content_type}");
    }
    // What is signed is held to the signature, on every path.
    Request::signed()
        .with("content-type", "text/plain")
        .is_refused(MISMATCH);
    // Our own paths read what they are sent, and their clients are written for them.
    for path in [
        "/v1/data-keys",
        "/v1/data-keys/bind",
        "/v1/data-keys/rewrap",
        "/v1/data-keys/verify",
        "/v1/admin/CreatePrincipal",
        "//",
        "/./",
    ] {
        let on_path = |mut request: Request| {
            request.uri = Uri::from_static(path);
            request
        };
        let signed = on_path(unsigned()).sign_at(NOW);
        assert!(signed.verify().is_ok(), "{path}");
        on_path(unsigned())
            .sign_at(NOW)
            .with("content-type", "text/plain")
            .is_refused(
                "InvalidSignatureException: 'content-type' must be a 'SignedHeader' in the AWS Authorization.",
            );
        let signed = on_path(Request::unsigned()).sign_at(NOW);
        assert!(signed.verify().is_ok(), "{path}");
    }
}

#[test]
fn a_stated_payload_hash_must_be_the_bodys() {
    let other = "0".repeat(64);
    let upper = "2833FE2F680557AB7621B080D418E09BD9CAFE2498A6628D85588730ED833C19";
    for value in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "",
        other.as_str(),
        upper,
    ] {
        Request::unsigned()
            .with("x-amz-content-sha256", value)
            .sign_at(NOW)
            .is_refused(MISMATCH);
    }
    let hash = upper.to_ascii_lowercase();
    Request::unsigned()
        .and("x-amz-content-sha256", &hash)
        .and("x-amz-content-sha256", &hash)
        .sign_at(NOW)
        .is_refused(MISMATCH);
}

proptest! {
    #[test]
    fn any_altered_byte_of_a_signed_header_or_of_the_body_is_refused(
        part in select(vec!["body", "content-type", "host", "x-amz-date", "x-amz-target", "authorization"]),
        at: Index,
        change in 1_u8..,
    ) {
        let mut request = Request::signed();
        if part == "body" {
            let at = at.index(BODY.len());
            request.body[at] ^= change;
        } else {
            let mut value = request.headers[part].as_bytes().to_vec();
            let at = at.index(value.len());
            value[at] ^= change;
            // Bytes that a header cannot have never arrive here.
            let value = HeaderValue::from_bytes(&value);
            prop_assume!(value.is_ok());
            request.headers.insert(part, value.unwrap());
        }
        prop_assert!(request.verify().is_err());
    }

    #[test]
    fn what_is_signed_is_verified(
        path in "/([a-z%/. ~-]{0,20})?",
        value in "[ -~]{0,20}",
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let uri = Uri::builder().path_and_query(path.replace(' ', "%20")).build();
        prop_assume!(uri.is_ok());
        let mut request = Request::unsigned().with("x-amz-meta", &value);
        request.uri = uri.unwrap();
        request.body = body;
        prop_assert!(request.sign_at(NOW).verify().is_ok());
    }

    #[test]
    fn no_header_of_a_stranger_panics(text in "\\PC{0,200}", date in "\\PC{0,20}") {
        let request = Request::signed();
        let (text, date) = (HeaderValue::from_str(&text), HeaderValue::from_str(&date));
        if let (Ok(text), Ok(date)) = (text, date) {
            let mut request = request;
            request.headers.insert(AUTHORIZATION, text);
            request.headers.insert(X_AMZ_DATE, date);
            prop_assert!(request.verify().is_err());
        }
    }
}
