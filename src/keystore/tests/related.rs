//! Keys of several Regions at rest, and related multi-Region keys among them.

use super::*;
use crate::crypto::block_cipher::BlockCipher;
use crate::key::material::KeySecret;
use crate::key::rotation::RotationSchedule;
use crate::key::spec::{KeySpec, KeyUsage};

pub(super) fn two_regions() -> Regions {
    Regions::new("aws", "us-east-1", ["us-west-2"])
}

pub(super) async fn open(place: &TestStore, regions: Regions) -> Result<Keystore, KeystoreError> {
    let (entropy, metrics) = parts();
    Keystore::open(&place.path(), &place.root, regions, entropy, metrics).await
}

/// A primary key in the home Region, and its replica in the other.
fn related() -> (KeyDraft, KeyDraft) {
    let (home, other) = (
        RegionNumber::HOME,
        two_regions().named("us-west-2").unwrap().number,
    );
    let of = draft(KeyState::Enabled);
    let id = KeyId::from_parts([7; 16], true);
    let material =
        BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(5), &Entropy::os()).unwrap();
    let key = KmsKey {
        id,
        primary: Some(home),
        ..of.key
    };
    let primary = KeyDraft {
        key,
        materials: vec![Arc::new(material)],
        secret: None,
    };
    let replica = KmsKey {
        region: other,
        description: "there".to_owned(),
        ..primary.key.clone()
    };
    let replica = KeyDraft {
        key: replica,
        materials: Vec::new(),
        secret: None,
    };
    let replica = crate::keystore::related::shared(
        replica,
        &KeyDraft {
            key: primary.key.clone(),
            materials: primary.materials.clone(),
            secret: None,
        },
    );
    (primary, replica)
}

#[tokio::test]
async fn a_key_is_read_back_in_its_region() {
    let place = TestStore::new();
    place.create().await.close().await.unwrap();
    let store = open(&place, two_regions()).await.unwrap();
    let region = store.regions().named("us-west-2").unwrap().number;
    let there = draft(KeyState::Enabled);
    let there = KeyDraft {
        key: KmsKey {
            region,
            ..there.key
        },
        ..there
    };
    let id = there.key.regional_id();
    let changes = vec![
        Change::PutKey(there),
        Change::PutAlias(alias(id)),
        Change::PutGrant(access::grant(id, 1, None)),
        Change::PutKeyPolicy(id, access::policy()),
    ];
    apply(&store, changes).await.unwrap();
    let written = store.snapshot();
    store.close().await.unwrap();
    let store = open(&place, two_regions()).await.unwrap();
    let read = store.snapshot();
    assert_eq!(read.keys[&id].key, written.keys[&id].key);
    assert_eq!(
        read.keys[&id].arn,
        format!("arn:aws:kms:us-west-2:111122223333:key/{}", id.id)
    );
    let aliases = |snapshot: &Snapshot| snapshot.aliases(id.region, account()).cloned();
    assert!(aliases(&read).is_some() && aliases(&read) == aliases(&written));
    assert_eq!(read.aliases_of(id), written.aliases_of(id));
    assert!(read.grants.contains_key(&id) && read.key_policies.contains_key(&id));
    store.close().await.unwrap();
    // Without its Region, or with the Regions in another order, the store is refused.
    for regions in [
        Regions::one("aws", "us-east-1"),
        Regions::new("aws", "us-west-2", ["us-east-1"]),
    ] {
        let refused = open(&place, regions).await.err().unwrap().to_string();
        let expected = "has a record of Region us-west-2: ";
        assert!(refused.contains(expected), "{refused}");
        let remedy = "name that Region in `regions`, and first the one that was first before";
        assert!(refused.ends_with(remedy), "{refused}");
    }
}

#[tokio::test]
async fn a_replica_has_the_material_of_its_primary_key() {
    let place = TestStore::new();
    place.create().await.close().await.unwrap();
    let store = open(&place, two_regions()).await.unwrap();
    let (primary, replica) = related();
    let (here, there) = (primary.key.regional_id(), replica.key.regional_id());
    apply(
        &store,
        vec![Change::PutKey(primary), Change::PutKey(replica)],
    )
    .await
    .unwrap();
    let fence = store.snapshot().keys[&there].fence;
    // Its next generation and its schedule reach the replica with the same commit.
    let entry = Arc::clone(&store.snapshot().keys[&here]);
    let mut rotated = entry.with_key(entry.key.clone());
    let next = BackingKey::draw(
        BlockCipher::Aes256,
        here.id,
        2,
        Timestamp(6),
        &Entropy::os(),
    )
    .unwrap();
    rotated.materials.push(Arc::new(next));
    rotated.key.rotation = Some(RotationSchedule::after(Timestamp(7), 90));
    let revision = store.revision();
    apply(&store, vec![Change::PutKey(rotated)]).await.unwrap();
    assert_eq!(store.revision(), revision + 1);
    assert!(store.snapshot().keys[&there].fence > fence);
    store.close().await.unwrap();
    let read = open(&place, two_regions()).await.unwrap().snapshot();
    let (primary, replica) = (&read.keys[&here], &read.keys[&there]);
    assert_eq!(replica.key.description, "there");
    assert_eq!(replica.key.rotation, primary.key.rotation);
    assert_eq!(replica.materials.len(), 2);
    for (one, other) in primary.materials.iter().zip(&replica.materials) {
        assert!(Arc::ptr_eq(one, other), "held once");
    }
}

#[tokio::test]
async fn a_change_that_does_not_concern_the_replica_does_not_touch_it() {
    let place = TestStore::new();
    place.create().await.close().await.unwrap();
    let store = open(&place, two_regions()).await.unwrap();
    let (primary, replica) = related();
    let (here, there) = (primary.key.regional_id(), replica.key.regional_id());
    apply(
        &store,
        vec![Change::PutKey(primary), Change::PutKey(replica)],
    )
    .await
    .unwrap();
    let before = Arc::clone(&store.snapshot().keys[&there]);
    let entry = Arc::clone(&store.snapshot().keys[&here]);
    let key = KmsKey {
        description: "other".to_owned(),
        state: KeyState::Disabled,
        ..entry.key.clone()
    };
    apply(&store, vec![Change::PutKey(entry.with_key(key))])
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&before, &store.snapshot().keys[&there]));
}

#[tokio::test]
async fn store_1_a_replica_without_its_primary_key_is_refused() {
    for other_kind in [false, true] {
        let place = TestStore::new();
        place.create().await.close().await.unwrap();
        let store = open(&place, two_regions()).await.unwrap();
        let (mut primary, replica) = related();
        let mut changes = vec![Change::PutKey(replica)];
        if other_kind {
            primary.key.spec = "HMAC_256".parse().unwrap();
            primary.key.usage = KeyUsage::GenerateVerifyMac;
            primary.materials.clear();
            let secret = KeySecret::draw(primary.key.spec, &Entropy::os()).unwrap();
            primary.secret = Some(Arc::new(secret));
            assert_ne!(primary.key.spec, KeySpec::Symmetric);
            changes.push(Change::PutKey(primary));
        }
        apply(&store, changes).await.unwrap();
        store.close().await.unwrap();
        let refused = open(&place, two_regions()).await.err().unwrap().to_string();
        let arn = "arn:aws:kms:us-west-2:111122223333:key/mrk-07070707070707070707070707070707";
        let expected = format!(
            "has a replica key that does not go with its primary key: {arn}; restore a backup"
        );
        assert!(refused.ends_with(&expected), "{refused}");
    }
}
