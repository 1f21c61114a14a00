//! What every store does and refuses, the embedded one and the shared one alike. `shared` runs it
//! against a real PostgreSQL.

use super::*;

/// A store that can be opened, and changed from outside.
pub(super) trait Place {
    /// A new store.
    async fn create(&self) -> Keystore;
    async fn open(&self) -> Result<Keystore, KeystoreError>;
    async fn open_with(&self, root: &RootKey) -> Result<Keystore, KeystoreError>;
    /// Changes rows of the store while it is closed.
    async fn attack(&self, attack: Attack);
    /// Keeps the rows as they are.
    async fn keep(&self);
    /// Puts the rows back as they were kept.
    async fn put_back(&self, what: PutBack);
}

/// What an attacker does to rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    EditAlias,
    RenumberAlias,
    DeleteAlias,
    RenameAlias,
    SwapKeys,
    DeleteHead,
    RenumberHead,
}

/// Which rows are put back.
#[derive(Clone, Copy, Debug)]
pub(super) enum PutBack {
    All,
    Keys,
}

impl Place for TestStore {
    async fn create(&self) -> Keystore {
        Self::create(self).await
    }

    async fn open(&self) -> Result<Keystore, KeystoreError> {
        Self::open(self).await
    }

    async fn open_with(&self, root: &RootKey) -> Result<Keystore, KeystoreError> {
        let (entropy, metrics) = parts();
        Keystore::open(&self.path(), root, regions(), entropy, metrics).await
    }

    async fn attack(&self, attack: Attack) {
        self.sql(match attack {
            Attack::EditAlias => "UPDATE record SET body = zeroblob(length(body)) WHERE kind = 'alias'",
            Attack::RenumberAlias => "UPDATE record SET revision = revision + 1 WHERE kind = 'alias'",
            Attack::DeleteAlias => "DELETE FROM record WHERE kind = 'alias'",
            Attack::RenameAlias => "UPDATE record SET kind = 'tenant' WHERE kind = 'alias'",
            Attack::SwapKeys => "UPDATE record SET body = (SELECT body FROM record other WHERE other.kind = 'key' AND other.id <> record.id) WHERE kind = 'key'",
            Attack::DeleteHead => "DELETE FROM record WHERE kind = 'head'",
            Attack::RenumberHead => "UPDATE record SET revision = 99 WHERE kind = 'head'",
        })
        .await;
    }

    async fn keep(&self) {
        std::fs::copy(self.path(), self.folder.path().join("kept")).unwrap();
    }

    async fn put_back(&self, what: PutBack) {
        let kept = self.folder.path().join("kept");
        if let PutBack::All = what {
            std::fs::copy(kept, self.path()).unwrap();
            return;
        }
        let mut store = connection(&self.path()).await;
        sqlx::query("ATTACH $1 AS kept")
            .bind(kept.to_str())
            .execute(&mut store)
            .await
            .unwrap();
        sqlx::raw_sql("DELETE FROM record WHERE kind = 'key'; INSERT INTO record SELECT * FROM kept.record WHERE kind = 'key'")
            .execute(&mut store)
            .await
            .unwrap();
        store.close().await.unwrap();
    }
}

/// What was written is read back, removals too, and a decision that is refused changes nothing.
pub(super) async fn what_was_written_is_read_back(place: &impl Place) {
    let store = place.create().await;
    let drafts = [draft(KeyState::Enabled), draft(due_at(9))];
    let ids = drafts.each_ref().map(|draft| draft.key.regional_id());
    let material = Arc::clone(&drafts[0].materials[0]);
    for draft in drafts {
        apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
    }
    apply(&store, vec![Change::PutAlias(alias(ids[0]))])
        .await
        .unwrap();
    let written = store.snapshot();
    let refused: Result<(), KeystoreError> = store.apply(|_| Err(corrupt())).await;
    assert!(refused.is_err());
    apply(&store, Vec::new()).await.unwrap();
    assert_eq!(store.revision(), written.revision, "no change, no commit");
    store.close().await.unwrap();
    let store = place.open().await.unwrap();
    let read = store.snapshot();
    assert_eq!(read.revision, written.revision);
    let entry = &read.keys[&ids[0]];
    assert_eq!(entry.current().unwrap().expose(), material.expose());
    assert_eq!(read.keys[&ids[1]].key, written.keys[&ids[1]].key);
    assert_eq!(read.aliases_of(ids[0]).unwrap().len(), 1);
    apply(&store, vec![Change::RemoveKey(ids[1])])
        .await
        .unwrap();
    store.close().await.unwrap();
    let read = place.open().await.unwrap();
    assert_eq!(read.snapshot().keys.keys().collect::<Vec<_>>(), [&ids[0]]);
    read.close().await.unwrap();
}

/// Changes that are made at once all come into force.
pub(super) async fn changes_are_serialized(place: &impl Place) {
    let store = Arc::new(place.create().await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for _ in 0..3 {
                let change = draft(KeyState::Enabled);
                apply(&store, vec![Change::PutKey(change)]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.snapshot().keys.len(), 24);
    Arc::into_inner(store).unwrap().close().await.unwrap();
    let store = place.open().await.unwrap();
    assert_eq!((store.snapshot().keys.len(), store.revision()), (24, 25));
    store.close().await.unwrap();
}

/// STORE-1: rows that were edited, deleted, swapped or put back are named, and so is a whole older
/// store and a foreign root key.
pub(super) async fn what_was_touched_is_refused(place: &impl Place) {
    let store = place.create().await;
    let drafts = [draft(KeyState::Enabled), draft(KeyState::Enabled)];
    let ids = drafts.each_ref().map(|draft| draft.key.regional_id());
    for draft in drafts {
        apply(&store, vec![Change::PutKey(draft)]).await.unwrap();
    }
    apply(&store, vec![Change::PutAlias(alias(ids[0]))])
        .await
        .unwrap();
    store.close().await.unwrap();
    let refused = async |expected: &str, what: &dyn std::fmt::Debug| {
        let error = place.open().await.err();
        let line = error.unwrap_or_else(|| panic!("{what:?}")).to_string();
        assert!(
            line.contains(expected) && !line.contains('\n'),
            "{what:?}: {line}"
        );
    };
    place.keep().await;
    for (attack, expected) in [
        (
            Attack::EditAlias,
            "edited, swapped or copied from another store: alias 111122223333 alias/containers",
        ),
        (Attack::RenumberAlias, "alias 111122223333 alias/containers"),
        (Attack::DeleteAlias, "(2 are there, 3 were written)"),
        (Attack::RenameAlias, "unknown kind: tenant"),
        (
            Attack::SwapKeys,
            "edited, swapped or copied from another store: key ",
        ),
        (Attack::RenumberHead, "head that does not open"),
    ] {
        place.attack(attack).await;
        refused(expected, &attack).await;
        place.put_back(PutBack::All).await;
    }
    let other = place.open_with(&RootKey::draw()).await.err().unwrap();
    assert!(
        other
            .to_string()
            .contains("the root key is not this store's"),
        "{other}"
    );
    // Every row of an older version is sound by itself.
    let store = place.open().await.unwrap();
    let key = &store.snapshot().keys[&ids[0]];
    let state = KeyState::Disabled;
    let disabled = KmsKey {
        state,
        ..key.key.clone()
    };
    apply(&store, vec![Change::PutKey(key.with_key(disabled))])
        .await
        .unwrap();
    store.close().await.unwrap();
    place.put_back(PutBack::Keys).await;
    refused(
        "not hold the set of records of its revision 5",
        &PutBack::Keys,
    )
    .await;
    place.put_back(PutBack::All).await;
    refused("an older copy was put in its place", &PutBack::All).await;
    place.attack(Attack::DeleteHead).await;
    assert!(place.open().await.is_err());
}

#[tokio::test]
async fn store_1_the_embedded_store_conforms() {
    what_was_written_is_read_back(&TestStore::new()).await;
    changes_are_serialized(&TestStore::new()).await;
    what_was_touched_is_refused(&TestStore::new()).await;
}
