//! `Encapsulate` and `Decapsulate`: what opens, and the few things that are refused.

use super::*;
use crate::crypto::ml_kem::KemKey;
use crate::key::regions::RegionalId;

const ML_KEM: &str = "ENCAPSULATE_DECAPSULATE";

fn encapsulate(id: &str) -> Value {
    json!({"KeyId": id, "EncapsulationAlgorithm": "ML_KEM"})
}

fn decapsulate(id: &str, blob: &Value) -> Value {
    with(encapsulate(id), "SharedSecretCiphertextBlob", blob.clone())
}

#[tokio::test]
async fn both_ends_have_one_secret_and_what_is_not_for_the_key_opens_to_another() {
    let bench = Bench::new().await;
    for (spec, bytes) in [
        ("ML_KEM_512", 768),
        ("ML_KEM_768", 1088),
        ("ML_KEM_1024", 1568),
    ] {
        let id = bench.key_of(spec, ML_KEM).await;
        let arn = key_arn(&id);
        bench.alias(&format!("alias/{spec}"), &id).await;
        let names = [
            id.clone(),
            arn.clone(),
            format!("alias/{spec}"),
            alias_arn(spec),
        ];
        for name in &names {
            let made = bench.done("Encapsulate", encapsulate(name)).await;
            let (secret, blob) = (&made["SharedSecret"], &made["SharedSecretCiphertextBlob"]);
            let expected = json!({
                "KeyId": arn, "SharedSecret": secret, "SharedSecretCiphertextBlob": blob, "EncapsulationAlgorithm": "ML_KEM",
            });
            assert_eq!(made, expected);
            assert_eq!(decoded(secret).len(), 32);
            let mut ciphertext = decoded(blob);
            assert_eq!(ciphertext.len(), bytes);
            let opened = bench.done("Decapsulate", decapsulate(name, blob)).await;
            let expected =
                json!({"KeyId": arn, "SharedSecret": secret, "EncapsulationAlgorithm": "ML_KEM"});
            assert_eq!(opened, expected);
            // Implicit rejection: always the same other secret, which the caller cannot tell.
            ciphertext[0] ^= 1;
            let changed = decapsulate(name, &json!(encoded(&ciphertext)));
            let opened = bench.done("Decapsulate", changed.clone()).await;
            assert_ne!(&opened["SharedSecret"], secret);
            assert_eq!(decoded(&opened["SharedSecret"]).len(), 32);
            assert_eq!(bench.done("Decapsulate", changed).await, opened);
        }
    }
}

#[tokio::test]
async fn what_is_encapsulated_elsewhere_for_the_public_key_opens_here() {
    let bench = Bench::new().await;
    let id = bench.key_of("ML_KEM_768", ML_KEM).await;
    let public = bench.done_to("GetPublicKey", &id).await;
    let public = decoded(&public["PublicKey"]).split_off(22);
    let algorithm = &aws_lc_rs::kem::ML_KEM_768;
    let sender: aws_lc_rs::kem::EncapsulationKey =
        aws_lc_rs::kem::EncapsulationKey::new(algorithm, &public).unwrap();
    let (ciphertext, secret) = sender.encapsulate().unwrap();
    let blob = json!(encoded(ciphertext.as_ref()));
    let opened = bench.done("Decapsulate", decapsulate(&id, &blob)).await;
    assert_eq!(decoded(&opened["SharedSecret"]), secret.as_ref());
    // It is the same key after a restart, from its seed alone.
    let key: RegionalId = id.parse().unwrap();
    let entry = Arc::clone(&bench.api.keystore.snapshot().keys[&key]);
    let kem: &KemKey = entry.pair().unwrap().kem().unwrap();
    let again = kem.decapsulate(ciphertext.as_ref()).unwrap();
    assert_eq!(again.expose(), secret.as_ref());
    assert_eq!(entry.pair().unwrap().expose_stored().len(), 64);
}

#[tokio::test]
async fn a_length_an_algorithm_a_usage_and_a_state_are_refused_in_order() {
    let bench = Bench::new().await;
    let id = bench.key_of("ML_KEM_512", ML_KEM).await;
    let code = Code::InvalidCiphertextException;
    for bytes in [1, 767, 769, 1088, 6144] {
        for dry_run in [false, true] {
            let body = decapsulate(&id, &json!(encoded(&vec![7; bytes])));
            let body = with(body, "DryRun", json!(dry_run));
            bench.refused("Decapsulate", body, code, "").await;
        }
    }
    let right = json!(encoded(&[7; 768]));
    for (operation, body) in [
        ("Encapsulate", encapsulate(&id)),
        ("Decapsulate", decapsulate(&id, &right)),
    ] {
        let dry = with(body.clone(), "DryRun", json!(true));
        let (code, _) = bench.call(operation, dry).await.unwrap_err();
        assert_eq!(code, Code::DryRunOperationException);
        let member = "1 validation error detected: Value null at 'encapsulationAlgorithm' failed to satisfy constraint: Member must not be null";
        let without = with(body.clone(), "EncapsulationAlgorithm", Value::Null);
        bench.invalid(operation, without, member).await;
        // Usage before state, state before length.
        let signing = bench.key_of("ML_DSA_44", "SIGN_VERIFY").await;
        bench.done_to("DisableKey", &signing).await;
        let message = format!(
            "{} key usage is SIGN_VERIFY which is not valid for {operation}.",
            key_arn(&signing)
        );
        let other = with(body.clone(), "KeyId", json!(signing));
        let code = Code::InvalidKeyUsageException;
        bench.refused(operation, other, code, &message).await;
    }
    for (name, text) in [
        (
            "empty",
            "Member must have length greater than or equal to 1",
        ),
        ("long", "Member must have length less than or equal to 6144"),
    ] {
        let blob = vec![7; if name == "empty" { 0 } else { 6145 }];
        let body = decapsulate(&id, &json!(encoded(&blob)));
        let (code, message) = bench.call("Decapsulate", body).await.unwrap_err();
        assert_eq!(code, Code::ValidationException);
        assert!(
            message.contains("'sharedSecretCiphertextBlob'"),
            "{message}"
        );
        assert!(message.ends_with(text), "{message}");
    }
    bench.done_to("DisableKey", &id).await;
    let short = decapsulate(&id, &json!("AAEC"));
    bench.disabled("Decapsulate", short.clone(), &id).await;
    bench.disabled("Encapsulate", encapsulate(&id), &id).await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let message = format!("{} is pending deletion.", key_arn(&id));
    let code = Code::KMSInvalidStateException;
    bench.refused("Decapsulate", short, code, &message).await;
}

#[tokio::test]
async fn policies_and_grants_give_each_end_its_half() {
    let bench = Bench::new().await;
    let id = bench.key_of("ML_KEM_768", ML_KEM).await;
    let sender = bench.allowed("sender", &["kms:Encapsulate"]).await;
    let receiver = bench.powerless("receiver").await;
    let grant = |operations: &[&str]| json!({"KeyId": id, "GranteePrincipal": receiver.arn, "Operations": operations});
    bench
        .invalid(
            "CreateGrant",
            grant(&["Decapsulate", "Decrypt"]),
            "Operations [Decrypt] are not supported when creating a grant for an asymmetric KMS key with key usage ENCAPSULATE_DECAPSULATE. Valid \
             operations are [GetPublicKey, CreateGrant, RetireGrant, DescribeKey, Encapsulate, Decapsulate]",
        )
        .await;
    bench.done("CreateGrant", grant(&["Decapsulate"])).await;
    let made = bench
        .done_as(&sender, "Encapsulate", encapsulate(&id))
        .await;
    let open = decapsulate(&id, &made["SharedSecretCiphertextBlob"]);
    let opened = bench.done_as(&receiver, "Decapsulate", open.clone()).await;
    assert_eq!(opened["SharedSecret"], made["SharedSecret"]);
    let denied = bench.call_as(&sender, "Decapsulate", open).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    let denied = bench
        .call_as(&receiver, "Encapsulate", encapsulate(&id))
        .await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
}

#[tokio::test]
async fn rng_1_nothing_is_encapsulated_with_a_failed_draw() {
    let bench = Bench::new().await;
    let id = bench.key_of("ML_KEM_512", ML_KEM).await;
    bench.faults.0.store(true, Ordering::SeqCst);
    let code = Code::KMSInternalException;
    bench
        .refused("Encapsulate", encapsulate(&id), code, "")
        .await;
    bench.faults.0.store(false, Ordering::SeqCst);
    bench.done("Encapsulate", encapsulate(&id)).await;
}

#[tokio::test]
async fn audit_1_a_record_has_neither_the_secret_nor_its_ciphertext() {
    let bench = Bench::new().await;
    let id = bench.key_of("ML_KEM_512", ML_KEM).await;
    let made = bench.done("Encapsulate", encapsulate(&id)).await;
    let open = decapsulate(&id, &made["SharedSecretCiphertextBlob"]);
    bench.done("Decapsulate", open).await;
    let records = bench.records();
    let [.., sealed, opened] = records.as_slice() else {
        panic!("{records:?}");
    };
    for (record, name) in [(sealed, "Encapsulate"), (opened, "Decapsulate")] {
        assert_eq!(record["eventName"], name);
        assert_eq!(record["readOnly"], true);
        let expected = json!({"keyId": id, "encapsulationAlgorithm": "ML_KEM"});
        assert_eq!(record["requestParameters"], expected);
        assert_eq!(record["responseElements"], Value::Null);
        assert_eq!(record["resources"][0]["ARN"], key_arn(&id));
    }
}
