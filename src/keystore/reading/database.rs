//! Reads a shared store by one statement, which sees one state of it.

use crate::keystore::KeystoreError;
use crate::keystore::postgres::{Access, OrderedRow, OrderedRows};
use crate::keystore::reading::{Gone, Out, row};
use crate::keystore::record::TABLES;

pub(super) async fn read(access: &Access, out: &mut Out) -> Result<(), KeystoreError> {
    let mut rows = OrderedRows::begin(access).await?;
    while let Some(found) = rows.next().await? {
        let told = match found {
            OrderedRow::Head(head) => out.head(TABLES, head),
            OrderedRow::Record {
                kind,
                id,
                revision,
                body,
            } => {
                // It is the first row.
                out.needs_head(&access.url.to_string())?;
                out.row(row(&kind, id, revision, body)).await
            }
        };
        if let Err(Gone) = told {
            return Ok(());
        }
    }
    out.needs_head(&access.url.to_string())
}
