//! A store that is read from its first record to its last: every damaged record is named.

use super::*;
use crate::keystore::carried::Carried;
use crate::keystore::checked::{Checked, Summary};
use crate::keystore::reading::{Pages, Reading};
use crate::keystore::store_file;

pub(super) use crate::keystore::reading::Place;

/// What a check of the store at `place` finds.
pub(super) async fn found(
    place: Place,
    root: &RootKey,
) -> Result<(Summary, Vec<Corrupt>), KeystoreError> {
    let reading = Reading::begin(place, Pages::Checked).await?;
    let mut checked = Checked::with_root(reading, root, &regions())?;
    let mut findings = Vec::new();
    while let Some(batch) = checked.next().await? {
        findings.extend(batch.findings);
    }
    Ok((checked.summary(), findings))
}

async fn of_file(place: &TestStore) -> Result<(Summary, Vec<Corrupt>), KeystoreError> {
    found(Place::File(place.path()), &place.root).await
}

/// More records than a batch has.
pub(super) async fn large() -> TestStore {
    let (place, store) = TestStore::created().await;
    let drafts: Vec<_> = (0..700).map(|_| draft(KeyState::Enabled)).collect();
    let mut changes: Vec<_> = drafts.iter().cloned().map(Change::PutKey).collect();
    changes.push(Change::PutAlias(alias(drafts[0].key.regional_id())));
    apply(&store, changes).await.unwrap();
    store.close().await.unwrap();
    place
}

#[tokio::test]
async fn store_1_a_whole_store_is_whole_and_every_record_is_counted() {
    let place = large().await;
    let (summary, findings) = of_file(&place).await.unwrap();
    assert_eq!(findings, []);
    assert_eq!(
        (summary.records, summary.findings, summary.revision),
        (701, 0, 2)
    );
    let kinds: Vec<_> = summary
        .kinds
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    assert_eq!(kinds, [("alias", 1), ("key", 700)]);
    // Also while it is open for writing.
    let store = place.open().await.unwrap();
    assert_eq!(of_file(&place).await.unwrap().0.records, 701);
    store.close().await.unwrap();
}

#[tokio::test]
async fn store_1_each_damaged_record_is_named_and_reading_goes_on() {
    let place = large().await;
    let kept = std::fs::read(place.path()).unwrap();
    place
        .sql(
            "UPDATE record SET body = zeroblob(90) WHERE rowid IN \
                (SELECT rowid FROM record WHERE kind = 'key' ORDER BY id LIMIT 3); \
             UPDATE record SET revision = 99 WHERE kind = 'alias'; \
             INSERT INTO record VALUES ('spell', 'x', 1, x'00')",
        )
        .await;
    let (summary, findings) = of_file(&place).await.unwrap();
    assert_eq!((summary.findings, findings.len()), (5, 5), "{findings:?}");
    assert_eq!(summary.records, 702);
    let edited = |kind| {
        let of = |found: &&Corrupt| matches!(found, Corrupt::Record(of, ..) if *of == kind);
        findings.iter().filter(of).count()
    };
    assert_eq!((edited(Kind::Key), edited(Kind::Alias)), (3, 1));
    assert!(findings.contains(&Corrupt::Kind("spell".to_owned())));
    // A record that was removed, or put back in an older version, is found by the head alone.
    for statement in [
        "DELETE FROM record WHERE kind = 'alias'",
        "DELETE FROM record WHERE rowid = (SELECT max(rowid) FROM record WHERE kind = 'key')",
    ] {
        std::fs::write(place.path(), &kept).unwrap();
        place.sql(statement).await;
        let (_, findings) = of_file(&place).await.unwrap();
        let [
            Corrupt::Set {
                found: 700,
                expected: 701,
                ..
            },
        ] = findings[..]
        else {
            panic!("{statement}: {findings:?}");
        };
    }
}

#[tokio::test]
async fn store_1_a_store_of_another_root_key_or_without_a_head_is_not_read() {
    let place = large().await;
    let other = found(Place::File(place.path()), &RootKey::draw()).await;
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("the root key is not this store's")
    );
    place.sql("DELETE FROM record WHERE kind = 'head'").await;
    let headless = of_file(&place).await.unwrap_err().to_string();
    assert!(headless.contains("no head record"), "{headless}");
    let absent = Place::File(place.folder.path().join("absent.db"));
    let absent = found(absent, &place.root).await.unwrap_err();
    assert!(matches!(absent, KeystoreError::Absent { .. }));
    std::fs::write(place.path(), vec![7; 8192]).unwrap();
    let strange = of_file(&place).await.unwrap_err();
    assert!(
        matches!(strange, KeystoreError::Damaged { .. }),
        "{strange}"
    );
}

#[tokio::test]
async fn a_store_is_written_again_at_a_later_revision() {
    let place = large().await;
    let (before, _) = of_file(&place).await.unwrap();
    let copy = place.folder.path().join("copy.sqlite");
    let checked = || async {
        let reading = Reading::begin(Place::File(place.path()), Pages::Checked)
            .await
            .unwrap();
        Checked::with_root(reading, &place.root, &regions()).unwrap()
    };
    let write = async || {
        let mut from = Carried::at(77, checked().await);
        let written = store_file::write(&copy, &mut from, &Entropy::os(), |_| ()).await;
        written.map(|_head| from.summary())
    };
    assert_eq!(write().await.unwrap(), before);
    let (after, findings) = found(Place::File(copy.clone()), &place.root).await.unwrap();
    assert_eq!((after.revision, findings.len()), (77, 0));
    assert_eq!(after.records, before.records);
    // It is a store.
    std::fs::rename(&copy, place.path()).unwrap();
    let store = place.open().await.unwrap();
    assert_eq!((store.revision(), store.snapshot().keys.len()), (77, 700));
    apply(&store, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    store.close().await.unwrap();
    // Nothing damaged is written on.
    place.sql("DELETE FROM record WHERE kind = 'alias'").await;
    assert!(
        write()
            .await
            .unwrap_err()
            .to_string()
            .contains("does not hold the set")
    );
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_reading() {
    let place = large().await;
    let reading = Reading::begin(Place::File(place.path()), Pages::AsTheyCome)
        .await
        .unwrap();
    drop(reading);
    // The log can be emptied again, which a reader would prevent.
    let store = place.open().await.unwrap();
    let mut known = store
        .snapshot()
        .keys
        .iter()
        .map(|(id, _)| *id)
        .collect::<Vec<_>>();
    let id = known.pop().unwrap();
    apply(&store, vec![Change::RemoveKey(id)]).await.unwrap();
    store.close().await.unwrap();
    assert!(!place.path().with_extension("sqlite-wal").exists());
}

#[tokio::test]
async fn an_open_store_is_read_once_at_a_time() {
    let (_place, store) = TestStore::created().await;
    let first = store.read_all().await.unwrap();
    let refused = store.read_all().await.err().unwrap();
    assert!(matches!(refused, KeystoreError::BeingRead { .. }));
    drop(first);
    store.read_all().await.unwrap();
}
