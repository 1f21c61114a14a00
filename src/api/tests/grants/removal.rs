//! `RetireGrant` and `RevokeGrant`: who may, by which name, and what is left.

use super::*;

struct Made {
    id: Value,
    token: Value,
}

async fn make(bench: &Bench, body: Value) -> Made {
    let made = bench.done("CreateGrant", body).await;
    Made {
        id: made["GrantId"].clone(),
        token: made["GrantToken"].clone(),
    }
}

async fn left(bench: &Bench, id: &str) -> usize {
    let listed = bench.done_to("ListGrants", id).await;
    listed["Grants"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_grant_is_retired_by_whom_it_lets_and_by_nobody_else() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let arn = key_arn(&id);
    let (grantee, retiring) = (
        bench.powerless("grantee").await,
        bench.powerless("retiring").await,
    );
    let (stranger, of_account) = (
        bench.powerless("stranger").await,
        bench.allowed("account", &["kms:RetireGrant"]).await,
    );
    let plain = with(
        grant(&id, &grantee, &["Decrypt"]),
        "RetiringPrincipal",
        json!(retiring.arn),
    );
    let own = with(
        plain.clone(),
        "Operations",
        json!(["Decrypt", "RetireGrant"]),
    );
    for (who, body, passes) in [
        (&retiring, &plain, Ok(())),
        (&grantee, &own, Ok(())),
        (&of_account, &plain, Ok(())),
        (&bench.admin, &plain, Ok(())),
        (&grantee, &plain, Err("identity")),
        (&stranger, &own, Err("identity")),
    ] {
        for by_token in [false, true] {
            let made = make(&bench, body.clone()).await;
            let ask = if by_token {
                json!({"GrantToken": made.token})
            } else {
                json!({"KeyId": arn, "GrantId": made.id})
            };
            let before = left(&bench, &id).await;
            let dry = bench
                .call_as(who, "RetireGrant", with(ask.clone(), "DryRun", json!(true)))
                .await;
            let done = bench.call_as(who, "RetireGrant", ask.clone()).await;
            let Err(kind) = passes else {
                let message = "The request would have succeeded, but the DryRun option is set.";
                assert_eq!(dry, refusal(Code::DryRunOperationException, message));
                assert_eq!(done, Ok(Value::Null), "{}", who.arn);
                assert_eq!(left(&bench, &id).await, before - 1);
                continue;
            };
            let denied = Err(not_allowed(who, "RetireGrant", &arn, kind));
            assert_eq!((dry, done), (denied.clone(), denied));
            assert_eq!(left(&bench, &id).await, before);
        }
    }
    // A deny of the key policy holds here as everywhere.
    let made = make(&bench, plain).await;
    let mut deny = to(&retiring.arn, &["kms:RetireGrant"]);
    deny["Effect"] = json!("Deny");
    bench.put_policy(&id, json!([deny])).await;
    let message = format!(
        "User: {} is not authorized to perform: kms:RetireGrant on resource: {arn} with an explicit deny in a resource-based policy",
        retiring.arn
    );
    let denied = bench
        .call_as(&retiring, "RetireGrant", json!({"GrantToken": made.token}))
        .await;
    assert_eq!(denied, refusal(Code::AccessDeniedException, &message));
}

#[tokio::test]
async fn a_grant_is_named_by_its_token_or_by_key_and_id() {
    let bench = Bench::new().await;
    let (id, other) = (closed_key(&bench).await, closed_key(&bench).await);
    let alice = bench.powerless("alice").await;
    let made = make(&bench, grant(&id, &alice, &["Decrypt", "RetireGrant"])).await;
    let which = "Please specify either a grant token, or a key ARN and a grant ID.";
    for body in [
        json!({}),
        json!({"KeyId": key_arn(&id)}),
        json!({"GrantId": made.id}),
        json!({"GrantToken": made.token, "GrantId": made.id}),
        json!({"GrantToken": made.token, "KeyId": key_arn(&id), "GrantId": made.id}),
    ] {
        bench.invalid("RetireGrant", body, which).await;
    }
    for token in ["x", &made.token.as_str().unwrap()[..131], &"x".repeat(8192)] {
        bench
            .refused(
                "RetireGrant",
                json!({"GrantToken": token}),
                Code::InvalidGrantTokenException,
                "",
            )
            .await;
    }
    let long = "1 validation error detected: Value at 'grantToken' failed to satisfy constraint: Member must have length less than or equal to 8192";
    bench
        .invalid("RetireGrant", json!({"GrantToken": "x".repeat(8193)}), long)
        .await;
    let unknown = "0".repeat(64);
    for operation in ["RetireGrant", "RevokeGrant"] {
        for (key, grant_id) in [(&id, json!(unknown)), (&other, made.id.clone())] {
            let message = format!("Grant {} is not found.", grant_id.as_str().unwrap());
            let body = json!({"KeyId": key_arn(key), "GrantId": grant_id});
            bench.not_found(operation, body.clone(), &message).await;
            let denied = bench.call_as(&alice, operation, body).await;
            assert_eq!(
                denied,
                Err(not_allowed(&alice, operation, &key_arn(key), "identity"))
            );
        }
        let body = json!({"KeyId": id, "GrantId": "x"});
        bench
            .refused(operation, body, Code::InvalidGrantIdException, "")
            .await;
        let body = json!({"KeyId": "alias/none", "GrantId": unknown});
        let message = "Key Aliases are not supported for this operation.";
        bench
            .refused(operation, body, Code::InvalidArnException, message)
            .await;
        let body = json!({"KeyId": UNKNOWN, "GrantId": unknown});
        bench.missing(operation, body, UNKNOWN).await;
    }
    let done = json!({"GrantToken": made.token});
    bench.done_as(&alice, "RetireGrant", done.clone()).await;
    let gone = format!("Grant {} is not found.", made.id.as_str().unwrap());
    let again = bench.call_as(&alice, "RetireGrant", done).await;
    assert_eq!(again, refusal(Code::NotFoundException, &gone));
}

#[tokio::test]
async fn a_grant_is_revoked_by_whom_the_keys_policies_let_in_any_state() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let (alice, manager) = (
        bench.powerless("alice").await,
        bench.allowed("manager", &["kms:RevokeGrant"]).await,
    );
    let made = [
        make(&bench, grant(&id, &alice, &["Decrypt", "RetireGrant"])).await,
        make(&bench, grant(&id, &alice, &["Decrypt", "RetireGrant"])).await,
    ];
    let revoke = |made: &Made| json!({"KeyId": id, "GrantId": made.id});
    let denied = bench.call_as(&alice, "RevokeGrant", revoke(&made[0])).await;
    assert_eq!(
        denied,
        Err(not_allowed(
            &alice,
            "RevokeGrant",
            &key_arn(&id),
            "identity"
        ))
    );
    let dry = with(revoke(&made[0]), "DryRun", json!(true));
    let message = "The request would have succeeded, but the DryRun option is set.";
    let refused = bench.call_as(&manager, "RevokeGrant", dry).await;
    assert_eq!(refused, refusal(Code::DryRunOperationException, message));
    assert_eq!(left(&bench, &id).await, 2);
    bench
        .done_as(&manager, "RevokeGrant", revoke(&made[0]))
        .await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    bench
        .done_as(&manager, "RevokeGrant", revoke(&made[1]))
        .await;
    assert_eq!(left(&bench, &id).await, 0);
    for (body, member) in [
        (json!({"KeyId": id}), "grantId"),
        (json!({"GrantId": "x"}), "keyId"),
    ] {
        let message = format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        );
        bench.invalid("RevokeGrant", body, &message).await;
    }
}
