//! What each operation makes of a key whose key store is not connected (AWS KMS Developer Guide,
//! "Key states", state `Unavailable`), and of such a key in the other states.

use super::*;

/// How an operation ends.
fn end(answer: Result<Value, (Code, String)>) -> (Option<Code>, String) {
    match answer {
        Ok(_) => (None, String::new()),
        Err((code, message)) => (Some(code), message),
    }
}

#[tokio::test]
async fn a_key_that_is_cut_off_is_managed_and_not_used() {
    let scene = Scene::new().await;
    let (bench, (store, id)) = (&scene.bench, scene.key().await);
    let beside = bench.key().await;
    let encrypt = json!({"KeyId": id, "Plaintext": "AAEC"});
    let blob = bench.done("Encrypt", encrypt.clone()).await["CiphertextBlob"].take();
    let own = json!({"KeyId": beside, "Plaintext": "AAEC"});
    let own = bench.done("Encrypt", own).await["CiphertextBlob"].take();
    bench
        .done(
            "DisconnectCustomKeyStore",
            json!({"CustomKeyStoreId": store}),
        )
        .await;
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(
        (&described["KeyState"], &described["Enabled"]),
        (&json!("Unavailable"), &json!(false))
    );
    for (operation, body) in [
        ("Encrypt", encrypt.clone()),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        (
            "ReEncrypt",
            json!({"CiphertextBlob": blob, "DestinationKeyId": beside}),
        ),
        (
            "ReEncrypt",
            json!({"CiphertextBlob": own, "DestinationKeyId": id}),
        ),
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyPair",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
    ] {
        bench.invalid_state(operation, body, NOT_CONNECTED).await;
    }
    let origin = format!(
        "{} origin is EXTERNAL_KEY_STORE which is not valid for this operation.",
        key_arn(&id)
    );
    let grant = json!({"GranteePrincipal": root_of(ACCOUNT), "Operations": ["Decrypt"]});
    let named = json!({"KeyId": id});
    let of = |body: Value| with(body, "KeyId", json!(id));
    for (operation, body, expected) in [
        ("CreateGrant", of(grant), None),
        ("ListGrants", named.clone(), None),
        (
            "CreateAlias",
            json!({"AliasName": "alias/there", "TargetKeyId": id}),
            None,
        ),
        (
            "TagResource",
            of(json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]})),
            None,
        ),
        (
            "UpdateKeyDescription",
            of(json!({"Description": "d"})),
            None,
        ),
        ("GetKeyPolicy", named.clone(), None),
        ("EnableKeyRotation", named.clone(), Some(&origin)),
        ("RotateKeyOnDemand", named.clone(), Some(&origin)),
        (
            "GetParametersForImport",
            of(json!({"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})),
            Some(&origin),
        ),
        ("DisableKey", named.clone(), None),
        ("EnableKey", named.clone(), None),
        ("ScheduleKeyDeletion", named.clone(), None),
    ] {
        let ended = end(bench.call(operation, body).await);
        let expected = match expected {
            None => (None, String::new()),
            Some(message) => (Some(Code::UnsupportedOperationException), message.clone()),
        };
        assert_eq!(ended, expected, "{operation}");
    }
    // One that waits for its deletion is that, connected or not.
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(described["KeyState"], "PendingDeletion");
    bench
        .pending_deletion("Encrypt", encrypt.clone(), &id)
        .await;
    bench.done_to("CancelKeyDeletion", &id).await;
    bench
        .invalid_state("Encrypt", encrypt.clone(), NOT_CONNECTED)
        .await;
    scene.connect(&store).await;
    bench.disabled("Encrypt", encrypt.clone(), &id).await;
    bench.done_to("EnableKey", &id).await;
    bench.done("Encrypt", encrypt).await;
}
