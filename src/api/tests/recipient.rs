//! `Recipient`: who gets the plaintext of an answer.

use super::limits::{SECOND, of_principal};
use super::*;
use crate::attestation::tests::maker::{Maker, Payload};
use crate::crypto::entropy::probed;
use crate::crypto::enveloped_data::tests::opened;
use crate::crypto::pair::{PairSpec, PrivateKey};

/// A recipient: a module, and the private key of its documents.
struct Enclave {
    maker: Maker,
    key: PrivateKey,
}

impl Enclave {
    fn new() -> Self {
        let key = PrivateKey::generate(PairSpec::Rsa2048, probed()).unwrap();
        let maker = Maker::new();
        Self { maker, key }
    }

    /// A daemon that believes its documents.
    async fn bench(&self) -> Bench {
        self.bench_with(&rates::Config::default()).await
    }

    async fn bench_with(&self, rates: &rates::Config) -> Bench {
        let rates = rates::Config {
            refused_calls_per_second: 0,
            ..rates.clone()
        };
        Bench::with_roots(&rates, &BTreeMap::new(), self.maker.roots()).await
    }

    fn payload(&self) -> Payload {
        self.maker.enclave(self.key.public_der())
    }

    fn recipient(&self) -> Value {
        asking(&self.maker.document(self.payload()))
    }

    fn opened(&self, answer: &Value) -> Vec<u8> {
        opened(&self.key, &decoded(&answer["CiphertextForRecipient"]))
    }
}

fn asking(document: &[u8]) -> Value {
    json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": encoded(document)})
}

/// The members of an answer, in the order of the alphabet.
fn members(answer: &Value) -> Vec<&str> {
    let members = answer.as_object().unwrap().keys();
    members.map(String::as_str).collect()
}

#[tokio::test]
async fn attest_1_each_operation_seals_its_plaintext_and_leaves_its_member_empty() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let id = bench.key().await;
    let recipient = enclave.recipient();
    let sealed = async |operation: &str, body: Value| {
        let body = with(body, "Recipient", recipient.clone());
        bench.done(operation, body).await
    };

    let body = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "b"}});
    let made = sealed("GenerateDataKey", body).await;
    let expected = [
        "CiphertextBlob",
        "CiphertextForRecipient",
        "KeyId",
        "KeyMaterialId",
        "Plaintext",
    ];
    assert_eq!(
        (members(&made), &made["Plaintext"]),
        (expected.to_vec(), &json!(""))
    );
    let data_key = enclave.opened(&made);
    assert_eq!(data_key.len(), 32);

    let body = json!({"CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": {"a": "b"}});
    let plain = bench.done("Decrypt", body.clone()).await;
    assert_eq!(decoded(&plain["Plaintext"]), data_key);
    let answer = sealed("Decrypt", body).await;
    let expected = [
        "CiphertextForRecipient",
        "EncryptionAlgorithm",
        "KeyId",
        "Plaintext",
    ];
    assert_eq!(
        (members(&answer), &answer["Plaintext"]),
        (expected.to_vec(), &json!(""))
    );
    assert_eq!(enclave.opened(&answer), data_key);

    let answer = sealed("GenerateRandom", json!({"NumberOfBytes": 1024})).await;
    let expected = ["CiphertextForRecipient", "Plaintext"];
    assert_eq!(
        (members(&answer), &answer["Plaintext"]),
        (expected.to_vec(), &json!(""))
    );
    assert_eq!(enclave.opened(&answer).len(), 1024);

    for spec in ["ECC_NIST_P256", "RSA_2048"] {
        let body = json!({"KeyId": id, "KeyPairSpec": spec});
        let pair = sealed("GenerateDataKeyPair", body).await;
        let expected = [
            "CiphertextForRecipient",
            "KeyId",
            "KeyMaterialId",
            "KeyPairSpec",
            "PrivateKeyCiphertextBlob",
            "PrivateKeyPlaintext",
            "PublicKey",
        ];
        assert_eq!(members(&pair), expected);
        assert_eq!(pair["PrivateKeyPlaintext"], "");
        let body = json!({"CiphertextBlob": pair["PrivateKeyCiphertextBlob"]});
        let private = bench.done("Decrypt", body).await;
        assert_eq!(enclave.opened(&pair), decoded(&private["Plaintext"]));
    }

    let body = json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"});
    let agreeing = bench.done("CreateKey", body).await;
    let agreeing = &agreeing["KeyMetadata"]["KeyId"];
    let other = PrivateKey::generate(PairSpec::EccNistP256, probed()).unwrap();
    let body = json!({
        "KeyId": agreeing, "KeyAgreementAlgorithm": "ECDH", "PublicKey": encoded(other.public_der()),
    });
    let plain = bench.done("DeriveSharedSecret", body.clone()).await;
    let answer = sealed("DeriveSharedSecret", body).await;
    let expected = [
        "CiphertextForRecipient",
        "KeyAgreementAlgorithm",
        "KeyId",
        "KeyOrigin",
        "SharedSecret",
    ];
    assert_eq!(
        (members(&answer), &answer["SharedSecret"]),
        (expected.to_vec(), &json!(""))
    );
    assert_eq!(enclave.opened(&answer), decoded(&plain["SharedSecret"]));
}

#[tokio::test]
async fn attest_1_what_rsa_opens_is_sealed_too() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let body = json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"});
    let created = bench.done("CreateKey", body).await;
    let id = &created["KeyMetadata"]["KeyId"];
    let algorithm = "RSAES_OAEP_SHA_256";
    let body = json!({"KeyId": id, "EncryptionAlgorithm": algorithm, "Plaintext": encoded(b"x")});
    let blob = bench.done("Encrypt", body).await["CiphertextBlob"].clone();
    let body = json!({
        "KeyId": id, "EncryptionAlgorithm": algorithm, "CiphertextBlob": blob,
        "Recipient": enclave.recipient(),
    });
    let answer = bench.done("Decrypt", body).await;
    assert_eq!(
        (enclave.opened(&answer), &answer["Plaintext"]),
        (b"x".to_vec(), &json!(""))
    );
}

#[tokio::test]
async fn its_members_are_checked_with_those_of_the_request() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let null = |member: &str| {
        format!(
            "Value null at 'recipient.{member}' failed to satisfy constraint: Member must not be null"
        )
    };
    let (algorithm, document) = (null("keyEncryptionAlgorithm"), null("attestationDocument"));
    let two = format!("2 validation errors detected: {algorithm}; {document}");
    let document = format!("1 validation error detected: {document}");
    let foo = "1 validation error detected: Value 'FOO' at 'recipient.keyEncryptionAlgorithm' failed to satisfy constraint: \
               Member must satisfy enum value set: [RSAES_OAEP_SHA_256]";
    let length = |bound: &str| {
        format!(
            "1 validation error detected: Value at 'recipient.attestationDocument' failed to satisfy constraint: Member must have length {bound}"
        )
    };
    let with_algorithm = |algorithm: &str| {
        with(
            enclave.recipient(),
            "KeyEncryptionAlgorithm",
            algorithm.into(),
        )
    };
    let lacking = json!({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"});
    for (recipient, message) in [
        (json!({}), two),
        (lacking, document),
        (with_algorithm("FOO"), foo.to_owned()),
        (asking(b""), length("greater than or equal to 1")),
        (
            asking(&[7; 262_145]),
            length("less than or equal to 262144"),
        ),
        (
            asking(&[7; 262_144]),
            "The attestation document is malformed: it has more than 16640 bytes.".to_owned(),
        ),
        (
            asking(b"x"),
            "The attestation document is malformed: it is not a COSE_Sign1.".to_owned(),
        ),
    ] {
        let body = json!({"NumberOfBytes": 1, "Recipient": recipient});
        bench.invalid("GenerateRandom", body, &message).await;
    }
    for recipient in [
        json!("x"),
        json!(["RSAES_OAEP_SHA_256", "AA=="]),
        json!({"AttestationDocument": "AA"}),
        json!({"KeyEncryptionAlgorithm": 7}),
    ] {
        let body = json!({"NumberOfBytes": 1, "Recipient": recipient});
        let refused = bench.call("GenerateRandom", body).await.unwrap_err();
        assert_eq!(refused.0, ErrorCode::SerializationException, "{recipient}");
        assert!(refused.1.starts_with("Recipient: "), "{}", refused.1);
    }
    let absent = json!({"NumberOfBytes": 1, "Recipient": null});
    let answer = bench.done("GenerateRandom", absent).await;
    assert_eq!(members(&answer), ["Plaintext"]);
}

/// The document comes before the key, since the caller's rights may rest on it; the rest of the
/// order is that of every request.
#[tokio::test]
async fn attest_1_a_refused_document_is_told_before_the_key() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let stranger = Enclave::new();
    let old = enclave.payload().with("timestamp", 1.into());
    let not_trusted = "The attestation document is not of a trusted root.";
    for (recipient, message) in [
        (stranger.recipient(), not_trusted),
        (
            asking(&enclave.maker.document(old)),
            "The attestation document is more than 300 seconds old.",
        ),
    ] {
        let with = |body| with(body, "Recipient", recipient.clone());
        for dry_run in [false, true] {
            let body = json!({"KeyId": UNKNOWN, "KeySpec": "AES_256", "DryRun": dry_run});
            bench.invalid("GenerateDataKey", with(body), message).await;
            let body = json!({"KeyId": UNKNOWN, "KeyPairSpec": "RSA_2048", "DryRun": dry_run});
            bench
                .invalid("GenerateDataKeyPair", with(body), message)
                .await;
            let body = json!({"CiphertextBlob": "AA==", "DryRun": dry_run});
            bench.invalid("Decrypt", with(body), message).await;
            let body = json!({
                "KeyId": UNKNOWN, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "AA==", "DryRun": dry_run,
            });
            bench
                .invalid("DeriveSharedSecret", with(body), message)
                .await;
        }
        let body = json!({"NumberOfBytes": 1});
        bench.invalid("GenerateRandom", with(body), message).await;
    }
    let body = json!({"KeyId": UNKNOWN, "KeySpec": "AES_256", "Recipient": enclave.recipient()});
    bench.missing("GenerateDataKey", body, UNKNOWN).await;
    let both = json!({"KeyId": UNKNOWN, "KeySpec": "FOO", "Recipient": stranger.recipient()});
    let refused = bench.call("GenerateDataKey", both).await.unwrap_err();
    assert!(refused.1.contains("'FOO' at 'keySpec'"), "{}", refused.1);
}

#[tokio::test]
async fn a_dry_run_seals_nothing() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    let blob = bench.done("GenerateDataKey", body.clone()).await["CiphertextBlob"].clone();
    let message = "The request would have succeeded, but the DryRun option is set.";
    for (operation, body) in [
        ("GenerateDataKey", body),
        ("Decrypt", json!({"CiphertextBlob": blob})),
        (
            "GenerateDataKeyPair",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
    ] {
        let body = with(
            with(body, "DryRun", true.into()),
            "Recipient",
            enclave.recipient(),
        );
        let code = ErrorCode::DryRunOperationException;
        bench.refused(operation, body, code, message).await;
    }
}

#[tokio::test]
async fn operations_without_a_plaintext_ignore_it_as_any_unknown_member() {
    let bench = Enclave::new().bench().await;
    let id = bench.key().await;
    for (operation, body) in [
        (
            "GenerateDataKeyWithoutPlaintext",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyPairWithoutPlaintext",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
        ("Encrypt", json!({"KeyId": id, "Plaintext": "AA=="})),
    ] {
        let answer = bench
            .done(operation, with(body, "Recipient", "x".into()))
            .await;
        assert_eq!(answer["CiphertextForRecipient"], Value::Null, "{operation}");
    }
}

#[tokio::test]
async fn a_document_costs_its_caller_one_key_refused_or_not() {
    let enclave = Enclave::new();
    let bench = enclave.bench_with(&of_principal(3)).await;
    let id = bench.key().await;
    let (good, bad) = (enclave.recipient(), Enclave::new().recipient());
    let all = bench.allowed("all", &["kms:*"]).await;
    for (operation, body) in [
        (
            "GenerateDataKey",
            json!({"KeyId": id, "KeySpec": "AES_256"}),
        ),
        (
            "GenerateDataKeyPair",
            json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
        ),
        ("GenerateRandom", json!({"NumberOfBytes": 1})),
        ("Decrypt", json!({"CiphertextBlob": "AA=="})),
        (
            "DeriveSharedSecret",
            json!({"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": "AA=="}),
        ),
    ] {
        let ask = |recipient: &Value| with(body.clone(), "Recipient", recipient.clone());
        let refused = bench.call_as(&all, operation, ask(&bad)).await.unwrap_err();
        assert_eq!(refused.0, ErrorCode::ValidationException, "{operation}");
        let answer = bench.call_as(&all, operation, ask(&good)).await;
        let is_served = !["Decrypt", "DeriveSharedSecret"].contains(&operation);
        assert_eq!(answer.is_ok(), is_served, "{answer:?}");
        assert_eq!(bench.mints(&all, &id).await, 1, "{operation}");
        // Too late to be looked at.
        let refused = bench.call_as(&all, operation, ask(&bad)).await.unwrap_err();
        assert_eq!(refused.0, ErrorCode::ThrottlingException, "{operation}");
        bench.api.clock.advance(2 * SECOND);
    }
    for _ in 0..20 {
        let body = json!({"NumberOfBytes": 1, "Recipient": bad});
        let refused = bench.call("GenerateRandom", body).await.unwrap_err();
        let expected = ErrorCode::ValidationException;
        assert_eq!(refused.0, expected, "the operator has no limit");
    }
}

#[tokio::test]
async fn attest_1_policies_allow_attested_code_alone() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let id = bench.key().await;
    let one = "01".repeat(48);
    let allowing = |name: &'static str, operator: &str, key: &str, value: &str| {
        let policy = json!({"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*",
            "Condition": {operator: {format!("kms:RecipientAttestation:{key}"): value}}}});
        bench.principal(name, policy)
    };
    let equals = "StringEqualsIgnoreCase";
    let by_pcr = allowing("by-pcr", equals, "PCR1", &one.to_uppercase()).await;
    let by_image = allowing("by-image", "StringEquals", "imageSha384", &"00".repeat(48)).await;
    let by_other = allowing("by-other", equals, "PCR2", &one).await;
    let by_tpm = allowing("by-tpm", equals, "NitroTPMPCR1", &one).await;
    let by_absent = allowing("by-absent", equals, "PCR31", &one).await;
    let tpm = asking(
        &enclave
            .maker
            .document(enclave.maker.tpm(enclave.key.public_der())),
    );
    let enclaved = enclave.recipient();
    let code = ErrorCode::AccessDeniedException;
    for (principal, of_enclave, of_tpm) in [
        (&by_pcr, true, false),
        (&by_image, true, false),
        (&by_other, false, false),
        (&by_tpm, false, true),
        (&by_absent, false, false),
    ] {
        for (recipient, allowed) in [
            (&enclaved, of_enclave),
            (&tpm, of_tpm),
            (&Value::Null, false),
        ] {
            for (operation, body) in [
                (
                    "GenerateDataKey",
                    json!({"KeyId": id, "KeySpec": "AES_256"}),
                ),
                (
                    "GenerateDataKeyPair",
                    json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"}),
                ),
                ("GenerateRandom", json!({"NumberOfBytes": 1})),
            ] {
                let body = with(body, "Recipient", recipient.clone());
                let answer = bench.call_as(principal, operation, body).await;
                let refused = answer.err().map(|(code, _)| code);
                let expected = (!allowed).then_some(code);
                assert_eq!(
                    refused, expected,
                    "{} {operation} {recipient}",
                    principal.arn
                );
            }
        }
    }
    // Operations that have no recipient have no measurements.
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Recipient": enclaved});
    let refused = bench
        .call_as(&by_pcr, "GenerateDataKeyWithoutPlaintext", body)
        .await;
    assert_eq!(refused.unwrap_err().0, code);
    // A deny of whatever is not attested.
    let policy = json!({"Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*",
            "Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:PCR1": one}}},
    ]});
    let denied = bench.principal("denied", policy).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256"});
    let blob = bench.done("GenerateDataKey", body).await["CiphertextBlob"].clone();
    let body = json!({"CiphertextBlob": blob});
    let sealed = with(body.clone(), "Recipient", enclaved);
    assert!(bench.call_as(&denied, "Decrypt", sealed).await.is_ok());
    let refused = bench.call_as(&denied, "Decrypt", body).await.unwrap_err();
    assert_eq!(refused.0, code);
}

#[tokio::test]
async fn audit_1_records_have_the_recipient_of_a_plaintext() {
    let enclave = Enclave::new();
    let bench = enclave.bench().await;
    let id = bench.key().await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Recipient": enclave.recipient()});
    let made = bench.done("GenerateDataKey", body).await;
    let body = json!({"NumberOfBytes": 8, "Recipient": enclave.recipient()});
    bench.done("GenerateRandom", body).await;
    let body = json!({"CiphertextBlob": made["CiphertextBlob"], "Recipient": enclave.recipient()});
    bench.done("Decrypt", body).await;
    let body = json!({"KeyId": id, "KeySpec": "AES_256", "Recipient": asking(b"x")});
    bench.call("GenerateDataKey", body).await.unwrap_err();
    let records = bench.records();
    let [.., made_one, drawn, opened, refused] = &*records else {
        panic!("four records");
    };
    let recipient = json!({
        "attestationDocumentModuleId": "i-0abc-enc0def",
        "attestationDocumentEnclaveImageDigest": "00".repeat(48),
        "attestationDocumentEnclavePCR1": "01".repeat(48),
        "attestationDocumentEnclavePCR2": "02".repeat(48),
        "attestationDocumentEnclavePCR3": "03".repeat(48),
        "attestationDocumentEnclavePCR4": "04".repeat(48),
        "attestationDocumentEnclavePCR8": "08".repeat(48),
    });
    let with_material =
        json!({"keyMaterialId": made["KeyMaterialId"], "recipient": recipient.clone()});
    assert_eq!(made_one["additionalEventData"], with_material);
    assert_eq!(opened["additionalEventData"], with_material);
    assert_eq!(
        drawn["additionalEventData"],
        json!({"recipient": recipient})
    );
    assert_eq!(refused["additionalEventData"], Value::Null);
    assert_eq!(refused["errorCode"], "ValidationException");
    for record in &records {
        assert!(!record["requestParameters"].to_string().contains("ecipient"));
    }
    let counted = |result| {
        let line = format!("keymill_attestation_documents_total{{result=\"{result}\"}}");
        bench.counted(&line)
    };
    assert_eq!((counted("ok"), counted("malformed")), (3, 1));
}
