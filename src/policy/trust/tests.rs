use super::*;

const ISSUER: &str = "issuer.example/id/42";

fn allow(principal: &str, rest: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},{rest}}}]}}"#
    )
}

fn federated(condition: &str) -> String {
    let principal =
        format!(r#"{{"Federated":"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"}}"#);
    let rest = format!(r#""Action":"sts:AssumeRoleWithWebIdentity","Condition":{condition}"#);
    allow(&principal, &rest)
}

#[test]
fn a_policy_of_the_manuals_is_one() {
    let policy = federated(&format!(
        r#"{{"StringEquals":{{"{ISSUER}:aud":"sts.amazonaws.com","{ISSUER}:sub":"system:serviceaccount:payments:minter"}}}}"#
    ));
    let parsed = TrustPolicy::parse(&policy).unwrap();
    assert_eq!(parsed.source(), policy);
    let providers: Vec<_> = parsed.providers().collect();
    assert_eq!(
        providers,
        [format!("arn:aws:iam::111122223333:oidc-provider/{ISSUER}")]
    );
    assert_eq!(parsed.issuers().collect::<Vec<_>>(), [ISSUER, ISSUER]);
    for action in [
        "sts:AssumeRole",
        "sts:*",
        "STS:assumerole",
        "sts:TagSession",
        "sts:SetContext",
    ] {
        let rest = format!(r#""Action":"{action}""#);
        let policy = allow(r#"{"AWS":"111122223333"}"#, &rest);
        assert!(TrustPolicy::parse(&policy).is_ok(), "{action}");
    }
}

#[test]
fn what_is_no_trust_policy_is_refused_with_its_place() {
    let user = r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#;
    let assume = r#""Action":"sts:AssumeRole""#;
    let equals = |key: &str| {
        let rest = format!(r#"{assume},"Condition":{{"StringEquals":{{"{key}":"x"}}}}"#);
        allow(user, &rest)
    };
    for (policy, reason) in [
        (
            allow(user, r#""Action":"kms:Decrypt""#),
            "Statement 1: AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            allow(user, r#""Action":"*""#).replace("\"*\"", "\"s3:*\""),
            "Statement 1: AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            allow(user, r#""NotAction":"sts:AssumeRole""#),
            "Statement 1: NotAction is not supported in trust policies: name the actions",
        ),
        (
            allow(user, &format!(r#"{assume},"Resource":"*""#)),
            "Statement 1: Resource is not supported in trust policies: they speak of their role",
        ),
        (
            allow(user, assume).replace("Principal", "NotPrincipal"),
            "Statement 1: NotPrincipal is not supported: name the principals",
        ),
        (
            format!(r#"{{"Statement":{{"Effect":"Allow",{assume}}}}}"#),
            "Statement 1: Principal: missing",
        ),
        (
            equals("sts:DurationSeconds"),
            "Statement 1: Condition: StringEquals: sts:DurationSeconds: unknown condition key \"sts:DurationSeconds\"",
        ),
        (
            allow(r#"{"Federated":"*"}"#, assume),
            "Statement 1: Principal: Federated: \"*\" names no service or identity provider",
        ),
        (
            allow(r#"{"Federated":"accounts.google.com"}"#, assume),
            "Statement 1: Principal: Federated: only arn:aws:iam::<account>:oidc-provider/<issuer> can let anybody in",
        ),
    ] {
        let error = TrustPolicy::parse(&policy)
            .err()
            .map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(reason), "{policy}");
    }
    let long = " ".repeat(TrustPolicy::BYTES_MAX) + &allow(user, assume);
    let error = TrustPolicy::parse(&long).err().unwrap().to_string();
    let length = long.len();
    assert_eq!(
        error,
        format!("a policy has at most 4096 bytes, this one {length}")
    );
}

#[test]
fn auth_1_an_allow_for_a_provider_says_whom_it_means() {
    let needs = format!(
        "Statement 1: Condition: an allow for {ISSUER} needs a condition on {ISSUER}:sub, or on another claim that says who the caller is"
    );
    for condition in [
        "{}".to_owned(),
        format!(r#"{{"StringEquals":{{"{ISSUER}:aud":"sts.amazonaws.com"}}}}"#),
        format!(r#"{{"StringEquals":{{"{ISSUER}:AUD":"sts.amazonaws.com"}}}}"#),
        format!(r#"{{"StringEquals":{{"{ISSUER}:iss":"https://{ISSUER}"}}}}"#),
        format!(r#"{{"NumericGreaterThan":{{"{ISSUER}:exp":"0"}}}}"#),
        format!(r#"{{"StringNotEquals":{{"{ISSUER}:sub":"x"}}}}"#),
        format!(r#"{{"StringEqualsIfExists":{{"{ISSUER}:sub":"x"}}}}"#),
        r#"{"StringEquals":{"another.example:sub":"x"}}"#.to_owned(),
        format!(r#"{{"Null":{{"{ISSUER}:sub":"false"}}}}"#),
    ] {
        let error = TrustPolicy::parse(&federated(&condition)).err();
        assert_eq!(
            error.map(|error| error.to_string()).as_ref(),
            Some(&needs),
            "{condition}"
        );
    }
    let condition = format!(r#"{{"ForAllValues:StringEquals":{{"{ISSUER}:sub":"x"}}}}"#);
    let error = TrustPolicy::parse(&federated(&condition)).err().unwrap();
    let reason =
        "ForAllValues holds for a token without the claim: leave it out, or take ForAnyValue";
    assert!(error.to_string().ends_with(reason), "{error}");
    for condition in [
        format!(r#"{{"StringLike":{{"{ISSUER}:sub":"system:serviceaccount:payments:*"}}}}"#),
        format!(r#"{{"StringEquals":{{"{ISSUER}:repository_id":"42"}}}}"#),
        format!(r#"{{"ForAnyValue:StringEquals":{{"{ISSUER}:amr":"mfa"}}}}"#),
    ] {
        assert!(
            TrustPolicy::parse(&federated(&condition)).is_ok(),
            "{condition}"
        );
    }
    // A deny may be as wide as it likes.
    let deny = federated("{}").replace("Allow", "Deny");
    assert!(TrustPolicy::parse(&deny).is_ok());
}
