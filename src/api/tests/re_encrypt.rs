//! `ReEncrypt`: two requests in one, each with its own key, context and right.

use super::KmsErrorCode as Code;
use super::fence::{at_once, between};
use super::*;
use crate::limit::Config;

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
    let Move {
        bench, from, to, ..
    } = &this;
    let alias = json!({"AliasName": "alias/to", "TargetKeyId": to});
    bench.done("CreateAlias", alias).await;
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
    // The destination's context is empty unless it is given, whatever the source's was; the key may stay.
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
async fn each_side_takes_its_own_right() {
    let this = Move::new().await;
    let Move {
        bench, from, to, ..
    } = &this;
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

/// Statements that leave a principal nothing.
fn to_nobody(arn: &str) -> Value {
    let deny =
        json!({"Effect": "Deny", "Principal": {"AWS": arn}, "Action": "kms:*", "Resource": "*"});
    json!([deny, to(&root_of(ACCOUNT), &["kms:*"])])
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
            "SourceKeyId is required with an asymmetric SourceEncryptionAlgorithm.".to_owned(),
        ),
        (
            json!({"DestinationEncryptionContext": {"a": "x".repeat(8186)}}),
            "EncryptionContext is larger than 8192 bytes in canonical form.".to_owned(),
        ),
    ] {
        this.refused(members, code, &message).await;
    }
    let context = json!({"SourceEncryptionContext": {"a": 1}});
    this.refused(context, Code::SerializationException, "")
        .await;
}

#[tokio::test]
async fn blobs_and_keys_are_refused_as_by_decrypt_and_encrypt() {
    let this = Move::new().await;
    let Move {
        bench,
        from,
        to,
        blob,
    } = &this;
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
    bench.done("DisableKey", json!({"KeyId": to})).await;
    let disabled = state(to, "disabled");
    this.refused(wrong.clone(), Code::DisabledException, &disabled)
        .await;
    bench
        .done("ScheduleKeyDeletion", json!({"KeyId": from}))
        .await;
    let pending = state(from, "pending deletion");
    this.refused(wrong, Code::KMSInvalidStateException, &pending)
        .await;
}

#[tokio::test]
async fn grants_let_each_side_and_tokens_are_of_either_key() {
    let this = Move::new().await;
    let Move {
        bench, from, to, ..
    } = &this;
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
    let code = Code::InvalidGrantTokenException;
    bench.refused_as(&alice, "ReEncrypt", body, code, "").await;
}

#[tokio::test]
async fn keys_of_two_accounts_are_each_asked() {
    let this = Move::new().await;
    let Move {
        bench, from, to, ..
    } = &this;
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

fn to_account() -> Value {
    to(&root_of(ACCOUNT), &["kms:*"])
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
