//! Rotation by the clock: when a date comes, and what becomes of one that passed while nothing
//! could be rotated.

use super::*;

#[tokio::test]
async fn there_is_none_on_demand_right_before_an_automatic_one() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.enable_rotation(&id, 90).await;
    let twenty = Duration::from_secs(20 * 60);
    bench
        .api
        .clock
        .advance(DAY * 90 - twenty - Duration::from_micros(1));
    bench.rotate(&id).await;
    let message = format!(
        "An automatic rotation of {} is in progress or begins within the next 20 minutes.",
        key_arn(&id)
    );
    for wait in [Duration::from_micros(1), twenty, DAY] {
        bench.api.clock.advance(wait);
        let (body, code) = (json!({"KeyId": id}), Code::ConflictException);
        bench
            .refused("RotateKeyOnDemand", body, code, &message)
            .await;
    }
    assert_eq!(bench.rotate_due().await, 1);
    bench.rotate(&id).await;
    // Without a schedule there is nothing to wait for.
    bench.done_to("DisableKeyRotation", &id).await;
    bench.api.clock.advance(DAY * 90);
    bench.rotate(&id).await;
}

#[tokio::test]
async fn a_date_that_has_come_rotates_once() {
    let bench = Bench::new().await;
    let (id, other) = (bench.key().await, bench.key().await);
    bench.enable_rotation(&id, 100).await;
    let first = bench.material(&id).await;
    bench
        .api
        .clock
        .advance(DAY * 100 - Duration::from_micros(1));
    assert_eq!(bench.rotate_due().await, 0);
    bench.api.clock.advance(Duration::from_micros(1));
    let revision = bench.api.keystore.revision();
    assert_eq!(bench.rotate_due().await, 1);
    assert_eq!(bench.rotate_due().await, 0);
    assert_eq!(bench.api.keystore.revision(), revision + 1);
    let second = bench.material(&id).await;
    assert_ne!(second, first);
    let next = bench.status(&id).await["NextRotationDate"].clone();
    assert_eq!(next, time(NOW.after(DAY * 200)));
    // The timer did not run for three periods and a day: one rotation, and the next one period
    // later.
    bench.api.clock.advance(DAY * 301);
    assert_eq!(bench.rotate_due().await, 1);
    assert_eq!(bench.rotate_due().await, 0);
    let next = bench.status(&id).await["NextRotationDate"].clone();
    assert_eq!(next, time(NOW.after(DAY * 501)));
    let body = json!({"KeyId": id});
    let listed = bench.done("ListKeyRotations", body).await;
    let entry = |material: &Value, state: &str, days: u32| json!({"KeyId": key_arn(&id), "KeyMaterialId": material, "KeyMaterialState": state, "RotationDate": time(NOW.after(DAY * days)), "RotationType": "AUTOMATIC"});
    let third = bench.material(&id).await;
    let expected = json!([
        entry(&second, "NON_CURRENT", 100),
        entry(&third, "CURRENT", 401)
    ]);
    assert_eq!(listed, json!({"Rotations": expected, "Truncated": false}));
    assert_eq!(bench.generations(&other).await.len(), 1);
}

#[tokio::test]
async fn many_dates_at_once_are_several_changes() {
    use crate::crypto::block_cipher::BlockCipher;
    use crate::key::material::BackingKey;
    use crate::key::rotation::RotationSchedule;
    use crate::key::{KeyId, KmsKey};
    use crate::keystore::KeyDraft;
    let bench = Bench::new().await;
    let due = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        let id = KeyId::from_random(bytes);
        let material =
            BackingKey::draw(BlockCipher::Aes256, id, 1, NOW, &bench.api.entropy).unwrap();
        let key = KmsKey {
            rotation: Some(RotationSchedule::after(NOW, 90)),
            ..KmsKey::new(id, ACCOUNT.parse().unwrap(), NOW)
        };
        let materials = vec![Arc::new(material)];
        Change::PutKey(KeyDraft {
            key,
            materials,
            secret: None,
        })
    };
    let keys = bench.api.keystore.apply(|_| {
        let changes = (0..600).map(due).collect();
        Ok::<_, ApiError>((changes, ()))
    });
    keys.await.unwrap();
    bench.api.clock.advance(DAY * 90);
    let revision = bench.api.keystore.revision();
    assert_eq!(bench.rotate_due().await, 600);
    assert_eq!(bench.api.keystore.revision(), revision + 3);
    let snapshot = bench.api.keystore.snapshot();
    assert!(snapshot.keys.values().all(|key| key.materials.len() == 2));
    assert_eq!(bench.rotate_due().await, 0);
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_rotated_when_they_can() {
    let bench = Bench::new().await;
    let (disabled, pending) = (bench.key().await, bench.key().await);
    for id in [&disabled, &pending] {
        bench.enable_rotation(id, 90).await;
    }
    bench.done_to("DisableKey", &disabled).await;
    bench.api.clock.advance(DAY * 89);
    bench.done_to("ScheduleKeyDeletion", &pending).await;
    bench.api.clock.advance(DAY * 2);
    assert_eq!(bench.rotate_due().await, 0);
    bench.done_to("CancelKeyDeletion", &pending).await;
    assert_eq!(bench.rotate_due().await, 0);
    for id in [&disabled, &pending] {
        assert_eq!(bench.generations(id).await.len(), 1);
        bench.done_to("EnableKey", id).await;
        let current = ("CURRENT".to_owned(), Some("AUTOMATIC".to_owned()));
        let generations = bench.generations(id).await;
        assert_eq!((generations.len(), generations.last()), (2, Some(&current)));
        let next = bench.status(id).await["NextRotationDate"].clone();
        assert_eq!(next, time(NOW.after(DAY * 181)));
        // Once, however often it is enabled.
        bench.done_to("EnableKey", id).await;
        bench.done_to("DisableKey", id).await;
        bench.done_to("EnableKey", id).await;
        assert_eq!(bench.generations(id).await.len(), 2);
    }
    assert_eq!(bench.rotate_due().await, 0);
}

#[tokio::test]
async fn rng_1_a_rotation_without_entropy_rotates_nothing() {
    let bench = Bench::new().await;
    let id = bench.key().await;
    bench.enable_rotation(&id, 90).await;
    bench.faults.0.store(true, Ordering::SeqCst);
    let body = json!({"KeyId": id});
    let code = Code::KMSInternalException;
    bench.refused("RotateKeyOnDemand", body, code, "").await;
    bench.api.clock.advance(DAY * 90);
    let now = bench.api.clock.now();
    assert!(bench.api.rotate_due_keys(now).await.is_err());
    bench.faults.0.store(false, Ordering::SeqCst);
    assert_eq!(bench.generations(&id).await.len(), 1);
    // It is still due.
    assert_eq!(bench.rotate_due().await, 1);
}
