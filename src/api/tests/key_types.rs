//! Asymmetric and HMAC keys: what each is, does, and refuses.

use super::ErrorCode as Code;
use super::*;

mod encapsulation;
mod encryption;
mod refusals;
mod signatures;

const MESSAGE: &[u8] = b"message";

impl Bench {
    /// A new key of this spec and usage.
    async fn key_of(&self, spec: &str, usage: &str) -> String {
        let body = json!({"KeySpec": spec, "KeyUsage": usage});
        let created = self.done("CreateKey", body).await;
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }
}

fn enumeration(value: &str, member: &str) -> String {
    format!("1 validation error detected: Value '{value}' at '{member}' failed")
}

#[tokio::test]
async fn a_key_tells_its_spec_usage_and_algorithms_and_is_read_back() {
    let bench = Bench::new().await;
    for (spec, usage, member, algorithms) in [
        (
            "RSA_2048",
            "ENCRYPT_DECRYPT",
            "EncryptionAlgorithms",
            json!(["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
        ),
        (
            "ECC_SECG_P256K1",
            "SIGN_VERIFY",
            "SigningAlgorithms",
            json!(["ECDSA_SHA_256"]),
        ),
        (
            "ECC_NIST_EDWARDS25519",
            "SIGN_VERIFY",
            "SigningAlgorithms",
            json!(["ED25519_PH_SHA_512", "ED25519_SHA_512"]),
        ),
        (
            "ML_DSA_65",
            "SIGN_VERIFY",
            "SigningAlgorithms",
            json!(["ML_DSA_SHAKE_256"]),
        ),
        (
            "ECC_NIST_P384",
            "KEY_AGREEMENT",
            "KeyAgreementAlgorithms",
            json!(["ECDH"]),
        ),
        (
            "ML_KEM_768",
            "ENCAPSULATE_DECAPSULATE",
            "EncapsulationAlgorithms",
            json!(["ML_KEM"]),
        ),
        (
            "HMAC_224",
            "GENERATE_VERIFY_MAC",
            "MacAlgorithms",
            json!(["HMAC_SHA_224"]),
        ),
    ] {
        // The deprecated member is older than these.
        let named = match spec {
            "ECC_NIST_EDWARDS25519" | "ML_DSA_65" | "ML_KEM_768" => "KeySpec",
            _ => "CustomerMasterKeySpec",
        };
        let created = bench
            .done("CreateKey", json!({named: spec, "KeyUsage": usage}))
            .await;
        let metadata = &created["KeyMetadata"];
        let id = metadata["KeyId"].as_str().unwrap();
        let expected = json!({
            "AWSAccountId": ACCOUNT, "KeyId": id, "Arn": key_arn(id), "CreationDate": 1_700_000_000.123, "Enabled": true, "Description": "",
            "KeyUsage": usage, "KeyState": "Enabled", "Origin": "AWS_KMS", "KeyManager": "CUSTOMER", "CustomerMasterKeySpec": spec,
            "KeySpec": spec, "MultiRegion": false, member: algorithms,
        });
        assert_eq!(*metadata, expected);
        let described = bench.done_to("DescribeKey", id).await;
        assert_eq!(described, created);
        if usage == "GENERATE_VERIFY_MAC" {
            let code = Code::UnsupportedOperationException;
            bench
                .refused("GetPublicKey", json!({"KeyId": id}), code, "")
                .await;
            continue;
        }
        let mut public = bench.done_to("GetPublicKey", id).await;
        let der = decoded(&public["PublicKey"]);
        assert!(der.len() > 40 && der[0] == 0x30);
        public["PublicKey"].take();
        let expected = json!({
            "KeyId": key_arn(id), "PublicKey": null, "KeySpec": spec, "CustomerMasterKeySpec": spec, "KeyUsage": usage, member: algorithms,
        });
        assert_eq!(public, expected);
        // Of a disabled key too, but not of one that is to go.
        bench.done_to("DisableKey", id).await;
        bench.done_to("GetPublicKey", id).await;
        bench.done_to("ScheduleKeyDeletion", id).await;
        let message = format!("{} is pending deletion.", key_arn(id));
        let code = Code::KMSInvalidStateException;
        bench
            .refused("GetPublicKey", json!({"KeyId": id}), code, &message)
            .await;
    }
}

#[tokio::test]
async fn pairs_of_spec_and_usage_that_do_not_fit_are_no_keys() {
    let bench = Bench::new().await;
    for (spec, usage) in [
        ("RSA_2048", "KEY_AGREEMENT"),
        ("RSA_2048", "GENERATE_VERIFY_MAC"),
        ("ECC_NIST_P256", "ENCRYPT_DECRYPT"),
        ("ECC_SECG_P256K1", "KEY_AGREEMENT"),
        ("HMAC_256", "SIGN_VERIFY"),
        ("ML_DSA_44", "KEY_AGREEMENT"),
        ("ML_KEM_512", "SIGN_VERIFY"),
        ("ECC_NIST_P256", "ENCAPSULATE_DECAPSULATE"),
    ] {
        let message = format!("KeyUsage {usage} is not compatible with KeySpec {spec}");
        let body = json!({"KeySpec": spec, "KeyUsage": usage});
        bench.invalid("CreateKey", body, &message).await;
    }
    let body = json!({"KeySpec": "SM2", "KeyUsage": "SIGN_VERIFY"});
    bench.unsupported("CreateKey", body, "KeySpec SM2").await;
    for (spec, usage) in [
        ("ML_DSA_44", "SIGN_VERIFY"),
        ("ML_KEM_512", "ENCAPSULATE_DECAPSULATE"),
    ] {
        let body = json!({"KeySpec": spec, "KeyUsage": usage, "Origin": "EXTERNAL"});
        let message = format!("KeySpec {spec} is not supported for Origin EXTERNAL");
        bench.invalid("CreateKey", body, &message).await;
    }
}

#[tokio::test]
async fn members_of_signatures_and_macs_are_checked_before_the_key_is_looked_up() {
    let bench = Bench::new().await;
    let message = encoded(MESSAGE);
    for (name, body, start) in [
        ("Sign", json!({"KeyId": UNKNOWN, "Message": message, "SigningAlgorithm": "FOO"}), enumeration("FOO", "signingAlgorithm")),
        ("Sign", json!({"KeyId": UNKNOWN, "Message": message, "MessageType": "FOO", "SigningAlgorithm": "ECDSA_SHA_256"}), enumeration("FOO", "messageType")),
        ("Sign", json!({"KeyId": UNKNOWN, "SigningAlgorithm": "ECDSA_SHA_256"}), "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must not be null".to_owned()),
        ("Verify", json!({"KeyId": UNKNOWN, "Message": message, "SigningAlgorithm": "ECDSA_SHA_256"}), "1 validation error detected: Value null at 'signature' failed".to_owned()),
        ("Sign", json!({}), "3 validation errors detected: Value null at 'keyId'".to_owned()),
        ("GenerateMac", json!({"KeyId": UNKNOWN, "Message": message, "MacAlgorithm": "FOO"}), enumeration("FOO", "macAlgorithm")),
        ("VerifyMac", json!({"KeyId": UNKNOWN, "Message": message, "MacAlgorithm": "HMAC_SHA_256"}), "1 validation error detected: Value null at 'mac' failed".to_owned()),
        ("GenerateMac", json!({"KeyId": UNKNOWN, "Message": encoded(&[0; 4097]), "MacAlgorithm": "HMAC_SHA_256"}), "1 validation error detected: Value at 'message' failed".to_owned()),
        ("DeriveSharedSecret", json!({"KeyId": UNKNOWN, "PublicKey": message, "KeyAgreementAlgorithm": "FOO"}), enumeration("FOO", "keyAgreementAlgorithm")),
    ] {
        let (code, message) = bench.call(name, body).await.unwrap_err();
        assert_eq!(code, Code::ValidationException, "{name}");
        assert!(message.starts_with(&start), "{name}: {message}");
    }
}

#[tokio::test]
async fn macs_are_made_and_verified() {
    let bench = Bench::new().await;
    let id = bench.key_of("HMAC_384", "GENERATE_VERIFY_MAC").await;
    let body = json!({"KeyId": id, "Message": encoded(MESSAGE), "MacAlgorithm": "HMAC_SHA_384"});
    let made = bench.done("GenerateMac", body.clone()).await;
    assert_eq!(decoded(&made["Mac"]).len(), 48);
    let verify = |message: &[u8], mac: &Value| json!({"KeyId": id, "Message": encoded(message), "MacAlgorithm": "HMAC_SHA_384", "Mac": mac});
    let verified = bench.done("VerifyMac", verify(MESSAGE, &made["Mac"])).await;
    let expected = json!({"MacValid": true, "MacAlgorithm": "HMAC_SHA_384", "KeyId": key_arn(&id)});
    assert_eq!(verified, expected);
    for body in [
        verify(b"massage", &made["Mac"]),
        verify(MESSAGE, &json!(encoded(b"x"))),
    ] {
        for dry_run in [false, true] {
            let body = with(body.clone(), "DryRun", json!(dry_run));
            bench
                .refused("VerifyMac", body, Code::KMSInvalidMacException, "")
                .await;
        }
    }
    let other = json!({"KeyId": id, "Message": encoded(MESSAGE), "MacAlgorithm": "HMAC_SHA_256"});
    let message = "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_384.";
    bench
        .refused(
            "GenerateMac",
            other,
            Code::InvalidKeyUsageException,
            message,
        )
        .await;
    bench.done_to("DisableKey", &id).await;
    bench.disabled("GenerateMac", body, &id).await;
}

#[tokio::test]
async fn both_ends_derive_one_secret() {
    let bench = Bench::new().await;
    let (one, other) = (
        bench.key_of("ECC_NIST_P256", "KEY_AGREEMENT").await,
        bench.key_of("ECC_NIST_P256", "KEY_AGREEMENT").await,
    );
    let mut secrets = Vec::new();
    for (mine, theirs) in [(&one, &other), (&other, &one)] {
        let public = bench.done_to("GetPublicKey", theirs).await["PublicKey"].take();
        let body = json!({"KeyId": mine, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public});
        let mut derived = bench.done("DeriveSharedSecret", body).await;
        secrets.push(decoded(&derived["SharedSecret"].take()));
        let expected = json!({"KeyId": key_arn(mine), "SharedSecret": null, "KeyAgreementAlgorithm": "ECDH", "KeyOrigin": "AWS_KMS"});
        assert_eq!(derived, expected);
    }
    assert!(secrets[0].len() == 32 && secrets[0] == secrets[1]);
    let body = json!({"KeyId": one, "KeyAgreementAlgorithm": "ECDH", "PublicKey": encoded(b"x")});
    for dry_run in [false, true] {
        let body = with(body.clone(), "DryRun", json!(dry_run));
        bench.invalid("DeriveSharedSecret", body, "").await;
    }
    let body = json!({"KeyId": one, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "AA==", "Recipient": {}});
    bench
        .unsupported("DeriveSharedSecret", body, "Recipient")
        .await;
}
