//! Stores of format 2: verified as they are, and raised by their first start.

use super::*;
use crate::keystore::raising;
use std::os::unix::fs::PermissionsExt;

const DATABASE: &[u8] = include_bytes!("../../../tests/vectors/store-format-2.db");
const ROOT_KEY: &[u8] = include_bytes!("../../../tests/vectors/store-format-2.root.key");

/// A store that a release has made that knew format 2 and no later one.
fn of_before() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.key");
    std::fs::write(&root, ROOT_KEY).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o600)).unwrap();
    let root = RootKeyFile::clear(&root).read().unwrap();
    let place = TestStore { folder, root };
    std::fs::write(place.path(), DATABASE).unwrap();
    let seen = "00000000000000000014 format 2\n";
    std::fs::write(place.folder.path().join("store.seen"), seen).unwrap();
    place
}

#[tokio::test]
async fn store_1_a_store_of_format_2_is_opened_and_raised_and_a_copy_is_left() {
    let place = of_before();
    Keystore::check(&place.path(), &place.root, &regions())
        .await
        .unwrap();
    let found = raising::found(&place.path(), &place.root).await.unwrap();
    assert_eq!((found.format, found.revision), (2, 14));
    assert_eq!(std::fs::read(place.path()).unwrap(), DATABASE, "only read");
    let store = place.open().await.unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision, 15, "raising is a revision of its own");
    assert_eq!((snapshot.keys.len(), snapshot.principals.len()), (3, 4));
    assert!(snapshot.audit_head("").is_some());
    let mut keys = snapshot.keys.values();
    assert!(keys.all(|entry| entry.current().is_some()));
    store.close().await.unwrap();
    let found = raising::found(&place.path(), &place.root).await.unwrap();
    assert_eq!((found.format, found.revision), (3, 15));
    place.open().await.unwrap().close().await.unwrap();
    let found = raising::found(&place.path(), &place.root).await.unwrap();
    assert_eq!(found.revision, 15, "once");
    // Back to the copy, as docs/operator.md says.
    let copy = place.folder.path().join("store.sqlite.before-3");
    std::fs::rename(&copy, place.path()).unwrap();
    place
        .refused("is of format 2, but this host has seen it in format 3")
        .await;
    std::fs::remove_file(place.folder.path().join("store.seen")).unwrap();
    let again = place.open().await.unwrap();
    assert_eq!(again.snapshot().keys.len(), 3);
    again.close().await.unwrap();
}

#[tokio::test]
async fn store_1_rows_of_a_store_of_format_2_that_were_touched_are_named() {
    let place = of_before();
    let cases = [
        (
            "UPDATE record SET body = zeroblob(90) WHERE kind = 'uses'",
            "edited, swapped or copied from another store: uses",
        ),
        (
            "DELETE FROM record WHERE kind = 'audit'",
            "not hold the set of records of its revision 14",
        ),
        (
            "PRAGMA user_version = 1; CREATE TABLE roster (kind TEXT, id TEXT, share BLOB)",
            "has tables of format 1 and a head of format 2",
        ),
    ];
    place.each_refused(DATABASE, &cases).await;
}

/// Which of two heads of one revision this host has seen.
#[tokio::test]
async fn store_1_another_head_of_the_revision_that_was_seen_is_refused() {
    let (place, _) = filled().await;
    let kept = std::fs::read(place.path()).unwrap();
    let contents = Contents::of(&place.path()).await;
    let loaded = contents.verified(&place.root).await.unwrap();
    let head = loaded.verified.head;
    let other = loaded.sealer.seal_head(&head, &Entropy::os()).unwrap();
    let mut store = connection(&place.path()).await;
    sqlx::query("UPDATE record SET body = $1 WHERE kind = 'head'")
        .bind(other.body)
        .execute(&mut store)
        .await
        .unwrap();
    store.close().await.unwrap();
    place
        .refused("has another head of revision 4 than this host has seen")
        .await;
    place.refused("store.seen").await;
    std::fs::write(place.path(), kept).unwrap();
    place.open().await.unwrap().close().await.unwrap();
}
