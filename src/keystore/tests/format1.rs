//! Stores of format 1: verified as they were, rewritten once, and refused afterwards.

use super::*;
use crate::keystore::format1;
use std::os::unix::fs::PermissionsExt;

const DATABASE: &[u8] = include_bytes!("../../../tests/vectors/store-format-1.db");
const ROOT_KEY: &[u8] = include_bytes!("../../../tests/vectors/store-format-1.root.key");

/// A store that a release has made that knew format 1 alone.
fn of_old() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.key");
    std::fs::write(&root, ROOT_KEY).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o600)).unwrap();
    let root = RootKeyFile::clear(&root).read().unwrap();
    let place = TestStore { folder, root };
    std::fs::write(place.path(), DATABASE).unwrap();
    std::fs::write(place.folder.path().join("store.seen"), "8\n").unwrap();
    place
}

#[tokio::test]
async fn store_1_a_store_of_format_1_is_verified_as_it_was_and_rewritten() {
    let place = of_old();
    Keystore::check(&place.path(), &place.root, &regions())
        .await
        .unwrap();
    assert_eq!(std::fs::read(place.path()).unwrap(), DATABASE, "only read");
    let store = place.open().await.unwrap();
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision, 9, "rewriting is a revision of its own");
    assert_eq!((snapshot.keys.len(), snapshot.principals.len()), (1, 3));
    let id = *snapshot.keys.keys().next().unwrap();
    assert!(snapshot.keys[&id].current().is_some() && snapshot.audit_head("").is_some());
    apply(&store, vec![Change::RemoveKey(id)]).await.unwrap();
    store.close().await.unwrap();
    let contents = Contents::of(&place.path()).await;
    assert_eq!((contents.format, contents.roster.len()), (2, 0));
    let mut tables = connection(&place.path()).await;
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut tables)
            .await
            .unwrap();
    tables.close().await.unwrap();
    assert_eq!(names, ["record"]);
    place.open().await.unwrap().close().await.unwrap();
    let seen = std::fs::read_to_string(place.folder.path().join("store.seen")).unwrap();
    assert!(
        seen.starts_with("00000000000000000010 format 3 head "),
        "{seen}"
    );

    std::fs::write(place.path(), DATABASE).unwrap();
    place
        .refused("is of format 1, but this host has seen it in format 3")
        .await;
    place.refused("remove").await;
    std::fs::remove_file(place.folder.path().join("store.seen")).unwrap();
    let again = place.open().await.unwrap();
    assert_eq!(again.snapshot().keys.len(), 1, "gone back on purpose");
    again.close().await.unwrap();
}

#[tokio::test]
async fn store_1_an_upgrade_leaves_a_copy_that_the_release_before_opens() {
    let place = of_old();
    let copy = place.folder.path().join("store.sqlite.before-3");
    // What an upgrade that was killed has left.
    std::fs::write(copy.with_added_extension("new"), "unfinished").unwrap();
    place.open().await.unwrap().close().await.unwrap();
    let contents = Contents::of(&copy).await;
    assert_eq!((contents.format, contents.roster.is_empty()), (1, false));
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!copy.with_added_extension("new").exists());
    // Back to it, as docs/operator.md says.
    std::fs::rename(&copy, place.path()).unwrap();
    std::fs::remove_file(place.folder.path().join("store.seen")).unwrap();
    Keystore::check(&place.path(), &place.root, &regions())
        .await
        .unwrap();
    let again = place.open().await.unwrap();
    assert_eq!(again.snapshot().keys.len(), 1);
    again.close().await.unwrap();
    assert!(copy.exists());
    // A store of the present format leaves none.
    std::fs::remove_file(&copy).unwrap();
    place.open().await.unwrap().close().await.unwrap();
    assert!(!copy.exists());
}

#[tokio::test]
async fn store_1_without_room_for_the_copy_the_store_is_not_upgraded() {
    let place = of_old();
    let in_the_way = place.folder.path().join("store.sqlite.before-3.new");
    std::fs::create_dir(&in_the_way).unwrap();
    place.refused("a copy of it cannot be kept in").await;
    assert_eq!(std::fs::read(place.path()).unwrap(), DATABASE, "unchanged");
    std::fs::remove_dir(&in_the_way).unwrap();
    place.open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn store_1_rewriting_that_does_not_end_leaves_format_1() {
    let place = of_old();
    let contents = Contents::of(&place.path()).await;
    let loaded = contents.verified(&place.root).await.unwrap();
    assert_eq!(loaded.format, 1);
    let head = Head {
        revision: 9,
        ..loaded.verified.head
    };
    let head = loaded.sealer.seal_head(&head, &Entropy::os()).unwrap();
    let mut store = SqliteStore::connect(&place.path()).await.unwrap();
    let failed = store.rewrite(7, head).await;
    assert!(matches!(failed, Err(KeystoreError::Conflict { .. })));
    Box::new(store).close().await.unwrap();
    let contents = Contents::of(&place.path()).await;
    assert!(contents.verified(&place.root).await.is_ok());
    place.open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn store_1_rows_of_a_store_of_format_1_that_were_touched_are_named() {
    let place = of_old();
    let cases = [
        (
            "DELETE FROM record WHERE kind = 'alias'",
            "has lost a record: alias",
        ),
        (
            "DELETE FROM roster WHERE kind = 'alias'",
            "added from outside: alias",
        ),
        (
            "UPDATE roster SET share = zeroblob(32) WHERE kind = 'alias'",
            "in another version than was last written: alias",
        ),
        (
            "DELETE FROM record WHERE kind = 'alias'; DELETE FROM roster WHERE kind = 'alias'",
            "not hold the set of records of its revision 8",
        ),
        (
            "DROP TABLE roster; PRAGMA user_version = 2",
            "has tables of format 2 and a head of format 1",
        ),
    ];
    place.each_refused(DATABASE, &cases).await;
}

#[test]
fn format_1_knows_its_own_terms_alone() {
    let place = of_old();
    let record = Record {
        kind: Kind::Alias,
        id: "x".to_owned(),
        revision: 1,
        body: vec![1],
    };
    let listed = record::term(&place.root.subkey("head terms"), &record).to_vec();
    let roster = vec![(Kind::Alias, "x".to_owned(), listed)];
    let head = Head::first();
    let key = format1::term_key(&place.root);
    let found = format1::verify(&key, &head, &[record], &roster);
    assert!(matches!(found, Err(Corrupt::Replaced(..))));
}
