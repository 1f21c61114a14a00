//! What `ListGrants` and `ListRetirableGrants` show, and in which order.

use super::*;

#[tokio::test]
async fn a_grant_is_listed_as_it_was_made_and_its_token_never() {
    let bench = Bench::new().await;
    let id = closed_key(&bench).await;
    let (alice, bob) = (bench.powerless("alice").await, bench.powerless("bob").await);
    let plain = bench
        .done("CreateGrant", grant(&id, &alice, &["Decrypt"]))
        .await;
    let ids = |made: &Value| {
        let id = made["GrantId"].as_str().unwrap().to_owned();
        assert!(
            id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
        assert_eq!(made["GrantToken"].as_str().unwrap().len(), 132);
        assert_eq!(made.as_object().unwrap().len(), 2);
        id
    };
    let full = json!({
        "KeyId": key_arn(&id), "GranteePrincipal": bob.arn, "RetiringPrincipal": root_of(ACCOUNT), "Operations": ["RetireGrant", "Encrypt", "Encrypt"],
        "Constraints": {"EncryptionContextSubset": {"te\"nant": "Zoë \"a\"", "b": ""}}, "Name": "a/name:1",
    });
    let full = bench.done("CreateGrant", full).await;
    let listed = bench.done_to("ListGrants", &id).await;
    let base = |grant_id: String| json!({"KeyId": key_arn(&id), "GrantId": grant_id, "CreationDate": 1_700_000_000.123, "IssuingAccount": root_of(ACCOUNT)});
    let mut expected = vec![base(ids(&plain)), base(ids(&full))];
    for (member, value) in [
        ("Name", json!("")),
        ("GranteePrincipal", json!(alice.arn)),
        ("Operations", json!(["Decrypt"])),
    ] {
        expected[0][member] = value;
    }
    for (member, value) in [
        ("Name", json!("a/name:1")),
        ("GranteePrincipal", json!(bob.arn)),
        ("RetiringPrincipal", json!(root_of(ACCOUNT))),
        ("Operations", json!(["Encrypt", "RetireGrant"])),
        (
            "Constraints",
            json!({"EncryptionContextSubset": {"te\"nant": "Zoë \"a\"", "b": ""}}),
        ),
    ] {
        expected[1][member] = value;
    }
    expected.sort_by_key(|grant| grant["GrantId"].as_str().unwrap().to_owned());
    assert_eq!(listed, json!({"Grants": expected, "Truncated": false}));
}

#[tokio::test]
async fn listings_are_filtered_and_go_on_where_they_were() {
    let bench = Bench::new().await;
    let (id, other) = (closed_key(&bench).await, closed_key(&bench).await);
    let (alice, bob) = (bench.powerless("alice").await, bench.powerless("bob").await);
    let mut made = Vec::new();
    for (key, grantee, retiring) in [
        (&id, &alice, &bob),
        (&id, &bob, &bob),
        (&id, &alice, &bob),
        (&other, &alice, &bob),
        (&other, &alice, &alice),
    ] {
        let body = with(
            grant(key, grantee, &["Decrypt"]),
            "RetiringPrincipal",
            json!(retiring.arn),
        );
        made.push(bench.done("CreateGrant", body).await["GrantId"].clone());
    }
    let ids = |listed: &Value| -> Vec<Value> {
        let grants = listed["Grants"].as_array().unwrap().iter();
        grants.map(|grant| grant["GrantId"].clone()).collect()
    };
    let sorted = |places: &[usize]| {
        let mut ids: Vec<_> = places.iter().map(|at| made[*at].clone()).collect();
        ids.sort_by_key(|id| id.as_str().unwrap().to_owned());
        ids
    };
    for (name, body, expected) in [
        ("ListGrants", json!({"KeyId": id}), vec![0, 1, 2]),
        (
            "ListGrants",
            json!({"KeyId": id, "GranteePrincipal": alice.arn}),
            vec![0, 2],
        ),
        (
            "ListGrants",
            json!({"KeyId": id, "GrantId": made[1]}),
            vec![1],
        ),
        (
            "ListGrants",
            json!({"KeyId": id, "GrantId": made[1], "GranteePrincipal": alice.arn}),
            vec![],
        ),
        (
            "ListGrants",
            json!({"KeyId": id, "GrantId": made[3]}),
            vec![],
        ),
        ("ListGrants", json!({"KeyId": other}), vec![3, 4]),
        (
            "ListRetirableGrants",
            json!({"RetiringPrincipal": bob.arn}),
            vec![0, 1, 2, 3],
        ),
        (
            "ListRetirableGrants",
            json!({"RetiringPrincipal": alice.arn}),
            vec![4],
        ),
        (
            "ListRetirableGrants",
            json!({"RetiringPrincipal": root_of(ACCOUNT)}),
            vec![],
        ),
    ] {
        let whole = bench.done(name, body.clone()).await;
        let mut found = ids(&whole);
        found.sort_by_key(|id| id.as_str().unwrap().to_owned());
        assert_eq!(found, sorted(&expected), "{name} {body}");
        // In pages of one: the same grants in the same order.
        let (mut paged, mut body) = (Vec::new(), with(body, "Limit", json!(1)));
        loop {
            let page = bench.done(name, body.clone()).await;
            paged.extend(page["Grants"].as_array().unwrap().clone());
            if page["Truncated"] == false {
                assert!(page.get("NextMarker").is_none());
                break;
            }
            body["Marker"] = page["NextMarker"].clone();
        }
        assert_eq!(json!(paged), whole["Grants"], "{name}");
        // A marker of one listing is none of another.
        if let Some(marker) = body.get("Marker") {
            let mut foreign =
                json!({"KeyId": other, "RetiringPrincipal": alice.arn, "Marker": marker});
            foreign["GranteePrincipal"] = json!(bob.arn);
            bench
                .refused(name, foreign, Code::InvalidMarkerException, "")
                .await;
        }
    }
    let long = json!({"KeyId": id, "GrantId": "x".repeat(128)});
    bench
        .refused("ListGrants", long, Code::InvalidGrantIdException, "")
        .await;
    for (name, body) in [
        ("ListGrants", json!({"KeyId": id, "Limit": 101})),
        (
            "ListRetirableGrants",
            json!({"RetiringPrincipal": bob.arn, "Limit": 101}),
        ),
    ] {
        let message = "1 validation error detected: Value '101' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 100";
        bench.invalid(name, body, message).await;
    }
    for name in ["alice", &format!("arn:aws:iam::{OTHER}:user/alice")] {
        let message = format!("ARN does not refer to a valid principal: {name}");
        let body = json!({"RetiringPrincipal": name});
        bench
            .refused(
                "ListRetirableGrants",
                body,
                Code::InvalidArnException,
                &message,
            )
            .await;
    }
    let denied = bench
        .call_as(
            &alice,
            "ListRetirableGrants",
            json!({"RetiringPrincipal": alice.arn}),
        )
        .await;
    assert_eq!(
        denied,
        Err(not_allowed(&alice, "ListRetirableGrants", "*", "identity"))
    );
    let denied = bench
        .call_as(&alice, "ListGrants", json!({"KeyId": id}))
        .await;
    assert_eq!(
        denied,
        Err(not_allowed(&alice, "ListGrants", &key_arn(&id), "identity"))
    );
}
