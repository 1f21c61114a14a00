//! What key policies decide, on what, and until when.

use super::ErrorCode as Code;
use super::fence::{at_once, between};
use super::*;

#[tokio::test]
async fn rights_come_from_the_key_policy_or_from_whom_it_delegates_to() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let (all, none) = (
        bench.allowed("all", &["kms:*"]).await,
        bench.powerless("none").await,
    );
    let ask = json!({"KeyId": id, "KeySpec": "AES_256"});
    let name = "GenerateDataKeyWithoutPlaintext";
    let arn = key_arn(&id);
    bench.done_as(&all, name, ask.clone()).await;
    let denied = bench.call_as(&none, name, ask.clone()).await;
    assert_eq!(denied, Err(not_allowed(&none, name, &arn, "identity")));
    // Identity policies alone are not enough when the key's does not delegate; a principal that it
    // names needs none.
    bench
        .put_policy(&id, json!([to(&none.arn, &["kms:Generate*"])]))
        .await;
    let denied = bench.call_as(&all, name, ask.clone()).await;
    assert_eq!(denied, Err(not_allowed(&all, name, &arn, "resource")));
    bench.done_as(&none, name, ask.clone()).await;
    for action in [
        "DescribeKey",
        "DisableKey",
        "GetKeyPolicy",
        "ListGrants",
        "ScheduleKeyDeletion",
    ] {
        let denied = bench.call_as(&all, action, json!({"KeyId": id})).await;
        assert_eq!(denied, Err(not_allowed(&all, action, &arn, "resource")));
    }
    // A listing is about no key.
    let listed = bench
        .done_as(&all, "ListAliases", json!({"KeyId": id}))
        .await;
    assert_eq!(listed["Aliases"], json!([]));
    // A deny of the key policy wins over both.
    let mut deny = to(&root_of(ACCOUNT), &[&format!("kms:{name}")]);
    deny["Effect"] = json!("Deny");
    let allow = to(&root_of(ACCOUNT), &["kms:*"]);
    bench
        .put_policy(&id, json!([to(&none.arn, &["kms:Generate*"]), allow, deny]))
        .await;
    for who in [&all, &none] {
        let message = format!(
            "User: {} is not authorized to perform: kms:{name} on resource: {arn} with an explicit deny in a resource-based policy",
            who.arn
        );
        let denied = bench.call_as(who, name, ask.clone()).await;
        assert_eq!(denied, refusal(Code::AccessDeniedException, &message));
    }
}

#[tokio::test]
async fn conditions_see_the_members_of_the_request() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.alias("alias/a", &id).await;
    let who = bench.powerless("who").await;
    let key = |key: &str| json!({"KeyId": key, "KeySpec": "AES_256"});
    let under = |name: &str, value: &str| json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {name: value}});
    let days = |days: u32| json!({"KeyId": id, "PendingWindowInDays": days});
    for (operation, condition, passes, refused) in [
        (
            "GenerateDataKey",
            json!({"StringEquals": {"kms:RequestAlias": "alias/a"}}),
            vec![key("alias/a"), key(&alias_arn("a"))],
            vec![key(&id), key(&key_arn(&id))],
        ),
        (
            "GenerateDataKey",
            json!({"StringEquals": {"kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT", "kms:KeyOrigin": "AWS_KMS"}}),
            vec![key(&id)],
            vec![],
        ),
        (
            "GenerateDataKey",
            json!({"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "kms:CallerAccount": ACCOUNT}}),
            vec![key(&id)],
            vec![],
        ),
        (
            "GenerateDataKey",
            json!({"StringEquals": {"kms:EncryptionContext:tenant": "a"}}),
            vec![under("tenant", "a"), under("Tenant", "a")],
            vec![key(&id), under("tenant", "b"), under("other", "a")],
        ),
        (
            "ScheduleKeyDeletion",
            json!({"NumericGreaterThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "20"}}),
            vec![days(21), json!({"KeyId": id})],
            vec![days(20), days(7)],
        ),
    ] {
        let mut allow = to(&who.arn, &[&format!("kms:{operation}")]);
        allow["Condition"] = condition;
        bench.put_policy(&id, json!([allow])).await;
        for body in refused {
            let denied = bench.call_as(&who, operation, body.clone()).await;
            assert_eq!(
                denied,
                Err(not_allowed(&who, operation, &key_arn(&id), "resource")),
                "{body}"
            );
        }
        for body in passes {
            bench.done_as(&who, operation, body.clone()).await;
            if operation == "ScheduleKeyDeletion" {
                bench.done_to("CancelKeyDeletion", &id).await;
            }
        }
    }
}

#[tokio::test]
async fn pool_4_a_policy_that_changes_between_work_and_last_check_decides() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let all = bench.allowed("all", &["kms:GenerateDataKey"]).await;
    let fence = bench.api.keystore.snapshot().keys[&id.parse().unwrap()].fence;
    let closed = json!({"Statement": to(&root_of(OTHER), &["kms:*"])}).to_string();
    let put = json!({"KeyId": id, "Policy": closed});
    let api = Arc::clone(&bench.api);
    between(1, move || at_once(&api, "PutKeyPolicy", &put));
    let ask = json!({"KeyId": id, "KeySpec": "AES_256"});
    let denied = bench.call_as(&all, "GenerateDataKey", ask).await;
    BETWEEN.set(None);
    assert_eq!(
        denied,
        Err(not_allowed(
            &all,
            "GenerateDataKey",
            &key_arn(&id),
            "resource"
        ))
    );
    let now = bench.api.keystore.snapshot().keys[&id.parse().unwrap()].fence;
    assert_eq!(now, fence, "no pooled key is lost to a policy");
}

#[tokio::test]
async fn policies_and_grants_go_with_their_key() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    let alice = bench.powerless("alice").await;
    for key in [&id, &other] {
        bench
            .put_policy(key, json!([to(&root_of(ACCOUNT), &["kms:*"])]))
            .await;
        let grant = json!({"KeyId": key, "GranteePrincipal": alice.arn, "Operations": ["Decrypt"]});
        bench.done("CreateGrant", grant.clone()).await;
        bench.done("CreateGrant", grant).await;
    }
    bench
        .done(
            "ScheduleKeyDeletion",
            json!({"KeyId": id, "PendingWindowInDays": 7}),
        )
        .await;
    let after = NOW.after(Duration::from_secs(8 * 24 * 60 * 60));
    assert_eq!(bench.api.remove_expired_keys(after).await.unwrap(), 1);
    let snapshot = bench.api.keystore.snapshot();
    let left = [other.parse().unwrap()];
    assert_eq!(snapshot.keys.keys().copied().collect::<Vec<_>>(), left);
    assert_eq!(
        snapshot.key_policies.keys().copied().collect::<Vec<_>>(),
        left
    );
    assert_eq!(snapshot.grants.keys().copied().collect::<Vec<_>>(), left);
}
