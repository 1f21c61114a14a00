//! Keys of origin `EXTERNAL`: import, its deletion and expiry, the same material again, other
//! material by rotation.

use super::ErrorCode as Code;
use super::*;
use crate::crypto::wrapping::WrappingAlgorithm;
use crate::key::material::KeyMaterialId;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};

mod generations;
mod other_kinds;
mod refusals;
mod states;

const FOREVER: &str = "KEY_MATERIAL_DOES_NOT_EXPIRE";
const NOW_SECONDS: u64 = 1_700_000_000;

/// What a client does with `GetParametersForImport`'s public key.
pub(super) fn wrap(public: &[u8], algorithm: &str, material: &[u8]) -> Vec<u8> {
    let hash = if algorithm.ends_with("256") {
        &OAEP_SHA256_MGF1SHA256
    } else {
        &OAEP_SHA1_MGF1SHA1
    };
    let public = PublicEncryptingKey::from_der(public).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let encrypt = |text: &[u8]| {
        let mut room = vec![0; public.ciphertext_size()];
        public
            .encrypt(hash, text, &mut room, None)
            .unwrap()
            .to_vec()
    };
    if algorithm.starts_with("RSAES") {
        return encrypt(material);
    }
    let mut room = vec![0; material.len() + 16];
    let kek = AesKek::new(&AES_256, &[9; 32]).unwrap();
    let wrapped = kek.wrap_with_padding(material, &mut room).unwrap();
    [encrypt(&[9; 32]).as_slice(), wrapped].concat()
}

impl Bench {
    pub(in crate::api::tests) async fn external(&self, kind: Value) -> String {
        let mut body = json!({"Origin": "EXTERNAL"});
        body.as_object_mut()
            .unwrap()
            .extend(kind.as_object().unwrap().clone());
        let created = self.done("CreateKey", body).await;
        assert_eq!(created["KeyMetadata"]["KeyState"], "PendingImport");
        assert_eq!(created["KeyMetadata"]["Enabled"], false);
        created["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    async fn parameters(&self, id: &str, algorithm: &str) -> Value {
        let body =
            json!({"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"});
        self.done("GetParametersForImport", body).await
    }

    /// The body of an import of this material with these other members.
    async fn import_body(&self, id: &str, material: &[u8], more: Value) -> Value {
        let algorithm = "RSAES_OAEP_SHA_256";
        let parameters = self.parameters(id, algorithm).await;
        let wrapped = wrap(&decoded(&parameters["PublicKey"]), algorithm, material);
        let mut body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ExpirationModel": FOREVER});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    }

    pub(in crate::api::tests) async fn import(
        &self,
        id: &str,
        material: &[u8],
        more: Value,
    ) -> Result<Value, (Code, String)> {
        let body = self.import_body(id, material, more).await;
        self.call("ImportKeyMaterial", body).await
    }

    async fn metadata(&self, id: &str) -> Value {
        self.done("DescribeKey", json!({"KeyId": id})).await["KeyMetadata"].take()
    }

    async fn blob(&self, id: &str) -> Value {
        let body = json!({"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": {"a": "b"}});
        self.done("GenerateDataKeyWithoutPlaintext", body).await["CiphertextBlob"].take()
    }

    async fn opened(&self, blob: &Value) -> Result<Value, (Code, String)> {
        self.call(
            "Decrypt",
            json!({"CiphertextBlob": blob, "EncryptionContext": {"a": "b"}}),
        )
        .await
    }
}

fn pending_import(id: &str) -> (Code, String) {
    (
        Code::KMSInvalidStateException,
        format!("{} is pending import.", key_arn(id)),
    )
}

#[tokio::test]
async fn material_comes_in_by_every_wrapping_algorithm_and_is_the_keys() {
    let bench = Bench::new().await;
    // SM2 wraps in China alone.
    let here = |one: &WrappingAlgorithm| *one != WrappingAlgorithm::Sm2Pke;
    for algorithm in WrappingAlgorithm::ALL.into_iter().filter(here) {
        let oaep = matches!(algorithm, WrappingAlgorithm::Oaep(_));
        let algorithm = algorithm.name();
        // AWS KMS takes symmetric material by OAEP alone.
        let kind = if oaep {
            json!({})
        } else {
            json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"})
        };
        let id = bench.external(kind).await;
        let parameters = bench.parameters(&id, algorithm).await;
        assert_eq!(
            (&parameters["KeyId"], &parameters["ParametersValidTo"]),
            (&json!(key_arn(&id)), &json!(1_700_086_400.123))
        );
        let wrapped = wrap(&decoded(&parameters["PublicKey"]), algorithm, &[7; 32]);
        let body = json!({"KeyId": id, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": encoded(&wrapped), "ValidTo": NOW_SECONDS + 60});
        let imported = bench.done("ImportKeyMaterial", body).await;
        let metadata = bench.metadata(&id).await;
        assert_eq!(
            (&metadata["KeyState"], &metadata["Origin"]),
            (&json!("Enabled"), &json!("EXTERNAL"))
        );
        assert_eq!(metadata["ExpirationModel"], "KEY_MATERIAL_EXPIRES");
        assert_eq!(metadata["ValidTo"], json!(1_700_000_060.0));
        let snapshot = bench.api.keystore.snapshot();
        let entry = &snapshot.keys[&id.parse().unwrap()];
        if oaep {
            let current = &metadata["CurrentKeyMaterialId"];
            let expected = json!({"KeyId": key_arn(&id), "KeyMaterialId": current});
            assert_eq!(imported, expected);
            assert_eq!(entry.current().unwrap().expose(), &[7; 32]);
            assert!(bench.opened(&bench.blob(&id).await).await.is_ok());
        } else {
            assert_eq!(imported, json!({"KeyId": key_arn(&id)}));
            assert!(metadata.get("CurrentKeyMaterialId").is_none());
            assert_eq!(entry.secret.as_ref().unwrap().expose(), &[7; 32]);
        }
    }
}

#[tokio::test]
async fn what_is_deleted_comes_back_as_it_was_and_as_nothing_else() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let first = bench
        .import(
            &id,
            &[7; 32],
            json!({"KeyMaterialDescription": "from the safe"}),
        )
        .await
        .unwrap();
    let blob = bench.blob(&id).await;
    let deleted = bench.done_to("DeleteImportedKeyMaterial", &id).await;
    assert_eq!(deleted, first);
    // The second time there is nothing to delete.
    assert_eq!(bench.done_to("DeleteImportedKeyMaterial", &id).await, first);
    let metadata = bench.metadata(&id).await;
    assert_eq!(
        (&metadata["KeyState"], &metadata["CurrentKeyMaterialId"]),
        (&json!("PendingImport"), &first["KeyMaterialId"])
    );
    assert!(metadata["ExpirationModel"].is_null());
    assert_eq!(bench.opened(&blob).await, Err(pending_import(&id)));
    for name in ["EnableKey", "DisableKey", "RotateKeyOnDemand"] {
        assert_eq!(
            bench.call(name, json!({"KeyId": id})).await,
            Err(pending_import(&id)),
            "{name}"
        );
    }
    let expected = |id: &str| {
        let message =
            format!("Imported key material does not have the expected identifier ({id}).");
        Err((Code::IncorrectKeyMaterialException, message))
    };
    let name = first["KeyMaterialId"].as_str().unwrap();
    let other = bench.import(&id, &[8; 32], json!({})).await;
    assert_eq!(other, expected(name));
    let unknown = "0".repeat(64);
    let named = json!({"KeyMaterialId": unknown});
    assert_eq!(bench.import(&id, &[7; 32], named).await, expected(&unknown));
    let again = bench
        .import(
            &id,
            &[7; 32],
            json!({"KeyMaterialId": first["KeyMaterialId"]}),
        )
        .await
        .unwrap();
    assert_eq!(again, first);
    assert!(bench.opened(&blob).await.is_ok());
    let listed = bench
        .done(
            "ListKeyRotations",
            json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}),
        )
        .await;
    let expected = json!([{"KeyId": key_arn(&id), "KeyMaterialId": first["KeyMaterialId"], "KeyMaterialDescription": "from the safe", "ImportState": "IMPORTED", "KeyMaterialState": "CURRENT", "ExpirationModel": FOREVER}]);
    assert_eq!(listed["Rotations"], expected);
    let anew = bench
        .import(&id, &[7; 32], json!({"ImportType": "NEW_KEY_MATERIAL"}))
        .await;
    let message = format!(
        "Key material (id: {name}) being imported as NEW_KEY_MATERIAL is already associated with KMS key {}.",
        key_arn(&id)
    );
    assert_eq!(anew, Err((Code::IncorrectKeyMaterialException, message)));
}

#[tokio::test]
async fn other_material_waits_for_its_rotation_and_all_of_it_must_be_there() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let first = bench.import(&id, &[1; 32], json!({})).await.unwrap();
    let old = bench.blob(&id).await;
    let message = format!(
        "No available key material pending rotation for the key: {}.",
        key_arn(&id)
    );
    bench
        .invalid_state("RotateKeyOnDemand", json!({"KeyId": id}), &message)
        .await;
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    let second = bench.import(&id, &[2; 32], new.clone()).await.unwrap();
    // Not in use yet.
    assert_eq!(
        bench.metadata(&id).await["CurrentKeyMaterialId"],
        first["KeyMaterialId"]
    );
    let third = bench.import(&id, &[3; 32], new.clone()).await;
    let key: KeyId = id.parse().unwrap();
    let message = format!(
        "New key material (id: {}) cannot be imported into KMS key {}, because another key material (id: {}) is pending rotation.",
        KeyMaterialId::of(key, &[3; 32]),
        key_arn(&id),
        second["KeyMaterialId"].as_str().unwrap()
    );
    assert_eq!(third, Err((Code::KMSInvalidStateException, message)));
    // What only waits can be deleted and given again.
    bench
        .done(
            "DeleteImportedKeyMaterial",
            json!({"KeyId": id, "KeyMaterialId": second["KeyMaterialId"]}),
        )
        .await;
    assert_eq!(bench.metadata(&id).await["KeyState"], "Enabled");
    assert_eq!(
        bench.import(&id, &[2; 32], new.clone()).await.unwrap(),
        second
    );
    bench.done_to("RotateKeyOnDemand", &id).await;
    assert_eq!(
        bench.metadata(&id).await["CurrentKeyMaterialId"],
        second["KeyMaterialId"]
    );
    let young = bench.blob(&id).await;
    for (blob, material) in [(&old, &first), (&young, &second)] {
        assert_eq!(
            bench.opened(blob).await.unwrap()["KeyMaterialId"],
            material["KeyMaterialId"]
        );
    }
    bench.import(&id, &[3; 32], new).await.unwrap();
    let listed = bench
        .done(
            "ListKeyRotations",
            json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"}),
        )
        .await;
    let told: Vec<_> = listed["Rotations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["KeyMaterialState"].as_str().unwrap(),
                entry["RotationType"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("NON_CURRENT", None),
            ("CURRENT", Some("ON_DEMAND")),
            ("PENDING_ROTATION", None)
        ]
    );
    // The old one is as needed as the new one.
    bench
        .done(
            "DeleteImportedKeyMaterial",
            json!({"KeyId": id, "KeyMaterialId": first["KeyMaterialId"]}),
        )
        .await;
    assert_eq!(bench.opened(&young).await, Err(pending_import(&id)));
    bench.import(&id, &[1; 32], json!({})).await.unwrap();
    assert!(bench.opened(&young).await.is_ok() && bench.opened(&old).await.is_ok());
    let message = format!(
        "{} origin is EXTERNAL which is not valid for this operation.",
        key_arn(&id)
    );
    for name in ["EnableKeyRotation", "DisableKeyRotation"] {
        bench
            .refused(
                name,
                json!({"KeyId": id}),
                Code::UnsupportedOperationException,
                &message,
            )
            .await;
    }
    let status = bench.done_to("GetKeyRotationStatus", &id).await;
    assert_eq!(status["KeyRotationEnabled"], false);
}

#[tokio::test]
async fn material_goes_at_its_date_and_the_record_says_so() {
    let bench = Bench::new().await;
    let (id, kept) = (
        bench.external(json!({})).await,
        bench.external(json!({})).await,
    );
    let expiring =
        json!({"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS as f64 + 60.5});
    bench.import(&id, &[1; 32], expiring).await.unwrap();
    bench.import(&kept, &[1; 32], json!({})).await.unwrap();
    bench.done_to("DisableKey", &kept).await;
    let drop_now = || async {
        bench
            .api
            .drop_expired_material(bench.api.clock.now())
            .await
            .unwrap()
    };
    bench.api.clock.advance(Duration::from_secs(60));
    assert_eq!(drop_now().await, 0);
    bench.api.clock.advance(Duration::from_secs(1));
    assert_eq!(drop_now().await, 1);
    assert_eq!(bench.metadata(&id).await["KeyState"], "PendingImport");
    assert_eq!(bench.metadata(&kept).await["KeyState"], "Disabled");
    bench.import(&id, &[1; 32], json!({})).await.unwrap();
    assert_eq!(bench.metadata(&id).await["KeyState"], "Enabled");
    let snapshot = bench.api.keystore.snapshot();
    assert!(snapshot.keys[&id.parse().unwrap()].current().is_some());
    let records = bench.records();
    let dropped: Vec<_> = records
        .iter()
        .filter(|record| record["eventName"] == "DeleteExpiredKeyMaterial")
        .collect();
    assert_eq!(dropped.len(), 1);
    let imports: Vec<_> = records
        .iter()
        .filter(|record| record["eventName"] == "ImportKeyMaterial")
        .collect();
    let parameters = &imports[0]["requestParameters"];
    assert!(parameters["importToken"].is_null() && parameters["encryptedKeyMaterial"].is_null());
    assert_eq!(parameters["expirationModel"], "KEY_MATERIAL_EXPIRES");
}
