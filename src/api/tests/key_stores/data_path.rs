//! What is encrypted twice, and what is not any more.

use super::*;

/// A context, and another.
fn context(value: &str) -> Value {
    json!({"container": value})
}

impl Scene {
    async fn encrypted(&self, id: &str) -> Value {
        let body = json!({"KeyId": id, "Plaintext": "AAEC", "EncryptionContext": context("1")});
        self.bench.done("Encrypt", body).await["CiphertextBlob"].take()
    }

    /// The requests for this external key.
    fn asked_of(&self, end: &str) -> Vec<Asked> {
        let asked = self.server.asked().into_iter();
        asked.filter(|one| one.path.ends_with(end)).collect()
    }
}

#[tokio::test]
async fn every_operation_on_ciphertexts_goes_through_both_layers() {
    let scene = Scene::new().await;
    let (bench, (store, id)) = (&scene.bench, scene.key().await);
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(described["Origin"], "EXTERNAL_KEY_STORE");
    assert_eq!(described["CustomKeyStoreId"], store);
    assert_eq!(described["XksKeyConfiguration"], json!({"Id": "main"}));
    assert!(described.get("CurrentKeyMaterialId").is_none());
    let blob = scene.encrypted(&id).await;
    let bytes = decoded(&blob);
    assert_eq!((bytes[1], bytes.len()), (4, 24 + 2 + 12 + 1 + 40 + 3 + 16));
    let open = json!({"CiphertextBlob": blob, "EncryptionContext": context("1")});
    let opened = bench.done("Decrypt", open.clone()).await;
    assert_eq!(
        (&opened["Plaintext"], &opened["KeyId"]),
        (&json!("AAEC"), &json!(key_arn(&id)))
    );
    // What the proxy was told, and what it was not.
    let asked = &scene.asked_of("/main/encrypt")[0].body;
    let told = &asked["requestMetadata"];
    assert_eq!(told["awsPrincipalArn"], "AWS Internal");
    assert_eq!(
        (&told["kmsOperation"], &told["kmsKeyArn"]),
        (&json!("Encrypt"), &json!(key_arn(&id)))
    );
    assert!(!asked.to_string().contains("container") && bytes_of(asked, "plaintext").len() == 43);
    let caller = bench.allowed("caller", &["kms:*"]).await;
    bench.done_as(&caller, "Decrypt", open).await;
    let asked = scene.asked_of("/main/decrypt");
    let told = &asked.last().unwrap().body["requestMetadata"];
    assert_eq!(
        (&told["awsPrincipalArn"], &told["kmsOperation"]),
        (&json!(caller.arn), &json!("Decrypt"))
    );
    for length in [16, 32, 7] {
        let ask = json!({"KeyId": id, "NumberOfBytes": length});
        let made = bench.done("GenerateDataKey", ask.clone()).await;
        let alone = bench.done("GenerateDataKeyWithoutPlaintext", ask).await;
        let open = |made: &Value| json!({"CiphertextBlob": made["CiphertextBlob"]});
        let opened = bench.done("Decrypt", open(&made)).await;
        assert_eq!(opened["Plaintext"], made["Plaintext"]);
        assert_eq!(opened["KeyMaterialId"], made["KeyMaterialId"]);
        let opened = bench.done("Decrypt", open(&alone)).await;
        assert_eq!(decoded(&opened["Plaintext"]).len(), length);
    }
    // From it to another, back, and from it to itself.
    let beside = bench.key().await;
    let mut blob = blob;
    for destination in [&beside, &id, &id] {
        let body = json!({
            "CiphertextBlob": blob, "SourceEncryptionContext": context("1"),
            "DestinationKeyId": destination, "DestinationEncryptionContext": context("1"),
        });
        let moved = bench.done("ReEncrypt", body).await;
        assert_eq!(moved["KeyId"], key_arn(destination));
        blob = moved["CiphertextBlob"].clone();
        let open = json!({"CiphertextBlob": blob, "EncryptionContext": context("1")});
        assert_eq!(bench.done("Decrypt", open).await["Plaintext"], "AAEC");
    }
}

#[tokio::test]
async fn xks_4_neither_side_opens_it_alone() {
    let scene = Scene::new().await;
    let (bench, (_, id)) = (&scene.bench, scene.key().await);
    let blob = scene.encrypted(&id).await;
    let refused = async |blob: &[u8], value: &str| {
        let body = json!({"CiphertextBlob": encoded(blob), "EncryptionContext": context(value)});
        bench.call("Decrypt", body).await.unwrap_err()
    };
    let bytes = decoded(&blob);
    // The proxy has decrypted it: what is left does not open as a blob of its own.
    let inner = bytes_of(&scene.asked_of("/main/encrypt")[0].body, "plaintext");
    for algorithm in [1, 2, 4] {
        let mut alone = [&bytes[..24], inner.as_slice()].concat();
        alone[1] = algorithm;
        let answer = refused(&alone, "1").await;
        assert!(
            answer.0 == Code::InvalidCiphertextException || algorithm == 4,
            "{answer:?}"
        );
    }
    // The proxy does not open what is bound to something else; this daemon says to what.
    let (code, message) = refused(&bytes, "2").await;
    assert_eq!(code, Code::KMSInvalidStateException);
    assert!(message.starts_with(
        "The external key store proxy rejected the request because the specified ciphertext"
    ));
    for at in [24 + 2, 24 + 2 + 12 + 1 + 5, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        // Of this proxy, the vector is not authenticated; the text in it is, here.
        if at != 26 {
            assert_eq!(
                refused(&damaged, "1").await.0,
                Code::KMSInvalidStateException
            );
        }
    }
    // A proxy that answers with other bytes.
    let (mut other, inner) = (bytes.clone(), 24 + 2 + 12 + 1);
    other[inner] ^= 1;
    let additional = bytes_of(
        &scene.asked_of("/main/encrypt")[0].body,
        "additionalAuthenticatedData",
    );
    let end = other.len() - 16;
    let forged = tag(&additional, &other[inner..end]);
    other[end..].copy_from_slice(&forged);
    let (code, message) = refused(&other, "1").await;
    assert_eq!(code, Code::KMSInvalidStateException);
    assert!(
        message.starts_with("The ciphertext that the external key store proxy submitted"),
        "{message}"
    );
    // Another generation is not one of the key's.
    let mut generation = bytes.clone();
    generation[23] = 2;
    assert_eq!(
        refused(&generation, "1").await.0,
        Code::InvalidCiphertextException
    );
}

#[tokio::test]
async fn a_caller_learns_why_the_proxy_does_not_serve() {
    let scene = Scene::new().await;
    let (bench, (_, id)) = (&scene.bench, scene.key().await);
    for (name, begins) in [
        (
            ErrorName::InvalidStateException,
            "The external key associated with this KMS key in an external key store is not enabled",
        ),
        (
            ErrorName::AccessDeniedException,
            "The external key store proxy denied access",
        ),
        (
            ErrorName::AuthenticationFailedException,
            "The external key store proxy rejected the request because it could not authenticate",
        ),
        (
            ErrorName::ThrottlingException,
            "The external key store proxy rejected the request due to a very high request rate.",
        ),
        (
            ErrorName::ValidationException,
            "AWS KMS cannot interpret the response",
        ),
    ] {
        scene.refuses(name);
        let body = json!({"KeyId": id, "Plaintext": "AAEC"});
        let (code, message) = bench.call("Encrypt", body).await.unwrap_err();
        assert_eq!(code, Code::KMSInvalidStateException);
        assert!(message.starts_with(begins), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn pool_4_a_key_that_is_disabled_during_the_call_of_its_proxy_gives_nothing() {
    let scene = Scene::new().await;
    let (bench, (store, id)) = (&scene.bench, scene.key().await);
    let blob = scene.encrypted(&id).await;
    let asks = [
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"})),
        (
            "Decrypt",
            json!({"CiphertextBlob": blob, "EncryptionContext": context("1")}),
        ),
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
    ];
    for change in ["DisableKey", "DisconnectCustomKeyStore"] {
        for (operation, body) in &asks {
            let (here, there) = (
                Arc::new(std::sync::Barrier::new(2)),
                Arc::new(std::sync::Barrier::new(2)),
            );
            let of_proxy = (Arc::clone(&here), Arc::clone(&there));
            scene.mode.lock().unwrap().acts = Some(Box::new(move || {
                of_proxy.0.wait();
                of_proxy.1.wait();
            }));
            let api = Arc::clone(&bench.api);
            let (operator, text) = (Requester::local(Arc::clone(&bench.admin)), body.to_string());
            let operation = Operation::named(operation).unwrap();
            let call =
                tokio::spawn(async move { api.call(operation, &operator, text.as_bytes()).await });
            tokio::task::spawn_blocking(move || here.wait())
                .await
                .unwrap();
            // The proxy is being asked: the change is answered while it is.
            let named = match change {
                "DisableKey" => json!({"KeyId": id}),
                _ => json!({"CustomKeyStoreId": store}),
            };
            bench.done(change, named).await;
            tokio::task::spawn_blocking(move || there.wait())
                .await
                .unwrap();
            let (code, message) = outcome(call.await.unwrap()).unwrap_err();
            match change {
                "DisableKey" => {
                    assert_eq!(code, Code::DisabledException, "{message}");
                    bench.done_to("EnableKey", &id).await;
                }
                _ => {
                    assert_eq!(message, NOT_CONNECTED);
                    scene.connect(&store).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn batches_pairs_and_what_else_needs_material_here_are_refused() {
    let scene = Scene::new().await;
    let (bench, (_, id)) = (&scene.bench, scene.key().await);
    let message = format!(
        "{} is in a custom key store, which is not valid for this operation.",
        key_arn(&id)
    );
    let code = Code::UnsupportedOperationException;
    for operation in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
        let body = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
        bench.refused(operation, body, code, &message).await;
    }
    let operator = Requester::local(Arc::clone(&bench.admin));
    let batch = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 2}).to_string();
    let begun = bench.api.data_keys(&operator, batch.as_bytes());
    let error = begun.err().unwrap();
    assert_eq!((error.code(), error.message()), (code, message.as_str()));
    let entry = Arc::clone(&bench.api.keystore.snapshot().keys[&id.parse().unwrap()]);
    assert!(
        bench
            .api
            .pool
            .take(&entry, DataKeyLength::AES_256, bench.api.clone_word.read())
            .is_none()
    );
    let origin = format!(
        "{} origin is EXTERNAL_KEY_STORE which is not valid for this operation.",
        key_arn(&id)
    );
    for operation in [
        "EnableKeyRotation",
        "DisableKeyRotation",
        "RotateKeyOnDemand",
    ] {
        bench
            .refused(operation, json!({"KeyId": id}), code, &origin)
            .await;
    }
}

#[tokio::test]
async fn a_dry_run_of_what_only_encrypts_asks_no_proxy() {
    let scene = Scene::new().await;
    let (bench, (_, id)) = (&scene.bench, scene.key().await);
    let before = scene.server.asked().len();
    for (operation, member, value) in [
        ("Encrypt", "Plaintext", json!("AAEC")),
        ("GenerateDataKey", "KeySpec", json!("AES_256")),
    ] {
        let body = with(json!({"KeyId": id, "DryRun": true}), member, value);
        let (code, _) = bench.call(operation, body).await.unwrap_err();
        assert_eq!(code, Code::DryRunOperationException);
    }
    assert_eq!(scene.server.asked().len(), before);
    // One that the caller may not use is not asked about either.
    let powerless = bench.powerless("powerless").await;
    let body = json!({"KeyId": id, "Plaintext": "AAEC"});
    let denied = bench.call_as(&powerless, "Encrypt", body).await;
    assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
    assert_eq!(scene.server.asked().len(), before);
}
