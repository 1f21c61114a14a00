//! Which rights multi-Region keys need, and what conditions see of them.

use super::*;

fn allow(action: &str, condition: Value) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition})
}

fn policy(statements: &[Value]) -> Value {
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn is(key: &str, value: &str) -> Value {
    json!({"StringEquals": {key: value}})
}

#[tokio::test]
async fn a_caller_that_replicates_must_be_allowed_to_create_keys_there() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    let body = json!({"KeyId": id, "ReplicaRegion": WEST});
    let replicate = allow("kms:ReplicateKey", is("kms:ReplicaRegion", WEST));
    let user = bench
        .principal("alone", policy(std::slice::from_ref(&replicate)))
        .await;
    let why = not_allowed(&user, "CreateKey", "*", "identity");
    bench
        .denied(&user, "ReplicateKey", body.clone(), &why.1)
        .await;
    let create = json!({
        "StringEquals": {"aws:RequestedRegion": WEST, "kms:MultiRegionKeyType": "REPLICA", "kms:KeySpec": "SYMMETRIC_DEFAULT"},
        "Bool": {"kms:MultiRegion": "true"},
    });
    let both = [replicate, allow("kms:CreateKey", create)];
    let user = bench.principal("both", policy(&both)).await;
    let elsewhere = json!({"KeyId": id, "ReplicaRegion": "eu-west-1"});
    let why = not_allowed(&user, "ReplicateKey", &arn_in(EAST, &id), "identity");
    bench.denied(&user, "ReplicateKey", elsewhere, &why.1).await;
    let tagged = with(
        body.clone(),
        "Tags",
        json!([{"TagKey": "a", "TagValue": "b"}]),
    );
    let why = not_allowed(&user, "TagResource", &arn_in(WEST, &id), "identity");
    bench.denied(&user, "ReplicateKey", tagged, &why.1).await;
    bench.done_as(&user, "ReplicateKey", body).await;
}

#[tokio::test]
async fn a_policy_that_would_lock_its_writer_out_is_refused_on_a_replica_too() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    let user = bench
        .allowed("manager", &["kms:ReplicateKey", "kms:CreateKey"])
        .await;
    let locked = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": user.arn}, "Action": "kms:DescribeKey", "Resource": "*",
    }]})
    .to_string();
    let body = json!({"KeyId": id, "ReplicaRegion": WEST, "Policy": locked});
    let code = Code::MalformedPolicyDocumentException;
    let message = "The new key policy will not allow you to update the key policy in the future.";
    bench
        .refused_as(&user, "ReplicateKey", body.clone(), code, message)
        .await;
    let bypassed = with(body, "BypassPolicyLockoutSafetyCheck", json!(true));
    bench.done_as(&user, "ReplicateKey", bypassed).await;
}

#[tokio::test]
async fn an_update_of_the_primary_region_needs_a_right_on_both_keys() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({})).await;
    bench.replicate(&id, WEST).await;
    let body = json!({"KeyId": id, "PrimaryRegion": WEST});
    let on = |region: &str| {
        let mut statement = allow("kms:UpdatePrimaryRegion", is("kms:PrimaryRegion", WEST));
        statement["Resource"] = json!(arn_in(region, &id));
        statement
    };
    for (name, region, missing) in [("here", EAST, WEST), ("there", WEST, EAST)] {
        let user = bench.principal(name, policy(&[on(region)])).await;
        let why = not_allowed(
            &user,
            "UpdatePrimaryRegion",
            &arn_in(missing, &id),
            "identity",
        );
        bench
            .denied(&user, "UpdatePrimaryRegion", body.clone(), &why.1)
            .await;
    }
    let user = bench.principal("both", policy(&[on(EAST), on(WEST)])).await;
    bench.done_as(&user, "UpdatePrimaryRegion", body).await;
}

#[tokio::test]
async fn conditions_see_what_kind_of_key_it_is() {
    let bench = Bench::new().await;
    let (id, ordinary) = (bench.primary(json!({})).await, bench.key().await);
    bench.replicate(&id, WEST).await;
    let only = |condition| policy(&[allow("kms:DescribeKey", condition)]);
    let multi = bench
        .principal("multi", only(json!({"Bool": {"kms:MultiRegion": "true"}})))
        .await;
    let primary = bench
        .principal("primary", only(is("kms:MultiRegionKeyType", "PRIMARY")))
        .await;
    let replica = bench
        .principal("replica", only(is("kms:MultiRegionKeyType", "REPLICA")))
        .await;
    for (user, expected) in [
        (&multi, [true, true, false]),
        (&primary, [true, false, false]),
        (&replica, [false, true, false]),
    ] {
        let keys = [(EAST, &id), (WEST, &id), (EAST, &ordinary)];
        for ((region, key), allowed) in keys.into_iter().zip(expected) {
            let body = json!({"KeyId": key});
            let answer = bench.call_as_in(user, region, "DescribeKey", body).await;
            assert_eq!(answer.is_ok(), allowed, "{} {region} {key}", user.arn);
        }
    }
    // Of a new key, too.
    let create = policy(&[allow(
        "kms:CreateKey",
        is("kms:MultiRegionKeyType", "PRIMARY"),
    )]);
    let user = bench.principal("creator", create).await;
    let why = not_allowed(&user, "CreateKey", "*", "identity");
    bench.denied(&user, "CreateKey", json!({}), &why.1).await;
    bench
        .done_as(&user, "CreateKey", json!({"MultiRegion": true}))
        .await;
}
