//! Grants to services of AWS, bound to a source, and to principals of other accounts.

use super::*;

#[test]
fn a_principal_of_another_account_needs_its_own_policies_too() {
    let carol = Principal::new("arn:aws:iam::444455556666:user/carol", Vec::new()).unwrap();
    let parameters = GrantParameters::check(draft(&carol.arn, &["Decrypt"])).unwrap();
    let by_owner = grant(1, parameters);
    let by_its_own = Grant {
        issuing_account: carol.account,
        ..by_owner.clone()
    };
    let by_a_third = Grant {
        issuing_account: "999999999999".parse().unwrap(),
        ..by_owner.clone()
    };
    for (granted, answer) in [
        (by_owner, GrantAnswer::WithIdentityPolicy),
        (by_its_own, GrantAnswer::Yes),
        (by_a_third, GrantAnswer::WithIdentityPolicy),
    ] {
        let given = granted.allows(&carol, owner(), Action::Decrypt, None);
        assert_eq!(given, answer, "{granted:?}");
    }
}

const SERVICE: Named<'_> = Named::Service("rds.amazonaws.com");

#[test]
fn a_grant_for_a_service_has_a_source_and_a_retiring_principal_and_allows_nobody() {
    let source: SourceArn = "arn:aws:rds:us-east-1:111122223333:db:one".parse().unwrap();
    let good = Draft {
        grantee: SERVICE,
        retiring_principal: Some(SERVICE),
        source_arn: Some(&source),
        ..draft(ALICE, &["Decrypt", "RetireGrant"])
    };
    let granted = grant(1, GrantParameters::check(good).unwrap());
    assert_eq!(
        granted.parameters.grantee().service(),
        Some("rds.amazonaws.com")
    );
    let alice = user("alice", &[]);
    for action in [Action::Decrypt, Action::RetireGrant] {
        assert_eq!(
            granted.allows(&alice, owner(), action, None),
            GrantAnswer::No
        );
    }
    // The account that made it may retire it.
    let answer = granted.is_retired_by(&alice, owner());
    assert_eq!(answer, GrantAnswer::WithIdentityPolicy);
    for retiring in [Some(Named::Principal(ALICE)), Some(SERVICE)] {
        let drafted = Draft {
            retiring_principal: retiring,
            ..good
        };
        assert!(GrantParameters::check(drafted).is_ok());
    }
    let unbound = Draft {
        source_arn: None,
        ..good
    };
    assert_eq!(refusal(unbound), InvalidGrant::ServiceWithoutSourceArn);
    let lasting = Draft {
        retiring_principal: None,
        ..good
    };
    assert_eq!(
        refusal(lasting),
        InvalidGrant::ServiceWithoutRetiringPrincipal
    );
    for bad in [
        "rds",
        "rds.amazonaws",
        "a..b.c",
        "a.b.",
        "a b.c.d",
        "é.b.c",
        ALICE,
        "",
    ] {
        let grantee = Named::Service(bad);
        assert_eq!(
            refusal(Draft { grantee, ..good }),
            InvalidGrant::Grantee,
            "{bad}"
        );
    }
    let long = format!("{}.b.c", "x".repeat(125));
    assert!(long.parse::<ServicePrincipal>().is_err());
}

#[test]
fn a_grant_bound_to_a_source_allows_only_its_retirement() {
    let source: SourceArn = "arn:aws:rds:us-east-1:111122223333:db:one".parse().unwrap();
    let operations = ["Decrypt", "DescribeKey", "CreateGrant", "RetireGrant"];
    let bound = Draft {
        source_arn: Some(&source),
        ..draft(ALICE, &operations)
    };
    let bound = GrantParameters::check(bound).unwrap();
    let free = GrantParameters::check(draft(ALICE, &operations)).unwrap();
    assert!(bound.check_within(&free).is_ok() && bound.check_within(&bound).is_ok());
    assert_eq!(free.check_within(&bound), Err(InvalidGrant::MoreThanParent));
    let granted = grant(1, bound);
    let alice = user("alice", &[]);
    for (action, answer) in [
        (Action::Decrypt, GrantAnswer::No),
        (Action::DescribeKey, GrantAnswer::No),
        (Action::CreateGrant, GrantAnswer::No),
        (Action::RetireGrant, GrantAnswer::Yes),
    ] {
        assert_eq!(
            granted.allows(&alice, owner(), action, None),
            answer,
            "{action:?}"
        );
    }
    for bad in [
        "arn:aws:s3:::bucket-of-mine",
        "arn:aws:rds:us-east-1:111122223333:",
        "arn:aws:rds:us-east-1:11112222333x:db:one",
        "arn:AWS:rds:us-east-1:111122223333:db:one",
        "arn:aws:rds:US-EAST-1:111122223333:db:one",
        "arn:aws::us-east-1:111122223333:db:one",
        "arn:aws:a::1:x",
        "",
    ] {
        assert!(bad.parse::<SourceArn>().is_err(), "{bad}");
    }
    let long = format!("arn:aws:rds:us-east-1:111122223333:{}", "x".repeat(478));
    assert!(long.parse::<SourceArn>().is_err() && long[..512].parse::<SourceArn>().is_ok());
}
