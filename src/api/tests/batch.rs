//! A batch from its first chunk to its last, and what ends it early.

use super::KmsErrorCode as Code;
use super::*;
use std::collections::HashSet;

impl Bench {
    pub(super) fn batch(
        &self,
        principal: &Arc<Principal>,
        body: Value,
    ) -> Result<DataKeys, (Code, String)> {
        let batch = self.api.data_keys(principal, body.to_string().as_bytes());
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
    let whole = Chunk::Blobs(DataKeys::CHUNK_KEYS);
    assert_eq!(batch.next_chunk(&mut blobs).unwrap(), whole);
    assert_eq!(batch.next_chunk(&mut blobs).unwrap(), Chunk::Blobs(300));
    assert_eq!(batch.next_chunk(&mut blobs).unwrap(), Chunk::Blobs(0));
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
            "keymill_data_keys_total{operation=\"DataKeys\",spec=\"AES_256\",result=\"miss\"}"
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
    bench.done("DisableKey", json!({"KeyId": id})).await;
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
    bench.done("DisableKey", json!({"KeyId": id})).await;
    let before = blobs.clone();
    assert_eq!(
        batch.next_chunk(&mut blobs).unwrap_err().code(),
        Code::DisabledException
    );
    assert_eq!(blobs, before, "nothing of the refused chunk is left");
    bench.done("EnableKey", json!({"KeyId": id})).await;

    // A clone ends the epoch, not the batch: the prefix of its nonces changes.
    let mut batch = begin();
    blobs.clear();
    batch.next_chunk(&mut blobs).unwrap();
    bench.api.clone_word.handle().fetch_add(1, Ordering::SeqCst);
    let first = blobs[24..44].to_vec();
    blobs.clear();
    batch.next_chunk(&mut blobs).unwrap();
    assert_ne!(blobs[24..44], first);

    bench
        .administer("DeletePrincipal", json!({"Name": "p"}))
        .await
        .unwrap();
    assert_eq!(
        batch.next_chunk(&mut blobs).unwrap_err().code(),
        Code::UnrecognizedClientException
    );
}
