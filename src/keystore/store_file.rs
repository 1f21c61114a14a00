//! An SQLite file with the records of a store, written once from its first to its last: a backup,
//! or a store that is put back. It has no write-ahead log, so it is one file that can be copied.
//!
//! It is written under a name that no reader takes for a store, and renamed by its maker when it is
//! whole and durable.

use crate::crypto::entropy::Entropy;
use crate::file::open;
use crate::keystore::carried::Carried;
use crate::keystore::record::Record;
use crate::keystore::sqlite::{SqliteStore, TABLES, damaged};
use crate::keystore::{KeystoreError, root_key};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::path::{Path, PathBuf};

const PUT: &str = "INSERT INTO record (kind, id, revision, body) VALUES ($1, $2, $3, $4)";

/// A file that is being written. Nothing in it is durable before [`Self::finish`].
pub struct StoreFile {
    path: PathBuf,
    connection: SqliteConnection,
}

impl StoreFile {
    /// Makes the file at `path`, readable by its owner alone, in place of one that was left there.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(path: &Path) -> Result<Self, KeystoreError> {
        let io = |source| KeystoreError::Io {
            path: path.to_owned(),
            source,
        };
        SqliteStore::make_file(path).map_err(io)?;
        let mut journal = path.as_os_str().to_owned();
        journal.push("-journal");
        root_key::remove_if_there(Path::new(&journal)).map_err(io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off);
        let failed = |error: sqlx::Error| damaged(path, &error);
        let mut connection = options.connect().await.map_err(failed)?;
        let tables = sqlx::raw_sql(TABLES);
        tables.execute(&mut connection).await.map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Writes records.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn put(&mut self, records: &[Record]) -> Result<(), KeystoreError> {
        let put = async {
            let mut transaction = self.connection.begin().await?;
            for record in records {
                sqlx::query(PUT)
                    .bind(record.kind.name())
                    .bind(&record.id)
                    .bind(i64::try_from(record.revision).unwrap_or(i64::MAX))
                    .bind(&record.body)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        let done: Result<(), sqlx::Error> = put.await;
        done.map_err(|error| damaged(&self.path, &error))
    }

    /// Writes the head, and makes the file durable.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn finish(mut self, head: Record) -> Result<(), KeystoreError> {
        self.put(&[head]).await?;
        let closed = self.connection.close().await;
        closed.map_err(|error| damaged(&self.path, &error))?;
        let synced = open::own_to_write(&self.path).and_then(|file| file.sync_all());
        synced.map_err(|source| KeystoreError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// The head of a file that was written.
pub struct WrittenHead {
    /// Its row.
    pub(super) row: Record,
    /// Its format.
    pub(super) format: u8,
}

/// Writes what is carried to a new file at `path`. `progress` is given the number of records so
/// far.
///
/// # Errors
/// [`KeystoreError`], also when anything is wrong with what is read; the file is of no use then.
pub async fn write(
    path: &Path,
    from: &mut Carried,
    entropy: &Entropy,
    mut progress: impl FnMut(u64),
) -> Result<WrittenHead, KeystoreError> {
    let mut file = StoreFile::begin(path).await?;
    let mut written = 0;
    while let Some(records) = from.next(entropy).await? {
        file.put(&records).await?;
        written += records.len() as u64;
        progress(written);
    }
    let row = from.head(entropy)?;
    file.finish(row.clone()).await?;
    let format = from.opened().format;
    Ok(WrittenHead { row, format })
}
