//! Reads an SQLite file as a start does: the rows in the order of the file, over one connection,
//! and beside it a check of all pages over another. Both see one state of the store.
//!
//! SQLite's `integrity_check` would also look up each row in the index, which takes longer than all
//! the rest. Here the index is read once from its beginning to its end instead. Its entries must be
//! in order, and as many as the rows, with the same sum of hashes under a key that is drawn for
//! this reading: so an index that lacks a row, leads to another one, or has one twice is noticed as
//! it would be there.

use crate::keystore::KeystoreError;
use crate::keystore::format1::Roster;
use crate::keystore::reading::file::row_of;
use crate::keystore::reading::{Begun, Gone, Out};
use crate::keystore::record::{Corrupt, FORMAT_OF_OLD, Record};
use crate::keystore::sqlite::{
    PAGES, check_pages, damaged, format_of, head, no_head, open_to_read,
};
use futures_util::{TryStreamExt, future};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

const ROWS: &str = "SELECT kind, id, revision, body, rowid FROM record NOT INDEXED";
/// Its entries have all three, so no row is read.
const INDEX: &str =
    "SELECT kind, id, rowid FROM record INDEXED BY sqlite_autoindex_record_1 ORDER BY kind, id";
const ROSTER: &str = "SELECT kind, id, share FROM roster";
/// How often two connections are begun anew when a change came between them.
const BEGINNINGS_MAX: u32 = 100;

pub(super) async fn read(path: &Path, out: &mut Out) -> Result<(), KeystoreError> {
    let mut one = open_to_read(path).await?;
    let mut other = open_to_read(path).await?;
    let read = both(path, &mut one, &mut other, out).await;
    // Closed here and not by a drop: while they are open, the log cannot be emptied.
    let closed = [one.close().await, other.close().await];
    read?;
    let closed = closed.into_iter().collect::<Result<(), _>>();
    closed.map_err(|error| damaged(path, &error))
}

async fn both(
    path: &Path,
    one: &mut SqliteConnection,
    other: &mut SqliteConnection,
    out: &mut Out,
) -> Result<(), KeystoreError> {
    let format = format_of(path, one).await?;
    let head = begin(path, one, other).await?;
    let key = RandomState::new();
    let rows = rows(path, one, (format, head), &key, out);
    let (rows, index) = future::join(rows, checked(path, other, &key)).await;
    // What is wrong with the pages says more than what was read from them.
    let index = index?;
    match rows? {
        Some(rows) if rows != index => Err(KeystoreError::Damaged {
            path: path.to_owned(),
            reason: "its index is not that of its rows".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Begins a transaction on both, and returns the head that both see: each change moves it.
async fn begin(
    path: &Path,
    one: &mut SqliteConnection,
    other: &mut SqliteConnection,
) -> Result<Option<Record>, KeystoreError> {
    for _ in 0..BEGINNINGS_MAX {
        let mut heads = Vec::new();
        for connection in [&mut *one, &mut *other] {
            run(path, connection, "BEGIN").await?;
            heads.push(head(path, connection).await?);
        }
        if heads[0] == heads[1] {
            return Ok(heads.pop().flatten());
        }
        run(path, one, "ROLLBACK").await?;
        run(path, other, "ROLLBACK").await?;
    }
    Err(KeystoreError::Io {
        path: path.to_owned(),
        source: std::io::Error::other("it changes faster than it can be read: try again"),
    })
}

async fn run(
    path: &Path,
    connection: &mut SqliteConnection,
    statement: &'static str,
) -> Result<(), KeystoreError> {
    let done = sqlx::raw_sql(statement).execute(connection).await;
    done.map(drop).map_err(|error| damaged(path, &error))
}

/// Reads all rows, and the roster of a store of format 1. `None`: the reader has gone.
async fn rows(
    path: &Path,
    connection: &mut SqliteConnection,
    (format, head): (u8, Option<Record>),
    key: &RandomState,
    out: &mut Out,
) -> Result<Option<Sum>, KeystoreError> {
    let failed = |error: sqlx::Error| damaged(path, &error);
    let roster = match format {
        FORMAT_OF_OLD => roster(path, connection).await?,
        _ => Roster::new(),
    };
    let head = head.ok_or_else(|| no_head(path))?;
    let begun = Begun {
        format,
        head,
        roster,
    };
    if let Err(Gone) = out.begin(begun) {
        return Ok(None);
    }
    let mut sum = Sum::default();
    let mut rows = sqlx::query(ROWS).fetch(connection);
    while let Some(found) = rows.try_next().await.map_err(failed)? {
        let name = (
            text(&found, 0).map_err(failed)?,
            text(&found, 1).map_err(failed)?,
        );
        sum.add(key, name, found.try_get(4).map_err(failed)?);
        // It was told before.
        if name == ("head", "") {
            continue;
        }
        let found = row_of(&found).map_err(failed)?;
        if let Err(Gone) = out.row(found).await {
            return Ok(None);
        }
    }
    Ok(Some(sum))
}

async fn roster(path: &Path, connection: &mut SqliteConnection) -> Result<Roster, KeystoreError> {
    let failed = |error: sqlx::Error| damaged(path, &error);
    let mut roster = Roster::new();
    let mut rows = sqlx::query(ROSTER).fetch(connection);
    while let Some(found) = rows.try_next().await.map_err(failed)? {
        let kind = text(&found, 0).map_err(failed)?;
        let kind = kind.parse().map_err(|_| KeystoreError::Corrupt {
            path: path.to_owned(),
            source: Corrupt::Kind(kind.to_owned()),
        })?;
        let (id, term) = (found.try_get(1), found.try_get(2));
        roster.push((kind, id.map_err(failed)?, term.map_err(failed)?));
    }
    Ok(roster)
}

/// Checks the pages, and reads the index in its order.
async fn checked(
    path: &Path,
    connection: &mut SqliteConnection,
    key: &RandomState,
) -> Result<Sum, KeystoreError> {
    check_pages(path, connection, PAGES).await?;
    let failed = |error: sqlx::Error| damaged(path, &error);
    let mut sum = Sum::default();
    let mut last: Option<SqliteRow> = None;
    let mut entries = sqlx::query(INDEX).fetch(connection);
    while let Some(found) = entries.try_next().await.map_err(failed)? {
        let name = (
            text(&found, 0).map_err(failed)?,
            text(&found, 1).map_err(failed)?,
        );
        let before = match &last {
            None => None,
            Some(last) => Some((
                text(last, 0).map_err(failed)?,
                text(last, 1).map_err(failed)?,
            )),
        };
        if before.is_some_and(|before| before >= name) {
            return Err(KeystoreError::Damaged {
                path: path.to_owned(),
                reason: "its index is not in order".to_owned(),
            });
        }
        sum.add(key, name, found.try_get(2).map_err(failed)?);
        last = Some(found);
    }
    Ok(sum)
}

fn text(row: &SqliteRow, at: usize) -> Result<&str, sqlx::Error> {
    row.try_get(at)
}

/// Names and places of rows, in whatever order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    entries: u64,
    hashes: u64,
}

impl Sum {
    fn add(&mut self, key: &RandomState, name: (&str, &str), place: i64) {
        self.entries += 1;
        self.hashes = self.hashes.wrapping_add(key.hash_one((name, place)));
    }
}
