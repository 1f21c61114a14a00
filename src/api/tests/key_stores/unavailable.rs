//! A key whose key store is not connected: what the table of [`states`](super::super::states) has
//! no column for.

use super::*;

#[tokio::test]
async fn a_key_is_cut_off_whatever_ended_the_connection() {
    let scene = Scene::new().await;
    let (bench, (store, id)) = (&scene.bench, scene.key().await);
    let beside = bench.key().await;
    let encrypt = json!({"KeyId": id, "Plaintext": "AAEC"});
    let blob = bench.done("Encrypt", encrypt.clone()).await["CiphertextBlob"].take();
    let named = json!({"CustomKeyStoreId": store});
    bench.done("DisconnectCustomKeyStore", named.clone()).await;
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(
        (&described["KeyState"], &described["Enabled"]),
        (&json!("Unavailable"), &json!(false))
    );
    // Also as the source of a move: the table has the destination.
    let moved = json!({"CiphertextBlob": blob, "DestinationKeyId": beside});
    bench
        .invalid_state("ReEncrypt", moved.clone(), NOT_CONNECTED)
        .await;
    // A connection that has failed is none.
    scene.refuses(ErrorName::InternalException);
    assert_eq!(scene.connect(&store).await["ConnectionState"], "FAILED");
    for (operation, body) in [("Encrypt", encrypt.clone()), ("ReEncrypt", moved)] {
        bench.invalid_state(operation, body, NOT_CONNECTED).await;
    }
    scene.refuses(None);
    bench.done("DisconnectCustomKeyStore", named).await;
    scene.connect(&store).await;
    bench.done("Encrypt", encrypt).await;
}

#[tokio::test]
async fn a_key_that_is_cut_off_keeps_the_state_that_it_had() {
    let scene = Scene::new().await;
    let (bench, (store, id)) = (&scene.bench, scene.key().await);
    let encrypt = json!({"KeyId": id, "Plaintext": "AAEC"});
    bench.done_to("DisableKey", &id).await;
    let named = json!({"CustomKeyStoreId": store});
    bench.done("DisconnectCustomKeyStore", named).await;
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(described["KeyState"], "Unavailable");
    bench
        .invalid_state("Encrypt", encrypt.clone(), NOT_CONNECTED)
        .await;
    // One that waits for its deletion is that, connected or not.
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let described = bench.done_to("DescribeKey", &id).await["KeyMetadata"].take();
    assert_eq!(described["KeyState"], "PendingDeletion");
    bench
        .pending_deletion("Encrypt", encrypt.clone(), &id)
        .await;
    bench.done_to("CancelKeyDeletion", &id).await;
    bench
        .invalid_state("Encrypt", encrypt.clone(), NOT_CONNECTED)
        .await;
    scene.connect(&store).await;
    bench.disabled("Encrypt", encrypt.clone(), &id).await;
    bench.done_to("EnableKey", &id).await;
    bench.done("Encrypt", encrypt).await;
}
