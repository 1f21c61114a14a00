//! What cannot be, and in which words it is refused.

use super::*;

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    let bench = Bench::new().await;
    bench
        .administered("CreatePrincipal", json!({"Name": "taken"}))
        .await;
    let one = "1 validation error detected: ";
    let enumeration = |value: &str, member: &str, set: &str| {
        format!(
            "{one}Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy enum value set: [{set}]"
        )
    };
    let name = format!(
        "{one}Value 'a/b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[\\w+=,.@-]+$"
    );
    let null = |member: &str| {
        format!(
            "{one}Value null at '{member}' failed to satisfy constraint: Member must not be null"
        )
    };
    let taken = format!("Principal {} already exists", arn(ACCOUNT, "user/taken"));
    let no_arn = |text: &str| {
        format!("ARN '{text}' is not that of a user, a role (without a path) or an account's root")
    };
    let root = "The root of an account has neither policies nor tags.";
    let tag = |key: &str| json!({"Key": key, "Value": "v"});
    let foreign = [
        "arn:aws-cn:iam::111122223333:user/a",
        "arn:aws:iam::111122223333:user/a/b",
        "arn:aws:iam::111122223333:group/a",
        "arn:aws:sts::111122223333:assumed-role/a/bc",
        "arn:aws:iam::1:user/a",
        "arn:",
    ];
    let mut cases = vec![
        (
            "CreatePrincipal",
            json!({"Name": "taken"}),
            Code::AlreadyExistsException,
            taken,
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a/b"}),
            Code::ValidationException,
            name,
        ),
        (
            "CreatePrincipal",
            json!({}),
            Code::ValidationException,
            null("name"),
        ),
        (
            "CreatePrincipal",
            json!({"Kind": "role"}),
            Code::ValidationException,
            null("name"),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Kind": "group"}),
            Code::ValidationException,
            enumeration("group", "kind", "user, role, root"),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Account": "1"}),
            Code::ValidationException,
            format!(
                "{one}Value '1' at 'account' failed to satisfy constraint: Member must have 12 digits"
            ),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "root", "Kind": "root"}),
            Code::ValidationException,
            "The root of an account has no name.".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": arn(OTHER, "user/a"), "Kind": "user"}),
            Code::ValidationException,
            "An ARN says itself of which kind and account it is.".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Kind": "root", "Policies": [DECRYPT]}),
            Code::ValidationException,
            root.to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Policies": vec![DECRYPT; 11]}),
            Code::LimitExceededException,
            "A principal has at most 10 policies.".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Policies": ["{}"]}),
            Code::MalformedPolicyDocumentException,
            "Statement: missing".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Tags": [tag("k"), tag("K")]}),
            Code::TagException,
            "Tag key K occurs twice; case does not matter".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Tags": [tag("AWS:k")]}),
            Code::TagException,
            "Tag key AWS:k begins with aws:, which is reserved".to_owned(),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Tags": [tag("")]}),
            Code::ValidationException,
            format!(
                "{one}Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1"
            ),
        ),
        (
            "CreatePrincipal",
            json!({"Name": "a", "Polices": []}),
            Code::SerializationException,
            "Polices is not of the type or form that this operation takes.".to_owned(),
        ),
        (
            "DeletePrincipal",
            json!({"Name": "taken", "Kind": "user"}),
            Code::SerializationException,
            "Kind is not of the type or form that this operation takes.".to_owned(),
        ),
        (
            "PutPrincipalPolicies",
            json!({"Name": "taken"}),
            Code::ValidationException,
            null("policies"),
        ),
        (
            "PutPrincipalPolicies",
            json!({"Name": "taken", "Policies": ["{}"]}),
            Code::MalformedPolicyDocumentException,
            "Statement: missing".to_owned(),
        ),
        (
            "PutPrincipalTags",
            json!({"Name": "taken"}),
            Code::ValidationException,
            null("tags"),
        ),
        (
            "UpdateAccessKey",
            json!({"Name": "taken", "AccessKeyId": "A", "Status": "Off"}),
            Code::ValidationException,
            enumeration("Off", "status", "Active, Inactive"),
        ),
        (
            "UpdateAccessKey",
            json!({"Name": "taken", "AccessKeyId": "A"}),
            Code::ValidationException,
            null("status"),
        ),
        (
            "DeleteAccessKey",
            json!({"Name": "taken"}),
            Code::ValidationException,
            null("accessKeyId"),
        ),
        (
            "RenamePrincipal",
            json!({"Name": "a"}),
            Code::UnknownOperationException,
            String::new(),
        ),
    ];
    for text in foreign {
        let body = json!({"Name": text});
        cases.push((
            "CreatePrincipal",
            body.clone(),
            Code::InvalidArnException,
            no_arn(text),
        ));
        cases.push((
            "DisablePrincipal",
            body,
            Code::InvalidArnException,
            no_arn(text),
        ));
    }
    for (operation, body, code, message) in cases {
        let text = body.to_string();
        let answer = bench.administer(operation, body).await;
        assert_eq!(answer, Err((code, message)), "{operation} {text}");
    }
    let tags: Vec<_> = (0..51).map(|number| tag(&format!("k{number}"))).collect();
    let answer = bench
        .administer("CreatePrincipal", json!({"Name": "a", "Tags": tags}))
        .await;
    assert_eq!(answer.unwrap_err().0, Code::ValidationException);
    let listed = bench.administered("ListPrincipals", json!({})).await;
    assert_eq!(listed["Principals"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn rng_1_no_principal_is_made_of_a_failed_draw() {
    let bench = Bench::new().await;
    bench.faults.0.store(true, Ordering::SeqCst);
    for kind in ["user", "role"] {
        let body = json!({"Name": "a", "Kind": kind});
        let failed = bench.administer("CreatePrincipal", body).await;
        Bench::is(failed, Code::KMSInternalException, "");
    }
    bench.faults.0.store(false, Ordering::SeqCst);
    let listed = bench.administered("ListPrincipals", json!({})).await;
    assert_eq!(listed["Principals"], json!([]));
}
