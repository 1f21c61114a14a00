//! The rows of a shared store in their order, for readers that keep few of them.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::session::{Access, Failure, Session};
use crate::keystore::postgres::{PostgresStore, check_primary, column, head, revision};
use crate::keystore::record::Record;
use std::pin::Pin;
use tokio_postgres::RowStream;

/// One statement sees one state of the database. The head is the row without a name, and the first
/// one. Names are in the order of their bytes, whatever the order of the database is.
const ORDERED: &str = "SELECT k, revision, sealed, follows FROM (\
        SELECT NULL::text AS k, revision, sealed, pg_is_in_recovery() AS follows \
        FROM keymill.head WHERE one = 1 \
        UNION ALL SELECT k, revision, sealed, false FROM keymill.record WHERE sealed IS NOT NULL\
    ) AS rows ORDER BY k COLLATE \"C\" NULLS FIRST";

/// One state of a shared store, row by row.
pub struct OrderedRows {
    store: PostgresStore,
    rows: Pin<Box<RowStream>>,
    /// Its connection is open for as long.
    _session: Session,
}

/// A row.
pub enum OrderedRow {
    /// The head.
    Head(Record),
    /// Another record.
    Record {
        /// The name of its kind.
        kind: String,
        /// Its id.
        id: String,
        /// Its revision.
        revision: u64,
        /// Its sealed content.
        body: Vec<u8>,
    },
}

impl OrderedRows {
    /// Begins to read, over a connection of its own.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(access: &Access) -> Result<Self, KeystoreError> {
        let mut store = PostgresStore::new(access.clone());
        store.check_server().await?;
        let begun = async {
            let session = Session::open(access).await?;
            let rows = session.stream(ORDERED).await?;
            Ok((session, rows))
        };
        let begun = begun.await;
        let (session, rows) = store.outcome(begun)?;
        Ok(Self {
            store,
            rows: Box::pin(rows),
            _session: session,
        })
    }

    /// The next row.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn next(&mut self) -> Result<Option<OrderedRow>, KeystoreError> {
        let next = Session::next(self.rows.as_mut()).await;
        let row = next.and_then(|row| match row {
            None => Ok(None),
            Some(row) => parse(&row).map(Some),
        });
        self.store.outcome(row)
    }
}

fn parse(row: &tokio_postgres::Row) -> Result<OrderedRow, Failure> {
    let at = revision(row, 1)?;
    let Some(name) = column::<Option<&str>>(row, 0)? else {
        check_primary(row, 3)?;
        return Ok(OrderedRow::Head(head(at, column(row, 2)?)));
    };
    let (kind, id) = name.split_once(' ').unwrap_or((name, ""));
    Ok(OrderedRow::Record {
        kind: kind.to_owned(),
        id: id.to_owned(),
        revision: at,
        body: column(row, 2)?,
    })
}
