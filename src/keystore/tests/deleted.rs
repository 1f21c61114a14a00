//! Deleted secrets are gone from the store's files.

use super::*;
use crate::crypto::secret::SecretBytes;
use crate::policy::Principal;

const USER: &str = "arn:aws:iam::111122223333:user/backup";

/// The sealed bodies of all records of this kind.
async fn bodies(place: &TestStore, kind: &str) -> Vec<Vec<u8>> {
    let mut beside = connection(&place.path()).await;
    let bodies = sqlx::query_scalar("SELECT body FROM record WHERE kind = $1")
        .bind(kind)
        .fetch_all(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    bodies
}

/// Which of the store's files have some 16 bytes of `body`.
fn holders(place: &TestStore, body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        if body.chunks_exact(16).any(has) {
            found.push(name);
        }
    }
    found
}

#[tokio::test]
async fn store_2_what_took_material_away_is_in_no_file_while_the_store_is_open() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    let entry = Arc::clone(&store.snapshot().keys[&ids[0]]);
    // Several versions of the record, of which each has the material.
    let mut versions = bodies(&place, "key").await;
    for description in ["one", "two"] {
        let key = KmsKey {
            description: description.to_owned(),
            ..entry.key.clone()
        };
        apply(&store, vec![Change::PutKey(entry.with_key(key))])
            .await
            .unwrap();
        versions.extend(bodies(&place, "key").await);
    }
    let other = bodies(&place, "key").await;
    assert!(
        versions
            .iter()
            .any(|body| holders(&place, body).contains(&"store.sqlite-wal".to_owned()))
    );
    apply(&store, vec![Change::RemoveKey(ids[0])])
        .await
        .unwrap();
    let left = bodies(&place, "key").await;
    assert_eq!((left.len(), other.len()), (1, 2));
    for body in versions.iter().filter(|body| !left.contains(body)) {
        assert_eq!(holders(&place, body), Vec::<String>::new());
    }
    assert_eq!(
        holders(&place, &left[0]),
        ["store.sqlite"],
        "the search finds present bytes"
    );

    // A key whose material goes, and which stays.
    let key = store.snapshot().keys[&ids[1]].key.clone();
    let before = bodies(&place, "key").await;
    let imported = KeyDraft {
        key: KmsKey {
            origin: crate::key::spec::KeyOrigin::External,
            state: KeyState::PendingImport,
            ..key
        },
        materials: Vec::new(),
        secret: None,
    };
    apply(&store, vec![Change::PutKey(imported)]).await.unwrap();
    assert_eq!(holders(&place, &before[0]), Vec::<String>::new());

    // Access keys, and a principal.
    let key = |id: &str| {
        let secret = SecretBytes::filled(40, |bytes| bytes.fill(b'x'));
        Arc::new(AccessKey::new(id.to_owned(), secret))
    };
    let with = |keys| {
        let principal = Principal::new(USER, Vec::new()).unwrap();
        Change::PutPrincipal(PrincipalEntry::new(principal, keys))
    };
    apply(&store, vec![with(vec![key("AKIA1"), key("AKIA2")])])
        .await
        .unwrap();
    for change in [
        with(vec![key("AKIA2")]),
        Change::RemovePrincipal(USER.to_owned()),
    ] {
        let before = bodies(&place, "principal").await;
        apply(&store, vec![change]).await.unwrap();
        assert_eq!(holders(&place, &before[0]), Vec::<String>::new());
    }

    // Records without secrets are gone at the latest when the store is closed.
    let before = bodies(&place, "alias").await;
    let name = "alias/containers".parse().unwrap();
    apply(
        &store,
        vec![Change::RemoveAlias(RegionNumber::HOME, account(), name)],
    )
    .await
    .unwrap();
    store.close().await.unwrap();
    assert_eq!(holders(&place, &before[0]), Vec::<String>::new());
}

#[tokio::test]
async fn store_2_a_reader_puts_the_emptying_off_and_does_not_fail_the_change() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    let before = bodies(&place, "key").await;
    let mut reader = connection(&place.path()).await;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM record")
        .execute(&mut reader)
        .await
        .unwrap();
    apply(&store, vec![Change::RemoveKey(ids[0])])
        .await
        .unwrap();
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    let left = bodies(&place, "key").await;
    let gone: Vec<_> = before.iter().filter(|body| !left.contains(body)).collect();
    assert!(!holders(&place, gone[0]).is_empty(), "it was being read");
    apply(&store, vec![Change::PutAlias(alias(ids[1]))])
        .await
        .unwrap();
    assert_eq!(holders(&place, gone[0]), Vec::<String>::new());
    store.close().await.unwrap();
}
