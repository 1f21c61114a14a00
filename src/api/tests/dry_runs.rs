//! `DryRun` wherever there is one: the first real error, or else the one that says that there would
//! have been none; and nothing is done.

use super::ErrorCode as Code;
use super::*;

const DRY: &str = "The request would have succeeded, but the DryRun option is set.";

impl Bench {
    async fn key_for(&self, spec: &str, usage: &str) -> Value {
        let created = self.done("CreateKey", json!({"KeySpec": spec, "KeyUsage": usage}));
        created.await["KeyMetadata"]["KeyId"].clone()
    }

    /// Every operation that has a `DryRun`, with what it takes to succeed.
    async fn calls(&self) -> Vec<(&'static str, Value)> {
        let id = self.key().await;
        let (sign, mac, agree) = (
            self.key_for("ECC_NIST_P256", "SIGN_VERIFY").await,
            self.key_for("HMAC_256", "GENERATE_VERIFY_MAC").await,
            self.key_for("ECC_NIST_P256", "KEY_AGREEMENT").await,
        );
        let public = self.done("GetPublicKey", json!({"KeyId": agree})).await["PublicKey"].clone();
        let sealed = self.done("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"}));
        let blob = sealed.await["CiphertextBlob"].clone();
        let of_sign =
            json!({"KeyId": sign, "Message": "AAEC", "SigningAlgorithm": "ECDSA_SHA_256"});
        let signature = self.done("Sign", of_sign.clone()).await["Signature"].clone();
        let of_mac = json!({"KeyId": mac, "Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256"});
        let made = self.done("GenerateMac", of_mac.clone()).await["Mac"].clone();
        let grant =
            json!({"KeyId": id, "GranteePrincipal": root_of(ACCOUNT), "Operations": ["Encrypt"]});
        let granted = self.done("CreateGrant", grant.clone()).await["GrantId"].clone();
        let with = |mut body: Value, name: &str, value: &Value| {
            body[name] = value.clone();
            body
        };
        let removal = json!({"KeyId": key_arn(&id), "GrantId": granted});
        let pair = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
        let data_key = json!({"KeyId": id, "KeySpec": "AES_256"});
        vec![
            ("GenerateDataKey", data_key.clone()),
            ("GenerateDataKeyWithoutPlaintext", data_key),
            ("GenerateDataKeyPair", pair.clone()),
            ("GenerateDataKeyPairWithoutPlaintext", pair),
            ("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"})),
            ("Decrypt", json!({"KeyId": id, "CiphertextBlob": blob})),
            (
                "ReEncrypt",
                json!({"SourceKeyId": id, "DestinationKeyId": id, "CiphertextBlob": blob}),
            ),
            ("Sign", of_sign.clone()),
            ("Verify", with(of_sign, "Signature", &signature)),
            ("GenerateMac", of_mac.clone()),
            ("VerifyMac", with(of_mac, "Mac", &made)),
            (
                "DeriveSharedSecret",
                json!({"KeyId": agree, "PublicKey": public, "KeyAgreementAlgorithm": "ECDH"}),
            ),
            ("CreateGrant", grant),
            ("RetireGrant", removal.clone()),
            ("RevokeGrant", removal),
        ]
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let bench = Bench::new().await;
    let mut calls = bench.calls().await;
    let powerless = bench.powerless("powerless").await;
    let before = bench.api.keystore.revision();
    for (name, body) in &calls {
        let mut dry = body.clone();
        dry["DryRun"] = json!(true);
        bench
            .refused(name, dry.clone(), Code::DryRunOperationException, DRY)
            .await;
        let denied = bench.call_as(&powerless, name, dry.clone()).await;
        assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException, "{name}");
        // What is wrong is told first.
        dry["KeyId"] = json!(UNKNOWN);
        dry["SourceKeyId"] = json!(UNKNOWN);
        let missing = bench.call(name, dry.clone()).await;
        assert_eq!(missing.unwrap_err().0, Code::NotFoundException, "{name}");
        dry["KeyId"] = Value::Null;
        dry["DestinationKeyId"] = Value::Null;
        dry["CiphertextBlob"] = Value::Null;
        dry["GrantId"] = Value::Null;
        let invalid = bench.call(name, dry).await;
        assert_eq!(invalid.unwrap_err().0, Code::ValidationException, "{name}");
    }
    assert_eq!(bench.api.keystore.revision(), before);
    // The grant that the last two are about is there once.
    calls.pop();
    for (name, mut body) in calls {
        body["DryRun"] = json!(false);
        assert!(bench.call(name, body).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn rights_to_open_are_tried_without_anything_to_open() {
    const IGNORE: &str = "IGNORE_CIPHERTEXT";
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    let scoped = json!({"Statement": {
        "Effect": "Allow", "Action": ["kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"], "Resource": "*",
        "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "t-1"}},
    }});
    let reader = bench.principal("reader", scoped).await;
    let context = json!({"tenant": "t-1"});
    let asked = |name: &str, members: Value| {
        let mut body = match name {
            "Decrypt" => json!({"KeyId": id, "EncryptionContext": context}),
            _ => json!({
                "SourceKeyId": id, "SourceEncryptionContext": context,
                "DestinationKeyId": other, "DestinationEncryptionContext": context,
            }),
        };
        body["DryRun"] = json!(true);
        body["DryRunModifiers"] = json!([IGNORE]);
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    for name in ["Decrypt", "ReEncrypt"] {
        let (key, action, of) = match name {
            "Decrypt" => ("KeyId", "Decrypt", "EncryptionContext"),
            _ => ("SourceKeyId", "ReEncryptFrom", "SourceEncryptionContext"),
        };
        let dry = Code::DryRunOperationException;
        // Nor is what is there looked at.
        for blob in [Value::Null, json!("AAEC"), json!("")] {
            let body = asked(name, json!({"CiphertextBlob": blob}));
            bench.refused_as(&reader, name, body, dry, DRY).await;
        }
        let (code, message) = not_allowed(&reader, action, &key_arn(&id), "identity");
        let body = asked(name, json!({of: {"tenant": "t-2"}}));
        bench.refused_as(&reader, name, body, code, &message).await;
        for (members, code, message) in [
            (
                json!({key: null}),
                Code::ValidationException,
                format!("{key} is required with the DryRunModifier IGNORE_CIPHERTEXT."),
            ),
            (
                json!({key: UNKNOWN}),
                Code::NotFoundException,
                format!("Key '{}' does not exist", key_arn(UNKNOWN)),
            ),
            (
                json!({"DryRunModifiers": ["FOO"]}),
                Code::ValidationException,
                "2 validation errors detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null; \
                 Value 'FOO' at 'dryRunModifiers.1.member' failed to satisfy constraint: Member must satisfy enum value set: [IGNORE_CIPHERTEXT]"
                    .to_owned(),
            ),
        ] {
            let body = asked(name, members);
            bench.refused(name, body, code, &message).await;
        }
        // Modifiers are of dry runs, and an empty list modifies nothing.
        let null = "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null";
        for members in [
            json!({"DryRun": false}),
            json!({"DryRun": null}),
            json!({"DryRunModifiers": []}),
        ] {
            let body = asked(name, members);
            bench.invalid(name, body, null).await;
        }
        let body = asked(
            name,
            json!({"DryRunModifiers": [], "CiphertextBlob": "AAEC", key: null}),
        );
        bench
            .refused(name, body, Code::InvalidCiphertextException, "")
            .await;
    }
    // Usage, state and algorithm are the key's, not the ciphertext's.
    let rsa = bench.key_for("RSA_2048", "ENCRYPT_DECRYPT").await;
    let oaep = json!({"KeyId": rsa, "EncryptionContext": null, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"});
    bench
        .refused(
            "Decrypt",
            asked("Decrypt", oaep),
            Code::DryRunOperationException,
            DRY,
        )
        .await;
    let sign = bench.key_for("ECC_NIST_P256", "SIGN_VERIFY").await;
    let refused = bench
        .call("Decrypt", asked("Decrypt", json!({"KeyId": sign})))
        .await;
    assert_eq!(refused.unwrap_err().0, Code::InvalidKeyUsageException);
    bench.done_to("DisableKey", &other).await;
    let body = asked("ReEncrypt", json!({}));
    bench.disabled("ReEncrypt", body, &other).await;
    // Another account's key by its ARN, and one that is not there, are refused alike.
    let elsewhere = Principal::operator(0, OTHER.parse().unwrap());
    let stranger = bench
        .principal_of(&elsewhere, "stranger", allowing(&["kms:*"]))
        .await;
    for key in [key_arn(&id), key_arn(UNKNOWN)] {
        let (code, message) = foreign(&stranger, "Decrypt");
        let body = asked("Decrypt", json!({"KeyId": key}));
        bench
            .refused_as(&stranger, "Decrypt", body, code, &message)
            .await;
    }
}
