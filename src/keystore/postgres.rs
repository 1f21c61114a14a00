//! The store of many nodes: a PostgreSQL database that they share.
//!
//! It has the same sealed records and the same sealed head as the embedded store; the root key
//! never comes near it. A change is one statement, which moves the head only from the revision that
//! the change was decided on, and writes its records if it did: of several nodes that change the
//! store at once, one succeeds and the others are told that they were late. No lock is held between
//! two messages, so a node that dies or is cut off leaves nothing locked.
//!
//! A commit is durable when it is answered. A database without `fsync` is refused; where
//! `synchronous_commit` is off, each change turns it on for itself.
//!
//! Deleted records: PostgreSQL keeps older versions of a row until it is vacuumed, and in its
//! write-ahead log and backups for longer. They are sealed.

use crate::keystore::KeystoreError;
use crate::keystore::record::{Corrupt, Kind, Record};
use crate::keystore::store::{
    Changed, Changes, Commit, REMEMBERED_REVISIONS, Shared, Store, StoreFuture,
};
use session::{Failure, Parameter, Session};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

mod alive;
mod filling;
mod rows;
mod schema;
mod session;
mod url;
mod watch;

pub use alive::Alive;
pub use filling::Filling;
pub use rows::{Order, StoreRow, StoreRows};
pub use session::Access;
pub use url::{DatabaseUrl, UrlError};
pub use watch::PostgresWatch;

/// Time for a look at the head.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// Time for a change.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(10);

/// The channel of notifications, which are hints.
const CHANNEL: &str = "keymill";

/// A server that follows another one answers reads with what it has got so far: it is as good as
/// none.
const HEAD: &str = "SELECT revision, sealed, pg_is_in_recovery() FROM keymill.head WHERE one = 1";

/// One statement sees one state of the database. The head is the row without a name.
const CHANGES: &str = "SELECT NULL::text, revision, NULL::uuid, sealed, pg_is_in_recovery() \
    FROM keymill.head WHERE one = 1 \
    UNION ALL SELECT k, revision, request, sealed, false FROM keymill.record WHERE revision > $1";

/// `fsync` and the rest that would lose what was answered. NULL where the database does not know
/// the setting.
const SETTINGS: &str = "SELECT current_setting('fsync', true), pg_is_in_recovery()";

const FIRST: &str = "INSERT INTO keymill.head (one, revision, sealed) VALUES (1, $1, $2) ON CONFLICT DO NOTHING RETURNING revision";

/// The head moves from $1 to $2, or nothing happens: nor does it where $1 has another content than
/// this node has read, in a database that has taken the place of that one. `set_config` is of this
/// transaction, and is done before it is committed.
const COMMIT: &str = "WITH moved AS (\
        UPDATE keymill.head SET revision = $2, sealed = $3 WHERE one = 1 AND revision = $1 \
        AND ($9::bytea IS NULL OR sealed = $9) RETURNING revision\
    ), written AS (\
        INSERT INTO keymill.record (k, revision, request, sealed) \
        SELECT changed.k, moved.revision, $4, changed.sealed \
        FROM moved, unnest($5::text[], $6::bytea[]) AS changed (k, sealed) \
        ON CONFLICT (k) DO UPDATE SET \
            revision = excluded.revision, request = excluded.request, sealed = excluded.sealed\
    ), forgotten AS (\
        DELETE FROM keymill.record USING moved \
        WHERE record.sealed IS NULL AND record.revision < $7 AND record.k <> ALL ($5::text[])\
    ) SELECT pg_notify($8, revision::text), \
        set_config('synchronous_commit', \
            CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
            ELSE current_setting('synchronous_commit') END, true) \
    FROM moved";

/// A database with a keystore in it.
pub struct PostgresStore {
    access: Access,
    /// `None` until the next use of the store, and after a failure.
    session: Option<Session>,
}

impl PostgresStore {
    /// The store in this database, which is not looked at yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self {
            access,
            session: None,
        }
    }

    /// How the store is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.access.url.to_string()
    }

    /// Whether the database has a head, and with it a keystore.
    ///
    /// # Errors
    /// [`KeystoreError::Unreachable`], also for a server that follows another one, or would lose
    /// what it has answered.
    pub async fn is_begun(&mut self) -> Result<bool, KeystoreError> {
        self.check_server().await?;
        let session = self.session().await?;
        let begun = async {
            if !schema::is_there(session, LOOK_TIME_MAX).await? {
                return Ok(false);
            }
            let rows = session.rows(LOOK_TIME_MAX, HEAD, &[]).await?;
            Ok(!rows.is_empty())
        };
        let begun = begun.await;
        self.read(begun)
    }

    /// Makes the tables where they are missing, and begins with this head where there is none. Of
    /// several nodes that do so at once, one succeeds; all of them find its head then.
    ///
    /// # Errors
    /// [`KeystoreError::Unreachable`] or [`KeystoreError::Unanswered`].
    pub async fn begin(&mut self, head: Record) -> Result<(), KeystoreError> {
        self.make_tables().await?;
        let session = self.session().await?;
        let revision = number(head.revision);
        let parameters: [Parameter<'_>; 2] = [(&revision, Type::INT8), (&head.body, Type::BYTEA)];
        let begun = session.rows(COMMIT_TIME_MAX, FIRST, &parameters).await;
        self.outcome(begun.map(drop))
    }

    /// Makes the tables where they are missing.
    async fn make_tables(&mut self) -> Result<(), KeystoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let session = self.session().await?;
            let made = match schema::is_there(session, LOOK_TIME_MAX).await {
                Ok(false) => schema::make(session).await,
                other => other.map(drop),
            };
            match made {
                Err(failure) if schema::was_in_the_way(&failure, attempt) => self.session = None,
                made => return self.outcome(made),
            }
        }
    }

    /// The head's row; `None` where there is none.
    pub(super) async fn head(&mut self) -> Result<Option<Record>, KeystoreError> {
        let session = self.session().await?;
        let rows = session.rows(LOOK_TIME_MAX, HEAD, &[]).await;
        self.read(rows.and_then(|rows| rows.first().map(head_of).transpose()))
    }

    /// Refuses a server that follows another one, or would lose what it has answered.
    pub(super) async fn check_server(&mut self) -> Result<(), KeystoreError> {
        let session = self.session().await?;
        let rows = session.rows(LOOK_TIME_MAX, SETTINGS, &[]).await;
        let found = rows.and_then(|rows| {
            let row = rows.first().ok_or_else(strange)?;
            let fsync: Option<&str> = column(row, 0)?;
            if fsync == Some("off") {
                return Err(refused(
                    "its setting fsync is off, with which it loses changes that it has answered: turn it on",
                ));
            }
            check_primary(row, 1)
        });
        self.read(found)
    }

    async fn session(&mut self) -> Result<&Session, KeystoreError> {
        // The server may have closed it since its last use.
        if self.session.as_ref().is_none_or(Session::is_closed) {
            let opened = Session::open(&self.access).await;
            let opened = opened.map_err(|failure| self.error(failure))?;
            self.session = Some(opened);
        }
        self.session
            .as_ref()
            .ok_or_else(|| self.error(Failure::Raced))
    }

    /// The outcome of a step; after a failure the connection is not used again.
    fn outcome<T>(&mut self, done: Result<T, Failure>) -> Result<T, KeystoreError> {
        done.map_err(|failure| {
            self.session = None;
            self.error(failure)
        })
    }

    /// The outcome of a step that only reads: without an answer, nothing has changed either.
    fn read<T>(&mut self, done: Result<T, Failure>) -> Result<T, KeystoreError> {
        self.outcome(done.map_err(|failure| match failure {
            Failure::Unanswered(reason) => Failure::Refused {
                state: String::new(),
                reason,
            },
            failure => failure,
        }))
    }

    fn error(&self, failure: Failure) -> KeystoreError {
        let store = self.name();
        match failure {
            Failure::Refused { reason, .. } => KeystoreError::Unreachable { store, reason },
            Failure::Unanswered(reason) => KeystoreError::Unanswered { store, reason },
            Failure::Raced => KeystoreError::Lost { store },
        }
    }

    /// What has changed since a revision.
    async fn changes_since(&mut self, revision: u64) -> Result<Changes, KeystoreError> {
        let revision = number(revision);
        let session = self.session().await?;
        let (mut head, mut changed, mut unknown) = (None, Vec::new(), None);
        let take = |row: &Row| {
            match Found::parse(row)? {
                Found::Head(record) => head = Some(record),
                Found::Record(record) => changed.push(record),
                Found::Unknown(name) => unknown = Some(name),
            }
            Ok(())
        };
        let read = session
            .each_row(CHANGES, &[(&revision, Type::INT8)], take)
            .await;
        self.read(read)?;
        if let Some(name) = unknown {
            return Err(self.corrupt(Corrupt::Kind(name)));
        }
        let head = head.ok_or_else(|| KeystoreError::Empty { store: self.name() })?;
        Ok(Changes { head, changed })
    }

    fn corrupt(&self, source: Corrupt) -> KeystoreError {
        let path = self.name().into();
        KeystoreError::Corrupt { path, source }
    }

    pub(super) async fn write(&mut self, commit: Commit) -> Result<(), KeystoreError> {
        let (expected, revision) = (number(commit.expected), number(commit.head.revision));
        let puts = commit.puts.into_iter();
        let puts = puts.map(|record| (row_name(record.kind, &record.id), Some(record.body)));
        let removals = commit.removals.into_iter();
        let removals = removals.map(|(kind, id)| (row_name(kind, &id), None));
        let (names, bodies): (Vec<String>, Vec<Option<Vec<u8>>>) = puts.chain(removals).unzip();
        let oldest = number(commit.head.revision.saturating_sub(REMEMBERED_REVISIONS));
        let parameters: [Parameter<'_>; 9] = [
            (&expected, Type::INT8),
            (&revision, Type::INT8),
            (&commit.head.body, Type::BYTEA),
            (&commit.request, Type::UUID),
            (&names, Type::TEXT_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&oldest, Type::INT8),
            (&CHANNEL, Type::TEXT),
            (&commit.expected_head, Type::BYTEA),
        ];
        let session = self.session().await?;
        let written = session.rows(COMMIT_TIME_MAX, COMMIT, &parameters).await;
        match self.outcome(written)?.len() {
            0 => Err(self.error(Failure::Raced)),
            _ => Ok(()),
        }
    }
}

impl Store for PostgresStore {
    fn check_in_place(&mut self) -> Result<(), KeystoreError> {
        Ok(())
    }

    fn let_go(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()> {
        Box::pin(self.write(commit))
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async { Ok(()) })
    }

    fn shared(&mut self) -> Option<&mut dyn Shared> {
        Some(self)
    }
}

impl Shared for PostgresStore {
    fn changes(&mut self, revision: u64) -> StoreFuture<'_, Changes> {
        Box::pin(self.changes_since(revision))
    }
}

/// A row of [`CHANGES`].
enum Found {
    Head(Record),
    Record(Changed),
    /// A record of a later version.
    Unknown(String),
}

impl Found {
    fn parse(row: &Row) -> Result<Self, Failure> {
        let revision = revision(row, 1)?;
        let Some(name) = column::<Option<&str>>(row, 0)? else {
            check_primary(row, 4)?;
            return Ok(Self::Head(head(revision, column(row, 3)?)));
        };
        let (kind, id) = name.split_once(' ').unwrap_or((name, ""));
        let Ok(kind) = kind.parse::<Kind>() else {
            return Ok(Self::Unknown(kind.to_owned()));
        };
        Ok(Self::Record(Changed {
            kind,
            id: id.to_owned(),
            revision,
            request: column::<Uuid>(row, 2)?,
            body: column(row, 3)?,
        }))
    }
}

/// A row that begins as [`HEAD`] does.
fn head_of(row: &Row) -> Result<Record, Failure> {
    check_primary(row, 2)?;
    Ok(head(revision(row, 0)?, column(row, 1)?))
}

fn head(revision: u64, body: Vec<u8>) -> Record {
    Record {
        kind: Kind::Head,
        id: String::new(),
        revision,
        body,
    }
}

/// The name of a record's row: its kind and its id.
fn row_name(kind: Kind, id: &str) -> String {
    format!("{} {id}", kind.name())
}

/// PostgreSQL's integers are signed.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn revision(row: &Row, at: usize) -> Result<u64, Failure> {
    Ok(u64::try_from(column::<i64>(row, at)?).unwrap_or(0))
}

/// A column of a row. Tables of another making have other columns.
fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    at: usize,
) -> Result<T, Failure> {
    row.try_get(at).map_err(|_| strange())
}

fn check_primary(row: &Row, at: usize) -> Result<(), Failure> {
    if column::<bool>(row, at)? {
        return Err(refused(
            "it is a standby, which may be behind: name the primary server",
        ));
    }
    Ok(())
}

fn strange() -> Failure {
    refused("its tables are not as keymill makes them")
}

fn refused(reason: &str) -> Failure {
    Failure::Refused {
        state: String::new(),
        reason: reason.to_owned(),
    }
}
