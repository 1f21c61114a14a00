//! `ReEncrypt`: two requests in one, each with its own key, context and right.

use super::ErrorCode as Code;
use super::fence::{at_once, between};
use super::*;
use crate::rates::Config;

mod rights;

const NOT_ALLOWED_TO_OPEN: &str = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
     allowed to access.";
const INCORRECT: &str =
    "The key ID in the request does not identify a CMK that can perform this operation.";
const DRY: &str = "The request would have succeeded, but the DryRun option is set.";

/// Two keys and a blob of `secret` under the first, bound to `{"a": "1"}`.
struct Move {
    bench: Bench,
    from: String,
    to: String,
    blob: Value,
}

impl Move {
    async fn new() -> Self {
        Self::with_rates(&Config::default()).await
    }

    async fn with_rates(rates: &Config) -> Self {
        let bench = Bench::with_rates(rates).await;
        let (from, to) = (bench.key().await, bench.key().await);
        let seal = json!({"KeyId": from, "Plaintext": encoded(b"secret"), "EncryptionContext": {"a": "1"}});
        let blob = bench.done("Encrypt", seal).await["CiphertextBlob"].clone();
        Self {
            bench,
            from,
            to,
            blob,
        }
    }

    /// The bench, the key that the blob is under, and the key that it moves to.
    fn parts(&self) -> (&Bench, &String, &String) {
        (&self.bench, &self.from, &self.to)
    }

    /// A body that is in order.
    fn body(&self) -> Value {
        json!({"CiphertextBlob": self.blob, "SourceEncryptionContext": {"a": "1"}, "DestinationKeyId": self.to, "DestinationEncryptionContext": {"b": "2"}})
    }

    /// The same with other members.
    fn with(&self, members: Value) -> Value {
        let mut body = self.body();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    async fn refused(&self, members: Value, code: Code, message: &str) {
        let body = self.with(members);
        self.bench.refused("ReEncrypt", body, code, message).await;
    }
}

#[tokio::test]
async fn a_blob_moves_to_another_key_and_context() {
    let this = Move::new().await;
    let (bench, from, to) = this.parts();
    bench.alias("alias/to", to).await;
    let sources = [Value::Null, json!(from), json!(key_arn(from))];
    let destinations = [to.clone(), key_arn(to), alias_arn("to"), "alias/to".into()];
    for source in &sources {
        for destination in &destinations {
            let members = json!({"SourceKeyId": source, "DestinationKeyId": destination});
            let moved = bench.done("ReEncrypt", this.with(members)).await;
            let members: Vec<_> = moved.as_object().unwrap().keys().collect();
            let expected = [
                "CiphertextBlob",
                "DestinationEncryptionAlgorithm",
                "DestinationKeyMaterialId",
                "KeyId",
                "SourceEncryptionAlgorithm",
                "SourceKeyId",
                "SourceKeyMaterialId",
            ];
            assert_eq!(members, expected);
            assert_eq!(moved["SourceKeyId"], key_arn(from));
            assert_eq!(moved["KeyId"], key_arn(to));
            assert_ne!(
                moved["SourceKeyMaterialId"],
                moved["DestinationKeyMaterialId"]
            );
            let open =
                json!({"CiphertextBlob": moved["CiphertextBlob"], "EncryptionContext": {"b": "2"}});
            let opened = bench.done("Decrypt", open).await;
            assert_eq!(decoded(&opened["Plaintext"]), b"secret");
            assert_eq!(opened["KeyId"], key_arn(to));
            assert_eq!(opened["KeyMaterialId"], moved["DestinationKeyMaterialId"]);
        }
    }
    // The destination's context is empty unless it is given, whatever the source's was; the key may
    // stay.
    let stays = json!({"DestinationKeyId": from, "DestinationEncryptionContext": null});
    let moved = bench.done("ReEncrypt", this.with(stays)).await;
    assert_eq!(moved["KeyId"], moved["SourceKeyId"]);
    let open = json!({"CiphertextBlob": moved["CiphertextBlob"]});
    let opened = bench.done("Decrypt", open.clone()).await;
    assert_eq!(decoded(&opened["Plaintext"]), b"secret");
    let mut open = open;
    open["EncryptionContext"] = json!({"a": "1"});
    let code = Code::InvalidCiphertextException;
    bench.refused("Decrypt", open, code, "").await;
}

#[tokio::test]
async fn members_are_checked_before_anything_is_looked_up() {
    let this = Move::new().await;
    let at = |member: &str, value: &str, must: &str| {
        format!("Value {value} at '{member}' failed to satisfy constraint: Member must {must}")
    };
    let one = |entry: String| format!("1 validation error detected: {entry}");
    let algorithms =
        "satisfy enum value set: [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]";
    let code = Code::ValidationException;
    let empty = format!(
        "2 validation errors detected: {}; {}",
        at("ciphertextBlob", "null", "not be null"),
        at("destinationKeyId", "null", "not be null")
    );
    let bench = &this.bench;
    bench.refused("ReEncrypt", json!({}), code, &empty).await;
    for (members, message) in [
        (
            json!({"DestinationKeyId": null}),
            one(at("destinationKeyId", "null", "not be null")),
        ),
        (
            json!({"CiphertextBlob": null, "DestinationKeyId": UNKNOWN}),
            one(at("ciphertextBlob", "null", "not be null")),
        ),
        (
            json!({"CiphertextBlob": encoded(&[0; 6145])}),
            one("Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144".to_owned()),
        ),
        (
            json!({"SourceEncryptionAlgorithm": "A", "DestinationEncryptionAlgorithm": "B"}),
            format!(
                "2 validation errors detected: {}; {}",
                at("sourceEncryptionAlgorithm", "'A'", algorithms),
                at("destinationEncryptionAlgorithm", "'B'", algorithms)
            ),
        ),
        (
            json!({"DestinationKeyId": UNKNOWN, "DryRunModifiers": ["A"]}),
            one(at("dryRunModifiers.1.member", "'A'", "satisfy enum value set: [IGNORE_CIPHERTEXT]")),
        ),
        (
            json!({"SourceKeyId": "\u{e9}"}),
            one(at("sourceKeyId", "'\u{e9}'", "satisfy regular expression pattern: ^\\p{ASCII}+$")),
        ),
        (
            json!({"SourceEncryptionAlgorithm": "SM2PKE"}),
            "SourceKeyId must not be null".to_owned(),
        ),
        (
            json!({"DestinationEncryptionContext": {"a": "x".repeat(8186)}}),
            "EncryptionContext is larger than 8192 bytes in canonical form.".to_owned(),
        ),
    ] {
        this.refused(members, code, &message).await;
    }
    let context = json!({"SourceEncryptionContext": {"a": 1}});
    let message = "SourceEncryptionContext is not of the type or form that this operation takes.";
    this.refused(context, Code::SerializationException, message)
        .await;
}

#[tokio::test]
async fn blobs_and_keys_are_refused_as_by_decrypt_and_encrypt() {
    let this = Move::new().await;
    let ((bench, from, to), blob) = (this.parts(), &this.blob);
    let unknown = format!("Key '{}' does not exist", key_arn(UNKNOWN));
    let missing = format!("Alias {} is not found.", alias_arn("none"));
    let mut foreign = decoded(blob);
    foreign[5] ^= 1;
    let mut damaged = decoded(blob);
    damaged[60] ^= 1;
    for (members, code, message) in [
        (
            json!({"SourceEncryptionContext": null}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"SourceEncryptionContext": {"a": "2"}}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"CiphertextBlob": "AAAA"}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"CiphertextBlob": "AAAA", "SourceKeyId": from}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"CiphertextBlob": encoded(&damaged), "DryRun": true}),
            Code::InvalidCiphertextException,
            "",
        ),
        (
            json!({"CiphertextBlob": encoded(&foreign)}),
            Code::AccessDeniedException,
            NOT_ALLOWED_TO_OPEN,
        ),
        (
            json!({"SourceKeyId": to}),
            Code::IncorrectKeyException,
            INCORRECT,
        ),
        (
            json!({"SourceKeyId": to, "SourceEncryptionContext": null}),
            Code::IncorrectKeyException,
            INCORRECT,
        ),
        (
            json!({"SourceKeyId": UNKNOWN}),
            Code::NotFoundException,
            &unknown,
        ),
        (
            json!({"DestinationKeyId": UNKNOWN}),
            Code::NotFoundException,
            &unknown,
        ),
        (
            json!({"DestinationKeyId": "alias/none"}),
            Code::NotFoundException,
            &missing,
        ),
        (
            json!({"SourceKeyId": from, "SourceEncryptionAlgorithm": "SM2PKE"}),
            Code::InvalidKeyUsageException,
            "Algorithm SM2PKE is incompatible with key spec SYMMETRIC_DEFAULT.",
        ),
        (
            json!({"DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}),
            Code::InvalidKeyUsageException,
            "Algorithm RSAES_OAEP_SHA_1 is incompatible with key spec SYMMETRIC_DEFAULT.",
        ),
        (
            json!({"GrantTokens": ["none"]}),
            Code::InvalidGrantTokenException,
            "",
        ),
        (json!({"DryRun": true}), Code::DryRunOperationException, DRY),
    ] {
        this.refused(members, code, message).await;
    }
    // The state of either, the source's first, before algorithms and what the blob holds.
    let wrong = json!({"SourceEncryptionContext": null, "DestinationEncryptionAlgorithm": "SM2PKE", "DryRun": true});
    let state = |id: &str, state: &str| format!("{} is {state}.", key_arn(id));
    bench.done_to("DisableKey", to).await;
    let disabled = state(to, "disabled");
    this.refused(wrong.clone(), Code::DisabledException, &disabled)
        .await;
    bench.done_to("ScheduleKeyDeletion", from).await;
    let pending = state(from, "pending deletion");
    this.refused(wrong, Code::KMSInvalidStateException, &pending)
        .await;
}

#[tokio::test]
async fn it_is_one_key_of_its_caller_and_of_each_kms_key() {
    let this = Move::with_rates(&Config {
        kms_key_keys_per_second: 1,
        ..Config::default()
    })
    .await;
    let bench = &this.bench;
    let all = bench.allowed("all", &["kms:*"]).await;
    let api = Arc::clone(&bench.api);
    // It starts again twice and pays once.
    between(2, move || at_once(&api, "CreateKey", &json!({})));
    assert!(bench.call_as(&all, "ReEncrypt", this.body()).await.is_ok());
    BETWEEN.set(None);
    let too_fast =
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
    for id in [&this.from, &this.to] {
        let ask = json!({"KeyId": id, "KeySpec": "AES_256"});
        let code = Code::ThrottlingException;
        bench
            .refused_as(&all, "GenerateDataKey", ask, code, too_fast)
            .await;
    }
    // One key that stays is one key.
    bench.api.clock.advance(Duration::from_secs(1));
    let stays = this.with(json!({"DestinationKeyId": this.from}));
    assert!(
        bench
            .call_as(&all, "ReEncrypt", stays.clone())
            .await
            .is_ok()
    );
    let code = Code::ThrottlingException;
    bench
        .refused_as(&all, "ReEncrypt", stays, code, too_fast)
        .await;
}

#[tokio::test]
async fn both_keys_are_in_the_record_and_nothing_of_the_blob() {
    let this = Move::new().await;
    let bench = &this.bench;
    let moved = bench.done("ReEncrypt", this.body()).await;
    let stays = this.with(json!({"DestinationKeyId": this.from}));
    bench.done("ReEncrypt", stays).await;
    let records = bench.records();
    let [.., record, stayed] = records.as_slice() else {
        panic!("{records:?}");
    };
    let resource =
        |id: &str| json!({"ARN": key_arn(id), "accountId": ACCOUNT, "type": "AWS::KMS::Key"});
    let both = json!([resource(&this.from), resource(&this.to)]);
    assert_eq!(record["resources"], both);
    assert_eq!(stayed["resources"], json!([resource(&this.from)]));
    let parameters = json!({"sourceEncryptionContext": {"a": "1"}, "destinationKeyId": this.to, "destinationEncryptionContext": {"b": "2"}});
    assert_eq!(record["requestParameters"], parameters);
    assert_eq!(record["readOnly"], true);
    let material = &moved["DestinationKeyMaterialId"];
    assert_eq!(record["additionalEventData"]["keyMaterialId"], *material);
    let text = record.to_string();
    for blob in [&this.blob, &moved["CiphertextBlob"]] {
        assert!(!text.contains(blob.as_str().unwrap()));
    }
}
