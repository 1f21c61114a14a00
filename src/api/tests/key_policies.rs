//! Key policies: put, read and refused.

use super::ErrorCode as Code;
use super::*;

const MALFORMED: Code = Code::MalformedPolicyDocumentException;
const LOCKOUT: &str =
    "The new key policy will not allow you to update the key policy in the future.";
const INVALID_PRINCIPALS: &str = "Policy contains a statement with one or more invalid principals.";

fn document(statements: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

#[tokio::test]
async fn a_key_without_a_policy_has_the_default_policy() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    for key in [id.clone(), key_arn(&id)] {
        let got = bench.done_to("GetKeyPolicy", &key).await;
        assert_eq!(got["PolicyName"], "default");
        let policy: Value = serde_json::from_str(got["Policy"].as_str().unwrap()).unwrap();
        let expected = json!({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [{
            "Sid": "Enable IAM User Permissions", "Effect": "Allow", "Principal": {"AWS": root_of(ACCOUNT)}, "Action": "kms:*", "Resource": "*",
        }]});
        assert_eq!(policy, expected);
        // It can be put as it is.
        let put = json!({"KeyId": key, "PolicyName": "default", "Policy": got["Policy"]});
        assert_eq!(bench.done("PutKeyPolicy", put).await, Value::Null);
        let again = bench
            .done(
                "GetKeyPolicy",
                json!({"KeyId": key, "PolicyName": "default"}),
            )
            .await;
        assert_eq!(again, got);
        let names = bench.done_to("ListKeyPolicies", &key).await;
        assert_eq!(
            names,
            json!({"PolicyNames": ["default"], "Truncated": false})
        );
    }
    let marker = json!({"KeyId": id, "Marker": "TGlzdEtleVBvbGljaWVzIA=="});
    bench
        .refused("ListKeyPolicies", marker, Code::InvalidMarkerException, "")
        .await;
    let other = json!({"KeyId": id, "PolicyName": "other"});
    bench
        .not_found("GetKeyPolicy", other, "No such policy exists")
        .await;
    let other = json!({"KeyId": id, "PolicyName": "other", "Policy": "{}"});
    bench
        .unsupported("PutKeyPolicy", other, "A PolicyName other than default")
        .await;
    // Nothing is shared through the Resource Access Manager, which alone manages this one.
    let ram = json!({"KeyId": id, "PolicyName": "AWS_RAM", "Policy": "{}"});
    bench
        .not_found("GetKeyPolicy", ram.clone(), "No such policy exists")
        .await;
    let message = "The AWS_RAM policy can only be managed by the RAM service";
    bench.invalid("PutKeyPolicy", ram, message).await;
}

#[tokio::test]
async fn conditions_see_the_name_of_the_policy() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let keeper = bench.powerless("keeper").await;
    let actions = ["kms:GetKeyPolicy", "kms:PutKeyPolicy"];
    let mut allow = to(&keeper.arn, &actions);
    allow["Condition"] = json!({"StringEquals": {"kms:PolicyName": "default"}});
    let policy = json!([to(&root_of(ACCOUNT), &["kms:*"]), allow]);
    bench.put_policy(&id, policy.clone()).await;
    for name in [Value::Null, json!("default")] {
        let body = json!({"KeyId": id, "PolicyName": name, "Policy": document(&policy)});
        bench.done_as(&keeper, "GetKeyPolicy", body.clone()).await;
        // It may put the next one too: that is asked for the policy of this name.
        bench.done_as(&keeper, "PutKeyPolicy", body).await;
    }
    for (operation, name) in [
        ("GetKeyPolicy", "AWS_RAM"),
        ("PutKeyPolicy", "AWS_RAM"),
        ("GetKeyPolicy", "other"),
    ] {
        let body = json!({"KeyId": id, "PolicyName": name, "Policy": "{}"});
        let denied = bench.call_as(&keeper, operation, body).await;
        let expected = not_allowed(&keeper, operation, &key_arn(&id), "identity");
        assert_eq!(denied, Err(expected), "{operation} {name}");
    }
}

#[tokio::test]
async fn members_are_checked_before_the_key_is_looked_up() {
    let bench = Bench::new().await;
    let one = |what: &str| format!("1 validation error detected: Value {what}");
    let null = |member: &str| {
        one(&format!(
            "null at '{member}' failed to satisfy constraint: Member must not be null"
        ))
    };
    let characters =
        "failed to satisfy constraint: Member must satisfy regular expression pattern:";
    for (operation, body, message) in [
        ("GetKeyPolicy", json!({}), null("keyId")),
        ("ListKeyPolicies", json!({}), null("keyId")),
        ("PutKeyPolicy", json!({"Policy": "{}"}), null("keyId")),
        ("PutKeyPolicy", json!({"KeyId": UNKNOWN}), null("policy")),
        (
            "PutKeyPolicy",
            json!({"KeyId": UNKNOWN, "Policy": "{\u{100}}"}),
            one(&format!(
                "'{{\u{100}}}' at 'policy' {characters} [\\u0009\\u000A\\u000D\\u0020-\\u00FF]+"
            )),
        ),
        (
            "GetKeyPolicy",
            json!({"KeyId": UNKNOWN, "PolicyName": "a b"}),
            one(&format!("'a b' at 'policyName' {characters} [\\w]+")),
        ),
        (
            "ListKeyPolicies",
            json!({"KeyId": UNKNOWN, "Limit": 1001}),
            one(
                "'1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000",
            ),
        ),
    ] {
        bench.invalid(operation, body, &message).await;
    }
    for operation in ["GetKeyPolicy", "ListKeyPolicies", "PutKeyPolicy"] {
        let body = json!({"KeyId": "alias/none", "Policy": "{}"});
        let message = "Key Aliases are not supported for this operation.";
        bench
            .refused(operation, body, Code::InvalidArnException, message)
            .await;
        let body = json!({"KeyId": UNKNOWN, "Policy": "{}"});
        bench.missing(operation, body, UNKNOWN).await;
    }
}

#[tokio::test]
async fn a_policy_that_is_not_understood_is_refused_and_changes_nothing() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let revision = bench.api.keystore.revision();
    let statement = |change: &dyn Fn(&mut Value)| {
        let mut statement = to("*", &["kms:*"]);
        change(&mut statement);
        document(&json!([statement]))
    };
    let context = json!({"ForAllValues:StringEquals": {"kms:EncryptionContext:a": "b"}});
    for (policy, message) in [
        ("{}".to_owned(), "Statement: missing"),
        ("[]".to_owned(), "a policy is a JSON object"),
        (
            statement(&|one| one["Principle"] = json!("*")),
            "Statement 1: unknown element \"Principle\"",
        ),
        (
            statement(&|one| drop(one.as_object_mut().unwrap().remove("Principal"))),
            "Statement 1: Principal: missing",
        ),
        (
            statement(&|one| one["Condition"] = json!({"StringLike": {"kms:NumberOfBytes": "32"}})),
            "Statement 1: Condition: StringLike: kms:NumberOfBytes: unknown condition key \"kms:NumberOfBytes\"",
        ),
        (
            statement(&|one| one["Condition"] = context.clone()),
            "OverlyPermissiveCondition:EncryptionContext: Using the ForAllValues set operator with a single-valued condition key matches requests \
             without the specified encryption context or with an unspecified encryption context. To fix, remove ForAllValues.",
        ),
        (
            statement(&|one| one["Principal"] = json!({"AWS": "alice"})),
            INVALID_PRINCIPALS,
        ),
        (
            statement(&|one| one["NotPrincipal"] = json!({"AWS": "*"})),
            INVALID_PRINCIPALS,
        ),
    ] {
        let put = json!({"KeyId": id, "Policy": policy});
        bench.refused("PutKeyPolicy", put, MALFORMED, message).await;
        let create = json!({"Policy": policy});
        bench.refused("CreateKey", create, MALFORMED, message).await;
    }
    let large = json!({"KeyId": id, "Policy": " ".repeat(32_769)});
    let message = "A key policy has at most 32768 bytes.";
    bench
        .refused("PutKeyPolicy", large, Code::LimitExceededException, message)
        .await;
    assert_eq!(bench.api.keystore.revision(), revision);
}

#[tokio::test]
async fn users_and_roles_that_a_policy_names_must_exist() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let (other, alice) = (
        Principal::operator(0, OTHER.parse().unwrap()),
        bench.powerless("alice").await,
    );
    let bob = bench.principal_of(&other, "bob", allowing(&["s3:*"])).await;
    let put = |name: String| {
        let policy = document(&json!([
            to(&root_of(ACCOUNT), &["kms:*"]),
            to(&name, &["kms:Decrypt"])
        ]));
        json!({"KeyId": id, "Policy": policy})
    };
    for name in [
        alice.arn.clone(),
        bob.arn.clone(),
        root_of("999999999999"),
        "999999999999".to_owned(),
        format!("arn:aws:sts::{ACCOUNT}:federated-user/anybody"),
    ] {
        bench.done("PutKeyPolicy", put(name)).await;
    }
    for name in [
        format!("arn:aws:iam::{ACCOUNT}:user/nobody"),
        format!("arn:aws:iam::{ACCOUNT}:user/path/alice"),
        format!("arn:aws:iam::{ACCOUNT}:user/bob"),
        format!("arn:aws:iam::{OTHER}:user/alice"),
        format!("arn:aws:iam::{ACCOUNT}:role/alice"),
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/App/session"),
        "arn:aws:iam::999999999999:user/anybody".to_owned(),
    ] {
        bench
            .refused("PutKeyPolicy", put(name), MALFORMED, INVALID_PRINCIPALS)
            .await;
    }
    // A principal that was deleted is not in the next policy.
    bench.done("PutKeyPolicy", put(alice.arn.clone())).await;
    bench
        .administer("DeletePrincipal", json!({"Name": "alice"}))
        .await
        .unwrap();
    bench
        .refused(
            "PutKeyPolicy",
            put(alice.arn.clone()),
            MALFORMED,
            INVALID_PRINCIPALS,
        )
        .await;
}

#[tokio::test]
async fn nobody_locks_himself_out_unless_he_asks_to() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let manager = bench
        .allowed("manager", &["kms:PutKeyPolicy", "kms:CreateKey"])
        .await;
    let put = |statements: Value| json!({"KeyId": id, "Policy": document(&statements)});
    let of_himself = |condition: Value| {
        let mut statement = to(&manager.arn, &["kms:PutKeyPolicy"]);
        statement["Condition"] = condition;
        statement
    };
    let mut deny = to("*", &["kms:Put*"]);
    deny["Effect"] = json!("Deny");
    let passed = json!({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}});
    for statements in [
        json!([to(&manager.arn, &["kms:GetKeyPolicy"])]),
        json!([to(&root_of(OTHER), &["kms:*"])]),
        json!([to(&root_of(ACCOUNT), &["kms:*"]), deny]),
        json!([of_himself(passed)]),
        json!([of_himself(
            json!({"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}})
        )]),
    ] {
        let refused = bench
            .call_as(&manager, "PutKeyPolicy", put(statements.clone()))
            .await;
        assert_eq!(refused, refusal(MALFORMED, LOCKOUT), "{statements}");
        let create = json!({"Policy": document(&statements)});
        let refused = bench.call_as(&manager, "CreateKey", create).await;
        assert_eq!(refused, refusal(MALFORMED, LOCKOUT), "{statements}");
    }
    for statements in [
        json!([to(&root_of(ACCOUNT), &["kms:*"])]),
        json!([of_himself(json!({}))]),
        json!([of_himself(
            json!({"Null": {"kms:BypassPolicyLockoutSafetyCheck": "true"}})
        )]),
    ] {
        bench
            .done_as(&manager, "PutKeyPolicy", put(statements))
            .await;
    }
    let mut bypass = put(json!([to(&root_of(OTHER), &["kms:*"])]));
    bypass["BypassPolicyLockoutSafetyCheck"] = json!(true);
    // The last policy lets the caller put one only without the bypass.
    let denied = bench
        .call_as(&manager, "PutKeyPolicy", bypass.clone())
        .await;
    let no_more = not_allowed(&manager, "PutKeyPolicy", &key_arn(&id), "resource");
    assert_eq!(denied, Err(no_more.clone()));
    bench
        .done(
            "PutKeyPolicy",
            put(json!([to(&root_of(ACCOUNT), &["kms:*"])])),
        )
        .await;
    bench
        .done_as(&manager, "PutKeyPolicy", bypass.clone())
        .await;
    let again = bench.call_as(&manager, "PutKeyPolicy", bypass).await;
    assert_eq!(again, Err(no_more));
    // A user that may open the store is never locked out.
    bench
        .done(
            "PutKeyPolicy",
            put(json!([to(&root_of(OTHER), &["kms:*"])])),
        )
        .await;
    bench.done_to("GetKeyPolicy", &id).await;
}

#[tokio::test]
async fn a_key_is_created_with_its_policy_or_not_at_all() {
    let bench = Bench::new().await;
    let creator = bench.allowed("creator", &["kms:CreateKey"]).await;
    let own = document(&json!([to(&creator.arn, &["kms:*"])]));
    let created = bench
        .done_as(&creator, "CreateKey", json!({"Policy": own}))
        .await;
    let id = created["KeyMetadata"]["KeyId"].as_str().unwrap();
    let got = bench
        .done_as(&creator, "GetKeyPolicy", json!({"KeyId": id}))
        .await;
    assert_eq!(got, json!({"Policy": own, "PolicyName": "default"}));
    // Without one the default policy asks for an identity policy, which the caller does not have.
    let created = bench.done_as(&creator, "CreateKey", json!({})).await;
    let arn = created["KeyMetadata"]["Arn"].as_str().unwrap();
    let denied = bench
        .call_as(&creator, "GetKeyPolicy", json!({"KeyId": arn}))
        .await;
    assert_eq!(
        denied,
        Err(not_allowed(&creator, "GetKeyPolicy", arn, "identity"))
    );
    let keys = bench.api.keystore.snapshot().keys.len();
    let closed = document(&json!([to(&root_of(OTHER), &["kms:*"])]));
    let refused = bench
        .call_as(&creator, "CreateKey", json!({"Policy": closed}))
        .await;
    assert_eq!(refused, refusal(MALFORMED, LOCKOUT));
    assert_eq!(bench.api.keystore.snapshot().keys.len(), keys);
    let bypass = json!({"Policy": closed, "BypassPolicyLockoutSafetyCheck": true});
    bench.done_as(&creator, "CreateKey", bypass.clone()).await;

    let careful = json!({"Statement": [
        {"Effect": "Allow", "Action": "kms:CreateKey", "Resource": "*", "Condition": {"StringEquals": {
            "kms:KeySpec": "SYMMETRIC_DEFAULT", "kms:KeyUsage": "ENCRYPT_DECRYPT", "kms:KeyOrigin": "AWS_KMS"}, "Bool": {"kms:MultiRegion": "false"}}},
        {"Effect": "Deny", "Action": "kms:*", "Resource": "*", "Condition": {"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}},
    ]});
    let careful = bench.principal("careful", careful).await;
    bench.done_as(&careful, "CreateKey", json!({})).await;
    let refused = bench
        .call_as(&careful, "CreateKey", bypass)
        .await
        .unwrap_err();
    let message = format!(
        "User: {} is not authorized to perform: kms:CreateKey on resource: * with an explicit deny in an identity-based policy",
        careful.arn
    );
    assert_eq!(refused, (Code::AccessDeniedException, message));
}
