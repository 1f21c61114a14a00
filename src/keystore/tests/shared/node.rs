//! A node of a shared store: a database, and a folder.

use super::server::Server;
use crate::crypto::entropy::Entropy;
use crate::keystore::freshness::Look;
use crate::keystore::postgres::Access;
use crate::keystore::tests::conformance::{Attack, Place, PutBack};
use crate::keystore::tests::{parts, regions};
use crate::keystore::{Keystore, KeystoreError, RootKey, SharedStore};
use std::sync::Arc;
use std::time::Duration;

/// A database, and the folder of one node.
pub(crate) struct Node<'a> {
    pub(super) server: &'a Server,
    pub(super) database: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) root: Arc<RootKey>,
    pub(super) access: Access,
}

impl<'a> Node<'a> {
    pub(crate) async fn new(server: &'a Server) -> Self {
        let database = server.database().await;
        Self {
            access: server.access(&database),
            server,
            database,
            folder: tempfile::tempdir().unwrap(),
            root: Arc::new(RootKey::draw()),
        }
    }

    /// Another node of the same store.
    pub(crate) fn another(&self) -> Self {
        Self {
            server: self.server,
            database: self.database.clone(),
            folder: tempfile::tempdir().unwrap(),
            root: Arc::clone(&self.root),
            access: self.access.clone(),
        }
    }

    pub(crate) fn store(&self) -> SharedStore {
        SharedStore {
            access: self.access.clone(),
            direct: Some(self.access.clone()),
            look_every: Duration::from_millis(50),
            age_max: Duration::from_secs(10),
            confirmed_by: Look::Read,
            path: self.folder.path().join("keystore.db"),
        }
    }

    pub(super) async fn begin(&self) -> Keystore {
        let begun = self.store().begin(&self.root, &Entropy::os()).await;
        begun.unwrap();
        self.open().await.unwrap()
    }

    pub(super) async fn sql(&self, statements: &str) {
        self.server.sql(&self.database, statements).await;
    }
}

impl Place for Node<'_> {
    async fn create(&self) -> Keystore {
        self.begin().await
    }

    async fn open(&self) -> Result<Keystore, KeystoreError> {
        self.open_with(&self.root).await
    }

    async fn open_with(&self, root: &RootKey) -> Result<Keystore, KeystoreError> {
        let (entropy, metrics) = parts();
        self.store().open(root, regions(), entropy, metrics).await
    }

    async fn attack(&self, attack: Attack) {
        self.sql(match attack {
            Attack::EditAlias => "UPDATE keymill.record SET sealed = '\\x00' WHERE k LIKE 'alias %'",
            Attack::RenumberAlias => "UPDATE keymill.record SET revision = revision + 1 WHERE k LIKE 'alias %'",
            Attack::DeleteAlias => "DELETE FROM keymill.record WHERE k LIKE 'alias %'",
            Attack::RenameAlias => "UPDATE keymill.record SET k = 'tenant x' WHERE k LIKE 'alias %'",
            Attack::SwapKeys => "UPDATE keymill.record SET sealed = (SELECT sealed FROM keymill.record other WHERE other.k LIKE 'key %' AND other.k <> record.k) WHERE k LIKE 'key %'",
            Attack::DeleteHead => "DELETE FROM keymill.head",
            Attack::RenumberHead => "UPDATE keymill.head SET revision = 99",
        })
        .await;
    }

    async fn keep(&self) {
        self.sql("CREATE TABLE kept_head AS TABLE keymill.head; CREATE TABLE kept AS TABLE keymill.record").await;
    }

    async fn put_back(&self, what: PutBack) {
        self.sql(match what {
            PutBack::All => "BEGIN; TRUNCATE keymill.head, keymill.record; INSERT INTO keymill.head TABLE kept_head; INSERT INTO keymill.record TABLE kept; COMMIT",
            PutBack::Keys => "BEGIN; DELETE FROM keymill.record WHERE k LIKE 'key %'; INSERT INTO keymill.record SELECT * FROM kept WHERE k LIKE 'key %'; COMMIT",
        })
        .await;
    }
}
