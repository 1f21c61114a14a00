//! Imported material and the key's state.

use super::*;

impl Bench {
    async fn state(&self, id: &str) -> Value {
        self.metadata(id).await["KeyState"].take()
    }

    async fn drop_expired(&self) {
        let now = self.api.clock.now();
        self.api.drop_expired_material(now).await.unwrap();
    }
}

/// The right to import is not the right to enable, alone or with the right to delete material.
#[tokio::test]
async fn a_key_that_was_disabled_is_disabled_when_its_material_is_back() {
    let expiring = json!({"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS + 60});
    for (way, expected) in [
        ("again", "Disabled"),
        ("deleted", "Disabled"),
        ("expired", "Disabled"),
        ("deletion cancelled", "Disabled"),
        ("enabled", "Enabled"),
    ] {
        let bench = Bench::new().await;
        let id = bench.external(json!({})).await;
        bench.import(&id, &[7; 32], expiring.clone()).await.unwrap();
        if way != "enabled" {
            bench.done_to("DisableKey", &id).await;
        }
        match way {
            "again" => {}
            "expired" => {
                bench.api.clock.advance(Duration::from_secs(60));
                bench.drop_expired().await;
            }
            "deletion cancelled" => {
                bench.done_to("ScheduleKeyDeletion", &id).await;
                bench.done_to("DeleteImportedKeyMaterial", &id).await;
                bench.done_to("CancelKeyDeletion", &id).await;
            }
            _ => {
                bench.done_to("DeleteImportedKeyMaterial", &id).await;
            }
        }
        let missing = if way == "again" {
            "Disabled"
        } else {
            "PendingImport"
        };
        assert_eq!(bench.state(&id).await, missing, "{way}");
        bench.import(&id, &[7; 32], json!({})).await.unwrap();
        assert_eq!(bench.state(&id).await, expected, "{way}");
        bench.done_to("EnableKey", &id).await;
        // Enabled once, it is enabled when its material comes the next time.
        bench.done_to("DeleteImportedKeyMaterial", &id).await;
        bench.import(&id, &[7; 32], json!({})).await.unwrap();
        assert_eq!(bench.state(&id).await, "Enabled", "{way}");
    }
}

#[tokio::test]
async fn parameters_are_given_for_a_disabled_key() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    bench.import(&id, &[7; 32], json!({})).await.unwrap();
    bench.done_to("DisableKey", &id).await;
    let parameters = bench.parameters(&id, "RSAES_OAEP_SHA_256").await;
    assert_eq!(parameters["KeyId"], key_arn(&id));
}

#[tokio::test]
async fn what_expires_while_it_waits_can_be_rotated_in_and_is_waited_for() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let first = bench.import(&id, &[1; 32], json!({})).await.unwrap();
    let old = bench.blob(&id).await;
    let expiring = json!({"ImportType": "NEW_KEY_MATERIAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS + 60});
    let second = bench.import(&id, &[2; 32], expiring.clone()).await.unwrap();
    bench.api.clock.advance(Duration::from_secs(61));
    bench.drop_expired().await;
    // The key is as usable as before, and the place is taken.
    assert!(bench.opened(&old).await.is_ok());
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    let third = bench.import(&id, &[3; 32], new).await.unwrap_err();
    assert_eq!(third.0, Code::KMSInvalidStateException);
    let all = json!({"KeyId": id, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"});
    let listed = bench.done("ListKeyRotations", all).await;
    let pending = json!({"KeyId": key_arn(&id), "KeyMaterialId": second["KeyMaterialId"], "ImportState": "PENDING_IMPORT", "KeyMaterialState": "PENDING_ROTATION"});
    assert_eq!(listed["Rotations"][1], pending);

    bench.done_to("RotateKeyOnDemand", &id).await;
    let metadata = bench.metadata(&id).await;
    assert_eq!(
        (&metadata["KeyState"], &metadata["CurrentKeyMaterialId"]),
        (&json!("PendingImport"), &second["KeyMaterialId"])
    );
    assert_eq!(bench.opened(&old).await, Err(pending_import(&id)));
    bench.import(&id, &[2; 32], json!({})).await.unwrap();
    let made = bench.blob(&id).await;
    for (blob, material) in [(&old, &first), (&made, &second)] {
        let opened = bench.opened(blob).await.unwrap();
        assert_eq!(opened["KeyMaterialId"], material["KeyMaterialId"]);
    }
    let records = bench.records();
    let rotation = |record: &&Value| record["eventName"] == "RotateKeyOnDemand";
    let rotation = records.iter().find(rotation).unwrap();
    assert_eq!(
        rotation["additionalEventData"]["keyMaterialId"],
        second["KeyMaterialId"]
    );
}

#[tokio::test]
async fn what_expired_while_it_waited_can_be_given_up() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    bench.import(&id, &[1; 32], json!({})).await.unwrap();
    let expiring = json!({"ImportType": "NEW_KEY_MATERIAL", "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": NOW_SECONDS + 60});
    let second = bench.import(&id, &[2; 32], expiring).await.unwrap();
    bench.api.clock.advance(Duration::from_secs(61));
    bench.drop_expired().await;
    let body = json!({"KeyId": id, "KeyMaterialId": second["KeyMaterialId"]});
    let deleted = bench.done("DeleteImportedKeyMaterial", body).await;
    assert_eq!(deleted, second);
    let new = json!({"ImportType": "NEW_KEY_MATERIAL"});
    bench.import(&id, &[3; 32], new).await.unwrap();
    bench.done_to("RotateKeyOnDemand", &id).await;
    assert_eq!(bench.state(&id).await, "Enabled");
}

#[tokio::test]
async fn deletion_of_what_is_not_there_succeeds() {
    let bench = Bench::new().await;
    let id = bench.external(json!({})).await;
    let bare = json!({"KeyId": key_arn(&id)});
    let deleted = bench.done_to("DeleteImportedKeyMaterial", &id).await;
    assert_eq!(deleted, bare, "never imported");
    let first = bench.import(&id, &[1; 32], json!({})).await.unwrap();
    for _ in 0..2 {
        let deleted = bench.done_to("DeleteImportedKeyMaterial", &id).await;
        assert_eq!(deleted, first);
    }
    bench.done_to("ScheduleKeyDeletion", &id).await;
    bench.done_to("CancelKeyDeletion", &id).await;
    assert_eq!(bench.state(&id).await, "PendingImport");
    let metadata = bench.metadata(&id).await;
    assert_eq!(metadata["CurrentKeyMaterialId"], first["KeyMaterialId"]);
}
