//! A database on its way to become a copy of a store. A mark is in the place of the head until all
//! records are there, and every write holds on to it: a run whose mark is not there any more writes
//! nothing.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::session::Parameter;
use crate::keystore::postgres::{Access, COMMIT_TIME_MAX, PostgresStore, number, row_name};
use crate::keystore::record::{Kind, Record};
use crate::keystore::store::Commit;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Puts the mark into an empty place.
const BEGIN: &str = "INSERT INTO keymill.head (one, revision, sealed) SELECT 1, $1, $2 \
    WHERE NOT EXISTS (SELECT FROM keymill.record) ON CONFLICT DO NOTHING RETURNING revision";

/// Puts the mark in the place of another run's.
const TAKE_OVER: &str = "UPDATE keymill.head SET sealed = $3 \
    WHERE one = 1 AND revision = $1 AND sealed = $2 RETURNING revision";

/// Writes records as they were written first, as long as the mark is there. The two lists of names
/// have none in common.
const FILL: &str = "WITH held AS (\
        SELECT one FROM keymill.head WHERE one = 1 AND revision = $1 AND sealed = $2 FOR UPDATE\
    ), gone AS (\
        DELETE FROM keymill.record USING held WHERE record.k = ANY ($3::text[])\
    ), written AS (\
        INSERT INTO keymill.record (k, revision, request, sealed) \
        SELECT put.k, put.revision, $4, put.sealed \
        FROM held, unnest($5::text[], $6::bigint[], $7::bytea[]) AS put (k, revision, sealed) \
        ON CONFLICT (k) DO UPDATE SET \
            revision = excluded.revision, request = excluded.request, sealed = excluded.sealed\
    ) SELECT one FROM held";

/// A database that this run of a copy fills.
pub struct Filling {
    store: PostgresStore,
    mark: Record,
}

impl Filling {
    /// Makes the tables where they are missing, and puts `mark` in the place of the head: where
    /// there is none and no record either, or of a head that `may_replace`.
    ///
    /// # Errors
    /// [`KeystoreError`], also that of `may_replace`.
    pub async fn begin(
        access: Access,
        mark: Record,
        may_replace: impl FnOnce(&Record) -> Result<(), KeystoreError>,
    ) -> Result<Self, KeystoreError> {
        let mut store = PostgresStore::new(access);
        store.check_server().await?;
        store.make_tables().await?;
        let revision = number(mark.revision);
        let mut found = store.head().await?;
        if found.is_none() {
            let parameters: [Parameter<'_>; 2] =
                [(&revision, Type::INT8), (&mark.body, Type::BYTEA)];
            if store.is_written(BEGIN, &parameters).await? {
                return Ok(Self { store, mark });
            }
            // A first node may have begun there meanwhile.
            found = store.head().await?;
        }
        let found = found.ok_or_else(|| KeystoreError::Occupied {
            store: store.name(),
            reason: "it has records and no head: name an empty database, or restore that one"
                .to_owned(),
        })?;
        may_replace(&found)?;
        let parameters: [Parameter<'_>; 3] = [
            (&revision, Type::INT8),
            (&found.body, Type::BYTEA),
            (&mark.body, Type::BYTEA),
        ];
        if store.is_written(TAKE_OVER, &parameters).await? {
            return Ok(Self { store, mark });
        }
        Err(KeystoreError::Overtaken {
            store: store.name(),
        })
    }

    /// Writes records, and removes others.
    ///
    /// # Errors
    /// [`KeystoreError`]; [`KeystoreError::Overtaken`] when another run has put its mark there.
    pub async fn write(
        &mut self,
        puts: Vec<Record>,
        removals: &[(Kind, String)],
    ) -> Result<(), KeystoreError> {
        let (revision, request) = (number(self.mark.revision), Uuid::nil());
        let gone = removals.iter().map(|(kind, id)| row_name(*kind, id));
        let gone: Vec<String> = gone.collect();
        let (mut names, mut revisions, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
        for record in puts {
            names.push(row_name(record.kind, &record.id));
            revisions.push(number(record.revision));
            bodies.push(record.body);
        }
        let parameters: [Parameter<'_>; 7] = [
            (&revision, Type::INT8),
            (&self.mark.body, Type::BYTEA),
            (&gone, Type::TEXT_ARRAY),
            (&request, Type::UUID),
            (&names, Type::TEXT_ARRAY),
            (&revisions, Type::INT8_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
        ];
        if self.store.is_written(FILL, &parameters).await? {
            return Ok(());
        }
        Err(self.overtaken())
    }

    /// Puts the head in the place of the mark: the copy is a store from here on, durable when this
    /// returns.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn finish(mut self, head: Record) -> Result<(), KeystoreError> {
        let commit = Commit {
            expected: self.mark.revision,
            expected_head: Some(self.mark.body.clone()),
            head,
            puts: Vec::new(),
            removals: Vec::new(),
            takes_secrets: false,
            request: Uuid::nil(),
        };
        match self.store.write(commit).await {
            Err(KeystoreError::Lost { .. }) => Err(self.overtaken()),
            other => other,
        }
    }

    fn overtaken(&self) -> KeystoreError {
        KeystoreError::Overtaken {
            store: self.store.name(),
        }
    }
}

impl PostgresStore {
    /// Runs a statement that answers with a row if it has written.
    async fn is_written(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<bool, KeystoreError> {
        let session = self.session().await?;
        let written = session.rows(COMMIT_TIME_MAX, statement, parameters).await;
        self.outcome(written).map(|rows| !rows.is_empty())
    }
}
