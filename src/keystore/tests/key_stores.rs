//! Custom key stores at rest, and the keys in them.

use super::*;
use crate::crypto::secret::SecretBytes;
use crate::key::key_store::{InKeyStore, KeyStoreId};
use crate::key::material::KeySecret;
use crate::key::spec::KeyOrigin;
use crate::key::{InvalidState, UNAVAILABLE};
use crate::keystore::Connection;
use crate::keystore::tests::related::{open, two_regions};

/// A key store that was never connected.
pub(super) fn key_store(id: KeyStoreId) -> KeyStoreEntry {
    let secret = SecretBytes::filled(43, |bytes| bytes.fill(b'x'));
    let credential = AccessKey::new("ABCDEFGHIJKLMNOPQRST".to_owned(), secret);
    KeyStoreEntry {
        id,
        region: RegionNumber::HOME,
        account: account(),
        name: "a \"store\"".to_owned(),
        uri_endpoint: "https://proxy.example.org".to_owned(),
        uri_path: "/a/kms/xks/v1".to_owned(),
        credential: Arc::new(credential),
        connection: Connection::Disconnected,
        creation_date: Timestamp(8),
    }
}

fn id() -> KeyStoreId {
    "cks-1234567890abcdef0".parse().unwrap()
}

/// A key in that store.
fn in_store() -> KeyDraft {
    let KeyDraft { key, materials, .. } = draft(KeyState::Enabled);
    let material = materials[0].material().copied();
    let inner = BackingKey::from_material(key.id, 1, key.creation_date, material);
    KeyDraft {
        key: KmsKey {
            origin: KeyOrigin::ExternalKeyStore,
            key_store: Some(InKeyStore {
                id: id(),
                external_key: "main.1".parse().unwrap(),
                is_connected: false,
            }),
            ..key
        },
        materials: Vec::new(),
        secret: Some(Arc::new(KeySecret::Inner(inner))),
    }
}

fn connected(connection: Connection) -> Change {
    Change::PutKeyStore(KeyStoreEntry {
        connection,
        ..key_store(id())
    })
}

#[tokio::test]
async fn a_key_store_comes_back_with_its_keys_and_their_material() {
    let (place, store) = TestStore::created().await;
    let key = in_store();
    let (key_id, material) = (key.key.regional_id(), key.secret.clone().unwrap());
    let failed = Connection::Failed(ConnectionError::XksProxyTimedOut);
    let changes = vec![connected(failed), Change::PutKey(key)];
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    let snapshot = store.snapshot();
    let found = &snapshot.key_stores[&id()];
    let expected = key_store(id());
    assert_eq!(found.name, expected.name);
    assert_eq!(
        (found.region, found.account),
        (RegionNumber::HOME, account())
    );
    assert_eq!(found.uri_endpoint, expected.uri_endpoint);
    assert_eq!(found.uri_path, expected.uri_path);
    assert_eq!(found.credential.id, expected.credential.id);
    assert_eq!(found.credential.secret.expose(), [b'x'; 43]);
    assert_eq!(
        (found.connection, found.creation_date),
        (failed, Timestamp(8))
    );
    let entry = &snapshot.keys[&key_id];
    assert_eq!(entry.inner().unwrap().expose(), material.expose());
    let in_store = entry.key.key_store.as_ref().unwrap();
    assert_eq!(
        (in_store.id, in_store.external_key.as_str()),
        (id(), "main.1")
    );
    // Nothing of this daemon's own can be made or opened under it.
    assert!(entry.current().is_none() && entry.generation(1).is_none());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_key_is_usable_while_its_key_store_is_connected() {
    let (place, mut store) = TestStore::created().await;
    let key = in_store();
    let key_id = key.key.regional_id();
    let changes = vec![connected(Connection::Disconnected), Change::PutKey(key)];
    apply(&store, changes).await.unwrap();
    let mut fence = 0;
    for (connection, usable) in [
        (Connection::Connecting, Err(InvalidState::Unavailable)),
        (Connection::Connected, Ok(())),
        (
            Connection::Failed(ConnectionError::InternalError),
            Err(InvalidState::Unavailable),
        ),
        (Connection::Connected, Ok(())),
        (Connection::Disconnected, Err(InvalidState::Unavailable)),
    ] {
        apply(&store, vec![connected(connection)]).await.unwrap();
        let entry = Arc::clone(&store.snapshot().keys[&key_id]);
        assert_eq!(entry.key.usable(), usable, "{connection:?}");
        let name = usable.map_or(UNAVAILABLE, |()| "Enabled");
        assert_eq!(entry.key.state_name(), name);
        assert!(entry.fence >= fence);
        fence = entry.fence;
        // A change of the key does not change what its key store is.
        let disabled = KmsKey {
            state: KeyState::Disabled,
            ..entry.key.clone()
        };
        let changes = vec![Change::PutKey(entry.with_key(disabled))];
        apply(&store, changes).await.unwrap();
        let snapshot = store.snapshot();
        let disabled = usable.and(Err(InvalidState::Disabled));
        assert_eq!(snapshot.keys[&key_id].key.usable(), disabled);
        let changes = vec![Change::PutKey(entry.with_key(entry.key.clone()))];
        apply(&store, changes).await.unwrap();
        store.close().await.unwrap();
        store = place.open().await.unwrap();
        assert_eq!(store.snapshot().keys[&key_id].key.usable(), usable);
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_key_store_in_another_region_is_removed_by_its_name() {
    let place = TestStore::new();
    place.create().await.close().await.unwrap();
    let reopened = async || open(&place, two_regions()).await.unwrap();
    let store = reopened().await;
    let region = store.regions().named("us-west-2").unwrap().number;
    let entry = KeyStoreEntry {
        region,
        ..key_store(id())
    };
    let changes = vec![Change::PutKeyStore(entry)];
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    let store = reopened().await;
    assert_eq!(store.snapshot().key_stores[&id()].region, region);
    let changes = vec![Change::RemoveKeyStore(id())];
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    let store = reopened().await;
    assert!(store.snapshot().key_stores.is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_key_without_its_key_store_is_refused() {
    let (place, store) = TestStore::created().await;
    let changes = vec![connected(Connection::Connected), Change::PutKey(in_store())];
    apply(&store, changes).await.unwrap();
    let changes = vec![Change::RemoveKeyStore(id())];
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    place.refused("in a custom key store that is missing").await;
}

/// Parses the record of a key whose metadata are edited so.
fn edited(edit: impl Fn(String) -> String) -> bool {
    let regions = regions();
    let key = in_store();
    let plaintext = body::key::encode(&key, &regions);
    let (head, rest) = plaintext.expose().split_at(5);
    let length = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
    let (text, secret) = rest.split_at(length);
    let text = edit(String::from_utf8(text.to_vec()).unwrap());
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    let bytes = [&[1], length.as_slice(), text.as_bytes(), secret].concat();
    let record = Record {
        kind: Kind::Key,
        id: key.key.id.to_string(),
        revision: 7,
        body: Vec::new(),
    };
    body::decode(&record, &SecretBytes::copy_of(&bytes), &regions).is_ok()
}

#[test]
fn a_record_that_contradicts_itself_is_not_one_of_a_key() {
    assert!(edited(|text| text));
    for (from, to) in [
        ("EXTERNAL_KEY_STORE", "AWS_KMS"),
        ("EXTERNAL_KEY_STORE", "EXTERNAL"),
        ("cks-1234567890abcdef0", "cks-1"),
        ("main.1", "main/1"),
        (r#""SYMMETRIC_DEFAULT""#, r#""HMAC_256""#),
        (
            r#""materials":[]"#,
            r#""materials":[{"generation":1,"creation_date":5}]"#,
        ),
        (
            r#","key_store":{"id":"cks-1234567890abcdef0","external_key":"main.1"}"#,
            "",
        ),
    ] {
        assert!(!edited(|text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        }));
    }
}
