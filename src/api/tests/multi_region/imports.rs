//! Imported material of multi-Region keys: the same in each Region, imported into each.

use super::*;
use crate::api::tests::imports::wrap;
use crate::key::material::KeyMaterialId;

impl Bench {
    pub(in crate::api::tests) async fn import_in(
        &self,
        region: &str,
        id: &str,
        material: &[u8],
        more: Value,
    ) -> Result<Value, (Code, String)> {
        let algorithm = "RSAES_OAEP_SHA_256";
        let body =
            json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"});
        let parameters = self.done_in(region, "GetParametersForImport", body).await;
        let wrapped = wrap(&decoded(&parameters["PublicKey"]), algorithm, material);
        let body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"});
        self.call_in(region, "ImportKeyMaterial", merged(body, more))
            .await
    }

    /// The states of the generations of a key in a Region.
    async fn generations_in(&self, region: &str, id: &str) -> Value {
        let body = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
        let listed = self.done_in(region, "ListKeyRotations", body).await;
        let items = listed["Rotations"].as_array().unwrap().iter();
        items
            .map(|item| json!([item["KeyMaterialState"], item["ImportState"]]))
            .collect()
    }
}

#[tokio::test]
async fn each_region_imports_the_same_material() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({"Origin": "EXTERNAL"})).await;
    let to = json!({"KeyId": id, "ReplicaRegion": WEST});
    let pending = format!("{} is pending import.", arn_in(EAST, &id));
    bench
        .invalid_state("ReplicateKey", to.clone(), &pending)
        .await;
    bench
        .import_in(
            EAST,
            &id,
            &[1; 32],
            json!({"KeyMaterialDescription": "safe 1"}),
        )
        .await
        .unwrap();
    let replicated = bench.done("ReplicateKey", to).await;
    assert_eq!(replicated["ReplicaKeyMetadata"]["KeyState"], "Creating");
    let (here, there) = (
        bench.metadata_in(EAST, &id).await,
        bench.metadata_in(WEST, &id).await,
    );
    assert_eq!(there["KeyState"], "PendingImport");
    assert_eq!(there["CurrentKeyMaterialId"], here["CurrentKeyMaterialId"]);
    let blob = bench.blob_in(EAST, &id).await;
    let body = json!({"CiphertextBlob": blob, "EncryptionContext": {"a": "b"}});
    let pending = format!("{} is pending import.", arn_in(WEST, &id));
    let code = Code::KMSInvalidStateException;
    bench
        .refused_in(WEST, "Decrypt", body, code, &pending)
        .await;
    let other = bench.import_in(WEST, &id, &[2; 32], json!({})).await;
    let expected = format!(
        "Imported key material does not have the expected identifier ({}).",
        here["CurrentKeyMaterialId"].as_str().unwrap()
    );
    assert_eq!(other, Err((Code::IncorrectKeyMaterialException, expected)));
    let code = Code::ValidationException;
    for (more, message) in [
        (
            json!({"KeyMaterialDescription": "x"}),
            "Key material description can only be specified on primary Multi-Region keys",
        ),
        (
            json!({"ImportType": "NEW_KEY_MATERIAL"}),
            "Input parameter ImportType NEW_KEY_MATERIAL cannot be used on replica Multi-Region keys",
        ),
    ] {
        let refused = bench.import_in(WEST, &id, &[1; 32], more).await;
        assert_eq!(refused, Err((code, message.to_owned())));
    }
    // Its own expiry.
    let until =
        json!({"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW.unix_seconds() + 60});
    bench.import_in(WEST, &id, &[1; 32], until).await.unwrap();
    assert_eq!(bench.opens_in(WEST, &blob).await[0], *arn_in(WEST, &id));
    let date = NOW.after(Duration::from_secs(61));
    assert_eq!(bench.api.drop_expired_material(date).await.unwrap(), 1);
    assert_eq!(bench.state_in(WEST, &id).await, "PendingImport");
    assert_eq!(bench.state_in(EAST, &id).await, "Enabled");
    // What is deleted in one Region is still in the other.
    bench
        .import_in(WEST, &id, &[1; 32], json!({}))
        .await
        .unwrap();
    bench.done_to("DeleteImportedKeyMaterial", &id).await;
    assert_eq!(bench.state_in(EAST, &id).await, "PendingImport");
    assert_eq!(bench.opens_in(WEST, &blob).await[0], *arn_in(WEST, &id));
}

#[tokio::test]
async fn a_token_is_of_one_region() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({"Origin": "EXTERNAL"})).await;
    bench
        .import_in(EAST, &id, &[1; 32], json!({}))
        .await
        .unwrap();
    bench.replicate(&id, WEST).await;
    let body = json!({"KeyId": id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"});
    let parameters = bench.done("GetParametersForImport", body).await;
    let wrapped = wrap(
        &decoded(&parameters["PublicKey"]),
        "RSAES_OAEP_SHA_256",
        &[1; 32],
    );
    let body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"});
    let code = Code::InvalidImportTokenException;
    bench
        .refused_in(WEST, "ImportKeyMaterial", body, code, "")
        .await;
}

#[tokio::test]
async fn new_material_is_rotated_in_once_it_is_in_every_region() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({"Origin": "EXTERNAL"})).await;
    bench
        .import_in(EAST, &id, &[1; 32], json!({}))
        .await
        .unwrap();
    bench.replicate(&id, WEST).await;
    bench
        .import_in(WEST, &id, &[1; 32], json!({}))
        .await
        .unwrap();
    let old = bench.blob_in(WEST, &id).await;
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    bench
        .import_in(EAST, &id, &[2; 32], new.clone())
        .await
        .unwrap();
    let waits = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION";
    let here = json!([["CURRENT", "IMPORTED"], [waits, "IMPORTED"]]);
    let there = json!([["CURRENT", "IMPORTED"], [waits, "PENDING_IMPORT"]]);
    assert_eq!(bench.generations_in(EAST, &id).await, here);
    assert_eq!(bench.generations_in(WEST, &id).await, there);
    let message = "Cannot perform key material rotation: Key material has not been imported for replicas of the Multi-Region key.";
    let body = json!({"KeyId": id});
    bench
        .invalid_state("RotateKeyOnDemand", body.clone(), message)
        .await;
    // What waits is deleted everywhere by the primary key, and by a replica there alone.
    bench
        .import_in(WEST, &id, &[2; 32], json!({}))
        .await
        .unwrap();
    let material = KeyMaterialId::of(id.parse().unwrap(), &[2; 32]).to_string();
    let delete = json!({"KeyId": id, "KeyMaterialId": material});
    bench
        .done_in(WEST, "DeleteImportedKeyMaterial", delete.clone())
        .await;
    assert_eq!(bench.generations_in(WEST, &id).await, there);
    bench.done("DeleteImportedKeyMaterial", delete).await;
    for region in [EAST, WEST] {
        let one = json!([["CURRENT", "IMPORTED"]]);
        assert_eq!(bench.generations_in(region, &id).await, one, "{region}");
    }
    bench.import_in(EAST, &id, &[3; 32], new).await.unwrap();
    bench
        .import_in(WEST, &id, &[3; 32], json!({}))
        .await
        .unwrap();
    let ready = json!([["CURRENT", "IMPORTED"], ["PENDING_ROTATION", "IMPORTED"]]);
    for region in [EAST, WEST] {
        assert_eq!(bench.generations_in(region, &id).await, ready, "{region}");
    }
    bench.done("RotateKeyOnDemand", body).await;
    let done = json!([["NON_CURRENT", "IMPORTED"], ["CURRENT", "IMPORTED"]]);
    for region in [EAST, WEST] {
        assert_eq!(bench.generations_in(region, &id).await, done, "{region}");
    }
    let blob = bench.blob_in(WEST, &id).await;
    for blob in [&old, &blob] {
        assert_eq!(bench.opens_in(EAST, blob).await[0], *arn_in(EAST, &id));
        assert_eq!(bench.opens_in(WEST, blob).await[0], *arn_in(WEST, &id));
    }
}
