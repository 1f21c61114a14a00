//! What callers of the cryptographic operations see.

use super::KmsErrorCode as Code;
use super::*;

const EITHER: &str = "Please specify either number of bytes or key spec.";

#[tokio::test]
async fn a_data_key_is_asked_for_by_one_principal_and_opened_by_another() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench
        .done(
            "CreateAlias",
            json!({"AliasName": "alias/containers", "TargetKeyId": id}),
        )
        .await;
    let provisioner = bench
        .allowed("p", &["kms:GenerateDataKeyWithoutPlaintext"])
        .await;
    let consumer = bench.allowed("c", &["kms:Decrypt"]).await;
    let names = [
        id.clone(),
        key_arn(&id),
        "alias/containers".to_owned(),
        alias_arn("containers"),
    ];
    for name in &names {
        for (context, length) in [
            (json!({}), 32),
            (json!({"b": "2", "a": "1"}), 16),
            (json!({"a": ""}), 7),
        ] {
            let mut ask = json!({"KeyId": name, "EncryptionContext": context});
            match length {
                32 => ask["KeySpec"] = json!("AES_256"),
                16 => ask["KeySpec"] = json!("AES_128"),
                _ => ask["NumberOfBytes"] = json!(length),
            }
            let made = bench
                .call_as(&provisioner, "GenerateDataKeyWithoutPlaintext", ask)
                .await
                .unwrap();
            let members: Vec<_> = made.as_object().unwrap().keys().collect();
            assert_eq!(members, ["CiphertextBlob", "KeyId", "KeyMaterialId"]);
            assert_eq!(made["KeyId"], key_arn(&id));
            assert_eq!(decoded(&made["CiphertextBlob"]).len(), 64 + length);
            let open =
                json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context});
            let opened = bench
                .call_as(&consumer, "Decrypt", open.clone())
                .await
                .unwrap();
            assert_eq!(decoded(&opened["Plaintext"]).len(), length);
            assert_eq!(opened["KeyId"], key_arn(&id));
            assert_eq!(opened["KeyMaterialId"], made["KeyMaterialId"]);
            assert_eq!(opened["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
            let refused = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
                 allowed to access.";
            bench
                .refused_as(
                    &provisioner,
                    "Decrypt",
                    open,
                    Code::AccessDeniedException,
                    refused,
                )
                .await;
        }
    }
    let arn = key_arn(&id);
    for (name, action) in [
        ("GenerateDataKey", "kms:GenerateDataKey"),
        ("Encrypt", "kms:Encrypt"),
    ] {
        let denied = format!(
            "User: {} is not authorized to perform: {action} on resource: {arn} because no identity-based policy allows the {action} action",
            provisioner.arn
        );
        let body = json!({"KeyId": id, "KeySpec": "AES_256", "Plaintext": "AA=="});
        bench
            .refused_as(
                &provisioner,
                name,
                body,
                Code::AccessDeniedException,
                &denied,
            )
            .await;
    }
    assert_eq!(
        bench.counted("keymill_data_keys_total{operation=\"GenerateDataKeyWithoutPlaintext\",spec=\"AES_256\",result=\"miss\"}"),
        4
    );
}

#[tokio::test]
async fn every_length_is_served_and_others_have_the_endpoints_words() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    for operation in ["GenerateDataKeyWithoutPlaintext", "GenerateDataKey"] {
        for length in [1, 7, 16, 32, 64, 1024] {
            let made = bench
                .done(operation, json!({"KeyId": id, "NumberOfBytes": length}))
                .await;
            let opened = bench
                .done("Decrypt", json!({"CiphertextBlob": made["CiphertextBlob"]}))
                .await;
            assert_eq!(decoded(&opened["Plaintext"]).len(), length);
            if operation == "GenerateDataKey" {
                assert_eq!(made["Plaintext"], opened["Plaintext"]);
            }
        }
        let range = |value: &str, must: &str| {
            format!(
                "1 validation error detected: Value '{value}' at 'numberOfBytes' failed to satisfy constraint: Member must have value {must}"
            )
        };
        for (number, message) in [
            (0, range("0", "greater than or equal to 1")),
            (-1, range("-1", "greater than or equal to 1")),
            (1025, range("1025", "less than or equal to 1024")),
        ] {
            // Before lookup: also for a key that does not exist.
            for key in [id.as_str(), UNKNOWN] {
                let body = json!({"KeyId": key, "NumberOfBytes": number});
                bench
                    .refused(operation, body, Code::ValidationException, &message)
                    .await;
            }
        }
        for spec in ["FOO", "RSA_2048", ""] {
            let message = format!(
                "1 validation error detected: Value '{spec}' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, \
                 RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, \
                 HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87]"
            );
            let body = json!({"KeyId": id, "KeySpec": spec});
            bench
                .refused(operation, body, Code::ValidationException, &message)
                .await;
        }
        let neither = json!({"KeyId": id});
        bench
            .refused(operation, neither, Code::ValidationException, EITHER)
            .await;
        let both = json!({"KeyId": id, "KeySpec": "AES_256", "NumberOfBytes": 32});
        bench
            .refused(operation, both, Code::ValidationException, EITHER)
            .await;
    }
}

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
            bench
                .refused(operation, ask(key), Code::NotFoundException, &message)
                .await;
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
    bench
        .refused(
            "GenerateDataKey",
            json!({}),
            Code::ValidationException,
            missing,
        )
        .await;
    let null = json!({"KeyId": null, "KeySpec": "AES_256"});
    bench
        .refused("GenerateDataKey", null, Code::ValidationException, missing)
        .await;
    let two = "2 validation errors detected: Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; \
         Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\\p{ASCII}+$";
    bench
        .refused("GenerateDataKey", ask(""), Code::ValidationException, two)
        .await;
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
            .refused_as(
                &stranger,
                "GenerateDataKey",
                body,
                Code::AccessDeniedException,
                message,
            )
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
    bench
        .refused_as(
            &stranger,
            "Decrypt",
            body,
            Code::AccessDeniedException,
            message,
        )
        .await;
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
    bench
        .refused_as(
            &narrow,
            "Decrypt",
            body,
            Code::AccessDeniedException,
            &message,
        )
        .await;
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
    bench
        .refused_as(
            &barred,
            "Decrypt",
            body,
            Code::AccessDeniedException,
            &message,
        )
        .await;
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.done("DisableKey", json!({"KeyId": id})).await;
    let nobody = bench
        .principal(
            "nobody",
            json!({"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}),
        )
        .await;
    // Members together before state.
    bench
        .refused(
            "GenerateDataKey",
            json!({"KeyId": id}),
            Code::ValidationException,
            EITHER,
        )
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
    let disabled = format!("{} is disabled.", key_arn(&id));
    bench
        .refused(
            "GenerateDataKey",
            dry.clone(),
            Code::DisabledException,
            &disabled,
        )
        .await;
    bench.done("EnableKey", json!({"KeyId": id})).await;
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
    bench
        .refused("Decrypt", wrong, Code::InvalidCiphertextException, "")
        .await;
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
    bench.done("DisableKey", json!({"KeyId": id})).await;
    bench.done("DisableKey", json!({"KeyId": arn})).await;
    for (operation, body) in &cryptographic {
        bench
            .refused(operation, body.clone(), Code::DisabledException, &disabled)
            .await;
    }
    let not_pending = format!("{arn} is not pending deletion.");
    bench
        .refused(
            "CancelKeyDeletion",
            json!({"KeyId": id}),
            Code::KMSInvalidStateException,
            &not_pending,
        )
        .await;
    bench
        .done("ScheduleKeyDeletion", json!({"KeyId": id}))
        .await;
    for (operation, body) in &cryptographic {
        bench
            .refused(
                operation,
                body.clone(),
                Code::KMSInvalidStateException,
                &pending,
            )
            .await;
    }
    for operation in ["EnableKey", "DisableKey", "ScheduleKeyDeletion"] {
        bench
            .refused(
                operation,
                json!({"KeyId": id}),
                Code::KMSInvalidStateException,
                &pending,
            )
            .await;
    }
    let alias = json!({"AliasName": "alias/a", "TargetKeyId": id});
    bench
        .refused(
            "CreateAlias",
            alias,
            Code::KMSInvalidStateException,
            &pending,
        )
        .await;
    assert!(
        bench
            .call("DescribeKey", json!({"KeyId": id}))
            .await
            .is_ok()
    );
    let cancelled = bench.done("CancelKeyDeletion", json!({"KeyId": id})).await;
    assert_eq!(cancelled, json!({"KeyId": arn}));
    let described = bench.done("DescribeKey", json!({"KeyId": id})).await;
    assert_eq!(described["KeyMetadata"]["KeyState"], "Disabled");
    bench.done("EnableKey", json!({"KeyId": id})).await;
    for (operation, body) in cryptographic {
        bench.done(operation, body).await;
    }
}

#[tokio::test]
async fn whatever_does_not_open_is_one_error_without_a_message() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    let context = json!({"tenant": "t-1", "Case": "Value"});
    let made = bench
        .done(
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": context}),
        )
        .await;
    let blob = decoded(&made["CiphertextBlob"]);
    for context in [
        json!({}),
        json!({"tenant": "t-1"}),
        json!({"tenant": "t-1", "Case": "value"}),
        json!({"tenant": "t-1", "case": "Value"}),
        json!({"tenant": "t-1", "Case": "Value", "more": ""}),
        json!({"tenant": "Value", "Case": "t-1"}),
        json!({"tenant=t-1": "", "Case": "Value"}),
    ] {
        for key in [Value::Null, json!(id)] {
            let body = json!({"CiphertextBlob": encoded(&blob), "EncryptionContext": context, "KeyId": key});
            bench
                .refused("Decrypt", body, Code::InvalidCiphertextException, "")
                .await;
        }
    }
    for at in 0..blob.len() {
        let mut flipped = blob.clone();
        flipped[at] ^= 1;
        let body = json!({"CiphertextBlob": encoded(&flipped), "EncryptionContext": context});
        let code = bench.call("Decrypt", body).await.unwrap_err().0;
        // Bytes 4 to 19 are the key id: a blob of an unknown key. Byte 3 has the multi-Region flag, which is part of the id.
        let expected = if (3..20).contains(&at) {
            Code::AccessDeniedException
        } else {
            Code::InvalidCiphertextException
        };
        assert_eq!(code, expected, "byte {at}");
        let body =
            json!({"CiphertextBlob": encoded(&flipped), "EncryptionContext": context, "KeyId": id});
        let code = bench.call("Decrypt", body).await.unwrap_err().0;
        let expected = if (3..20).contains(&at) {
            Code::IncorrectKeyException
        } else {
            Code::InvalidCiphertextException
        };
        assert_eq!(code, expected, "byte {at} with KeyId");
    }
    for length in 1..blob.len() {
        let body =
            json!({"CiphertextBlob": encoded(&blob[..length]), "EncryptionContext": context});
        bench
            .refused("Decrypt", body, Code::InvalidCiphertextException, "")
            .await;
    }
    let incorrect =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    // The key's name first: it leaks nothing, and the context is not looked at.
    let body = json!({"CiphertextBlob": encoded(&blob), "KeyId": other});
    bench
        .refused("Decrypt", body, Code::IncorrectKeyException, incorrect)
        .await;
    bench
        .refused(
            "Decrypt",
            json!({"CiphertextBlob": "AAAA", "KeyId": other}),
            Code::InvalidCiphertextException,
            "",
        )
        .await;
}

#[tokio::test]
async fn empty_and_absent_contexts_are_one_and_order_is_irrelevant() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let made = bench
        .done(
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {}}),
        )
        .await;
    bench
        .done("Decrypt", json!({"CiphertextBlob": made["CiphertextBlob"]}))
        .await;
    let ask = format!(
        r#"{{"KeyId":"{id}","KeySpec":"AES_256","EncryptionContext":{{"b":"2","a":"1"}}}}"#
    );
    let made = bench
        .call_raw(&bench.admin, "GenerateDataKey", ask.as_bytes())
        .await
        .unwrap();
    let open = format!(
        r#"{{"EncryptionContext":{{"a":"1","b":"2"}},"CiphertextBlob":{}}}"#,
        made["CiphertextBlob"]
    );
    let opened = bench
        .call_raw(&bench.admin, "Decrypt", open.as_bytes())
        .await
        .unwrap();
    assert_eq!(opened["Plaintext"], made["Plaintext"]);
    let twice = format!(
        r#"{{"KeyId":"{id}","KeySpec":"AES_256","EncryptionContext":{{"a":"1","a":"1"}}}}"#
    );
    let refused = bench
        .call_raw(&bench.admin, "GenerateDataKey", twice.as_bytes())
        .await;
    assert_eq!(refused, Err((Code::SerializationException, String::new())));
    let large =
        json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "x".repeat(8186)}});
    let message = "EncryptionContext is larger than 8192 bytes in canonical form.";
    bench
        .refused("GenerateDataKey", large, Code::ValidationException, message)
        .await;
}

#[tokio::test]
async fn encrypt_and_decrypt_check_their_members() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    for length in [1, 100, 4096] {
        let plaintext = vec![7; length];
        let made = bench
            .done(
                "Encrypt",
                json!({"KeyId": id, "Plaintext": encoded(&plaintext)}),
            )
            .await;
        let members: Vec<_> = made.as_object().unwrap().keys().collect();
        assert_eq!(members, ["CiphertextBlob", "EncryptionAlgorithm", "KeyId"]);
        let opened = bench.done("Decrypt", json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})).await;
        assert_eq!(decoded(&opened["Plaintext"]), plaintext);
    }
    let invalid = |entry: &str| format!("1 validation error detected: {entry}");
    let cases = [
        (
            "Encrypt",
            json!({"KeyId": id}),
            invalid("Value at 'plaintext' failed to satisfy constraint: Member must not be null"),
        ),
        (
            "Encrypt",
            json!({"KeyId": id, "Plaintext": ""}),
            invalid(
                "Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
        ),
        (
            "Encrypt",
            json!({"KeyId": id, "Plaintext": encoded(&[0; 4097])}),
            invalid(
                "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096",
            ),
        ),
        (
            "Encrypt",
            json!({"KeyId": UNKNOWN, "Plaintext": "AA==", "EncryptionAlgorithm": "FOO"}),
            invalid(
                "Value 'FOO' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: \
                 [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]",
            ),
        ),
        (
            "Decrypt",
            json!({}),
            invalid(
                "Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null",
            ),
        ),
        (
            "Decrypt",
            json!({"CiphertextBlob": encoded(&[0; 6145])}),
            invalid(
                "Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144",
            ),
        ),
        (
            "Decrypt",
            json!({"CiphertextBlob": "AA==", "EncryptionAlgorithm": "SM2PKE"}),
            "KeyId is required with an asymmetric EncryptionAlgorithm.".to_owned(),
        ),
    ];
    for (operation, body, message) in cases {
        bench
            .refused(operation, body, Code::ValidationException, &message)
            .await;
    }
    let body =
        json!({"KeyId": id, "Plaintext": "AA==", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"});
    let message = "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.";
    bench
        .refused("Encrypt", body, Code::InvalidKeyUsageException, message)
        .await;
    for body in [
        json!({"KeyId": id, "Plaintext": "*"}),
        json!({"KeyId": id, "Plaintext": 7}),
    ] {
        bench
            .refused("Encrypt", body, Code::SerializationException, "")
            .await;
    }
}

#[tokio::test]
async fn members_not_built_yet_are_refused_and_never_ignored() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let recipient =
        json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": "AA=="});
    let cases = [
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256", "Recipient": recipient}),
            "Recipient",
        ),
        (
            "Decrypt",
            json!({"CiphertextBlob": "AA==", "Recipient": recipient}),
            "Recipient",
        ),
        (
            "Decrypt",
            json!({"KeyId": id, "CiphertextBlob": "AA==", "DryRun": true, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}),
            "DryRunModifiers",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": 1, "Recipient": recipient}),
            "Recipient",
        ),
        (
            "GenerateRandom",
            json!({"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1"}),
            "CustomKeyStoreId",
        ),
        ("CreateKey", json!({"Policy": "{}"}), "Policy"),
        (
            "CreateKey",
            json!({"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            "Tags",
        ),
        ("CreateKey", json!({"MultiRegion": true}), "MultiRegion"),
        ("CreateKey", json!({"Origin": "EXTERNAL"}), "Origin"),
        (
            "CreateKey",
            json!({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}),
            "KeySpec RSA_2048",
        ),
        (
            "CreateKey",
            json!({"CustomKeyStoreId": "cks-1"}),
            "CustomKeyStoreId",
        ),
        ("CreateKey", json!({"XksKeyId": "x"}), "XksKeyId"),
        (
            "CreateKey",
            json!({"BypassPolicyLockoutSafetyCheck": true}),
            "BypassPolicyLockoutSafetyCheck",
        ),
        ("ReEncrypt", json!({}), "ReEncrypt"),
        ("CreateGrant", json!({}), "CreateGrant"),
        ("PutKeyPolicy", json!({}), "PutKeyPolicy"),
    ];
    let before = bench.api.keystore.revision();
    for (operation, body, what) in cases {
        let message = format!("{what} is not supported.");
        bench
            .refused(
                operation,
                body,
                Code::UnsupportedOperationException,
                &message,
            )
            .await;
    }
    assert_eq!(bench.api.keystore.revision(), before);
}

#[tokio::test]
async fn random_bytes_are_drawn_for_who_may_have_them() {
    let bench = Bench::new().await;
    let drawn = bench
        .done("GenerateRandom", json!({"NumberOfBytes": 32}))
        .await;
    assert_eq!(decoded(&drawn["Plaintext"]).len(), 32);
    let again = bench
        .done("GenerateRandom", json!({"NumberOfBytes": 32}))
        .await;
    assert_ne!(drawn, again);
    bench
        .refused(
            "GenerateRandom",
            json!({}),
            Code::ValidationException,
            "NumberOfBytes is required.",
        )
        .await;
    let nobody = bench.allowed("nobody", &["kms:Decrypt"]).await;
    let denied = bench
        .call_as(&nobody, "GenerateRandom", json!({"NumberOfBytes": 1}))
        .await
        .unwrap_err();
    assert!(denied.1.contains("on resource: *"), "{denied:?}");
}

#[tokio::test]
async fn rng_1_a_failed_draw_fails_the_operation_and_is_counted() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.faults.0.store(true, Ordering::SeqCst);
    let operations = [
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        ("GenerateDataKey", json!({"KeyId": id, "NumberOfBytes": 5})),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
        ("GenerateRandom", json!({"NumberOfBytes": 5})),
        ("CreateKey", json!({})),
        ("DisableKey", json!({"KeyId": id})),
    ];
    let count = operations.len() as u64;
    for (operation, body) in operations {
        bench
            .refused(operation, body, Code::KMSInternalException, "")
            .await;
    }
    assert_eq!(bench.counted("keymill_entropy_failures_total"), count);
    bench.faults.0.store(false, Ordering::SeqCst);
    bench
        .done("GenerateDataKey", json!({"KeyId": id, "NumberOfBytes": 5}))
        .await;
    let described = bench.done("DescribeKey", json!({"KeyId": id})).await;
    assert_eq!(
        described["KeyMetadata"]["KeyState"], "Enabled",
        "a change that failed changed nothing"
    );
}
