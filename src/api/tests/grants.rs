//! Grants: made, refused, listed and removed.

use super::ErrorCode as Code;
use super::*;

mod listing;
mod removal;
mod services;
mod tokens;
mod uses;

/// A key with a policy that lets the operator's account administer it, and no principal use it.
pub(super) async fn closed_key(bench: &Bench) -> String {
    let id = bench.key().await;
    let actions = ["kms:*Grant*", "kms:PutKeyPolicy", "kms:DescribeKey"];
    bench
        .put_policy(&id, json!([to(&root_of(ACCOUNT), &actions)]))
        .await;
    id
}

pub(super) fn grant(key: &str, grantee: &Principal, operations: &[&str]) -> Value {
    json!({"KeyId": key, "GranteePrincipal": grantee.arn, "Operations": operations})
}

#[tokio::test]
async fn a_name_makes_a_request_idempotent_and_each_answer_has_a_new_token() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let alice = bench.powerless("alice").await;
    let plain = grant(&id, &alice, &["Decrypt"]);
    let named = with(plain.clone(), "Name", json!("one"));
    let mut seen = Vec::new();
    for (body, grants) in [
        (&named, 1),
        (&named, 1),
        (
            &with(named.clone(), "Operations", json!(["Decrypt", "Encrypt"])),
            2,
        ),
        (
            &with(named.clone(), "RetiringPrincipal", json!(alice.arn)),
            3,
        ),
        (
            &with(
                named.clone(),
                "Constraints",
                json!({"EncryptionContextEquals": {}}),
            ),
            4,
        ),
        (&with(named.clone(), "Constraints", json!({})), 4),
        (&with(named.clone(), "Name", json!("two")), 5),
        (&plain, 6),
        (&plain, 7),
    ] {
        let revision = bench.api.keystore.revision();
        let made = bench.done("CreateGrant", body.clone()).await;
        let listed = bench.done_to("ListGrants", &id).await;
        assert_eq!(listed["Grants"].as_array().unwrap().len(), grants, "{body}");
        let same = bench.api.keystore.revision() == revision;
        assert_eq!(same, seen.iter().any(|(id, _)| *id == made["GrantId"]));
        assert!(!seen.iter().any(|(_, token)| *token == made["GrantToken"]));
        seen.push((made["GrantId"].clone(), made["GrantToken"].clone()));
    }
}

#[tokio::test]
async fn what_makes_no_grant_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    let alice = bench.powerless("alice").await;
    let good = grant(UNKNOWN, &alice, &["Decrypt"]);
    let all = "Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, Sign, Verify, GetPublicKey, CreateGrant, \
         RetireGrant, DescribeKey, GenerateDataKeyPair, GenerateDataKeyPairWithoutPlaintext, GenerateMac, VerifyMac, DeriveSharedSecret, Encapsulate, Decapsulate";
    let one = |what: &str| format!("1 validation error detected: Value {what}");
    let null = |member: &str| {
        one(&format!(
            "null at '{member}' failed to satisfy constraint: Member must not be null"
        ))
    };
    let pairs = |count: usize| -> Value {
        (0..count)
            .map(|number| (format!("n{number}"), json!("v")))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let subset = |pairs: Value| json!({"EncryptionContextSubset": pairs});
    let invalid = [
        ("KeyId", Value::Null, null("keyId")),
        (
            "GranteePrincipal",
            Value::Null,
            "Please specify either GranteePrincipal or GranteeServicePrincipal.".to_owned(),
        ),
        (
            "GranteeServicePrincipal",
            json!("rds.amazonaws.com"),
            "Please specify either GranteePrincipal or GranteeServicePrincipal.".to_owned(),
        ),
        (
            "RetiringServicePrincipal",
            json!("rds"),
            one(
                "'rds' at 'retiringServicePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: \
                 ^([A-Za-z0-9\\-]+)\\.([A-Za-z0-9\\-]+)(\\.[A-Za-z0-9\\-]+)+$",
            ),
        ),
        (
            "Constraints",
            json!({"SourceArn": "arn:aws:s3:::bucket-of-mine"}),
            one(
                "'arn:aws:s3:::bucket-of-mine' at 'constraints.sourceArn' failed to satisfy constraint: Member must satisfy regular expression \
                 pattern: ^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$",
            ),
        ),
        ("Operations", Value::Null, null("operations")),
        (
            "GranteePrincipal",
            json!("a b"),
            one(
                "'a b' at 'granteePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\w+=,.@:/-]+$",
            ),
        ),
        (
            "RetiringPrincipal",
            json!("x".repeat(257)),
            one(&format!(
                "'{}' at 'retiringPrincipal' failed to satisfy constraint: Member must have length less than or equal to 256",
                "x".repeat(257)
            )),
        ),
        (
            "Operations",
            json!(["Decrypt", "ListGrants"]),
            one(&format!(
                "'[Decrypt, ListGrants]' at 'operations' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [{all}]]"
            )),
        ),
        (
            "Name",
            json!("a name"),
            one(
                "'a name' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
            ),
        ),
        (
            "Name",
            json!("x".repeat(257)),
            one(&format!(
                "'{}' at 'name' failed to satisfy constraint: Member must have length less than or equal to 256",
                "x".repeat(257)
            )),
        ),
        (
            "Operations",
            json!([]),
            "a grant needs at least one operation".to_owned(),
        ),
        (
            "Operations",
            json!(["CreateGrant"]),
            "Grants must not contain only the CreateGrant operation.".to_owned(),
        ),
        (
            "Constraints",
            json!({"EncryptionContextSubset": {"a": "b"}, "EncryptionContextEquals": {"a": "b"}}),
            "More than one constraint supplied".to_owned(),
        ),
        (
            "Constraints",
            subset(pairs(9)),
            "a constraint has at most 8 pairs".to_owned(),
        ),
        (
            "Constraints",
            subset(json!({"a": "é".repeat(385)})),
            "a value of a constraint has at most 384 characters".to_owned(),
        ),
        (
            "Constraints",
            subset(json!({"a": "1", "A": "1"})),
            "names of a constraint differ only in case".to_owned(),
        ),
    ];
    for (member, value, message) in invalid {
        let body = with(good.clone(), member, value);
        bench.invalid("CreateGrant", body, &message).await;
    }
    for (member, value) in [
        ("Constraints", json!({"EncryptionContextSubset": {"a": 1}})),
        ("Constraints", json!({"Sometimes": {}})),
        ("Operations", json!("Decrypt")),
    ] {
        let body = with(good.clone(), member, value);
        let message = format!("{member} is not of the type or form that this operation takes.");
        bench
            .refused("CreateGrant", body, Code::SerializationException, &message)
            .await;
    }
    let retiring = with(good.clone(), "RetiringPrincipal", json!(alice.arn));
    let both = with(
        retiring,
        "RetiringServicePrincipal",
        json!("rds.amazonaws.com"),
    );
    let message = "Please specify either RetiringPrincipal or RetiringServicePrincipal.";
    bench.invalid("CreateGrant", both, message).await;
    let sound = with(good.clone(), "Constraints", subset(pairs(8)));
    bench.missing("CreateGrant", sound, UNKNOWN).await;
    let alias = with(good, "KeyId", json!("alias/none"));
    let message = "Key Aliases are not supported for this operation.";
    bench
        .refused("CreateGrant", alias, Code::InvalidArnException, message)
        .await;
}

#[tokio::test]
async fn whom_a_grant_names_must_be_somebody() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let alice = bench.powerless("alice").await;
    let good = grant(&id, &alice, &["Decrypt"]);
    for name in [
        "alice".to_owned(),
        ACCOUNT.to_owned(),
        format!("arn:aws:iam::{ACCOUNT}:user/nobody"),
        format!("arn:aws:iam::{ACCOUNT}:role/alice"),
        format!("arn:aws:iam::{ACCOUNT}:group/alice"),
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/App/session"),
        "s3.amazonaws.com".to_owned(),
    ] {
        let message = format!("ARN does not refer to a valid principal: {name}");
        for member in ["GranteePrincipal", "RetiringPrincipal"] {
            let body = with(good.clone(), member, json!(name));
            bench
                .refused("CreateGrant", body, Code::InvalidArnException, &message)
                .await;
        }
    }
    for name in [root_of(ACCOUNT), root_of("999999999999")] {
        bench
            .done(
                "CreateGrant",
                with(good.clone(), "GranteePrincipal", json!(name)),
            )
            .await;
    }
}

/// Clients fill in both maps, one of them empty.
#[tokio::test]
async fn an_empty_map_beside_a_constraint_is_as_good_as_none() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let alice = bench.powerless("alice").await;
    let full = json!({"tenant": "a"});
    let (equals, subset) = ("EncryptionContextEquals", "EncryptionContextSubset");
    for (used, empty) in [(equals, subset), (subset, equals)] {
        let constraints = with(json!({used: full}), empty, json!({}));
        let body = with(grant(&id, &alice, &["Decrypt"]), "Constraints", constraints);
        let made = bench.done("CreateGrant", body).await;
        let listed = bench.done(
            "ListGrants",
            json!({"KeyId": id, "GrantId": made["GrantId"]}),
        );
        assert_eq!(
            listed.await["Grants"][0]["Constraints"],
            json!({used: full})
        );
    }
}

#[tokio::test]
async fn making_a_grant_takes_the_right_and_a_usable_key_and_a_dry_run_makes_none() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let arn = key_arn(&id);
    let alice = bench.powerless("alice").await;
    let body = grant(&id, &alice, &["Decrypt"]);
    let denied = bench.call_as(&alice, "CreateGrant", body.clone()).await;
    assert_eq!(
        denied,
        Err(not_allowed(&alice, "CreateGrant", &arn, "identity"))
    );
    let revision = bench.api.keystore.revision();
    let dry = with(body.clone(), "DryRun", json!(true));
    let message = "The request would have succeeded, but the DryRun option is set.";
    bench
        .refused(
            "CreateGrant",
            dry.clone(),
            Code::DryRunOperationException,
            message,
        )
        .await;
    let denied = bench
        .call_as(&alice, "CreateGrant", dry.clone())
        .await
        .unwrap_err();
    assert_eq!(denied.0, Code::AccessDeniedException);
    assert_eq!(bench.api.keystore.revision(), revision);
    bench.done_to("DisableKey", &id).await;
    for body in [&body, &dry] {
        let message = format!("{arn} is disabled.");
        bench
            .refused(
                "CreateGrant",
                body.clone(),
                Code::DisabledException,
                &message,
            )
            .await;
    }
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let message = format!("{arn} is pending deletion.");
    bench.invalid_state("CreateGrant", body, &message).await;
    let listed = bench.done_to("ListGrants", &id).await;
    assert_eq!(listed["Grants"], json!([]));
}

#[tokio::test]
async fn conditions_see_what_a_new_grant_says() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let (maker, alice) = (
        bench.powerless("maker").await,
        bench.powerless("alice").await,
    );
    let good = json!({
        "KeyId": id, "GranteePrincipal": alice.arn, "RetiringPrincipal": maker.arn, "Operations": ["Decrypt", "Encrypt"],
        "Constraints": {"EncryptionContextEquals": {"tenant": "a"}},
    });
    for (condition, member, other) in [
        (
            json!({"ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt", "Encrypt"]}}),
            "Operations",
            json!(["Decrypt", "DescribeKey"]),
        ),
        (
            json!({"StringEquals": {"kms:GranteePrincipal": alice.arn}}),
            "GranteePrincipal",
            json!(maker.arn),
        ),
        (
            json!({"StringEquals": {"kms:RetiringPrincipal": maker.arn}}),
            "RetiringPrincipal",
            Value::Null,
        ),
        (
            json!({"StringEquals": {"kms:GrantConstraintType": "EncryptionContextEquals"}}),
            "Constraints",
            json!({"EncryptionContextSubset": {"tenant": "a"}}),
        ),
        (
            json!({"StringEquals": {"kms:EncryptionContext:tenant": "a"}}),
            "Constraints",
            json!({"EncryptionContextEquals": {"tenant": "b"}}),
        ),
        (
            json!({"Null": {"kms:EncryptionContext:tenant": "false"}}),
            "Constraints",
            json!({}),
        ),
    ] {
        let mut allow = to(&maker.arn, &["kms:CreateGrant"]);
        allow["Condition"] = condition.clone();
        bench.put_policy(&id, json!([allow])).await;
        bench.done_as(&maker, "CreateGrant", good.clone()).await;
        let denied = bench
            .call_as(&maker, "CreateGrant", with(good.clone(), member, other))
            .await;
        let expected = not_allowed(&maker, "CreateGrant", &key_arn(&id), "resource");
        assert_eq!(denied, Err(expected), "{condition}");
    }
    // No service of AWS asks here.
    let actions = ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"];
    for (value, passes) in [("true", false), ("false", true)] {
        let mut allow = to(&maker.arn, &actions);
        allow["Condition"] = json!({"Bool": {"kms:GrantIsForAWSResource": value}});
        bench.put_policy(&id, json!([allow])).await;
        let made = bench.call_as(&maker, "CreateGrant", good.clone()).await;
        assert_eq!(made.is_ok(), passes);
        let listed = bench
            .call_as(&maker, "ListGrants", json!({"KeyId": id}))
            .await;
        assert_eq!(listed.is_ok(), passes);
        let grant_id = made.map_or(json!("0".repeat(64)), |made| made["GrantId"].clone());
        let revoke = json!({"KeyId": id, "GrantId": grant_id});
        assert_eq!(
            bench.call_as(&maker, "RevokeGrant", revoke).await.is_ok(),
            passes
        );
    }
}
