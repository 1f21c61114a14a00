//! `CheckPolicy`: what is decided, and by which statement.

use super::ErrorCode as Code;
use super::*;

const OTHER: &str = "444455556666";
const DEFAULT: &str = "statement 1 \"Enable IAM User Permissions\" of the default key policy";

impl Bench {
    async fn create(&self, body: Value) -> String {
        let made = self.administer("CreatePrincipal", body).await.unwrap();
        made["Arn"].as_str().unwrap().to_owned()
    }

    async fn check(&self, body: Value) -> Value {
        self.administer("CheckPolicy", body).await.unwrap()
    }
}

#[tokio::test]
async fn the_statement_that_decides_is_named() {
    let bench = Bench::new().await;
    let key = bench.key().await;
    bench.alias("alias/a", &key).await;
    let office = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"kms:List*","Resource":"*"},
        {"Sid":"Tenant","Effect":"Allow","Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"7"}}},
        {"Effect":"Deny","Action":"kms:Decrypt","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Null":{"aws:SourceIp":"false"}}}]}"#;
    let user = bench
        .create(json!({"Name": "a", "Policies": [office]}))
        .await;
    let by = |number: usize, sid: &str| {
        format!("statement {number}{sid} of identity policy 1 of {user}")
    };
    let tenant = json!({"tenant": "7"});
    for name in [&key, "alias/a", &key_arn(&key), &alias_arn("a")] {
        let body = json!({"Principal": user, "Action": "KMS:decrypt", "KeyId": name, "EncryptionContext": tenant});
        let expected = json!({"Allowed": true, "By": by(2, " \"Tenant\""), "Under": DEFAULT});
        assert_eq!(bench.check(body).await, expected, "{name}");
    }
    let body = json!({"Principal": user, "Action": "kms:Decrypt", "KeyId": key, "EncryptionContext": {"tenant": "8"}});
    let reason = "because no identity-based policy allows the kms:Decrypt action";
    assert_eq!(
        bench.check(body).await,
        json!({"Allowed": false, "Reason": reason})
    );
    for (address, allowed) in [("10.1.2.3", true), ("192.0.2.1", false), ("::1", false)] {
        let body = json!({"Principal": user, "Action": "kms:Decrypt", "KeyId": key, "EncryptionContext": tenant, "SourceIp": address, "SecureTransport": true});
        let answer = bench.check(body).await;
        assert_eq!(answer["Allowed"], allowed, "{address}");
        if !allowed {
            let reason = "with an explicit deny in an identity-based policy";
            assert_eq!(
                answer,
                json!({"Allowed": false, "By": by(3, ""), "Reason": reason})
            );
        }
    }
    let listed = bench
        .check(json!({"Principal": user, "Action": "kms:ListKeys"}))
        .await;
    assert_eq!(listed, json!({"Allowed": true, "By": by(1, "")}));
}

#[tokio::test]
async fn key_policies_and_grants_are_named() {
    let bench = Bench::new().await;
    let key = bench.key().await;
    let user = bench.create(json!({"Name": "a"})).await;
    let ask = |action: &str| json!({"Principal": user, "Action": action, "KeyId": key});
    let everybody = json!([
        to(&root_of(ACCOUNT), &["kms:*"]),
        {"Sid": "Reader", "Effect": "Allow", "Principal": {"AWS": user}, "Action": "kms:DescribeKey", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"},
    ]);
    bench.put_policy(&key, everybody).await;
    let expected = json!({"Allowed": true, "By": "statement 2 \"Reader\" of the key policy"});
    assert_eq!(bench.check(ask("kms:DescribeKey")).await, expected);
    let reason = "with an explicit deny in a resource-based policy";
    let expected =
        json!({"Allowed": false, "By": "statement 3 of the key policy", "Reason": reason});
    assert_eq!(bench.check(ask("kms:Encrypt")).await, expected);
    let grant = json!({"KeyId": key, "GranteePrincipal": user, "Operations": ["Decrypt"]});
    let grant = bench.done("CreateGrant", grant).await["GrantId"].clone();
    let by = format!("grant {}", grant.as_str().unwrap());
    let expected = json!({"Allowed": true, "By": by});
    assert_eq!(bench.check(ask("kms:Decrypt")).await, expected);
    // Without an address it comes from a Unix socket, which is secure.
    let secure = r#"{"Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}}"#;
    let body = json!({"Name": user, "Policies": [secure]});
    bench
        .administer("PutPrincipalPolicies", body)
        .await
        .unwrap();
    let list = json!({"Principal": user, "Action": "kms:ListKeys"});
    for (more, allowed) in [
        (json!({}), true),
        (json!({"SourceIp": "192.0.2.1"}), false),
        (
            json!({"SourceIp": "192.0.2.1", "SecureTransport": true}),
            true,
        ),
        (json!({"SecureTransport": false}), false),
    ] {
        let mut body = list.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let text = body.to_string();
        assert_eq!(bench.check(body).await["Allowed"], allowed, "{text}");
    }
}

#[tokio::test]
async fn measurements_of_a_recipient_are_asked_about() {
    let bench = Bench::new().await;
    let key = bench.key().await;
    let (one, two) = ("01".repeat(48), "02".repeat(48));
    let allowing = |name: &str, operator: &str, measured: &str| {
        let condition = json!({operator: {format!("kms:RecipientAttestation:{measured}"): one}});
        let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": condition}});
        json!({"Name": name, "Policies": [policy.to_string()]})
    };
    let by_pcr = allowing("pcr", "StringEqualsIgnoreCase", "PCR0");
    let by_pcr = bench.create(by_pcr).await;
    let by_tpm = bench
        .create(allowing("tpm", "StringEquals", "NitroTPMPCR4"))
        .await;
    for (principal, measured, allowed) in [
        (&by_pcr, json!({"PCR0": one}), true),
        (&by_pcr, json!({"imagesha384": one, "PCR31": two}), true),
        (&by_pcr, json!({"PCR0": two}), false),
        (&by_pcr, json!({"PCR1": one}), false),
        (&by_pcr, json!({"NitroTPMPCR0": one}), false),
        (&by_pcr, json!({}), false),
        (&by_pcr, Value::Null, false),
        (&by_tpm, json!({"NitroTPMPCR4": one.to_uppercase()}), true),
        (&by_tpm, json!({"PCR4": one}), false),
    ] {
        for action in ["GenerateDataKey", "GenerateDataKeyPair", "Decrypt"] {
            let body = json!({"Principal": principal, "Action": format!("kms:{action}"), "KeyId": key, "RecipientAttestation": measured});
            let answer = bench.check(body).await;
            assert_eq!(answer["Allowed"], allowed, "{principal} {measured}");
        }
    }
    let short = "01".repeat(20);
    let middle = "01".repeat(32);
    for (action, measured, message) in [
        (
            "Encrypt",
            json!({"PCR0": one}),
            "kms:Encrypt has no Recipient.",
        ),
        (
            "Decrypt",
            json!({"PCR32": one}),
            "'PCR32' is not a measurement, such as PCR1, ImageSha384 or NitroTPMPCR4.",
        ),
        (
            "Decrypt",
            json!({"PCR0": "0x"}),
            "The value of PCR0 is not in hex.",
        ),
        (
            "Decrypt",
            json!({"PCR0": short}),
            "No such document: a register of an enclave has 32, 48 or 64 bytes, and one of a TPM 48.",
        ),
        (
            "Decrypt",
            json!({"NitroTPMPCR0": middle}),
            "No such document: a register of an enclave has 32, 48 or 64 bytes, and one of a TPM 48.",
        ),
        (
            "Decrypt",
            json!({"PCR0": one, "ImageSha384": one}),
            "No such document: a register is named twice.",
        ),
        (
            "Decrypt",
            json!({"PCR0": one, "NitroTPMPCR0": one}),
            "No such document: a document has the registers of an enclave or those of a TPM.",
        ),
    ] {
        let body = json!({"Principal": by_pcr, "Action": format!("kms:{action}"), "KeyId": key, "RecipientAttestation": measured});
        let answer = bench.administer("CheckPolicy", body).await;
        let expected = Err((Code::ValidationException, message.to_owned()));
        assert_eq!(answer, expected, "{measured}");
    }
}

#[tokio::test]
async fn sessions_roots_other_accounts_and_disabled_principals_are_answered() {
    let bench = Bench::new().await;
    let key = bench.key().await;
    let all = r#"{"Statement":{"Sid":"All","Effect":"Allow","Action":"kms:*","Resource":"*"}}"#;
    let role = bench
        .create(json!({"Name": "batch", "Kind": "role", "Policies": [all]}))
        .await;
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/batch/nightly");
    let root = bench.create(json!({"Kind": "root"})).await;
    let stranger = bench
        .create(json!({"Name": "a", "Account": OTHER, "Policies": [all]}))
        .await;
    let ask = |principal: &str| json!({"Principal": principal, "Action": "kms:Decrypt", "KeyId": key_arn(&key)});
    let by = |principal: &str| format!("statement 1 \"All\" of identity policy 1 of {principal}");
    for principal in [&role, &session] {
        let expected = json!({"Allowed": true, "By": by(principal), "Under": DEFAULT});
        assert_eq!(bench.check(ask(principal)).await, expected);
    }
    let expected = json!({"Allowed": true, "By": format!("{root} itself"), "Under": DEFAULT});
    assert_eq!(bench.check(ask(&root)).await, expected);
    let reason = "because no resource-based policy allows the kms:Decrypt action";
    let expected = json!({"Allowed": false, "Reason": reason});
    assert_eq!(bench.check(ask(&stranger)).await, expected);
    bench
        .administer("DisablePrincipal", json!({"Name": role}))
        .await
        .unwrap();
    for principal in [&role, &session] {
        let expected = json!({"Allowed": false, "Reason": format!("{role} is disabled")});
        assert_eq!(bench.check(ask(principal)).await, expected);
    }
}

#[tokio::test]
async fn what_is_not_there_is_no_decision() {
    let bench = Bench::new().await;
    let key = bench.key().await;
    let user = bench.create(json!({"Name": "a"})).await;
    let nobody = format!("arn:aws:iam::{ACCOUNT}:user/nobody");
    let one = "1 validation error detected: ";
    let null = |member: &str| {
        format!(
            "{one}Value null at '{member}' failed to satisfy constraint: Member must not be null"
        )
    };
    let mut cases = vec![
        (
            json!({"Action": "kms:Decrypt"}),
            Code::ValidationException,
            null("principal"),
        ),
        (
            json!({"Principal": user}),
            Code::ValidationException,
            null("action"),
        ),
        (
            json!({"Principal": user, "Action": "kms:Decrypt", "KeyId": key, "SourceIp": "office"}),
            Code::ValidationException,
            format!(
                "{one}Value 'office' at 'sourceIp' failed to satisfy constraint: Member must be an IP address"
            ),
        ),
        (
            json!({"Principal": user, "Action": "s3:GetObject", "KeyId": key}),
            Code::ValidationException,
            "'s3:GetObject' is not an action of this service, such as kms:Decrypt.".to_owned(),
        ),
        (
            json!({"Principal": user, "Action": "kms:ReEncrypt", "KeyId": key}),
            Code::ValidationException,
            "'kms:ReEncrypt' is not an action of this service, such as kms:Decrypt.".to_owned(),
        ),
        (
            json!({"Principal": user, "Action": "kms:RetireGrant", "KeyId": key}),
            Code::ValidationException,
            "kms:RetireGrant is decided by the grant that is retired.".to_owned(),
        ),
        (
            json!({"Principal": user, "Action": "kms:Decrypt"}),
            Code::ValidationException,
            "kms:Decrypt is about a key: name one.".to_owned(),
        ),
        (
            json!({"Principal": user, "Action": "kms:ListKeys", "KeyId": key}),
            Code::ValidationException,
            "kms:ListKeys is about no key.".to_owned(),
        ),
        (
            json!({"Principal": user, "Action": "kms:Decrypt", "Key": key}),
            Code::SerializationException,
            "Key is not of the type or form that this operation takes.".to_owned(),
        ),
    ];
    let sessions = [
        "assumed-role/batch/nightly",
        "assumed-role/batch",
        "federated-user/a",
    ];
    let sessions = sessions.map(|what| format!("arn:aws:sts::{ACCOUNT}:{what}"));
    for principal in [nobody, "a".to_owned(), "local:0".to_owned()]
        .iter()
        .chain(&sessions)
    {
        let body = json!({"Principal": principal, "Action": "kms:Decrypt", "KeyId": key});
        cases.push((
            body,
            Code::NotFoundException,
            format!("Principal {principal} does not exist"),
        ));
    }
    let elsewhere = key_arn(&key).replace("us-east-1", "us-west-2");
    let foreign = key_arn(&key).replace(ACCOUNT, OTHER);
    for name in [
        UNKNOWN,
        "alias/none",
        "foo",
        "arn:aws:kms:us-east-1:1:key/x",
        &elsewhere,
        &foreign,
    ] {
        let body = json!({"Principal": user, "Action": "kms:Decrypt", "KeyId": name});
        cases.push((
            body,
            Code::NotFoundException,
            format!("Key '{name}' does not exist"),
        ));
    }
    for (body, code, message) in cases {
        let text = body.to_string();
        let answer = bench.administer("CheckPolicy", body).await;
        assert_eq!(answer, Err((code, message)), "{text}");
    }
}
