//! Data key pairs: what comes out, what it is bound to, and who is refused before anything is made.

use super::ErrorCode as Code;
use super::*;
use crate::crypto::pair::{PairSpec, PrivateKey};
use crate::crypto::secret::SecretBytes;

const BOTH: [&str; 2] = ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"];

/// The public key of a private key in DER.
fn public_of(spec: PairSpec, der: &[u8]) -> Vec<u8> {
    let der = SecretBytes::copy_of(der);
    let key = PrivateKey::from_der(spec, der).unwrap();
    key.public_der().to_vec()
}

#[tokio::test]
async fn a_pairs_private_key_is_bound_to_its_context_and_matches_its_public_key() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let described = bench.done_to("DescribeKey", &id).await;
    let material = &described["KeyMetadata"]["CurrentKeyMaterialId"];
    let of_data_keys = |spec: &PairSpec| PairSpec::DATA_KEYS.contains(spec);
    for spec in bench.quick_pairs().filter(of_data_keys) {
        for name in BOTH {
            let context = json!({"volume": spec.name()});
            let body =
                json!({"KeyId": id, "KeyPairSpec": spec.name(), "EncryptionContext": context});
            let made = bench.done(name, body).await;
            let mut members: Vec<_> = made
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            members.retain(|member| *member != "PrivateKeyPlaintext");
            let expected = [
                "KeyId",
                "KeyMaterialId",
                "KeyPairSpec",
                "PrivateKeyCiphertextBlob",
                "PublicKey",
            ];
            assert_eq!(members, expected);
            assert_eq!(
                (&made["KeyId"], &made["KeyPairSpec"]),
                (&json!(key_arn(&id)), &json!(spec.name()))
            );
            assert_eq!(&made["KeyMaterialId"], material);
            let blob = &made["PrivateKeyCiphertextBlob"];
            let opened = bench
                .done(
                    "Decrypt",
                    json!({"CiphertextBlob": blob, "EncryptionContext": context}),
                )
                .await;
            let plaintext = &made["PrivateKeyPlaintext"];
            match name {
                "GenerateDataKeyPair" => assert_eq!(plaintext, &opened["Plaintext"]),
                _ => assert!(plaintext.is_null()),
            }
            let public = public_of(spec, &decoded(&opened["Plaintext"]));
            assert_eq!(public, decoded(&made["PublicKey"]));
            bench.unopened(json!({"CiphertextBlob": blob})).await;
        }
    }
    assert_eq!(bench.counted(r#"keymill_data_keys_total{operation="GenerateDataKeyPair",spec="ECC_NIST_P256",result="miss"}"#), 1);
}

#[tokio::test]
async fn a_pair_that_may_not_leave_is_not_made() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let rsa = bench
        .done(
            "CreateKey",
            json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}),
        )
        .await;
    let rsa = rsa["KeyMetadata"]["KeyId"].clone();
    let sign = bench
        .done(
            "CreateKey",
            json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}),
        )
        .await;
    let sign = sign["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    let nobody = bench.powerless("nobody").await;
    for name in BOTH {
        let body = |id: &str, spec: &str| json!({"KeyId": id, "KeyPairSpec": spec});
        let message = format!(
            "1 validation error detected: Value 'FOO' at 'keyPairSpec' failed to satisfy constraint: Member must satisfy enum value set: [{}]",
            "RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, SM2, ECC_NIST_EDWARDS25519, ML_KEM_512, ML_KEM_768, ML_KEM_1024"
        );
        bench.invalid(name, body(UNKNOWN, "FOO"), &message).await;
        let missing = bench
            .call(name, json!({"KeyId": UNKNOWN}))
            .await
            .unwrap_err();
        assert!(
            missing.1.contains("Value null at 'keyPairSpec'"),
            "{missing:?}"
        );
        bench
            .unsupported(name, body(&id, "SM2"), "KeyPairSpec SM2")
            .await;
        let message = "You cannot generate a data key with an asymmetric CMK";
        bench
            .refused(
                name,
                body(rsa.as_str().unwrap(), "RSA_2048"),
                Code::InvalidKeyUsageException,
                message,
            )
            .await;
        let message = format!(
            "{} key usage is SIGN_VERIFY which is not valid for {name}.",
            key_arn(&sign)
        );
        bench
            .refused(
                name,
                body(&sign, "RSA_2048"),
                Code::InvalidKeyUsageException,
                &message,
            )
            .await;
        let denied = not_allowed(&nobody, name, &key_arn(&id), "identity");
        assert_eq!(
            bench.call_as(&nobody, name, body(&id, "RSA_2048")).await,
            Err(denied)
        );
        let dry = json!({"KeyId": id, "KeyPairSpec": "RSA_4096", "DryRun": true});
        assert_eq!(
            bench.call(name, dry).await.unwrap_err().0,
            Code::DryRunOperationException
        );
    }
    let recipient = json!({"KeyId": id, "KeyPairSpec": "RSA_2048", "Recipient": {}});
    bench.unsupported(BOTH[0], recipient, "Recipient").await;
    bench.done_to("DisableKey", &id).await;
    for name in BOTH {
        let body = json!({"KeyId": id, "KeyPairSpec": "RSA_4096"});
        bench.disabled(name, body, &id).await;
    }
    assert_eq!(
        bench.api.pool.lanes(),
        [],
        "no request came as far as a lane"
    );
}

#[tokio::test]
async fn who_finds_too_many_waiting_is_throttled_and_counted() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.api.pool.shut_down();
    let body = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
    let message =
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
    bench
        .refused(BOTH[0], body, Code::ThrottlingException, message)
        .await;
    assert_eq!(
        bench.counted(r#"keymill_throttled_total{scope="pairs"}"#),
        1
    );
}

#[tokio::test]
async fn conditions_know_the_spec_and_records_name_it() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:GenerateDataKeyPair*", "Resource": "*", "Condition": {
        "StringEquals": {"kms:DataKeyPairSpec": "ECC_NIST_P256", "kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}}}});
    let maker = bench.principal("maker", policy).await;
    let body = |spec: &str| json!({"KeyId": id, "KeyPairSpec": spec});
    assert!(
        bench
            .call_as(&maker, BOTH[1], body("ECC_NIST_P256"))
            .await
            .is_ok()
    );
    let denied = bench
        .call_as(&maker, BOTH[1], body("ECC_NIST_P384"))
        .await
        .unwrap_err();
    assert_eq!(denied.0, Code::AccessDeniedException);
    let records = bench.records();
    let made = records
        .iter()
        .find(|record| record["eventName"] == BOTH[1])
        .unwrap();
    assert_eq!(
        made["requestParameters"],
        json!({"keyId": id, "keyPairSpec": "ECC_NIST_P256"})
    );
    assert_eq!(made["readOnly"], true);
}

/// aws-lc draws by itself, and would end the process: each call that has it draw fails with the
/// source before, and is counted.
#[tokio::test]
async fn rng_1_what_has_aws_lc_draw_fails_with_the_source() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let key = async |spec: &str, usage: &str| {
        let body = json!({"KeySpec": spec, "KeyUsage": usage});
        let created = bench.done("CreateKey", body).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    };
    let (signs, curve) = (
        key("RSA_2048", "SIGN_VERIFY").await,
        key("ECC_NIST_P256", "SIGN_VERIFY").await,
    );
    let seals = key("RSA_2048", "ENCRYPT_DECRYPT").await;
    let external = bench.done("CreateKey", json!({"Origin": "EXTERNAL"})).await;
    let external = external["KeyMetadata"]["KeyId"].clone();
    let oaep = "RSAES_OAEP_SHA_256";
    let sealed =
        json!({"KeyId": seals, "Plaintext": encoded(b"text"), "EncryptionAlgorithm": oaep});
    let sealed_blob = bench.done("Encrypt", sealed.clone()).await["CiphertextBlob"].clone();
    let sign = |id: &str, algorithm: &str| json!({"KeyId": id, "Message": encoded(b"m"), "SigningAlgorithm": algorithm});
    let pair = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
    let calls = [
        ("GenerateDataKeyPair", pair),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P384"}),
        ),
        (
            "CreateKey",
            json!({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}),
        ),
        (
            "CreateKey",
            json!({"KeySpec": "ECC_NIST_EDWARDS25519", "KeyUsage": "SIGN_VERIFY"}),
        ),
        ("Sign", sign(&signs, "RSASSA_PSS_SHA_256")),
        ("Sign", sign(&signs, "RSASSA_PKCS1_V1_5_SHA_256")),
        ("Sign", sign(&curve, "ECDSA_SHA_256")),
        ("Encrypt", sealed),
        (
            "Decrypt",
            json!({"KeyId": seals, "CiphertextBlob": sealed_blob, "EncryptionAlgorithm": oaep}),
        ),
        (
            "GetParametersForImport",
            json!({"KeyId": external, "WrappingAlgorithm": oaep, "WrappingKeySpec": "RSA_2048"}),
        ),
    ];
    bench.faults.0.store(true, Ordering::SeqCst);
    for (name, body) in &calls {
        let refused = bench.call(name, body.clone()).await;
        assert_eq!(
            refused.unwrap_err().0,
            Code::KMSInternalException,
            "{name} {body}"
        );
    }
    let failures = bench.counted("keymill_entropy_failures_total");
    assert!(failures >= calls.len() as u64, "{failures}");
    bench.faults.0.store(false, Ordering::SeqCst);
    for (name, body) in calls {
        bench.done(name, body).await;
    }
}
