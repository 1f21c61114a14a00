//! Reads a shared store by one statement, which sees one state of it.

use crate::keystore::KeystoreError;
use crate::keystore::format1::Roster;
use crate::keystore::postgres::{Access, Order, StoreRow, StoreRows};
use crate::keystore::reading::{Begun, Gone, Out, row};
use crate::keystore::record::TABLES;

pub(super) async fn read(
    access: &Access,
    order: Order,
    out: &mut Out,
) -> Result<(), KeystoreError> {
    let mut rows = StoreRows::begin(access, order).await?;
    // What comes before the head, which is the first row of an ordered answer and may come later in
    // another.
    let mut early = Vec::new();
    while let Some(found) = rows.next().await? {
        let told = match found {
            StoreRow::Head(head) => {
                let begun = Begun {
                    format: TABLES,
                    head,
                    roster: Roster::new(),
                };
                match out.begin(begun) {
                    Ok(()) => out.rows(std::mem::take(&mut early)).await,
                    Err(gone) => Err(gone),
                }
            }
            StoreRow::Record {
                kind,
                id,
                revision,
                body,
            } => match row(&kind, id, revision, body) {
                found if out.has_begun() => out.row(found).await,
                found => {
                    early.push(found);
                    Ok(())
                }
            },
        };
        if let Err(Gone) = told {
            return Ok(());
        }
    }
    out.needs_head(&access.url.to_string())
}
