//! What callers of the cryptographic operations see.

use super::ErrorCode as Code;
use super::*;

const EITHER: &str = "Please specify either number of bytes or key spec.";

#[tokio::test]
async fn a_data_key_is_asked_for_by_one_principal_and_opened_by_another() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.alias("alias/containers", &id).await;
    let provisioner = bench
        .allowed("p", &["kms:GenerateDataKeyWithoutPlaintext"])
        .await;
    let consumer = bench.allowed("c", &["kms:Decrypt"]).await;
    let names = [
        id.clone(),
        key_arn(&id),
        "alias/containers".to_owned(),
        alias_arn("containers"),
    ];
    for name in &names {
        for (context, length) in [
            (json!({}), 32),
            (json!({"b": "2", "a": "1"}), 16),
            (json!({"a": ""}), 7),
        ] {
            let mut ask = json!({"KeyId": name, "EncryptionContext": context});
            match length {
                32 => ask["KeySpec"] = json!("AES_256"),
                16 => ask["KeySpec"] = json!("AES_128"),
                _ => ask["NumberOfBytes"] = json!(length),
            }
            let made = bench
                .done_as(&provisioner, "GenerateDataKeyWithoutPlaintext", ask)
                .await;
            let members: Vec<_> = made.as_object().unwrap().keys().collect();
            assert_eq!(members, ["CiphertextBlob", "KeyId", "KeyMaterialId"]);
            assert_eq!(made["KeyId"], key_arn(&id));
            assert_eq!(decoded(&made["CiphertextBlob"]).len(), 64 + length);
            let open =
                json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context});
            let opened = bench.done_as(&consumer, "Decrypt", open.clone()).await;
            assert_eq!(decoded(&opened["Plaintext"]).len(), length);
            assert_eq!(opened["KeyId"], key_arn(&id));
            assert_eq!(opened["KeyMaterialId"], made["KeyMaterialId"]);
            assert_eq!(opened["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
            let refused = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
                 allowed to access.";
            bench.denied(&provisioner, "Decrypt", open, refused).await;
        }
    }
    let arn = key_arn(&id);
    for (name, action) in [
        ("GenerateDataKey", "kms:GenerateDataKey"),
        ("Encrypt", "kms:Encrypt"),
    ] {
        let denied = format!(
            "User: {} is not authorized to perform: {action} on resource: {arn} because no identity-based policy allows the {action} action",
            provisioner.arn
        );
        let body = json!({"KeyId": id, "KeySpec": "AES_256", "Plaintext": "AA=="});
        bench.denied(&provisioner, name, body, &denied).await;
    }
    assert_eq!(
        bench.counted("keymill_data_keys_total{operation=\"GenerateDataKeyWithoutPlaintext\",spec=\"AES_256\",result=\"direct\"}"),
        4
    );
}

#[tokio::test]
async fn every_length_is_served_and_others_have_the_endpoints_words() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    for operation in ["GenerateDataKeyWithoutPlaintext", "GenerateDataKey"] {
        for length in [1, 7, 16, 32, 64, 1024] {
            let made = bench
                .done(operation, json!({"KeyId": id, "NumberOfBytes": length}))
                .await;
            let opened = bench
                .done("Decrypt", json!({"CiphertextBlob": made["CiphertextBlob"]}))
                .await;
            assert_eq!(decoded(&opened["Plaintext"]).len(), length);
            if operation == "GenerateDataKey" {
                assert_eq!(made["Plaintext"], opened["Plaintext"]);
            }
        }
        let range = |value: &str, must: &str| {
            format!(
                "1 validation error detected: Value '{value}' at 'numberOfBytes' failed to satisfy constraint: Member must have value {must}"
            )
        };
        for (number, message) in [
            (0, range("0", "greater than or equal to 1")),
            (-1, range("-1", "greater than or equal to 1")),
            (1025, range("1025", "less than or equal to 1024")),
        ] {
            // Before lookup: also for a key that does not exist.
            for key in [id.as_str(), UNKNOWN] {
                let body = json!({"KeyId": key, "NumberOfBytes": number});
                bench.invalid(operation, body, &message).await;
            }
        }
        for spec in ["FOO", "RSA_2048", ""] {
            let message = format!(
                "1 validation error detected: Value '{spec}' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, \
                 RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, \
                 HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, ML_KEM_512, ML_KEM_768, ML_KEM_1024]"
            );
            let body = json!({"KeyId": id, "KeySpec": spec});
            bench.invalid(operation, body, &message).await;
        }
        let neither = json!({"KeyId": id});
        bench.invalid(operation, neither, EITHER).await;
        let both = json!({"KeyId": id, "KeySpec": "AES_256", "NumberOfBytes": 32});
        bench.invalid(operation, both, EITHER).await;
    }
}

#[tokio::test]
async fn members_not_built_yet_are_refused_and_never_ignored() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let recipient =
        json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "AA=="});
    let cases = [
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256", "Recipient": recipient}),
            "Recipient",
        ),
        (
            "Decrypt",
            json!({"CiphertextBlob": "AA==", "Recipient": recipient}),
            "Recipient",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": 1, "Recipient": recipient}),
            "Recipient",
        ),
        ("CreateKey", json!({"Origin": "AWS_CLOUDHSM"}), "Origin"),
        (
            "CreateKey",
            json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"}),
            "KeySpec SM2",
        ),
        (
            "CreateKey",
            json!({"CustomerMasterKeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"}),
            "KeySpec SM2",
        ),
        (
            "GenerateDataKeyPair",
            json!({"KeyId": id, "KeyPairSpec": "SM2"}),
            "KeyPairSpec SM2",
        ),
    ];
    let before = bench.api.keystore.revision();
    for (operation, body, what) in cases {
        bench.unsupported(operation, body, what).await;
    }
    assert_eq!(bench.api.keystore.revision(), before);
}

#[tokio::test]
async fn random_bytes_are_drawn_for_who_may_have_them() {
    let bench = Bench::new().await;
    let drawn = bench
        .done("GenerateRandom", json!({"NumberOfBytes": 32}))
        .await;
    assert_eq!(decoded(&drawn["Plaintext"]).len(), 32);
    let again = bench
        .done("GenerateRandom", json!({"NumberOfBytes": 32}))
        .await;
    assert_ne!(drawn, again);
    bench
        .refused(
            "GenerateRandom",
            json!({"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1234567890abcdef0"}),
            Code::CustomKeyStoreNotFoundException,
            "",
        )
        .await;
    bench
        .invalid("GenerateRandom", json!({}), "NumberOfBytes is required.")
        .await;
    let nobody = bench.allowed("nobody", &["kms:Decrypt"]).await;
    let denied = bench
        .call_as(&nobody, "GenerateRandom", json!({"NumberOfBytes": 1}))
        .await
        .unwrap_err();
    assert!(denied.1.contains("on resource: *"), "{denied:?}");
}

#[tokio::test]
async fn rng_1_a_failed_draw_fails_the_operation_and_is_counted() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.faults.0.store(true, Ordering::SeqCst);
    let operations = [
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        ("GenerateDataKey", json!({"KeyId": id, "NumberOfBytes": 5})),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        ("GenerateRandom", json!({"NumberOfBytes": 5})),
        ("CreateKey", json!({})),
        ("DisableKey", json!({"KeyId": id})),
    ];
    let count = operations.len() as u64;
    for (operation, body) in operations {
        bench
            .refused(operation, body, Code::KMSInternalException, "")
            .await;
    }
    assert_eq!(bench.counted("keymill_entropy_failures_total"), count);
    bench.faults.0.store(false, Ordering::SeqCst);
    bench
        .done("GenerateDataKey", json!({"KeyId": id, "NumberOfBytes": 5}))
        .await;
    let described = bench.done_to("DescribeKey", &id).await;
    assert_eq!(
        described["KeyMetadata"]["KeyState"], "Enabled",
        "a change that failed changed nothing"
    );
}
