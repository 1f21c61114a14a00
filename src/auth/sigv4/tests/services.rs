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
