//! Who may move a blob: each side by its own key, context, account, policies and grants.

use super::*;

#[tokio::test]
async fn each_side_takes_its_own_right() {
    let this = Move::new().await;
    let (bench, from, to) = this.parts();
    let both = &["kms:ReEncryptFrom", "kms:ReEncryptTo"];
    let mover = bench.allowed("mover", both).await;
    assert!(
        bench
            .call_as(&mover, "ReEncrypt", this.body())
            .await
            .is_ok()
    );
    let neither = ["kms:ReEncrypt", "kms:Decrypt", "kms:Encrypt"];
    let neither = bench.allowed("neither", &neither).await;
    let takes = bench.allowed("takes", &both[..1]).await;
    let gives = bench.allowed("gives", &both[1..]).await;
    let named = this.with(json!({"SourceKeyId": from}));
    for (who, body, (code, message)) in [
        (
            &gives,
            this.body(),
            (Code::AccessDeniedException, NOT_ALLOWED_TO_OPEN.to_owned()),
        ),
        (
            &gives,
            named.clone(),
            not_allowed(&gives, "ReEncryptFrom", &key_arn(from), "identity"),
        ),
        (
            &neither,
            named,
            not_allowed(&neither, "ReEncryptFrom", &key_arn(from), "identity"),
        ),
        (
            &takes,
            this.body(),
            not_allowed(&takes, "ReEncryptTo", &key_arn(to), "identity"),
        ),
        (
            &takes,
            this.with(json!({"DryRun": true})),
            not_allowed(&takes, "ReEncryptTo", &key_arn(to), "identity"),
        ),
    ] {
        bench
            .refused_as(who, "ReEncrypt", body, code, &message)
            .await;
    }
    // Each side with its own context, and with its own key's policy.
    let scoped = |action: &str, name: &str, value: &str| {
        let name = format!("kms:EncryptionContext:{name}");
        json!({"Effect": "Allow", "Action": action, "Resource": "*", "Condition": {"StringEquals": {name: value}}})
    };
    for (name, statements, passes) in [
        (
            "own",
            [scoped(both[0], "a", "1"), scoped(both[1], "b", "2")],
            true,
        ),
        (
            "other",
            [scoped(both[0], "a", "1"), scoped(both[1], "a", "1")],
            false,
        ),
        (
            "swapped",
            [scoped(both[0], "b", "2"), scoped(both[1], "a", "1")],
            false,
        ),
    ] {
        let policy = json!({"Statement": statements});
        let principal = bench.principal(name, policy).await;
        let answer = bench.call_as(&principal, "ReEncrypt", this.body()).await;
        assert_eq!(answer.is_ok(), passes, "{name}: {answer:?}");
    }
    let closed = to_nobody(&mover.arn);
    bench.put_policy(to, closed).await;
    let explicit = bench.call_as(&mover, "ReEncrypt", this.body()).await;
    let (code, message) = explicit.unwrap_err();
    assert_eq!(code, Code::AccessDeniedException);
    assert!(message.contains("kms:ReEncryptTo on resource"), "{message}");
}

#[tokio::test]
async fn a_condition_knows_whether_the_key_stays() {
    let this = Move::new().await;
    let bench = &this.bench;
    let alias = json!({"AliasName": "alias/from", "TargetKeyId": this.from});
    bench.done("CreateAlias", alias).await;
    for (name, value) in [("stays", "true"), ("goes", "false")] {
        let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:ReEncrypt*", "Resource": "*",
            "Condition": {"Bool": {"kms:ReEncryptOnSameKey": value}}}});
        let principal = bench.principal(name, policy).await;
        for (destination, stays) in [
            (&*this.from, true),
            ("alias/from", true),
            (&*this.to, false),
        ] {
            let body = this.with(json!({"DestinationKeyId": destination}));
            let answer = bench.call_as(&principal, "ReEncrypt", body).await;
            let passes = (value == "true") == stays;
            assert_eq!(answer.is_ok(), passes, "{name} {destination}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn grants_let_each_side_and_tokens_of_any_key_are_taken() {
    let this = Move::new().await;
    let (bench, from, to) = this.parts();
    let alice = bench.powerless("alice").await;
    let grant = |key: &str, operation: &str, context: Value| {
        json!({"KeyId": key, "GranteePrincipal": alice.arn, "Operations": [operation],
            "Constraints": {"EncryptionContextEquals": context}})
    };
    let ask = || bench.call_as(&alice, "ReEncrypt", this.body());
    assert_eq!(ask().await.unwrap_err().0, Code::AccessDeniedException);
    let taken = grant(from, "ReEncryptFrom", json!({"a": "1"}));
    let taken = bench.done("CreateGrant", taken).await;
    assert_eq!(ask().await.unwrap_err().0, Code::AccessDeniedException);
    // Of the source's context, which is not the destination's.
    let wrong = grant(to, "ReEncryptTo", json!({"a": "1"}));
    let wrong = bench.done("CreateGrant", wrong).await;
    assert_eq!(ask().await.unwrap_err().0, Code::AccessDeniedException);
    let given = grant(to, "ReEncryptTo", json!({"b": "2"}));
    let given = bench.done("CreateGrant", given).await;
    assert!(ask().await.is_ok());
    let tokens = [&taken, &given, &wrong].map(|made| made["GrantToken"].clone());
    let body = this.with(json!({"GrantTokens": tokens}));
    assert!(bench.call_as(&alice, "ReEncrypt", body).await.is_ok());
    let third = bench.key().await;
    let other = grant(&third, "Decrypt", json!({"a": "1"}));
    let other = bench.done("CreateGrant", other).await;
    let body = this.with(json!({"GrantTokens": [tokens[0], other["GrantToken"]]}));
    assert!(bench.call_as(&alice, "ReEncrypt", body).await.is_ok());
    let body = this.with(json!({"GrantTokens": [tokens[0], "token"]}));
    let code = Code::InvalidGrantTokenException;
    bench.refused_as(&alice, "ReEncrypt", body, code, "").await;
}

#[tokio::test]
async fn keys_of_two_accounts_are_each_asked() {
    let this = Move::new().await;
    let (bench, from, to) = this.parts();
    let operator = Principal::operator(0, OTHER.parse().unwrap());
    let visitor = bench.principal_of(&operator, "visitor", allowing(&["kms:*"]));
    let visitor = visitor.await;
    let own = bench.call_as(&operator, "CreateKey", json!({})).await;
    let own = own.unwrap()["KeyMetadata"]["Arn"].clone();
    let home = this.with(json!({"DestinationKeyId": own}));
    let ask = |body: &Value| bench.call_as(&visitor, "ReEncrypt", body.clone());
    let opened = (Code::AccessDeniedException, NOT_ALLOWED_TO_OPEN.to_owned());
    assert_eq!(ask(&home).await, Err(opened));
    let shared = |action: &str| json!([to_account(), self::to(&visitor.arn, &[action])]);
    bench.put_policy(from, shared("kms:ReEncryptFrom")).await;
    let moved = ask(&home).await.unwrap();
    assert_eq!(
        (&moved["SourceKeyId"], &moved["KeyId"]),
        (&json!(key_arn(from)), &own)
    );
    // A bare id finds the source by its blob, and the destination at home alone.
    let bare = this.with(json!({"SourceKeyId": from, "DestinationKeyId": own}));
    assert!(ask(&bare).await.is_ok());
    let bare = this.with(json!({"DestinationKeyId": to}));
    assert_eq!(ask(&bare).await.unwrap_err().0, Code::NotFoundException);
    let by_arn = this.with(json!({"DestinationKeyId": key_arn(to)}));
    assert_eq!(ask(&by_arn).await, Err(foreign(&visitor, "ReEncryptTo")));
    bench.put_policy(to, shared("kms:ReEncryptTo")).await;
    assert!(ask(&by_arn).await.is_ok());
}

/// Statements that leave a principal nothing.
fn to_nobody(arn: &str) -> Value {
    let deny =
        json!({"Effect": "Deny", "Principal": {"AWS": arn}, "Action": "kms:*", "Resource": "*"});
    json!([deny, to(&root_of(ACCOUNT), &["kms:*"])])
}

fn to_account() -> Value {
    to(&root_of(ACCOUNT), &["kms:*"])
}
