//! Reads an SQLite file in one transaction.

use crate::keystore::KeystoreError;
use crate::keystore::reading::{Gone, Out, Pages, row};
use crate::keystore::record::{Corrupt, Kind, Record};
use crate::keystore::sqlite::{check_pages, damaged, format_of, open_to_read};
use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use std::path::Path;

const HEAD: &str = "SELECT revision, body FROM record WHERE kind = 'head' AND id = ''";
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
        check_pages(path, &mut transaction).await?;
    }
    let head = sqlx::query(HEAD).fetch_optional(&mut *transaction).await;
    let head = head
        .map_err(failed)?
        .ok_or_else(|| KeystoreError::Corrupt {
            path: path.to_owned(),
            source: Corrupt::NoHead,
        })?;
    let head = Record {
        kind: Kind::Head,
        id: String::new(),
        revision: number(&head, 0),
        body: head.get(1),
    };
    if let Err(Gone) = out.head(format, head) {
        return Ok(());
    }
    let mut rows = sqlx::query(OTHERS).fetch(&mut *transaction);
    while let Some(found) = rows.try_next().await.map_err(failed)? {
        let found = row(found.get(0), found.get(1), number(&found, 2), found.get(3));
        if let Err(Gone) = out.row(found).await {
            return Ok(());
        }
    }
    Ok(())
}

fn number(row: &SqliteRow, at: usize) -> u64 {
    u64::try_from(row.get::<i64, _>(at)).unwrap_or(0)
}
