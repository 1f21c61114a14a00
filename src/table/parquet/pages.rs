//! The pages of a column chunk, by their headers: how long each is, and what it grows to.

use super::thrift::Structure;
use crate::table::BATCH_ROWS;
use crate::table::object::Opened;
use parquet::basic::{Encoding, Type};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use std::ops::Range;

/// Bytes that one page of a column that is read may have, uncompressed: memory holds a few pages
/// for each thread. Writers cut pages at 1 MiB, or write one for a whole row group.
pub const PAGE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a page's header, which has the least and the greatest value in it.
const HEADER_BYTES: [u64; 3] = [1 << 10, 1 << 16, 1 << 24];

/// Bytes of values read at a time at most, where values are long.
const VALUES_BYTES_MAX: u64 = 16 << 20;
/// Rows read at a time where values are written as what differs from the one before: a page of some
/// bytes may grow to any length.
const DELTA_ROWS: usize = 32;
/// Bytes that a page of such values may have, uncompressed: none of its values is longer.
const DELTA_PAGE_BYTES_MAX: u64 = 4 << 20;

/// The fields of `PageHeader` (parquet.thrift) that every page has, and of the headers for each
/// type of page.
mod field {
    pub(super) const TYPE: i64 = 1;
    pub(super) const UNCOMPRESSED_PAGE_SIZE: i64 = 2;
    pub(super) const COMPRESSED_PAGE_SIZE: i64 = 3;
    pub(super) const DATA_PAGE_HEADER: i64 = 5;
    pub(super) const DICTIONARY_PAGE_HEADER: i64 = 7;
    pub(super) const DATA_PAGE_HEADER_V2: i64 = 8;
    /// Of each of the three: how many values the page has.
    pub(super) const NUM_VALUES: i64 = 1;
}

/// The values of `PageType`.
mod page_type {
    pub(super) const DATA: i64 = 0;
    pub(super) const DICTIONARY: i64 = 2;
    pub(super) const DATA_V2: i64 = 3;
}

/// The bytes of a column chunk in its file.
///
/// # Errors
/// Why they cannot be where the footer says: `data` are the bytes of the file that may hold data.
pub fn range(chunk: &ColumnChunkMetaData, data: &Range<u64>) -> Result<Range<u64>, String> {
    if chunk.file_path().is_some() {
        return Err("its data are in another file".to_owned());
    }
    let first = chunk
        .dictionary_page_offset()
        .unwrap_or_else(|| chunk.data_page_offset());
    let start = u64::try_from(first).unwrap_or_default();
    let length = u64::try_from(chunk.compressed_size()).unwrap_or(u64::MAX);
    let end = start.saturating_add(length);
    if start < data.start || end > data.end || chunk.data_page_offset() < first {
        return Err(format!(
            "the footer says that it is in bytes {start} to {end}, and data are in {} to {}",
            data.start, data.end
        ));
    }
    Ok(start..end)
}

/// A page, as its header describes it.
pub struct Page {
    /// Its bytes in the file, the header's among them.
    pub bytes: u64,
    /// Its bytes once they are decompressed, without the header.
    pub uncompressed: u64,
    /// What is in it.
    pub content: Content,
}

/// What is in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// So many values of rows, nulls among them.
    Data(u64),
    /// So many values, which data pages refer to.
    Dictionary(u64),
    /// Something else, which readers pass over.
    Other,
}

impl Page {
    /// How many values of rows it has.
    #[must_use]
    pub fn values(&self) -> u64 {
        match self.content {
            Content::Data(values) => values,
            Content::Dictionary(_) | Content::Other => 0,
        }
    }
}

/// The page that begins at this byte of a chunk that ends at `end`.
///
/// # Errors
/// Why there is none.
pub fn page(opened: &Opened, at: u64, end: u64) -> Result<Page, String> {
    let left = end - at;
    for bytes in HEADER_BYTES {
        let read = bytes.min(left);
        let head = usize::try_from(read).map_err(|error| error.to_string())?;
        let head = opened
            .get_bytes(at, head)
            .map_err(|error| error.to_string())?;
        if let Some(page) = parse(&head)
            && page.bytes <= left
        {
            return Ok(page);
        }
        if read == left {
            break;
        }
    }
    Err("its pages do not end where the footer says".to_owned())
}

fn parse(head: &[u8]) -> Option<Page> {
    let (mut compressed, mut uncompressed, mut kind) = (None, None, None);
    let (mut of_data, mut of_data_v2, mut of_dictionary) = (None, None, None);
    let mut header = Structure::new(head);
    while let Some(field) = header.next()? {
        match field.number {
            field::TYPE => kind = header.number(field),
            field::UNCOMPRESSED_PAGE_SIZE => uncompressed = header.number(field),
            field::COMPRESSED_PAGE_SIZE => compressed = header.number(field),
            field::DATA_PAGE_HEADER => of_data = header.structure(field),
            field::DICTIONARY_PAGE_HEADER => of_dictionary = header.structure(field),
            field::DATA_PAGE_HEADER_V2 => of_data_v2 = header.structure(field),
            _ => header.skip(field)?,
        }
    }
    let content = match kind? {
        page_type::DATA => Content::Data(values(of_data?)?),
        page_type::DATA_V2 => Content::Data(values(of_data_v2?)?),
        page_type::DICTIONARY => Content::Dictionary(values(of_dictionary?)?),
        _ => Content::Other,
    };
    let compressed = u64::try_from(compressed?).ok()?;
    Some(Page {
        bytes: compressed.checked_add(header.length() as u64)?,
        uncompressed: u64::try_from(uncompressed?).ok()?,
        content,
    })
}

/// How many values a page has, by the header of its type.
fn values(header: &[u8]) -> Option<u64> {
    let mut header = Structure::new(header);
    while let Some(field) = header.next()? {
        match field.number {
            field::NUM_VALUES => return u64::try_from(header.number(field)?).ok(),
            _ => header.skip(field)?,
        }
    }
    None
}

/// What a chunk's pages say of reading it.
pub struct Readable {
    /// How many rows are read at a time: no more than fit into memory, whatever their values are.
    pub rows: usize,
    /// The values of the page that has the most.
    pub page_values_max: u64,
}

/// Looks through the pages of a chunk that is to be read.
///
/// # Errors
/// Why it is not read: it would take too much memory, or its pages are not what the footer says of
/// them; `data` are the bytes of the file that may hold data.
pub fn readable(
    opened: &Opened,
    chunk: &ColumnChunkMetaData,
    data: &Range<u64>,
) -> Result<Readable, String> {
    let is_delta = chunk
        .encodings()
        .any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY);
    let (bytes_max, rows_max) = if is_delta {
        (DELTA_PAGE_BYTES_MAX, DELTA_ROWS)
    } else {
        (PAGE_BYTES_MAX, BATCH_ROWS)
    };
    let range = range(chunk, data)?;
    let (mut at, mut values, mut page_values_max) = (range.start, 0_u64, 0);
    let mut rows = rows_max;
    while at < range.end {
        let page = page(opened, at, range.end)?;
        if page.uncompressed > bytes_max {
            return Err(format!(
                "a page of it has {} bytes, and at most {bytes_max} are read; write it with smaller pages",
                page.uncompressed
            ));
        }
        match page.content {
            Content::Dictionary(entries) => check_dictionary(chunk, entries, page.uncompressed)?,
            Content::Data(of_page) => {
                values = values.saturating_add(of_page);
                page_values_max = page_values_max.max(of_page);
                let value_bytes = page.uncompressed / of_page.max(1);
                let fitting = VALUES_BYTES_MAX / value_bytes.max(1);
                rows = rows.min(usize::try_from(fitting).unwrap_or(rows_max));
            }
            Content::Other => {}
        }
        at += page.bytes;
    }
    check_values(chunk, values)?;
    Ok(Readable {
        rows: rows.max(1),
        page_values_max,
    })
}

/// Refuses a chunk whose pages have other values than the footer says.
///
/// # Errors
/// How many they have.
pub fn check_values(chunk: &ColumnChunkMetaData, values: u64) -> Result<(), String> {
    let expected = chunk.num_values();
    if u64::try_from(expected) == Ok(values) {
        return Ok(());
    }
    Err(format!(
        "the footer says that it has {expected} values, and its pages have {values}"
    ))
}

/// Refuses a dictionary that cannot have as many values as it says: readers make room for them.
fn check_dictionary(chunk: &ColumnChunkMetaData, entries: u64, bytes: u64) -> Result<(), String> {
    let descriptor = chunk.column_descr();
    // Bytes of a value at least, as PLAIN encodes it (Encodings.md); text has its length in front.
    let least = match descriptor.physical_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(descriptor.type_length()).unwrap_or_default(),
    };
    if entries > 1 && entries.saturating_mul(least.max(1)) > bytes {
        return Err(format!(
            "its dictionary has {bytes} bytes, which are too few for {entries} values"
        ));
    }
    Ok(())
}

/// Whether a chunk that should have no rows has values.
#[must_use]
pub fn has_values(opened: &Opened, chunk: &ColumnChunkMetaData, data: &Range<u64>) -> bool {
    // Where an empty chunk is means nothing.
    let Ok(range) = range(chunk, data) else {
        return false;
    };
    let mut at = range.start;
    while at < range.end {
        let Ok(page) = page(opened, at, range.end) else {
            return false;
        };
        if page.values() > 0 {
            return true;
        }
        at += page.bytes;
    }
    false
}
