//! What opens, and what does not.

use super::ErrorCode as Code;
use super::*;

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
            bench.unopened(body).await;
        }
    }
    for at in 0..blob.len() {
        let mut flipped = blob.clone();
        flipped[at] ^= 1;
        // Bytes 4 to 19 are the key id: a blob of an unknown key. Byte 3 has the multi-Region flag,
        // which is part of the id.
        for (key, of_unknown) in [
            (Value::Null, Code::AccessDeniedException),
            (json!(id), Code::IncorrectKeyException),
        ] {
            let body = json!({"CiphertextBlob": encoded(&flipped), "EncryptionContext": context, "KeyId": key});
            let code = bench.call("Decrypt", body).await.unwrap_err().0;
            let expected = if (3..20).contains(&at) {
                of_unknown
            } else {
                Code::InvalidCiphertextException
            };
            assert_eq!(code, expected, "byte {at} with KeyId {key}");
        }
    }
    for length in 1..blob.len() {
        let body =
            json!({"CiphertextBlob": encoded(&blob[..length]), "EncryptionContext": context});
        bench.unopened(body).await;
    }
    let incorrect =
        "The key ID in the request does not identify a CMK that can perform this operation.";
    // The key's name first: it leaks nothing, and the context is not looked at.
    let body = json!({"CiphertextBlob": encoded(&blob), "KeyId": other});
    bench
        .refused("Decrypt", body, Code::IncorrectKeyException, incorrect)
        .await;
    bench
        .unopened(json!({"CiphertextBlob": "AAAA", "KeyId": other}))
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
    assert_eq!(
        refused,
        refusal(
            Code::SerializationException,
            "EncryptionContext is not of the type or form that this operation takes."
        )
    );
    let large =
        json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "x".repeat(8186)}});
    let message = "EncryptionContext is larger than 8192 bytes in canonical form.";
    bench.invalid("GenerateDataKey", large, message).await;
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
            "KeyId must not be null".to_owned(),
        ),
    ];
    for (operation, body, message) in cases {
        bench.invalid(operation, body, &message).await;
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
            .refused(
                "Encrypt",
                body,
                Code::SerializationException,
                "Plaintext is not of the type or form that this operation takes.",
            )
            .await;
    }
}
