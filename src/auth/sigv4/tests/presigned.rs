//! Signatures in the query: AWS STS takes them, and no other service here does.

use super::sessions::{session, with_role};
use super::*;

const ARN: &str = "arn:aws:iam::111122223333:user/provisioner";
const WHO: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The parameters of a signature but for the signature, in botocore's order.
fn parameters(credentials: &Credentials, time: &RequestTime, expires: &str) -> String {
    let encoded =
        |text: &str| percent_encoding::utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let scope = format!(
        "{}/{}/us-east-1/sts/aws4_request",
        credentials.access_key_id,
        time.date()
    );
    let mut query = format!(
        "{WHO}&X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={time}\
         &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
        encoded(&scope)
    );
    if let Some(token) = &credentials.session_token {
        query += &format!("&X-Amz-Security-Token={}", encoded(token));
    }
    query
}

/// The signature over a query, and over the two headers of [`headers`].
fn signature(query: &str, credentials: &Credentials, time: &RequestTime) -> String {
    let signed = SignedHeaders::parse("host;x-k8s-aws-id").unwrap();
    let canonical = signed.head(
        ScopeService::Kms,
        &Method::GET,
        "/",
        Some(query),
        &headers(),
    );
    let key = SigningKey::derive(
        &credentials.secret_access_key,
        time.date(),
        "us-east-1",
        ScopeService::Sts,
    );
    let string = key.string_to_sign(time, "us-east-1");
    let signature = sign(string, canonical.unwrap(), &canonical::payload(b""));
    String::from_utf8(signature.to_vec()).unwrap()
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    let host = HeaderValue::from_static("sts.us-east-1.amazonaws.com");
    headers.insert(HOST, host);
    headers.insert("x-k8s-aws-id", HeaderValue::from_static("cluster"));
    headers
}

/// A presigned request, as `aws eks get-token` makes one.
fn presigned_by(credentials: &Credentials, now: Timestamp, expires: &str) -> Request {
    let time = RequestTime::at(now);
    let query = parameters(credentials, &time, expires);
    let signature = signature(&query, credentials, &time);
    let target = format!("/?{query}&X-Amz-Signature={signature}");
    Request {
        method: Method::GET,
        uri: target.parse().unwrap(),
        headers: headers(),
        body: Vec::new(),
    }
}

fn presigned() -> Request {
    presigned_by(&credentials(), NOW, "60")
}

impl Request {
    /// Replaces `from` in the target, which must contain it.
    fn at(mut self, from: &str, to: &str) -> Self {
        let target = self.uri.to_string();
        assert!(target.contains(from), "{target}");
        self.uri = target.replacen(from, to, 1).parse().unwrap();
        self
    }

    fn verify_as(&self, service: ScopeService, snapshot: &Snapshot) -> Result<String, String> {
        let head = Head {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        };
        verifier()
            .begin(service, head, snapshot, NOW)
            .and_then(|claim| claim.finish(&self.body))
            .map(|signer| signer.principal.arn.clone())
            .map_err(|error| error.to_string())
    }

    fn asks_sts(&self) -> Result<String, String> {
        self.verify_as(ScopeService::Sts, &snapshot(&[(ID, SECRET)]))
    }

    #[track_caller]
    fn sts_refuses(&self, message: &str) {
        assert_eq!(self.asks_sts(), Err(message.to_owned()), "{}", self.uri);
    }
}

/// Computed with botocore 1.44.8 and once more by hand. The token stands behind the signed headers,
/// where botocore writes it; the canonical query has it before them.
#[test]
fn the_signature_of_botocore_is_that_of_its_sorted_query() {
    let uri = Uri::from_static(
        "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=ASIAEXAMPLE%2F20260115%2Fus-east-1%2Fsts%2Faws4_request\
         &X-Amz-Date=20260115T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
         &X-Amz-Security-Token=SESSIONTOKENEXAMPLE\
         &X-Amz-Signature=40cbaea3737ea9cdcc7709b879d389d2d40d3863d7f03abb346847357d429824",
    );
    let presigned = Presigned::of(&uri).unwrap().unwrap();
    assert_eq!(presigned.token(), Some(&b"SESSIONTOKENEXAMPLE"[..]));
    let authorization = presigned.authorization().unwrap();
    assert_eq!(authorization.access_key_id, "ASIAEXAMPLE");
    let signed = SignedHeaders::parse(authorization.signed_headers).unwrap();
    let query = Some(presigned.query.as_str());
    let canonical = signed
        .head(ScopeService::Kms, &Method::GET, "/", query, &headers())
        .unwrap();
    let date = authorization.date;
    let key = SigningKey::derive(&secret(SECRET), date, "us-east-1", ScopeService::Sts);
    let string = key.string_to_sign(&authorization.time, "us-east-1");
    let computed = sign(string, canonical, &canonical::payload(b""));
    assert_eq!(authorization.signature.as_bytes(), computed);
}

#[test]
fn a_presigned_request_is_its_signers() {
    assert_eq!(presigned().asks_sts().as_deref(), Ok(ARN));
    // Also one that is sent as POST with an empty body, if it was signed so.
    let time = RequestTime::at(NOW);
    let mut request = presigned();
    request.method = Method::POST;
    request.sts_refuses(MISMATCH);
    // Names may be encoded as well.
    let request = presigned().at("&X-Amz-Date=", "&X%2dAmz-Date=");
    assert_eq!(request.asks_sts().as_deref(), Ok(ARN));
    // A session's token is in the query.
    let session = session();
    let request = presigned_by(&session, NOW, "60");
    let role = with_role(sessions::role("AROAEXAMPLE"));
    let found = request.verify_as(ScopeService::Sts, &role);
    assert_eq!(found.as_deref(), Ok(sessions::SESSION));
    let query = parameters(&session, &time, "60");
    let (before, token) = query.split_once("&X-Amz-Security-Token=").unwrap();
    let without = request.at(&format!("&X-Amz-Security-Token={token}"), "");
    assert!(without.uri.to_string().starts_with(&format!("/?{before}")));
    let found = without.verify_as(ScopeService::Sts, &role);
    assert_eq!(found, Err(UNRECOGNIZED.to_owned()));
}

#[test]
fn auth_4_a_presigned_request_means_one_thing() {
    for (from, to) in [
        ("Action=GetCallerIdentity", "Action=AssumeRole"),
        ("Version=", "Extra=&Version="),
        ("X-Amz-Expires=60", "X-Amz-Expires=61"),
        ("&X-Amz-Expires=60", ""),
        ("%3Bx-k8s-aws-id", ""),
        ("/?", "/?x-amz-date=20260115T120000Z&"),
    ] {
        presigned().at(from, to).sts_refuses(MISMATCH);
    }
    presigned()
        .with("x-k8s-aws-id", "other")
        .sts_refuses(MISMATCH);
    presigned().with("host", "other").sts_refuses(MISMATCH);
    let mut request = presigned();
    request.body = b"Action=AssumeRole".to_vec();
    request.sts_refuses(MISMATCH);
    let header = "InvalidSignatureException: 'x-amz-other' must be a 'SignedHeader' in the AWS Authorization.";
    presigned().with("x-amz-other", "x").sts_refuses(header);
    // A token in the head has no part in it.
    presigned()
        .with("x-amz-security-token", "x")
        .sts_refuses(UNRECOGNIZED);
    // Beside a header there are two signatures.
    presigned()
        .with("authorization", &Request::signed().authorization())
        .sts_refuses(MISSING);
    let plus = presigned().at("Version=", "a=+&Version=");
    plus.sts_refuses("IncompleteSignatureException: A signed query has no bare '+': a space is %20, and a plus sign is %2B.");
}

#[test]
fn auth_4_no_other_service_takes_a_presigned_request() {
    let request = presigned().at("%2Fsts%2F", "%2Fkms%2F");
    request.is_refused(MISSING);
    let expected =
        "InvalidSignatureException: Credential should be scoped to correct service: 'sts'. ";
    request.sts_refuses(expected);
}

#[test]
fn a_query_that_is_not_whole_is_told_why() {
    let misses = |names: &[&str]| {
        let sentence = |name| format!("AWS query-string parameters must include '{name}'. ");
        let sentences: String = names.iter().map(sentence).collect();
        format!("IncompleteSignatureException: {sentences}Re-examine the query-string parameters.")
    };
    let mut request = presigned();
    request.uri = "/?X-Amz-Expires=60".parse().unwrap();
    request.sts_refuses(&misses(&[
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-Date",
    ]));
    let empty = presigned().at("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm=");
    empty.sts_refuses(&misses(&["X-Amz-Algorithm"]));
    // A name in another spelling is none of a signature, and its request not an unsigned one.
    request.uri = "/?x-amz-signature=00".parse().unwrap();
    request.sts_refuses(MISSING);
    let twice = presigned().at("/?", "/?X-Amz-Date=20260115T120000Z&");
    twice.sts_refuses(
        "IncompleteSignatureException: The query has more than one 'X-Amz-Date' parameter.",
    );
    let other = presigned().at("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    other.sts_refuses(
        "IncompleteSignatureException: Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only AWS4-HMAC-SHA256 for now). ",
    );
    let date = presigned().at("X-Amz-Date=20260115T120000Z", "X-Amz-Date=today");
    date.sts_refuses(
        "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got 'today'. See http://en.wikipedia.org/wiki/ISO_8601",
    );
    for expires in ["", "0", "-1", "604801", "1h", "99999999999"] {
        let request = presigned_by(&credentials(), NOW, expires);
        request.sts_refuses(&format!(
            "IncompleteSignatureException: X-Amz-Expires must be a number of seconds from 1 to 604800. Got '{expires}'."
        ));
    }
    for expires in ["1", "604800"] {
        let request = presigned_by(&credentials(), NOW, expires);
        assert_eq!(request.asks_sts().as_deref(), Ok(ARN));
    }
}

#[test]
fn a_presigned_request_is_good_for_fifteen_minutes() {
    let seconds = |count: u64| count * 1_000_000;
    for expires in ["60", "604800"] {
        let last = presigned_by(&credentials(), Timestamp(NOW.0 - seconds(900)), expires);
        assert_eq!(last.asks_sts().as_deref(), Ok(ARN));
        let late = presigned_by(&credentials(), Timestamp(NOW.0 - seconds(901)), expires);
        late.sts_refuses(
            "InvalidSignatureException: Signature expired: 20260115T114459Z is now earlier than \
             20260115T114500Z (20260115T120000Z - 15 min.)",
        );
    }
    let early = presigned_by(&credentials(), Timestamp(NOW.0 + seconds(301)), "60");
    early.sts_refuses(
        "InvalidSignatureException: Signature not yet current: 20260115T120501Z is still later than \
         20260115T120500Z (20260115T120000Z + 5 min.)",
    );
    // One in a header is not.
    let header = Request::unsigned().sign_at(Timestamp(NOW.0 - seconds(301)));
    assert!(header.verify().unwrap_err().contains("Signature expired"));
}
