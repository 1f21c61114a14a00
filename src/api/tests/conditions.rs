//! The facts of a request that policies can ask for: its encryption context and how it names its
//! key.

use super::*;
use ErrorCode as Code;

#[tokio::test]
async fn a_consumer_opens_his_own_container_and_no_other() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let own = json!({"Statement": {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"],
        "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:container": "7"}}}});
    let consumer = bench.principal("consumer", own).await;
    for (container, with_key_id) in [("7", true), ("7", false), ("8", true), ("8", false)] {
        let context = json!({"container": container});
        let made = bench
            .done(
                "GenerateDataKeyWithoutPlaintext",
                json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context}),
            )
            .await;
        let mut body =
            json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context});
        if with_key_id {
            body["KeyId"] = id.as_str().into();
        }
        let opened = bench.call_as(&consumer, "Decrypt", body).await;
        match container {
            "7" => assert!(opened.is_ok(), "{opened:?}"),
            _ => assert_eq!(opened.unwrap_err().0, Code::AccessDeniedException),
        }
    }
    // The caller names its own container for another's blob.
    let made = bench
        .done(
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"container": "8"}}),
        )
        .await;
    let lie =
        json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": {"container": "7"}});
    bench
        .refused_as(
            &consumer,
            "Decrypt",
            lie,
            Code::InvalidCiphertextException,
            "",
        )
        .await;
    for (container, begins) in [("7", true), ("8", false)] {
        let body = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 1, "EncryptionContext": {"container": container}});
        let batch = bench.api.data_keys(
            &Requester::local(Arc::clone(&consumer)),
            body.to_string().as_bytes(),
        );
        assert_eq!(batch.is_ok(), begins, "{container}");
    }
}

#[tokio::test]
async fn policies_know_the_aliases_of_a_key() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let by_request = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Condition": {"StringEquals": {"kms:RequestAlias": "alias/a"}}}});
    let by_request = bench.principal("by-request", by_request).await;
    let of_key = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Condition": {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/a"}}}});
    let of_key = bench.principal("of-key", of_key).await;
    let ask = |name: &str| json!({"KeyId": name, "KeySpec": "AES_256"});
    let operation = "GenerateDataKeyWithoutPlaintext";
    for alias in ["alias/a", "alias/b"] {
        let body = json!({"AliasName": alias, "TargetKeyId": id});
        bench.done("CreateAlias", body).await;
    }
    for (name, of_request) in [
        ("alias/a", true),
        ("alias/b", false),
        (&*id, false),
        (&*alias_arn("a"), true),
    ] {
        let answer = bench.call_as(&by_request, operation, ask(name)).await;
        assert_eq!(answer.is_ok(), of_request, "{name}");
        let answer = bench.call_as(&of_key, operation, ask(name)).await;
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
    // It goes with the alias to another key, and from both when it is deleted.
    let other = bench.key().await;
    let body = json!({"AliasName": "alias/a", "TargetKeyId": other});
    bench.done("UpdateAlias", body).await;
    assert!(bench.call_as(&of_key, operation, ask(&id)).await.is_err());
    assert!(bench.call_as(&of_key, operation, ask(&other)).await.is_ok());
    bench
        .done("DeleteAlias", json!({"AliasName": "alias/a"}))
        .await;
    assert!(
        bench
            .call_as(&of_key, operation, ask(&other))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn where_a_call_comes_from_is_what_the_transport_says() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
    ]});
    let principal = bench.principal("p", policy).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256"}).to_string();
    let cases = [
        (None, true, true),
        (Some("192.0.2.1"), true, true),
        (Some("10.1.2.3"), true, false),
        (Some("192.0.2.1"), false, false),
    ];
    for (source_ip, secure_transport, allowed) in cases {
        let requester = Requester {
            principal: Arc::clone(&principal),
            source: source_ip.map_or(Source::Local, |ip| Source::Address(ip.parse().unwrap())),
            secure_transport,
            ..Requester::local(Arc::clone(&principal))
        };
        let operation = Operation::named("GenerateDataKey").unwrap();
        let answer = bench.api.call(operation, &requester, body.as_bytes()).await;
        let code = answer.err().map(|error| error.code());
        let expected = (!allowed).then_some(ErrorCode::AccessDeniedException);
        assert_eq!(code, expected, "{source_ip:?} {secure_transport}");
    }
}
