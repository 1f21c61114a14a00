//! The schema elements of a footer (`SchemaElement`, parquet.thrift) as their bytes: the Parquet
//! crate adds to some of them when it reads them, and a copied column keeps its own.

use super::thrift::Structure;
use bytes::Bytes;

/// The field `schema` of `FileMetaData`.
const SCHEMA: i64 = 2;
/// The field `num_rows` of `FileMetaData`.
const NUM_ROWS: i64 = 3;
/// The field `row_groups` of `FileMetaData`.
const ROW_GROUPS: i64 = 4;
/// The field `num_children` of `SchemaElement`.
const NUM_CHILDREN: i64 = 5;
/// The kind of a structure, in a list's head.
const STRUCT: u8 = 12;

/// The elements of one column, each of which is followed by those inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements {
    count: usize,
    bytes: Bytes,
}

/// The schema of a footer.
struct Found {
    /// Where the list begins in the footer, and where it ends.
    start: usize,
    end: usize,
    /// The root, without what is inside it.
    root: Elements,
    /// By column.
    columns: Vec<Elements>,
}

/// The elements of a footer's columns; `None` where the bytes are not a footer.
#[must_use]
pub fn columns(footer: &Bytes) -> Option<Vec<Elements>> {
    find(footer).map(|found| found.columns)
}

/// A footer with other elements for some of its columns: `None` leaves a column its own. `None`
/// where the bytes are not a footer of so many columns.
#[must_use]
pub fn replaced(footer: &Bytes, with: &[Option<&Elements>]) -> Option<Vec<u8>> {
    let found = find(footer)?;
    if found.columns.len() != with.len() {
        return None;
    }
    let columns = found.columns.iter().zip(with);
    let mut elements = vec![&found.root];
    elements.extend(columns.map(|(own, with)| with.unwrap_or(own)));
    let mut out = footer.get(..found.start)?.to_vec();
    let mut count: usize = elements.iter().map(|elements| elements.count).sum();
    // A list's head, and its count as a varint.
    out.push(0xf0 | STRUCT);
    while count >= 0x80 {
        out.push(u8::try_from(count & 0x7f).ok()? | 0x80);
        count >>= 7;
    }
    out.push(u8::try_from(count).ok()?);
    for elements in elements {
        out.extend_from_slice(&elements.bytes);
    }
    out.extend_from_slice(footer.get(found.end..)?);
    Some(out)
}

fn find(footer: &Bytes) -> Option<Found> {
    let mut fields = Structure::new(footer);
    while let Some(field) = fields.next()? {
        if field.number != SCHEMA {
            fields.skip(field)?;
            continue;
        }
        let start = fields.length();
        let elements = fields.structures(field)?;
        let (root, mut rest) = elements.split_first()?;
        let mut columns = Vec::new();
        while !rest.is_empty() {
            let count = subtree(rest)?;
            let (column, others) = rest.split_at_checked(count)?;
            columns.push(joined(footer, column)?);
            rest = others;
        }
        let end = fields.length();
        check_rest(&mut fields)?;
        return Some(Found {
            start,
            end,
            root: joined(footer, &[root])?,
            columns,
        });
    }
    None
}

/// Reads the fields behind the schema. A reader that knows the fields of its elements does not look
/// at the kinds that they claim: where it and this one end differently, rows and row groups are not
/// there.
fn check_rest(fields: &mut Structure<'_>) -> Option<()> {
    let mut missing = vec![NUM_ROWS, ROW_GROUPS];
    while let Some(field) = fields.next()? {
        missing.retain(|number| *number != field.number);
        fields.skip(field)?;
    }
    missing.is_empty().then_some(())
}

/// Neighbouring elements of a footer.
fn joined(footer: &Bytes, elements: &[&[u8]]) -> Option<Elements> {
    let bytes = elements.iter().map(|element| footer.slice_ref(element));
    let length: usize = elements.iter().map(|element| element.len()).sum();
    let first = bytes.into_iter().next()?;
    let start = first.as_ptr().addr() - footer.as_ptr().addr();
    Some(Elements {
        count: elements.len(),
        bytes: footer.slice(start..start + length),
    })
}

/// How many of the elements the first is of, and those inside it.
fn subtree(elements: &[&[u8]]) -> Option<usize> {
    let (mut count, mut open) = (0_usize, 1_i64);
    while open > 0 {
        let inside = children(elements.get(count)?)?;
        open = open.checked_add(inside)?.checked_sub(1)?;
        count += 1;
    }
    Some(count)
}

fn children(element: &[u8]) -> Option<i64> {
    let mut fields = Structure::new(element);
    let mut children = 0;
    while let Some(field) = fields.next()? {
        if field.number == NUM_CHILDREN {
            children = fields.number(field)?.max(0);
        } else {
            fields.skip(field)?;
        }
    }
    Some(children)
}
