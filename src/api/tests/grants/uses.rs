//! What a grant lets its grantee do.

use super::*;
use crate::api::tests::fence::{at_once, between};

const MINT: &str = "GenerateDataKeyWithoutPlaintext";

fn ask(id: &str, context: Value) -> Value {
    json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context})
}

#[tokio::test]
async fn a_grant_lets_its_grantee_alone_and_its_operations_alone() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let (alice, bob) = (bench.powerless("alice").await, bench.powerless("bob").await);
    let all = bench.allowed("all", &["kms:*"]).await;
    bench
        .done("CreateGrant", grant(&id, &alice, &[MINT, "Encrypt"]))
        .await;
    let made = bench.done_as(&alice, MINT, ask(&id, json!({}))).await;
    let sealed = bench
        .done_as(&alice, "Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    assert_eq!(sealed["KeyId"], key_arn(&id));
    for (who, operation) in [(&alice, "GenerateDataKey"), (&bob, MINT), (&all, MINT)] {
        let denied = bench.call_as(who, operation, ask(&id, json!({}))).await;
        assert_eq!(
            denied,
            Err(not_allowed(who, operation, &key_arn(&id), "resource"))
        );
    }
    let denied = bench
        .call_as(
            &alice,
            "Decrypt",
            json!({"CiphertextBlob": made["CiphertextBlob"]}),
        )
        .await;
    assert!(
        denied
            .unwrap_err()
            .1
            .starts_with("The ciphertext refers to")
    );
    // On another key it lets nothing.
    let other = closed_key(&bench).await;
    let denied = bench.call_as(&alice, MINT, ask(&other, json!({}))).await;
    assert_eq!(
        denied,
        Err(not_allowed(&alice, MINT, &key_arn(&other), "resource"))
    );
    // A grant to the account allows principals that an identity policy allows as well.
    let to_all = with(
        grant(&other, &alice, &[MINT]),
        "GranteePrincipal",
        json!(root_of(ACCOUNT)),
    );
    bench.done("CreateGrant", to_all).await;
    bench.done_as(&all, MINT, ask(&other, json!({}))).await;
    let denied = bench.call_as(&bob, MINT, ask(&other, json!({}))).await;
    assert_eq!(
        denied,
        Err(not_allowed(&bob, MINT, &key_arn(&other), "identity"))
    );
    // A key is opened by a grant as well as by a policy.
    bench
        .done("CreateGrant", grant(&id, &bob, &["Decrypt", "DescribeKey"]))
        .await;
    let opened = json!({"CiphertextBlob": made["CiphertextBlob"]});
    assert_eq!(
        bench.done_as(&bob, "Decrypt", opened).await["KeyId"],
        key_arn(&id)
    );
    bench
        .done_as(&bob, "DescribeKey", json!({"KeyId": id}))
        .await;
}

#[tokio::test]
async fn a_subset_allows_a_superset_and_equals_allows_itself() {
    let bench = Bench::new().await;
    let pairs = json!({"tenant": "a", "use": "x"});
    for (constraint, passing, refused) in [
        (
            "EncryptionContextSubset",
            vec![
                json!({"tenant": "a", "use": "x"}),
                json!({"tenant": "a", "use": "x", "more": "y"}),
                json!({"Tenant": "a", "USE": "x"}),
            ],
            vec![
                json!({}),
                json!({"tenant": "a"}),
                json!({"tenant": "a", "use": "X"}),
                json!({"tenant": "b", "use": "x", "more": "y"}),
                json!({"tenant": "a", "Tenant": "b", "use": "x"}),
            ],
        ),
        (
            "EncryptionContextEquals",
            vec![json!({"use": "x", "tenant": "a"})],
            vec![
                json!({}),
                json!({"tenant": "a"}),
                json!({"tenant": "a", "use": "x", "more": "y"}),
                json!({"tenant": "x", "use": "a"}),
            ],
        ),
    ] {
        let id = closed_key(&bench).await;
        let alice = bench.powerless(constraint).await;
        let body = grant(&id, &alice, &[MINT, "Decrypt", "DescribeKey"]);
        bench
            .done(
                "CreateGrant",
                with(body, "Constraints", json!({constraint: pairs})),
            )
            .await;
        for context in refused {
            let denied = bench.call_as(&alice, MINT, ask(&id, context.clone())).await;
            assert_eq!(
                denied,
                Err(not_allowed(&alice, MINT, &key_arn(&id), "resource")),
                "{constraint} {context}"
            );
        }
        for context in passing {
            let made = bench.done_as(&alice, MINT, ask(&id, context.clone())).await;
            let open =
                json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context});
            bench.done_as(&alice, "Decrypt", open.clone()).await;
            let denied = bench
                .call_as(
                    &alice,
                    "Decrypt",
                    with(open, "EncryptionContext", json!({})),
                )
                .await;
            assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
        }
        // No constraint applies to what has no context.
        bench
            .done_as(&alice, "DescribeKey", json!({"KeyId": id}))
            .await;
    }
}

#[tokio::test]
async fn a_deny_beats_a_grant() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let never = json!({"Statement": {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}});
    let (alice, bob) = (
        bench.powerless("alice").await,
        bench.principal("bob", never).await,
    );
    for who in [&alice, &bob] {
        bench.done("CreateGrant", grant(&id, who, &[MINT])).await;
    }
    bench.done_as(&alice, MINT, ask(&id, json!({}))).await;
    let mut deny = to(&alice.arn, &["kms:Generate*"]);
    deny["Effect"] = json!("Deny");
    bench.put_policy(&id, json!([deny])).await;
    for (who, kind) in [(&alice, "a resource-based"), (&bob, "an identity-based")] {
        let message = format!(
            "User: {} is not authorized to perform: kms:{MINT} on resource: {} with an explicit deny in {kind} policy",
            who.arn,
            key_arn(&id)
        );
        let denied = bench.call_as(who, MINT, ask(&id, json!({}))).await;
        assert_eq!(denied, refusal(Code::AccessDeniedException, &message));
    }
}

#[tokio::test]
async fn a_grant_made_from_a_grant_gives_no_more() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let (parent, child) = (
        bench.powerless("parent").await,
        bench.powerless("child").await,
    );
    let body = grant(&id, &parent, &["Decrypt", "Encrypt", "CreateGrant"]);
    bench
        .done(
            "CreateGrant",
            with(
                body,
                "Constraints",
                json!({"EncryptionContextSubset": {"a": "1"}}),
            ),
        )
        .await;
    let subset = |pairs: Value| json!({"EncryptionContextSubset": pairs});
    let equals = |pairs: Value| json!({"EncryptionContextEquals": pairs});
    for (operations, constraints, passes) in [
        (vec!["Decrypt"], subset(json!({"a": "1"})), true),
        (
            vec!["Decrypt", "Encrypt"],
            subset(json!({"a": "1", "b": "2"})),
            true,
        ),
        (
            vec!["Decrypt", "CreateGrant"],
            equals(json!({"a": "1"})),
            true,
        ),
        (vec!["Decrypt"], Value::Null, false),
        (vec!["Decrypt"], subset(json!({})), false),
        (vec!["Decrypt"], subset(json!({"b": "2"})), false),
        (vec!["Decrypt"], equals(json!({"b": "2"})), false),
        (
            vec!["Decrypt", "DescribeKey"],
            subset(json!({"a": "1"})),
            false,
        ),
        (vec!["GenerateDataKey"], subset(json!({"a": "1"})), false),
    ] {
        let body = with(
            grant(&id, &child, &operations),
            "Constraints",
            constraints.clone(),
        );
        let made = bench.call_as(&parent, "CreateGrant", body).await;
        if passes {
            assert!(made.is_ok(), "{operations:?} {constraints}: {made:?}");
        } else {
            let expected = not_allowed(&parent, "CreateGrant", &key_arn(&id), "identity");
            assert_eq!(made, Err(expected), "{operations:?} {constraints}");
        }
    }
    let open = json!({"KeyId": id, "Plaintext": "AA==", "EncryptionContext": {"a": "1", "b": "2"}});
    bench.done_as(&child, "Encrypt", open).await;
    // The child's own CreateGrant is bound by what the child was given.
    let wider = with(
        grant(&id, &parent, &["Decrypt"]),
        "Constraints",
        subset(json!({"a": "1"})),
    );
    assert!(bench.call_as(&child, "CreateGrant", wider).await.is_err());
}

#[tokio::test]
async fn a_grant_is_made_from_one_grant_that_gives_all_of_it() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let (parent, child) = (
        bench.powerless("parent").await,
        bench.powerless("child").await,
    );
    // Together they give what neither gives alone.
    for operations in [["Decrypt", "CreateGrant"], ["Encrypt", "CreateGrant"]] {
        bench
            .done("CreateGrant", grant(&id, &parent, &operations))
            .await;
    }
    bench
        .done("CreateGrant", grant(&id, &parent, &["DescribeKey"]))
        .await;
    let arn = key_arn(&id);
    for operations in [&["Decrypt", "Encrypt"][..], &["DescribeKey"]] {
        let made = bench.call_as(&parent, "CreateGrant", grant(&id, &child, operations));
        let expected = not_allowed(&parent, "CreateGrant", &arn, "identity");
        assert_eq!(made.await, Err(expected), "{operations:?}");
    }
    for operation in ["Decrypt", "Encrypt"] {
        let body = grant(&id, &child, &[operation]);
        bench.done_as(&parent, "CreateGrant", body).await;
    }
}

#[tokio::test]
async fn pool_4_a_grant_that_is_revoked_between_work_and_last_check_lets_nothing() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let alice = bench.powerless("alice").await;
    let made = bench.done("CreateGrant", grant(&id, &alice, &[MINT])).await;
    let revoke = json!({"KeyId": id, "GrantId": made["GrantId"]});
    let api = Arc::clone(&bench.api);
    between(1, move || at_once(&api, "RevokeGrant", &revoke));
    let denied = bench.call_as(&alice, MINT, ask(&id, json!({}))).await;
    BETWEEN.set(None);
    assert_eq!(
        denied,
        Err(not_allowed(&alice, MINT, &key_arn(&id), "resource"))
    );
}
