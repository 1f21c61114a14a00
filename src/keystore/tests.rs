//! What a store survives, and what it refuses: each fault is made on a real file, and the file is
//! left as it was.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::block_cipher::BlockCipher;
use crate::key::material::BackingKey;
use crate::key::regions::{RegionNumber, RegionalId, Regions};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::body::Entry;
use crate::keystore::format1::Roster;
use crate::keystore::reading::{Begun, Memory, Reading};
use crate::keystore::record::{Corrupt, Head, Kind, Record, Sealer};
use crate::keystore::store::Commit;
use sqlx::{Connection, Row};
use std::collections::BTreeMap;

mod access;
mod audit_head;
mod checked;
mod conformance;
mod creation;
mod deleted;
mod format1;
mod format2;
mod halts;
mod indexes;
mod key_stores;
mod keys;
mod last_uses;
mod pages;
mod principals;
mod related;
mod rollback;
pub(crate) mod shared;

struct TestStore {
    folder: tempfile::TempDir,
    root: RootKey,
}

impl TestStore {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKeyFile::clear(&folder.path().join("root.key"))
            .create(&Entropy::os())
            .unwrap();
        Self { folder, root }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.sqlite")
    }

    async fn create(&self) -> Keystore {
        let (entropy, metrics) = parts();
        Keystore::create(&self.path(), &self.root, regions(), entropy, metrics)
            .await
            .unwrap()
    }

    async fn open(&self) -> Result<Keystore, KeystoreError> {
        let (entropy, metrics) = parts();
        Keystore::open(&self.path(), &self.root, regions(), entropy, metrics).await
    }

    /// Opens, expects a refusal of one line that contains `expected`, and expects the file to be as
    /// it was.
    async fn refused(&self, expected: &str) {
        let before = std::fs::read(self.path()).ok();
        let error = self
            .open()
            .await
            .err()
            .expect("must be refused")
            .to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        assert!(
            !error.contains('\n') && error.contains("store.sqlite"),
            "{error}"
        );
        assert_eq!(
            std::fs::read(self.path()).ok(),
            before,
            "a refused store is left as it was"
        );
    }

    /// A new store, and what it is open as.
    async fn created() -> (Self, Keystore) {
        let place = Self::new();
        let store = place.create().await;
        (place, store)
    }

    /// Each statement changes the database `kept`, and the store is then refused with these words.
    /// At the end the database is `kept` again.
    async fn each_refused(&self, kept: &[u8], cases: &[(&'static str, &str)]) {
        for (statement, expected) in cases {
            std::fs::write(self.path(), kept).unwrap();
            self.sql(statement).await;
            self.refused(expected).await;
        }
        std::fs::write(self.path(), kept).unwrap();
    }

    async fn sql(&self, statement: &'static str) {
        let mut connection = connection(&self.path()).await;
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }
}

/// The whole content of a store, in memory.
#[derive(Clone)]
struct Contents {
    /// The format of the tables.
    format: u8,
    /// All rows, including the head.
    records: Vec<Record>,
    /// Of a store of format 1.
    roster: Roster,
}

impl Contents {
    async fn of(path: &Path) -> Self {
        let place = Place::File(path.to_owned());
        let mut reading = Reading::start(place).await.unwrap();
        let (format, roster) = (reading.format(), reading.take_roster());
        let mut records = vec![reading.head().clone()];
        while let Some(more) = reading.records().await.unwrap() {
            records.extend(more);
        }
        Self {
            format,
            records,
            roster,
        }
    }

    fn begun(mut self) -> (Begun, Vec<Record>) {
        let mut records = self.records.iter();
        let head = records.position(|record| record.kind == Kind::Head);
        let begun = Begun {
            format: self.format,
            head: self.records.remove(head.unwrap()),
            roster: self.roster,
        };
        (begun, self.records)
    }

    async fn verified(self, root: &RootKey) -> Result<Loaded, Corrupt> {
        let read = Memory(Arc::new(move || Ok(self.clone().begun())));
        let reading = Reading::start(Place::Memory(read)).await.unwrap();
        let loaded = Loaded::verify(reading, root, &regions()).await;
        loaded.map_err(|error| match error {
            KeystoreError::Corrupt { source, .. } => source,
            other => panic!("refused for another reason: {other}"),
        })
    }
}

async fn connection(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    sqlx::SqliteConnection::connect_with(&options)
        .await
        .unwrap()
}

fn parts() -> (Arc<Entropy>, Arc<Metrics>) {
    (Arc::new(Entropy::os()), Arc::new(Metrics::new().unwrap()))
}

fn regions() -> Regions {
    Regions::one("aws", "us-east-1")
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

fn draft(state: KeyState) -> KeyDraft {
    let mut bytes = [0; 16];
    Entropy::os().draw(&mut bytes).unwrap();
    draft_of(KeyId::from_random(bytes), state)
}

fn draft_of(id: KeyId, state: KeyState) -> KeyDraft {
    let material =
        BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(5), &Entropy::os()).unwrap();
    let description = "a \"key\"".to_owned();
    let key = KmsKey {
        description,
        state,
        ..KmsKey::new(id, account(), Timestamp(5))
    };
    KeyDraft {
        key,
        materials: vec![Arc::new(material)],
        secret: None,
    }
}

fn alias(target: RegionalId) -> Alias {
    Alias {
        region: target.region,
        account: account(),
        name: "alias/containers".parse().unwrap(),
        target: target.id,
        creation_date: Timestamp(6),
        last_updated_date: Timestamp(7),
    }
}

/// Some error.
fn corrupt() -> KeystoreError {
    KeystoreError::Corrupt {
        path: "store".into(),
        source: Corrupt::NoHead,
    }
}

async fn apply(store: &Keystore, changes: Vec<Change>) -> Result<(), KeystoreError> {
    store.apply(|_| Ok((changes.clone(), ()))).await
}

/// A store with two keys and an alias; closed.
async fn filled() -> (TestStore, Vec<RegionalId>) {
    let (place, store) = TestStore::created().await;
    let drafts = [draft(KeyState::Enabled), draft(KeyState::Disabled)];
    let ids = drafts
        .iter()
        .map(|draft| draft.key.regional_id())
        .collect::<Vec<_>>();
    for draft in drafts {
        apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
    }
    apply(&store, vec![Change::PutAlias(alias(ids[0]))])
        .await
        .unwrap();
    // Not by a drop, which would not wait until the files are let go of.
    store.close().await.unwrap();
    (place, ids)
}

fn due_at(microseconds: u64) -> KeyState {
    let deletion_date = Timestamp(microseconds);
    KeyState::PendingDeletion { deletion_date }
}

#[tokio::test]
async fn what_was_written_is_read_back() {
    let (place, store) = TestStore::created().await;
    let pending = draft(due_at(9));
    let (id, material) = (pending.key.regional_id(), Arc::clone(&pending.materials[0]));
    let before = store.snapshot();
    apply(
        &store,
        vec![Change::PutKey(pending), Change::PutAlias(alias(id))],
    )
    .await
    .unwrap();
    assert!(before.keys.is_empty(), "a snapshot never changes");
    let written = store.snapshot();
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    let (read, entry) = (store.snapshot(), Arc::clone(&store.snapshot().keys[&id]));
    assert_eq!(
        (read.revision, entry.fence),
        (written.revision, written.keys[&id].fence)
    );
    assert_eq!(entry.key, written.keys[&id].key);
    assert_eq!(entry.current().unwrap().expose(), material.expose());
    assert_eq!(
        entry.arn,
        format!("arn:aws:kms:us-east-1:111122223333:key/{}", id.id)
    );
    assert_eq!(
        read.alias(id.region, account(), &"alias/containers".parse().unwrap())
            .unwrap()
            .target_id(),
        id
    );
    apply(&store, vec![Change::RemoveKey(id)]).await.unwrap();
    store.close().await.unwrap();
    assert!(place.open().await.unwrap().snapshot().keys.is_empty());
}

#[tokio::test]
async fn a_refused_decision_changes_nothing() {
    let (place, _) = filled().await;
    let store = place.open().await.unwrap();
    let revision = store.revision();
    let refused: Result<(), KeystoreError> = store.apply(|_| Err(corrupt())).await;
    assert!(refused.is_err());
    assert_eq!(store.revision(), revision);
    apply(&store, Vec::new()).await.unwrap();
    assert_eq!(store.revision(), revision, "no change, no commit");
}

#[tokio::test]
async fn a_store_has_one_writer() {
    let (place, _) = filled().await;
    let _open = place.open().await.unwrap();
    place
        .refused(&format!("in use by process {}", std::process::id()))
        .await;
    place.refused("go through it").await;
}

#[tokio::test]
async fn store_1_rows_that_were_touched_are_named() {
    let (place, ids) = filled().await;
    let kept = std::fs::read(place.path()).unwrap();
    let cases: [(&'static str, &str); 8] = [
        (
            "UPDATE record SET body = zeroblob(length(body)) WHERE kind = 'alias'",
            "edited, swapped or copied from another store: alias 111122223333 alias/containers",
        ),
        (
            "UPDATE record SET revision = revision + 1 WHERE kind = 'alias'",
            "alias 111122223333 alias/containers",
        ),
        (
            "DELETE FROM record WHERE kind = 'alias'",
            "not hold the set of records of its revision 4: one or more were removed, added, or put back in an older version (2 are there, 3 were written)",
        ),
        (
            "DELETE FROM record WHERE kind = 'head'",
            "has no head record",
        ),
        (
            "INSERT INTO record SELECT kind, 'x', revision, body FROM record WHERE kind = 'head'",
            "has a record twice: head x",
        ),
        (
            "UPDATE record SET revision = 99 WHERE kind = 'head'",
            "head that does not open",
        ),
        (
            "UPDATE record SET kind = 'tenant' WHERE kind = 'alias'",
            "unknown kind: tenant",
        ),
        (
            "PRAGMA user_version = 1; CREATE TABLE roster (kind TEXT, id TEXT, share BLOB)",
            "has tables of format 1 and a head of format 3",
        ),
    ];
    place.each_refused(&kept, &cases).await;
    // Two keys' bodies swapped.
    std::fs::write(place.path(), &kept).unwrap();
    place.sql("UPDATE record SET body = (SELECT body FROM record other WHERE other.kind = 'key' AND other.id <> record.id) WHERE kind = 'key'").await;
    place
        .refused("edited, swapped or copied from another store: key ")
        .await;
    // An older version of one row put back.
    std::fs::write(place.path(), &kept).unwrap();
    let store = place.open().await.unwrap();
    let changed = draft(KeyState::Disabled);
    let changed = KeyDraft {
        key: KmsKey {
            id: ids[0].id,
            ..changed.key
        },
        ..changed
    };
    apply(&store, vec![Change::PutKey(changed)]).await.unwrap();
    store.close().await.unwrap();
    let mut old = connection(&{
        let path = place.folder.path().join("old.sqlite");
        std::fs::write(&path, &kept).unwrap();
        path
    })
    .await;
    let row = sqlx::query("SELECT revision, body FROM record WHERE id = $1")
        .bind(ids[0].id.to_string())
        .fetch_one(&mut old)
        .await
        .unwrap();
    let mut new = connection(&place.path()).await;
    sqlx::query("UPDATE record SET revision = $1, body = $2 WHERE id = $3")
        .bind(row.get::<i64, _>(0))
        .bind(row.get::<Vec<u8>, _>(1))
        .bind(ids[0].id.to_string())
        .execute(&mut new)
        .await
        .unwrap();
    new.close().await.unwrap();
    place
        .refused("not hold the set of records of its revision 5")
        .await;
    // The whole store put back.
    std::fs::write(place.path(), &kept).unwrap();
    place.refused("an older copy was put in its place").await;
    place.refused("store.seen").await;
}

#[tokio::test]
async fn store_1_foreign_rows_roots_and_files_are_refused() {
    let (place, _) = filled().await;
    let (other, _) = filled().await;
    let kept = std::fs::read(place.path()).unwrap();
    std::fs::write(place.path(), std::fs::read(other.path()).unwrap()).unwrap();
    place.refused("the root key is not this store's").await;
    std::fs::write(place.path(), &kept).unwrap();
    place.sql("PRAGMA user_version = 3").await;
    place
        .refused("written by a newer keymill (tables of format 3")
        .await;
    place
        .sql("PRAGMA user_version = 2; PRAGMA application_id = 7")
        .await;
    place.refused("another program's database").await;
    std::fs::write(
        place.path(),
        b"not a database, but long enough to have a header",
    )
    .unwrap();
    place.refused("damaged or is not a store").await;
    std::fs::write(place.path(), b"").unwrap();
    place.refused("another program's database").await;
    for length in [100, 4096, 6000, kept.len() - 4096, kept.len() - 1] {
        std::fs::write(place.path(), &kept[..length]).unwrap();
        place.refused("restore a backup").await;
    }
    std::fs::remove_file(place.path()).unwrap();
    place.refused("does not exist").await;
    std::fs::write(place.path(), &kept).unwrap();
    place.open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn keys_past_their_deletion_date_are_found() {
    let (_place, store) = TestStore::created().await;
    let due = draft(due_at(9));
    let id = due.key.regional_id();
    apply(
        &store,
        vec![
            Change::PutKey(due),
            Change::PutKey(draft(KeyState::Enabled)),
        ],
    )
    .await
    .unwrap();
    assert_eq!(expired(&store.snapshot(), Timestamp(8)), []);
    assert_eq!(expired(&store.snapshot(), Timestamp(9)), [id]);
}
