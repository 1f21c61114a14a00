use super::*;

fn refusal(json: &str) -> String {
    match PolicyDocument::parse(json) {
        Ok(_) => panic!("accepted: {json}"),
        Err(error) => error.to_string(),
    }
}

fn key_refusal(statement: &str) -> InvalidPolicy {
    match KeyPolicy::parse(&of_statement(statement)) {
        Ok(_) => panic!("accepted: {statement}"),
        Err(error) => error,
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
            {"Effect": "Deny", "NotAction": "kms:Decrypt", "Resource": "*", "Condition": {}},
            {"Effect": "Deny", "Action": ["s3:*", "execute-api:Invoke", "*"], "NotResource": "arn:aws:s3:::bucket/${aws:username}",
             "Condition": {"StringEquals": {"s3:prefix": ["a", "b"], "aws:PrincipalTag/a b": "x"}, "Null": {"aws:userid": false}}}]} "#;
    let policy = PolicyDocument::parse(full).unwrap();
    assert_eq!(policy.source(), full);
    assert_eq!(policy.statements.len(), 3);
    assert_eq!(policy.statements[1].effect, Effect::Deny);
    assert_eq!(policy.statements[0].sid.as_deref(), Some("Mint"));
    for json in [
        r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        r#"{"Version":"2008-10-17","Statement":[{"Resource":["*"],"Action":["*"],"Effect":"Allow"}]}"#,
    ] {
        assert!(PolicyDocument::parse(json).is_ok(), "{json}");
    }
}

#[test]
#[rustfmt::skip] // a table
fn a_statement_is_refused_with_its_place() {
    let cases = [
        (r#""x""#, "not an object"),
        ("[]", "not an object"),
        ("null", "not an object"),
        ("{}", "Effect: missing"),
        (r#"{"Effect":"Allow","Resource":"*"}"#, "Action: missing"),
        (r#"{"Effect":"Allow","Action":"*"}"#, "Resource: missing"),
        (r#"{"Effect":"allow","Action":"*","Resource":"*"}"#, "Effect: either \"Allow\" or \"Deny\""),
        (r#"{"Effect":{"Allow":null},"Action":"*","Resource":"*"}"#, "Effect: either \"Allow\" or \"Deny\""),
        (r#"{"Sid":null,"Effect":"Allow","Action":"*","Resource":"*"}"#, "Sid: not a string"),
        (r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#, "Action: an empty list"),
        (r#"{"Effect":"Allow","Action":"*","Resource":[]}"#, "Resource: an empty list"),
        (r#"{"Effect":"Allow","Action":[["*"]],"Resource":"*"}"#, "Action: neither a string nor a list of strings"),
        (r#"{"Effect":"Allow","Action":null,"Resource":"*"}"#, "Action: neither a string nor a list of strings"),
        (r#"{"Effect":"Allow","Action":"*","Resource":["*",1]}"#, "Resource: neither a string nor a list of strings"),
        (r#"{"Effect":"Allow","Action":"*","Resource":"*","Conditions":{}}"#, "unknown element \"Conditions\""),
        (r#"{"effect":"Allow","Action":"*","Resource":"*"}"#, "unknown element \"effect\""),
        (r#"{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}"#, "Action and NotAction: one of them"),
        (r#"{"Effect":"Allow","Action":"*","NotResource":"*","Resource":"*"}"#, "Resource and NotResource: one of them"),
        (r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#,
            "Principal is not supported in identity policies: they apply to the principals that they are attached to"),
        (r#"{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}"#,
            "NotPrincipal is not supported in identity policies: they apply to the principals that they are attached to"),
        (r#"{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:*:*:key/${aws:user}"}"#, "Resource: unknown condition key \"aws:user\""),
        (r#"{"Effect":"Deny","Action":"kms","Resource":"*"}"#, "Action: \"kms\" is neither * nor <service>:<action>"),
    ];
    for (statement, reason) in cases {
        assert_eq!(refusal(&of_statement(statement)), format!("Statement 1: {reason}"), "{statement}");
    }
    let second = r#"{"Effect":"Allow","Action":"*","Resource":"*"},{}"#;
    assert_eq!(refusal(&of_statement(second)), "Statement 2: Effect: missing");
    let old = r#"{"Version":"2008-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"arn:aws:kms:*:*:key/${aws:userid}"}}"#;
    assert_eq!(refusal(old), "Statement 1: Resource: \"key/${aws:userid}\": policy variables need Version 2012-10-17");
}

#[test]
#[rustfmt::skip] // a table
fn a_condition_is_refused_with_its_place() {
    let cases = [
        (r"[]", "not an object"),
        (r#"{"StringEquals":[]}"#, "StringEquals: not an object"),
        (r#"{"StringEquals":{}}"#, "StringEquals: no condition key"),
        (r#"{"StringEquals":{"aws:userid":[]}}"#, "StringEquals: aws:userid: value: an empty list"),
        (r#"{"StringEquals":{"aws:userid":null}}"#, "StringEquals: aws:userid: neither a value nor a list of values"),
        (r#"{"StringEquals":{"aws:userid":{"a":"b"}}}"#, "StringEquals: aws:userid: neither a value nor a list of values"),
        (r#"{"StringEquals":{"kms:KeySize":"1"}}"#, "StringEquals: kms:KeySize: unknown condition key \"kms:KeySize\""),
        (r#"{"StringEquals":{"aws:UserNam":"1"}}"#, "StringEquals: aws:UserNam: unknown condition key \"aws:UserNam\""),
        (r#"{"StringEquals":{"username":"1"}}"#, "StringEquals: username: condition key \"username\": not <service>:<name>"),
        (r#"{"StringMatches":{"aws:userid":"1"}}"#, "StringMatches: aws:userid: unknown operator"),
        (r#"{"stringequals":{"aws:userid":"1"}}"#, "stringequals: aws:userid: unknown operator"),
        (r#"{"ForSome:StringEquals":{"aws:userid":"1"}}"#, "ForSome:StringEquals: aws:userid: unknown operator"),
        (r#"{"ForAnyValue:":{"aws:userid":"1"}}"#, "ForAnyValue:: aws:userid: unknown operator"),
        (r#"{"IfExists":{"aws:userid":"1"}}"#, "IfExists: aws:userid: unknown operator"),
        (r#"{"NullIfExists":{"aws:userid":"true"}}"#, "NullIfExists: aws:userid: unknown operator"),
        (r#"{"NumericLessThanOrEquals":{"aws:userid":"1"}}"#, "NumericLessThanOrEquals: aws:userid: unknown operator"),
        (r#"{"Null":{"aws:userid":"yes"}}"#, "Null: aws:userid: Null takes no set operator, and one value: true or false"),
        (r#"{"Null":{"aws:userid":["true","false"]}}"#, "Null: aws:userid: Null takes no set operator, and one value: true or false"),
        (r#"{"ForAnyValue:Null":{"aws:TagKeys":"true"}}"#, "ForAnyValue:Null: aws:TagKeys: Null takes no set operator, and one value: true or false"),
        (r#"{"Bool":{"aws:SecureTransport":"yes"}}"#, "Bool: aws:SecureTransport: \"yes\": not \"true\" or \"false\""),
        (r#"{"NumericEquals":{"kms:ValidTo":"1e3"}}"#, "NumericEquals: kms:ValidTo: \"1e3\": not a number"),
        (r#"{"NumericEquals":{"kms:ValidTo":"inf"}}"#, "NumericEquals: kms:ValidTo: \"inf\": not a number"),
        (r#"{"DateLessThan":{"aws:CurrentTime":"2020"}}"#, "DateLessThan: aws:CurrentTime: \"2020\": not a time"),
        (r#"{"IpAddress":{"aws:SourceIp":"10.0.0.*"}}"#, "IpAddress: aws:SourceIp: \"10.0.0.*\": not an address or a range of addresses"),
        (r#"{"BinaryEquals":{"aws:userid":"!"}}"#, "BinaryEquals: aws:userid: \"!\": not base64"),
        (r#"{"ArnLike":{"aws:PrincipalArn":"*"}}"#,
            "ArnLike: aws:PrincipalArn: \"*\" is not arn:<partition>:<service>:<region>:<account>:<resource>"),
        (r#"{"Bool":{"aws:SecureTransport":"${aws:SecureTransport}"}}"#,
            "Bool: aws:SecureTransport: \"${aws:SecureTransport}\": policy variables stand in string and ARN conditions only"),
        (r#"{"StringLike":{"aws:userid":"${aws:userid"}}"#, "StringLike: aws:userid: \"${aws:userid\": a variable without its end"),
        (r#"{"ForAllValues:StringLike":{"KMS:encryptioncontext:a":"1"}}"#,
            "ForAllValues:StringLike: KMS:encryptioncontext:a: ForAllValues holds without the pair that it asks for"),
    ];
    for (condition, reason) in cases {
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}"#);
        assert_eq!(refusal(&of_statement(&statement)), format!("Statement 1: Condition: {reason}"), "{condition}");
    }
    let twice = r#"{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true},"Bool":{"aws:SecureTransport":false}}}"#;
    assert!(refusal(&of_statement(twice)).starts_with("JSON: duplicate element \"Bool\""));
}

#[test]
fn every_operator_is_known_with_each_prefix_and_suffix() {
    let value = |operator: &str| match operator {
        _ if operator.starts_with("String") => "a",
        _ if operator.starts_with("Arn") => "arn:aws:iam::111122223333:user/*",
        _ if operator.starts_with("Date") => "2026-01-01T00:00:00Z",
        _ if operator.starts_with("Numeric") => "-1.5",
        "Bool" => "TRUE",
        "BinaryEquals" => "QUFB",
        _ => "2001:db8::/32",
    };
    for operator in [
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
        "StringNotLike",
        "NumericEquals",
        "NumericNotEquals",
        "NumericLessThan",
        "NumericLessThanEquals",
        "NumericGreaterThan",
        "NumericGreaterThanEquals",
        "DateEquals",
        "DateNotEquals",
        "DateLessThan",
        "DateLessThanEquals",
        "DateGreaterThan",
        "DateGreaterThanEquals",
        "Bool",
        "BinaryEquals",
        "IpAddress",
        "NotIpAddress",
        "ArnEquals",
        "ArnLike",
        "ArnNotEquals",
        "ArnNotLike",
    ] {
        for prefix in ["", "ForAllValues:", "ForAnyValue:"] {
            for suffix in ["", "IfExists"] {
                let condition = format!(
                    r#"{{"{prefix}{operator}{suffix}":{{"aws:TagKeys":"{}"}}}}"#,
                    value(operator)
                );
                let statement = format!(
                    r#"{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}"#
                );
                assert!(
                    PolicyDocument::parse(&of_statement(&statement)).is_ok(),
                    "{condition}"
                );
            }
        }
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
        assert!(compile_action(text).is_err(), "{text}");
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
        assert!(ResourcePattern::compile(text, true).is_err(), "{text}");
    }
    let with_default = "arn:aws:kms:*:*:key/${aws:PrincipalTag/key, 'a b'}";
    assert!(ResourcePattern::compile(with_default, true).is_ok());
}

#[test]
fn principals_of_a_key_policy_are_those_that_kms_takes() {
    let of = |principal: &str| {
        format!(r#"{{"Effect":"Allow","Principal":{principal},"Action":"kms:*","Resource":"*"}}"#)
    };
    for principal in [
        r#""*""#,
        r#"{"AWS":"*"}"#,
        r#"{"AWS":"111122223333"}"#,
        r#"{"AWS":["arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:role/a/b"],"Service":"ec2.amazonaws.com"}"#,
        r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/App/one"}"#,
        r#"{"AWS":"arn:aws-us-gov:sts::111122223333:federated-user/fred"}"#,
        r#"{"Service":["ec2.amazonaws.com"]}"#,
        r#"{"Federated":"arn:aws:iam::111122223333:saml-provider/P"}"#,
    ] {
        let parsed = KeyPolicy::parse(&of_statement(&of(principal)));
        assert!(parsed.is_ok(), "{principal}");
    }
    for principal in [
        r#""alice""#,
        r#""111122223333""#,
        "{}",
        "[]",
        "null",
        r#"["*"]"#,
        r#"{"*":"*"}"#,
        r#"{"aws":"*"}"#,
        r#"{"CanonicalUser":"a"}"#,
        r#"{"AWS":"alice"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:user/*"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:*"}"#,
        r#"{"AWS":"arn:aws:iam::*:root"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:group/admins"}"#,
        r#"{"AWS":"1111222233334"}"#,
        r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/App/*"}"#,
        r#"{"AWS":"AIDAEXAMPLE"}"#,
        r#"{"AWS":"local:0"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:user/${aws:username}"}"#,
        r#"{"Service":"*"}"#,
        r#"{"Service":""}"#,
    ] {
        let error = key_refusal(&of(principal));
        assert_eq!(
            error.message(),
            "Policy contains a statement with one or more invalid principals.",
            "{principal}"
        );
        assert!(
            error.to_string().starts_with("Statement 1: Principal: "),
            "{error}"
        );
    }
    assert_eq!(
        key_refusal(&of(r#"{"AWS":[]}"#)).to_string(),
        "Statement 1: Principal: AWS: an empty list"
    );
}

#[test]
fn key_policies_have_their_own_rules() {
    let cases = [
        (
            r#"{"Effect":"Allow","Action":"kms:*","Resource":"*"}"#,
            "Statement 1: Principal: missing",
        ),
        (
            r#"{"Effect":"Allow","NotPrincipal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}"#,
            "Statement 1: NotPrincipal is not supported: name the principals",
        ),
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"kms:*","NotResource":"*"}"#,
            "Statement 1: NotResource is not supported in key policies: they speak of their key",
        ),
        (
            r#"{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}"#,
            "Statement 1: Condition: ForAnyValue:StringEquals: kms:ResourceAliases: stands in identity policies only",
        ),
    ];
    for (statement, reason) in cases {
        assert_eq!(key_refusal(statement).to_string(), reason);
    }
    let for_all = r#"{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"1"}}}"#;
    let message = key_refusal(for_all).message();
    assert!(
        message.starts_with(
            "OverlyPermissiveCondition:EncryptionContext: Using the ForAllValues set operator"
        ),
        "{message}"
    );
    // Without Resource: accepted, and of no effect.
    let none = r#"{"Effect":"Allow","Principal":"*","Action":"kms:*"}"#;
    assert!(KeyPolicy::parse(&of_statement(none)).is_ok());
}

#[test]
fn the_default_key_policy_is_a_key_policy() {
    let source = KeyPolicy::default_source("aws", "111122223333".parse().unwrap());
    let policy = KeyPolicy::parse(&source).unwrap();
    assert_eq!(policy.source(), source);
    assert_eq!(
        policy.statements[0].sid.as_deref(),
        Some(KeyPolicy::DEFAULT_SID)
    );
    let compact: String = source.split_whitespace().collect();
    let expected = r#"{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"EnableIAMUserPermissions","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}"#;
    assert_eq!(compact, expected);
}
