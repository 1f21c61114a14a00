//! Grants to services of AWS, and grants that are bound to a resource of AWS.

use super::*;

#[tokio::test]
async fn a_grant_to_a_service_is_kept_listed_and_retired_and_allows_nothing() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let alice = bench.powerless("alice").await;
    let (source, service) = (
        "arn:aws:rds:us-east-1:111122223333:db:one",
        "rds.amazonaws.com",
    );
    let body = json!({
        "KeyId": id, "GranteeServicePrincipal": service, "Operations": ["Encrypt", "DescribeKey"],
        "Constraints": {"SourceArn": source},
    });
    let message =
        "a GranteeServicePrincipal needs a RetiringPrincipal or a RetiringServicePrincipal";
    bench.invalid("CreateGrant", body.clone(), message).await;
    let unbound = with(body.clone(), "Constraints", Value::Null);
    let unbound = with(unbound, "RetiringPrincipal", json!(alice.arn));
    let message = "a GranteeServicePrincipal needs the constraint SourceArn";
    bench.invalid("CreateGrant", unbound, message).await;
    let by_alice = with(body.clone(), "RetiringPrincipal", json!(alice.arn));
    let by_service = with(body, "RetiringServicePrincipal", json!(service));
    for body in [by_alice, by_service] {
        let made = bench.done("CreateGrant", body.clone()).await;
        let listed = bench.done_to("ListGrants", &id).await;
        let entry = &listed["Grants"][0];
        for member in [
            "GranteeServicePrincipal",
            "GranteePrincipal",
            "RetiringPrincipal",
            "RetiringServicePrincipal",
            "Constraints",
        ] {
            assert_eq!(entry.get(member), body.get(member), "{member}");
        }
        // The principal that may retire it, or else one of the account that made it.
        let retire = json!({"KeyId": key_arn(&id), "GrantId": made["GrantId"]});
        match body.get("RetiringPrincipal") {
            Some(_) => bench.done_as(&alice, "RetireGrant", retire).await,
            None => {
                let denied = bench.call_as(&alice, "RetireGrant", retire.clone()).await;
                assert_eq!(denied.unwrap_err().0, Code::AccessDeniedException);
                bench.done("RetireGrant", retire).await
            }
        };
    }
    // A principal gets nothing from a grant that is bound to a resource of AWS.
    let bound = with(
        grant(&id, &alice, &["Encrypt"]),
        "Constraints",
        json!({"SourceArn": source}),
    );
    bench.done("CreateGrant", bound).await;
    let denied = bench
        .call_as(&alice, "Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    assert_eq!(
        denied,
        Err(not_allowed(&alice, "Encrypt", &key_arn(&id), "resource"))
    );
    // Filters by service are for services.
    for (name, mut body) in [
        (
            "ListGrants",
            json!({"KeyId": id, "GranteeServicePrincipal": service}),
        ),
        (
            "ListRetirableGrants",
            json!({"RetiringServicePrincipal": service}),
        ),
    ] {
        let (member, other) = match name {
            "ListGrants" => ("GranteeServicePrincipal", "GranteePrincipal"),
            _ => ("RetiringServicePrincipal", "RetiringPrincipal"),
        };
        let message = format!("{member} can be used by a service of AWS only.");
        bench.invalid(name, body.clone(), &message).await;
        body[other] = json!(alice.arn);
        let message = format!("Please specify either {other} or {member}.");
        bench.invalid(name, body, &message).await;
    }
}

#[tokio::test]
async fn conditions_see_the_service_and_the_source_of_a_new_grant() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let maker = bench.powerless("maker").await;
    let source = "arn:aws:rds:us-east-1:111122223333:db:one";
    let good = json!({
        "KeyId": id, "GranteeServicePrincipal": "rds.amazonaws.com", "RetiringServicePrincipal": "rds.amazonaws.com",
        "Operations": ["Decrypt"], "Constraints": {"SourceArn": source},
    });
    for (condition, member, other) in [
        (
            json!({"StringEquals": {"kms:GranteeServicePrincipal": "rds.amazonaws.com"}}),
            "GranteeServicePrincipal",
            json!("s3.amazonaws.com"),
        ),
        (
            json!({"StringLike": {"kms:RetiringServicePrincipal": "rds.*"}}),
            "RetiringServicePrincipal",
            json!("s3.amazonaws.com"),
        ),
        (
            json!({"ArnLike": {"kms:GrantConstraintSourceArn": "arn:aws:rds:*:111122223333:db:*"}}),
            "Constraints",
            json!({"SourceArn": "arn:aws:rds:us-east-1:444455556666:db:one"}),
        ),
        (
            json!({"Null": {"kms:GranteePrincipal": "true"}}),
            "Name",
            Value::Null,
        ),
    ] {
        let mut allow = to(&maker.arn, &["kms:CreateGrant"]);
        allow["Condition"] = condition.clone();
        bench.put_policy(&id, json!([allow])).await;
        bench.done_as(&maker, "CreateGrant", good.clone()).await;
        if other.is_null() {
            continue;
        }
        let denied = bench
            .call_as(&maker, "CreateGrant", with(good.clone(), member, other))
            .await;
        let expected = not_allowed(&maker, "CreateGrant", &key_arn(&id), "resource");
        assert_eq!(denied, Err(expected), "{condition}");
    }
}
