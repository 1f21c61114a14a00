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
        (
            "RSAES_PKCS1_V1_5",
            "RSA_2048",
            "WrappingAlgorithm RSAES_PKCS1_V1_5",
        ),
        ("SM2PKE", "SM2", "WrappingAlgorithm SM2PKE"),
        ("RSAES_OAEP_SHA_1", "SM2", "WrappingKeySpec SM2"),
    ] {
        bench
            .refused(
                "GetParametersForImport",
                body(algorithm, spec),
                unsupported,
                &format!("{what} is not supported."),
            )
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
    let range = "The validTo date must be in the future, and at most 365 days ahead.";
    let late = NOW_SECONDS + 366 * 24 * 60 * 60;
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
            "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE",
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": NOW_SECONDS}),
            invalid,
            range,
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": late}),
            invalid,
            range,
        ),
        (
            json!({"ExpirationModel": null, "ValidTo": -1e300}),
            invalid,
            range,
        ),
        (
            json!({"ImportType": "NEW_KEY_MATERIAL", "KeyMaterialId": "0".repeat(64)}),
            invalid,
            "You cannot specify a KeyMaterialId with ImportType set to NEW_KEY_MATERIAL.",
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
    let short = bench.import(&id, &[7; 31], json!({})).await.unwrap_err();
    assert_eq!(short.0, Code::IncorrectKeyMaterialException);
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
    let missing = json!({"KeyId": id, "KeyMaterialId": "0".repeat(64)});
    assert_eq!(
        bench
            .call("DeleteImportedKeyMaterial", missing)
            .await
            .unwrap_err()
            .0,
        Code::NotFoundException
    );
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
