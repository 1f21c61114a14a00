//! The embedded store: one SQLite file, one writer, durable before it answers.
//!
//! Tables: `record (kind, id, revision, body)` and `roster (kind, id, share)`. Journal: write-ahead log with `synchronous = FULL`, so that each
//! commit ends with an fdatasync of the log before this returns; with `NORMAL` a power cut could take back what was acknowledged. Assumed of the
//! disk: what fdatasync reported as written stays written. A store is read and verified over a read-only connection before anything is written, so a store
//! that is refused is left as it was.

use crate::keystore::KeystoreError;
use crate::keystore::record::{Corrupt, Kind, Record};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use std::path::{Path, PathBuf};
use std::pin::Pin;

/// A future that a [`Store`] returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeystoreError>> + Send + 'a>>;

/// Everything that a store holds.
#[derive(Default)]
pub struct Contents {
    /// All rows, the head among them.
    pub records: Vec<Record>,
    /// Kind, id and share of each row but the head.
    pub roster: Vec<(Kind, String, Vec<u8>)>,
}

/// One transaction.
pub struct Commit {
    /// The head's revision before.
    pub expected: u64,
    /// The head after.
    pub head: Record,
    /// Rows that are new or replaced, each with its share.
    pub puts: Vec<(Record, [u8; 32])>,
    /// Rows that go.
    pub removals: Vec<(Kind, String)>,
}

/// Where records are kept. The few verbs that a test double, and a shared database, can offer as well.
pub trait Store: Send {
    /// Everything.
    fn load(&mut self) -> StoreFuture<'_, Contents>;
    /// Makes a change durable, if the head is still at the expected revision.
    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()>;
    /// Lets go of the files.
    fn close(self: Box<Self>) -> StoreFuture<'static, ()>;
}

/// `KMIL` in SQLite's application id: no other program's database is taken for ours.
const APPLICATION_ID: i64 = 0x4b4d_494c;
/// SQLite's `user_version`: the format of the tables.
const FORMAT: i64 = 1;

/// The embedded store.
pub struct SqliteStore {
    path: PathBuf,
    connection: SqliteConnection,
}

impl SqliteStore {
    /// Makes a new file, which must not exist, with empty tables; readable by its owner only.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn create(path: &Path) -> Result<Self, KeystoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| KeystoreError::Io {
                path: path.to_owned(),
                source,
            })?;
        let mut store = Self::connect(path).await?;
        let tables = "BEGIN; \
            CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT; \
            CREATE TABLE roster (kind TEXT NOT NULL, id TEXT NOT NULL, share BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT; \
            PRAGMA application_id = 0x4b4d494c; PRAGMA user_version = 1; COMMIT;";
        store.run(sqlx::raw_sql(tables)).await?;
        Ok(store)
    }

    /// Reads everything without changing anything.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn read(path: &Path) -> Result<Contents, KeystoreError> {
        if !path.exists() {
            return Err(KeystoreError::Absent {
                path: path.to_owned(),
            });
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let connection = options
            .connect()
            .await
            .map_err(|error| damaged(path, &error))?;
        let mut store = Self {
            path: path.to_owned(),
            connection,
        };
        let contents = match store.check_identity().await {
            Ok(()) => store.load().await,
            Err(error) => Err(error),
        };
        // Closed here and not by a drop: as long as it is open, the writer cannot fold in the log.
        store
            .connection
            .close()
            .await
            .map_err(|error| damaged(path, &error))?;
        contents
    }

    /// Opens for writing what [`Self::read`] has read.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn connect(path: &Path) -> Result<Self, KeystoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = options
            .connect()
            .await
            .map_err(|error| damaged(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    async fn check_identity(&mut self) -> Result<(), KeystoreError> {
        let identity = sqlx::query(
            "SELECT a.application_id, v.user_version FROM pragma_application_id a, pragma_user_version v",
        );
        let row = identity
            .fetch_one(&mut self.connection)
            .await
            .map_err(|error| damaged(&self.path, &error))?;
        let path = || self.path.clone();
        match (row.get::<i64, _>(0), row.get::<i64, _>(1)) {
            (APPLICATION_ID, FORMAT) => self.check_pages().await,
            (APPLICATION_ID, format) => Err(KeystoreError::Newer {
                path: path(),
                format,
            }),
            _ => Err(KeystoreError::Foreign { path: path() }),
        }
    }

    /// Reads every page, those of the indexes too, which loading would not.
    async fn check_pages(&mut self) -> Result<(), KeystoreError> {
        let check = sqlx::query_scalar::<_, String>("PRAGMA integrity_check(1)");
        let found = check.fetch_one(&mut self.connection).await;
        let bytes = sqlx::query_scalar::<_, i64>("SELECT page_size FROM pragma_page_size");
        let page_bytes = bytes.fetch_one(&mut self.connection).await;
        let whole = |page_bytes: i64| {
            let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
            u64::try_from(page_bytes).is_ok_and(|page_bytes| length.is_multiple_of(page_bytes))
        };
        let reason = match (found, page_bytes) {
            (Ok(found), Ok(page_bytes)) if found == "ok" && whole(page_bytes) => return Ok(()),
            (Ok(found), Ok(_)) if found == "ok" => {
                "the file ends in the middle of a page".to_owned()
            }
            (Ok(found), Ok(_)) => found.replace('\n', " "),
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        };
        Err(KeystoreError::Damaged {
            path: self.path.clone(),
            reason,
        })
    }

    async fn run(&mut self, sql: sqlx::RawSql) -> Result<(), KeystoreError> {
        let result = sql.execute(&mut self.connection).await;
        result
            .map(|_| ())
            .map_err(|error| damaged(&self.path, &error))
    }

    async fn load_all(&mut self) -> Result<Contents, sqlx::Error> {
        let mut contents = Contents::default();
        let rows = sqlx::query("SELECT kind, id, revision, body FROM record")
            .fetch_all(&mut self.connection)
            .await?;
        for row in rows {
            let revision = u64::try_from(row.get::<i64, _>(2)).unwrap_or(0);
            let kind = kind(row.get(0))?;
            contents.records.push(Record {
                kind,
                id: row.get(1),
                revision,
                body: row.get(3),
            });
        }
        let rows = sqlx::query("SELECT kind, id, share FROM roster")
            .fetch_all(&mut self.connection)
            .await?;
        for row in rows {
            contents
                .roster
                .push((kind(row.get(0))?, row.get(1), row.get(2)));
        }
        Ok(contents)
    }

    async fn write(&mut self, commit: Commit) -> Result<bool, sqlx::Error> {
        let revision = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let moved = if commit.expected == 0 {
            sqlx::query(
                "INSERT INTO record (kind, id, revision, body) VALUES ('head', '', $2, $3) ON CONFLICT DO NOTHING",
            )
        } else {
            sqlx::query(
                "UPDATE record SET revision = $2, body = $3 WHERE kind = 'head' AND revision = $1",
            )
        };
        let moved = moved
            .bind(revision(commit.expected))
            .bind(revision(commit.head.revision))
            .bind(commit.head.body);
        if moved.execute(&mut *transaction).await?.rows_affected() != 1 {
            return Ok(false);
        }
        for (record, share) in commit.puts {
            sqlx::query(
                "INSERT INTO record (kind, id, revision, body) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (kind, id) DO UPDATE SET revision = $3, body = $4",
            )
            .bind(record.kind.name())
            .bind(&record.id)
            .bind(revision(record.revision))
            .bind(record.body)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("INSERT INTO roster (kind, id, share) VALUES ($1, $2, $3) ON CONFLICT (kind, id) DO UPDATE SET share = $3")
                .bind(record.kind.name()).bind(record.id).bind(share.as_slice())
                .execute(&mut *transaction).await?;
        }
        for (kind, id) in commit.removals {
            for table in [
                "DELETE FROM record WHERE kind = $1 AND id = $2",
                "DELETE FROM roster WHERE kind = $1 AND id = $2",
            ] {
                sqlx::query(table)
                    .bind(kind.name())
                    .bind(&id)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        transaction.commit().await?;
        Ok(true)
    }
}

impl Store for SqliteStore {
    fn load(&mut self) -> StoreFuture<'_, Contents> {
        Box::pin(async {
            let loaded = self.load_all().await;
            loaded.map_err(|error| match error {
                sqlx::Error::Decode(kind) => KeystoreError::Corrupt {
                    path: self.path.clone(),
                    source: Corrupt::Kind(kind.to_string()),
                },
                error => damaged(&self.path, &error),
            })
        })
    }

    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()> {
        Box::pin(async {
            match self.write(commit).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(KeystoreError::Conflict {
                    path: self.path.clone(),
                }),
                Err(error) => Err(KeystoreError::Commit {
                    path: self.path.clone(),
                    reason: error.to_string(),
                }),
            }
        })
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async {
            let closed = self.connection.close().await;
            closed.map_err(|error| damaged(&self.path, &error))
        })
    }
}

fn kind(name: &str) -> Result<Kind, sqlx::Error> {
    Kind::from_name(name).ok_or_else(|| sqlx::Error::Decode(name.to_owned().into()))
}

fn damaged(path: &Path, error: &sqlx::Error) -> KeystoreError {
    KeystoreError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
