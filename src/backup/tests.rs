//! A backup and its restore on real files: what is taken back is said, and what was damaged is not
//! taken for whole.

use super::*;
use crate::clock::Timestamp;
use crate::crypto::block_cipher::BlockCipher;
use crate::crypto::entropy::Entropy;
use crate::key::material::BackingKey;
use crate::key::regions::{RegionalId, Regions};
use crate::key::{KeyId, KeyState, KmsKey};
use crate::keystore::checked::Checked;
use crate::keystore::reading::{Pages, Place, Reading};
use crate::keystore::{Change, KeyDraft, Keystore, KeystoreError, RootKey, RootKeyFile};
use crate::metrics::Metrics;
use futures_util::{StreamExt, stream};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Host {
    folder: tempfile::TempDir,
    root: RootKey,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKeyFile::clear(&folder.path().join("root.key"))
            .create(&Entropy::os())
            .unwrap();
        Self { folder, root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.at("keystore.db")
    }

    async fn open(&self) -> Result<Keystore, KeystoreError> {
        let (entropy, metrics) = (Arc::new(Entropy::os()), Arc::new(Metrics::new().unwrap()));
        match self.store().exists() {
            true => Keystore::open(&self.store(), &self.root, regions(), entropy, metrics).await,
            false => Keystore::create(&self.store(), &self.root, regions(), entropy, metrics).await,
        }
    }

    /// Makes keys, and returns their ids.
    async fn fill(&self, keys: usize) -> Vec<RegionalId> {
        let store = self.open().await.unwrap();
        let drafts: Vec<_> = (0..keys).map(|_| draft()).collect();
        let changes: Vec<_> = drafts.iter().cloned().map(Change::PutKey).collect();
        apply(&store, changes).await;
        store.close().await.unwrap();
        drafts.iter().map(|draft| draft.key.regional_id()).collect()
    }

    async fn change(&self, changes: Vec<Change>) {
        let store = self.open().await.unwrap();
        apply(&store, changes).await;
        store.close().await.unwrap();
    }

    async fn source(&self) -> Source {
        let place = Place::File(self.store());
        let reading = Reading::begin(place, Pages::Checked).await.unwrap();
        Source::here(Checked::with_root(reading, &self.root, &regions()).unwrap())
    }

    async fn back_up(&self, name: &str) -> Result<Manifest, BackupError> {
        let folder = Folder::begin(&self.at(name))?;
        let (source, regions) = (self.source().await, regions());
        let root = Some((&self.root, &regions));
        write(source, &folder, root, Timestamp(1_800_000_000_000), |_| ()).await
    }

    async fn restore(&self, name: &str) -> Result<Restored, BackupError> {
        let regions = regions();
        let plan = Plan::make(&self.at(name), &self.store(), &self.root, &regions).await?;
        plan.carry_out(Timestamp(1_800_000_001_000), &Entropy::os())
            .await
    }

    async fn keys(&self) -> (u64, Vec<RegionalId>) {
        let store = self.open().await.unwrap();
        let found = store.snapshot().keys.iter().map(|(id, _)| *id).collect();
        let revision = store.revision();
        store.close().await.unwrap();
        (revision, found)
    }
}

fn regions() -> Regions {
    Regions::one("aws", "us-east-1")
}

fn draft() -> KeyDraft {
    let mut bytes = [0; 16];
    Entropy::os().draw(&mut bytes).unwrap();
    draft_of(KeyId::from_random(bytes))
}

fn draft_of(id: KeyId) -> KeyDraft {
    let material = BackingKey::draw(BlockCipher::Aes256, id, 1, Timestamp(5), &Entropy::os());
    KeyDraft {
        key: KmsKey::new(id, "111122223333".parse().unwrap(), Timestamp(5)),
        materials: vec![Arc::new(material.unwrap())],
        secret: None,
    }
}

async fn apply(store: &Keystore, changes: Vec<Change>) {
    let applied: Result<(), KeystoreError> = store.apply(|_| Ok((changes.clone(), ()))).await;
    applied.unwrap();
}

fn sorted(mut ids: Vec<RegionalId>) -> Vec<RegionalId> {
    ids.sort();
    ids
}

#[tokio::test]
async fn backup_1_what_was_made_since_is_gone_and_what_was_removed_is_back() {
    let host = Host::new();
    let before = host.fill(3).await;
    let made = host.back_up("backup").await.unwrap();
    assert_eq!(made.verified_by, "root key");
    assert_eq!((made.summary.records, made.summary.revision), (3, 2));
    assert!(!made.has_root_key);
    let since = host.fill(2).await;
    let mut disabled = draft_of(before[1].id);
    disabled.key.state = KeyState::Disabled;
    let changes = vec![Change::RemoveKey(before[0]), Change::PutKey(disabled)];
    host.change(changes).await;
    let regions = regions();
    let (backup, at) = (host.at("backup"), host.store());
    let plan = Plan::make(&backup, &at, &host.root, &regions)
        .await
        .unwrap();
    let Difference {
        gone,
        back,
        changed,
        gone_names,
    } = plan.difference.clone().unwrap();
    let one_kind = |count| Counts::from([("key", count)]);
    assert_eq!(
        (gone, back, changed),
        (one_kind(2), one_kind(1), one_kind(1))
    );
    let named: Vec<_> = gone_names.iter().map(|(_, id)| id.clone()).collect();
    let mut expected: Vec<_> = since.iter().map(|id| id.id.to_string()).collect();
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(
        plan.present,
        Present::Whole {
            revision: 4,
            records: 4
        }
    );
    // No daemon can start meanwhile.
    assert!(matches!(
        host.open().await.err(),
        Some(KeystoreError::InUse { .. })
    ));
    let restored = plan
        .carry_out(Timestamp(1_800_000_001_000), &Entropy::os())
        .await;
    let restored = restored.unwrap();
    assert_eq!(restored.revision, 5);
    let (revision, keys) = host.keys().await;
    assert_eq!((revision, sorted(keys)), (5, sorted(before)));
    // The store that was replaced is kept, is whole, and is not taken for the present one.
    let kept = restored.kept.unwrap();
    fs::rename(&kept, host.store()).unwrap();
    let refused = host.open().await.err().unwrap().to_string();
    assert!(refused.contains("has seen revision 5"), "{refused}");
}

#[tokio::test]
async fn backup_1_a_store_that_is_lost_or_damaged_is_restored() {
    let host = Host::new();
    let keys = host.fill(3).await;
    host.back_up("backup").await.unwrap();
    fs::remove_file(host.store()).unwrap();
    // What an unlucky copy leaves, which SQLite would apply to the restored file.
    fs::write(host.at("keystore.db-wal"), "a log of another store").unwrap();
    let restored = host.restore("backup").await.unwrap();
    assert_eq!(restored.kept, None);
    assert_eq!(sorted(host.keys().await.1), sorted(keys.clone()));
    fs::write(host.store(), "no store").unwrap();
    let regions = regions();
    let (backup, at) = (host.at("backup"), host.store());
    let plan = Plan::make(&backup, &at, &host.root, &regions)
        .await
        .unwrap();
    assert!(matches!(&plan.present, Present::Unreadable(why) if why.contains("damaged")));
    assert_eq!(plan.difference, None);
    let restored = plan
        .carry_out(Timestamp(1_800_000_002_000), &Entropy::os())
        .await;
    let kept = restored.unwrap().kept.unwrap();
    assert_eq!(fs::read(kept).unwrap(), b"no store");
    assert_eq!(sorted(host.keys().await.1), sorted(keys));
}

#[tokio::test]
async fn backup_2_what_was_touched_is_refused_and_the_store_stays_as_it_was() {
    let host = Host::new();
    host.fill(3).await;
    host.back_up("backup").await.unwrap();
    let (file, manifest) = (
        host.at("backup/keystore.db"),
        host.at("backup/manifest.json"),
    );
    let (whole, told) = (
        fs::read(&file).unwrap(),
        fs::read_to_string(&manifest).unwrap(),
    );
    let before = fs::read(host.store()).unwrap();
    let refused = async || host.restore("backup").await.unwrap_err().to_string();
    // A byte of the file.
    let mut bytes = whole.clone();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(refused().await.contains("SHA-256"));
    // The file and its digest: the records are authenticated.
    fs::write(&file, &whole).unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let damage = "UPDATE record SET body = zeroblob(length(body)) WHERE rowid = 2";
    sqlx::raw_sql(damage)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let digest = |path: &Path| {
        use sha2::Digest;
        let bytes = sha2::Sha256::digest(fs::read(path).unwrap());
        hex_simd::encode_to_string(bytes, hex_simd::AsciiCase::Lower)
    };
    let entry: serde_json::Value = serde_json::from_str(&told).unwrap();
    let was = entry["files"][0]["sha256"].as_str().unwrap();
    fs::write(&manifest, told.replace(was, &digest(&file))).unwrap();
    let said = refused().await;
    assert!(said.contains("edited, swapped or copied"), "{said}");
    // Another backup's manifest.
    fs::write(&file, &whole).unwrap();
    let digest = entry["digest"].as_str().unwrap();
    fs::write(&manifest, told.replace(digest, &"0".repeat(64))).unwrap();
    assert!(refused().await.contains("not those of its manifest"));
    // Without its manifest, and under another root key.
    fs::remove_file(&manifest).unwrap();
    assert!(refused().await.contains("is not a whole backup"));
    fs::write(&manifest, &told).unwrap();
    let (other, regions) = (RootKey::draw(), regions());
    let plan = Plan::make(&host.at("backup"), &host.store(), &other, &regions).await;
    let said = plan.err().unwrap().to_string();
    assert!(said.contains("the root key is not this store's"), "{said}");
    assert_eq!(fs::read(host.store()).unwrap(), before);
    host.restore("backup").await.unwrap();
}

#[tokio::test]
async fn backup_2_a_damaged_store_gets_no_backup() {
    let host = Host::new();
    host.fill(3).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(host.store());
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let damage = "UPDATE record SET body = zeroblob(90) WHERE rowid = 2";
    sqlx::raw_sql(damage)
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let refused = host.back_up("backup").await.unwrap_err().to_string();
    assert!(refused.contains("no backup of it is made"), "{refused}");
    assert!(matches!(
        Folder::read(&host.at("backup")),
        Err(BackupError::Unfinished { .. })
    ));
}

/// The bytes of a daemon's answer.
async fn answer(host: &Host) -> Vec<u8> {
    let mut source = host.source().await;
    let mut bytes = frames::begin(&source.begin, &source.head).to_vec();
    loop {
        match source.next().await.unwrap() {
            Step::Some { records, .. } => {
                let findings = Vec::new();
                let batch = crate::keystore::checked::Batch { records, findings };
                bytes.extend_from_slice(&frames::batch(&batch));
            }
            Step::End(end) => {
                bytes.extend_from_slice(&frames::end(&end));
                return bytes;
            }
        }
    }
}

async fn received(host: &Host, bytes: Vec<u8>, name: &str) -> Result<Manifest, BackupError> {
    let pieces: Vec<_> = bytes
        .chunks(1000)
        .map(|piece| Ok(piece.to_vec().into()))
        .collect();
    let source = Source::of_daemon(stream::iter(pieces).boxed()).await?;
    let folder = Folder::begin(&host.at(name))?;
    let written = write(source, &folder, None, Timestamp(0), |_| ()).await;
    if written.is_err() {
        folder.abandon();
    }
    written
}

#[tokio::test]
async fn backup_2_an_answer_that_is_cut_or_changed_is_no_backup() {
    let host = Host::new();
    let keys = host.fill(20).await;
    let bytes = answer(&host).await;
    for cut in [0, 1, 100, bytes.len() / 2, bytes.len() - 1] {
        let cut = received(&host, bytes[..cut].to_vec(), "cut").await;
        assert!(matches!(cut, Err(BackupError::Cut(_))));
        assert!(!host.at("cut").exists());
    }
    // A bit of a record; the daemon's digest is another.
    let mut changed = bytes.clone();
    let at = bytes.len() / 2;
    changed[at] ^= 1;
    let changed = received(&host, changed, "changed").await;
    assert!(matches!(changed, Err(BackupError::Cut(_))), "{changed:?}");
    let made = received(&host, bytes, "backup").await.unwrap();
    assert_eq!(
        (made.verified_by.as_str(), made.summary.records),
        ("daemon", 20)
    );
    fs::remove_file(host.store()).unwrap();
    host.restore("backup").await.unwrap();
    assert_eq!(sorted(host.keys().await.1), sorted(keys));
}

#[tokio::test]
async fn backup_3_a_restore_that_is_broken_off_leaves_the_store_or_the_backup_whole() {
    let host = Host::new();
    host.fill(2).await;
    host.back_up("backup").await.unwrap();
    let since = host.fill(1).await;
    // What a kill before the rename leaves.
    fs::write(host.at("keystore.restoring"), "half").unwrap();
    let (revision, keys) = host.keys().await;
    assert_eq!((revision, keys.len()), (3, 3));
    assert!(keys.contains(&since[0]));
    let restored = host.restore("backup").await.unwrap();
    assert_eq!(restored.revision, 4);
    assert!(!host.at("keystore.restoring").exists());
    assert_eq!(host.keys().await.1.len(), 2);
}
