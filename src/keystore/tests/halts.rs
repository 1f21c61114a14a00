//! Commits that fail, and how the store comes back.

use super::*;
use crate::clock::Clock;
use crate::keystore::record::TABLES;
use crate::keystore::store::StoreFuture;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

/// The faults of a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Commits are lost, and said to be.
    Loses,
    /// Commits are made, and said to be lost.
    Lies,
    /// Commits are lost, and nothing can be read.
    Unreadable,
}

/// Rows in memory; it acknowledges nothing that it has lost.
#[derive(Clone)]
struct Faulty {
    rows: Arc<StdMutex<BTreeMap<(Kind, String), Record>>>,
    fault: Arc<StdMutex<Fault>>,
}

impl Faulty {
    fn new(place: &TestStore) -> Self {
        let entropy = Entropy::os();
        let sealer = Sealer::create(&place.root, &entropy).unwrap();
        let head = sealer.seal_head(&Head::first(), &entropy).unwrap();
        let rows = BTreeMap::from([((Kind::Head, String::new()), head)]);
        Self {
            rows: Arc::new(StdMutex::new(rows)),
            fault: Arc::new(StdMutex::new(Fault::None)),
        }
    }

    fn contents(&self) -> Contents {
        Contents {
            format: TABLES,
            records: self.rows.lock().unwrap().values().cloned().collect(),
            roster: Roster::new(),
        }
    }

    fn is(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Over a clock that the test moves.
    async fn keystore(&self, place: &TestStore, clock: &Clock) -> Keystore {
        let (entropy, metrics) = parts();
        let mut loaded = self.contents().verified(&place.root).await.unwrap();
        let store = self.clone();
        let read = move || match *store.fault.lock().unwrap() {
            Fault::Unreadable => Err(failed()),
            _ => Ok(store.contents().begun()),
        };
        loaded.place = Place::Memory(Memory(Arc::new(read)));
        let store = Box::new(self.clone());
        let keystore = Keystore::assemble(
            &place.path(),
            store,
            loaded,
            SideFiles::default(),
            regions(),
            entropy,
            metrics,
        );
        keystore.writer.lock().await.retry.clock = clock.clone();
        keystore
    }

    /// The same with one key that is enabled.
    async fn keystore_with_key(&self, place: &TestStore, clock: &Clock) -> (Keystore, RegionalId) {
        let (keystore, draft) = (self.keystore(place, clock).await, draft(KeyState::Enabled));
        let id = draft.key.regional_id();
        apply(&keystore, vec![Change::PutKey(draft)]).await.unwrap();
        (keystore, id)
    }
}

fn failed() -> KeystoreError {
    KeystoreError::Commit {
        path: "faulty".into(),
        reason: "disk full".into(),
    }
}

impl Store for Faulty {
    fn check_in_place(&mut self) -> Result<(), KeystoreError> {
        Ok(())
    }

    fn let_go(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let fault = *self.fault.lock().unwrap();
            if fault == Fault::Loses || fault == Fault::Unreadable {
                return Err(failed());
            }
            let mut rows = self.rows.lock().unwrap();
            assert_eq!(rows[&(Kind::Head, String::new())].revision, commit.expected);
            rows.insert((Kind::Head, String::new()), commit.head);
            for record in commit.puts {
                rows.insert((record.kind, record.id.clone()), record);
            }
            for name in &commit.removals {
                rows.remove(name);
            }
            match fault {
                Fault::Lies => Err(failed()),
                _ => Ok(()),
            }
        })
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn halted(keystore: &Keystore) -> Option<f64> {
    let text = keystore.metrics.render();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("keymill_keystore_halted "))?;
    line.parse().ok()
}

#[tokio::test]
async fn store_1_a_lost_commit_is_never_seen_and_the_store_comes_back_by_itself() {
    let place = TestStore::new();
    let (store, clock) = (Faulty::new(&place), Clock::manual(Timestamp(0)));
    let (keystore, id) = store.keystore_with_key(&place, &clock).await;
    assert_eq!(
        (halted(&keystore), keystore.halt().reason()),
        (Some(0.0), None)
    );

    store.is(Fault::Loses);
    let lost = apply(&keystore, vec![Change::PutKey(draft(KeyState::Enabled))]).await;
    assert!(lost.unwrap_err().to_string().contains("free space"));
    assert_eq!(keystore.snapshot().keys.len(), 1, "never seen");
    assert_eq!(halted(&keystore), Some(1.0));
    assert!(keystore.halt().reason().unwrap().contains("disk full"));
    assert!(!keystore.halt().is_unknown(), "it was read");

    // The cause is gone, and it is not tried again at once.
    store.is(Fault::None);
    let refused = apply(&keystore, vec![Change::RemoveKey(id)]).await;
    let line = refused.unwrap_err().to_string();
    assert!(
        line.contains("takes no change until") && line.contains("disk full"),
        "{line}"
    );
    assert!(keystore.heal().await.is_err());
    clock.advance(Duration::from_secs(1));
    keystore.heal().await.unwrap();
    assert_eq!(
        (halted(&keystore), keystore.halt().reason()),
        (Some(0.0), None)
    );
    apply(&keystore, vec![Change::RemoveKey(id)]).await.unwrap();
    assert!(keystore.snapshot().keys.is_empty());
    let loaded = store.contents().verified(&place.root).await.unwrap();
    assert!(loaded.verified.snapshot.keys.is_empty());
    // 2 was the key's, 3 was lost, 4 and 5 were tried or made to see that the disk takes one.
    assert_eq!(keystore.revision(), loaded.verified.head.revision);
    assert!(keystore.revision() > 4, "no revision is sealed twice");

    // Lost again a moment later: it is read at once all the same.
    store.is(Fault::Loses);
    assert!(
        apply(&keystore, vec![Change::PutKey(draft(KeyState::Enabled))])
            .await
            .is_err()
    );
    assert!(!keystore.halt().is_unknown());
}

#[tokio::test]
async fn store_1_a_commit_that_is_durable_after_all_is_in_force_at_once() {
    let place = TestStore::new();
    let (store, clock) = (Faulty::new(&place), Clock::manual(Timestamp(0)));
    let (keystore, id) = store.keystore_with_key(&place, &clock).await;
    let before = Arc::clone(&keystore.snapshot().keys[&id]);

    store.is(Fault::Lies);
    let disabled = KmsKey {
        state: KeyState::Disabled,
        ..before.key.clone()
    };
    let told = apply(&keystore, vec![Change::PutKey(before.with_key(disabled))]).await;
    assert!(told.is_err(), "the change was not acknowledged");
    let after = Arc::clone(&keystore.snapshot().keys[&id]);
    assert_eq!(after.key.state, KeyState::Disabled, "and it is in force");
    assert!(
        after.fence > before.fence,
        "nothing pooled before it leaves"
    );
    assert_eq!(halted(&keystore), Some(1.0), "the proof failed too");
    assert!(!keystore.halt().is_unknown(), "it was read");
    store.is(Fault::None);
    clock.advance(Duration::from_secs(60));
    keystore.heal().await.unwrap();
    assert_eq!(keystore.snapshot().keys[&id].key.state, KeyState::Disabled);
    assert_eq!(halted(&keystore), Some(0.0));
}

#[tokio::test]
async fn store_1_a_store_that_cannot_be_read_is_tried_with_growing_pauses() {
    let place = TestStore::new();
    let (store, clock) = (Faulty::new(&place), Clock::manual(Timestamp(0)));
    let keystore = store.keystore(&place, &clock).await;
    store.is(Fault::Unreadable);
    let change = || vec![Change::PutKey(draft(KeyState::Enabled))];
    assert!(apply(&keystore, change()).await.is_err());
    assert!(keystore.halt().is_unknown(), "nothing is answered");
    // 1, 2, 4, … 60 s: a change that is refused in between is not a try.
    let mut tries = 0;
    for _ in 0..600 {
        clock.advance(Duration::from_secs(1));
        let before = keystore.writer.lock().await.retry.at;
        assert!(keystore.heal().await.is_err());
        tries += usize::from(keystore.writer.lock().await.retry.at != before);
    }
    assert!((13..=16).contains(&tries), "{tries} tries in ten minutes");
    store.is(Fault::None);
    clock.advance(Duration::from_secs(60));
    apply(&keystore, change()).await.unwrap();
    assert!(!keystore.halt().is_unknown());
    assert_eq!(keystore.snapshot().keys.len(), 1);
}

#[tokio::test]
async fn store_1_an_older_set_is_not_taken_for_what_was_durable() {
    let place = TestStore::new();
    let (store, clock) = (Faulty::new(&place), Clock::manual(Timestamp(0)));
    let keystore = store.keystore(&place, &clock).await;
    let old = store.rows.lock().unwrap().clone();
    apply(&keystore, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    store.is(Fault::Loses);
    assert!(
        apply(&keystore, vec![Change::PutKey(draft(KeyState::Enabled))])
            .await
            .is_err()
    );
    *store.rows.lock().unwrap() = old;
    store.is(Fault::None);
    clock.advance(Duration::from_secs(60));
    assert!(keystore.heal().await.is_err());
    assert!(
        keystore
            .halt()
            .reason()
            .unwrap()
            .contains("restore a backup")
    );
    assert_eq!(keystore.snapshot().keys.len(), 1);
}

/// A file of the store's folder.
fn file(place: &TestStore, name: &str) -> PathBuf {
    place.folder.path().join(name)
}

#[tokio::test]
async fn store_1_files_that_go_or_change_under_the_store_are_noticed_before_a_change_is_answered() {
    for name in ["store.sqlite", "store.sqlite-wal"] {
        for replace in [false, true] {
            let (place, ids) = filled().await;
            let store = place.open().await.unwrap();
            let clock = Clock::manual(Timestamp(0));
            store.writer.lock().await.retry.clock = clock.clone();
            apply(&store, vec![Change::PutAlias(alias(ids[1]))])
                .await
                .unwrap();
            let (lies, away) = (file(&place, name), file(&place, "away"));
            std::fs::rename(&lies, &away).unwrap();
            if replace {
                std::fs::copy(&away, &lies).unwrap();
            }
            let refused = apply(&store, vec![Change::RemoveKey(ids[0])]).await;
            let line = refused.unwrap_err().to_string();
            assert!(line.contains("is not the file that was opened"), "{line}");
            assert!(store.snapshot().keys.contains_key(&ids[0]));
            assert!(store.halt().reason().is_some());
            clock.advance(Duration::from_secs(60));
            assert!(store.heal().await.is_err(), "it is still another file");
            std::fs::rename(&away, &lies).unwrap();
            clock.advance(Duration::from_secs(60));
            apply(&store, vec![Change::RemoveKey(ids[0])])
                .await
                .unwrap();
            store.close().await.unwrap();
            let keys = place.open().await.unwrap().snapshot().keys.len();
            assert_eq!(keys, 1, "{name} was put back, and nothing is lost");
        }
    }
}

#[tokio::test]
async fn store_1_a_memory_that_cannot_be_written_does_not_undo_what_is_durable() {
    let (place, ids) = filled().await;
    let store = place.open().await.unwrap();
    // No name, and none can be had.
    std::fs::remove_file(file(&place, "store.seen")).unwrap();
    std::fs::create_dir(file(&place, "store.seen.new")).unwrap();
    apply(&store, vec![Change::RemoveKey(ids[0])])
        .await
        .unwrap();
    assert!(!store.snapshot().keys.contains_key(&ids[0]), "in force");
    apply(&store, vec![Change::RemoveKey(ids[1])])
        .await
        .unwrap();
    assert_eq!(halted(&store), Some(0.0));
    assert!(!file(&place, "store.seen").exists());
    std::fs::remove_dir(file(&place, "store.seen.new")).unwrap();
    apply(&store, vec![Change::PutKey(draft(KeyState::Enabled))])
        .await
        .unwrap();
    let seen = std::fs::read_to_string(file(&place, "store.seen")).unwrap();
    let expected = format!("{:020} format 3 head ", store.revision());
    assert!(seen.starts_with(&expected), "{seen}");
    store.close().await.unwrap();
}
