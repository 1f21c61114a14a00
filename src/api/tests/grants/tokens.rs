//! `GrantTokens` in every operation that takes them.

use super::*;

#[tokio::test]
async fn what_is_no_token_is_refused_and_every_token_is_taken() {
    let bench = Bench::new().await;
    let (id, other) = (closed_key(&bench).await, closed_key(&bench).await);
    let operations = [
        "GenerateDataKeyWithoutPlaintext",
        "GenerateDataKey",
        "Encrypt",
        "Decrypt",
        "DescribeKey",
        "CreateGrant",
    ];
    let (alice, bob) = (bench.powerless("alice").await, bench.powerless("bob").await);
    let carol = bench.powerless("carol").await;
    let token = |made: Value| made["GrantToken"].as_str().unwrap().to_owned();
    let good = token(
        bench
            .done("CreateGrant", grant(&id, &alice, &operations))
            .await,
    );
    // Not needed, and a token of the caller all the same.
    let unneeded = token(
        bench
            .done("CreateGrant", grant(&id, &alice, &["Decrypt"]))
            .await,
    );
    let account = with(
        grant(&id, &alice, &["Decrypt"]),
        "GranteePrincipal",
        json!(root_of(ACCOUNT)),
    );
    let of_account = token(bench.done("CreateGrant", account).await);
    let of_bob = token(
        bench
            .done("CreateGrant", grant(&id, &bob, &operations))
            .await,
    );
    let of_other = token(
        bench
            .done("CreateGrant", grant(&other, &alice, &operations))
            .await,
    );
    let gone = bench
        .done("CreateGrant", grant(&id, &alice, &operations))
        .await;
    bench
        .done(
            "RevokeGrant",
            json!({"KeyId": id, "GrantId": gone["GrantId"]}),
        )
        .await;
    let changed = format!(
        "{}{}",
        &good[..131],
        if good.ends_with('A') { "B" } else { "A" }
    );
    let blob = bench
        .done_as(&alice, "Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await["CiphertextBlob"]
        .clone();
    let spec = json!({"KeyId": id, "KeySpec": "AES_256"});
    for (operation, body) in [
        ("GenerateDataKeyWithoutPlaintext", spec.clone()),
        ("GenerateDataKey", spec),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        ("Decrypt", json!({"CiphertextBlob": blob, "KeyId": id})),
        ("DescribeKey", json!({"KeyId": id})),
        ("CreateGrant", grant(&id, &bob, &["Decrypt"])),
    ] {
        for tokens in [
            json!([]),
            json!([good]),
            json!([unneeded, good, good]),
            json!([of_account]),
            // Of another grantee, of another key, of a grant that is gone: handed on, and ignored.
            json!([of_bob, of_other, gone["GrantToken"]]),
        ] {
            let body = with(body.clone(), "GrantTokens", tokens);
            let done = bench.call_as(&alice, operation, body.clone()).await;
            assert!(done.is_ok(), "{operation} {body}: {done:?}");
        }
        for bad in ["token", &changed, &good.to_lowercase()] {
            for tokens in [json!([bad]), json!([good, bad])] {
                let body = with(body.clone(), "GrantTokens", tokens);
                let refused = bench.call_as(&alice, operation, body.clone()).await;
                assert_eq!(
                    refused,
                    refusal(Code::InvalidGrantTokenException, ""),
                    "{operation} {body}"
                );
            }
        }
        let many = with(body.clone(), "GrantTokens", json!(vec![&good; 11]));
        let refused = bench.call_as(&alice, operation, many).await.unwrap_err();
        assert_eq!(refused.0, Code::ValidationException);
        // A caller without rights gets that answer with any token.
        let body = with(body, "GrantTokens", json!([good]));
        let denied = bench.call_as(&carol, operation, body).await.unwrap_err();
        assert_eq!(denied.0, Code::AccessDeniedException, "{operation}");
    }
}
