//! The embedded store: one SQLite file with one writer, which is durable before it answers.
//!
//! Table: `record (kind, id, revision, body)`; format 1 had a second table `roster`. Journal:
//! write-ahead log with `synchronous = FULL`, so that each commit ends with an fdatasync of the log
//! before this returns. With `NORMAL` a power cut could undo acknowledged changes. The disk is
//! assumed to keep what fdatasync reported as written. A store is read and verified over a
//! read-only connection before anything is written, so a store that is refused stays unchanged.
//!
//! Deleted and replaced rows are overwritten (`secure_delete`). A change that removes secrets ends
//! with a checkpoint that empties the log, in which older records may hold them.
//!
//! Before and after each commit, the names of the files must still lead to the inodes that were
//! opened. Data written to a file without a name would be gone with the process.

use crate::file::open;
use crate::keystore::KeystoreError;
use crate::keystore::record::{self, Corrupt, Kind, Record};
use crate::keystore::store::{Commit, Store, StoreFuture};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `KMIL` in SQLite's application id, so that another program's database is not taken for ours.
const APPLICATION_ID: i64 = 0x4b4d_494c;
/// Makes the tables of an empty file.
pub(super) const TABLES: &str = "BEGIN; \
    CREATE TABLE record (kind TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)) STRICT; \
    PRAGMA application_id = 0x4b4d494c; PRAGMA user_version = 2; COMMIT;";
/// SQLite's `user_version`: the format of the tables.
const FORMAT: i64 = record::TABLES as i64;
/// Checks every page, and that the index and the rows go together.
pub(super) const INTEGRITY: &str = "PRAGMA integrity_check(1)";
/// Checks every page, those of the index among them, but not that the index goes with the rows.
pub(super) const PAGES: &str = "PRAGMA quick_check(1)";
/// Rows that wait for their reader.
const ROWS_AHEAD: usize = 512;

/// The embedded store.
pub struct SqliteStore {
    path: PathBuf,
    /// `None` while the store is read again, and from then on until the next commit.
    connection: Option<SqliteConnection>,
    files: Files,
    /// Whether the log may still hold removed secrets, because a reader prevented a checkpoint.
    owes_checkpoint: bool,
}

/// Device and inode of the store and of its write-ahead log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Files {
    store: (u64, u64),
    log: Option<(u64, u64)>,
}

impl Files {
    /// The files at `path` now. They are looked up by name: to open the store beside SQLite and
    /// close it again would end SQLite's locks (fcntl(2)).
    fn at(path: &Path) -> Result<Self, KeystoreError> {
        let inode = |path: &Path| match std::fs::metadata(path) {
            Ok(found) => Ok(Some((found.dev(), found.ino()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeystoreError::Io {
                path: path.to_owned(),
                source,
            }),
        };
        let mut log = OsString::from(path);
        log.push("-wal");
        let replaced = || KeystoreError::Replaced {
            path: path.to_owned(),
        };
        Ok(Self {
            store: inode(path)?.ok_or_else(replaced)?,
            log: inode(Path::new(&log))?,
        })
    }
}

impl SqliteStore {
    /// Makes an empty file, readable by its owner only, in place of an existing one.
    pub(super) fn make_file(path: &Path) -> std::io::Result<()> {
        open::anew(path, 0o600).map(drop)
    }

    /// Makes a new file with empty tables, in place of what an unfinished start left behind.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn create(path: &Path) -> Result<Self, KeystoreError> {
        Self::make_file(path).map_err(|source| KeystoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut store = Self::connect(path).await?;
        store.run(sqlx::raw_sql(TABLES)).await?;
        Ok(store)
    }

    /// Opens for writing a store that was read and verified.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn connect(path: &Path) -> Result<Self, KeystoreError> {
        Self::connect_as(path, Files::at(path)?).await
    }

    /// Opens for writing the store that had these files when it was read.
    async fn connect_as(path: &Path, before: Files) -> Result<Self, KeystoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .pragma("secure_delete", "ON")
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = options
            .connect()
            .await
            .map_err(|error| damaged(path, &error))?;
        // The name may have been given to another file since the read.
        let files = Files::at(path)?;
        if files.store != before.store {
            let path = path.to_owned();
            return Err(KeystoreError::Replaced { path });
        }
        Ok(Self {
            path: path.to_owned(),
            connection: Some(connection),
            files,
            owes_checkpoint: false,
        })
    }

    /// Overwrites what pages hold that were freed before `secure_delete` was on, as those of a
    /// store of format 1 may.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub(super) async fn wipe_freed(&mut self) -> Result<(), KeystoreError> {
        self.run(sqlx::raw_sql("VACUUM")).await
    }

    /// Converts a verified store of an older format in one transaction: the head moves from
    /// revision `before` to `head`, and the roster of a store of format 1 is dropped.
    ///
    /// # Errors
    /// [`KeystoreError`]; the store is then wholly of one format or of the other.
    pub async fn rewrite(&mut self, before: u64, head: Record) -> Result<(), KeystoreError> {
        let conversion = async {
            let mut transaction = self.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            if !move_head(&mut transaction, before, head).await? {
                return Ok(false);
            }
            let tables = format!("DROP TABLE IF EXISTS roster; PRAGMA user_version = {FORMAT}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(tables))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(true)
        };
        let done = conversion.await;
        self.outcome(done)?;
        self.empty_log().await;
        Ok(())
    }

    /// Copies everything into `copy`, an empty file. The error is SQLite's.
    pub(super) async fn copy_into(&mut self, copy: &Path) -> Result<(), String> {
        let Some(name) = copy.to_str() else {
            return Err("its path is not UTF-8".to_owned());
        };
        let copying = async {
            let copying = sqlx::query("VACUUM INTO $1").bind(name);
            copying.execute(self.connection()?).await
        };
        let done = copying.await;
        done.map(drop).map_err(|error| error.to_string())
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn outcome(&self, done: Result<bool, sqlx::Error>) -> Result<(), KeystoreError> {
        let path = self.path.clone();
        match done {
            Ok(true) => Ok(()),
            Ok(false) => Err(KeystoreError::Conflict { path }),
            Err(error) => Err(KeystoreError::Commit {
                path,
                reason: error.to_string(),
            }),
        }
    }

    /// Moves the log into the store and empties it.
    async fn empty_log(&mut self) {
        let emptying = async {
            let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            let row = checkpoint.fetch_one(self.connection()?).await?;
            Ok::<_, sqlx::Error>(row.get::<i64, _>(0) == 0)
        };
        let done = emptying.await;
        self.owes_checkpoint = !matches!(done, Ok(true));
        if self.owes_checkpoint {
            let error = done.err().map(tracing::field::display);
            tracing::warn!(
                error,
                "deleted secrets are still in the store's write-ahead log, because another process is reading it: the next change tries again"
            );
        }
    }

    async fn run(&mut self, sql: sqlx::RawSql) -> Result<(), KeystoreError> {
        let execution = async { sql.execute(self.connection()?).await.map(|_| ()) };
        let done = execution.await;
        done.map_err(|error| damaged(&self.path, &error))
    }

    async fn write(&mut self, commit: Commit) -> Result<bool, sqlx::Error> {
        let mut transaction = self.connection()?.begin_with("BEGIN IMMEDIATE").await?;
        if !move_head(&mut transaction, commit.expected, commit.head).await? {
            return Ok(false);
        }
        for record in commit.puts {
            sqlx::query(
                "INSERT INTO record (kind, id, revision, body) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (kind, id) DO UPDATE SET revision = $3, body = $4",
            )
            .bind(record.kind.name())
            .bind(record.id)
            .bind(number(record.revision))
            .bind(record.body)
            .execute(&mut *transaction)
            .await?;
        }
        for (kind, id) in commit.removals {
            sqlx::query("DELETE FROM record WHERE kind = $1 AND id = $2")
                .bind(kind.name())
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

impl Store for SqliteStore {
    /// Refuses when the names lead to other files than those that were opened.
    fn check_in_place(&mut self) -> Result<(), KeystoreError> {
        let found = Files::at(&self.path)?;
        // SQLite makes the log when it first needs it.
        self.files.log = self.files.log.or(found.log);
        if found == self.files {
            return Ok(());
        }
        let path = self.path.clone();
        Err(KeystoreError::Replaced { path })
    }

    fn let_go(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            // While the name leads to another file, only the open files have the last changes.
            self.check_in_place()?;
            if let Some(connection) = self.connection.take()
                && let Err(error) = connection.close().await
            {
                tracing::debug!(%error, "the store was not closed cleanly");
            }
            // SQLite removes the log when the last connection closes.
            self.files.log = None;
            Ok(())
        })
    }

    fn commit(&mut self, commit: Commit) -> StoreFuture<'_, ()> {
        Box::pin(async {
            self.check_in_place()?;
            if self.connection.is_none() {
                *self = Self::connect_as(&self.path, self.files).await?;
            }
            // The log may hold older records of removed secrets, also of a change whose checkpoint
            // failed.
            let empties_log = commit.takes_secrets || self.owes_checkpoint;
            // The head moves in the same transaction, and only from the expected revision.
            let done = self.write(commit).await;
            self.outcome(done)?;
            self.check_in_place()?;
            if empties_log {
                self.empty_log().await;
            }
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async {
            let Some(connection) = self.connection else {
                return Ok(());
            };
            let closed = connection.close().await;
            closed.map_err(|error| damaged(&self.path, &error))
        })
    }
}

/// A connection that changes nothing.
pub(super) async fn open_to_read(path: &Path) -> Result<SqliteConnection, KeystoreError> {
    // SQLite would block on a FIFO.
    let found = std::fs::metadata(path).map_err(|_| KeystoreError::Absent {
        path: path.to_owned(),
    })?;
    open::regular(&found).map_err(|source| KeystoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .row_buffer_size(ROWS_AHEAD);
    let opened = options.connect().await;
    opened.map_err(|error| damaged(path, &error))
}

/// SQLite's integers are signed.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Replaces the head, which must be at revision `expected` (0: there is no head yet). Returns false
/// when it is not.
async fn move_head(
    transaction: &mut SqliteConnection,
    expected: u64,
    head: Record,
) -> Result<bool, sqlx::Error> {
    let statement = if expected == 0 {
        sqlx::query(
            "INSERT INTO record (kind, id, revision, body) VALUES ('head', '', $2, $3) ON CONFLICT DO NOTHING",
        )
    } else {
        sqlx::query(
            "UPDATE record SET revision = $2, body = $3 WHERE kind = 'head' AND revision = $1",
        )
    };
    let moved = statement
        .bind(number(expected))
        .bind(number(head.revision))
        .bind(head.body);
    Ok(moved.execute(transaction).await?.rows_affected() == 1)
}

/// The head's row, if there is one.
pub(super) async fn head(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Option<Record>, KeystoreError> {
    let statement = "SELECT revision, body FROM record WHERE kind = 'head' AND id = ''";
    let found = sqlx::query(statement).fetch_optional(connection).await;
    let head = found.and_then(|row| {
        let head = |row: SqliteRow| {
            Ok(Record {
                kind: Kind::Head,
                id: String::new(),
                revision: revision(row.try_get(0)?),
                body: row.try_get(1)?,
            })
        };
        row.map(head).transpose()
    });
    head.map_err(|error| damaged(path, &error))
}

pub(super) fn no_head(path: &Path) -> KeystoreError {
    KeystoreError::Corrupt {
        path: path.to_owned(),
        source: Corrupt::NoHead,
    }
}

pub(super) fn revision(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) async fn format_of(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<u8, KeystoreError> {
    let identity = sqlx::query(
        "SELECT a.application_id, v.user_version FROM pragma_application_id a, pragma_user_version v",
    );
    let row = identity
        .fetch_one(connection)
        .await
        .map_err(|error| damaged(path, &error))?;
    let path = || path.to_owned();
    match (row.get::<i64, _>(0), row.get::<i64, _>(1)) {
        (APPLICATION_ID, format @ 1..=FORMAT) => Ok(u8::try_from(format).unwrap_or(u8::MAX)),
        (APPLICATION_ID, format) => Err(KeystoreError::Newer {
            path: path(),
            format,
        }),
        _ => Err(KeystoreError::Foreign { path: path() }),
    }
}

/// Reads every page, including those of the index, by [`INTEGRITY`] or [`PAGES`].
pub(super) async fn check_pages(
    path: &Path,
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), KeystoreError> {
    let check = sqlx::query_scalar::<_, String>(statement);
    let found = check.fetch_one(&mut *connection).await;
    let bytes = sqlx::query_scalar::<_, i64>("SELECT page_size FROM pragma_page_size");
    let page_bytes = bytes.fetch_one(connection).await;
    let whole = |page_bytes: i64| {
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        u64::try_from(page_bytes).is_ok_and(|page_bytes| length.is_multiple_of(page_bytes))
    };
    let reason = match (found, page_bytes) {
        (Ok(found), Ok(page_bytes)) if found == "ok" && whole(page_bytes) => return Ok(()),
        (Ok(found), Ok(_)) if found == "ok" => "the file ends in the middle of a page".to_owned(),
        (Ok(found), Ok(_)) => found.replace('\n', " "),
        (Err(error), _) | (_, Err(error)) => error.to_string(),
    };
    Err(KeystoreError::Damaged {
        path: path.to_owned(),
        reason,
    })
}

pub(super) fn damaged(path: &Path, error: &sqlx::Error) -> KeystoreError {
    KeystoreError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
