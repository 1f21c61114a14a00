//! An SQLite file whose pages or whose index are damaged.

use super::*;

/// From here on the table has no index, and changes leave the one that it had as it was.
const WITHOUT_INDEX: &str = "\
    CREATE TABLE kept AS SELECT rootpage FROM sqlite_schema WHERE type = 'index'; \
    PRAGMA writable_schema = ON; \
    DELETE FROM sqlite_schema WHERE type = 'index'; \
    UPDATE sqlite_schema SET sql = 'CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, \
        revision INTEGER NOT NULL, body BLOB NOT NULL) STRICT' WHERE name = 'record'";
/// The index is back.
const WITH_INDEX: &str = "\
    PRAGMA writable_schema = ON; \
    UPDATE sqlite_schema SET sql = 'CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, \
        revision INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT' \
        WHERE name = 'record'; \
    INSERT INTO sqlite_schema \
        SELECT 'index', 'sqlite_autoindex_record_1', 'record', rootpage, NULL FROM kept";

/// More rows than a batch has, and than fit in one page.
async fn large() -> TestStore {
    let (place, store) = TestStore::created().await;
    let drafts = (0..600).map(|_| draft(KeyState::Enabled));
    let changes = drafts.map(Change::PutKey).collect();
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn store_1_an_index_that_is_not_that_of_its_rows_is_noticed() {
    const OTHER: &str = "its index is not that of its rows";
    let place = large().await;
    let kept = std::fs::read(place.path()).unwrap();
    for (statement, expected) in [
        ("SELECT 1", None),
        // Every record is as it was written, and the index leads elsewhere.
        (
            "UPDATE record SET rowid = 1000000 WHERE rowid = 300",
            Some(OTHER),
        ),
        (
            "INSERT INTO record SELECT * FROM record WHERE rowid = 300",
            Some("wrong # of entries in index"),
        ),
        (
            "DELETE FROM record WHERE rowid = 300",
            Some("wrong # of entries in index"),
        ),
        (
            "UPDATE record SET id = 'x' || substr(id, 2) WHERE rowid = 300",
            Some(OTHER),
        ),
    ] {
        std::fs::write(place.path(), &kept).unwrap();
        place.sql(WITHOUT_INDEX).await;
        place.sql(statement).await;
        place.sql(WITH_INDEX).await;
        match expected {
            Some(expected) => place.refused(expected).await,
            None => place.open().await.unwrap().close().await.unwrap(),
        }
    }
    // The index of other rows, in their order.
    std::fs::write(place.path(), &kept).unwrap();
    place
        .sql(
            "CREATE TABLE other (kind TEXT, id TEXT); \
             INSERT INTO other SELECT kind, id FROM record; \
             CREATE INDEX of_other ON other (kind, id DESC); \
             PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema \
                WHERE name = 'of_other') WHERE name = 'sqlite_autoindex_record_1'; \
             DELETE FROM sqlite_schema WHERE name = 'of_other'",
        )
        .await;
    place.refused("damaged or is not a store").await;
}

#[tokio::test]
async fn store_1_a_damaged_page_says_more_than_what_was_read_from_it() {
    let place = large().await;
    let kept = std::fs::read(place.path()).unwrap();
    let pages = kept.len() / 4096;
    assert!(pages > 50, "{pages}");
    // Behind the first one, which has the header: a page of rows or of the index.
    for page in (1..pages).step_by(7) {
        let mut damaged = kept.clone();
        damaged[page * 4096..][..4096].fill(0);
        std::fs::write(place.path(), damaged).unwrap();
        place.refused("damaged or is not a store").await;
    }
    // A body that was edited does not concern the pages.
    std::fs::write(place.path(), &kept).unwrap();
    place
        .sql("UPDATE record SET body = zeroblob(90) WHERE rowid = 300")
        .await;
    place.refused("edited, swapped or copied").await;
}

#[tokio::test]
async fn a_store_is_checked_while_another_process_changes_it() {
    let place = large().await;
    let store = place.open().await.unwrap();
    let (path, regions) = (place.path(), regions());
    for _ in 0..20 {
        let change = vec![Change::PutKey(draft(KeyState::Enabled))];
        let checked = Keystore::check(&path, &place.root, &regions);
        let (checked, changed) = tokio::join!(checked, apply(&store, change));
        changed.unwrap();
        checked.unwrap();
    }
    store.close().await.unwrap();
}
