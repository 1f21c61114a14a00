//! What asymmetric and HMAC keys do not do, and what policies, grants and aliases know of them.

use super::*;

#[tokio::test]
async fn data_keys_and_rotation_are_refused_in_the_order_of_the_service() {
    let bench = Bench::new().await;
    let rsa = bench.key_of("RSA_2048", "ENCRYPT_DECRYPT").await;
    let (ecc, mac) = (
        bench.key_of("ECC_NIST_P256", "SIGN_VERIFY").await,
        bench.key_of("HMAC_256", "GENERATE_VERIFY_MAC").await,
    );
    let asymmetric = "You cannot generate a data key with an asymmetric CMK";
    for name in ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
        let body = |id: &str| json!({"KeyId": id, "KeySpec": "AES_256"});
        bench
            .refused(name, body(&rsa), Code::InvalidKeyUsageException, asymmetric)
            .await;
        for (id, usage) in [(&ecc, "SIGN_VERIFY"), (&mac, "GENERATE_VERIFY_MAC")] {
            let message = format!(
                "{} key usage is {usage} which is not valid for {name}.",
                key_arn(id)
            );
            bench
                .refused(name, body(id), Code::InvalidKeyUsageException, &message)
                .await;
        }
        let message = "Please specify either number of bytes or key spec.";
        bench.invalid(name, json!({"KeyId": ecc}), message).await;
    }
    let batch = json!({"KeyId": rsa, "KeySpec": "AES_256", "Count": 1}).to_string();
    let operator = Requester::local(Arc::clone(&bench.admin));
    let refused = bench
        .api
        .data_keys(&operator, batch.as_bytes())
        .err()
        .unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidKeyUsageException, asymmetric)
    );
    for id in [&rsa, &mac] {
        for name in ["EnableKeyRotation", "RotateKeyOnDemand"] {
            bench
                .refused(
                    name,
                    json!({"KeyId": id}),
                    Code::UnsupportedOperationException,
                    "",
                )
                .await;
        }
        bench.done_to("DisableKeyRotation", id).await;
        let status = bench.done_to("GetKeyRotationStatus", id).await;
        assert_eq!(status["KeyRotationEnabled"], false);
        let listed = bench
            .done(
                "ListKeyRotations",
                json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}),
            )
            .await;
        assert_eq!(listed["Rotations"], json!([]));
    }
    // Usage before state, state before spec.
    for id in [&rsa, &ecc] {
        bench.done_to("DisableKey", id).await;
    }
    let name = "GenerateDataKeyWithoutPlaintext";
    bench
        .disabled(name, json!({"KeyId": rsa, "KeySpec": "AES_256"}), &rsa)
        .await;
    let message = format!(
        "{} key usage is SIGN_VERIFY which is not valid for {name}.",
        key_arn(&ecc)
    );
    bench
        .refused(
            name,
            json!({"KeyId": ecc, "KeySpec": "AES_256"}),
            Code::InvalidKeyUsageException,
            &message,
        )
        .await;
    let message = format!(
        "{} key usage is SIGN_VERIFY which is not valid for Encrypt.",
        key_arn(&ecc)
    );
    bench
        .refused(
            "Encrypt",
            json!({"KeyId": ecc, "Plaintext": "AA=="}),
            Code::InvalidKeyUsageException,
            &message,
        )
        .await;
    let sign = json!({"KeyId": mac, "Message": "AA==", "SigningAlgorithm": "ECDSA_SHA_256"});
    let message = format!(
        "{} key usage is GENERATE_VERIFY_MAC which is not valid for Sign.",
        key_arn(&mac)
    );
    bench
        .refused("Sign", sign, Code::InvalidKeyUsageException, &message)
        .await;
}

#[tokio::test]
async fn conditions_and_grants_know_the_algorithm_and_the_kind_of_key() {
    let bench = Bench::new().await;
    let id = bench.key_of("ECC_NIST_P256", "SIGN_VERIFY").await;
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": {
        "StringEquals": {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "RAW", "kms:KeySpec": "ECC_NIST_P256", "kms:KeyUsage": "SIGN_VERIFY"}}}});
    let signer = bench.principal("signer", policy).await;
    let sign = |kind: &str| json!({"KeyId": id, "Message": encoded(&[7; 32]), "MessageType": kind, "SigningAlgorithm": "ECDSA_SHA_256"});
    assert!(bench.call_as(&signer, "Sign", sign("RAW")).await.is_ok());
    let denied = bench
        .call_as(&signer, "Sign", sign("DIGEST"))
        .await
        .unwrap_err();
    assert_eq!(denied.0, Code::AccessDeniedException);
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*", "Condition": {
        "StringEquals": {"kms:KeySpec": "HMAC_256", "kms:KeyUsage": "GENERATE_VERIFY_MAC"}}}});
    let maker = bench.principal("maker", policy).await;
    let create = |spec: &str| json!({"KeySpec": spec, "KeyUsage": "GENERATE_VERIFY_MAC"});
    assert!(
        bench
            .call_as(&maker, "CreateKey", create("HMAC_256"))
            .await
            .is_ok()
    );
    for body in [create("HMAC_512"), create("RSA_2048"), json!({})] {
        let denied = bench.call_as(&maker, "CreateKey", body).await.unwrap_err();
        assert_eq!(denied.0, Code::AccessDeniedException);
    }
    let nobody = bench.powerless("nobody").await;
    let grant = |operations: &[&str]| json!({"KeyId": id, "GranteePrincipal": nobody.arn, "Operations": operations});
    bench
        .invalid(
            "CreateGrant",
            grant(&["Encrypt"]),
            "Operations [Encrypt] are not supported when creating a grant for an asymmetric KMS key with key usage SIGN_VERIFY. Valid operations are \
             [Sign, Verify, GetPublicKey, CreateGrant, RetireGrant, DescribeKey]",
        )
        .await;
    bench
        .done("CreateGrant", grant(&["Sign", "GetPublicKey"]))
        .await;
    assert!(bench.call_as(&nobody, "Sign", sign("DIGEST")).await.is_ok());
    assert!(
        bench
            .call_as(&nobody, "GetPublicKey", json!({"KeyId": id}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_alias_stays_with_keys_of_one_type_and_usage() {
    let bench = Bench::new().await;
    let (symmetric, rsa) = (
        bench.key().await,
        bench.key_of("RSA_2048", "ENCRYPT_DECRYPT").await,
    );
    let curve = bench.key_of("ECC_NIST_P256", "SIGN_VERIFY").await;
    bench.alias("alias/a", &symmetric).await;
    let arn = alias_arn("a");
    for (target, what, to) in [
        (&rsa, "type", "ASYMMETRIC"),
        (&curve, "usage", "SIGN_VERIFY"),
    ] {
        let from = if what == "type" {
            "SYMMETRIC"
        } else {
            "ENCRYPT_DECRYPT"
        };
        let message = format!(
            "Alias {arn} cannot be changed from a CMK with key {what} {from} to a CMK with key {what} {to}"
        );
        let body = json!({"AliasName": "alias/a", "TargetKeyId": target});
        bench.invalid("UpdateAlias", body, &message).await;
    }
}
