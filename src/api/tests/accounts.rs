//! Two accounts in one store: what crosses from one to the other, and what is told of it.

use super::ErrorCode as Code;
use super::*;

const NOT_ALLOWED_TO_OPEN: &str = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
     allowed to access.";

/// A key of the first account with an alias, and principals of the second with and without an
/// identity policy for it.
struct Two {
    bench: Bench,
    key: String,
    visitor: Arc<Principal>,
    powerless: Arc<Principal>,
}

impl Two {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let key = bench.key().await;
        bench.alias("alias/shared", &key).await;
        let operator = Principal::operator(0, OTHER.parse().unwrap());
        let visitor = bench.principal_of(&operator, "visitor", allowing(&["kms:*"]));
        let visitor = visitor.await;
        let powerless = bench.principal_of(&operator, "powerless", allowing(&["s3:*"]));
        let powerless = powerless.await;
        Self {
            bench,
            key,
            visitor,
            powerless,
        }
    }

    /// Lets a principal of the other account do everything, as far as the key's own account is
    /// asked.
    async fn share_with(&self, principal: &str) {
        let statements = json!([to(&root_of(ACCOUNT), &["kms:*"]), to(principal, &["kms:*"])]);
        self.bench.put_policy(&self.key, statements).await;
    }

    async fn call(
        &self,
        who: &Arc<Principal>,
        name: &str,
        body: Value,
    ) -> Result<Value, (Code, String)> {
        self.bench.call_as(who, name, body).await
    }

    /// Bodies of every operation that crosses accounts, for the key of this name.
    fn crossing(&self, key: &str) -> Vec<(&'static str, Value)> {
        let grant_id = "0".repeat(64);
        vec![
            (
                "GenerateDataKeyWithoutPlaintext",
                json!({"KeyId": key, "KeySpec": "AES_256"}),
            ),
            (
                "GenerateDataKey",
                json!({"KeyId": key, "KeySpec": "AES_256"}),
            ),
            ("Encrypt", json!({"KeyId": key, "Plaintext": "AA=="})),
            (
                "Decrypt",
                json!({"KeyId": key, "CiphertextBlob": encoded(&[1; 96])}),
            ),
            ("DescribeKey", json!({"KeyId": key})),
            ("ListGrants", json!({"KeyId": key})),
            (
                "CreateGrant",
                json!({"KeyId": key, "GranteePrincipal": self.visitor.arn, "Operations": ["Decrypt"]}),
            ),
            ("RevokeGrant", json!({"KeyId": key, "GrantId": grant_id})),
            ("RetireGrant", json!({"KeyId": key, "GrantId": grant_id})),
        ]
    }
}

/// Whether the operation takes a key by its alias too.
fn takes_aliases(operation: &str) -> bool {
    !operation.ends_with("Grant") && operation != "ListGrants"
}

#[tokio::test]
async fn a_foreign_key_is_one_refusal_whether_it_is_missing_or_forbidden_and_by_whom() {
    let two = Two::new().await;
    let (visitor, powerless) = (&two.visitor, &two.powerless);
    let deny = |principal: &str| {
        let mut deny = to(principal, &["kms:*"]);
        deny["Effect"] = json!("Deny");
        deny
    };
    for (what, statements, who) in [
        (
            "the default policy speaks of its own account",
            None,
            visitor,
        ),
        (
            "the policy names no principal",
            Some(json!([to(&root_of(ACCOUNT), &["kms:*"])])),
            visitor,
        ),
        (
            "the policy denies",
            Some(json!([to(&root_of(OTHER), &["kms:*"]), deny(&visitor.arn)])),
            visitor,
        ),
        (
            "the visitor's own account lets nothing",
            Some(json!([to(&root_of(OTHER), &["kms:*"])])),
            powerless,
        ),
        (
            "even if it is named",
            Some(json!([to(&powerless.arn, &["kms:*"])])),
            powerless,
        ),
        (
            "or everybody is",
            Some(json!([to("*", &["kms:*"])])),
            powerless,
        ),
    ] {
        if let Some(statements) = statements {
            two.bench.put_policy(&two.key, statements).await;
        }
        for (key, alias) in [
            (key_arn(&two.key), false),
            (key_arn(UNKNOWN), false),
            (alias_arn("shared"), true),
            (alias_arn("none"), true),
        ] {
            for (operation, body) in two.crossing(&key) {
                if !alias || takes_aliases(operation) {
                    let answer = two.call(who, operation, body).await;
                    assert_eq!(
                        answer,
                        Err(foreign(who, operation)),
                        "{what}: {operation} {key}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn both_sides_together_let_a_foreign_key_be_used() {
    let two = Two::new().await;
    for principal in [
        root_of(OTHER),
        OTHER.to_owned(),
        two.visitor.arn.clone(),
        "*".to_owned(),
    ] {
        two.share_with(&principal).await;
        for key in [key_arn(&two.key), alias_arn("shared")] {
            let made = two
                .call(
                    &two.visitor,
                    "GenerateDataKey",
                    json!({"KeyId": key, "KeySpec": "AES_256"}),
                )
                .await
                .unwrap();
            assert_eq!(made["KeyId"], key_arn(&two.key));
            let open = json!({"KeyId": key, "CiphertextBlob": made["CiphertextBlob"]});
            let opened = two.call(&two.visitor, "Decrypt", open).await.unwrap();
            assert_eq!(opened["Plaintext"], made["Plaintext"]);
            let described = two
                .call(&two.visitor, "DescribeKey", json!({"KeyId": key}))
                .await
                .unwrap();
            assert_eq!(described["KeyMetadata"]["AWSAccountId"], ACCOUNT);
        }
    }
    // Its state is returned to callers that its policy allows.
    two.bench
        .done("DisableKey", json!({"KeyId": two.key}))
        .await;
    let arn = key_arn(&two.key);
    let disabled = two
        .call(
            &two.visitor,
            "Encrypt",
            json!({"KeyId": arn, "Plaintext": "AA=="}),
        )
        .await;
    assert_eq!(
        disabled,
        refusal(Code::DisabledException, &format!("{arn} is disabled."))
    );
}

#[tokio::test]
async fn bare_names_never_leave_the_account() {
    let two = Two::new().await;
    two.share_with(&root_of(OTHER)).await;
    let missing = format!(
        "Key 'arn:aws:kms:us-east-1:{OTHER}:key/{}' does not exist",
        two.key
    );
    for (operation, body) in two.crossing(&two.key) {
        let answer = two.call(&two.visitor, operation, body).await;
        assert_eq!(
            answer,
            refusal(Code::NotFoundException, &missing),
            "{operation}"
        );
    }
    let missing = format!("Alias arn:aws:kms:us-east-1:{OTHER}:alias/shared is not found.");
    for (operation, body) in two.crossing("alias/shared") {
        if takes_aliases(operation) {
            let answer = two.call(&two.visitor, operation, body).await;
            assert_eq!(
                answer,
                refusal(Code::NotFoundException, &missing),
                "{operation}"
            );
        }
    }
}

#[tokio::test]
async fn other_operations_never_cross_whatever_the_policies_say() {
    let two = Two::new().await;
    two.share_with("*").await;
    for key in [key_arn(&two.key), key_arn(UNKNOWN)] {
        for (operation, body) in [
            ("EnableKey", json!({"KeyId": key})),
            ("DisableKey", json!({"KeyId": key})),
            ("ScheduleKeyDeletion", json!({"KeyId": key})),
            ("CancelKeyDeletion", json!({"KeyId": key})),
            ("GetKeyPolicy", json!({"KeyId": key})),
            ("ListKeyPolicies", json!({"KeyId": key})),
            ("PutKeyPolicy", json!({"KeyId": key, "Policy": "{}"})),
            ("ListAliases", json!({"KeyId": key})),
            (
                "CreateAlias",
                json!({"AliasName": "alias/mine", "TargetKeyId": key}),
            ),
        ] {
            let answer = two.call(&two.visitor, operation, body).await;
            assert_eq!(
                answer,
                Err(foreign(&two.visitor, operation)),
                "{operation} {key}"
            );
        }
    }
    let listed = two.call(&two.visitor, "ListKeys", json!({})).await.unwrap();
    assert_eq!(listed["Keys"], json!([]));
    let listed = two
        .call(&two.visitor, "ListAliases", json!({}))
        .await
        .unwrap();
    assert_eq!(listed["Aliases"], json!([]));
}

#[tokio::test]
async fn decrypt_finds_the_key_of_the_blob_in_any_account() {
    let two = Two::new().await;
    let made = two
        .bench
        .done(
            "GenerateDataKey",
            json!({"KeyId": two.key, "KeySpec": "AES_256"}),
        )
        .await;
    let blob = &made["CiphertextBlob"];
    let (plain, by_id) = (
        json!({"CiphertextBlob": blob}),
        json!({"CiphertextBlob": blob, "KeyId": two.key}),
    );
    let not_found = |id: &str| {
        let message = format!("Key 'arn:aws:kms:us-east-1:{OTHER}:key/{id}' does not exist");
        refusal(Code::NotFoundException, &message)
    };
    let refused = refusal(Code::AccessDeniedException, NOT_ALLOWED_TO_OPEN);
    // Not shared: as if the key did not exist.
    assert_eq!(
        two.call(&two.visitor, "Decrypt", plain.clone()).await,
        refused
    );
    assert_eq!(
        two.call(&two.visitor, "Decrypt", by_id.clone()).await,
        not_found(&two.key)
    );
    two.share_with(&root_of(OTHER)).await;
    for body in [&plain, &by_id] {
        let opened = two
            .call(&two.visitor, "Decrypt", body.clone())
            .await
            .unwrap();
        assert_eq!(opened["Plaintext"], made["Plaintext"]);
        assert_eq!(opened["KeyId"], key_arn(&two.key));
    }
    assert_eq!(
        two.call(&two.powerless, "Decrypt", plain.clone()).await,
        refused
    );
    let denied = two
        .call(&two.powerless, "Decrypt", by_id)
        .await
        .unwrap_err();
    let own = format!("arn:aws:kms:us-east-1:{OTHER}:key/{}", two.key);
    assert_eq!(
        denied,
        not_allowed(&two.powerless, "Decrypt", &own, "identity")
    );
    // A bare id of another key is looked up at home, and a blob that cannot be read names none.
    let other = two.bench.key().await;
    let body = json!({"CiphertextBlob": blob, "KeyId": other});
    assert_eq!(
        two.call(&two.visitor, "Decrypt", body).await,
        not_found(&other)
    );
    let body = json!({"CiphertextBlob": "AAAA", "KeyId": two.key});
    assert_eq!(
        two.call(&two.visitor, "Decrypt", body).await,
        not_found(&two.key)
    );
    // By the ARN of another key of that account, which the caller may use or not.
    let body = json!({"CiphertextBlob": blob, "KeyId": key_arn(&other)});
    assert_eq!(
        two.call(&two.visitor, "Decrypt", body.clone()).await,
        Err(foreign(&two.visitor, "Decrypt"))
    );
    two.bench
        .put_policy(&other, json!([to(&root_of(OTHER), &["kms:*"])]))
        .await;
    let message =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    assert_eq!(
        two.call(&two.visitor, "Decrypt", body).await,
        refusal(Code::IncorrectKeyException, message)
    );
}

#[tokio::test]
async fn a_grant_that_the_owner_made_is_one_half_of_another_accounts_permission() {
    let two = Two::new().await;
    let arn = key_arn(&two.key);
    let name = "GenerateDataKeyWithoutPlaintext";
    let ask = json!({"KeyId": arn, "KeySpec": "AES_256"});
    for who in [&two.powerless, &two.visitor] {
        let body = json!({"KeyId": two.key, "GranteePrincipal": who.arn, "RetiringPrincipal": who.arn, "Operations": [name, "RetireGrant"]});
        let made = two.bench.done("CreateGrant", body).await;
        let used = two.call(who, name, ask.clone()).await;
        let retire = json!({"KeyId": arn, "GrantId": made["GrantId"]});
        let retired = two.call(who, "RetireGrant", retire).await;
        if who.arn == two.visitor.arn {
            assert!(used.is_ok() && retired.is_ok(), "{used:?} {retired:?}");
        } else {
            assert_eq!(used, Err(foreign(who, name)));
            assert_eq!(retired, Err(foreign(who, "RetireGrant")));
        }
    }
}

#[tokio::test]
async fn a_grant_that_its_own_account_made_lets_another_accounts_principal() {
    let two = Two::new().await;
    two.share_with(&two.visitor.arn).await;
    let arn = key_arn(&two.key);
    let ask = json!({"KeyId": arn, "KeySpec": "AES_256"});
    let name = "GenerateDataKeyWithoutPlaintext";
    let body = json!({"KeyId": arn, "GranteePrincipal": two.powerless.arn, "Operations": [name, "RetireGrant"]});
    let made = two.call(&two.visitor, "CreateGrant", body).await.unwrap();
    two.call(&two.powerless, name, ask.clone()).await.unwrap();
    // A batch as well.
    let batch = json!({"KeyId": arn, "KeySpec": "AES_256", "Count": 3}).to_string();
    let mut keys = two
        .bench
        .api
        .data_keys(
            &Requester::local(Arc::clone(&two.powerless)),
            batch.as_bytes(),
        )
        .unwrap();
    assert_eq!(keys.blobs(&mut Vec::new()), 3);
    let retire = json!({"KeyId": arn, "GrantId": made["GrantId"]});
    // Neither of that account nor named.
    let operator = Principal::operator(0, "777788889999".parse().unwrap());
    let third = two
        .bench
        .principal_of(&operator, "third", allowing(&["kms:*"]));
    let third = third.await;
    let by_token = json!({"GrantToken": made["GrantToken"]});
    for body in [&retire, &by_token] {
        let denied = two.call(&third, "RetireGrant", body.clone()).await;
        assert_eq!(denied, Err(foreign(&third, "RetireGrant")));
    }
    two.call(&two.powerless, "RetireGrant", retire.clone())
        .await
        .unwrap();
    assert_eq!(
        two.call(&two.powerless, name, ask).await,
        Err(foreign(&two.powerless, name))
    );
    assert_eq!(
        two.call(&two.powerless, "RetireGrant", retire).await,
        Err(foreign(&two.powerless, "RetireGrant"))
    );
}

#[tokio::test]
async fn grants_are_made_listed_and_removed_across_accounts() {
    let two = Two::new().await;
    two.share_with(&root_of(OTHER)).await;
    let arn = key_arn(&two.key);
    let body = json!({"KeyId": arn, "GranteePrincipal": two.powerless.arn, "RetiringPrincipal": two.visitor.arn, "Operations": ["Decrypt"]});
    let made = two
        .call(&two.visitor, "CreateGrant", body.clone())
        .await
        .unwrap();
    let listed = two
        .call(&two.visitor, "ListGrants", json!({"KeyId": arn}))
        .await
        .unwrap();
    let entry = &listed["Grants"][0];
    assert_eq!(entry["GrantId"], made["GrantId"]);
    assert_eq!(
        (&entry["IssuingAccount"], &entry["KeyId"]),
        (&json!(root_of(OTHER)), &json!(arn))
    );
    assert_eq!(
        two.bench
            .done("ListGrants", json!({"KeyId": two.key}))
            .await,
        listed
    );
    // The caller sees the grants that it can retire on keys of every account.
    let retirable = two
        .call(
            &two.visitor,
            "ListRetirableGrants",
            json!({"RetiringPrincipal": two.visitor.arn}),
        )
        .await
        .unwrap();
    assert_eq!(retirable["Grants"], listed["Grants"]);
    // The account under which it was made may retire it, the key's own may revoke it.
    let again = two.call(&two.visitor, "CreateGrant", body).await.unwrap();
    let retire = json!({"GrantToken": again["GrantToken"]});
    two.call(&two.visitor, "RetireGrant", retire).await.unwrap();
    let revoke = json!({"KeyId": arn, "GrantId": made["GrantId"]});
    two.call(&two.visitor, "RevokeGrant", revoke.clone())
        .await
        .unwrap();
    let gone = format!("Grant {} is not found.", made["GrantId"].as_str().unwrap());
    assert_eq!(
        two.call(&two.visitor, "RevokeGrant", revoke).await,
        refusal(Code::NotFoundException, &gone)
    );
    let left = two
        .bench
        .done("ListGrants", json!({"KeyId": two.key}))
        .await;
    assert_eq!(left["Grants"], json!([]));
}
