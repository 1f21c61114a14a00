//! `GetKeyLastUsage`: which calls count, for which key, and who may ask.

use super::ErrorCode as Code;
use super::*;

impl Bench {
    /// Writes the audit log's head into the store.
    async fn seal(&self) {
        let sealed = self.api.audit.seal_head(&self.api.keystore);
        sealed.await.unwrap();
    }

    async fn usage(&self, id: &str) -> Value {
        let mut answer = self.done("GetKeyLastUsage", json!({"KeyId": id})).await;
        assert_eq!(answer["KeyId"], key_arn(id));
        answer["KeyLastUsage"].take()
    }

    async fn last_operation(&self, id: &str) -> Value {
        self.usage(id).await["Operation"].clone()
    }
}

#[tokio::test]
async fn the_last_operation_with_a_key_is_told_with_its_record() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let answer = bench.done_to("GetKeyLastUsage", &id).await;
    let created = (NOW.0 / 1000) as f64 / 1000.0;
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    let expected = [
        "KeyCreationDate",
        "KeyId",
        "KeyLastUsage",
        "TrackingStartDate",
    ];
    assert_eq!(members, expected);
    assert_eq!(answer["KeyLastUsage"], json!({}));
    assert_eq!(answer["KeyCreationDate"], created);
    assert!(answer["TrackingStartDate"].as_f64().unwrap() >= created);
    bench.api.clock.advance(Duration::from_secs(5));
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    bench.done("GenerateDataKeyWithoutPlaintext", body).await;
    let usage = bench.usage(&id).await;
    let records = bench.records();
    let [.., record, asked] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(asked["eventName"], "GetKeyLastUsage");
    assert_eq!(asked["readOnly"], true);
    assert_eq!(asked["resources"][0]["ARN"], key_arn(&id));
    let expected = json!({
        "Operation": "GenerateDataKeyWithoutPlaintext",
        "Timestamp": (NOW.unix_seconds() + 5) as f64,
        "CloudTrailEventId": record["eventID"],
        "KmsRequestId": record["requestID"],
    });
    assert_eq!(usage, expected);
}

#[tokio::test]
async fn every_operation_that_uses_a_key_counts() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    for (name, body) in [
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_128"}),
        ),
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "NumberOfBytes": 7}),
        ),
        (
            "GenerateDataKeyPair",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"})),
    ] {
        bench.done(name, body).await;
        assert_eq!(bench.last_operation(&id).await, name);
    }
    let sealed = bench.done("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"}));
    let blob = sealed.await["CiphertextBlob"].clone();
    // Without the key's name too.
    bench.done("Decrypt", json!({"CiphertextBlob": blob})).await;
    assert_eq!(bench.last_operation(&id).await, "Decrypt");
    assert_eq!(bench.usage(&other).await, json!({}));
    let body = json!({"CiphertextBlob": blob, "DestinationKeyId": other});
    bench.done("ReEncrypt", body).await;
    assert_eq!(bench.last_operation(&id).await, "ReEncrypt");
    assert_eq!(bench.usage(&id).await, bench.usage(&other).await);
    for (spec, usage, calls) in [
        (
            "HMAC_256",
            "GENERATE_VERIFY_MAC",
            ["GenerateMac", "VerifyMac"],
        ),
        ("ECC_NIST_P256", "SIGN_VERIFY", ["Sign", "Verify"]),
        (
            "ML_KEM_512",
            "ENCAPSULATE_DECAPSULATE",
            ["Encapsulate", "Decapsulate"],
        ),
    ] {
        let created = bench.done("CreateKey", json!({"KeySpec": spec, "KeyUsage": usage}));
        let id = created.await["KeyMetadata"]["KeyId"].clone();
        let mut body = json!({
            "KeyId": id, "Message": "AAEC", "MacAlgorithm": "HMAC_SHA_256", "SigningAlgorithm": "ECDSA_SHA_256", "EncapsulationAlgorithm": "ML_KEM",
        });
        for name in calls {
            let answer = bench.done(name, body.clone()).await;
            for made in ["Mac", "Signature", "SharedSecretCiphertextBlob"] {
                body[made] = answer[made].clone();
            }
            assert_eq!(bench.last_operation(id.as_str().unwrap()).await, name);
        }
    }
}

#[tokio::test]
async fn what_failed_counts_for_nothing() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let powerless = bench.powerless("powerless").await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    let dry = json!({"KeyId": id, "KeySpec": "AES_256", "DryRun": true});
    for (principal, name, body, code) in [
        (
            &bench.admin,
            "GenerateDataKey",
            &dry,
            Code::DryRunOperationException,
        ),
        (
            &powerless,
            "GenerateDataKey",
            &body,
            Code::AccessDeniedException,
        ),
        (
            &bench.admin,
            "GenerateDataKey",
            &json!({"KeyId": id}),
            Code::ValidationException,
        ),
        (
            &bench.admin,
            "Decrypt",
            &json!({"KeyId": id, "CiphertextBlob": "AAEC"}),
            Code::InvalidCiphertextException,
        ),
    ] {
        let refused = bench.call_as(principal, name, body.clone()).await;
        assert_eq!(refused.unwrap_err().0, code);
    }
    for (name, body) in [
        ("DescribeKey", json!({"KeyId": id})),
        ("GetKeyRotationStatus", json!({"KeyId": id})),
        ("EnableKey", json!({"KeyId": id})),
        ("GenerateRandom", json!({"NumberOfBytes": 32})),
        ("DisableKey", json!({"KeyId": id})),
    ] {
        bench.done(name, body).await;
    }
    let refused = bench.call("GenerateDataKey", body).await;
    assert_eq!(refused.unwrap_err().0, Code::DisabledException);
    // Asked of a disabled key, and then of one that waits for its deletion: of every state.
    assert_eq!(bench.usage(&id).await, json!({}));
    bench.done_to("ScheduleKeyDeletion", &id).await;
    assert_eq!(bench.usage(&id).await, json!({}));
}

#[tokio::test]
async fn a_batch_is_a_use() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 10}).to_string();
    let operator = Requester::local(Arc::clone(&bench.admin));
    let mut batch = bench.api.data_keys(&operator, body.as_bytes()).unwrap();
    assert_eq!(bench.usage(&id).await, json!({}));
    assert_eq!(batch.blobs(&mut Vec::new()), 10);
    let last = bench.last_operation(&id).await;
    assert_eq!(last, "GenerateDataKeyWithoutPlaintext");
}

#[tokio::test]
async fn who_may_ask_and_what_is_refused() {
    const NAME: &str = "GetKeyLastUsage";
    let bench = Bench::new().await;
    let id = bench.key().await;
    let asker = bench.allowed("asker", &["kms:GetKeyLastUsage"]).await;
    let describer = bench.allowed("describer", &["kms:DescribeKey"]).await;
    let body = json!({"KeyId": id});
    assert!(bench.call_as(&asker, NAME, body.clone()).await.is_ok());
    let (code, message) = not_allowed(&describer, NAME, &key_arn(&id), "identity");
    bench
        .refused_as(&describer, NAME, body.clone(), code, &message)
        .await;
    // Not across accounts, whatever the key's policy says.
    let elsewhere = Principal::operator(0, OTHER.parse().unwrap());
    let stranger = bench
        .principal_of(&elsewhere, "stranger", allowing(&["kms:*"]))
        .await;
    let statements = json!([to("*", &["kms:*"])]);
    bench.put_policy(&id, statements).await;
    let (code, message) = foreign(&stranger, NAME);
    bench
        .refused_as(
            &stranger,
            NAME,
            json!({"KeyId": key_arn(&id)}),
            code,
            &message,
        )
        .await;
    bench
        .refused(
            NAME,
            json!({"KeyId": "alias/none"}),
            Code::InvalidArnException,
            "Key Aliases are not supported for this operation.",
        )
        .await;
    bench
        .missing(NAME, json!({"KeyId": UNKNOWN}), UNKNOWN)
        .await;
    bench.invalid(NAME, json!({}), "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null").await;
}

#[tokio::test]
async fn a_use_outlives_what_the_log_has() {
    let bench = Bench::new().await;
    let (id, gone) = (bench.key().await, bench.key().await);
    for id in [&id, &gone] {
        bench
            .done("Encrypt", json!({"KeyId": id, "Plaintext": "AAEC"}))
            .await;
    }
    let before = bench.done_to("GetKeyLastUsage", &id).await;
    bench
        .done(
            "ScheduleKeyDeletion",
            json!({"KeyId": gone, "PendingWindowInDays": 7}),
        )
        .await;
    bench.seal().await;
    let stored = bench.api.keystore.snapshot().last_uses.clone().unwrap();
    assert_eq!(stored.by_key.len(), 2);
    // The log may have moved meanwhile, and its head is written; the uses have not, and are not.
    bench.seal().await;
    let again = bench.api.keystore.snapshot().last_uses.clone().unwrap();
    assert_eq!(stored, again);
    bench
        .api
        .clock
        .advance(Duration::from_secs(8 * 24 * 60 * 60));
    let now = bench.api.clock.now();
    assert_eq!(bench.api.remove_expired_keys(now).await.unwrap(), 1);
    // A new log, which knows of nothing.
    let root = RootKeyFile::clear(&bench.folder.path().join("root.key"))
        .read()
        .unwrap();
    let anew = audit(&bench.folder.path().join("anew"), &root, &Entropy::os());
    anew.seal_head(&bench.api.keystore).await.unwrap();
    let key = id.parse().unwrap();
    let (since, last) = anew.last_use(key, &bench.api.keystore).await.unwrap();
    assert_eq!(since, stored.since);
    assert_eq!(last.as_ref(), stored.by_key.get(&key).map(|last| &**last));
    assert_eq!(
        before["KeyLastUsage"]["CloudTrailEventId"],
        last.unwrap().event_id
    );
    let stored = bench.api.keystore.snapshot().last_uses.clone().unwrap();
    assert_eq!(stored.by_key.len(), 1);
}
