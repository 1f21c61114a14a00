//! What administrators of keys and aliases see.

use super::ErrorCode as Code;
use super::*;

#[test]
fn what_changes_the_store_is_performed_as_a_change() {
    assert_eq!(Operation::ALL.len(), 56);
    for operation in Operation::ALL {
        let is_change = matches!(handler(*operation), Handler::Changing(_));
        assert_eq!(is_change, operation.facts().changes, "{operation}");
    }
}

#[tokio::test]
async fn a_new_key_has_the_metadata_that_clients_expect() {
    let bench = Bench::new().await;
    let created = bench.done("CreateKey", json!({"Description": "for \"containers\" é", "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "MultiRegion": false, "Tags": []})).await;
    let metadata = &created["KeyMetadata"];
    let id = metadata["KeyId"].as_str().unwrap();
    let material = metadata["CurrentKeyMaterialId"].as_str().unwrap();
    assert!(material.len() == 64 && material.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let expected = json!({
        "AWSAccountId": ACCOUNT, "KeyId": id, "Arn": key_arn(id), "CreationDate": 1_700_000_000.123, "Enabled": true,
        "Description": "for \"containers\" é", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled", "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "KeySpec": "SYMMETRIC_DEFAULT", "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": false,
        "CurrentKeyMaterialId": material,
    });
    assert_eq!(*metadata, expected);
    assert_eq!(bench.done_to("DescribeKey", id).await, created);
    let scheduled = bench
        .done(
            "ScheduleKeyDeletion",
            json!({"KeyId": id, "PendingWindowInDays": 7}),
        )
        .await;
    let expected = json!({"KeyId": key_arn(id), "DeletionDate": 1_700_604_800.123, "KeyState": "PendingDeletion", "PendingWindowInDays": 7});
    assert_eq!(scheduled, expected);
    let described = bench.done_to("DescribeKey", id).await;
    assert_eq!(
        described["KeyMetadata"]["DeletionDate"],
        scheduled["DeletionDate"]
    );
    assert_eq!(described["KeyMetadata"]["Enabled"], false);
}

#[tokio::test]
async fn keys_of_other_kinds_are_refused_with_the_endpoints_words() {
    let bench = Bench::new().await;
    let enumeration = |value: &str, member: &str, set: &str| {
        format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy enum value set: [{set}]"
        )
    };
    let cases = [
        (json!({"KeySpec": "RSA_2048"}), "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.".to_owned()),
        (json!({"KeyUsage": "SIGN_VERIFY"}), "KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT".to_owned()),
        (
            json!({"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"}),
            "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.".to_owned(),
        ),
        (json!({"Origin": "FOO"}), enumeration("FOO", "origin", "AWS_KMS, EXTERNAL, AWS_CLOUDHSM, EXTERNAL_KEY_STORE")),
        (json!({"KeyUsage": "FOO"}), enumeration("FOO", "keyUsage", "ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE")),
    ];
    for (body, message) in cases {
        bench.invalid("CreateKey", body, &message).await;
    }
    let long = json!({"Description": "x".repeat(8193)});
    assert_eq!(
        bench.call("CreateKey", long).await.unwrap_err().0,
        Code::ValidationException
    );
    let nobody = bench.allowed("nobody", &["kms:Decrypt"]).await;
    let denied = bench
        .call_as(&nobody, "CreateKey", json!({"MultiRegion": true}))
        .await
        .unwrap_err();
    assert_eq!(
        denied.0,
        Code::AccessDeniedException,
        "rights come before what is built"
    );
}

#[tokio::test]
async fn windows_and_aliases_are_refused_before_lookup() {
    let bench = Bench::new().await;
    for (days, must) in [
        (6, "greater than or equal to 7"),
        (31, "less than or equal to 30"),
    ] {
        let message = format!(
            "1 validation error detected: Value '{days}' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value {must}"
        );
        let body = json!({"KeyId": UNKNOWN, "PendingWindowInDays": days});
        bench.invalid("ScheduleKeyDeletion", body, &message).await;
    }
    let message = "Key Aliases are not supported for this operation.";
    for operation in [
        "EnableKey",
        "DisableKey",
        "ScheduleKeyDeletion",
        "CancelKeyDeletion",
    ] {
        for key in ["alias/none".to_owned(), alias_arn("none")] {
            bench
                .refused(
                    operation,
                    json!({"KeyId": key}),
                    Code::InvalidArnException,
                    message,
                )
                .await;
        }
        bench
            .missing(operation, json!({"KeyId": UNKNOWN}), UNKNOWN)
            .await;
    }
}

#[tokio::test]
async fn keys_are_listed_in_pages_that_stay_while_keys_come() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.key().await);
    }
    ids.sort();
    let all = bench.done("ListKeys", json!({})).await;
    let listed: Vec<_> = all["Keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["KeyId"].as_str().unwrap())
        .collect();
    assert_eq!(listed, ids);
    assert_eq!(all["Keys"][0]["KeyArn"], key_arn(&ids[0]));
    assert_eq!(all["Truncated"], false);
    assert!(all.get("NextMarker").is_none());
    let own = bench
        .done("ListKeys", json!({"ResourceOwners": ["SELF"]}))
        .await;
    assert_eq!(own, all);
    // No account shares keys through the Resource Access Manager here.
    let shared = json!({"ResourceOwners": ["OTHER_ACCOUNTS_VIA_RAM"]});
    let none = bench.done("ListKeys", shared.clone()).await;
    assert_eq!(none, json!({"Keys": [], "Truncated": false}));
    let both = json!({"ResourceOwners": ["SELF", "OTHER_ACCOUNTS_VIA_RAM"]});
    assert_eq!(bench.done("ListKeys", both.clone()).await, all);
    // A marker is of a listing with the same owners.
    let first = with(both.clone(), "Limit", json!(1));
    let marker = bench.done("ListKeys", first).await["NextMarker"].take();
    let rest = bench.done("ListKeys", with(both, "Marker", marker.clone()));
    assert_eq!(rest.await["Keys"].as_array().unwrap().len(), ids.len() - 1);
    for body in [shared, json!({}), json!({"ResourceOwners": ["SELF"]})] {
        let body = with(body, "Marker", marker.clone());
        bench
            .refused("ListKeys", body, Code::InvalidMarkerException, "")
            .await;
    }
    for (owners, must) in [
        (vec![], "greater than or equal to 1"),
        (vec!["SELF"; 3], "less than or equal to 2"),
    ] {
        let shown = owners.join(", ");
        let message = format!(
            "1 validation error detected: Value '[{shown}]' at 'resourceOwners' failed to satisfy constraint: Member must have length {must}"
        );
        bench
            .invalid("ListKeys", json!({"ResourceOwners": owners}), &message)
            .await;
    }
    let message = "1 validation error detected: Value '[ME]' at 'resourceOwners' failed to satisfy constraint: Member must satisfy constraint: \
        [Member must satisfy enum value set: [SELF, OTHER_ACCOUNTS_VIA_RAM]]";
    let nobody = json!({"ResourceOwners": ["ME"]});
    bench.invalid("ListKeys", nobody, message).await;
    let (mut seen, mut marker) = (Vec::new(), Value::Null);
    loop {
        let page = bench
            .done("ListKeys", json!({"Limit": 2, "Marker": marker}))
            .await;
        seen.extend(
            page["Keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["KeyId"].as_str().unwrap().to_owned()),
        );
        if page["Truncated"] == false {
            break;
        }
        marker = page["NextMarker"].clone();
    }
    assert_eq!(seen, ids);
    let foreign = bench.done("ListKeys", json!({"Limit": 1})).await["NextMarker"].clone();
    for (operation, marker) in [
        ("ListKeys", json!("x")),
        ("ListKeys", json!("AAAA")),
        ("ListAliases", foreign),
    ] {
        bench
            .refused(
                operation,
                json!({"Marker": marker}),
                Code::InvalidMarkerException,
                "",
            )
            .await;
    }
    for limit in [0, 1001] {
        assert_eq!(
            bench
                .call("ListKeys", json!({"Limit": limit}))
                .await
                .unwrap_err()
                .0,
            Code::ValidationException
        );
    }
}

#[tokio::test]
async fn aliases_are_made_moved_listed_and_removed() {
    let bench = Bench::new().await;
    let (one, two) = (bench.key().await, bench.key().await);
    for name in ["alias/b", "alias/a", "alias/c"] {
        assert_eq!(
            bench
                .done(
                    "CreateAlias",
                    json!({"AliasName": name, "TargetKeyId": key_arn(&one)})
                )
                .await,
            Value::Null
        );
    }
    let exists = format!("An alias with the name {} already exists", alias_arn("a"));
    for target in [&one, &two] {
        let body = json!({"AliasName": "alias/a", "TargetKeyId": target});
        bench
            .refused("CreateAlias", body, Code::AlreadyExistsException, &exists)
            .await;
    }
    bench.api.clock.advance(Duration::from_secs(1));
    bench
        .done(
            "UpdateAlias",
            json!({"AliasName": "alias/a", "TargetKeyId": two}),
        )
        .await;
    let page = bench.done("ListAliases", json!({"Limit": 2})).await;
    let expected = json!({"AliasName": "alias/a", "AliasArn": alias_arn("a"), "TargetKeyId": two, "CreationDate": 1_700_000_000.123, "LastUpdatedDate": 1_700_000_001.123});
    assert_eq!(page["Aliases"][0], expected);
    let rest = bench
        .done(
            "ListAliases",
            json!({"Limit": 2, "Marker": page["NextMarker"]}),
        )
        .await;
    assert_eq!(rest["Aliases"][0]["AliasName"], "alias/c");
    assert_eq!(rest["Truncated"], false);
    let of_two = bench.done_to("ListAliases", &two).await;
    assert_eq!(of_two["Aliases"].as_array().unwrap().len(), 1);
    bench
        .done("DeleteAlias", json!({"AliasName": "alias/a"}))
        .await;
    let gone = format!("Alias {} is not found.", alias_arn("a"));
    bench
        .not_found("DeleteAlias", json!({"AliasName": "alias/a"}), &gone)
        .await;
    bench
        .not_found(
            "UpdateAlias",
            json!({"AliasName": "alias/a", "TargetKeyId": one}),
            &gone,
        )
        .await;
    bench
        .not_found("DescribeKey", json!({"KeyId": "alias/a"}), &gone)
        .await;
}

#[tokio::test]
async fn alias_names_are_refused_with_the_endpoints_words() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let prefix = "Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html";
    let colon = "alias/a:b contains invalid characters for an alias";
    let pattern = "1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$";
    let cases = [
        ("containers", Code::ValidationException, prefix),
        ("alias/aws/x", Code::NotAuthorizedException, ""),
        ("alias/a b", Code::ValidationException, pattern),
        ("alias/", Code::InvalidAliasNameException, ""),
        ("alias/a:b", Code::ValidationException, colon),
    ];
    for (name, code, message) in cases {
        bench
            .refused(
                "CreateAlias",
                json!({"AliasName": name, "TargetKeyId": id}),
                code,
                message,
            )
            .await;
    }
    let body = json!({"AliasName": "alias/b", "TargetKeyId": "alias/a"});
    let message = "Key Aliases are not supported for this operation.";
    bench
        .refused("CreateAlias", body, Code::InvalidArnException, message)
        .await;
    // Both the alias and the key must be allowed.
    for resource in [key_arn(&id), alias_arn("d")] {
        let statement =
            json!({"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": resource});
        let name = if resource.contains("alias") {
            "half-a"
        } else {
            "half-k"
        };
        let half = bench.principal(name, json!({"Statement": statement})).await;
        let body = json!({"AliasName": "alias/d", "TargetKeyId": id});
        assert_eq!(
            bench
                .call_as(&half, "CreateAlias", body)
                .await
                .unwrap_err()
                .0,
            Code::AccessDeniedException
        );
    }
    for number in 0..50 {
        bench
            .done(
                "CreateAlias",
                json!({"AliasName": format!("alias/{number}"), "TargetKeyId": id}),
            )
            .await;
    }
    let body = json!({"AliasName": "alias/one-more", "TargetKeyId": id});
    assert_eq!(
        bench.call("CreateAlias", body).await.unwrap_err().0,
        Code::LimitExceededException
    );
}

#[tokio::test]
async fn a_description_is_changed_in_every_state_but_one() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let describe = |text: &str| json!({"KeyId": id, "Description": text});
    let described = async || {
        let described = bench.done_to("DescribeKey", &id).await;
        described["KeyMetadata"]["Description"].clone()
    };
    let entry =
        |bench: &Bench| Arc::clone(&bench.api.keystore.snapshot().keys[&id.parse().unwrap()]);
    let before = entry(&bench).fence;
    let long = "é".repeat(8192);
    for text in ["for \"volumes\"", &long, ""] {
        let answer = bench.done("UpdateKeyDescription", describe(text)).await;
        assert_eq!(answer, Value::Null);
        assert_eq!(described().await, text);
    }
    assert_eq!(entry(&bench).fence, before, "what is pooled stays good");
    let revision = bench.api.keystore.revision();
    bench.done("UpdateKeyDescription", describe("")).await;
    assert_eq!(bench.api.keystore.revision(), revision, "nothing to write");
    bench.done_to("DisableKey", &id).await;
    assert!(entry(&bench).fence > before);
    bench
        .done("UpdateKeyDescription", describe("disabled"))
        .await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let nobody = bench.powerless("nobody").await;
    let (code, message) = not_allowed(&nobody, "UpdateKeyDescription", &key_arn(&id), "identity");
    let body = describe("x");
    bench
        .refused_as(&nobody, "UpdateKeyDescription", body, code, &message)
        .await;
    let null = "1 validation error detected: Value null at 'description' failed to satisfy constraint: Member must not be null";
    let both = "2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; \
         Value null at 'description' failed to satisfy constraint: Member must not be null";
    let aliases = "Key Aliases are not supported for this operation.";
    let unknown = format!("Key '{}' does not exist", key_arn(UNKNOWN));
    let pending = format!("{} is pending deletion.", key_arn(&id));
    for (body, code, message) in [
        (json!({"KeyId": UNKNOWN}), Code::ValidationException, null),
        (json!({}), Code::ValidationException, both),
        (
            json!({"KeyId": "alias/a", "Description": ""}),
            Code::InvalidArnException,
            aliases,
        ),
        (
            json!({"KeyId": UNKNOWN, "Description": ""}),
            Code::NotFoundException,
            &unknown,
        ),
        (describe("x"), Code::KMSInvalidStateException, &pending),
    ] {
        bench
            .refused("UpdateKeyDescription", body, code, message)
            .await;
    }
    let too_long = bench.call("UpdateKeyDescription", describe(&"é".repeat(8193)));
    let (code, message) = too_long.await.unwrap_err();
    assert_eq!(code, Code::ValidationException);
    assert!(message.ends_with("at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192"));
    assert_eq!(described().await, "disabled");
}

#[tokio::test]
async fn a_window_that_has_run_out_removes_the_key_and_its_names() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    bench.alias("alias/a", &id).await;
    bench.alias("alias/b", &other).await;
    bench
        .done(
            "ScheduleKeyDeletion",
            json!({"KeyId": id, "PendingWindowInDays": 7}),
        )
        .await;
    let date = NOW.after(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(
        bench
            .api
            .remove_expired_keys(Timestamp(date.0 - 1))
            .await
            .unwrap(),
        0
    );
    assert_eq!(bench.api.remove_expired_keys(date).await.unwrap(), 1);
    bench
        .missing("DescribeKey", json!({"KeyId": id}), &id)
        .await;
    let aliases = bench.done("ListAliases", json!({})).await;
    assert_eq!(aliases["Aliases"].as_array().unwrap().len(), 1);
}
