use super::*;
use crate::operation::Action;
use crate::policy::tests::{draft, grant, user};
use proptest::prelude::*;
use std::sync::Arc;

mod found;
mod services;

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const ROLE: &str = "arn:aws:iam::111122223333:role/App";
const ROOT: &str = "arn:aws:iam::111122223333:root";

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_pairs(pairs.iter().copied()).unwrap()
}

/// The account of the key.
fn owner() -> AccountId {
    "111122223333".parse().unwrap()
}

fn allowed(
    grants: &KeyGrants,
    principal: &Principal,
    action: Action,
) -> Option<(GrantId, GrantAnswer)> {
    grants.allow(&GrantAsk {
        principal,
        owner: owner(),
        action,
        context: None,
        new: None,
        role_counts: true,
        steps: &Steps::unbounded(),
    })
}

fn refusal(draft: Draft<'_>) -> InvalidGrant {
    GrantParameters::check(draft).expect_err("must be refused")
}

#[test]
fn a_draft_is_refused_for_each_reason() {
    let good = draft(ALICE, &["Decrypt", "CreateGrant"]);
    assert!(GrantParameters::check(good).is_ok());
    for bad in [
        "",
        "*",
        "alice",
        "111122223333",
        "local:0",
        "arn:aws:iam::111122223333:group/g",
        "kms.amazonaws.com",
    ] {
        assert_eq!(
            refusal(Draft {
                grantee: Named::Principal(bad),
                ..good
            }),
            InvalidGrant::Grantee,
            "{bad}"
        );
        let retired = Draft {
            retiring_principal: Some(Named::Principal(bad)),
            ..good
        };
        assert_eq!(refusal(retired), InvalidGrant::RetiringPrincipal, "{bad}");
    }
    assert_eq!(refusal(draft(ALICE, &[])), InvalidGrant::NoOperation);
    let only = refusal(draft(ALICE, &["CreateGrant"]));
    assert_eq!(
        only.to_string(),
        "Grants must not contain only the CreateGrant operation."
    );
    let of_key = |draft: Draft<'_>, spec: &str, usage: &str| {
        let (spec, usage) = (spec.parse().unwrap(), usage.parse().unwrap());
        let parameters = GrantParameters::check(draft).unwrap();
        parameters.check_key(spec, usage)
    };
    let both = draft(ALICE, &["Decrypt", "Sign"]);
    let symmetric = ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT");
    let refused = of_key(both, symmetric.0, symmetric.1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Operations [Sign] are not supported when creating a grant for a symmetric KMS key with key usage ENCRYPT_DECRYPT. Valid operations are \
         [Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, CreateGrant, RetireGrant, DescribeKey, \
         GenerateDataKeyPair, GenerateDataKeyPairWithoutPlaintext]"
    );
    // As measured on AWS, September 2026.
    let refused = of_key(
        draft(ALICE, &["Encrypt"]),
        "HMAC_224",
        "GENERATE_VERIFY_MAC",
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Operations [Encrypt] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. Valid operations \
         are [CreateGrant, RetireGrant, DescribeKey, GenerateMac, VerifyMac]"
    );
    let refused = of_key(both, "RSA_2048", "SIGN_VERIFY").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Operations [Decrypt] are not supported when creating a grant for an asymmetric KMS key with key usage SIGN_VERIFY. Valid operations are \
         [Sign, Verify, GetPublicKey, CreateGrant, RetireGrant, DescribeKey]"
    );
    let signing = draft(ALICE, &["Sign", "GetPublicKey"]);
    assert_eq!(of_key(signing, "RSA_2048", "SIGN_VERIFY"), Ok(()));
    let (none, one) = (context(&[]), context(&[("a", "1")]));
    let constrained = Draft {
        subset: Some(&one),
        ..signing
    };
    let refused = of_key(constrained, "RSA_2048", "SIGN_VERIFY");
    assert_eq!(refused, Err(InvalidGrant::ConstraintWithoutContext));
    assert_eq!(
        InvalidGrant::ConstraintWithoutContext.to_string(),
        "EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key."
    );
    let both = refusal(Draft {
        equals: Some(&one),
        subset: Some(&one),
        ..good
    });
    assert_eq!(both.to_string(), "More than one constraint supplied");
    // An empty map beside a full one is as good as none.
    let of = |equals, subset| {
        let draft = Draft {
            equals,
            subset,
            ..good
        };
        GrantParameters::check(draft).unwrap().constraint().cloned()
    };
    let full = GrantConstraint::Equals(one.clone());
    assert_eq!(of(Some(&one), Some(&none)), Some(full));
    let full = GrantConstraint::Subset(one.clone());
    assert_eq!(of(Some(&none), Some(&one)), Some(full));
    let empty = GrantConstraint::Equals(none.clone());
    assert_eq!(of(Some(&none), Some(&none)), Some(empty.clone()));
    assert_eq!(of(Some(&none), None), Some(empty));
    let any = GrantConstraint::Subset(none.clone());
    assert_eq!(of(None, Some(&none)), Some(any));
    assert_eq!(of(None, None), None);
    let names: Vec<_> = (0..9).map(|at| (at.to_string(), "")).collect();
    let many = EncryptionContext::from_pairs(names.clone()).unwrap();
    assert_eq!(
        refusal(Draft {
            subset: Some(&many),
            ..good
        }),
        InvalidGrant::Pairs
    );
    let eight = EncryptionContext::from_pairs(names[..8].to_vec()).unwrap();
    assert!(
        GrantParameters::check(Draft {
            subset: Some(&eight),
            ..good
        })
        .is_ok()
    );
    for (length, fits) in [(384, true), (385, false)] {
        let long = "é".repeat(length);
        let long = context(&[("a", &long)]);
        assert_eq!(
            GrantParameters::check(Draft {
                equals: Some(&long),
                ..good
            })
            .is_ok(),
            fits
        );
    }
    let folded = context(&[("a", "1"), ("A", "1")]);
    assert_eq!(
        refusal(Draft {
            equals: Some(&folded),
            ..good
        }),
        InvalidGrant::Names
    );
}

#[test]
fn constraints_fold_the_case_of_names_and_not_of_values() {
    let subset = GrantConstraint::Subset(context(&[("Tenant", "a"), ("stage", "x")]));
    let equals = GrantConstraint::Equals(context(&[("Tenant", "a"), ("stage", "x")]));
    for (pairs, of_subset, of_equals) in [
        (vec![("Tenant", "a"), ("stage", "x")], true, true),
        (vec![("tenant", "a"), ("STAGE", "x")], true, true),
        (vec![("Tenant", "A"), ("stage", "x")], false, false),
        (
            vec![("Tenant", "a"), ("stage", "x"), ("more", "")],
            true,
            false,
        ),
        (vec![("Tenant", "a")], false, false),
        (vec![], false, false),
        // Every value under the name must be the constraint's.
        (
            vec![("Tenant", "a"), ("tenant", "b"), ("stage", "x")],
            false,
            false,
        ),
        (
            vec![("Tenant", "a"), ("tenant", "a"), ("stage", "x")],
            true,
            false,
        ),
        (vec![("Tenant", "x"), ("stage", "a")], false, false),
    ] {
        let context = context(&pairs);
        assert_eq!(subset.holds(&context), of_subset, "{pairs:?}");
        assert_eq!(equals.holds(&context), of_equals, "{pairs:?}");
    }
    let (nothing, something) = (context(&[]), context(&[("a", "1")]));
    assert!(GrantConstraint::Subset(nothing.clone()).holds(&something));
    assert!(!GrantConstraint::Equals(nothing.clone()).holds(&something));
    assert!(GrantConstraint::Equals(nothing.clone()).holds(&nothing));
}

#[test]
fn a_grant_lets_its_grantee_do_what_it_says() {
    let pairs = context(&[("a", "1")]);
    let parameters = Draft {
        subset: Some(&pairs),
        ..draft(ALICE, &["Decrypt", "DescribeKey"])
    };
    let granted = grant(1, GrantParameters::check(parameters).unwrap());
    let (alice, bob) = (user("alice", &[]), user("bob", &[]));
    let allows =
        |who: &Principal, operation, context| granted.allows(who, owner(), operation, context);
    assert_eq!(
        allows(&alice, Action::Decrypt, Some(&pairs)),
        GrantAnswer::Yes
    );
    assert_eq!(allows(&alice, Action::Decrypt, None), GrantAnswer::No);
    assert_eq!(allows(&alice, Action::DescribeKey, None), GrantAnswer::Yes);
    assert_eq!(
        allows(&alice, Action::Encrypt, Some(&pairs)),
        GrantAnswer::No
    );
    assert_eq!(allows(&bob, Action::Decrypt, Some(&pairs)), GrantAnswer::No);
    let to_account = grant(
        2,
        GrantParameters::check(draft(ROOT, &["Decrypt"])).unwrap(),
    );
    assert_eq!(
        to_account.allows(&bob, owner(), Action::Decrypt, None),
        GrantAnswer::WithIdentityPolicy
    );
    let to_role = grant(
        3,
        GrantParameters::check(draft(ROLE, &["Decrypt"])).unwrap(),
    );
    let session = Principal::new(ROLE, Vec::new())
        .unwrap()
        .session("one", Timestamp(0))
        .unwrap();
    assert_eq!(
        to_role.allows(&session, owner(), Action::Decrypt, None),
        GrantAnswer::Yes
    );
}

#[test]
fn who_may_retire_a_grant() {
    let of = |operations: &[&str], retiring: Option<&str>| {
        let parameters = Draft {
            retiring_principal: retiring.map(Named::Principal),
            ..draft(ALICE, operations)
        };
        grant(1, GrantParameters::check(parameters).unwrap())
    };
    let bob = "arn:aws:iam::111122223333:user/bob";
    let carol = Principal::new("arn:aws:iam::444455556666:user/carol", Vec::new()).unwrap();
    let root = Principal::new(ROOT, Vec::new()).unwrap();
    for (granted, who, answer) in [
        (
            of(&["Decrypt"], Some(bob)),
            &*user("bob", &[]),
            GrantAnswer::Yes,
        ),
        // Of another account than the key's and the grant's.
        (
            of(&["Decrypt"], Some(&carol.arn)),
            &carol,
            GrantAnswer::WithIdentityPolicy,
        ),
        (
            of(&["Decrypt"], Some("arn:aws:iam::444455556666:root")),
            &carol,
            GrantAnswer::WithIdentityPolicy,
        ),
        (of(&["Decrypt"], None), &carol, GrantAnswer::No),
        // The caller's account made it.
        (
            of(&["Decrypt"], None),
            &*user("alice", &[]),
            GrantAnswer::WithIdentityPolicy,
        ),
        (
            of(&["Decrypt", "RetireGrant"], None),
            &*user("alice", &[]),
            GrantAnswer::Yes,
        ),
        (of(&["Decrypt"], None), &root, GrantAnswer::Yes),
    ] {
        assert_eq!(
            granted.is_retired_by(who, owner()),
            answer,
            "{} {granted:?}",
            who.arn
        );
    }
}

#[test]
fn a_grant_made_from_a_grant_gives_no_more() {
    let (one, two) = (context(&[("a", "1")]), context(&[("A", "1"), ("b", "2")]));
    let of = |operations: &[&str], equals, subset| {
        GrantParameters::check(Draft {
            equals,
            subset,
            ..draft(ALICE, operations)
        })
        .unwrap()
    };
    let free = of(&["Decrypt", "Encrypt", "CreateGrant"], None, None);
    let within = of(&["Decrypt", "Encrypt", "CreateGrant"], None, Some(&one));
    let exact = of(&["Decrypt", "Encrypt", "CreateGrant"], Some(&one), None);
    for (child, parent, fits) in [
        (of(&["Decrypt"], None, None), &free, true),
        (of(&["Decrypt", "CreateGrant"], None, None), &free, true),
        (of(&["Decrypt", "DescribeKey"], None, None), &free, false),
        (of(&["Decrypt"], None, None), &within, false),
        (of(&["Decrypt"], None, Some(&one)), &within, true),
        (of(&["Decrypt"], None, Some(&two)), &within, true),
        (of(&["Decrypt"], Some(&two), None), &within, true),
        (
            of(&["Decrypt"], None, Some(&context(&[("b", "2")]))),
            &within,
            false,
        ),
        (
            of(&["Decrypt"], None, Some(&context(&[("a", "2")]))),
            &within,
            false,
        ),
        (of(&["Decrypt"], Some(&one), None), &exact, true),
        (of(&["Decrypt"], Some(&two), None), &exact, false),
        (of(&["Decrypt"], None, Some(&one)), &exact, false),
        (of(&["Decrypt"], None, None), &exact, false),
    ] {
        assert_eq!(
            child.check_within(parent).is_ok(),
            fits,
            "{child:?} of {parent:?}"
        );
    }
}

#[test]
fn grants_of_a_key_are_found_by_whom_they_let() {
    let mut grants = KeyGrants::default();
    let put = |grants: &mut KeyGrants, number, grantee: &str, operations: &[&str]| {
        let parameters = GrantParameters::check(draft(grantee, operations)).unwrap();
        grants.put(Arc::new(grant(number, parameters)));
    };
    put(&mut grants, 1, ALICE, &["Encrypt"]);
    put(&mut grants, 2, ALICE, &["Decrypt"]);
    put(&mut grants, 3, ROOT, &["Decrypt"]);
    put(&mut grants, 4, ROLE, &["Decrypt"]);
    let (alice, bob) = (user("alice", &[]), user("bob", &[]));
    let session = Principal::new(ROLE, Vec::new())
        .unwrap()
        .session("one", Timestamp(0))
        .unwrap();
    let allow = |grants: &KeyGrants, who: &Principal| allowed(grants, who, Action::Decrypt);
    assert_eq!(
        allow(&grants, &alice),
        Some((GrantId([2; 32]), GrantAnswer::Yes))
    );
    assert_eq!(
        allow(&grants, &bob),
        Some((GrantId([3; 32]), GrantAnswer::WithIdentityPolicy))
    );
    assert_eq!(
        allow(&grants, &session),
        Some((GrantId([4; 32]), GrantAnswer::Yes))
    );
    assert!(grants.remove(GrantId([2; 32])).is_some());
    assert!(grants.remove(GrantId([2; 32])).is_none());
    assert_eq!(
        allow(&grants, &alice),
        Some((GrantId([3; 32]), GrantAnswer::WithIdentityPolicy))
    );
    assert!(grants.remove(GrantId([3; 32])).is_some());
    assert_eq!(allow(&grants, &alice), None);
    let ids: Vec<_> = grants
        .listed(None, None, Some(GrantId([1; 32])))
        .map(|grant| grant.id.0[0])
        .collect();
    assert_eq!((ids, grants.len()), (vec![4], 2));
    // Put again under its id: the old one is gone.
    put(&mut grants, 1, ALICE, &["DescribeKey"]);
    assert_eq!(
        (grants.len(), allowed(&grants, &alice, Action::Encrypt)),
        (2, None)
    );
}

#[test]
fn a_named_grant_is_found_by_the_same_parameters() {
    let name: GrantName = "mine".parse().unwrap();
    let of = |operations: &[&str], name| {
        GrantParameters::check(Draft {
            name,
            ..draft(ALICE, operations)
        })
        .unwrap()
    };
    let mut grants = KeyGrants::default();
    grants.put(Arc::new(grant(1, of(&["Decrypt"], Some(&name)))));
    grants.put(Arc::new(grant(2, of(&["Decrypt"], None))));
    let account = "111122223333".parse().unwrap();
    let same =
        |parameters: GrantParameters| grants.same(&parameters, account).map(|grant| grant.id.0[0]);
    assert_eq!(same(of(&["Decrypt"], Some(&name))), Some(1));
    assert_eq!(same(of(&["Decrypt", "Encrypt"], Some(&name))), None);
    assert_eq!(
        same(of(&["Decrypt"], None)),
        None,
        "without a name each is new"
    );
    assert!(
        grants
            .same(
                &of(&["Decrypt"], Some(&name)),
                "444455556666".parse().unwrap()
            )
            .is_none()
    );
}

#[test]
fn ids_names_and_tokens_are_bounded() {
    let id = GrantId([0x1f; 32]);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!("1F".repeat(32).parse(), Ok(id));
    for text in [
        "",
        &"1f".repeat(31),
        &"1f".repeat(33),
        &"+f".repeat(32),
        &"xf".repeat(32),
        &"é".repeat(32),
    ] {
        assert_eq!(text.parse::<GrantId>(), Err(InvalidGrantId), "{text}");
    }
    for text in ["", "a b", "é", &"x".repeat(257)] {
        assert!(text.parse::<GrantName>().is_err(), "{text}");
    }
    assert!("x".repeat(8193).parse::<GrantToken>().is_err() && "".parse::<GrantToken>().is_err());
    let token: GrantToken = "secret".parse().unwrap();
    assert_eq!(
        (token.as_str(), format!("{token:?}")),
        ("secret", "GrantToken(…)".to_owned())
    );
}

proptest! {
    #[test]
    fn what_a_child_lets_its_parent_lets(
        (child, parent) in (pairs(), pairs()),
        child_equals: bool,
        parent_equals: bool,
        request in pairs(),
    ) {
        let of = |equals, pairs: &[(String, String)]| {
            let pairs = EncryptionContext::from_pairs(pairs.to_vec()).ok()?;
            Some(if equals { GrantConstraint::Equals(pairs) } else { GrantConstraint::Subset(pairs) })
        };
        let (Some(child), Some(parent)) = (of(child_equals, &child), of(parent_equals, &parent)) else {
            return Ok(());
        };
        let Ok(request) = EncryptionContext::from_pairs(request) else {
            return Ok(());
        };
        if child.check().is_ok() && parent.check().is_ok() && child.is_as_strict_as(&parent) && child.holds(&request) {
            prop_assert!(parent.holds(&request), "{child:?} {parent:?} {request:?}");
        }
    }
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[abAB]", "[xX]"), 0..4)
}
