//! Each refusal with its status, its name and its message.

use super::*;

fn validation(message: &str) -> (u16, &str, &str) {
    (400, "ValidationException", message)
}

fn too_long(message: &str) -> (u16, &str, &str) {
    (501, "UnsupportedOperationException", message)
}

#[tokio::test]
async fn members_are_required() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let (encrypt, decrypt) = (to_encrypt(), to_decrypt(&sealed));
    for (operation, body, members) in [
        (
            "metadata",
            &json!({"requestMetadata": metadata("CreateKey")}),
            &[][..],
        ),
        ("encrypt", &encrypt, &["plaintext", "encryptionAlgorithm"]),
        (
            "decrypt",
            &decrypt,
            &[
                "ciphertext",
                "initializationVector",
                "authenticationTag",
                "encryptionAlgorithm",
            ],
        ),
    ] {
        for member in members.iter().chain(&["requestMetadata"]) {
            let message = format!("{member} is missing.");
            let expected = validation(&message);
            fixture
                .refused(operation, &without(body.clone(), member), expected)
                .await;
            let null = with(body.clone(), member, Value::Null);
            fixture.refused(operation, &null, expected).await;
        }
        let mut needed = vec!["awsPrincipalArn", "kmsOperation", "kmsRequestId"];
        if operation != "metadata" {
            needed.push("kmsKeyArn");
        }
        for member in needed {
            let less = without(body["requestMetadata"].clone(), member);
            let message = format!("requestMetadata.{member} is missing.");
            let body = with(body.clone(), "requestMetadata", less);
            fixture
                .refused(operation, &body, validation(&message))
                .await;
        }
    }
    for (metadata, message) in [
        (json!({}), "requestMetadata.kmsOperation is missing."),
        (
            json!({"kmsOperation": "a"}),
            "requestMetadata.kmsRequestId is missing.",
        ),
    ] {
        let body = json!({ "requestMetadata": metadata });
        let (status, name, told) = fixture.call("/health", &body).await.unwrap_err();
        assert_eq!((status, name, told.as_str()), validation(message));
    }
}

#[tokio::test]
async fn bodies_of_other_shapes_are_refused() {
    let fixture = Fixture::new().await;
    let not_an_object = "The body is not a JSON object.";
    let of_member =
        |member: &str| format!("{member} is not of the type or form that this operation takes.");
    for (body, message) in [
        ("", not_an_object.to_owned()),
        ("null", not_an_object.to_owned()),
        ("[]", not_an_object.to_owned()),
        ("{", not_an_object.to_owned()),
        (r#"{"requestMetadata":7}"#, of_member("requestMetadata")),
        (r#"{"requestMetadata":[]}"#, of_member("requestMetadata")),
        (
            r#"{"requestMetadata":{"kmsOperation":7}}"#,
            of_member("requestMetadata"),
        ),
        (
            r#"{"requestMetadata":{"kmsOperation":"a","kmsOperation":"b"}}"#,
            of_member("requestMetadata"),
        ),
        (r#"{"plaintext":"AA="}"#, of_member("plaintext")),
        (r#"{"plaintext":"AA\n=="}"#, of_member("plaintext")),
        (r#"{"plaintext":"_w=="}"#, of_member("plaintext")),
        (r#"{"plaintext":["AA=="]}"#, of_member("plaintext")),
    ] {
        let told = fixture.raw("/keys/main/encrypt", body.as_bytes()).await;
        let (status, name, told) = told.unwrap_err();
        assert_eq!(
            (status, name, told.as_str()),
            validation(&message),
            "{body}"
        );
    }
    // Skipped without recursion: no depth of nesting exhausts the stack.
    let nested = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let metadata = metadata("Encrypt").to_string();
    let metadata = metadata.replacen('{', &format!("{{\"later\":{nested},"), 1);
    let body = format!(
        r#"{{"requestMetadata":{metadata},"plaintext":"AA==","encryptionAlgorithm":"AES_GCM","x":{nested}}}"#
    );
    fixture
        .raw("/keys/main/encrypt", body.as_bytes())
        .await
        .unwrap();
}

#[tokio::test]
async fn values_that_are_not_taken_are_named() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let (encrypt, decrypt) = (to_encrypt(), to_decrypt(&sealed));
    let bytes = |count: usize| encoded(&vec![0; count]);
    let integrity = "ciphertextDataIntegrityValueAlgorithm";
    let vector = "initializationVector must have 12 or 16 bytes.";
    let tag = "authenticationTag must have 16 bytes.";
    let additional =
        "additionalAuthenticatedData has more than 8192 bytes, which is not supported.";
    for (operation, body, member, value, expected) in [
        (
            "encrypt",
            &encrypt,
            "encryptionAlgorithm",
            "AES_CBC".to_owned(),
            validation("encryptionAlgorithm must be AES_GCM."),
        ),
        (
            "encrypt",
            &encrypt,
            integrity,
            "SHA_512".to_owned(),
            validation("ciphertextDataIntegrityValueAlgorithm must be SHA_256."),
        ),
        (
            "encrypt",
            &encrypt,
            "plaintext",
            bytes(4301),
            too_long("plaintext has more than 4300 bytes, which is not supported."),
        ),
        (
            "encrypt",
            &encrypt,
            "additionalAuthenticatedData",
            bytes(8193),
            too_long(additional),
        ),
        (
            "decrypt",
            &decrypt,
            "encryptionAlgorithm",
            "aes_gcm".to_owned(),
            validation("encryptionAlgorithm must be AES_GCM."),
        ),
        (
            "decrypt",
            &decrypt,
            "ciphertext",
            bytes(4301),
            too_long("ciphertext has more than 4300 bytes, which is not supported."),
        ),
        (
            "decrypt",
            &decrypt,
            "additionalAuthenticatedData",
            bytes(8193),
            too_long(additional),
        ),
        (
            "decrypt",
            &decrypt,
            "initializationVector",
            bytes(11),
            validation(vector),
        ),
        (
            "decrypt",
            &decrypt,
            "initializationVector",
            bytes(0),
            validation(vector),
        ),
        (
            "decrypt",
            &decrypt,
            "authenticationTag",
            bytes(15),
            validation(tag),
        ),
        (
            "decrypt",
            &decrypt,
            "authenticationTag",
            bytes(17),
            validation(tag),
        ),
        (
            "decrypt",
            &decrypt,
            "ciphertextMetadata",
            bytes(21),
            validation("ciphertextMetadata must have at most 20 bytes."),
        ),
    ] {
        let body = with(body.clone(), member, value.as_str());
        fixture.refused(operation, &body, expected).await;
    }
    let mut body = to_encrypt();
    body["requestMetadata"]["kmsViaService"] = "a".repeat(2049).into();
    let message =
        "requestMetadata.kmsViaService has more than 2048 characters, which is not supported.";
    fixture.refused("encrypt", &body, too_long(message)).await;
}

#[tokio::test]
async fn whatever_does_not_open_is_one_refusal() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let decrypt = to_decrypt(&sealed);
    for member in ["additionalAuthenticatedData", "ciphertextMetadata"] {
        fixture
            .refused("decrypt", &without(decrypt.clone(), member), UNOPENED)
            .await;
    }
    let mut later = decoded(&sealed["ciphertextMetadata"]);
    later[4] = 2;
    let mut other = later.clone();
    other[0] = 2;
    for (member, value) in [
        ("additionalAuthenticatedData", encoded(b"project=blue")),
        ("ciphertext", encoded(b"another text")),
        ("initializationVector", encoded(&[0; 12])),
        ("initializationVector", encoded(&[0; 16])),
        ("authenticationTag", encoded(&[0; 16])),
        ("ciphertextMetadata", encoded(&later)),
        ("ciphertextMetadata", encoded(&other)),
        ("ciphertextMetadata", encoded(b"key_version=1")),
    ] {
        let body = with(decrypt.clone(), member, value.as_str());
        fixture.refused("decrypt", &body, UNOPENED).await;
    }
}

#[tokio::test]
async fn keys_are_refused_by_their_states() {
    let fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    let calls = [("encrypt", to_encrypt()), ("decrypt", to_decrypt(&sealed))];
    let (bench, arn) = (&fixture.bench, key_arn(&fixture.key));
    bench.done_to("DisableKey", &fixture.key).await;
    let message = format!("{arn} is disabled.");
    for (operation, body) in &calls {
        let expected = (400, "InvalidStateException", message.as_str());
        fixture.refused(operation, body, expected).await;
    }
    bench
        .done(
            "ScheduleKeyDeletion",
            json!({"KeyId": fixture.key, "PendingWindowInDays": 7}),
        )
        .await;
    let message = format!("{arn} is pending deletion.");
    for (operation, body) in &calls {
        let expected = (400, "InvalidStateException", message.as_str());
        fixture.refused(operation, body, expected).await;
    }
    bench.api.clock.advance(Duration::from_hours(8 * 24));
    bench.api.remove_due_keys().await.unwrap();
    let message = format!("Alias arn:aws:kms:us-east-1:{ACCOUNT}:alias/orders is not found.");
    let metadata = (
        "metadata",
        json!({"requestMetadata": metadata("CreateKey")}),
    );
    for (operation, body) in calls.iter().chain([&metadata]) {
        let expected = (404, "KeyNotFoundException", message.as_str());
        fixture.refused(operation, body, expected).await;
    }
}

#[tokio::test]
async fn keys_of_other_kinds_and_names_are_refused() {
    let name = |id: &str, key: &str| external_key::Config {
        key: key.to_owned(),
        ..external(id)
    };
    let foreign = "arn:aws:kms:us-east-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let keys = vec![
        name("main", "alias/pair"),
        name("unknown", "alias/unknown"),
        name("broken", "arn:aws:iam::1:x"),
        name("foreign", foreign),
    ];
    let fixture = Fixture::with(&rates::Config::default(), keys).await;
    let body = json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"});
    let pair = fixture.bench.done("CreateKey", body).await;
    let pair = pair["KeyMetadata"]["KeyId"].as_str().unwrap();
    fixture.bench.alias("alias/pair", pair).await;
    let message = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    let expected = (400, "InvalidKeyUsageException", message);
    fixture.refused("encrypt", &to_encrypt(), expected).await;
    // AWS KMS refuses to create a key with this spec.
    let body = json!({ "requestMetadata": metadata("CreateKey") });
    let told = fixture.call("/keys/main/metadata", &body).await.unwrap();
    assert_eq!(told["keySpec"], "RSA_2048");
    let no_such = "This key store has no external key gone.";
    let no_alias = format!("Alias arn:aws:kms:us-east-1:{ACCOUNT}:alias/unknown is not found.");
    let no_arn = "ARN 'arn:aws:iam::1:x' is not that of a key or an alias of KMS";
    let not_allowed = format!(
        "User: {PRINCIPAL} is not authorized to perform: kms:Encrypt on this resource because the resource does not exist in this Region, no \
         resource-based policies allow access, or a resource-based policy explicitly denies access"
    );
    for (id, expected) in [
        ("gone", (404, "KeyNotFoundException", no_such)),
        ("unknown", (404, "KeyNotFoundException", &no_alias)),
        ("broken", (404, "KeyNotFoundException", no_arn)),
        ("foreign", (403, "AccessDeniedException", &not_allowed)),
    ] {
        let told = fixture
            .call(&format!("/keys/{id}/encrypt"), &to_encrypt())
            .await;
        let (status, name, message) = told.unwrap_err();
        assert_eq!((status, name, message.as_str()), expected);
    }
}

#[tokio::test]
async fn xks_2_the_rights_of_the_principal_decide() {
    let mut fixture = Fixture::new().await;
    let sealed = fixture.encrypt().await;
    fixture.who = fixture.bench.powerless("nobody").await;
    let arn = key_arn(&fixture.key);
    for (operation, action, body) in [
        ("encrypt", "Encrypt", to_encrypt()),
        ("decrypt", "Decrypt", to_decrypt(&sealed)),
        (
            "metadata",
            "DescribeKey",
            json!({"requestMetadata": metadata("CreateKey")}),
        ),
    ] {
        let message = format!(
            "User: {} is not authorized to perform: kms:{action} on resource: {arn} because no identity-based policy allows the kms:{action} action",
            fixture.who.arn
        );
        let expected = (403, "AccessDeniedException", message.as_str());
        fixture.refused(operation, &body, expected).await;
    }
    // A principal that was deleted meanwhile has signed in vain.
    let body = json!({"Name": "nobody"});
    fixture
        .bench
        .administer("DeletePrincipal", body)
        .await
        .unwrap();
    let message = "The security token included in the request is invalid.";
    let expected = (401, "AuthenticationFailedException", message);
    fixture.refused("encrypt", &to_encrypt(), expected).await;
}

#[tokio::test]
async fn xks_2_a_key_is_used_by_those_in_its_lists_alone() {
    let list = |text: &str| vec![text.to_owned()];
    let keys = vec![
        external_key::Config {
            aws_principals: list("arn:aws:iam::123456789012:role/*"),
            ..external("principals")
        },
        external_key::Config {
            kms_operations: list("GenerateDataKey"),
            ..external("operations")
        },
        external_key::Config {
            kms_key_arns: list("arn:aws:kms:eu-central-1:*"),
            ..external("arns")
        },
    ];
    let fixture = Fixture::with(&rates::Config::default(), keys).await;
    let mut body = to_encrypt();
    for (id, member, fits) in [
        (
            "principals",
            "awsPrincipalArn",
            "arn:aws:iam::123456789012:role/a",
        ),
        ("operations", "kmsOperation", "GenerateDataKey"),
        ("arns", "kmsKeyArn", "arn:aws:kms:eu-central-1:1:key/a"),
    ] {
        let path = format!("/keys/{id}/encrypt");
        let message = format!("The external key is not for this {member}.");
        let expected = Err((403, "AccessDeniedException", message));
        assert_eq!(fixture.call(&path, &body).await, expected);
        body["requestMetadata"][member] = fits.into();
        fixture.call(&path, &body).await.unwrap();
    }
    // CreateKey has no ARN to say; a health check is nobody's.
    let body = json!({"requestMetadata": without(metadata("CreateKey"), "kmsKeyArn")});
    fixture.call("/keys/arns/metadata", &body).await.unwrap();
    let body = json!({"requestMetadata": {"kmsOperation": "KmsHealthCheck", "kmsRequestId": "1"}});
    fixture.call("/health", &body).await.unwrap();
}

#[tokio::test]
async fn xks_2_a_key_is_used_for_its_usages_alone() {
    let usage = |id: &str, usage: &[&str]| external_key::Config {
        usage: usage.iter().map(|one| (*one).to_owned()).collect(),
        ..external(id)
    };
    let keys = vec![
        external("main"),
        usage("encrypts", &["ENCRYPT"]),
        usage("decrypts", &["DECRYPT"]),
        usage("neither", &[]),
    ];
    let fixture = Fixture::with(&rates::Config::default(), keys).await;
    let sealed = fixture.encrypt().await;
    let plain = without(to_encrypt(), "ciphertextDataIntegrityValueAlgorithm");
    let denied = |usage: &str| {
        let message = format!("The external key is not for {usage}.");
        Err((400, "InvalidKeyUsageException", message))
    };
    for (id, operation, body, expected) in [
        (
            "encrypts",
            "decrypt",
            to_decrypt(&sealed),
            denied("DECRYPT"),
        ),
        // The integrity value promises that it can be decrypted.
        ("encrypts", "encrypt", to_encrypt(), denied("DECRYPT")),
        ("decrypts", "encrypt", to_encrypt(), denied("ENCRYPT")),
        ("decrypts", "encrypt", plain.clone(), denied("ENCRYPT")),
        ("neither", "encrypt", plain.clone(), denied("ENCRYPT")),
        ("neither", "decrypt", to_decrypt(&sealed), denied("DECRYPT")),
    ] {
        let told = fixture
            .call(&format!("/keys/{id}/{operation}"), &body)
            .await;
        assert_eq!(told, expected, "{id} {operation}");
    }
    fixture
        .call("/keys/encrypts/encrypt", &plain)
        .await
        .unwrap();
}
