//! `UpdatePrimaryRegion`.

use super::*;

const UPDATE: &str = "UpdatePrimaryRegion";

fn to(id: &str, region: &str) -> Value {
    json!({"KeyId": id, "PrimaryRegion": region})
}

#[tokio::test]
async fn primary_and_replica_change_their_parts() {
    let bench = Bench::new().await;
    let id = bench.primary(json!({"Description": "east"})).await;
    bench.replicate(&id, WEST).await;
    bench.replicate(&id, "eu-west-1").await;
    bench.done_to("EnableKeyRotation", &id).await;
    let blob = bench.blob_in(EAST, &id).await;
    assert_eq!(
        bench.done(UPDATE, to(&id, EAST)).await,
        Value::Null,
        "already"
    );
    assert_eq!(bench.done(UPDATE, to(&id, WEST)).await, Value::Null);
    for region in [EAST, WEST, "eu-west-1"] {
        let kind = if region == WEST { "PRIMARY" } else { "REPLICA" };
        let metadata = bench.metadata_in(region, &id).await;
        let expected = configuration(kind, &id, WEST, &[EAST, "eu-west-1"]);
        assert_eq!(metadata["MultiRegionConfiguration"], expected, "{region}");
        assert_eq!(metadata["KeyState"], "Enabled");
        assert_eq!(bench.opens_in(region, &blob).await[0], *arn_in(region, &id));
    }
    assert_eq!(bench.metadata_in(EAST, &id).await["Description"], "east");
    // The rotation is the new primary key's.
    let code = Code::UnsupportedOperationException;
    let message = format!(
        "{} is a multi-region replica key which is not valid for RotateKeyOnDemand.",
        arn_in(EAST, &id)
    );
    let body = json!({"KeyId": id});
    bench
        .refused("RotateKeyOnDemand", body.clone(), code, &message)
        .await;
    bench.done_in(WEST, "RotateKeyOnDemand", body).await;
    let generation = decoded(&bench.blob_in(EAST, &id).await)[20..24].to_vec();
    assert_eq!(generation, [0, 0, 0, 2]);
    let date = NOW.after(Duration::from_secs(366 * 24 * 60 * 60));
    assert_eq!(bench.api.rotate_due_keys(date).await.unwrap(), 1);
}

#[tokio::test]
async fn a_region_that_cannot_be_the_primary_one_is_refused() {
    let bench = Bench::new().await;
    let (id, ordinary) = (bench.primary(json!({})).await, bench.key().await);
    bench.replicate(&id, WEST).await;
    let none = format!("{id} does not have a replica key in the specified Region.");
    for region in ["eu-west-1", "us-invalid-1"] {
        bench.invalid(UPDATE, to(&id, region), &none).await;
    }
    let null = "1 validation error detected: Value null at 'primaryRegion' failed to satisfy constraint: Member must not be null";
    bench.invalid(UPDATE, json!({"KeyId": id}), null).await;
    let message = format!("{} is not a multi-Region primary key.", arn_in(WEST, &id));
    let code = Code::KMSInvalidStateException;
    bench
        .refused_in(WEST, UPDATE, to(&id, WEST), code, &message)
        .await;
    let message = format!(
        "{} is not a multi-Region primary key.",
        arn_in(EAST, &ordinary)
    );
    let code = Code::UnsupportedOperationException;
    bench
        .refused(UPDATE, to(&ordinary, WEST), code, &message)
        .await;
    // Both keys must be enabled.
    for (region, state) in [(WEST, "DisableKey"), (EAST, "DisableKey")] {
        bench.done_in(region, state, json!({"KeyId": id})).await;
        let message = format!("{} is disabled.", arn_in(region, &id));
        let code = Code::DisabledException;
        bench
            .refused_in(EAST, UPDATE, to(&id, WEST), code, &message)
            .await;
        bench
            .done_in(region, "EnableKey", json!({"KeyId": id}))
            .await;
    }
    bench
        .done_in(WEST, "ScheduleKeyDeletion", json!({"KeyId": id}))
        .await;
    let message = format!("{} is pending deletion.", arn_in(WEST, &id));
    bench.invalid_state(UPDATE, to(&id, WEST), &message).await;
    bench.done_to("ScheduleKeyDeletion", &id).await;
    let message = format!("{} is pending replica deletion.", arn_in(EAST, &id));
    bench.invalid_state(UPDATE, to(&id, WEST), &message).await;
}
