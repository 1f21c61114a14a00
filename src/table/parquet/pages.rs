//! The pages of a column chunk, by their headers: how long each is, and what it grows to.

use super::thrift::Structure;
use crate::table::object::Opened;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use std::ops::Range;

/// Bytes that one page of a column that is read may have, uncompressed: memory holds a few pages
/// for each thread. Writers cut pages at 1 MiB, or write one for a whole row group.
pub const PAGE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of a page's header, which has the least and the greatest value in it.
const HEADER_BYTES: [u64; 3] = [1 << 10, 1 << 16, 1 << 24];

/// The fields of `PageHeader` (parquet.thrift) that every page has.
mod field {
    pub(super) const UNCOMPRESSED_PAGE_SIZE: i64 = 2;
    pub(super) const COMPRESSED_PAGE_SIZE: i64 = 3;
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
    let (mut compressed, mut uncompressed) = (None, None);
    let mut header = Structure::new(head);
    while let Some(field) = header.next()? {
        match field.number {
            field::UNCOMPRESSED_PAGE_SIZE => uncompressed = header.number(field),
            field::COMPRESSED_PAGE_SIZE => compressed = header.number(field),
            _ => header.skip(field)?,
        }
    }
    let compressed = u64::try_from(compressed?).ok()?;
    Some(Page {
        bytes: compressed.checked_add(header.length() as u64)?,
        uncompressed: u64::try_from(uncompressed?).ok()?,
    })
}

/// Refuses a chunk that would take too much memory to read, or whose pages are not there.
///
/// # Errors
/// Why it is not read.
pub fn check_readable(opened: &Opened, chunk: &Range<u64>) -> Result<(), String> {
    let mut at = chunk.start;
    while at < chunk.end {
        let page = page(opened, at, chunk.end)?;
        if page.uncompressed > PAGE_BYTES_MAX {
            return Err(format!(
                "a page of it has {} bytes, and at most {PAGE_BYTES_MAX} are read; write it with smaller pages",
                page.uncompressed
            ));
        }
        at += page.bytes;
    }
    Ok(())
}
