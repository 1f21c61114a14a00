//! Which refusal comes first: members, names, rights, states.

use super::ErrorCode as Code;
use super::*;

const EITHER: &str = "Please specify either number of bytes or key spec.";

#[tokio::test]
async fn key_ids_are_refused_by_their_form() {
    let bench = Bench::new().await;
    let ask = |key: &str| json!({"KeyId": key, "KeySpec": "AES_256"});
    let unknown_arn = key_arn(UNKNOWN);
    let upper = UNKNOWN.to_uppercase();
    let mrk = "mrk-1234abcd12ab34cd56ef1234567890ab";
    let cases = [
        (UNKNOWN, format!("Key '{unknown_arn}' does not exist")),
        (&upper, format!("Key '{}' does not exist", key_arn(&upper))),
        (mrk, format!("Key '{}' does not exist", key_arn(mrk))),
        (&unknown_arn, format!("Key '{unknown_arn}' does not exist")),
        ("foo", "Invalid keyId 'foo'".to_owned()),
        (
            "1234abcd12ab34cd56ef1234567890ab",
            "Invalid keyId '1234abcd12ab34cd56ef1234567890ab'".to_owned(),
        ),
        ("mrk-12", "Invalid keyId 'mrk-12'".to_owned()),
        (
            "arn:aws:kms:us-east-1:111122223333:key/foo",
            "Invalid keyId foo".to_owned(),
        ),
        (
            "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "Invalid arn eu-west-1".to_owned(),
        ),
        (
            "arn:aws:kms:eu-west-1:111122223333:alias/a",
            "Invalid arn eu-west-1".to_owned(),
        ),
        (
            "alias/none",
            format!("Alias {} is not found.", alias_arn("none")),
        ),
        (
            "alias/aws/s3",
            format!("Alias {} is not found.", alias_arn("aws/s3")),
        ),
        ("alias/", format!("Alias {} is not found.", alias_arn(""))),
        (
            "arn:aws:kms:us-east-1:111122223333:alias/none",
            format!("Alias {} is not found.", alias_arn("none")),
        ),
    ];
    for (key, message) in cases {
        for operation in [
            "GenerateDataKeyWithoutPlaintext",
            "GenerateDataKey",
            "DescribeKey",
        ] {
            bench.not_found(operation, ask(key), &message).await;
        }
    }
    for key in [
        "arn:aws:kms",
        "arn:aws:s3:us-east-1:111122223333:key/x",
        "arn:aws:kms:us-east-1:x:key/x",
        "arn:aws-cn:kms:us-east-1:111122223333:key/x",
        "arn:aws:kms:us-east-1:111122223333:mac/x",
    ] {
        let message = format!("ARN '{key}' is not that of a key or an alias of KMS");
        bench
            .refused("DescribeKey", ask(key), Code::InvalidArnException, &message)
            .await;
    }
    let missing = "1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null";
    bench.invalid("GenerateDataKey", json!({}), missing).await;
    let null = json!({"KeyId": null, "KeySpec": "AES_256"});
    bench.invalid("GenerateDataKey", null, missing).await;
    let two = "2 validation errors detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; \
         Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\\p{ASCII}+$";
    bench.invalid("GenerateDataKey", ask(""), two).await;
}

#[tokio::test]
async fn another_accounts_key_is_one_refusal_and_its_bare_id_is_not_found() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let stranger = Principal::operator(7, "444455556666".parse().unwrap());
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    let message = format!("Key 'arn:aws:kms:us-east-1:444455556666:key/{id}' does not exist");
    bench
        .refused_as(
            &stranger,
            "GenerateDataKey",
            body,
            Code::NotFoundException,
            &message,
        )
        .await;
    for key in [key_arn(&id), key_arn(UNKNOWN), alias_arn("none")] {
        let message = "User: local:7 is not authorized to perform: kms:GenerateDataKey on this resource because the resource does not exist in this Region, \
             no resource-based policies allow access, or a resource-based policy explicitly denies access";
        let body = json!({"KeyId": key, "KeySpec": "AES_256"});
        bench
            .denied(&stranger, "GenerateDataKey", body, message)
            .await;
    }
    let made = bench
        .done(
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        )
        .await;
    let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.";
    let body = json!({"CiphertextBlob": made["CiphertextBlob"]});
    bench.denied(&stranger, "Decrypt", body, message).await;
}

#[tokio::test]
async fn an_unknown_key_is_told_only_to_who_may_act_on_it() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let statement = json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": key_arn(&id)});
    let narrow = bench
        .principal("narrow", json!({"Statement": statement}))
        .await;
    let arn = key_arn(UNKNOWN);
    let message = format!(
        "User: {} is not authorized to perform: kms:Decrypt on resource: {arn} because no identity-based policy allows the kms:Decrypt action",
        narrow.arn
    );
    let body = json!({"KeyId": UNKNOWN, "CiphertextBlob": encoded(&[1; 96])});
    bench.denied(&narrow, "Decrypt", body, &message).await;
    let statements = json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"}]);
    let barred = bench
        .principal("barred", json!({"Statement": statements}))
        .await;
    let message = format!(
        "User: {} is not authorized to perform: kms:Decrypt on resource: {} with an explicit deny in an identity-based policy",
        barred.arn,
        key_arn(&id)
    );
    let body = json!({"KeyId": id, "CiphertextBlob": encoded(&[1; 96])});
    bench.denied(&barred, "Decrypt", body, &message).await;
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.done_to("DisableKey", &id).await;
    let nobody = bench
        .principal(
            "nobody",
            json!({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}),
        )
        .await;
    // Members together before state.
    bench
        .invalid("GenerateDataKey", json!({"KeyId": id}), EITHER)
        .await;
    // Grant tokens before state; authorization before both.
    let token = json!({"KeyId": id, "KeySpec": "AES_256", "GrantTokens": ["x"]});
    bench
        .refused(
            "GenerateDataKey",
            token.clone(),
            Code::InvalidGrantTokenException,
            "",
        )
        .await;
    let denied = bench
        .call_as(&nobody, "GenerateDataKey", token)
        .await
        .unwrap_err();
    assert_eq!(denied.0, Code::AccessDeniedException);
    // State before DryRun; DryRun last.
    let dry = json!({"KeyId": id, "KeySpec": "AES_256", "DryRun": true});
    bench.disabled("GenerateDataKey", dry.clone(), &id).await;
    bench.done_to("EnableKey", &id).await;
    let succeeds = "The request would have succeeded, but the DryRun option is set.";
    for operation in ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
        bench
            .refused(
                operation,
                dry.clone(),
                Code::DryRunOperationException,
                succeeds,
            )
            .await;
        let denied = bench
            .call_as(&nobody, operation, dry.clone())
            .await
            .unwrap_err();
        assert_eq!(denied.0, Code::AccessDeniedException);
    }
    let encrypt = json!({"KeyId": id, "Plaintext": "AA==", "DryRun": true});
    bench
        .refused("Encrypt", encrypt, Code::DryRunOperationException, succeeds)
        .await;
    let made = bench
        .done("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    let decrypt = json!({"CiphertextBlob": made["CiphertextBlob"], "DryRun": true});
    bench
        .refused("Decrypt", decrypt, Code::DryRunOperationException, succeeds)
        .await;
    let wrong = json!({"CiphertextBlob": made["CiphertextBlob"], "DryRun": true, "EncryptionContext": {"a": "b"}});
    bench.unopened(wrong).await;
}

#[tokio::test]
async fn states_refuse_as_the_table_says() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let arn = key_arn(&id);
    let blob = bench
        .done("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="}))
        .await;
    let blob = blob["CiphertextBlob"].clone();
    let cryptographic = [
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        ("Decrypt", json!({"CiphertextBlob": blob, "KeyId": id})),
    ];
    let disabled = format!("{arn} is disabled.");
    let pending = format!("{arn} is pending deletion.");
    bench.done_to("DisableKey", &id).await;
    bench.done_to("DisableKey", &arn).await;
    for (operation, body) in &cryptographic {
        bench
            .refused(operation, body.clone(), Code::DisabledException, &disabled)
            .await;
    }
    let not_pending = format!("{arn} is not pending deletion.");
    bench
        .invalid_state("CancelKeyDeletion", json!({"KeyId": id}), &not_pending)
        .await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    for (operation, body) in &cryptographic {
        bench.invalid_state(operation, body.clone(), &pending).await;
    }
    for operation in ["EnableKey", "DisableKey", "ScheduleKeyDeletion"] {
        bench
            .invalid_state(operation, json!({"KeyId": id}), &pending)
            .await;
    }
    let alias = json!({"AliasName": "alias/a", "TargetKeyId": id});
    bench.invalid_state("CreateAlias", alias, &pending).await;
    assert!(
        bench
            .call("DescribeKey", json!({"KeyId": id}))
            .await
            .is_ok()
    );
    let cancelled = bench.done_to("CancelKeyDeletion", &id).await;
    assert_eq!(cancelled, json!({"KeyId": arn}));
    let described = bench.done_to("DescribeKey", &id).await;
    assert_eq!(described["KeyMetadata"]["KeyState"], "Disabled");
    bench.done_to("EnableKey", &id).await;
    for (operation, body) in cryptographic {
        bench.done(operation, body).await;
    }
}
