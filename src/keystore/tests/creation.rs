//! A creation that was killed, and the next one.

use super::*;

#[tokio::test]
async fn store_1_a_creation_that_died_is_begun_anew_and_a_store_is_never_replaced() {
    let place = TestStore::new();
    // A kill before the rename leaves no store, and unfinished files.
    for left in ["new", "new-wal", "new-shm"] {
        std::fs::write(place.path().with_extension(left), b"half").unwrap();
    }
    assert!(matches!(
        place.open().await.err(),
        Some(KeystoreError::Absent { .. })
    ));
    place.create().await.close().await.unwrap();
    let before = std::fs::read(place.path()).unwrap();
    let (entropy, metrics) = parts();
    let again = Keystore::create(&place.path(), &place.root, regions(), entropy, metrics).await;
    assert!(matches!(again.err(), Some(KeystoreError::Io { .. })));
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
    let mut names: Vec<_> = std::fs::read_dir(place.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["root.key", "store.lock", "store.seen", "store.sqlite"]
    );
}
