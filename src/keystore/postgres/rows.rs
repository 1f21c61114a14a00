//! The rows of a shared store one by one, for readers that keep few of them.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::session::{Access, Failure, Session};
use crate::keystore::postgres::{PostgresStore, check_primary, column, head, revision};
use crate::keystore::record::Record;
use std::pin::Pin;
use tokio_postgres::RowStream;

/// One statement sees one state of the database. The head is the row without a name.
macro_rules! rows {
    () => {
        "SELECT k, revision, sealed, follows FROM (\
            SELECT NULL::text AS k, revision, sealed, pg_is_in_recovery() AS follows \
            FROM keymill.head WHERE one = 1 \
            UNION ALL SELECT k, revision, sealed, false FROM keymill.record WHERE sealed IS NOT NULL\
        ) AS rows"
    };
}

/// The order of a store's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The head, and then the records in the order of the bytes of kind and id.
    ByName,
    /// None, for which the database need not sort.
    Any,
}

impl Order {
    fn statement(self) -> &'static str {
        match self {
            // Whatever the order of the database is.
            Self::ByName => concat!(rows!(), " ORDER BY k COLLATE \"C\" NULLS FIRST"),
            Self::Any => rows!(),
        }
    }
}

/// One state of a shared store, row by row.
pub struct StoreRows {
    store: PostgresStore,
    rows: Pin<Box<RowStream>>,
    /// Its connection is open for as long.
    _session: Session,
}

/// A row.
pub enum StoreRow {
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

impl StoreRows {
    /// Begins to read, over a connection of its own.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub async fn begin(access: &Access, order: Order) -> Result<Self, KeystoreError> {
        let mut store = PostgresStore::new(access.clone());
        store.check_server().await?;
        let begun = async {
            let session = match store.session.take() {
                Some(session) => session,
                None => Session::open(access).await?,
            };
            let rows = session.stream(order.statement()).await?;
            Ok((session, rows))
        };
        let begun = begun.await;
        let (session, rows) = store.read(begun)?;
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
    pub async fn next(&mut self) -> Result<Option<StoreRow>, KeystoreError> {
        let next = Session::next(self.rows.as_mut()).await;
        let row = next.and_then(|row| match row {
            None => Ok(None),
            Some(row) => parse(&row).map(Some),
        });
        self.store.read(row)
    }
}

fn parse(row: &tokio_postgres::Row) -> Result<StoreRow, Failure> {
    let at = revision(row, 1)?;
    let Some(name) = column::<Option<&str>>(row, 0)? else {
        check_primary(row, 3)?;
        return Ok(StoreRow::Head(head(at, column(row, 2)?)));
    };
    let (kind, id) = name.split_once(' ').unwrap_or((name, ""));
    Ok(StoreRow::Record {
        kind: kind.to_owned(),
        id: id.to_owned(),
        revision: at,
        body: column(row, 2)?,
    })
}
