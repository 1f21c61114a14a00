use super::name::Naming;
use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/apps/App";

fn principal(arn: &str) -> Principal {
    Principal::new(arn, Vec::new()).unwrap()
}

fn name(text: &str) -> PrincipalName {
    text.parse().unwrap()
}

#[test]
fn a_principal_is_what_its_arn_says() {
    for (arn, kind, type_name) in [
        (
            "arn:aws:iam::111122223333:user/alice",
            PrincipalKind::User,
            "User",
        ),
        (ROLE, PrincipalKind::Role, "AssumedRole"),
        (
            "arn:aws-cn:sts::111122223333:federated-user/fred",
            PrincipalKind::FederatedUser,
            "FederatedUser",
        ),
        (
            "arn:aws:iam::111122223333:root",
            PrincipalKind::Root,
            "Account",
        ),
    ] {
        let principal = principal(arn);
        assert_eq!(principal.kind(), kind);
        assert_eq!(principal.arn, arn);
        assert_eq!(principal.account.as_str(), "111122223333");
        assert_eq!(principal.type_name(), Some(type_name));
    }
    assert_eq!(
        principal("arn:aws:iam::111122223333:user/a/b/alice").user_name(),
        Some("alice")
    );
    assert_eq!(principal(ROLE).user_name(), None);
    assert_eq!(
        principal("arn:aws:iam::111122223333:root").user_id(),
        Some("111122223333")
    );
    assert_eq!(
        principal("arn:aws:iam::111122223333:user/alice").user_id(),
        None
    );
}

#[test]
fn what_is_no_principal_is_refused() {
    let long = format!("arn:aws:iam::111122223333:user/{}", "x".repeat(65));
    for arn in [
        "",
        "alice",
        "*",
        "local:0",
        "111122223333",
        &long,
        "arn:aws:iam::111122223333:group/g",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:iam::111122223333:user",
        "arn:aws:iam::111122223333:user/*",
        "arn:aws:iam::111122223333:user/a?",
        "arn:aws:iam::111122223333:user//a",
        "arn:aws:iam::111122223333:user/a/",
        "arn:aws:iam::111122223333:user/a b",
        "arn:aws:iam::111122223333:user/${aws:username}",
        "arn:aws:iam::*:user/a",
        "arn:aws:iam::11112222333:user/a",
        "arn:aws:iam:us-east-1:111122223333:user/a",
        "arn:*:iam::111122223333:user/a",
        "arn::iam::111122223333:user/a",
        "arn:aws:sts::111122223333:user/a",
        "arn:aws:iam::111122223333:root/x",
        "arn:aws:iam::111122223333:*",
        "arn:aws:iam::111122223333:assumed-role/App/one",
        "arn:aws:sts::111122223333:assumed-role/App/one",
        "arn:aws:sts::111122223333:federated-user/a/b",
        "arn:aws:iam::111122223333:user/a:b",
        "arn:aws:iam::111122223333:oidc-provider/x",
    ] {
        assert!(Principal::new(arn, Vec::new()).is_err(), "{arn}");
    }
    for text in [
        "arn:aws:sts::111122223333:assumed-role/App/",
        "arn:aws:sts::111122223333:assumed-role/App/o/x",
        "arn:aws:sts::111122223333:assumed-role/App",
    ] {
        assert!(text.parse::<PrincipalName>().is_err(), "{text}");
    }
}

#[test]
fn a_session_is_its_roles_and_prints_as_sts_has_it() {
    let tags = vec![Tag {
        key: "team".into(),
        value: "blue".into(),
    }];
    let role = principal(ROLE)
        .with_unique_id("AROAEXAMPLE")
        .with_tags(tags);
    let session = role.session("one", Timestamp(5)).unwrap();
    assert_eq!(
        session.arn,
        "arn:aws:sts::111122223333:assumed-role/App/one"
    );
    assert_eq!(session.lasting_arn(), ROLE);
    assert_eq!(session.kind(), PrincipalKind::AssumedRole);
    assert_eq!(session.user_id(), Some("AROAEXAMPLE:one"));
    assert_eq!(session.user_name(), None);
    assert_eq!(session.token_issue_time(), Some(Timestamp(5)));
    assert_eq!(session.tags(), role.tags());
    for bad in ["", "x", "a/b", "a b", "*", &"x".repeat(65)] {
        assert!(role.session(bad, Timestamp(5)).is_err(), "{bad}");
    }
    assert!(
        principal("arn:aws:iam::111122223333:user/alice")
            .session("one", Timestamp(5))
            .is_err()
    );
    assert!(session.session("two", Timestamp(5)).is_err());
}

#[test]
fn names_cover_whom_they_name() {
    let role = principal(ROLE);
    let session = role.session("one", Timestamp(0)).unwrap();
    let other = principal("arn:aws:iam::111122223333:role/App")
        .session("one", Timestamp(0))
        .unwrap();
    let root = principal("arn:aws:iam::111122223333:root");
    let foreigner = principal("arn:aws:iam::444455556666:user/alice");
    let account = "arn:aws:iam::111122223333:root";
    let cases = [
        (ROLE, &role, Naming::Principal),
        (ROLE, &session, Naming::Role),
        // Another role, whose sessions look the same in the ARN of STS.
        (ROLE, &other, Naming::Not),
        (
            "arn:aws:sts::111122223333:assumed-role/App/one",
            &session,
            Naming::Principal,
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/App/two",
            &session,
            Naming::Not,
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/App/one",
            &role,
            Naming::Not,
        ),
        (
            "arn:aws:iam::111122223333:role/apps/app",
            &session,
            Naming::Not,
        ),
        (account, &session, Naming::Account),
        ("111122223333", &session, Naming::Account),
        (account, &root, Naming::Principal),
        (account, &foreigner, Naming::Not),
        ("444455556666", &foreigner, Naming::Account),
        (
            "arn:aws:iam::444455556666:user/alice",
            &foreigner,
            Naming::Principal,
        ),
        (
            "arn:aws:iam::111122223333:user/alice",
            &foreigner,
            Naming::Not,
        ),
    ];
    for (text, principal, naming) in cases {
        assert_eq!(
            name(text).names(principal),
            naming,
            "{text} {}",
            principal.arn
        );
    }
    let operator = Principal::operator(0, "111122223333".parse().unwrap());
    assert_eq!(name(account).names(&operator), Naming::Account);
}
