//! Imports that are refused, before and after what was wrapped is opened, and the principals that
//! conditions allow to import.

use super::*;

#[tokio::test]
async fn refusals_before_and_after_unwrapping() {
    let bench = Bench::new().await;
    let (id, other) = (
        bench.external(json!({})).await,
        bench.external(json!({})).await,
    );
    let drawn = bench.key().await;
    let message = format!(
        "{} origin is AWS_KMS which is not valid for this operation.",
        key_arn(&drawn)
    );
    let parameters = json!({"KeyId": drawn, "WrappingAlgorithm": "RSAES_OAEP_SHA_1", "WrappingKeySpec": "RSA_2048"});
    let unsupported = Code::UnsupportedOperationException;
    bench
        .refused("GetParametersForImport", parameters, unsupported, &message)
        .await;
    bench
        .refused(
            "DeleteImportedKeyMaterial",
            json!({"KeyId": drawn}),
            unsupported,
            &message,
        )
        .await;
    let body = |algorithm: &str, spec: &str| json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": spec});
    for (algorithm, spec, what) in [
        ("SM2PKE", "SM2", "WrappingAlgorithm SM2PKE"),
        ("RSAES_OAEP_SHA_1", "SM2", "WrappingKeySpec SM2"),
    ] {
        bench
            .unsupported("GetParametersForImport", body(algorithm, spec), what)
            .await;
    }
    let invalid = bench
        .call(
            "GetParametersForImport",
            json!({"KeyId": UNKNOWN, "WrappingAlgorithm": "FOO"}),
        )
        .await
        .unwrap_err();
    assert!(
        invalid
            .1
            .starts_with("2 validation errors detected: Value 'FOO' at 'wrappingAlgorithm'"),
        "{invalid:?}"
    );
    let good = bench.import_body(&id, &[7; 32], json!({})).await;
    let with = |members: Value| {
        let mut body = good.clone();
        body.as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        body
    };
    let past = "ValidTo must be in the future";
    let far = "ValidTo must be less than 365 days in the future";
    let late = NOW_SECONDS + 365 * 24 * 60 * 60 + 1;
    let invalid = Code::ValidationException;
    for (members, code, message) in [
        (
            json!({"ExpirationModel": null}),
            invalid,
            "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES",
        ),
        (
            json!({"ValidTo": NOW_SECONDS + 60}),
            invalid,
            "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": NOW_SECONDS}),
            invalid,
            past,
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": late}),
            invalid,
            far,
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": 1e300}),
            invalid,
            far,
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": -1e300}),
            invalid,
            past,
        ),
        (
            json!({"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": "0".repeat(64)}),
            invalid,
            "Input parameter keyMaterialId cannot be used with NEW_KEY_MATERIAL importType.",
        ),
        (
            json!({"KeyId": other}),
            Code::InvalidImportTokenException,
            "",
        ),
        (
            json!({"ImportToken": "AAAA"}),
            Code::InvalidImportTokenException,
            "",
        ),
        (
            json!({"EncryptedKeyMaterial": "AAAA"}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"ImportType": "EXISTING_KEY_MATERIAL"}),
            Code::IncorrectKeyMaterialException,
            "The key material has not been imported before.",
        ),
    ] {
        bench
            .refused("ImportKeyMaterial", with(members), code, message)
            .await;
    }
    for members in [
        json!({"KeyMaterialDescription": "*"}),
        json!({"KeyMaterialId": "A".repeat(64)}),
        json!({"ExpirationModel": "FOO"}),
        json!({"ImportType": "FOO"}),
        json!({"ImportToken": null}),
    ] {
        assert_eq!(
            bench
                .call("ImportKeyMaterial", with(members.clone()))
                .await
                .unwrap_err()
                .0,
            invalid,
            "{members}"
        );
    }
    for length in [31, 33] {
        let refused = bench.import(&id, &vec![7; length], json!({})).await;
        let expected = (Code::InvalidCiphertextException, String::new());
        assert_eq!(refused, Err(expected), "{length}");
    }
    bench.api.clock.advance(Duration::from_secs(24 * 60 * 60));
    bench
        .refused(
            "ImportKeyMaterial",
            good,
            Code::ExpiredImportTokenException,
            "",
        )
        .await;
    assert_eq!(bench.metadata(&id).await["KeyState"], "PendingImport");
    bench.done_to("ScheduleKeyDeletion", &id).await;
    bench
        .pending_deletion(
            "GetParametersForImport",
            body("RSAES_OAEP_SHA_1", "RSA_2048"),
            &id,
        )
        .await;
    // It comes back as it went: without material.
    bench.done_to("DeleteImportedKeyMaterial", &id).await;
    bench.done_to("CancelKeyDeletion", &id).await;
    assert_eq!(bench.metadata(&id).await["KeyState"], "PendingImport");
    let missing = "0".repeat(64);
    let message = format!(
        "Key material (id: {missing}) has never been imported into KMS key {}.",
        key_arn(&id)
    );
    let missing = json!({"KeyId": id, "KeyMaterialId": missing});
    bench
        .invalid("DeleteImportedKeyMaterial", missing, &message)
        .await;
}

/// Key spec, usage, wrapping algorithm and wrapping key spec of which AWS KMS does not take
/// material, beside one that it takes.
#[tokio::test]
async fn wrapping_that_does_not_fit_the_key_is_refused() {
    const SYMMETRIC: (&str, &str) = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    const MAC: (&str, &str) = ("HMAC_512", "GENERATE_VERIFY_MAC");
    const P256: (&str, &str) = ("ECC_NIST_P256", "SIGN_VERIFY");
    const P521: (&str, &str) = ("ECC_NIST_P521", "SIGN_VERIFY");
    const EDWARDS: (&str, &str) = ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY");
    const RSA: (&str, &str) = ("RSA_2048", "SIGN_VERIFY");
    let bench = Bench::new().await;
    for (kind, algorithm, spec, is_taken) in [
        (SYMMETRIC, "RSAES_PKCS1_V1_5", "RSA_2048", false),
        (P256, "RSAES_PKCS1_V1_5", "RSA_4096", false),
        (SYMMETRIC, "RSA_AES_KEY_WRAP_SHA_1", "RSA_2048", false),
        (SYMMETRIC, "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096", false),
        (SYMMETRIC, "RSAES_OAEP_SHA_1", "RSA_2048", true),
        (MAC, "RSA_AES_KEY_WRAP_SHA_256", "RSA_2048", true),
        (P256, "RSAES_OAEP_SHA_256", "RSA_2048", true),
        (P521, "RSAES_OAEP_SHA_256", "RSA_2048", false),
        (P521, "RSAES_OAEP_SHA_256", "RSA_3072", true),
        (P521, "RSA_AES_KEY_WRAP_SHA_256", "RSA_2048", true),
        (EDWARDS, "RSAES_OAEP_SHA_1", "RSA_2048", false),
        (EDWARDS, "RSAES_OAEP_SHA_1", "RSA_3072", true),
        (EDWARDS, "RSA_AES_KEY_WRAP_SHA_1", "RSA_2048", true),
        (RSA, "RSAES_OAEP_SHA_256", "RSA_4096", false),
        (RSA, "RSA_AES_KEY_WRAP_SHA_1", "RSA_2048", true),
    ] {
        let id = bench
            .external(json!({"KeySpec": kind.0, "KeyUsage": kind.1}))
            .await;
        let body = json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": spec});
        if is_taken {
            let answer = bench.done("GetParametersForImport", body).await;
            assert_eq!(answer["KeyId"], key_arn(&id));
            continue;
        }
        let message = format!(
            "Wrapping algorithm {algorithm} and wrapping key spec {spec} cannot be used to import a {} key.",
            kind.0
        );
        bench
            .invalid("GetParametersForImport", body, &message)
            .await;
    }
}

#[tokio::test]
async fn tokens_are_used_again_and_stay_valid_beside_younger_ones() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let older = bench.import_body(&id, &[7; 32], json!({})).await;
    bench.api.clock.advance(Duration::from_secs(60 * 60));
    let younger = bench.import_body(&id, &[7; 32], json!({})).await;
    for body in [&younger, &older, &older] {
        bench.done("ImportKeyMaterial", body.clone()).await;
    }
    // What was wrapped for the one token is not opened by the other.
    let mut mixed = older.clone();
    mixed["EncryptedKeyMaterial"] = younger["EncryptedKeyMaterial"].clone();
    let code = Code::InvalidCiphertextException;
    bench.refused("ImportKeyMaterial", mixed, code, "").await;
    bench.api.clock.advance(Duration::from_secs(23 * 60 * 60));
    let code = Code::ExpiredImportTokenException;
    bench.refused("ImportKeyMaterial", older, code, "").await;
    bench.done("ImportKeyMaterial", younger).await;
}

#[tokio::test]
async fn conditions_know_the_wrapping_and_the_expiry() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": "kms:GetParametersForImport", "Resource": "*", "Condition": {"StringEquals": {"kms:WrappingAlgorithm": "RSAES_OAEP_SHA_256", "kms:WrappingKeySpec": "RSA_2048"}}},
        {"Effect": "Allow", "Action": "kms:ImportKeyMaterial", "Resource": "*", "Condition": {"StringEquals": {"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}, "DateLessThan": {"kms:ValidTo": "2023-11-15T00:00:00Z"}}}]});
    let importer = bench.principal("importer", policy).await;
    let parameters = |algorithm: &str| json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"});
    assert!(
        bench
            .call_as(
                &importer,
                "GetParametersForImport",
                parameters("RSAES_OAEP_SHA_256")
            )
            .await
            .is_ok()
    );
    let denied = bench
        .call_as(
            &importer,
            "GetParametersForImport",
            parameters("RSAES_OAEP_SHA_1"),
        )
        .await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    for (members, allowed) in [
        (json!({}), false),
        (
            json!({"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS + 24 * 60 * 60}),
            false,
        ),
        (
            json!({"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS + 60}),
            true,
        ),
    ] {
        let body = bench.import_body(&id, &[7; 32], members).await;
        let answer = bench.call_as(&importer, "ImportKeyMaterial", body).await;
        assert_eq!(answer.is_ok(), allowed, "{answer:?}");
    }
}
