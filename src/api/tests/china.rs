//! The China Regions: their partition, and SM4 keys behind `SYMMETRIC_DEFAULT`.

use super::ErrorCode as Code;
use super::*;

mod sm2;

const ARN: &str = "arn:aws-cn:kms:cn-north-1:111122223333:";

async fn bench_with_key() -> (Bench, String) {
    let bench = Bench::in_china().await;
    let created = bench.done("CreateKey", json!({})).await;
    let id = created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned();
    (bench, id)
}

#[tokio::test]
async fn arns_and_the_default_policy_are_of_the_partition() {
    let (bench, id) = bench_with_key().await;
    let key_arn = format!("{ARN}key/{id}");
    let described = bench.done_to("DescribeKey", &key_arn).await;
    let metadata = &described["KeyMetadata"];
    assert_eq!(metadata["Arn"], json!(key_arn));
    assert_eq!(metadata["KeySpec"], "SYMMETRIC_DEFAULT");
    assert_eq!(
        metadata["EncryptionAlgorithms"],
        json!(["SYMMETRIC_DEFAULT"])
    );
    bench.alias("alias/a", &id).await;
    let listed = bench.done("ListAliases", json!({})).await;
    let alias_arn = format!("{ARN}alias/a");
    assert_eq!(listed["Aliases"][0]["AliasArn"], json!(alias_arn));
    let described = bench.done_to("DescribeKey", &alias_arn).await;
    assert_eq!(described["KeyMetadata"]["Arn"], json!(key_arn));
    let policy = bench.done_to("GetKeyPolicy", &id).await;
    let root = "arn:aws-cn:iam::111122223333:root";
    assert!(policy["Policy"].as_str().unwrap().contains(root));
    // The same key under the ARN of another partition is another Region's.
    let elsewhere = key_arn.replace("aws-cn", "aws");
    let refused = bench.call("DescribeKey", json!({"KeyId": elsewhere})).await;
    assert_eq!(refused.unwrap_err().0, Code::InvalidArnException);
}

#[tokio::test]
async fn blobs_are_of_sm4_and_go_the_way_of_all_blobs() {
    let (bench, id) = bench_with_key().await;
    let context = json!({"volume": "v-1"});
    let ask = |length: Value| {
        let mut body = json!({"KeyId": id, "EncryptionContext": context});
        let members = body.as_object_mut().unwrap();
        members.extend(length.as_object().unwrap().clone());
        body
    };
    let with_context = |blob: &Value| json!({"CiphertextBlob": blob, "EncryptionContext": context});
    for (length, bytes) in [
        (json!({"KeySpec": "AES_128"}), 16),
        (json!({"NumberOfBytes": 16}), 16),
        (json!({"KeySpec": "AES_256"}), 32),
        (json!({"NumberOfBytes": 128}), 128),
    ] {
        let made = bench.done("GenerateDataKey", ask(length.clone())).await;
        let blob = decoded(&made["CiphertextBlob"]);
        assert_eq!((blob[1], blob.len()), (2, 64 + bytes), "{length}");
        assert_eq!(decoded(&made["Plaintext"]).len(), bytes, "{length}");
        let opened = bench
            .done("Decrypt", with_context(&made["CiphertextBlob"]))
            .await;
        assert_eq!(opened["Plaintext"], made["Plaintext"]);
        bench
            .unopened(json!({"CiphertextBlob": made["CiphertextBlob"]}))
            .await;
        // The algorithm is the key's.
        let mut relabelled = blob.clone();
        relabelled[1] = 1;
        bench
            .unopened(with_context(&json!(encoded(&relabelled))))
            .await;
    }
    let operation = "GenerateDataKeyWithoutPlaintext";
    let old = bench
        .done(operation, ask(json!({"KeySpec": "AES_256"})))
        .await;
    bench.done_to("RotateKeyOnDemand", &id).await;
    let new = bench
        .done(operation, ask(json!({"KeySpec": "AES_256"})))
        .await;
    assert_ne!(old["KeyMaterialId"], new["KeyMaterialId"]);
    for made in [&old, &new] {
        assert_eq!(decoded(&made["CiphertextBlob"])[1], 2);
        bench
            .done("Decrypt", with_context(&made["CiphertextBlob"]))
            .await;
    }
    let moved = json!({"CiphertextBlob": old["CiphertextBlob"], "SourceEncryptionContext": context, "DestinationKeyId": id});
    let moved = bench.done("ReEncrypt", moved).await;
    assert_eq!(moved["DestinationKeyMaterialId"], new["KeyMaterialId"]);
    bench
        .done(
            "Decrypt",
            json!({"CiphertextBlob": moved["CiphertextBlob"]}),
        )
        .await;
    let sealed = json!({"KeyId": id, "Plaintext": encoded(&[7; 4096])});
    let sealed = bench.done("Encrypt", sealed).await;
    let opened = json!({"CiphertextBlob": sealed["CiphertextBlob"]});
    assert_eq!(
        bench.done("Decrypt", opened).await["Plaintext"],
        json!(encoded(&[7; 4096]))
    );
    let pair = json!({"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"});
    let pair = bench.done("GenerateDataKeyPair", pair).await;
    let opened = json!({"CiphertextBlob": pair["PrivateKeyCiphertextBlob"]});
    assert_eq!(
        bench.done("Decrypt", opened).await["Plaintext"],
        pair["PrivateKeyPlaintext"]
    );
}

#[tokio::test]
async fn imported_material_has_sixteen_bytes_and_never_comes_by_rsa_aes() {
    let bench = Bench::in_china().await;
    let id = bench.external(json!({})).await;
    for length in [0, 15, 17, 32] {
        let refused = bench.import(&id, &vec![7; length], json!({})).await;
        let expected = (Code::InvalidCiphertextException, String::new());
        assert_eq!(refused, Err(expected), "{length}");
    }
    bench.import(&id, &[7; 16], json!({})).await.unwrap();
    let made = json!({"KeyId": id, "KeySpec": "AES_256"});
    let made = bench.done("GenerateDataKeyWithoutPlaintext", made).await;
    assert_eq!(decoded(&made["CiphertextBlob"])[1], 2);
    // Other material waits for its rotation, and the first still opens what it has wrapped.
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    bench.import(&id, &[8; 16], new).await.unwrap();
    bench.done_to("RotateKeyOnDemand", &id).await;
    let opened = json!({"CiphertextBlob": made["CiphertextBlob"]});
    bench.done("Decrypt", opened).await;
    let mac = json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"});
    let mac = bench.external(mac).await;
    for hash in ["SHA_1", "SHA_256"] {
        let algorithm = format!("RSA_AES_KEY_WRAP_{hash}");
        let body =
            json!({"KeyId": mac, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"});
        let message = format!(
            "Wrapping algorithm {algorithm} and wrapping key spec RSA_2048 cannot be used to import a HMAC_256 key."
        );
        bench
            .invalid("GetParametersForImport", body, &message)
            .await;
    }
}
