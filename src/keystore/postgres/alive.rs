//! The row that a node writes, so that what it reads is confirmed by a commit. Where commits wait
//! for a synchronous standby, a primary that was deposed never answers one.
//!
//! A server process that waits for a standby does not notice that its client has gone. It keeps the
//! row locked, and a write that finds it locked does nothing: so there is at most one such process
//! for each node, however long the standby is away.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::session::Parameter;
use crate::keystore::postgres::{
    COMMIT_TIME_MAX, LOOK_TIME_MAX, PostgresStore, column, head_of, refused, schema,
};
use crate::keystore::record::Record;
use tokio_postgres::types::Type;

/// Each of these settings waits for the standby, and for this disk, or for more.
const WAITS: &str = "set_config('synchronous_commit', \
    CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on' \
    ELSE current_setting('synchronous_commit') END, true)";

/// A node whose looks are writes.
pub struct Alive {
    node: String,
}

impl Alive {
    /// The row of this node.
    #[must_use]
    pub fn new(node: String) -> Self {
        Self { node }
    }

    /// Makes the row, and the table where it is missing. It is durable when this returns.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(&self, store: &mut PostgresStore) -> Result<(), KeystoreError> {
        let session = store.session().await?;
        let made = match schema::has_alive(session, LOOK_TIME_MAX).await {
            Ok(false) => schema::make(session).await,
            other => other.map(drop),
        };
        store.outcome(made)?;
        let statement = format!(
            "WITH shown AS (\
                INSERT INTO keymill.alive (node, at) VALUES ($1, now()) \
                ON CONFLICT (node) DO UPDATE SET at = excluded.at RETURNING node\
            ) SELECT {WAITS} FROM shown"
        );
        let parameters: [Parameter<'_>; 1] = [(&self.node, Type::TEXT)];
        let session = store.session().await?;
        let shown = session.rows(COMMIT_TIME_MAX, &statement, &parameters).await;
        store.read(shown).map(drop)
    }

    /// The head behind a write of the row.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn head(&self, store: &mut PostgresStore) -> Result<Record, KeystoreError> {
        let statement = format!(
            "WITH mine AS (\
                SELECT node FROM keymill.alive WHERE node = $1 FOR UPDATE SKIP LOCKED\
            ), shown AS (\
                UPDATE keymill.alive SET at = now() FROM mine WHERE alive.node = mine.node \
                RETURNING alive.node\
            ) SELECT head.revision, head.sealed, pg_is_in_recovery(), shown.node, {WAITS} \
            FROM keymill.head LEFT JOIN shown ON true WHERE head.one = 1"
        );
        let parameters: [Parameter<'_>; 1] = [(&self.node, Type::TEXT)];
        let session = store.session().await?;
        let rows = session.rows(LOOK_TIME_MAX, &statement, &parameters).await;
        let found = rows.and_then(|rows| {
            let Some(row) = rows.first() else {
                return Ok(None);
            };
            match column::<Option<&str>>(row, 3)? {
                Some(_) => head_of(row).map(Some),
                None => Err(refused(
                    "an earlier write of this node still waits there, as for a synchronous standby that is away",
                )),
            }
        });
        let name = store.name();
        store
            .read(found)?
            .ok_or(KeystoreError::Empty { store: name })
    }
}
