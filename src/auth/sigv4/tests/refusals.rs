//! Which callers are refused before any operation, and with which messages.

use super::*;

#[test]
fn without_a_header_nobody_asks() {
    Request::unsigned().is_refused(MISSING);
    let mut request = Request::unsigned();
    request.uri = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00"
        .parse()
        .unwrap();
    request.is_refused(MISSING);
    // Nor beside a header.
    let mut request = Request::signed();
    request.uri = "/?a=b&x-amz-signature".parse().unwrap();
    request.is_refused(MISSING);
}

#[test]
fn a_header_that_is_not_whole_is_told_why() {
    let authorization = Request::signed().authorization();
    Request::signed()
        .and("authorization", &authorization)
        .is_refused(
            "IncompleteSignatureException: The request has more than one 'Authorization' header.",
        );
    Request::signed().edit("Signature=", "Credential=x, Signature=").is_refused(&format!(
        "IncompleteSignatureException: Authorization header has more than one 'Credential' parameter. Authorization={}",
        authorization.replace("Signature=", "Credential=x, Signature=")
    ));
    Request::signed()
        .edit(", Signature=", ", Signature ")
        .is_refused(&format!(
            "IncompleteSignatureException: 'Signature {}' not a valid key=value pair (missing equal-sign) in Authorization header: '{}'.",
            &authorization[authorization.len() - 64..],
            authorization.replace(", Signature=", ", Signature ")
        ));
    let requires = |what: &str| format!("Authorization header requires '{what}' parameter. ");
    Request::signed()
        .with("authorization", "")
        .is_refused(&format!(
            "IncompleteSignatureException: {}{}{}Authorization=",
            requires("Credential"),
            requires("Signature"),
            requires("SignedHeaders")
        ));
    let mut request = Request::signed();
    request.headers.remove("x-amz-date");
    request.is_refused(&format!(
        "IncompleteSignatureException: Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization={authorization}"
    ));
    Request::signed().with("x-amz-date", "today").is_refused(
        "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got 'today'. \
         See http://en.wikipedia.org/wiki/ISO_8601",
    );
    // Obsolete bytes are some kind of text, but not a valid pair.
    let mut request = Request::signed();
    let bytes = HeaderValue::from_bytes(b"AWS4-HMAC-SHA256 \xff\xfe").unwrap();
    request.headers.insert(AUTHORIZATION, bytes);
    let refused = request.verify().unwrap_err();
    assert!(refused.starts_with("IncompleteSignatureException: '\u{fffd}\u{fffd}' not a valid"));
}

#[test]
fn a_huge_header_is_repeated_in_part() {
    for header in [
        format!("AWS4-HMAC-SHA256 Credential={}", "/".repeat(100_000)),
        format!("AWS4-HMAC-SHA256 {}", "a,".repeat(50_000)),
        Request::signed()
            .authorization()
            .replace("AKIDEXAMPLE", &"A/".repeat(50_000)),
        "A".repeat(100_000),
    ] {
        let request = Request::signed().with("authorization", &header);
        assert!(request.verify().unwrap_err().len() < 3000);
    }
}

#[test]
fn unknown_keys_wrong_secrets_and_session_tokens_are_refused() {
    let request = Request::signed();
    let refused = |secrets: &[(&str, &str)]| {
        let refused = request.verify_with(&verifier(), &snapshot(secrets));
        refused.unwrap_err()
    };
    assert_eq!(refused(&[]), UNRECOGNIZED);
    assert_eq!(refused(&[("AKIDOTHER", SECRET)]), UNRECOGNIZED);
    assert_eq!(refused(&[(ID, "another secret")]), MISMATCH);
    // The id leads to a principal that no longer has it.
    let mut stale = snapshot(&[("AKIDOTHER", SECRET)]);
    let entry = Arc::clone(&stale.access_keys["AKIDOTHER"]);
    stale.access_keys.insert(ID.to_owned(), entry);
    assert_eq!(
        request.verify_with(&verifier(), &stale).unwrap_err(),
        UNRECOGNIZED
    );
    Request::unsigned()
        .with("x-amz-security-token", "SESSIONTOKENEXAMPLE")
        .sign_at(NOW)
        .is_refused(UNRECOGNIZED);
    Request::signed()
        .with("x-amz-security-token", "")
        .is_refused(UNRECOGNIZED);
}

#[test]
fn both_access_keys_of_a_principal_serve() {
    let both = snapshot(&[("AKIDOTHER", "another secret"), (ID, SECRET)]);
    let verifier = verifier();
    assert!(Request::signed().verify_with(&verifier, &both).is_ok());
    let other = Credentials {
        access_key_id: "AKIDOTHER".to_owned(),
        secret_access_key: secret("another secret"),
        session_token: None,
        region: "us-east-1".to_owned(),
    };
    let request = Request::unsigned().sign_with(&other, NOW);
    assert!(request.verify_with(&verifier, &both).is_ok());
}

#[test]
fn a_replaced_secret_is_not_remembered() {
    let verifier = verifier();
    let request = Request::signed();
    let before = snapshot(&[(ID, SECRET)]);
    assert!(request.verify_with(&verifier, &before).is_ok());
    for _ in 0..2 {
        let after = snapshot(&[(ID, "another secret")]);
        let refused = request.verify_with(&verifier, &after).unwrap_err();
        assert_eq!(refused, MISMATCH);
    }
    let removed = request.verify_with(&verifier, &Snapshot::default());
    assert_eq!(removed.unwrap_err(), UNRECOGNIZED);
    assert!(request.verify_with(&verifier, &before).is_ok());
}

#[test]
fn the_scope_says_which_of_several_regions_is_called() {
    let regions = Regions::new("aws", "us-east-1", ["us-west-2"]);
    let verifier = Verifier::new(&regions, Duration::from_mins(5), token_key());
    let snapshot = snapshot(&[(ID, SECRET)]);
    // Twice: a signing key that is kept for one Region is not found for another.
    for _ in 0..2 {
        for region in ["us-east-1", "us-west-2"] {
            let credentials = Credentials {
                region: region.to_owned(),
                ..credentials()
            };
            let request = Request::unsigned().sign_with(&credentials, NOW);
            let head = Head {
                method: &request.method,
                uri: &request.uri,
                headers: &request.headers,
            };
            let claim = verifier.begin(ScopeService::Kms, head, &snapshot, NOW);
            let signer = claim.and_then(|claim| claim.finish(&request.body)).unwrap();
            assert_eq!(regions.get(signer.region).name, region);
        }
    }
    let elsewhere = Credentials {
        region: "eu-west-1".to_owned(),
        ..credentials()
    };
    let request = Request::unsigned().sign_with(&elsewhere, NOW);
    let refused = request.verify_with(&verifier, &snapshot);
    let message = "InvalidSignatureException: Credential should be scoped to a valid region. ";
    assert_eq!(refused.unwrap_err(), message);
    // Signed for one Region, and sent to the other.
    let request = Request::signed().edit("us-east-1/kms", "us-west-2/kms");
    let refused = request.verify_with(&verifier, &snapshot);
    assert_eq!(refused.unwrap_err(), MISMATCH);
}

#[test]
fn the_scope_must_be_this_service_region_and_day() {
    let scoped = |scope: &str| Request::signed().edit("20260115/us-east-1/kms/aws4_request", scope);
    let service =
        "InvalidSignatureException: Credential should be scoped to correct service: 'kms'. ";
    scoped("20260115/us-east-1/s3/aws4_request").is_refused(service);
    scoped("20260115/us-east-1/KMS/aws4_request").is_refused(service);
    // In the order of the checks.
    scoped("20260114/us-west-2/s3/aws5_request").is_refused(service);
    let region = "InvalidSignatureException: Credential should be scoped to a valid region. ";
    scoped("20260115/us-west-2/kms/aws4_request").is_refused(region);
    scoped("20260114/us-west-2/kms/aws5_request").is_refused(region);
    scoped("20260115//kms/aws4_request").is_refused(region);
    scoped("20260114/us-east-1/kms/aws5_request").is_refused(
        "InvalidSignatureException: Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ",
    );
    scoped("20260114/us-east-1/kms/aws4_request").is_refused(
        "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
         '20260114' != '20260115', from '20260115T120000Z'.",
    );
    // The scope is checked before the clock, and the key before the scope.
    Request::unsigned()
        .sign_at(Timestamp(0))
        .edit("/kms/", "/s3/")
        .is_refused(service);
    scoped("20260115/us-east-1/s3/aws4_request")
        .edit(ID, "AKIDOTHER")
        .is_refused(UNRECOGNIZED);
    // Signed correctly, but for another place.
    let elsewhere = Credentials {
        region: "us-west-2".to_owned(),
        ..credentials()
    };
    let request = Request::unsigned().sign_with(&elsewhere, NOW);
    request.is_refused(region);
    request.edit("us-west-2", "us-east-1").is_refused(MISMATCH);
}

#[test]
fn a_signature_is_compared_to_the_letter() {
    let signature = "fca1943fccc3f7c6b0b99c8ba997c7cf70c6ca17ae7d44158efe2f3f6fa41363";
    let other = |to: &str| Request::signed().edit(signature, to).is_refused(MISMATCH);
    for bit in 0..4 {
        for at in [0, 31, 63] {
            let mut text = signature.to_owned().into_bytes();
            let digit = u32::from_str_radix(&signature[at..=at], 16).unwrap() ^ (1 << bit);
            text[at] = u8::try_from(char::from_digit(digit, 16).unwrap()).unwrap();
            other(std::str::from_utf8(&text).unwrap());
        }
    }
    other(&signature.to_ascii_uppercase());
    other(&signature[..63]);
    other(&format!("{signature}0"));
    other(&format!(" {signature}"));
    other("");
}

#[test]
fn credentials_that_are_no_text_cannot_sign() {
    let credentials = Credentials {
        access_key_id: "AKID\n".to_owned(),
        ..credentials()
    };
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("localhost"));
    let signed = credentials.sign(&Method::POST, "/", &mut headers, b"", NOW);
    assert!(signed.is_err());
}

#[test]
fn auth_4_a_bare_plus_in_a_signed_query_is_refused() {
    let plus = "IncompleteSignatureException: A signed query has no bare '+': a space is %20, and a plus sign is %2B.";
    for uri in ["/?pair=a+b", "/?a+b=c", "/?pair=a%2Bb&x=+"] {
        let mut request = Request::signed();
        request.uri = uri.parse().unwrap();
        request.is_refused(plus);
    }
    // The signature distinguishes its possible meanings.
    for uri in ["/?pair=a%20b", "/?pair=a%2Bb"] {
        let mut request = Request::signed();
        request.uri = uri.parse().unwrap();
        request.is_refused(MISMATCH);
    }
}

#[test]
fn auth_4_a_query_claims_a_signature_however_its_names_are_spelt() {
    for (uri, expected) in [
        ("/?X-Amz-Signature=0", true),
        ("/?x-amz-signature=0", true),
        ("/?a=b&%58-%41mz-Date=0", true),
        ("/?x%2Damz%2dcredential", true),
        ("/?pair=x=X-Amz-Date", false),
        ("/?X-Amz", false),
        ("/", false),
    ] {
        assert_eq!(claims_a_signature(&uri.parse().unwrap()), expected, "{uri}");
    }
}
