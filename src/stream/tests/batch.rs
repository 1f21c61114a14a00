//! A batch from its first chunk to its last, and what ends it early.

use super::ErrorCode as Code;
use super::*;
use std::collections::HashSet;

impl Bench {
    pub(crate) fn batch(
        &self,
        principal: &Arc<Principal>,
        body: Value,
    ) -> Result<DataKeys, (Code, String)> {
        let batch = self.api.data_keys(
            &Requester::local(Arc::clone(principal)),
            body.to_string().as_bytes(),
        );
        batch.map_err(|error| (error.code(), error.message().to_owned()))
    }
}

#[tokio::test]
async fn a_batch_hands_out_exactly_what_was_asked_for() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let count = DataKeys::CHUNK_KEYS as u64 + 300;
    let provisioner = bench
        .allowed("p", &["kms:GenerateDataKeyWithoutPlaintext"])
        .await;
    let ask =
        json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "1"}, "Count": count});
    let mut batch = bench.batch(&provisioner, ask).unwrap();
    assert_eq!(
        (batch.key_arn(), batch.blob_bytes(), batch.count()),
        (key_arn(&id).as_str(), 96, count)
    );
    let mut blobs = Vec::new();
    assert_eq!(batch.blobs(&mut blobs), DataKeys::CHUNK_KEYS);
    assert_eq!(batch.blobs(&mut blobs), 300);
    assert_eq!(batch.blobs(&mut blobs), 0);
    assert_eq!(batch.handed_out(), count);
    assert_eq!(blobs.len() as u64, count * 96);
    let unique: HashSet<&[u8]> = blobs.chunks(96).collect();
    assert_eq!(unique.len() as u64, count);
    for blob in blobs.chunks(96).step_by(1000) {
        let open = json!({"CiphertextBlob": encoded(blob), "EncryptionContext": {"a": "1"}});
        let opened = bench.done("Decrypt", open).await;
        assert_eq!(decoded(&opened["Plaintext"]).len(), 32);
        assert_eq!(opened["KeyMaterialId"], batch.material().to_string());
    }
    assert_eq!(
        bench.counted(
            "keymill_data_keys_total{operation=\"DataKeys\",spec=\"AES_256\",result=\"direct\"}"
        ),
        count
    );
}

#[tokio::test]
async fn a_batch_is_refused_as_a_single_call_would_be() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let consumer = bench.allowed("c", &["kms:Decrypt"]).await;
    let ask = |count: Value| json!({"KeyId": id, "KeySpec": "AES_256", "Count": count});
    let denied = bench.batch(&consumer, ask(json!(1))).err().unwrap();
    assert_eq!(denied.0, Code::AccessDeniedException);
    for (body, code) in [
        (ask(Value::Null), Code::ValidationException),
        (ask(json!(0)), Code::ValidationException),
        (ask(json!(4_294_967_296_u64)), Code::ValidationException),
        (ask(json!("7")), Code::SerializationException),
        (json!({"KeyId": id, "Count": 1}), Code::ValidationException),
        (
            json!({"KeyId": UNKNOWN, "KeySpec": "AES_256", "Count": 1}),
            Code::NotFoundException,
        ),
        (
            json!({"KeyId": id, "KeySpec": "AES_256", "Count": 1, "DryRun": true}),
            Code::SerializationException,
        ),
    ] {
        assert_eq!(
            bench.batch(&bench.admin, body.clone()).err().unwrap().0,
            code,
            "{body}"
        );
    }
    bench.done_to("DisableKey", &id).await;
    assert_eq!(
        bench.batch(&bench.admin, ask(json!(1))).err().unwrap().0,
        Code::DisabledException
    );
}

#[tokio::test]
async fn a_change_in_mid_stream_ends_a_batch_at_the_next_chunk() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let provisioner = bench
        .allowed("p", &["kms:GenerateDataKeyWithoutPlaintext"])
        .await;
    let ask = json!({"KeyId": id, "KeySpec": "AES_128", "Count": 1_000_000});
    let begin = || bench.batch(&provisioner, ask.clone()).unwrap();
    let mut blobs = Vec::new();

    let mut batch = begin();
    batch.next_chunk(&mut blobs).unwrap();
    bench.done_to("DisableKey", &id).await;
    let before = blobs.clone();
    assert_eq!(
        batch.next_chunk(&mut blobs).unwrap_err().code(),
        Code::DisabledException
    );
    assert_eq!(blobs, before, "nothing of the refused chunk is left");
    bench.done_to("EnableKey", &id).await;

    // A clone ends no batch, and a chunk's nonces are its own without one too.
    let mut batch = begin();
    blobs.clear();
    batch.next_chunk(&mut blobs).unwrap();
    bench.api.clone_word.handle().fetch_add(1, Ordering::SeqCst);
    blobs.clear();
    batch.next_chunk(&mut blobs).unwrap();

    bench
        .administer("DeletePrincipal", json!({"Name": "p"}))
        .await
        .unwrap();
    assert_eq!(
        batch.next_chunk(&mut blobs).unwrap_err().code(),
        Code::UnrecognizedClientException
    );
}

/// A twin that no source sees has no epoch to go on with: what a chunk began ends with it.
#[tokio::test]
async fn pool_5_no_epoch_of_a_batch_outlives_its_chunk() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let ask = json!({"KeyId": id, "KeySpec": "AES_256", "Count": 3 * 8192});
    let mut batch = bench.batch(&bench.admin, ask).unwrap();
    let mut prefixes = HashSet::new();
    for _ in 0..3 {
        let mut blobs = Vec::new();
        batch.next_chunk(&mut blobs).unwrap();
        let (first, last) = (
            &blobs[24..44],
            &blobs[blobs.len() - batch.blob_bytes()..][24..44],
        );
        assert_eq!(first, last, "one epoch for all of a chunk");
        assert!(prefixes.insert(first.to_vec()));
    }
}

#[tokio::test]
async fn pool_4_a_batch_ends_at_the_next_chunk_when_its_right_is_gone() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let name = "GenerateDataKeyWithoutPlaintext";
    let (alice, all) = (
        bench.powerless("alice").await,
        bench.allowed("all", &["kms:*"]).await,
    );
    bench.alias("alias/a", &id).await;
    let grant = json!({"KeyId": id, "GranteePrincipal": alice.arn, "RetiringPrincipal": all.arn, "Operations": [name]});
    let other = bench.key().await;
    let by_alias = |policy: &mut Value| {
        policy["Condition"] = json!({"StringEquals": {"kms:RequestAlias": "alias/a"}})
    };
    let mut allow = to(&alice.arn, &[&format!("kms:{name}")]);
    by_alias(&mut allow);
    let closed = json!({"Statement": to(&all.arn, &["kms:PutKeyPolicy", "kms:CreateAlias", "kms:UpdateAlias"])}).to_string();
    let conditional = json!({"Statement": [allow, to(&root_of(ACCOUNT), &["kms:*"])]}).to_string();
    let no_more = |kind: &str| not_allowed(&alice, name, &key_arn(&id), kind);
    let forgotten = (
        Code::UnrecognizedClientException,
        "The security token included in the request is invalid.".to_owned(),
    );
    for (before, change, refused) in [
        // A grant retired, and one revoked.
        (None, ("RetireGrant", json!({})), no_more("identity")),
        (
            None,
            ("RevokeGrant", json!({"KeyId": id})),
            no_more("identity"),
        ),
        // A policy changed, and the alias moved that a condition asks for.
        (
            Some(&conditional),
            ("PutKeyPolicy", json!({"KeyId": id, "Policy": closed})),
            no_more("resource"),
        ),
        (
            Some(&conditional),
            (
                "UpdateAlias",
                json!({"AliasName": "alias/a", "TargetKeyId": other}),
            ),
            no_more("identity"),
        ),
        (
            Some(&conditional),
            ("DeletePrincipal", json!({"Name": "alice"})),
            forgotten,
        ),
    ] {
        let mut made = Value::Null;
        bench
            .done(
                "UpdateAlias",
                json!({"AliasName": "alias/a", "TargetKeyId": id}),
            )
            .await;
        match before {
            Some(policy) => {
                bench
                    .done("PutKeyPolicy", json!({"KeyId": id, "Policy": policy}))
                    .await
            }
            None => {
                made = bench.done("CreateGrant", grant.clone()).await;
                Value::Null
            }
        };
        let ask = json!({"KeyId": "alias/a", "KeySpec": "AES_256", "Count": 1_000_000});
        let mut batch = bench.batch(&alice, ask).unwrap();
        let mut blobs = Vec::new();
        for _ in 0..2 {
            assert_eq!(batch.blobs(&mut blobs), DataKeys::CHUNK_KEYS);
        }
        let (operation, mut body) = change;
        match operation {
            "RetireGrant" => body["GrantToken"] = made["GrantToken"].clone(),
            "RevokeGrant" => body["GrantId"] = made["GrantId"].clone(),
            _ => {}
        }
        if operation == "DeletePrincipal" {
            bench.administer(operation, body).await.unwrap();
        } else {
            bench.done(operation, body).await;
        }
        let error = batch.next_chunk(&mut blobs).unwrap_err();
        assert_eq!(
            (error.code(), error.message().to_owned()),
            refused,
            "{operation}"
        );
        assert_eq!(
            blobs.len(),
            2 * DataKeys::CHUNK_KEYS * 96,
            "nothing of the refused chunk"
        );
        assert_eq!(batch.handed_out(), 2 * DataKeys::CHUNK_KEYS as u64);
    }
}

#[tokio::test]
async fn a_batch_is_recorded_chunk_by_chunk_with_its_digest() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let count = DataKeys::CHUNK_KEYS as u64 + 7;
    let body = json!({"KeyId": id, "KeySpec": "AES_128", "Count": 3 * count}).to_string();
    let operator = Requester::local(Arc::clone(&bench.admin));
    let mut batch = bench.api.data_keys(&operator, body.as_bytes()).unwrap();
    let mut blobs = Vec::new();
    batch.blobs(&mut blobs);
    batch.blobs(&mut blobs);
    bench.done_to("DisableKey", &id).await;
    batch.next_chunk(&mut blobs).unwrap_err();
    let forbidden = json!({"KeyId": id, "KeySpec": "AES_128", "Count": 1}).to_string();
    let refused = bench.api.data_keys(&operator, forbidden.as_bytes());
    assert!(refused.is_err());
    let records = bench.records();
    let records: Vec<_> = records
        .iter()
        .filter(|record| record["eventName"] == "DataKeys")
        .collect();
    let digest = |bytes: &[u8]| blake3::hash(bytes).to_string();
    let half = blobs.len() / 2;
    let expected = [
        (1, digest(&blobs[..half]), None),
        (2, digest(&blobs), None),
        (2, digest(&blobs), Some("DisabledException")),
    ];
    assert_eq!(records.len(), 4);
    for (record, (chunks, digest, code)) in records.iter().zip(expected) {
        let data = &record["additionalEventData"];
        assert_eq!(data["count"], chunks * DataKeys::CHUNK_KEYS);
        assert_eq!(data["rowsBlake3"], digest);
        assert_eq!(record["errorCode"].as_str(), code);
        assert_eq!(record["requestID"], records[0]["requestID"]);
        assert_eq!(record["requestParameters"]["count"], 3 * count);
    }
    assert_eq!(records[0]["resources"][0]["ARN"], key_arn(&id));
    assert_eq!(records[3]["additionalEventData"], Value::Null);
}
