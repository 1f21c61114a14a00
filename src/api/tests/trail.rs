//! What the audit log is told: every authenticated call, before its answer.

use super::*;

fn names(records: &[Value]) -> Vec<&str> {
    let name = |record: &'_ Value| record["eventName"].as_str().unwrap().to_owned().leak() as &str;
    records.iter().map(name).collect()
}

#[tokio::test]
async fn audit_1_a_key_that_left_has_a_record() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let provisioner = bench
        .allowed("provisioner", &["kms:GenerateDataKey*"])
        .await;
    let entry = Arc::clone(&bench.api.keystore.snapshot().principals[provisioner.arn.as_str()]);
    let access_key = Arc::clone(&entry.access_keys[0]);
    let requester = Requester {
        access_key: Some(Arc::clone(&access_key)),
        source: Source::Address("192.0.2.7".parse().unwrap()),
        tls_details: Some(r#"{"tlsVersion":"TLSv1.3"}"#.into()),
        ..Requester::local(Arc::clone(&provisioner))
    };
    let body = json!({
        "KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"container": "42"}, "GrantTokens": ["secret token"], "Unknown": 7,
    });
    let operation = Operation::named("GenerateDataKeyWithoutPlaintext").unwrap();
    let body = body.to_string();
    let reply = bench.api.call(operation, &requester, body.as_bytes()).await;
    // A token that is none is a refusal, and has a record as well.
    assert!(reply.is_err());
    let body = body.replace(r#""GrantTokens":["secret token"],"#, "");
    let reply = bench.api.call(operation, &requester, body.as_bytes()).await;
    let reply: Value = serde_json::from_slice(reply.unwrap().body()).unwrap();
    let records = bench.records();
    let [.., refused, record] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(refused["errorCode"], "InvalidGrantTokenException");
    assert_eq!(refused["resources"], json!([]));
    let event_id = record["eventID"].clone();
    assert!(event_id.is_string() && event_id != record["requestID"]);
    let expected = json!({
        "eventVersion": "1.11",
        "eventTime": "2023-11-14T22:13:20Z",
        "eventSource": "kms.amazonaws.com",
        "eventName": "GenerateDataKeyWithoutPlaintext",
        "awsRegion": "us-east-1",
        "eventType": "AwsApiCall",
        "userIdentity": {
            "type": "IAMUser",
            "arn": provisioner.arn,
            "accountId": ACCOUNT,
            "accessKeyId": access_key.id,
        },
        "sourceIPAddress": "192.0.2.7",
        "requestID": requester.request_id.as_str(),
        "eventID": event_id,
        "readOnly": true,
        "requestParameters": {"keyId": id, "keySpec": "AES_256", "encryptionContext": {"container": "42"}},
        "responseElements": null,
        "resources": [{"ARN": key_arn(&id), "accountId": ACCOUNT, "type": "AWS::KMS::Key"}],
        "additionalEventData": {"keyMaterialId": reply["KeyMaterialId"]},
        "tlsDetails": {"tlsVersion": "TLSv1.3"},
    });
    assert_eq!(*record, expected);
    assert_eq!(refused["tlsDetails"], expected["tlsDetails"]);
    assert!(records[0].get("tlsDetails").is_none(), "{}", records[0]);
}

#[tokio::test]
async fn refusals_and_changes_have_records() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let powerless = bench.powerless("powerless").await;
    let decrypt = json!({"KeyId": id, "CiphertextBlob": encoded(&[1; 96])});
    let (code, message) = bench
        .call_as(&powerless, "Decrypt", decrypt)
        .await
        .unwrap_err();
    bench.alias("alias/a", &id).await;
    bench.done_to("DisableKey", &id).await;
    bench
        .call(
            "ReplicateKey",
            json!({"KeyId": id, "ReplicaRegion": "us-west-2"}),
        )
        .await
        .unwrap_err();
    let broken = bench.call_raw(&bench.admin, "DescribeKey", br#"{"KeyId":"a","KeyId":"b"}"#);
    broken.await.unwrap_err();
    let quoted = json!({"KeyId": "x".repeat(9000)});
    bench.call("DescribeKey", quoted).await.unwrap_err();
    let records = bench.records();
    let expected = [
        ("CreateKey", false, None),
        ("CreatePrincipal", false, None),
        ("Decrypt", true, Some(code.name())),
        ("CreateAlias", false, None),
        ("DisableKey", false, None),
        ("ReplicateKey", false, Some("UnsupportedOperationException")),
        ("DescribeKey", true, Some("SerializationException")),
        ("DescribeKey", true, Some("ValidationException")),
    ];
    let told = records.iter().zip(names(&records)).map(|(record, name)| {
        let read_only = record["readOnly"].as_bool().unwrap();
        (name, read_only, record["errorCode"].as_str())
    });
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(records[0]["resources"][0]["ARN"], key_arn(&id));
    assert_eq!(records[1]["eventSource"], "keymill");
    assert_eq!(
        records[1]["userIdentity"],
        json!({"type": "Operator", "arn": "local:0", "accountId": ACCOUNT})
    );
    assert_eq!(records[2]["errorMessage"], message);
    assert_eq!(records[2]["requestParameters"], json!({"keyId": id}));
    let aliased = json!([
        {"ARN": key_arn(&id), "accountId": ACCOUNT, "type": "AWS::KMS::Key"},
        {"ARN": alias_arn("a"), "accountId": ACCOUNT, "type": "AWS::KMS::Alias"},
    ]);
    assert_eq!(records[3]["resources"], aliased);
    assert_eq!(records[6]["requestParameters"], Value::Null);
    let message = "KeyId is not of the type or form that this operation takes.";
    assert_eq!(records[6]["errorMessage"], message);
    assert_eq!(records[7]["errorMessage"].as_str().unwrap().len(), 1024);
}

#[tokio::test]
async fn audit_5_who_has_no_rights_writes_little_and_nothing_is_left_out_in_silence() {
    const CALLS: u64 = 1000;
    let bench = Bench::with_rates(&rates::Config::default()).await;
    let id = bench.key().await;
    let powerless = bench.powerless("powerless").await;
    let mut answers = Vec::new();
    for _ in 0..CALLS {
        let value = "x".repeat(100_000);
        let body = json!({"KeyId": id, "GrantTokens": [value], "EncryptionContext": {"tenant": "7"}, "Description": value});
        let refused = bench.call_as(&powerless, "DescribeKey", body).await;
        answers.push(refused.unwrap_err().0);
    }
    let of = |code| answers.iter().filter(|one| **one == code).count() as u64;
    let throttled = of(ErrorCode::ThrottlingException);
    let recorded = CALLS - throttled;
    // Ten seconds' worth at once; the clock of the bench stands still.
    assert_eq!(recorded, 100);
    let line = "keymill_throttled_total{scope=\"refused\"}";
    assert_eq!(bench.counted(line), throttled);
    // Others have their own.
    let other = bench.powerless("other").await;
    let denied = bench
        .call_as(&other, "DescribeKey", json!({"KeyId": id}))
        .await;
    assert_eq!(denied.unwrap_err().0, ErrorCode::AccessDeniedException);
    // The operator is not limited.
    for _ in 0..200 {
        let missing = bench.call("DescribeKey", json!({"KeyId": UNKNOWN})).await;
        assert_eq!(missing.unwrap_err().0, ErrorCode::NotFoundException);
    }
    let records = bench.records();
    let mine: Vec<_> = records
        .iter()
        .filter(|record| record["userIdentity"]["arn"] == powerless.arn)
        .collect();
    assert_eq!(mine.len() as u64, recorded);
    let bytes: usize = mine.iter().map(|record| record.to_string().len()).sum();
    // 100 MB were sent.
    assert!(bytes < 100 * 2048, "{bytes}");
    let told = records
        .iter()
        .find(|record| record["userIdentity"]["arn"] == other.arn)
        .unwrap();
    let message = told["errorMessage"].as_str().unwrap();
    let note = format!("[refused calls before this one that have no record: {throttled}]");
    assert!(message.ends_with(&note), "{message}");
}

#[tokio::test]
async fn audit_1_what_cannot_be_recorded_does_not_happen() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 10}).to_string();
    let operator = Requester::local(Arc::clone(&bench.admin));
    let mut batch = bench.api.data_keys(&operator, body.as_bytes()).unwrap();
    bench.api.audit.close();
    let revision = bench.api.keystore.revision();
    for (name, body) in [
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        ("DescribeKey", json!({"KeyId": id})),
        ("CreateKey", json!({})),
        ("DisableKey", json!({"KeyId": id})),
    ] {
        bench
            .refused(name, body, ErrorCode::KMSInternalException, "")
            .await;
    }
    let created = bench
        .administer("CreatePrincipal", json!({"Name": "p"}))
        .await;
    assert_eq!(created.unwrap_err().0, ErrorCode::KMSInternalException);
    let mut blobs = Vec::new();
    let error = batch.next_chunk(&mut blobs).unwrap_err();
    assert_eq!(error.code(), ErrorCode::KMSInternalException);
    assert!(blobs.is_empty() && batch.handed_out() == 0);
    assert_eq!(
        bench.api.keystore.revision(),
        revision,
        "nothing was changed"
    );
}

#[tokio::test]
async fn nothing_secret_is_in_the_log() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let context = json!({"container": "42"});
    let made = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context});
    let made = bench.done("GenerateDataKey", made).await;
    let blob = &made["CiphertextBlob"];
    let opened = json!({"CiphertextBlob": blob, "EncryptionContext": context});
    bench.done("Decrypt", opened).await;
    let known = encoded(b"the caller's own secret, long enough");
    let sealed = json!({"KeyId": id, "Plaintext": known});
    let sealed = bench.done("Encrypt", sealed).await;
    let random = bench
        .done("GenerateRandom", json!({"NumberOfBytes": 32}))
        .await;
    let user = bench
        .administer("CreatePrincipal", json!({"Name": "p"}))
        .await
        .unwrap();
    let granted = json!({"KeyId": id, "GranteePrincipal": user["Arn"], "Operations": ["Decrypt"]});
    let granted = bench.done("CreateGrant", granted).await;
    let retired = json!({"GrantToken": granted["GrantToken"]});
    bench.done("RetireGrant", retired).await;
    let log = bench.records();
    let log = Value::Array(log).to_string();
    for secret in [
        &made["Plaintext"],
        blob,
        &Value::from(known),
        &sealed["CiphertextBlob"],
        &random["Plaintext"],
        &user["SecretAccessKey"],
        &granted["GrantToken"],
    ] {
        let secret = secret.as_str().unwrap();
        assert!(secret.len() > 20 && !log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn what_the_daemon_does_by_itself_has_a_record() {
    let bench = Bench::new().await;
    let (doomed, rotating) = (bench.key().await, bench.key().await);
    let schedule = json!({"KeyId": doomed, "PendingWindowInDays": 7});
    bench.done("ScheduleKeyDeletion", schedule).await;
    let period = json!({"KeyId": rotating, "RotationPeriodInDays": 90});
    bench.done("EnableKeyRotation", period).await;
    let later = NOW.after(Duration::from_secs(91 * 24 * 60 * 60));
    assert_eq!(bench.api.remove_expired_keys(later).await.unwrap(), 1);
    assert_eq!(bench.api.rotate_due_keys(later).await.unwrap(), 1);
    let records = bench.records();
    let [.., removed, rotated] = records.as_slice() else {
        panic!("{records:?}");
    };
    for (record, name, key) in [
        (removed, "DeleteKey", doomed),
        (rotated, "RotateKey", rotating),
    ] {
        assert_eq!(record["eventName"], name);
        assert_eq!(record["eventType"], "AwsServiceEvent");
        let identity = json!({"type": "AWSService", "accountId": ACCOUNT});
        assert_eq!(record["userIdentity"], identity);
        assert_eq!(record["resources"][0]["ARN"], key_arn(&key));
    }
}
