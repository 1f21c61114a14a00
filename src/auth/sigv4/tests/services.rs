//! The service in the scope: a signature for one of them is none for another.

use super::*;

const FORM: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

/// A call of AWS STS as botocore signs it. The signature was computed with botocore 1.44.8.
fn of_sts() -> Request {
    let headers = [
        ("host", "sts.us-east-1.amazonaws.com"),
        (
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
        ("x-amz-date", "20260115T120000Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260115/us-east-1/sts/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=7f2d536d7155649ac13e0d3d0ca3f176a9866596337bcccbe6661bff6d48f92d",
        ),
    ];
    let mut request = Request {
        method: Method::POST,
        uri: Uri::from_static("/"),
        headers: HeaderMap::new(),
        body: FORM.to_vec(),
    };
    for (name, value) in headers {
        request = request.with(name, value);
    }
    request
}

fn as_service(
    request: &Request,
    verifier: &Verifier,
    service: ScopeService,
) -> Result<String, String> {
    let head = Head {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
    };
    verifier
        .begin(service, head, &snapshot(&[(ID, SECRET)]), NOW)
        .and_then(|claim| claim.finish(&request.body))
        .map(|signer| signer.principal.arn.clone())
        .map_err(|error| error.to_string())
}

#[test]
fn auth_4_a_signature_is_for_one_service() {
    let verifier = verifier();
    let arn = Ok("arn:aws:iam::111122223333:user/provisioner".to_owned());
    let cases = [
        (ScopeService::Kms, Request::signed()),
        (ScopeService::Sts, of_sts()),
    ];
    // Twice: a signing key that is kept for one service is not found for another.
    for _ in 0..2 {
        for (own, request) in &cases {
            for service in [ScopeService::Kms, ScopeService::Sts, ScopeService::Tagging] {
                let found = as_service(request, &verifier, service);
                if service == *own {
                    assert_eq!(found, arn);
                } else {
                    let name = service.name();
                    let refusal = format!(
                        "InvalidSignatureException: Credential should be scoped to correct service: '{name}'. "
                    );
                    assert_eq!(found, Err(refusal));
                }
            }
        }
    }
    // The scope is signed: to write another service into it is not enough.
    let moved = Request::signed().edit("/kms/", "/sts/");
    let found = as_service(&moved, &verifier, ScopeService::Sts);
    assert_eq!(found, Err(MISMATCH.to_owned()));
}

#[test]
fn a_form_is_signed_as_any_body_is() {
    let mut other = of_sts();
    other.body = b"Action=AssumeRole&Version=2011-06-15".to_vec();
    let found = as_service(&other, &verifier(), ScopeService::Sts);
    assert_eq!(found, Err(MISMATCH.to_owned()));
    let plain = of_sts().with("content-type", "application/x-www-form-urlencoded");
    let found = as_service(&plain, &verifier(), ScopeService::Sts);
    assert_eq!(found, Err(MISMATCH.to_owned()));
}

const XKS_ID: &str = "XKSPEXAMPLEEXAMPLE22";
const XKS_SECRET: &str = "FYtE5EFA5FT0mCc3DrGUe2sti527BitkQ0Zr9MO9fvE";

/// A call of AWS KMS to an external key store, which signs `host` and `x-amz-date` alone. The
/// signature was computed with botocore 1.44.8.
fn of_xks() -> Request {
    let uri = "/orders/kms/xks/v1/keys/main/encrypt";
    let headers = [
        ("host", "xks.example.com"),
        ("content-type", "application/json"),
        ("x-amz-date", "20260115T120000Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=XKSPEXAMPLEEXAMPLE22/20260115/eu-central-1/kms-xks-proxy/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=31611256f7c4847022d5eef6e4330735f5a5725632922654f665df9af63d472a",
        ),
    ];
    let mut request = Request {
        method: Method::POST,
        uri: Uri::from_static(uri),
        headers: HeaderMap::new(),
        body: br#"{"a":1}"#.to_vec(),
    };
    for (name, value) in headers {
        request = request.with(name, value);
    }
    request
}

fn verified(request: &Request, region: &str, service: ScopeService, id: &str) -> String {
    let regions = Regions::one("aws", region);
    let verifier = Verifier::new(&regions, Duration::from_mins(5), token_key());
    let head = Head {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
    };
    let signer = verifier
        .begin(service, head, &snapshot(&[(id, XKS_SECRET)]), NOW)
        .and_then(|claim| claim.finish(&request.body));
    match signer {
        Ok(signer) => signer.principal.arn.clone(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn aws_kms_signs_for_an_external_key_store() {
    let (arn, xks) = (
        "arn:aws:iam::111122223333:user/provisioner",
        ScopeService::Xks,
    );
    let own = |request: &Request| verified(request, "eu-central-1", xks, XKS_ID);
    assert_eq!(own(&of_xks()), arn);
    assert_eq!(scope_region(&of_xks().headers), Some("eu-central-1"));
    // Fields of AWS that a later client may send unsigned decide nothing here.
    assert_eq!(own(&of_xks().with("x-amz-later", "1")), arn);
    let mut other = of_xks();
    other.uri = Uri::from_static("/orders/kms/xks/v1/keys/main/decrypt");
    assert_eq!(own(&other), MISMATCH);
    let mut other = of_xks();
    other.body = br#"{"a":2}"#.to_vec();
    assert_eq!(own(&other), MISMATCH);
    for (from, to, refusal) in [
        (
            "host;x-amz-date",
            "host",
            "'x-amz-date' must be a 'SignedHeader' in the AWS Authorization.",
        ),
        (
            "host;x-amz-date",
            "x-amz-date",
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
        ),
    ] {
        let refusal = format!("InvalidSignatureException: {refusal}");
        assert_eq!(own(&of_xks().edit(from, to)), refusal);
    }
    let elsewhere = verified(&of_xks(), "us-east-1", xks, XKS_ID);
    let refusal = "InvalidSignatureException: Credential should be scoped to a valid region. ";
    assert_eq!(elsewhere, refusal);
}

#[test]
fn xks_2_a_credential_of_an_external_key_store_signs_nothing_else() {
    for service in [ScopeService::Kms, ScopeService::Sts, ScopeService::Tagging] {
        let name = format!("/{}/", service.name());
        let moved = of_xks().edit("/kms-xks-proxy/", &name);
        assert_eq!(
            verified(&moved, "eu-central-1", service, XKS_ID),
            UNRECOGNIZED
        );
    }
    // Nor does another access key sign for one.
    let moved = of_xks().edit(XKS_ID, ID);
    assert_eq!(
        verified(&moved, "eu-central-1", ScopeService::Xks, ID),
        UNRECOGNIZED
    );
}
