//! What is answered while it is unknown what the store holds.

use super::*;

#[tokio::test]
async fn store_1_nothing_is_answered_while_it_is_unknown_what_the_store_holds() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    let data_key = || json!({"KeyId": id, "KeySpec": "AES_256"});
    let (lies, away) = (
        bench.folder.path().join("keystore.db"),
        bench.folder.path().join("away"),
    );
    std::fs::rename(&lies, &away).unwrap();
    // What upkeep does each second.
    assert!(bench.api.keystore.heal().await.is_err());
    for (name, body) in [
        ("GenerateDataKeyWithoutPlaintext", data_key()),
        ("DescribeKey", json!({"KeyId": id})),
        ("DisableKey", json!({"KeyId": id})),
    ] {
        let (code, _) = bench.call(name, body).await.unwrap_err();
        assert_eq!(code, ErrorCode::KMSInternalException, "{name}");
    }
    let reason = bench.api.keystore.halt().reason().unwrap();
    assert!(
        reason.contains("is not the file that was opened"),
        "{reason}"
    );

    std::fs::rename(&away, &lies).unwrap();
    let mut tries = 0;
    while bench.api.keystore.heal().await.is_err() {
        tries += 1;
        assert!(tries < 100, "it comes back by itself");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench
        .done("GenerateDataKeyWithoutPlaintext", data_key())
        .await;
    bench.done_to("DisableKey", &id).await;
}
