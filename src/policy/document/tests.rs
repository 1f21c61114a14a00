use super::*;

fn refusal(json: &str) -> String {
    match PolicyDocument::parse(json) {
        Ok(_) => panic!("accepted: {json}"),
        Err(InvalidPolicy(reason)) => reason,
    }
}

fn of_statement(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

#[test]
fn what_the_language_allows_is_accepted_and_kept_as_given() {
    let full = r#" {"Version": "2012-10-17", "Id": "x", "Statement": [
            {"Sid": "Mint", "Effect": "Allow", "Action": ["kms:GenerateDataKey*", "KMS:describekey"],
             "Resource": ["arn:aws:kms:*:111122223333:key/*", "arn:aws*:kms:us-?ast-1:*:alias/a:b"]},
            {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"},
            {"Effect": "Deny", "Action": ["s3:*", "execute-api:Invoke", "*"], "Resource": "arn:aws:s3:::bucket"}]} "#;
    let policy = PolicyDocument::parse(full).unwrap();
    assert_eq!(policy.source(), full);
    assert_eq!(policy.statements.len(), 3);
    assert_eq!(policy.statements[1].effect, Effect::Deny);
    for json in [
        r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        r#"{"Version":"2008-10-17","Statement":[{"Resource":["*"],"Action":["*"],"Effect":"Allow"}]}"#,
    ] {
        assert!(PolicyDocument::parse(json).is_ok(), "{json}");
    }
}

#[test]
fn a_statement_is_refused_with_its_place() {
    let cases = [
        (r#""x""#, "Statement 1: not an object"),
        ("[]", "Statement 1: not an object"),
        ("null", "Statement 1: not an object"),
        ("{}", "Statement 1: Effect: missing"),
        (
            r#"{"Effect":"Allow","Resource":"*"}"#,
            "Statement 1: Action: missing",
        ),
        (
            r#"{"Effect":"Allow","Action":"*"}"#,
            "Statement 1: Resource: missing",
        ),
        (
            r#"{"Effect":"allow","Action":"*","Resource":"*"}"#,
            "Statement 1: Effect: either \"Allow\" or \"Deny\"",
        ),
        (
            r#"{"Effect":{"Allow":null},"Action":"*","Resource":"*"}"#,
            "Statement 1: Effect: either \"Allow\" or \"Deny\"",
        ),
        (
            r#"{"Sid":null,"Effect":"Allow","Action":"*","Resource":"*"}"#,
            "Statement 1: Sid: not a string",
        ),
        (
            r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#,
            "Statement 1: Action: an empty list",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":[]}"#,
            "Statement 1: Resource: an empty list",
        ),
        (
            r#"{"Effect":"Allow","Action":[["*"]],"Resource":"*"}"#,
            "Statement 1: Action: neither a string nor a list of strings",
        ),
        (
            r#"{"Effect":"Allow","Action":null,"Resource":"*"}"#,
            "Statement 1: Action: neither a string nor a list of strings",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":["*",1]}"#,
            "Statement 1: Resource: neither a string nor a list of strings",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*","Conditions":{}}"#,
            "Statement 1: unknown element \"Conditions\"",
        ),
        (
            r#"{"effect":"Allow","Action":"*","Resource":"*"}"#,
            "Statement 1: unknown element \"effect\"",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}"#,
            "Statement 1: Condition is not supported yet in identity policies",
        ),
        (
            r#"{"Effect":"Allow","NotAction":"*","Resource":"*"}"#,
            "Statement 1: NotAction is not supported yet in identity policies",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","NotResource":"*"}"#,
            "Statement 1: NotResource is not supported yet in identity policies",
        ),
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#,
            "Statement 1: Principal is not supported in identity policies: they speak of whom they are attached to",
        ),
        (
            r#"{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}"#,
            "Statement 1: NotPrincipal is not supported in identity policies: they speak of whom they are attached to",
        ),
        (
            r#"{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"kms","Resource":"*"}"#,
            "Statement 2: Action: \"kms\" is neither * nor <service>:<action>",
        ),
        (
            r#"{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:*:*:key/${aws:username}"}"#,
            "Statement 1: Resource: \"arn:aws:kms:*:*:key/${aws:username}\": policy variables are not supported yet in identity policies",
        ),
    ];
    for (statement, reason) in cases {
        assert_eq!(refusal(&of_statement(statement)), reason, "{statement}");
    }
}

#[test]
fn a_document_is_refused_with_the_reason() {
    let cases = [
        ("", "JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "a policy is a JSON object"),
        ("{}", "Statement: missing"),
        (r#"{"Statement":[]}"#, "Statement: an empty list"),
        (
            r#"{"Version":"2012-10-18","Statement":[]}"#,
            "Version: either 2012-10-17 or 2008-10-17",
        ),
        (
            r#"{"Version":20121017,"Statement":[]}"#,
            "Version: either 2012-10-17 or 2008-10-17",
        ),
        (r#"{"Id":7,"Statement":[]}"#, "Id: not a string"),
        (r#"{"Statements":[]}"#, "unknown element \"Statements\""),
        (
            r#"{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}"#,
            "JSON: duplicate element \"Version\" at line 1 column 46",
        ),
    ];
    for (json, reason) in cases {
        assert_eq!(refusal(json), reason, "{json}");
    }
    let twice = r#"{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}"#;
    assert!(refusal(&of_statement(twice)).starts_with("JSON: duplicate element \"Effect\""));
    // The same name, spelt otherwise.
    let twice = r#"{"Effect":"Deny","\u0045ffect":"Allow","Action":"*","Resource":"*"}"#;
    assert!(refusal(&of_statement(twice)).starts_with("JSON: duplicate element \"Effect\""));
    assert!(refusal(r#"{"Statement":[]} {}"#).starts_with("JSON: trailing characters"));
}

#[test]
fn documents_are_bounded() {
    let one = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let many = |count: usize| of_statement(&vec![one; count].join(","));
    assert!(PolicyDocument::parse(&many(PolicyDocument::STATEMENTS_MAX)).is_ok());
    assert_eq!(
        refusal(&many(PolicyDocument::STATEMENTS_MAX + 1)),
        "Statement: at most 128, this policy has 129"
    );
    let padded = |bytes: usize| format!("{:bytes$}", of_statement(one));
    assert!(PolicyDocument::parse(&padded(PolicyDocument::BYTES_MAX)).is_ok());
    assert_eq!(
        refusal(&padded(PolicyDocument::BYTES_MAX + 1)),
        "a policy has at most 32768 bytes, this one 32769"
    );
    let deep = "[".repeat(10_000);
    assert!(refusal(&deep).starts_with("JSON: recursion limit exceeded"));
    let wide: Vec<_> = (0..1000).map(|at| format!("\"{at}\":0")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    assert!(refusal(&wide).starts_with("JSON: an object with too many elements"));
}

#[test]
fn actions_and_resources_must_be_well_formed() {
    for text in [
        "",
        "kms:",
        ":Decrypt",
        "kms",
        "**",
        "?",
        "k*:Decrypt",
        "kms :Decrypt",
        "kms:De crypt",
        "kms:Decrypt:x",
        " kms:Decrypt",
        "kms:Décrypt",
        "kms:${x}",
    ] {
        assert!(action(text.to_owned()).is_err(), "{text}");
    }
    for text in [
        "",
        "**",
        "?",
        "arn:aws:kms:us-east-1:111122223333",
        "arn:*",
        "key/x",
        "*:aws:kms:::key/x",
        "arn::kms:::x",
        "arn:aws::::x",
        "arn:aws:kms:::",
        "arn:aws:kms:*:*:key/ü",
        "ARN:aws:kms:*:*:x",
        "arn:aws:kms:*:*:key/x y",
        "arn:aws:kms:*:*:key/x\n",
        " *",
    ] {
        assert!(resource(text.to_owned()).is_err(), "{text}");
    }
}
