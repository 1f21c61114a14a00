//! Reads an SQLite file in one transaction.

use crate::keystore::KeystoreError;
use crate::keystore::format1::Roster;
use crate::keystore::reading::{self, Begun, Gone, Out, Pages};
use crate::keystore::sqlite::{
    INTEGRITY, check_pages, damaged, format_of, head, no_head, open_to_read, revision,
};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use std::path::Path;

/// The primary key has this order.
const OTHERS: &str = "SELECT kind, id, revision, body FROM record \
    WHERE NOT (kind = 'head' AND id = '') ORDER BY kind, id";

pub(super) async fn read(path: &Path, pages: Pages, out: &mut Out) -> Result<(), KeystoreError> {
    let mut connection = open_to_read(path).await?;
    let read = rows(path, &mut connection, pages, out).await;
    // Closed here and not by a drop: while it is open, the log cannot be emptied.
    let closed = connection.close().await;
    read?;
    closed.map_err(|error| damaged(path, &error))
}

async fn rows(
    path: &Path,
    connection: &mut SqliteConnection,
    pages: Pages,
    out: &mut Out,
) -> Result<(), KeystoreError> {
    let failed = |error: sqlx::Error| damaged(path, &error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    let format = format_of(path, &mut transaction).await?;
    if pages == Pages::Checked {
        check_pages(path, &mut transaction, INTEGRITY).await?;
    }
    let head = head(path, &mut transaction).await?;
    let begun = Begun {
        format,
        head: head.ok_or_else(|| no_head(path))?,
        roster: Roster::new(),
    };
    if let Err(Gone) = out.begin(begun) {
        return Ok(());
    }
    let mut rows = sqlx::query(OTHERS).fetch(&mut *transaction);
    while let Some(found) = rows.try_next().await.map_err(failed)? {
        let found = row_of(&found).map_err(failed)?;
        if let Err(Gone) = out.row(found).await {
            return Ok(());
        }
    }
    Ok(())
}

/// A row that begins with kind, id, revision and body.
pub(super) fn row_of(row: &SqliteRow) -> Result<reading::Row, sqlx::Error> {
    let revision = revision(row.try_get(2)?);
    let (id, body) = (row.try_get(1)?, row.try_get(3)?);
    Ok(reading::row(row.try_get(0)?, id, revision, body))
}
